//! A connection to Redis whose replies are bounded before the client parses them.
//!
//! The client's parser reserves what a reply announces and keeps all of it in memory. So each reply is
//! scanned here first (RESP: <https://redis.io/docs/latest/develop/reference/protocol-spec/>, read
//! 2026-11): it is passed on once it is complete. One that is larger than the bound, or announces more,
//! is read past without being kept, and replaced by an error; the replies behind it are not touched. A
//! reply that is no RESP, or nests deeper than any answer to a read, ends the connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The error that replaces a reply which is too large. Its first word is the error's code.
const TOO_LARGE: &[u8] = b"-TOOLARGE reply\r\n";

/// The code of that error.
pub(super) const TOO_LARGE_CODE: &str = "TOOLARGE";

/// The longest line that announces a length, in bytes: a type, a 64-bit number, a sign and the line's end.
const HEAD_BYTES: usize = 32;

/// The most lists within lists: a hash is one list.
const MAX_DEPTH: usize = 4;

/// Bytes read from the connection at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// The size of the client's value, as a multiple of the bytes of a list's shortest item.
const BYTES_PER_ITEM: usize = 8;

/// A connection with bounded replies.
pub(super) struct BoundedReplyStream<S> {
    stream: S,
    reply: RespReplyScanner,
    /// The bytes that may be passed on.
    out: VecDeque<u8>,
}

impl<S> BoundedReplyStream<S> {
    /// Bounds each reply to `max_bytes`, its lengths and line ends included.
    pub(super) fn new(stream: S, max_bytes: usize) -> Self {
        Self { stream, reply: RespReplyScanner::new(max_bytes), out: VecDeque::new() }
    }
}

/// The progress of the scan of one reply.
struct RespReplyScanner {
    max_bytes: usize,
    /// The bytes of the reply so far, until it is too large.
    kept: Vec<u8>,
    is_too_large: bool,
    /// Items still to come, of each list that is open.
    open: Vec<u64>,
    part: RespReplyPart,
}

/// The part of a reply that comes next.
enum RespReplyPart {
    /// A line, with its bytes so far, up to the longest announcement.
    Line(Vec<u8>),
    /// This many bytes, the line's end included.
    Bytes(u64),
}

impl RespReplyScanner {
    fn new(max_bytes: usize) -> Self {
        let (kept, open) = (Vec::new(), Vec::new());
        Self { max_bytes, kept, is_too_large: false, open, part: RespReplyPart::Line(Vec::new()) }
    }

    /// Scans bytes, and passes complete replies on.
    fn take(&mut self, mut bytes: &[u8], out: &mut VecDeque<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            let (used, is_item) = match &mut self.part {
                RespReplyPart::Bytes(left) => {
                    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= used as u64;
                    (used, *left == 0)
                }
                RespReplyPart::Line(line) => {
                    let end = memchr::memchr(b'\n', bytes);
                    let used = end.map_or(bytes.len(), |at| at + 1);
                    let room = HEAD_BYTES.saturating_sub(line.len());
                    line.extend(bytes.iter().take(used.min(room)));
                    (used, end.is_some())
                }
            };
            let (now, rest) = bytes.split_at_checked(used).unwrap_or((bytes, &[]));
            self.keep(now);
            bytes = rest;
            if is_item {
                self.item()?;
                if self.open.is_empty()
                    && matches!(&self.part, RespReplyPart::Line(line) if line.is_empty())
                {
                    self.pass_on(out);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.kept.len() + bytes.len() > self.max_bytes {
            self.give_up();
        }
        if !self.is_too_large {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn give_up(&mut self) {
        self.is_too_large = true;
        self.kept = Vec::new();
    }

    /// Ends a line or a run of bytes.
    fn item(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, RespReplyPart::Line(Vec::new()));
        if let RespReplyPart::Line(line) = part {
            let number = || {
                let digits = line.get(1..).unwrap_or_default();
                let text = std::str::from_utf8(digits).ok().map(str::trim);
                text.and_then(|text| text.parse::<i64>().ok()).ok_or_else(not_resp)
            };
            match line.first() {
                Some(b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(') => {}
                Some(b'$' | b'!' | b'=') => {
                    // A negative length announces a null value.
                    if let Ok(bytes) = u64::try_from(number()?) {
                        if bytes > self.max_bytes as u64 {
                            self.give_up();
                        }
                        self.part = RespReplyPart::Bytes(bytes.saturating_add(2));
                        return Ok(());
                    }
                }
                Some(b'*' | b'~' | b'>') => return self.list(number()?),
                Some(b'%') => return self.list(number()?.saturating_mul(2)),
                // Attributes are never requested.
                _ => return Err(not_resp()),
            }
        }
        self.close_lists();
        Ok(())
    }

    fn list(&mut self, items: i64) -> io::Result<()> {
        match u64::try_from(items) {
            Ok(items) if items > 0 => {
                if self.open.len() >= MAX_DEPTH {
                    return Err(io::Error::other("a reply of Redis is nested too deep"));
                }
                if items > (self.max_bytes / BYTES_PER_ITEM) as u64 {
                    self.give_up();
                }
                self.open.push(items);
            }
            _ => self.close_lists(),
        }
        Ok(())
    }

    /// Counts a complete item, and the lists that are complete with it.
    fn close_lists(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
    }

    fn pass_on(&mut self, out: &mut VecDeque<u8>) {
        if std::mem::take(&mut self.is_too_large) {
            out.extend(TOO_LARGE);
        } else {
            out.extend(&self.kept);
        }
        self.kept.clear();
    }
}

fn not_resp() -> io::Error {
    io::Error::other("what answers does not speak Redis's protocol")
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedReplyStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.out.is_empty() {
            let mut chunk = [0; CHUNK_BYTES];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.reply.take(read.filled(), &mut this.out)?;
        }
        let (front, _) = this.out.as_slices();
        let length = front.len().min(buffer.remaining());
        buffer.put_slice(front.get(..length).unwrap_or_default());
        this.out.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedReplyStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the bytes that are passed on, however the input is cut.
    fn passed(bytes: &[u8], cut: usize) -> io::Result<Vec<u8>> {
        let (mut reply, mut out) = (RespReplyScanner::new(100), VecDeque::new());
        for chunk in bytes.chunks(cut) {
            reply.take(chunk, &mut out)?;
            assert!(reply.kept.len() <= 100);
        }
        Ok(out.into())
    }

    #[test]
    fn complete_replies_pass_and_large_ones_are_replaced() {
        let hash = b"*4\r\n$1\r\na\r\n$3\r\n\r\n*\r\n+b\r\n$-1\r\n";
        let long = format!("*2\r\n$1\r\na\r\n$200\r\n{}\r\n", "*9\r\n".repeat(50));
        let many = format!("*40\r\n{}", ":1\r\n".repeat(40));
        for cut in [1, 2, 3, 7, 1000] {
            let all = [hash, long.as_bytes(), hash, many.as_bytes(), b"*0\r\n%1\r\n+a\r\n_\r\n"];
            let expected = [hash, TOO_LARGE, hash, TOO_LARGE, b"*0\r\n%1\r\n+a\r\n_\r\n"].concat();
            assert_eq!(passed(&all.concat(), cut).unwrap(), expected, "{cut}");
            assert_eq!(passed(b"*1000000000\r\n$1\r\na\r\n", cut).unwrap(), b"", "it is not whole");
            assert_eq!(passed(b"$9223372036854775807\r\nx", cut).unwrap(), b"");
            assert_eq!(passed(&[b'+'; 500], cut).unwrap(), b"");
            for wrong in ["HTTP/1.1 200 OK\r\n", "*x\r\n", "$1e3\r\n", "|1\r\n", "\r\n"] {
                assert!(passed(wrong.as_bytes(), cut).is_err(), "{wrong}");
            }
            assert!(passed(&b"*1\r\n".repeat(1000), cut).is_err(), "nested");
        }
    }

    proptest! {
        #[test]
        fn any_input_is_bounded_and_cuts_make_no_difference(
            bytes in "([$*+:%_!-]?[0-9]{0,3}\r?\n?){0,30}", cut in 1..40_usize,
        ) {
            let (one, other) = (passed(bytes.as_bytes(), cut), passed(bytes.as_bytes(), 1));
            prop_assert_eq!(one.ok(), other.ok());
        }
    }
}

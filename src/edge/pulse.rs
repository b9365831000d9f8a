//! What a connection is doing, noted in passing and judged now and then: no timer is set or moved
//! for a request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::settings::EdgeLimits;

/// No time is noted.
const NEVER: u64 = u64::MAX;

/// The looks per limit: a connection is cut at most this share later than its limit says.
const LOOKS: u32 = 4;

/// What one connection is doing. Times are milliseconds since it began.
pub(super) struct Pulse {
    began: Instant,
    /// Whether heads are timed from their first byte: HTTP/1 only. HTTP/2 sends frames that belong
    /// to no request, so there only the time between requests counts.
    times_heads: bool,
    /// Requests that are being answered.
    answering: AtomicU32,
    /// Requests so far.
    requests: AtomicU64,
    /// Since when a head has been arriving.
    head_since: AtomicU64,
    /// Since when nothing has been asked.
    idle_since: AtomicU64,
    /// Since when the client has read nothing.
    stalled_since: AtomicU64,
}

impl Pulse {
    pub(super) fn new(times_heads: bool) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            times_heads,
            answering: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            idle_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(NEVER),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    fn note_read(&self) {
        let is_between = self.answering.load(Ordering::Relaxed) == 0;
        if self.times_heads && is_between && self.head_since.load(Ordering::Relaxed) == NEVER {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn note_written(&self) {
        self.stalled_since.store(NEVER, Ordering::Relaxed);
    }

    fn note_stalled(&self) {
        if self.stalled_since.load(Ordering::Relaxed) == NEVER {
            self.stalled_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A request's head is here; it is being answered until the guard is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.answering.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Why the connection must be cut now, if it must.
    fn overdue(&self, limits: &EdgeLimits) -> Option<&'static str> {
        let now = self.now();
        let is_over = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Ordering::Relaxed);
            since != NEVER && Duration::from_millis(now.saturating_sub(since)) >= limit
        };
        if is_over(&self.stalled_since, limits.write_time) {
            return Some("write_time");
        }
        if self.answering.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if is_over(&self.head_since, limits.header_time) {
            return Some("header_time");
        }
        // Who connects and says nothing is not as welcome as who has been here.
        let is_new = self.requests.load(Ordering::Relaxed) == 0;
        let (idle, reason) = if is_new {
            (limits.header_time, "header_time")
        } else {
            (limits.idle_time, "idle_time")
        };
        is_over(&self.idle_since, idle).then_some(reason)
    }

    /// Returns when the connection must be cut, and why.
    pub(super) async fn watch(&self, limits: &EdgeLimits) -> &'static str {
        let shortest = limits.header_time.min(limits.idle_time).min(limits.write_time);
        let look = (shortest / LOOKS).max(Duration::from_millis(1));
        loop {
            tokio::time::sleep(look).await;
            if let Some(reason) = self.overdue(limits) {
                return reason;
            }
        }
    }
}

/// A request that is being answered.
pub(super) struct Answering(Arc<Pulse>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that notes what passes.
pub(super) struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(_) => self.pulse.note_written(),
            Poll::Pending => self.pulse.note_stalled(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pulse.note_read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

//! The activity of a connection, recorded as it happens and checked periodically: no timer is set or moved for a
//! request.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::settings::EdgeLimits;

/// The value of a time that is not set.
const NEVER: u64 = u64::MAX;

/// Checks per limit: a connection is cut at most this share of its limit late.
const CHECKS_PER_LIMIT: u32 = 4;

/// The activity of one connection. Times are milliseconds since it began.
pub(super) struct ConnectionActivity {
    began: Instant,
    /// True if heads are timed from their first byte: HTTP/1 only. HTTP/2 sends frames that belong to no request,
    /// so there only the time between requests counts.
    times_heads: AtomicBool,
    /// Requests without a finished response.
    answering: AtomicU32,
    /// The number of requests so far.
    requests: AtomicU64,
    /// The number of HTTP/2 responses so far.
    answers: AtomicU64,
    /// The time at which a head began to arrive.
    head_since: AtomicU64,
    /// The time since which no request has been active.
    idle_since: AtomicU64,
    /// The time since which the socket has accepted no bytes.
    stalled_since: AtomicU64,
    /// For each HTTP/2 response that the client has not read whole, the time since which it has read nothing of it.
    /// HTTP/2 only: a client that opens no window leaves the socket free.
    unread_since: Mutex<HashMap<u64, u64>>,
}

impl ConnectionActivity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            times_heads: AtomicBool::new(false),
            answering: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            idle_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(NEVER),
            unread_since: Mutex::default(),
        })
    }

    /// Starts the wait for the first HTTP request.
    pub(super) fn begin(&self, times_heads: bool) {
        self.times_heads.store(times_heads, Ordering::Relaxed);
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    fn note_read(&self) {
        let is_between = self.answering.load(Ordering::Relaxed) == 0;
        let times_heads = self.times_heads.load(Ordering::Relaxed);
        if times_heads && is_between && self.head_since.load(Ordering::Relaxed) == NEVER {
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

    /// Records the head of a request; the request is active until the guard is dropped.
    pub(super) fn start_request(self: &Arc<Self>) -> ActiveRequest {
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.answering.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(self.clone())
    }

    /// Records a response that the client has to read, until the guard is dropped.
    pub(super) fn track_unread_response(self: &Arc<Self>) -> UnreadResponse {
        let id = self.answers.fetch_add(1, Ordering::Relaxed);
        let unread = UnreadResponse { activity: self.clone(), id };
        unread.record_progress();
        unread
    }

    fn lock_unread(&self) -> parking_lot::MutexGuard<'_, HashMap<u64, u64>> {
        self.unread_since.lock()
    }

    /// Returns the reason if the connection must be cut now.
    fn overdue(&self, limits: &EdgeLimits) -> Option<&'static str> {
        let now = self.now();
        let has_passed = |since: u64, limit: Duration| {
            since != NEVER && Duration::from_millis(now.saturating_sub(since)) >= limit
        };
        let is_over = |since: &AtomicU64, limit| has_passed(since.load(Ordering::Relaxed), limit);
        let oldest = self.lock_unread().values().min().copied();
        if is_over(&self.stalled_since, limits.write_time)
            || oldest.is_some_and(|since| has_passed(since, limits.write_time))
        {
            return Some("write_time");
        }
        if self.answering.load(Ordering::Relaxed) > 0 || oldest.is_some() {
            return None;
        }
        if is_over(&self.head_since, limits.header_time) {
            return Some("header_time");
        }
        // New clients that send nothing get less time than those that sent requests before.
        let is_new = self.requests.load(Ordering::Relaxed) == 0;
        let (idle, reason) = if is_new {
            (limits.header_time, "header_time")
        } else {
            (limits.idle_time, "idle_time")
        };
        is_over(&self.idle_since, idle).then_some(reason)
    }

    /// Waits until the connection must be cut, and returns the reason.
    pub(super) async fn watch(&self, limits: &EdgeLimits) -> &'static str {
        let shortest = limits.header_time.min(limits.idle_time).min(limits.write_time);
        let look = (shortest / CHECKS_PER_LIMIT).max(Duration::from_millis(1));
        loop {
            tokio::time::sleep(look).await;
            if let Some(reason) = self.overdue(limits) {
                return reason;
            }
        }
    }
}

/// A request without a finished response.
pub(super) struct ActiveRequest(Arc<ConnectionActivity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response that the client has not read whole.
pub(super) struct UnreadResponse {
    activity: Arc<ConnectionActivity>,
    id: u64,
}

impl UnreadResponse {
    /// Records that the client read some of it.
    pub(super) fn record_progress(&self) {
        let now = self.activity.now();
        self.activity.lock_unread().insert(self.id, now);
    }
}

impl Drop for UnreadResponse {
    fn drop(&mut self) {
        self.activity.lock_unread().remove(&self.id);
        self.activity.idle_since.store(self.activity.now(), Ordering::Relaxed);
    }
}

/// The scope of what a stream records. With TLS there are two streams: TLS reads ahead of HTTP, and bytes written
/// to it wait in it, not in the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActivityScope {
    /// Arriving requests: above TLS.
    Reads,
    /// The client's reading: beneath TLS.
    Writes,
    /// Both: without TLS.
    All,
}

/// A stream that records reads and writes.
pub(super) struct MonitoredStream<S> {
    stream: S,
    activity: Arc<ConnectionActivity>,
    scope: ActivityScope,
}

impl<S> MonitoredStream<S> {
    pub(super) fn new(stream: S, pulse: Arc<ConnectionActivity>, notes: ActivityScope) -> Self {
        Self { stream, activity: pulse, scope: notes }
    }

    fn record_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            _ if self.scope == ActivityScope::Reads => {}
            Poll::Ready(_) => self.activity.note_written(),
            Poll::Pending => self.activity.note_stalled(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MonitoredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.scope != ActivityScope::Writes && buffer.filled().len() > before {
            self.activity.note_read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MonitoredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.record_write(&written);
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
        self.record_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, BufWriter};

    use super::*;
    use crate::tests::settings;

    #[tokio::test(start_paused = true)]
    async fn bytes_that_wait_between_server_and_socket_count_as_a_stall() {
        let (limits, pulse) = (settings().limits, ConnectionActivity::new());
        let (socket, _client) = tokio::io::duplex(1024);
        let beneath = MonitoredStream::new(socket, pulse.clone(), ActivityScope::Writes);
        // Like TLS, it buffers what is written and passes it on when flushed.
        let between = BufWriter::with_capacity(64 << 10, beneath);
        let mut stream = MonitoredStream::new(between, pulse.clone(), ActivityScope::Reads);
        pulse.begin(true);
        let _answering = pulse.start_request();
        stream.write_all(&[0; 32 << 10]).await.unwrap();
        assert!(tokio::time::timeout(limits.write_time, stream.flush()).await.is_err());
        assert_eq!(pulse.overdue(&limits), Some("write_time"));
    }
}

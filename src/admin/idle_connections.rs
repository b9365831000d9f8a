//! Connections that wait for a request, the longest waiting first. When the listener is full, the
//! longest waiting one is closed, so that silent connections cannot keep health checks out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// All waiting connections.
#[derive(Clone, Default)]
pub(super) struct IdleConnections(Arc<IdleConnectionsState>);

#[derive(Default)]
struct IdleConnectionsState {
    waiting: Mutex<IdleQueue>,
    /// Notified when a connection begins to wait.
    became_idle: Notify,
}

#[derive(Default)]
struct IdleQueue {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// One connection of the admin listener.
pub(super) struct AdminConnection {
    idle: IdleConnections,
    cut: CancellationToken,
    state: Mutex<ConnectionState>,
}

#[derive(Default)]
struct ConnectionState {
    /// Its key among the waiting connections, if it waits.
    idle_key: Option<u64>,
    /// The requests under way: HTTP/2 has several at once.
    requests: usize,
}

/// Marks a connection busy from a request until its response is sent.
pub(super) struct BusyConnectionGuard(Arc<AdminConnection>);

impl IdleConnections {
    /// Registers a connection that waits for its first request; it must end when `cut` is cancelled.
    pub(super) fn add_connection(&self, cut: CancellationToken) -> Arc<AdminConnection> {
        let seat = AdminConnection { idle: self.clone(), cut, state: Mutex::default() };
        seat.wait(&mut seat.idle.lock());
        Arc::new(seat)
    }

    /// Ends the connection that has waited longest, if any waits.
    pub(super) fn evict(&self) -> bool {
        let longest = self.lock().by_age.pop_first();
        let is_found = longest.is_some();
        if let Some((_, cut)) = longest {
            cut.cancel();
        }
        is_found
    }

    /// Returns when a connection begins to wait, or began since the last call.
    pub(super) async fn wait_for_idle(&self) {
        self.0.became_idle.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, IdleQueue> {
        self.0.waiting.lock()
    }
}

impl AdminConnection {
    /// Marks the connection busy: a request has arrived.
    pub(super) fn begin(self: &Arc<Self>) -> BusyConnectionGuard {
        let mut waiting = self.idle.lock();
        self.state.lock().requests += 1;
        self.leave(&mut waiting);
        BusyConnectionGuard(self.clone())
    }

    /// Marks the end of a request. The connection waits when it was the last.
    fn end(&self) {
        let mut waiting = self.idle.lock();
        let requests = {
            let mut state = self.state.lock();
            state.requests = state.requests.saturating_sub(1);
            state.requests
        };
        if requests == 0 {
            self.wait(&mut waiting);
        }
    }

    fn wait(&self, waiting: &mut IdleQueue) {
        let place = waiting.next;
        waiting.next += 1;
        waiting.by_age.insert(place, self.cut.clone());
        self.state.lock().idle_key = Some(place);
        self.idle.0.became_idle.notify_one();
    }

    fn leave(&self, waiting: &mut IdleQueue) {
        let place = self.state.lock().idle_key.take();
        place.and_then(|place| waiting.by_age.remove(&place));
    }
}

impl Drop for AdminConnection {
    fn drop(&mut self) {
        self.leave(&mut self.idle.lock());
    }
}

impl Drop for BusyConnectionGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A body that keeps its connection busy until it is sent: watchers never count as waiting.
pub(super) struct BusyResponseBody {
    pub(super) body: axum::body::Body,
    pub(super) _busy: BusyConnectionGuard,
}

impl Body for BusyResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

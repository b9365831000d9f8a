//! Reads that do not depend on their waiters: tasks on the gateway's runtime, which end with it.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of the reads of several caches.
#[derive(Clone)]
pub(in super::super) struct ReadTasks {
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ReadTasks {
    /// Creates an empty set of tasks on this runtime.
    pub(in super::super) fn new(runtime: Handle) -> Self {
        Self { runtime, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Returns the runtime of the reads.
    pub(in super::super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for this; returns `None` if the tasks are stopped before.
    pub(super) async fn run_until_stopped<F: Future>(&self, future: F) -> Option<F::Output> {
        self.stop.run_until_cancelled(future).await
    }

    /// Starts a read.
    pub(super) fn spawn(&self, read: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let read = async move { stop.run_until_cancelled(read).await.unwrap_or_default() };
        self.tasks.spawn_on(read, &self.runtime);
    }

    /// Cancels the reads in flight. Their waiters, and later lookups that have to read, get an error.
    pub(in super::super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

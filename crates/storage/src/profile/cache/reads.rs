//! Reads that do not depend on their waiters: tasks on the gateway's runtime, a bounded number at once,
//! which end with it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::ProfileError;

/// The pool of reads of one store.
#[derive(Clone)]
pub(in super::super) struct StoreReadPool {
    runtime: Handle,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl StoreReadPool {
    /// Creates a pool of at most `most` reads at once.
    pub(in super::super) fn new(runtime: Handle, most: usize) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { runtime, tasks, permits: Arc::new(Semaphore::new(most)), stop }
    }

    /// Creates the pool of another store, which stops with this one.
    pub(in super::super) fn create_sibling(&self, most: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(most)), ..self.clone() }
    }

    /// Returns the runtime of the reads.
    pub(in super::super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for a free slot.
    pub(in super::super) async fn acquire_slot(
        &self,
    ) -> Result<OwnedSemaphorePermit, ProfileError> {
        tokio::select! {
            place = self.permits.clone().acquire_owned() => place.map_err(|_closed| ProfileError::Ended),
            () = self.stop.cancelled() => Err(ProfileError::Ended),
        }
    }

    /// Returns a slot, if one is free.
    pub(in super::super) fn try_acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Starts a read, which keeps its slot until it ends.
    pub(in super::super) fn begin<F>(&self, place: OwnedSemaphorePermit, read: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let read = async move {
            stop.run_until_cancelled(read).await;
            drop(place);
        };
        self.tasks.spawn_on(read, &self.runtime);
    }

    /// Cancels the reads in flight.
    pub(in super::super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

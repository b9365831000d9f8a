//! Reads that nobody needs to wait for: tasks on a runtime of the gateway's, so many at once, which end
//! with it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::ProfileError;

/// Reads of one store.
#[derive(Clone)]
pub(in super::super) struct StoreReadPool {
    runtime: Handle,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
    stop: CancellationToken,
}

impl StoreReadPool {
    /// At most so many at once.
    pub(in super::super) fn new(runtime: Handle, most: usize) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { runtime, tasks, room: Arc::new(Semaphore::new(most)), stop }
    }

    /// Those of another store, which end with these.
    pub(in super::super) fn of_another(&self, most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most)), ..self.clone() }
    }

    /// Where they run.
    pub(in super::super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for a place.
    pub(in super::super) async fn acquire_slot(
        &self,
    ) -> Result<OwnedSemaphorePermit, ProfileError> {
        tokio::select! {
            place = self.room.clone().acquire_owned() => place.map_err(|_closed| ProfileError::Ended),
            () = self.stop.cancelled() => Err(ProfileError::Ended),
        }
    }

    /// A place, if there is one.
    pub(in super::super) fn try_acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }

    /// Makes a read, which has its place until it ends.
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

    /// Gives up those that are under way.
    pub(in super::super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

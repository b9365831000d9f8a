//! What all bodies together may take while they are decompressed and parsed. Limits of one body do
//! not bound many at once: a few kilobytes each can ask for megabytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::rejection::Rejection;

/// A body that is not compressed and not longer is parsed at once, where it arrived: as many at a
/// time as there are threads. It needs no share, so that nobody's bombs keep it waiting.
pub(super) const AT_ONCE_BYTES: usize = 64 * 1024;

/// The bytes that are left, of `limits.inflating_bytes`.
pub(super) struct Budget {
    left: Arc<Semaphore>,
    total: u32,
}

/// One body's part of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Share(OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { left: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Takes so many bytes, in the order of asking, and waits for them until the deadline.
    pub(super) async fn take(&self, bytes: usize, deadline: Instant) -> Result<Share, Rejection> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total);
        match timeout_at(deadline, self.left.clone().acquire_many_owned(bytes)).await {
            Ok(Ok(share)) => Ok(Share(share)),
            Ok(Err(_closed)) => Err(Rejection::Closing),
            Err(_late) => Err(Rejection::Overloaded),
        }
    }
}

impl Share {
    /// Gives back what is above so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        drop(self.0.split(self.0.num_permits().saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_given_back() {
        let budget = Budget::new(100);
        let soon = || Instant::now() + Duration::from_secs(1);
        let mut first = budget.take(500, soon()).await.unwrap();
        assert!(matches!(budget.take(1, soon()).await, Err(Rejection::Overloaded)));
        first.shrink(60);
        let second = budget.take(40, soon()).await.unwrap();
        assert!(matches!(budget.take(1, soon()).await, Err(Rejection::Overloaded)));
        drop((first, second));
        budget.take(100, soon()).await.unwrap();
    }
}

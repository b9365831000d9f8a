//! The supervisor of a destination: replaces its worker should that panic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::WorkerContext;
use crate::health::{Health, last_possibly_in_flight};
use crate::queue::{Queue, STEP_EVENTS};
use crate::settlements::Settlements;
use crate::status::DestinationStatus;
use crate::worker::DeliveryWorker;
use tagway_storage::journal::ReaderPosition;

/// The pause before a worker that panicked is replaced.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// The parts that a destination's successive workers share.
pub(super) struct WorkerSupervisor {
    pub(super) context: Arc<WorkerContext>,
    pub(super) projected: watch::Receiver<u64>,
    pub(super) wake: Arc<Notify>,
    pub(super) status: watch::Sender<DestinationStatus>,
}

impl WorkerSupervisor {
    /// Works until stopped. A worker that panics is replaced by a careful one: it begins at the journal's
    /// position, so an event in flight may arrive twice, and none is lost.
    pub(super) async fn run(
        self,
        mut position: ReaderPosition,
        stop: CancellationToken,
        grace: Duration,
    ) {
        loop {
            let worker = self.worker(position.clone());
            let worked = AssertUnwindSafe(worker.run(stop.clone(), grace)).catch_unwind().await;
            if worked.is_ok() {
                return;
            }
            let labels = &self.context.client.labels;
            tracing::error!(
                site = %labels.site, destination = %labels.destination,
                "a destination's worker panicked and is restarted"
            );
            self.context.reader_guard.enter_careful_mode();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PANIC_PAUSE) => {}
                    () = stop.cancelled() => {
                        self.status.send_replace(DestinationStatus::Stopped);
                        return;
                    }
                }
                match self.context.journal.position(self.context.reader).await {
                    Ok(now) => position = now,
                    Err(error) => {
                        tracing::warn!(%error, "a destination waits for the database");
                        continue;
                    }
                }
                break;
            }
        }
    }

    fn worker(&self, position: ReaderPosition) -> DeliveryWorker {
        let context = self.context.clone();
        let (settings, limits) = (&context.settings, &context.settings.limits);
        let in_batches = limits.concurrency.saturating_mul(limits.max_events);
        let most = settings.queue_events.saturating_add(STEP_EVENTS).saturating_add(in_batches);
        let head = *context.journal.head(context.site).borrow();
        let careful_through = last_possibly_in_flight(&position, head, most);
        DeliveryWorker {
            projected: self.projected.clone(),
            wake: self.wake.clone(),
            queue: Queue::new(context.clone(), position.cursor),
            health: Health::new(context.clone(), self.status.clone(), careful_through),
            settlements: Settlements::new(context.clone(), position),
            running: JoinSet::new(),
            database_retry_at: None,
            context,
        }
    }
}

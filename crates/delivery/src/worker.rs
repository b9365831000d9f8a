//! One destination's reader: the loop over its three parts.
//!
//! ```text
//!              refill, admit due events          next batch
//!   journal ──────────────────────────▶ Queue ───────────────▶ a running batch ──▶ vendor
//!      ▲                                  ▲                        │    ▲
//!      │ settle                           │ retry, park            │    │ may a call be made?
//!      │                                  │                        ▼    │
//!   Settlements ◀─────────────────────── the batch's ending ────▶ Health
//!                     ended, parked                     replies
//! ```
//!
//! [`Queue`] knows what is to be tried and in which order, [`Health`] the state of the destination, and
//! [`Settlements`] what has ended and is not yet written to the journal. `attempt.rs` tries a batch, and
//! `ending.rs` acts on its outcomes.
//!
//! At any time an accepted event is, for this destination, in exactly one place: behind the cursor
//! or in `ahead` (ended, or parked in the journal), in the schedule, in a running batch, in a batch that
//! waits for its next try, or still unread. Only the first of these is durable; all others come back after
//! a crash by reading the journal again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::AttemptedBatch;
use super::context::WorkerContext;
use super::ending::BatchEnding;
use super::health::Health;
use super::queue::{IntakeError, Queue};
use super::settlements::Settlements;

/// The pause after the journal or the profiles failed.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// The longest sleep: nothing depends on it, since other branches wake the loop.
const HORIZON: Duration = Duration::from_secs(3600);

/// One destination's reader of the journal.
pub(super) struct DeliveryWorker {
    pub(super) context: Arc<WorkerContext>,
    /// The last event that the profiles have processed.
    pub(super) projected: watch::Receiver<u64>,
    /// Notified when the admin API has made a parked event due now.
    pub(super) wake: Arc<Notify>,
    pub(super) queue: Queue,
    pub(super) health: Health,
    pub(super) settlements: Settlements,
    pub(super) running: JoinSet<AttemptedBatch>,
    pub(super) database_retry_at: Option<Instant>,
}

impl DeliveryWorker {
    /// Works until stopped; then lets running calls end within `grace`, and settles.
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        if let Err(error) = self.queue.restore_parked().await {
            tracing::warn!(%error, "the parked events cannot be read: later events of their visitors may \
                be sent before them");
        }
        while !stop.is_cancelled() {
            self.health.publish(self.queue.has_retries());
            let now = Instant::now();
            if self.database_retry_at.is_none_or(|until| now >= until) {
                self.database_retry_at = None;
                if let Err(error) = self.process_ready_work(now).await {
                    let destination = &self.context.client.labels.destination;
                    tracing::warn!(%error, %destination, "the destination waits for the database");
                    self.database_retry_at = Some(Instant::now() + TROUBLE_PAUSE);
                }
            }
            let alarm = self.next_wakeup();
            tokio::select! {
                Some(ended) = self.running.join_next() => self.handle_task_end(ended),
                changed = self.projected.changed(), if self.can_admit() => {
                    if changed.is_err() { break }
                }
                () = self.wake.notified() => self.queue.next_due = Some(Instant::now()),
                () = sleep_until(alarm) => {}
                () = stop.cancelled() => break,
            }
            while let Some(ended) = self.running.try_join_next() {
                self.handle_task_end(ended);
            }
        }
        self.shut_down(grace).await;
    }

    /// Does everything that can be done now.
    async fn process_ready_work(&mut self, now: Instant) -> Result<(), IntakeError> {
        self.settlements.settle_if_due(now).await?;
        if self.has_room_for_parked()
            && self.queue.admit_due_events(now, &mut self.settlements).await?
        {
            self.health.has_passed_parked = true;
        }
        while self.refill().await? {
            self.dispatch(Instant::now());
        }
        self.dispatch(Instant::now());
        self.settlements.settle_if_due(Instant::now()).await?;
        self.settlements.report_dead_letters(Instant::now());
        Ok(())
    }

    /// Reads the next events if there are any and there is room. Returns true if there may be more.
    async fn refill(&mut self) -> Result<bool, IntakeError> {
        let target = *self.projected.borrow_and_update();
        if self.is_idle() {
            self.health.end_careful_mode_if_passed(self.queue.read_to);
        }
        Ok(self.can_admit() && self.queue.refill(target, &mut self.settlements).await?)
    }

    /// Returns true if more events may be admitted. In careful mode those in the queue come first.
    fn can_admit(&self) -> bool {
        self.queue.has_room() && (!self.health.is_careful() || self.is_idle())
    }

    /// Returns true if parked events may be admitted again.
    fn has_room_for_parked(&self) -> bool {
        self.can_admit() && self.settlements.has_room_for_parked()
    }

    fn is_idle(&self) -> bool {
        self.queue.is_idle() && self.running.is_empty()
    }

    fn has_free_slot(&self) -> bool {
        self.running.len() < self.health.max_running()
    }

    /// Starts every batch that may start.
    fn dispatch(&mut self, now: Instant) {
        while self.has_free_slot() && self.health.may_call(now) {
            let Some(mut batch) = self.queue.next_batch(&mut self.health, now) else {
                return self.health.breaker.probe_lapsed(now);
            };
            batch.is_probe = !self.health.breaker.is_closed();
            let guard = &self.context.reader_guard;
            let is_guarded = guard.is_careful() || guard.has_suspects();
            self.running.spawn(AttemptedBatch::of(self.context.clone(), batch, is_guarded));
        }
    }

    /// Handles the end of a batch's task.
    fn handle_task_end(&mut self, ended: Result<AttemptedBatch, JoinError>) {
        let attempted = match ended {
            Ok(ended) => ended,
            // A defect outside the vendors' code: another worker starts anew in careful mode.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only a worker that is ending aborts its tasks; their events hold the cursor.
            Err(_) => return,
        };
        let is_probe = attempted.batch.is_probe;
        let Self { context, queue, health, settlements, .. } = self;
        let (now, milliseconds) = (Instant::now(), attempted.milliseconds);
        BatchEnding { context, queue, health, settlements, now, milliseconds }.finish(attempted);
        if is_probe {
            // A probe without a clear result must not be waited for.
            self.health.breaker.probe_lapsed(Instant::now());
        }
    }

    /// Returns the next time when something must be done even if nothing happens.
    fn next_wakeup(&self) -> Instant {
        if let Some(until) = self.database_retry_at {
            return until;
        }
        let now = Instant::now();
        let due = self.queue.next_due.filter(|_| self.has_room_for_parked());
        let batch = self.queue.next_batch_at().filter(|_| self.has_free_slot());
        let alarms = [
            self.settlements.next_wakeup(now),
            due,
            batch.and_then(|next| self.health.call_time(next)),
        ];
        alarms.into_iter().flatten().min().unwrap_or(now + HORIZON)
    }

    async fn shut_down(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(deadline, self.running.join_next()).await
        {
            self.handle_task_end(ended);
        }
        // Events still in flight are sent again after the restart.
        self.running.abort_all();
        self.settlements.close().await;
        self.health.publish_stop();
    }
}

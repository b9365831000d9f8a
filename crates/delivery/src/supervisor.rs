//! The supervisor of a destination: replaces its worker should that panic.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::CircuitBreaker;
use super::careful_mode::last_possibly_in_flight;
use super::consent_hold::ConsentHold;
use super::dead_report::DeadLetterReport;
use super::destination_client::DestinationClient;
use super::identity_hold::IdentityHold;
use super::intake::STEP_EVENTS;
use super::parked::ParkedAfterRetry;
use super::progress::ReaderProgress;
use super::retry_queue::BatchRetryQueue;
use super::schedule::DeliveryQueue;
use super::worker::{DeliveryWorker, WorkerState};
use super::{DeliverySite, DestinationSettings, DestinationStatus};
use tagway_storage::journal::{Journal, ReaderGuard, ReaderId, ReaderPosition};
use tagway_storage::profile::ProfileService;

/// The pause before a worker that panicked is replaced.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// The parts that a destination's successive workers share.
pub(super) struct WorkerSupervisor {
    pub(super) site: DeliverySite,
    pub(super) reader: ReaderId,
    pub(super) settings: Arc<DestinationSettings>,
    pub(super) client: Arc<DestinationClient>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    pub(super) wake: Arc<Notify>,
    pub(super) status: watch::Sender<DestinationStatus>,
    pub(super) reader_guard: Arc<ReaderGuard>,
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
            let labels = &self.client.labels;
            tracing::error!(
                site = %labels.site, destination = %labels.destination,
                "a destination's worker panicked and is restarted"
            );
            self.reader_guard.enter_careful_mode();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PANIC_PAUSE) => {}
                    () = stop.cancelled() => {
                        self.status.send_replace(DestinationStatus::Stopped);
                        return;
                    }
                }
                match self.journal.position(self.reader).await {
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
        let Self { settings, .. } = self;
        let habits = &settings.limits;
        let in_batches = habits.concurrency.saturating_mul(habits.max_events);
        let most = settings.queue_events.saturating_add(STEP_EVENTS).saturating_add(in_batches);
        let head = *self.journal.head(self.site.id).borrow();
        let doubtful_to = last_possibly_in_flight(&position, head, most);
        let read_to = position.cursor;
        DeliveryWorker {
            site: self.site.id,
            reader: self.reader,
            destination: settings.destination.clone(),
            client: self.client.clone(),
            journal: self.journal.clone(),
            profiles: self.profiles.clone(),
            projected: self.site.projected.clone(),
            wake: self.wake.clone(),
            status: self.status.clone(),
            reader_guard: self.reader_guard.clone(),
            state: WorkerState {
                progress: ReaderProgress::new(position),
                read_to,
                careful_through: doubtful_to,
                has_passed_parked: false,
                schedule: DeliveryQueue::default(),
                in_flight: JoinSet::new(),
                retry_queue: BatchRetryQueue::default(),
                breaker: CircuitBreaker::new(settings.breaker.clone()),
                no_calls_before: None,
                unauthorised: false,
                acceptances: 0,
                accepted_at: None,
                fresh_next: false,
                ended: Vec::new(),
                park: Vec::new(),
                settle_at: None,
                readmitted: HashMap::new(),
                parked: ParkedAfterRetry::default(),
                consent_hold: ConsentHold::new(settings.consent_wait),
                identity_hold: IdentityHold::default(),
                next_due: Some(Instant::now()),
                dead_report: DeadLetterReport::new(settings.dead_report),
                database_retry_at: None,
            },
            settings: settings.clone(),
        }
    }
}

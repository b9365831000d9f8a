//! A destination's post: where its workers stand one after another, should one panic.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aside::Aside;
use super::awaiting::Awaiting;
use super::backoff::Breaker;
use super::call::Line;
use super::careful::last_in_doubt;
use super::dead_report::DeadReport;
use super::holding::Held;
use super::intake::STEP_EVENTS;
use super::progress::Progress;
use super::schedule::Schedule;
use super::waiting::Waiting;
use super::worker::{State, Worker};
use super::{DestinationSettings, ReaderStatus, Site};
use crate::journal::{Care, Journal, Position, ReaderId};
use crate::profile::Profiles;

/// The pause before a worker that panicked is replaced.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// What a destination's workers have in common.
pub(super) struct Post {
    pub(super) site: Site,
    pub(super) reader: ReaderId,
    pub(super) settings: Arc<DestinationSettings>,
    pub(super) line: Arc<Line>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<Profiles>,
    pub(super) wake: Arc<Notify>,
    pub(super) status: watch::Sender<ReaderStatus>,
    pub(super) care: Arc<Care>,
}

impl Post {
    /// Works until told to stop. A worker that panics is replaced by one that is careful: it begins where
    /// the journal says, so an event that was under way may arrive twice, and none is lost.
    pub(super) async fn run(
        self,
        mut position: Position,
        stop: CancellationToken,
        grace: Duration,
    ) {
        loop {
            let worker = self.worker(position.clone());
            let worked = AssertUnwindSafe(worker.run(stop.clone(), grace)).catch_unwind().await;
            if worked.is_ok() {
                return;
            }
            let labels = &self.line.labels;
            tracing::error!(
                site = %labels.site, destination = %labels.destination,
                "a destination's reader panicked and begins anew"
            );
            self.care.begin_care();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PANIC_PAUSE) => {}
                    () = stop.cancelled() => {
                        self.status.send_replace(ReaderStatus::Stopped);
                        return;
                    }
                }
                match self.journal.position(self.reader).await {
                    Ok(now) => position = now,
                    Err(error) => {
                        tracing::warn!(%error, "a destination waits for the store");
                        continue;
                    }
                }
                break;
            }
        }
    }

    fn worker(&self, position: Position) -> Worker {
        let Self { settings, .. } = self;
        let habits = &settings.habits;
        let in_batches = habits.concurrency.saturating_mul(habits.max_events);
        let most = settings.queue_events.saturating_add(STEP_EVENTS).saturating_add(in_batches);
        let head = *self.journal.head(self.site.id).borrow();
        let doubtful_to = last_in_doubt(&position, head, most);
        let read_to = position.cursor;
        Worker {
            site: self.site.id,
            reader: self.reader,
            destination: settings.destination.clone(),
            line: self.line.clone(),
            journal: self.journal.clone(),
            profiles: self.profiles.clone(),
            projected: self.site.projected.clone(),
            wake: self.wake.clone(),
            status: self.status.clone(),
            care: self.care.clone(),
            state: State {
                progress: Progress::new(position),
                read_to,
                doubtful_to,
                has_passed_parked: false,
                schedule: Schedule::default(),
                under_way: JoinSet::new(),
                waiting: Waiting::default(),
                breaker: Breaker::new(settings.breaker.clone()),
                hold_until: None,
                unauthorised: false,
                acceptances: 0,
                accepted_at: None,
                fresh_next: false,
                ended: Vec::new(),
                park: Vec::new(),
                settle_at: None,
                taken_up: HashMap::new(),
                aside: Aside::default(),
                held: Held::new(settings.hold),
                awaiting: Awaiting::default(),
                next_due: Some(Instant::now()),
                dead_report: DeadReport::new(settings.dead_report),
                trouble_until: None,
            },
            settings: settings.clone(),
        }
    }
}

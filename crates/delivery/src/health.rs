//! The part of a worker that knows the destination's state: the breaker, the waits that the vendor asks for,
//! refused credentials, and the careful mode after an abort.
//!
//! In careful mode a few events at a time are processed, which the guard records, and an event that was being
//! processed when the process died is processed alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::activity::CredentialState;
use super::backoff::CircuitBreaker;
use super::context::WorkerContext;
use super::status::DestinationStatus;
use tagway_storage::journal::{JournalHead, ReaderPosition};

/// The time for which an acceptance by the destination counts as recent: longer than most of its waits.
const RECENT_SUCCESS_WINDOW: Duration = Duration::from_secs(60);

/// The state of one destination, as its replies show it.
pub(super) struct Health {
    context: Arc<WorkerContext>,
    status: watch::Sender<DestinationStatus>,
    pub(super) breaker: CircuitBreaker,
    /// No call before then: the vendor asked for a wait, or refused the credentials.
    no_calls_before: Option<Instant>,
    is_unauthorised: bool,
    /// The number of batches of which the destination accepted something, and the time of the last.
    pub(super) acceptances: u64,
    accepted_at: Option<Instant>,
    /// While the destination is in doubt: true if the next batch to try is one that has not failed yet.
    pub(super) is_fresh_next: bool,
    /// No event after this one can have been in process when the last process died.
    careful_through: u64,
    /// True if the same holds for all parked events.
    pub(super) has_passed_parked: bool,
}

impl Health {
    /// Creates the state of a destination whose worker begins with this last event to be careful about.
    pub(super) fn new(
        context: Arc<WorkerContext>,
        status: watch::Sender<DestinationStatus>,
        careful_through: u64,
    ) -> Self {
        Self {
            breaker: CircuitBreaker::new(context.settings.breaker.clone()),
            context,
            status,
            no_calls_before: None,
            is_unauthorised: false,
            acceptances: 0,
            accepted_at: None,
            is_fresh_next: false,
            careful_through,
            has_passed_parked: false,
        }
    }

    /// Returns true if a batch may go now. When the breaker's pause is over, one may: the probe.
    pub(super) fn may_call(&mut self, now: Instant) -> bool {
        if self.no_calls_before.is_some_and(|until| now < until) {
            return false;
        }
        self.no_calls_before = None;
        self.breaker.permits(now)
    }

    /// Returns the number of batches that may run at once. Doubtful credentials are tried one batch at a
    /// time, and so is everything in careful mode.
    pub(super) fn max_running(&self) -> usize {
        let is_alone = self.is_unauthorised || self.is_careful();
        if is_alone { 1 } else { self.context.settings.limits.concurrency }
    }

    /// Returns the time when a batch that is ready at `next` may go; `None` while the end of a running probe
    /// decides that.
    pub(super) fn call_time(&self, next: Instant) -> Option<Instant> {
        let opens_at = self.breaker.opens_at();
        let is_probing = !self.breaker.is_closed() && opens_at.is_none();
        let earliest = self.no_calls_before.into_iter().chain(opens_at).max();
        (!is_probing).then(|| earliest.map_or(next, |earliest| earliest.max(next)))
    }

    /// Returns true if the next batch is to be a fresh one, and resets that.
    pub(super) fn take_fresh_turn(&mut self) -> bool {
        let in_doubt = self.is_unauthorised || !self.breaker.is_closed();
        in_doubt && std::mem::take(&mut self.is_fresh_next)
    }

    /// Returns true if the destination accepted something recently.
    pub(super) fn has_recent_success(&self, now: Instant) -> bool {
        self.accepted_at.is_some_and(|at| now < at + RECENT_SUCCESS_WINDOW)
    }

    /// Records that the destination accepted something.
    pub(super) fn record_acceptance(&mut self, now: Instant) {
        self.acceptances += 1;
        self.accepted_at = Some(now);
    }

    /// Records a reply that shows that the destination works: even one that refuses an event.
    pub(super) fn record_reply(&mut self) {
        self.breaker.succeeded();
        if std::mem::take(&mut self.is_unauthorised) {
            self.context.client.activity.record_credentials(CredentialState::Accepted);
            let labels = &self.context.client.labels;
            let (site, destination) = (&labels.site, &labels.destination);
            tracing::info!(%site, %destination, "the vendor accepts the credentials again");
        }
    }

    /// Records refused credentials, and returns the time of the next try with them. Where they were accepted
    /// recently, the events themselves may be at fault, so another batch is tried at once.
    pub(super) fn record_unauthorised(&mut self, now: Instant) -> Instant {
        self.breaker.succeeded();
        let interval = self.context.settings.auth_retry_interval;
        let until = now + interval;
        let is_news = !std::mem::replace(&mut self.is_unauthorised, true);
        self.context.client.activity.record_credentials(CredentialState::Refused);
        let were_good = self.accepted_at.is_some_and(|at| at + interval > now);
        if is_news {
            let labels = &self.context.client.labels;
            tracing::error!(
                site = %labels.site, destination = %labels.destination,
                "the vendor refuses the credentials; events wait until the destination's credentials are \
                 corrected"
            );
        }
        self.no_calls_before = (!is_news || !were_good).then_some(until);
        self.is_fresh_next = true;
        until
    }

    /// Stops all calls for the time that the vendor asked for: it is for the account, not for one batch.
    pub(super) fn wait_for_vendor(&mut self, asked: Duration, now: Instant) {
        let wait = asked.min(self.context.settings.retry.max_retry_after);
        let until = now + wait;
        let client = &self.context.client;
        if let Ok(until) = client.clock.now().checked_add(wait) {
            client.activity.record_wait(until);
        }
        self.no_calls_before = self.no_calls_before.max(Some(until));
    }

    /// Returns true in careful mode.
    pub(super) fn is_careful(&self) -> bool {
        self.context.reader_guard.is_careful()
    }

    /// Ends the careful mode of an idle worker once all events are past that may have been processed at the
    /// abort.
    pub(super) fn end_careful_mode_if_passed(&self, read_to: u64) {
        if self.is_careful() && self.has_passed_parked && read_to >= self.careful_through {
            self.context.reader_guard.leave_careful_mode();
        }
    }

    /// Publishes the status of the running destination.
    pub(super) fn publish(&self, has_retries: bool) {
        let status = if self.is_unauthorised {
            DestinationStatus::Unauthorised
        } else if !self.breaker.is_closed() {
            DestinationStatus::Broken
        } else if has_retries {
            DestinationStatus::Retrying
        } else {
            DestinationStatus::Running
        };
        let is_up = matches!(status, DestinationStatus::Running | DestinationStatus::Retrying);
        if self.status.send_if_modified(|seen| std::mem::replace(seen, status) != status) {
            let client = &self.context.client;
            client.metrics.destination_up.get_or_create(&client.labels).set(is_up.into());
            let (site, destination) = (&client.labels.site, &client.labels.destination);
            tracing::info!(%site, %destination, status = status.name(), "destination");
        }
    }

    /// Publishes that the destination has stopped.
    pub(super) fn publish_stop(&self) {
        self.status.send_replace(DestinationStatus::Stopped);
    }
}

/// Returns the end of the careful mode: the last event that a worker at this position can have been processing.
pub(super) fn last_possibly_in_flight(
    position: &ReaderPosition,
    head: JournalHead,
    most: usize,
) -> u64 {
    let last = position.ahead.last().map_or(position.cursor, |(_, last)| *last);
    last.saturating_add(u64::try_from(most).unwrap_or(u64::MAX)).min(head.seq)
}

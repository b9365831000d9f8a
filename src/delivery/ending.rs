//! What the outcomes of a batch mean for its events.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::schedule::Item;
use super::worker::{Batch, Worker};
use crate::event::Enriched;
use crate::feed::Happening;
use crate::journal::{Ended, Ending, Parking};
use crate::metrics::OutcomeLabels;
use crate::vendors::{Outcome, Reason};

/// The most characters of a reason's detail that are kept with a dead letter.
const DETAIL_CHARS: usize = 500;

/// A batch's events by what happens to them next.
#[derive(Default)]
struct Sorted {
    refused: Vec<(Item, Reason)>,
    again: Vec<Item>,
    asked: Option<Duration>,
    unauthorised: Vec<Item>,
    any_accepted: bool,
}

impl Worker {
    /// A batch's task ended.
    pub(super) fn joined(&mut self, ended: Result<(Batch, Vec<Outcome>), JoinError>) {
        match ended {
            Ok((batch, outcomes)) => self.finish(batch, outcomes),
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                // A vendor's code panicked: a mistake in this program. Its events are not lost:
                // they hold the cursor and come again after a restart.
                let destination = &self.line.labels.destination;
                tracing::error!(%error, %destination, "a delivery was cut short by a defect");
            }
        }
        // A probe that said neither yes nor no must not be waited for.
        self.state.breaker.probe_lapsed(Instant::now());
    }

    fn finish(&mut self, batch: Batch, outcomes: Vec<Outcome>) {
        let now = Instant::now();
        let attempt = batch.attempt.saturating_add(1);
        let sorted = self.sort(batch.items, outcomes);
        if !sorted.unauthorised.is_empty() {
            self.state.breaker.succeeded();
            self.pause(sorted.unauthorised, attempt, now);
        } else if sorted.any_accepted || !sorted.refused.is_empty() {
            // An answer that refuses an event is still an answer.
            self.state.breaker.succeeded();
            self.resume();
        }
        if !sorted.refused.is_empty() {
            self.split(sorted.refused, now);
        }
        if !sorted.again.is_empty() {
            self.retry(sorted.again, (attempt, sorted.asked), sorted.any_accepted, now);
        }
    }

    /// Ends what ended, and sorts the rest.
    fn sort(&mut self, items: Vec<Item>, outcomes: Vec<Outcome>) -> Sorted {
        let mut sorted = Sorted::default();
        // A vendor that says nothing of an event has not shown that it arrived.
        let unsaid = Outcome::Retry { reason: Reason::new("no_outcome"), after: None };
        let outcomes = outcomes.into_iter().chain(std::iter::repeat(unsaid));
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered => {
                    sorted.any_accepted = true;
                    self.end(&item, ("delivered", None), Ending::Delivered);
                }
                Outcome::Skipped(reason) => {
                    self.end(&item, ("skipped", Some(reason)), Ending::Skipped);
                }
                Outcome::Dead(reason) => {
                    sorted.any_accepted = true;
                    let ending = dead(&reason);
                    self.end(&item, ("dead", Some(reason)), ending);
                }
                Outcome::Refused(reason) => sorted.refused.push((item, reason)),
                Outcome::Retry { reason, after } => {
                    self.tell(&item.event, &("retry", Some(reason)));
                    sorted.asked = sorted.asked.max(after);
                    sorted.again.push(item);
                }
                Outcome::Unauthorised(reason) => {
                    self.tell(&item.event, &("retry", Some(reason)));
                    sorted.unauthorised.push(item);
                }
            }
        }
        sorted
    }

    /// The credentials are refused: stop visibly, burn nothing, and look again now and then.
    fn pause(&mut self, items: Vec<Item>, attempt: u32, now: Instant) {
        if !self.state.unauthorised {
            self.state.unauthorised = true;
            let labels = &self.line.labels;
            tracing::error!(
                site = %labels.site, destination = %labels.destination,
                "the vendor refuses the credentials; events wait until they are corrected"
            );
        }
        let until = now + self.settings.unauthorised_probe;
        self.state.hold_until = Some(until);
        self.state.waiting.push((until, Batch { items, attempt: attempt.saturating_sub(1) }));
    }

    fn resume(&mut self) {
        if std::mem::take(&mut self.state.unauthorised) {
            let labels = &self.line.labels;
            let (site, destination) = (&labels.site, &labels.destination);
            tracing::info!(%site, %destination, "the vendor accepts the credentials again");
        }
    }

    /// A refused batch is halved until the bad event stands alone.
    fn split(&mut self, mut refused: Vec<(Item, Reason)>, now: Instant) {
        if refused.len() == 1 {
            for (item, reason) in refused {
                let ending = dead(&reason);
                self.end(&item, ("dead", Some(reason)), ending);
            }
            return;
        }
        let second = refused.split_off(refused.len() / 2);
        for half in [refused, second] {
            let items = half.into_iter().map(|(item, _)| item).collect();
            self.state.waiting.push((now, Batch { items, attempt: 0 }));
        }
    }

    fn retry(
        &mut self,
        items: Vec<Item>,
        (attempt, asked): (u32, Option<Duration>),
        any_accepted: bool,
        now: Instant,
    ) {
        if !any_accepted {
            self.state.breaker.failed(now);
        }
        let wait = self.settings.retry.wait(attempt, asked, fastrand::f64());
        if let Some(asked) = asked {
            // The vendor speaks for the whole account, not for this batch.
            let until = now + asked.min(self.settings.retry.max_retry_after);
            self.state.hold_until = self.state.hold_until.max(Some(until));
        }
        let now_clock = self.line.clock.now();
        let (expired, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| {
            let age = now_clock.duration_since(item.event.event.received_at);
            Duration::try_from(age).unwrap_or_default() > self.settings.habits.max_age
        });
        for item in expired {
            let reason = Reason::new("too_old");
            let ending = dead(&reason);
            self.end(&item, ("dead", Some(reason)), ending);
        }
        if items.is_empty() {
            return;
        }
        let room = self.state.aside.len() + items.len() <= self.settings.retry.parked_max;
        let is_stubborn = attempt >= self.settings.retry.tries_before_parking;
        if is_stubborn && room && self.state.breaker.is_closed() {
            self.set_aside(items, attempt, wait);
        } else {
            self.state.waiting.push((now + wait, Batch { items, attempt }));
        }
    }

    /// The destination works but these events do not get through: let the others pass. What waits
    /// behind them steps aside with them.
    fn set_aside(&mut self, items: Vec<Item>, attempt: u32, wait: Duration) {
        let due_at = self.line.clock.now() + wait;
        for item in items {
            self.park(&item, due_at, attempt);
            for behind in self.state.schedule.withdraw(item.visitor) {
                self.park(&behind, due_at, behind.attempt);
            }
            self.state.schedule.finish(item.visitor);
        }
        self.look_again(wait);
    }

    /// Parks one event; from now on its visitor's later events queue up behind it.
    pub(super) fn park(&mut self, item: &Item, due_at: Timestamp, attempt: u32) {
        let seq = item.event.seq;
        if !item.was_parked {
            self.state.progress.complete(seq, seq);
        }
        self.state.park.push(Parking { seq, due_at, attempt });
        let (count, last) = self.state.aside.entry(item.visitor).or_insert((0, due_at));
        *count += 1;
        *last = due_at.max(*last);
        self.will_settle();
    }

    /// Makes the worker look for due events after `wait` at the latest.
    pub(super) fn look_again(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.state.next_due = Some(self.state.next_due.map_or(at, |next| next.min(at)));
    }

    fn end(&mut self, item: &Item, said: (&'static str, Option<Reason>), ending: Ending) {
        let code = said.1.as_ref().map_or("", |reason| reason.code);
        self.count(said.0, code, 1);
        self.tell(&item.event, &said);
        self.push_ended(Ended { seq: item.event.seq, was_parked: item.was_parked, ending });
        self.state.schedule.finish(item.visitor);
    }

    pub(super) fn push_ended(&mut self, ended: Ended) {
        if !ended.was_parked {
            self.state.progress.complete(ended.seq, ended.seq);
        }
        self.state.ended.push(ended);
        self.will_settle();
    }

    pub(super) fn count(&self, outcome: &'static str, reason: &'static str, count: u64) {
        let labels = &self.line.labels;
        let labels = OutcomeLabels {
            site: labels.site.clone(),
            destination: labels.destination.clone(),
            outcome,
            reason,
        };
        self.line.metrics.deliveries.get_or_create(&labels).inc_by(count);
    }

    pub(super) fn tell(
        &self,
        event: &Enriched,
        (outcome, reason): &(&'static str, Option<Reason>),
    ) {
        self.line.feed.tell(|| Happening::Settled {
            at: self.line.clock.now(),
            site: self.line.labels.site.clone(),
            destination: self.line.labels.destination.clone(),
            seq: event.seq,
            message_id: event.event.message_id.clone(),
            event: event.event.label().to_owned(),
            outcome,
            reason: reason.as_ref().map_or("", |reason| reason.code),
            detail: reason.as_ref().and_then(|reason| reason.detail.as_deref()).map(str::to_owned),
        });
    }
}

/// The ending of a dead event.
pub(super) fn dead(reason: &Reason) -> Ending {
    let detail = reason.detail.as_deref().unwrap_or_default();
    Ending::Dead {
        reason: reason.code.to_owned(),
        detail: detail.chars().take(DETAIL_CHARS).collect(),
    }
}

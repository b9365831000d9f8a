//! The filling of counters from the journal: a counter that a site's settings make counts from then on
//! in the projection, and for what happened before here.
//!
//! The projection says where each counter begins ([`CounterStore::follow`]): it counts the later events,
//! the filling the earlier ones that the journal still has. How far the filling has come is written
//! down in the transaction that counts, so every event counts once, however often the gateway dies.
//! Whose an event is is asked when it is counted: as its visitor is known now.
//!
//! It takes its time: a bounded number of events a second, in small transactions between those of the
//! intake. Where counters are not filled yet, whoever asks must know ([`CounterProgress::is_filled`]).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::reader_guard::ProfileReaderGuard;
use super::stitch;
use super::{
    Activity, EventCounterSet, Identity, ProfileChanges, ProfileError, ProfileId, ProfileService,
    ProfileUpdate,
};
use super::{identities, until_changed};
use crate::event::Event;
use crate::journal::{Journal, JournalReadLimits, JournalRecord, SiteId, SuppressionList};
use crate::metrics::{Metrics, SiteLabels};

/// Events looked at in one step: what passes is counted in one transaction, below a few milliseconds of
/// the writer's time.
const STEP: JournalReadLimits = JournalReadLimits { events: 500, bytes: 2 << 20 };

/// Events parsed before others may run.
const STRETCH_EVENTS: usize = 64;

/// How often the log hears how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The pause after a store that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How far a counter is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterProgress {
    /// The name under which it counts.
    pub name: String,
    /// The site's last event before it began: later ones are the projection's.
    pub since: u64,
    /// Of the earlier ones, those up to this one are counted.
    pub filled: u64,
    /// The oldest event that the journal still had, and when it came, in milliseconds since 1970.
    pub oldest: Option<(u64, i64)>,
}

impl CounterProgress {
    /// Whether everything that the journal had is counted.
    pub fn is_filled(&self) -> bool {
        self.filled >= self.since
    }

    /// How much of it is.
    pub fn share(&self) -> f64 {
        let first = self.oldest.map_or(0, |(seq, _)| seq.saturating_sub(1));
        let (done, all) = (self.filled.saturating_sub(first), self.since.saturating_sub(first));
        if self.is_filled() { 1.0 } else { done as f64 / all.max(1) as f64 }
    }
}

/// Something that happened before the counters began that count it.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedEvent {
    /// By what its visitor is known, the surest first.
    pub identities: Vec<Identity>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it is worth.
    pub value: f64,
    /// Which of the step's counters count it.
    pub counters: Vec<usize>,
}

/// One step of filling.
#[derive(Clone, Debug, Default)]
pub struct BackfillStep {
    /// The counters, as they were when the events were read.
    pub counters: Vec<CounterProgress>,
    /// The events up to this one were looked at.
    pub upto: u64,
    /// The first of them, and when it came.
    pub oldest: Option<(u64, i64)>,
    /// What is to be counted.
    pub deeds: Vec<CountedEvent>,
}

/// Keeps where counters begin and how far they are filled, next to what they count.
#[async_trait]
pub trait CounterStore: Send + Sync {
    /// From the event after `at` on the projection counts under these names and no others. What is new
    /// is noted; what is no more is forgotten, with all that it counted. Everything up to `at` is in
    /// the profiles.
    async fn follow(&self, site: SiteId, at: u64, names: Vec<String>) -> Result<(), ProfileError>;

    /// The counters of a site.
    async fn counters(&self, site: SiteId) -> Result<Vec<CounterProgress>, ProfileError>;

    /// Counts, and notes how far that goes, in one transaction. A counter that is not as it was is left
    /// alone. Returns whose counts changed.
    async fn fill(
        &self,
        site: SiteId,
        step: BackfillStep,
    ) -> Result<BTreeSet<ProfileId>, ProfileError>;

    /// Removes some of what forgotten counters have counted; whether that was all.
    async fn clear(&self, site: SiteId) -> Result<bool, ProfileError>;
}

/// The filling of one site's counters.
pub struct CounterBackfill {
    pub(super) site: SiteId,
    pub(super) labels: SiteLabels,
    pub(super) counters: watch::Receiver<Arc<dyn EventCounterSet>>,
    /// The names that the projection counts under, once it has said so.
    pub(super) followed: watch::Receiver<Option<Vec<String>>>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    pub(super) metrics: Arc<Metrics>,
    /// Events looked at in a second.
    pub(super) per_second: NonZeroU32,
    /// The care it takes after an abort.
    pub(super) care: ProfileReaderGuard,
}

/// What a step found.
enum BackfillOutcome {
    /// So many events were looked at; there may be more.
    Looked(usize),
    /// Something was removed; there may be more.
    Cleared,
    /// Nothing is to be done until something changes.
    Idle,
}

/// The name under which it is guarded, which no destination can have.
const GUARDED: &str = "(counters)";

impl CounterBackfill {
    /// The care that it takes of a site's events.
    pub(super) fn careful(journal: &dyn Journal, site: SiteId) -> ProfileReaderGuard {
        ProfileReaderGuard::new(journal, (site, GUARDED), "counters", STEP.events)
    }

    /// Fills what is to be filled, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told_at: Option<Instant> = None;
        loop {
            // Seen before they are looked at, so that no change in between is missed.
            self.followed.borrow_and_update();
            let counters = self.counters.borrow_and_update().clone();
            let stepped =
                AssertUnwindSafe(self.step(&*counters, &mut told_at)).catch_unwind().await;
            let stepped = stepped.unwrap_or_else(|_panic| {
                self.care.begin(STEP.events);
                Err(ProfileError::Panicked)
            });
            let pause = match stepped {
                Ok(BackfillOutcome::Looked(events)) => {
                    Duration::from_secs_f64(events.max(1) as f64 / f64::from(self.per_second.get()))
                }
                Ok(BackfillOutcome::Cleared) => Duration::from_millis(10),
                Ok(BackfillOutcome::Idle) => {
                    self.care.end();
                    told_at = None;
                    tokio::select! {
                        () = until_changed(&mut self.followed) => {}
                        () = until_changed(&mut self.counters) => {}
                        () = stop.cancelled() => return,
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, site = %self.labels.site, "counters are not filled");
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn step(
        &self,
        counters: &dyn EventCounterSet,
        told_at: &mut Option<Instant>,
    ) -> Result<BackfillOutcome, ProfileError> {
        let Some(store) = self.profiles.counters() else { return Ok(BackfillOutcome::Idle) };
        let names = counters.names();
        // What the settings have not is about to be forgotten, and could not be tested.
        let is_open = |it: &CounterProgress| !it.is_filled() && names.contains(&it.name);
        let mut open = store.counters(self.site).await?;
        open.retain(is_open);
        self.report_progress(&open, told_at);
        let Some(after) = open.iter().map(|counter| counter.filled).min() else {
            let is_clear = store.clear(self.site).await?;
            return Ok(if is_clear { BackfillOutcome::Idle } else { BackfillOutcome::Cleared });
        };
        let since = open.iter().map(|counter| counter.since).max().unwrap_or_default();
        let mut records = self.journal.read(self.site, after, since, STEP).await?;
        self.care.choose(&mut records);
        let section = self.care.section(&records).await;
        let filled = self.fill(store, counters, (open, since), &records).await;
        section.end().await;
        filled?;
        Ok(BackfillOutcome::Looked(records.len()))
    }

    /// Counts what these events are.
    async fn fill(
        &self,
        store: &dyn CounterStore,
        counters: &dyn EventCounterSet,
        (open, since): (Vec<CounterProgress>, u64),
        records: &[JournalRecord],
    ) -> Result<(), ProfileError> {
        let oldest = records.first().map(|it| (it.seq, it.received_at.as_millisecond()));
        let upto = records.last().map_or(since, |last| last.seq);
        let (forgotten, mut deeds) = (self.journal.suppression_list(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            if index % STRETCH_EVENTS == STRETCH_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
            if !self.care.sets_aside(record.seq, (&self.labels, &self.metrics)) {
                deeds.extend(self.deed(record, counters, &open, &forgotten));
            }
        }
        let step = BackfillStep { counters: open, upto, oldest, deeds };
        let profiles = store.fill(self.site, step).await?;
        self.profiles.publish(
            self.site,
            0,
            ProfileChanges { profiles, ..ProfileChanges::default() },
        );
        Ok(())
    }

    /// What an event counts as, if it does.
    fn deed(
        &self,
        record: &JournalRecord,
        counters: &dyn EventCounterSet,
        open: &[CounterProgress],
        forgotten: &SuppressionList,
    ) -> Option<CountedEvent> {
        if record.body.is_empty() || forgotten.matches_body(self.site, &record.body) {
            return None;
        }
        // What is not readable the projection has told of.
        let event: Event = serde_json::from_slice(&record.body).ok()?;
        let mut keys = Vec::new();
        counters.keys(&event, &mut keys);
        let counts = |it: &CounterProgress| {
            it.filled < record.seq && record.seq <= it.since && keys.contains(&it.name)
        };
        let counting = open.iter().enumerate().filter(|(_, counter)| counts(counter));
        let counting: Vec<usize> = counting.map(|(index, _)| index).collect();
        if counting.is_empty() {
            return None;
        }
        let seen = Activity::of(&event, counters, self.profiles.agents())?;
        let at_ms =
            stitch::time(&ProfileUpdate { at: event.timestamp, ..ProfileUpdate::default() });
        Some(CountedEvent {
            identities: identities(&event),
            at_ms,
            value: seen.value,
            counters: counting,
        })
    }

    /// Tells how far it has come: at the beginning, now and then, at the end.
    fn report_progress(&self, open: &[CounterProgress], told_at: &mut Option<Instant>) {
        let left = open.iter().map(|it| it.since.saturating_sub(it.filled)).max().unwrap_or(0);
        let gauge = self.metrics.filling_events.get_or_create(&self.labels);
        gauge.set(i64::try_from(left).unwrap_or(i64::MAX));
        let site = &self.labels.site;
        match told_at {
            None if open.is_empty() => {}
            Some(_) if open.is_empty() => {
                tracing::info!(%site, "counters are filled from the journal");
                *told_at = None;
            }
            Some(at) if at.elapsed() < TELL_EVERY => {}
            _ => {
                let share = open.iter().map(CounterProgress::share).fold(1.0, f64::min);
                let (counters, percent) = (open.len(), (share * 100.0).round());
                tracing::info!(%site, counters, percent, events_left = left, "counters are being filled from the journal");
                *told_at = Some(Instant::now());
            }
        }
    }
}

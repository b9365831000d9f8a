//! The backfill of counters from the journal: a new counter of a site's settings counts later events in
//! the projection, and earlier events here.
//!
//! The store records where each counter begins ([`CounterStore::set_counters`]): the projection counts the
//! later events, the backfill the earlier ones that the journal still has. The backfill's progress is
//! written in the transaction that counts, so every event counts once, however often the gateway dies.
//! An event counts for the profile that its visitor has when it is counted.
//!
//! The backfill is slow on purpose: a bounded number of events a second, in small transactions between those of the
//! intake. Callers must check whether a counter is filled ([`CounterProgress::is_filled`]).

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::reader_guard::ProfileReaderGuard;
use super::stitch;
use super::{
    Activity, BackfillStep, CountedEvent, CounterProgress, CounterStore, EventCounterSet,
    OldestRecord, ProfileChanges, ProfileError, ProfileService, ProfileUpdate,
};
use super::{identities, until_changed};
use crate::journal::{Journal, JournalReadLimits, JournalRecord, SiteId, SuppressionList};
use tagway_core::event::Event;
use tagway_core::metrics::{Metrics, SiteLabels};

/// The limits of one step: its events are counted in one transaction, below a few milliseconds of the
/// writer's time.
const STEP: JournalReadLimits = JournalReadLimits { events: 500, bytes: 2 << 20 };

/// Events parsed before the task yields.
const STRETCH_EVENTS: usize = 64;

/// The interval of the log lines about progress.
const PROGRESS_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The pause after an error of the store.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The backfill of one site's counters.
pub struct CounterBackfill {
    pub(super) site: SiteId,
    pub(super) labels: SiteLabels,
    pub(super) counters: watch::Receiver<Arc<dyn EventCounterSet>>,
    /// The names that the projection counts under, once it has published them.
    pub(super) followed: watch::Receiver<Option<Vec<String>>>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    pub(super) metrics: Arc<Metrics>,
    /// The most events read in a second.
    pub(super) per_second: NonZeroU32,
    /// The guard against poison events.
    pub(super) reader_guard: ProfileReaderGuard,
}

/// The outcome of one step.
enum BackfillOutcome {
    /// This many events were read; there may be more.
    Read(usize),
    /// Counts were removed; there may be more.
    Cleared,
    /// There is nothing to do until something changes.
    Idle,
}

/// The name of the backfill in the guard, which no destination can have.
const GUARD_READER_NAME: &str = "(counters)";

impl CounterBackfill {
    /// Returns the guard for a site's events.
    pub(super) fn create_guard(journal: &dyn Journal, site: SiteId) -> ProfileReaderGuard {
        ProfileReaderGuard::new(journal, site, GUARD_READER_NAME, "counters", STEP.events)
    }

    /// Fills and clears counters until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told_at: Option<Instant> = None;
        loop {
            // Marked as seen before the counters are read, so that no change in between is missed.
            self.followed.borrow_and_update();
            let counters = self.counters.borrow_and_update().clone();
            let stepped =
                AssertUnwindSafe(self.step(&*counters, &mut told_at)).catch_unwind().await;
            let stepped = stepped.unwrap_or_else(|_panic| {
                self.reader_guard.begin(STEP.events);
                Err(ProfileError::Panicked)
            });
            let pause = match stepped {
                Ok(BackfillOutcome::Read(events)) => {
                    Duration::from_secs_f64(events.max(1) as f64 / f64::from(self.per_second.get()))
                }
                Ok(BackfillOutcome::Cleared) => Duration::from_millis(10),
                Ok(BackfillOutcome::Idle) => {
                    self.reader_guard.end();
                    told_at = None;
                    tokio::select! {
                        () = until_changed(&mut self.followed) => {}
                        () = until_changed(&mut self.counters) => {}
                        () = stop.cancelled() => return,
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, site = %self.labels.site, "the backfill of counters failed");
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
        // A counter that the settings no longer have is about to be forgotten, and could not be tested.
        let is_open = |it: &CounterProgress| !it.is_filled() && names.contains(&it.name);
        let mut open = store.counters(self.site).await?;
        open.retain(is_open);
        self.report_progress(&open, told_at);
        let Some(after) = open.iter().map(|counter| counter.filled).min() else {
            let is_clear = store.remove_dropped_counts(self.site).await?;
            return Ok(if is_clear { BackfillOutcome::Idle } else { BackfillOutcome::Cleared });
        };
        let since = open.iter().map(|counter| counter.since).max().unwrap_or_default();
        let mut records = self.journal.read(self.site, after, since, STEP).await?;
        self.reader_guard.limit_group(&mut records);
        let section = self.reader_guard.begin_work(&records).await;
        let filled = self.fill(store, counters, open, since, &records).await;
        section.end().await;
        filled?;
        Ok(BackfillOutcome::Read(records.len()))
    }

    /// Counts these events.
    async fn fill(
        &self,
        store: &dyn CounterStore,
        counters: &dyn EventCounterSet,
        open: Vec<CounterProgress>,
        since: u64,
        records: &[JournalRecord],
    ) -> Result<(), ProfileError> {
        let oldest = |it: &JournalRecord| OldestRecord {
            seq: it.seq,
            received_at: it.received_at.as_millisecond(),
        };
        let oldest = records.first().map(oldest);
        let upto = records.last().map_or(since, |last| last.seq);
        let (forgotten, mut deeds) = (self.journal.suppression_list(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            if index % STRETCH_EVENTS == STRETCH_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
            if !self.reader_guard.skips_poisoned(record.seq, &self.labels, &self.metrics) {
                deeds.extend(self.counted_event(record, counters, &open, &forgotten));
            }
        }
        let step = BackfillStep { counters: open, upto, oldest, counted_events: deeds };
        let profiles = store.fill(self.site, step).await?;
        self.profiles.publish(
            self.site,
            0,
            ProfileChanges { profiles, ..ProfileChanges::default() },
        );
        Ok(())
    }

    /// Returns what to count of a record, if any counter counts it.
    fn counted_event(
        &self,
        record: &JournalRecord,
        counters: &dyn EventCounterSet,
        open: &[CounterProgress],
        forgotten: &SuppressionList,
    ) -> Option<CountedEvent> {
        if record.body.is_empty() || forgotten.matches_body(self.site, &record.body) {
            return None;
        }
        // The projection has logged unreadable events.
        let event: Event = serde_json::from_slice(&record.body).ok()?;
        if event.facts.test_of.is_some() {
            return None;
        }
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

    /// Logs the progress: at the beginning, once an interval, at the end.
    fn report_progress(&self, open: &[CounterProgress], told_at: &mut Option<Instant>) {
        let left = open.iter().map(|it| it.since.saturating_sub(it.filled)).max().unwrap_or(0);
        let gauge = self.metrics.filling_events.get_or_create(&self.labels);
        gauge.set(i64::try_from(left).unwrap_or(i64::MAX));
        let site = &self.labels.site;
        match told_at {
            None if open.is_empty() => {}
            Some(_) if open.is_empty() => {
                tracing::info!(%site, "the backfill of counters from the journal is complete");
                *told_at = None;
            }
            Some(at) if at.elapsed() < PROGRESS_LOG_INTERVAL => {}
            _ => {
                let share = open.iter().map(CounterProgress::share).fold(1.0, f64::min);
                let (counters, percent) = (open.len(), (share * 100.0).round());
                tracing::info!(%site, counters, percent, events_left = left, "the backfill of counters \
                    from the journal is in progress");
                *told_at = Some(Instant::now());
            }
        }
    }
}

//! The guard against poison records, which end the process: after a crash every reader finds out,
//! before it handles a record again, whether that record caused the crash.
//!
//! A start that follows no orderly stop follows an abort, whatever it was: a panic that aborts, memory that ran out,
//! a signal, a power cut. From such a start on every reader is careful until it has passed all that may have been in
//! flight. It takes a few records at a time ([`MAX_CAREFUL_GROUP`]) and writes down which before it handles them; when they are
//! done, the note is removed. Notes found at a start name the records that were in flight when the process died.
//! These suspects are handled alone, until each has got through once. One that was in flight at
//! `poison_starts` aborted starts in a row is poisoned: its reader sets it aside permanently, with a warning
//! and a count, and continues after it.
//!
//! - Nothing is written in normal operation: care begins with an aborted start, and ends.
//! - Only one reader's records are blamed for an abort: careful readers take turns, and while a call
//!   waits for its vendor none of its records is in flight. So killing the process at any other time,
//!   however often, makes no event dead.
//! - A crash loop over one record ends with the `poison_starts + 1`th aborted start: the first is not
//!   noted, the second finds a few records, the others one. Records that are poison for several
//!   readers, or several of one reader, take `poison_starts` more each at most.
//! - A reader's own panic counts as an abort does, at once, and for this process.
//! - The notes must survive the process, not a power cut: no write waits for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedMutexGuard, watch};

use super::{JournalError, SiteId};

/// The most records that a careful reader handles together.
pub const MAX_CAREFUL_GROUP: usize = 64;

/// The key of a reader in the guard: its site and its name there.
pub(super) type GuardedReaderKey = (SiteId, String);

/// The number of aborted starts at which each of a reader's records was in flight.
pub(super) type SuspectCounts = BTreeMap<i64, u32>;

/// The store of the notes, which survives the process.
#[async_trait]
pub(super) trait InFlightLog: Send + Sync {
    /// Notes that these records, and no others, are in flight at the reader.
    async fn record_in_flight(
        &self,
        reader: &GuardedReaderKey,
        items: Vec<i64>,
    ) -> Result<(), JournalError>;

    /// Notes that no record is in flight at the reader any more.
    async fn clear(&self, reader: &GuardedReaderKey) -> Result<(), JournalError>;

    /// Removes suspects that got through, or no longer matter.
    async fn remove_suspects(
        &self,
        reader: &GuardedReaderKey,
        items: Vec<i64>,
    ) -> Result<(), JournalError>;
}

/// The guard of all readers of one gateway.
pub struct PoisonGuard {
    in_flight_log: Option<Box<dyn InFlightLog>>,
    /// True if the start follows an abort.
    is_after_abort: bool,
    /// Aborted starts in a row after which a record is poisoned; zero disables the guard.
    poison_starts: u32,
    suspects: Mutex<BTreeMap<GuardedReaderKey, SuspectCounts>>,
    /// The lock with which careful readers take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The number of careful readers.
    careful: watch::Sender<usize>,
}

impl Default for PoisonGuard {
    /// Returns a guard that is disabled.
    fn default() -> Self {
        Self {
            in_flight_log: None,
            is_after_abort: false,
            poison_starts: 0,
            suspects: Mutex::default(),
            turn: Arc::default(),
            careful: watch::Sender::new(0),
        }
    }
}

/// The traces of the run before this one.
pub(super) struct PreviousRun {
    /// True if it was cut off.
    pub(super) is_aborted: bool,
    /// The records in flight at aborted starts.
    pub(super) suspects: BTreeMap<GuardedReaderKey, SuspectCounts>,
}

impl PoisonGuard {
    pub(super) fn new(
        notes: Box<dyn InFlightLog>,
        previous: PreviousRun,
        poison_starts: u32,
    ) -> Self {
        Self {
            in_flight_log: Some(notes),
            is_after_abort: previous.is_aborted && poison_starts > 0,
            poison_starts,
            suspects: Mutex::new(previous.suspects),
            ..Self::default()
        }
    }

    /// Returns true if this start follows an abort.
    pub fn is_after_abort(&self) -> bool {
        self.is_after_abort
    }

    /// Returns the guard of a reader of records, careful from its beginning after an abort.
    pub fn reader_guard(self: &Arc<Self>, site: SiteId, reader: &str) -> ReaderGuard {
        let care = self.watch(site, reader);
        if self.is_after_abort {
            care.enter_careful_mode();
        }
        care
    }

    /// Returns a reader's guard without initial care: for one that takes one item at a time, beside others.
    pub fn watch(self: &Arc<Self>, site: SiteId, reader: &str) -> ReaderGuard {
        ReaderGuard {
            guard: self.clone(),
            reader: (site, reader.to_owned()),
            is_careful: AtomicBool::new(false),
        }
    }

    /// Returns once no reader of records is careful, or after `longest`.
    pub async fn wait_for_careful_readers(&self, longest: Duration) {
        let mut careful = self.careful.subscribe();
        tokio::time::timeout(longest, careful.wait_for(|careful| *careful == 0)).await.ok();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GuardedReaderKey, SuspectCounts>> {
        // Every change under the lock is one change of a map.
        self.suspects.lock()
    }
}

/// The guard of one reader, with its suspects.
pub struct ReaderGuard {
    guard: Arc<PoisonGuard>,
    reader: GuardedReaderKey,
    is_careful: AtomicBool,
}

impl ReaderGuard {
    /// Returns true until the reader has passed all that may have been in flight at an abort.
    pub fn is_careful(&self) -> bool {
        self.is_careful.load(Ordering::Relaxed)
    }

    /// Returns true if a record of this reader was in flight at an abort and has not got through since.
    pub fn has_suspects(&self) -> bool {
        self.guard.lock().get(&self.reader).is_some_and(|suspects| !suspects.is_empty())
    }

    /// Returns the number of these items, at least one, that may be handled together.
    pub fn group(&self, items: impl IntoIterator<Item = i64>) -> usize {
        let suspects = self.guard.lock();
        let suspects = suspects.get(&self.reader).filter(|suspects| !suspects.is_empty());
        let most =
            if self.is_careful() || suspects.is_some() { MAX_CAREFUL_GROUP } else { usize::MAX };
        let is_plain = |item: &i64| !suspects.is_some_and(|suspects| suspects.contains_key(item));
        items.into_iter().take(most).take_while(is_plain).count().max(1)
    }

    /// Returns true if the item was in flight at so many aborted starts in a row that it is set aside.
    pub fn is_poisoned(&self, item: i64) -> bool {
        let limit = self.guard.poison_starts;
        let suspects = self.guard.lock();
        let starts = suspects.get(&self.reader).and_then(|suspects| suspects.get(&item));
        limit > 0 && starts.is_some_and(|starts| *starts >= limit)
    }

    /// Begins to work on these items. A careful reader writes them down, and waits for its turn.
    pub async fn begin(self: &Arc<Self>, items: Vec<i64>) -> GuardedWork {
        let is_noted = self.is_careful() || self.includes_suspect(&items);
        let mut section =
            GuardedWork { reader_guard: self.clone(), items, turn: None, is_noted, ended: false };
        section.resume().await;
        section
    }

    /// Begins to work on an item without waiting for a turn; writes it down if `is_noted`.
    pub async fn begin_without_turn(self: &Arc<Self>, item: i64, is_noted: bool) -> GuardedWork {
        let items = vec![item];
        let section =
            GuardedWork { reader_guard: self.clone(), items, turn: None, is_noted, ended: false };
        if is_noted {
            section.record_in_flight().await;
        }
        section
    }

    /// Removes these items from the suspects: they got through, were set aside, or are to be retried.
    pub async fn remove_suspects(&self, items: &[i64]) {
        let was_suspected = {
            let mut all = self.guard.lock();
            let Some(suspects) = all.get_mut(&self.reader) else { return };
            let count = suspects.len();
            suspects.retain(|item, _| !items.contains(item));
            suspects.len() < count
        };
        if let (true, Some(notes)) = (was_suspected, &self.guard.in_flight_log)
            && let Err(error) = notes.remove_suspects(&self.reader, items.to_vec()).await
        {
            tracing::debug!(%error, "finished events stay marked as suspects until the next start");
        }
    }

    /// Removes all suspects of this reader.
    pub async fn remove_all_suspects(&self) {
        let items: Vec<i64> = {
            let suspects = self.guard.lock();
            suspects.get(&self.reader).into_iter().flat_map(|it| it.keys()).copied().collect()
        };
        if !items.is_empty() {
            self.remove_suspects(&items).await;
        }
    }

    /// Ends the reader's care: it has passed all that may have been in flight.
    pub fn leave_careful_mode(&self) {
        if self.is_careful.swap(false, Ordering::Relaxed) {
            self.guard.careful.send_modify(|careful| *careful = careful.saturating_sub(1));
        }
    }

    fn includes_suspect(&self, items: &[i64]) -> bool {
        let suspects = self.guard.lock();
        let suspects = suspects.get(&self.reader).filter(|suspects| !suspects.is_empty());
        suspects.is_some_and(|suspects| items.iter().any(|item| suspects.contains_key(item)))
    }

    /// Makes the reader careful from here on, after a panic of its own.
    pub fn enter_careful_mode(&self) {
        if self.guard.poison_starts == 0 {
            return;
        }
        if !self.is_careful.swap(true, Ordering::Relaxed) {
            self.guard.careful.send_modify(|careful| *careful += 1);
        }
    }

    /// Counts an abort against the items that were in flight when the reader panicked.
    fn count_abort(&self, items: &[i64]) {
        // In a larger group the culprit is unknown; careful reading finds it.
        if self.guard.poison_starts == 0 || items.len() > MAX_CAREFUL_GROUP {
            return;
        }
        let mut all = self.guard.lock();
        let suspects = all.entry(self.reader.clone()).or_default();
        for item in items {
            let starts = suspects.entry(*item).or_default();
            *starts = starts.saturating_add(1);
        }
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.leave_careful_mode();
    }
}

/// The work on some records, from its beginning to its end.
pub struct GuardedWork {
    reader_guard: Arc<ReaderGuard>,
    items: Vec<i64>,
    turn: Option<OwnedMutexGuard<()>>,
    is_noted: bool,
    ended: bool,
}

impl GuardedWork {
    /// Pauses the work while it waits for a reply: other readers get their turn, and an abort is not
    /// blamed on these items.
    pub async fn pause(&mut self) {
        if self.is_noted {
            self.clear().await;
            self.turn = None;
        }
    }

    /// Resumes the work after a pause.
    pub async fn resume(&mut self) {
        if self.is_noted && self.turn.is_none() {
            self.turn = Some(self.reader_guard.guard.turn.clone().lock_owned().await);
            self.record_in_flight().await;
        }
    }

    /// Ends the work, whether it succeeded or not: the process lives.
    pub async fn end(mut self) {
        self.ended = true;
        self.pause().await;
        self.reader_guard.remove_suspects(&self.items).await;
    }

    /// Ends the work after a panic, and blames its items.
    pub async fn end_after_panic(mut self) {
        self.ended = true;
        self.pause().await;
        self.reader_guard.count_abort(&self.items);
    }

    /// Ends the first part of the work; its items stay suspects, since they have not got through yet.
    pub async fn end_keeping_suspects(mut self) {
        self.ended = true;
        self.pause().await;
    }

    async fn record_in_flight(&self) {
        if let Some(notes) = &self.reader_guard.guard.in_flight_log
            && let Err(error) =
                notes.record_in_flight(&self.reader_guard.reader, self.items.clone()).await
        {
            tracing::debug!(%error, "the events in progress cannot be recorded");
        }
    }

    async fn clear(&self) {
        if let Some(notes) = &self.reader_guard.guard.in_flight_log
            && let Err(error) = notes.clear(&self.reader_guard.reader).await
        {
            tracing::debug!(%error, "the record of events in progress cannot be cleared");
        }
    }
}

impl Drop for GuardedWork {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            self.reader_guard.count_abort(&self.items);
        }
    }
}

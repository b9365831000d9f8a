//! The guard against records that end the process: after a crash every reader finds out, before it touches
//! a record again, whether that is what killed it.
//!
//! A start that follows no orderly stop follows an abort, whatever it was: a panic that aborts, memory
//! that ran out, a signal, a power cut. From such a start on every reader is careful until it has passed
//! all that may have been under way. It takes a few records at a time ([`GROUP`]) and writes down which
//! before it touches them; when they are through, the note is struck out. A note that a start finds tells what was under
//! way when the process died, and these records go alone, until each has got through once. One
//! that was under way at `journal.poison_starts` aborted starts in a row is poisoned: its reader
//! sets it aside for good, with a warning and a count, and goes on behind it.
//!
//! - Nothing is written while all is well: care begins with an aborted start, and ends.
//! - An abort is laid to one record alone: careful readers take turns, and while a call waits for its
//!   vendor nothing of it is under way. So whoever kills the process at any other time, as often as they
//!   like, makes no event dead.
//! - A crash loop over one record ends with the `poison_starts + 1`th aborted start: the first is not
//!   noted, the second finds a few records, the others one. Records that are poison for several readers,
//!   or several of one reader, take `poison_starts` more each at most.
//! - A reader's own panic counts as an abort does, at once, and for this process.
//! - The notes need not survive a power cut, only the process: no write waits for the disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{JournalError, SiteId};

/// Records that a careful reader touches together.
pub const GROUP: usize = 64;

/// A reader, as the guard knows it: its site and its name there.
pub(super) type GuardedReaderKey = (SiteId, String);

/// How often each of a reader's records was under way when the process died.
pub(super) type SuspectCounts = BTreeMap<i64, u32>;

/// Where notes are kept, so that they survive the process.
#[async_trait]
pub(super) trait InFlightLog: Send + Sync {
    /// These are under way at the reader, and nothing else.
    async fn note(&self, reader: &GuardedReaderKey, items: Vec<i64>) -> Result<(), JournalError>;

    /// Nothing is under way at the reader any more.
    async fn clear(&self, reader: &GuardedReaderKey) -> Result<(), JournalError>;

    /// These got through, or are no longer of interest.
    async fn forgive(&self, reader: &GuardedReaderKey, items: Vec<i64>)
    -> Result<(), JournalError>;
}

/// The guard of all readers of one gateway.
pub struct PoisonGuard {
    notes: Option<Box<dyn InFlightLog>>,
    /// The start follows an abort.
    is_after_abort: bool,
    /// Aborted starts in a row after which a record is poisoned; zero for never.
    poison_starts: u32,
    suspects: Mutex<BTreeMap<GuardedReaderKey, SuspectCounts>>,
    /// Careful readers take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many are careful.
    careful: watch::Sender<usize>,
}

impl Default for PoisonGuard {
    /// One that guards nothing.
    fn default() -> Self {
        Self {
            notes: None,
            is_after_abort: false,
            poison_starts: 0,
            suspects: Mutex::default(),
            turn: Arc::default(),
            careful: watch::Sender::new(0),
        }
    }
}

impl PoisonGuard {
    pub(super) fn new(
        notes: Box<dyn InFlightLog>,
        (is_after_abort, suspects): (bool, BTreeMap<GuardedReaderKey, SuspectCounts>),
        poison_starts: u32,
    ) -> Self {
        let (is_after_abort, suspects) =
            (is_after_abort && poison_starts > 0, Mutex::new(suspects));
        Self { notes: Some(notes), is_after_abort, poison_starts, suspects, ..Self::default() }
    }

    /// Whether this start follows an abort.
    pub fn is_after_abort(&self) -> bool {
        self.is_after_abort
    }

    /// The care of a reader of records, from its beginning.
    pub fn care(self: &Arc<Self>, site: SiteId, reader: &str) -> ReaderGuard {
        let care = self.watch(site, reader);
        if self.is_after_abort {
            care.begin_care();
        }
        care
    }

    /// The same without care from its beginning: of one that takes one thing at a time, beside others.
    pub fn watch(self: &Arc<Self>, site: SiteId, reader: &str) -> ReaderGuard {
        ReaderGuard {
            guard: self.clone(),
            reader: (site, reader.to_owned()),
            is_careful: AtomicBool::new(false),
        }
    }

    /// Returns once no reader of records is careful, or after so long.
    pub async fn calm(&self, longest: Duration) {
        let mut careful = self.careful.subscribe();
        tokio::time::timeout(longest, careful.wait_for(|careful| *careful == 0)).await.ok();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GuardedReaderKey, SuspectCounts>> {
        // Every change under the lock is one of a map.
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The care that one reader takes.
pub struct ReaderGuard {
    guard: Arc<PoisonGuard>,
    reader: GuardedReaderKey,
    is_careful: AtomicBool,
}

impl ReaderGuard {
    /// Whether the reader has yet to pass what may have been under way at an abort.
    pub fn is_careful(&self) -> bool {
        self.is_careful.load(Ordering::Relaxed)
    }

    /// Whether something of this reader was under way at an abort and has not got through since.
    pub fn has_suspects(&self) -> bool {
        self.guard.lock().get(&self.reader).is_some_and(|suspects| !suspects.is_empty())
    }

    /// How many of these, at least one, may be taken together.
    pub fn group(&self, items: impl IntoIterator<Item = i64>) -> usize {
        let suspects = self.guard.lock();
        let suspects = suspects.get(&self.reader).filter(|suspects| !suspects.is_empty());
        let most = if self.is_careful() || suspects.is_some() { GROUP } else { usize::MAX };
        let is_plain = |item: &i64| !suspects.is_some_and(|suspects| suspects.contains_key(item));
        items.into_iter().take(most).take_while(is_plain).count().max(1)
    }

    /// Whether it was under way at so many aborted starts in a row that it is set aside.
    pub fn is_poisoned(&self, item: i64) -> bool {
        let limit = self.guard.poison_starts;
        let suspects = self.guard.lock();
        let starts = suspects.get(&self.reader).and_then(|suspects| suspects.get(&item));
        limit > 0 && starts.is_some_and(|starts| *starts >= limit)
    }

    /// Begins to work on these. In careful times that is written down, and no other reader works.
    pub async fn begin(self: &Arc<Self>, items: Vec<i64>) -> GuardedWork {
        let is_noted = self.is_careful() || self.suspects(&items);
        let mut section =
            GuardedWork { care: self.clone(), items, turn: None, is_noted, ended: false };
        section.resume().await;
        section
    }

    /// The same beside what other readers do, written down whenever it is asked for.
    pub async fn begin_beside(self: &Arc<Self>, item: i64, is_noted: bool) -> GuardedWork {
        let items = vec![item];
        let section = GuardedWork { care: self.clone(), items, turn: None, is_noted, ended: false };
        if is_noted {
            section.note().await;
        }
        section
    }

    /// Forgets what was noted of these: they got through, were set aside, or are to be tried anew.
    pub async fn forgive(&self, items: &[i64]) {
        let was_suspected = {
            let mut all = self.guard.lock();
            let Some(suspects) = all.get_mut(&self.reader) else { return };
            let count = suspects.len();
            suspects.retain(|item, _| !items.contains(item));
            suspects.len() < count
        };
        if let (true, Some(notes)) = (was_suspected, &self.guard.notes)
            && let Err(error) = notes.forgive(&self.reader, items.to_vec()).await
        {
            tracing::debug!(%error, "what got through is suspected until the next start");
        }
    }

    /// The same of everything of this reader.
    pub async fn forgive_all(&self) {
        let items: Vec<i64> = {
            let suspects = self.guard.lock();
            suspects.get(&self.reader).into_iter().flat_map(|it| it.keys()).copied().collect()
        };
        if !items.is_empty() {
            self.forgive(&items).await;
        }
    }

    /// The reader has passed all that may have been under way.
    pub fn end_care(&self) {
        if self.is_careful.swap(false, Ordering::Relaxed) {
            self.guard.careful.send_modify(|careful| *careful = careful.saturating_sub(1));
        }
    }

    fn suspects(&self, items: &[i64]) -> bool {
        let suspects = self.guard.lock();
        let suspects = suspects.get(&self.reader).filter(|suspects| !suspects.is_empty());
        suspects.is_some_and(|suspects| items.iter().any(|item| suspects.contains_key(item)))
    }

    /// From here on the reader is careful: it panicked.
    pub fn begin_care(&self) {
        if self.guard.poison_starts == 0 {
            return;
        }
        if !self.is_careful.swap(true, Ordering::Relaxed) {
            self.guard.careful.send_modify(|careful| *careful += 1);
        }
    }

    /// These were under way when the reader panicked.
    fn blame(&self, items: &[i64]) {
        // Which of many it was is found out with care.
        if self.guard.poison_starts == 0 || items.len() > GROUP {
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
        self.end_care();
    }
}

/// The work on some records, from its beginning to its end.
pub struct GuardedWork {
    care: Arc<ReaderGuard>,
    items: Vec<i64>,
    turn: Option<OwnedMutexGuard<()>>,
    is_noted: bool,
    ended: bool,
}

impl GuardedWork {
    /// What is waited for now is no work: others may have their turn, and an abort is not laid to these.
    pub async fn pause(&mut self) {
        if self.is_noted {
            self.clear().await;
            self.turn = None;
        }
    }

    /// The work goes on.
    pub async fn resume(&mut self) {
        if self.is_noted && self.turn.is_none() {
            self.turn = Some(self.care.guard.turn.clone().lock_owned().await);
            self.note().await;
        }
    }

    /// The work is done, well or not: the process lives.
    pub async fn end(mut self) {
        self.ended = true;
        self.pause().await;
        self.care.forgive(&self.items).await;
    }

    /// The work panicked.
    pub async fn died(mut self) {
        self.ended = true;
        self.pause().await;
        self.care.blame(&self.items);
    }

    /// The first part of the work is done; these have not got through yet.
    pub async fn leave(mut self) {
        self.ended = true;
        self.pause().await;
    }

    async fn note(&self) {
        if let Some(notes) = &self.care.guard.notes
            && let Err(error) = notes.note(&self.care.reader, self.items.clone()).await
        {
            tracing::debug!(%error, "what is under way cannot be written down");
        }
    }

    async fn clear(&self) {
        if let Some(notes) = &self.care.guard.notes
            && let Err(error) = notes.clear(&self.care.reader).await
        {
            tracing::debug!(%error, "what was under way cannot be struck out");
        }
    }
}

impl Drop for GuardedWork {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            self.care.blame(&self.items);
        }
    }
}

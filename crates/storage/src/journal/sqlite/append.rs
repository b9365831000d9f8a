//! Appending: requests queue their events; the writer thread takes the whole queue at the start of its
//! group.
//!
//! Duplicates are detected on the writer thread, which sees all appends one after another: the second
//! of two equal events is answered with the group of the first or a later one, so that its answer, too,
//! means durable.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use tokio::sync::{oneshot, watch};

use super::super::dedupe::DedupeWindows;
use super::super::{
    AppendCallback, AppendError, AppendOutcome, JournalError, JournalHead, JournalSettings,
    NewJournalRecord, SiteId,
};
use super::disk_budget::{AppendBudget, JournalDiskBudget};
use super::{MAX_SEQ, SiteHeadMap, append_error, flags, place, rank, time};
use crate::store::{SqliteStore, StoreWrite, StoreWriteError, WriteUrgency};
use tagway_core::event::SenderRank;
use tagway_core::metrics::Metrics;

/// The queue and the sequence numbers that all appends share.
pub(super) struct AppendQueue {
    waiting: Mutex<WaitingAppends>,
    sequence: Mutex<AppendSequence>,
    queue_bytes: usize,
    pub(super) disk_budget: JournalDiskBudget,
    metrics: Arc<Metrics>,
}

/// Events that wait for the next group.
#[derive(Default)]
struct WaitingAppends {
    requests: Vec<AppendRequest>,
    bytes: usize,
    // A flush is queued with the writer and has not begun.
    scheduled: bool,
    closed: bool,
}

type AppendResult = Result<Vec<AppendOutcome>, AppendError>;

struct AppendRequest {
    records: Vec<NewJournalRecord>,
    count: AppendCallback,
    answer: oneshot::Sender<GroupReply>,
}

/// One request's answer, and those of others that it has to pass on. The writer thread wakes one
/// waiting task; that one wakes the rest of the group from within the runtime, which costs a fraction
/// of as many wake-ups from outside.
struct GroupReply {
    answer: Option<AppendResult>,
    others: Vec<(oneshot::Sender<GroupReply>, AppendResult)>,
}

impl GroupReply {
    /// Sends all answers through the first request's channel.
    fn spread(mut told: impl Iterator<Item = (oneshot::Sender<GroupReply>, AppendResult)>) {
        let Some((first, answer)) = told.next() else { return };
        let news = GroupReply { answer: Some(answer), others: told.collect() };
        // If that request was dropped with its client, dropping the reply sends the other answers.
        first.send(news).ok();
    }
}

impl Drop for GroupReply {
    fn drop(&mut self) {
        for (sender, answer) in self.others.drain(..) {
            sender.send(GroupReply { answer: Some(answer), others: Vec::new() }).ok();
        }
    }
}

/// The state that only the writer thread changes.
struct AppendSequence {
    heads: SiteHeadMap,
    window: DedupeWindows,
}

impl AppendQueue {
    /// Reads the message ids of the dedupe window back.
    pub(super) async fn load(
        store: &SqliteStore,
        settings: &JournalSettings,
        now: Timestamp,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let mut window = DedupeWindows::new(settings.dedupe_window, settings.dedupe_entries, now);
        let since = now.checked_sub(settings.dedupe_window).unwrap_or(Timestamp::MIN);
        let entries = settings.dedupe_entries;
        let keys = store.read(move |c| recent_keys(c, since, entries)).await?;
        for (key, rank, received_at) in keys.into_iter().rev() {
            window.restore(key, rank, received_at.min(now));
        }
        Ok(Self {
            waiting: Mutex::default(),
            sequence: Mutex::new(AppendSequence { heads: SiteHeadMap::new(), window }),
            queue_bytes: settings.queue_bytes,
            disk_budget: JournalDiskBudget::new(settings),
            metrics,
        })
    }

    pub(super) fn add_site(&self, site: SiteId, head: u64) {
        let mut sequence = self.sequence.lock();
        // The projection reads all events from before this process, whether they identify or not.
        let head = JournalHead { seq: head, identified: head };
        sequence.heads.entry(site).or_insert_with(|| (head, watch::Sender::new(head)));
    }

    pub(super) fn head(&self, site: SiteId) -> watch::Receiver<JournalHead> {
        let mut sequence = self.sequence.lock();
        let (_, sender) = sequence.heads.entry(site).or_default();
        sender.subscribe()
    }

    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
    }

    pub(super) async fn append(
        appends: &Arc<Self>,
        store: &SqliteStore,
        records: Vec<NewJournalRecord>,
        count: AppendCallback,
    ) -> AppendResult {
        let bytes: usize = records.iter().map(|record| record.body.len()).sum();
        let (answer, answered) = oneshot::channel();
        let schedule = {
            let mut waiting = appends.waiting.lock();
            if waiting.closed {
                return Err(AppendError::Closed);
            }
            if waiting.bytes.saturating_add(bytes) > appends.queue_bytes {
                return Err(AppendError::QueueFull);
            }
            waiting.bytes += bytes;
            waiting.requests.push(AppendRequest { records, count, answer });
            !std::mem::replace(&mut waiting.scheduled, true)
        };
        if schedule {
            store.submit(Box::new(AppendFlush {
                appends: appends.clone(),
                requests: Vec::new(),
                appended: Vec::new(),
            }));
        }
        let news = answered.await.ok();
        news.and_then(|mut news| news.answer.take()).unwrap_or(Err(AppendError::Closed))
    }

    fn take(&self) -> Vec<AppendRequest> {
        let mut waiting = self.waiting.lock();
        waiting.scheduled = false;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.requests)
    }
}

/// Writes all queued appends, as one write of a group.
struct AppendFlush {
    appends: Arc<AppendQueue>,
    requests: Vec<AppendRequest>,
    appended: Vec<AppendResult>,
}

impl StoreWrite for AppendFlush {
    fn urgency(&self) -> WriteUrgency {
        WriteUrgency::Now
    }

    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.requests = self.appends.take();
        self.appended.reserve(self.requests.len());
        let mut insert = connection.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?)")?;
        let mut account = AppendBudget::open(&self.appends.disk_budget, connection)?;
        let mut sequence = self.appends.sequence.lock();
        for request in &self.requests {
            if !account.take(&request.records, &self.appends.metrics) {
                self.appended.push(Err(AppendError::Full));
                continue;
            }
            // Pushed before its first insert, so that `undo` finds the rows of a request that failed halfway.
            self.appended.push(Ok(Vec::with_capacity(request.records.len())));
            let Some(Ok(appended)) = self.appended.last_mut() else { continue };
            for record in &request.records {
                if !sequence.window.insert(record.message, record.received_at) {
                    appended.push(AppendOutcome::Duplicate);
                    continue;
                }
                let (head, _) = sequence.heads.entry(record.site).or_default();
                head.seq += 1;
                let seq = head.seq;
                if record.identifies {
                    head.identified = seq;
                }
                appended.push(AppendOutcome::New { seq });
                insert.execute((
                    place(record.site, seq),
                    record.received_at.as_millisecond(),
                    flags(record),
                    record.message.to_bytes(),
                    RecordBodyText(&record.body),
                ))?;
            }
        }
        Ok(())
    }

    fn done(mut self: Box<Self>, result: Result<(), Arc<StoreWriteError>>) {
        match result {
            Ok(()) => {
                let requests = std::mem::take(&mut self.requests).into_iter();
                let counted = requests.zip(&self.appended).map(|(request, appended)| {
                    if let Ok(appended) = appended {
                        (request.count)(appended);
                    }
                    request.answer
                });
                let answers: Vec<oneshot::Sender<GroupReply>> = counted.collect();
                self.publish();
                GroupReply::spread(answers.into_iter().zip(self.appended));
            }
            Err(error) => {
                if self.requests.is_empty() {
                    // The flush was refused before it began: the queued requests are refused with it.
                    self.requests = self.appends.take();
                }
                self.undo();
                let error = append_error(error);
                let requests = self.requests.into_iter().map(|request| request.answer);
                GroupReply::spread(requests.map(|request| (request, Err(error.clone()))));
            }
        }
    }
}

impl AppendFlush {
    fn publish(&self) {
        let sequence = self.appends.sequence.lock();
        for (head, sender) in sequence.heads.values() {
            sender.send_if_modified(|seen| std::mem::replace(seen, *head) != *head);
        }
    }

    fn undo(&self) {
        let mut sequence = self.appends.sequence.lock();
        for (request, appended) in self.requests.iter().zip(&self.appended) {
            let Ok(appended) = appended else { continue };
            for (record, appended) in request.records.iter().zip(appended) {
                if let AppendOutcome::New { .. } = appended {
                    sequence.window.remove(record.message);
                }
            }
        }
        // There is one flush at a time, so the last published head is where this one began.
        for (head, sender) in sequence.heads.values_mut() {
            *head = *sender.borrow();
        }
    }
}

/// Bytes that are known to be UTF-8, stored as text so that the table is readable in a SQL shell.
struct RecordBodyText<'b>(&'b [u8]);

impl ToSql for RecordBodyText<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Returns the newest keys of every site since `since`, newest first.
fn recent_keys(
    connection: &Connection,
    since: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<([u8; 16], SenderRank, Timestamp)>> {
    let mut sites = connection.prepare("SELECT id FROM sites")?;
    let sites: Vec<SiteId> =
        sites.query_map([], |row| row.get(0).map(SiteId))?.collect::<Result<_, _>>()?;
    let mut keys = Vec::new();
    let mut statement = connection.prepare(
        "SELECT message, received_at, flags FROM events WHERE place BETWEEN ? AND ? \
         ORDER BY place DESC",
    )?;
    for site in sites {
        let mut rows = statement.query([place(site, 0), place(site, MAX_SEQ)])?;
        let mut taken = 0;
        while let Some(row) = rows.next()? {
            let received_at = time(row.get(1)?);
            if received_at < since || taken >= limit {
                break;
            }
            taken += 1;
            keys.push((row.get(0)?, rank(row.get(2)?), received_at));
        }
    }
    keys.sort_by_key(|(_, _, received_at)| std::cmp::Reverse(*received_at));
    keys.truncate(limit);
    Ok(keys)
}

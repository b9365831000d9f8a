//! Erasing people: the suppressed names, and the search of all tables for their records.
//!
//! Finding a person's records means reading everything, on a reader's connection; the writer gets only
//! the rows to erase, a few at a time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::super::suppression::{RecordNameMatch, carries};
use super::super::{
    DeadLetterReason, ErasureCounts, JournalError, PersonNameDigest, ReaderId, SiteId,
    SubjectCursor, SubjectRecord, SubjectRecordPage, SubjectRights, UnfinishedErasure,
};
use super::{MAX_SEQ, SqliteJournal, outcomes, place, text_bytes, time};
use crate::store::overwriting;

/// The rows read in one step, and the bytes of bodies after which a step ends early: bounds the memory
/// of a step.
const LOOK_ROWS: usize = 2000;
const LOOK_BYTES: usize = 4 << 20;

/// Rows erased by one write: a millisecond or so, for which appends may have to wait.
const ERASE_ROWS: usize = 200;

impl SqliteJournal {
    /// Reads the suppressed names into memory.
    pub(super) async fn load_forgotten(&self) -> Result<(), JournalError> {
        let names = self.read_db(|c| {
            let mut all = c.prepare_cached("SELECT name FROM forgotten")?;
            all.query_map([], |row| row.get(0).map(PersonNameDigest::from_bytes))?.collect()
        });
        self.suppression_list.replace(names.await?);
        Ok(())
    }
}

#[async_trait]
impl SubjectRights for SqliteJournal {
    async fn suppress(
        &self,
        site: SiteId,
        names: HashSet<PersonNameDigest>,
    ) -> Result<Arc<HashSet<PersonNameDigest>>, JournalError> {
        let _turn = self.forgetting.lock().await;
        let all = self.store.write_durably(move |c| suppress(c, site, &names));
        let all = all.await.map_err(JournalError::Write)?;
        self.load_forgotten().await?;
        Ok(Arc::new(all))
    }

    async fn lift_suppression(
        &self,
        site: SiteId,
        name: PersonNameDigest,
    ) -> Result<u64, JournalError> {
        let _turn = self.forgetting.lock().await;
        let lifted = self.store.write_durably(move |c| {
            let sql = "DELETE FROM forgotten WHERE person =
                (SELECT person FROM forgotten WHERE site = ? AND name = ?)";
            c.execute(sql, (site.0, name.to_bytes()))
        });
        let lifted = lifted.await.map_err(JournalError::Write)?;
        self.load_forgotten().await?;
        Ok(lifted as u64)
    }

    /// Repeats the search until nothing is found: events that are parked, die or are retried meanwhile
    /// move from one table to another.
    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ErasureCounts, JournalError> {
        let mut erased = ErasureCounts::default();
        loop {
            let (mut from, mut is_clean) = (Some(SubjectCursor::START), true);
            while let Some(at) = from {
                let SubjectRecordPage { records, next } =
                    self.run_search_step(site, names.clone(), at, true).await?;
                is_clean &= records.is_empty();
                from = next;
                let rows: Vec<SubjectCursor> = records.iter().map(|record| record.at).collect();
                drop(records);
                for rows in rows.chunks(ERASE_ROWS) {
                    let rows = rows.to_vec();
                    let step =
                        self.write_db(move |c| overwriting(c, || erase_rows(c, site, &rows)));
                    let step = step.await?;
                    erased.events += step.events;
                    erased.parked += step.parked;
                    erased.dead += step.dead;
                }
            }
            if is_clean {
                return Ok(erased);
            }
        }
    }

    async fn note_erased(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<(), JournalError> {
        // Durable, and with it all that was erased before it.
        let noted = self.store.write_durably(move |c| {
            let mut note =
                c.prepare_cached("UPDATE forgotten SET erased = 1 WHERE site = ? AND name = ?")?;
            names.iter().try_for_each(|name| note.execute((site.0, name.to_bytes())).map(drop))
        });
        noted.await.map_err(JournalError::Write)
    }

    async fn unfinished(&self) -> Result<Vec<UnfinishedErasure>, JournalError> {
        self.read_db(|c| {
            let mut people: BTreeMap<i64, UnfinishedErasure> = BTreeMap::new();
            let sql = "SELECT person, site, name FROM forgotten
                WHERE person IN (SELECT person FROM forgotten WHERE erased = 0)";
            let mut names = c.prepare_cached(sql)?;
            let mut rows = names.query([])?;
            while let Some(row) = rows.next()? {
                let site = SiteId(row.get(1)?);
                let new = || UnfinishedErasure { site, names: HashSet::new() };
                let person = people.entry(row.get(0)?).or_insert_with(new);
                person.names.insert(PersonNameDigest::from_bytes(row.get(2)?));
            }
            Ok(people.into_values().collect())
        })
        .await
    }

    async fn read_subject_records(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
        from: SubjectCursor,
    ) -> Result<SubjectRecordPage, JournalError> {
        self.run_search_step(site, names, from, false).await
    }
}

impl SqliteJournal {
    /// Runs one step of the search, with or without unreadable records: such a record may be any
    /// person's, so it is erased with any person's and shown to none.
    async fn run_search_step(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
        from: SubjectCursor,
        with_unreadable: bool,
    ) -> Result<SubjectRecordPage, JournalError> {
        self.read_db(move |c| {
            let look = SubjectSearch { connection: c, site, names: &names, with_unreadable };
            match from {
                SubjectCursor::Events(after) => look.events(after),
                SubjectCursor::Parked(reader, after) => look.parked(reader, after),
                SubjectCursor::Dead(after) => look.dead(after),
            }
        })
        .await
    }
}

/// Adds the names to the person who has one of them already, or to a new one. If they belong to several
/// people, these are merged into one.
fn suppress(
    connection: &Connection,
    site: SiteId,
    names: &HashSet<PersonNameDigest>,
) -> rusqlite::Result<HashSet<PersonNameDigest>> {
    let person: i64 =
        connection.query_row("SELECT coalesce(max(person), 0) + 1 FROM forgotten", [], |row| {
            row.get(0)
        })?;
    let sql = "UPDATE forgotten SET person = ?1, erased = 0 WHERE person =
        (SELECT person FROM forgotten WHERE site = ?2 AND name = ?3)";
    let mut join = connection.prepare_cached(sql)?;
    let mut add = connection.prepare_cached(
        "INSERT INTO forgotten (person, site, name) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for name in names {
        join.execute((person, site.0, name.to_bytes()))?;
        add.execute((person, site.0, name.to_bytes()))?;
    }
    let mut all = connection.prepare_cached("SELECT name FROM forgotten WHERE person = ?")?;
    all.query_map([person], |row| row.get(0).map(PersonNameDigest::from_bytes))?.collect()
}

/// Erases these rows. A row that has gone or changed since it was read is not counted.
fn erase_rows(
    connection: &Connection,
    site: SiteId,
    rows: &[SubjectCursor],
) -> rusqlite::Result<ErasureCounts> {
    let mut erased = ErasureCounts::default();
    for row in rows {
        match *row {
            SubjectCursor::Events(seq) => {
                // The digest of its message id is erased as well; ids are often made of something known.
                let sql = "UPDATE events SET body = '', flags = 0, message = zeroblob(16)
                    WHERE place = ? AND body <> ''";
                let changed = connection.prepare_cached(sql)?.execute([place(site, seq)])?;
                outcomes::remove(connection, site, &[seq])?;
                erased.events += changed as u64;
            }
            SubjectCursor::Parked(reader, seq) => {
                let sql = "DELETE FROM parked WHERE reader = ? AND seq = ? AND body IS NOT NULL";
                let changed = connection.prepare_cached(sql)?.execute((reader, seq))?;
                connection
                    .prepare_cached("UPDATE readers SET skipped = skipped + ? WHERE id = ?")?
                    .execute((changed as u64, reader))?;
                erased.parked += changed as u64;
            }
            SubjectCursor::Dead(id) => {
                let changed =
                    connection.prepare_cached("DELETE FROM dead WHERE id = ?")?.execute([id])?;
                erased.dead += changed as u64;
            }
        }
    }
    Ok(erased)
}

/// A search for records that carry one of the names.
struct SubjectSearch<'l> {
    connection: &'l Connection,
    site: SiteId,
    names: &'l HashSet<PersonNameDigest>,
    with_unreadable: bool,
}

/// The rows that a step has read, and those it found.
#[derive(Default)]
struct SubjectSearchStep {
    held: Vec<SubjectRecord>,
    rows: usize,
    bytes: usize,
    last: Option<SubjectCursor>,
}

impl SubjectSearchStep {
    /// Adds a row. Returns false when the step has read enough.
    fn take(&mut self, look: &SubjectSearch<'_>, held: SubjectRecord) -> bool {
        self.rows += 1;
        self.bytes += held.body.len();
        self.last = Some(held.at);
        let is_theirs = || match carries(look.names, look.site, &held.body) {
            RecordNameMatch::Yes => true,
            RecordNameMatch::No => false,
            RecordNameMatch::Unreadable => look.with_unreadable,
        };
        if !held.body.is_empty() && is_theirs() {
            self.held.push(held);
        }
        self.rows < LOOK_ROWS && self.bytes < LOOK_BYTES
    }

    /// Returns the page with the next position: behind the last row, or in the next table.
    fn page(self, is_end: bool, then: Option<SubjectCursor>) -> SubjectRecordPage {
        SubjectRecordPage { records: self.held, next: if is_end { then } else { self.last } }
    }
}

impl SubjectSearch<'_> {
    fn events(&self, after: u64) -> rusqlite::Result<SubjectRecordPage> {
        let sql = "SELECT place - ?1, received_at, body FROM events
            WHERE place > ?2 AND place <= ?3 ORDER BY place";
        let mut query = self.connection.prepare_cached(sql)?;
        let site = |seq| place(self.site, seq);
        let mut rows = query.query((site(0), site(after), site(MAX_SEQ)))?;
        let mut step = SubjectSearchStep::default();
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            let held = SubjectRecord {
                at: SubjectCursor::Events(seq),
                seq,
                reader: None,
                time: time(row.get(1)?),
                reason: None,
                body: text_bytes(row, 2)?,
            };
            if !step.take(self, held) {
                return Ok(step.page(false, None));
            }
        }
        Ok(step.page(true, Some(SubjectCursor::Parked(0, 0))))
    }

    /// Reads only events with their own body: the others are events of the journal.
    fn parked(&self, reader: u32, after: u64) -> rusqlite::Result<SubjectRecordPage> {
        let sql = "SELECT reader, seq, received_at, body FROM parked
            WHERE (reader, seq) > (?1, ?2) AND body IS NOT NULL
                AND reader IN (SELECT id FROM readers WHERE site = ?3)
            ORDER BY reader, seq";
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query((reader, after, self.site.0))?;
        let mut step = SubjectSearchStep::default();
        while let Some(row) = rows.next()? {
            let (reader, seq) = (row.get(0)?, row.get(1)?);
            let held = SubjectRecord {
                at: SubjectCursor::Parked(reader, seq),
                seq,
                reader: Some(ReaderId(reader)),
                time: time(row.get::<_, Option<i64>>(2)?.unwrap_or_default()),
                reason: None,
                body: text_bytes(row, 3)?,
            };
            if !step.take(self, held) {
                return Ok(step.page(false, None));
            }
        }
        Ok(step.page(true, Some(SubjectCursor::Dead(0))))
    }

    fn dead(&self, after: i64) -> rusqlite::Result<SubjectRecordPage> {
        let sql = "SELECT id, reader, seq, at, reason, detail, body FROM dead
            WHERE id > ?1 AND reader IN (SELECT id FROM readers WHERE site = ?2) ORDER BY id";
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query((after, self.site.0))?;
        let mut step = SubjectSearchStep::default();
        while let Some(row) = rows.next()? {
            let held = SubjectRecord {
                at: SubjectCursor::Dead(row.get(0)?),
                seq: row.get(2)?,
                reader: Some(ReaderId(row.get(1)?)),
                time: time(row.get(3)?),
                reason: Some(DeadLetterReason { code: row.get(4)?, detail: row.get(5)? }),
                body: text_bytes(row, 6)?,
            };
            if !step.take(self, held) {
                return Ok(step.page(false, None));
            }
        }
        Ok(step.page(true, None))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{JournalTestBench, dead, settings};
    use super::*;
    use crate::journal::{
        DeadLetterFilter, DeadLetterSelection, EndedEvent, Ending, Journal, JournalReadLimits,
        JournalSearch, MessageKey, NewJournalRecord, ParkRequest, PersonNameKind, ReaderPosition,
        ReaderSettlement,
    };
    use tagway_core::clock::Clock;

    fn body(user: &str) -> String {
        format!(
            r#"{{"type":"track","messageId":"m","timestamp":"2026-11-23T10:00:00Z",
                "receivedAt":"2026-11-23T10:00:00Z","userId":"{user}"}}"#
        )
    }

    async fn append(b: &JournalTestBench, people: &[&str]) {
        let record = |(n, user): (usize, &&str)| NewJournalRecord {
            site: b.site,
            message: MessageKey::new("shop", &format!("{user}{n}")),
            rank: tagway_core::event::SenderRank::Server,
            received_at: b.clock.now(),
            identifies: true,
            body: body(user).into_bytes(),
        };
        b.journal.append(people.iter().enumerate().map(record).collect()).await.unwrap();
    }

    async fn settle(
        b: &JournalTestBench,
        cursor: u64,
        ended: Vec<EndedEvent>,
        park: Vec<ParkRequest>,
    ) {
        let position = ReaderPosition { cursor, ahead: Vec::new() };
        let settlement = ReaderSettlement { position, ended, park };
        b.journal.settle(b.reader, settlement).await.unwrap();
    }

    fn ended(seq: u64, ending: Ending) -> EndedEvent {
        EndedEvent { seq, was_parked: false, attempts: 1, ending }
    }

    fn names(b: &JournalTestBench, names: &[&str]) -> HashSet<PersonNameDigest> {
        names.iter().map(|name| PersonNameDigest::new(b.site, PersonNameKind::User, name)).collect()
    }

    #[tokio::test]
    async fn erase_removes_a_person_from_every_table_and_keeps_the_account() {
        let mut b = JournalTestBench::new(settings()).await;
        append(&b, &["ann", "bob", "ann", "ann", "ann", "bob"]).await;
        let all = [(1, dead()), (2, dead()), (3, dead()), (4, Ending::Delivered)];
        let all = all.map(|(seq, ending)| ended(seq, ending));
        settle(&b, 4, all.into(), vec![]).await;
        // One letter is retried and brings its body along; the others stay letters.
        b.journal.retry_dead(DeadLetterSelection::Ids(vec![3])).await.unwrap();
        let names = b.journal.suppress(b.site, names(&b, &["ann"])).await.unwrap();
        let erased = b.journal.erase(b.site, names.clone()).await.unwrap();
        assert_eq!(erased, ErasureCounts { events: 4, parked: 1, dead: 1 });
        assert_eq!(b.journal.erase(b.site, names).await.unwrap(), ErasureCounts::default());
        let ledger = b.ledger().await;
        assert_eq!((ledger.dead, ledger.skipped, ledger.pending), (2, 1, 2));
        let limit = JournalReadLimits { events: 10, bytes: 1000 };
        let records = b.journal.read(b.site, 0, 9, limit).await.unwrap();
        let kept: Vec<_> =
            records.iter().filter(|it| !it.body.is_empty()).map(|it| it.seq).collect();
        assert_eq!((records.len(), kept), (6, vec![2, 6]), "places stay, and so do others' events");
        assert_eq!(b.journal.read_identifying(b.site, 0, 9, 10).await.unwrap().len(), 2);
        let reader = b.reader;
        let kept = move |c: &Connection| {
            let is_kept = |seq| outcomes::last(c, reader, seq).map(|kept| kept.is_some());
            (1..=6).map(is_kept).collect()
        };
        let kept: Vec<bool> = b.journal.read_db(kept).await.unwrap();
        assert_eq!(kept, [false, true, false, false, false, false], "her outcomes go as well");
        let letters =
            b.journal.list_dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap();
        assert_eq!(letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [2]);
        // An event that was in flight meanwhile and is refused leaves no letter that might quote it.
        settle(&b, 6, vec![ended(5, dead()), ended(6, dead())], vec![]).await;
        assert_eq!(
            b.journal.list_dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().len(),
            2
        );
        b.ledger().await;
        b.reopen().await;
        assert_eq!(b.journal.head(b.site).borrow().seq, 6);
    }

    #[tokio::test]
    async fn suppressed_names_and_unfinished_erasures_survive_a_restart() {
        let mut b = JournalTestBench::new(settings()).await;
        let first = b.journal.suppress(b.site, names(&b, &["ann", "device"])).await.unwrap();
        b.journal.note_erased(b.site, first).await.unwrap();
        assert!(b.journal.unfinished().await.unwrap().is_empty());
        let all = b.journal.suppress(b.site, names(&b, &["device", "phone"])).await.unwrap();
        assert_eq!(*all, names(&b, &["ann", "device", "phone"]), "one person by the common name");
        b.journal.suppress(b.site, names(&b, &["bob"])).await.unwrap();
        b.reopen().await;
        let mut unfinished = b.journal.unfinished().await.unwrap();
        unfinished.sort_by_key(|person| person.names.len());
        let of = |names| UnfinishedErasure { site: b.site, names };
        assert_eq!(unfinished, [of(names(&b, &["bob"])), of((*all).clone())]);
        let is_forgotten =
            |user: &str| b.journal.suppression_list().matches_body(b.site, body(user).as_bytes());
        assert!(["ann", "phone", "bob"].into_iter().all(is_forgotten) && !is_forgotten("cid"));
        let phone = PersonNameDigest::new(b.site, PersonNameKind::User, "phone");
        assert_eq!(b.journal.lift_suppression(b.site, phone).await.unwrap(), 3);
        assert!(!is_forgotten("ann") && is_forgotten("bob"));
    }

    #[tokio::test]
    async fn search_continues_from_step_to_step_and_table_to_table() {
        let b = JournalTestBench::new(settings()).await;
        let mut people = vec!["bob"; LOOK_ROWS];
        people.push("ann");
        append(&b, &people).await;
        settle(&b, 1, vec![ended(1, dead())], vec![]).await;
        let (names, mut from, mut seen) =
            (Arc::new(names(&b, &["ann"])), SubjectCursor::START, vec![]);
        let mut steps = 0;
        loop {
            let page = b.journal.read_subject_records(b.site, names.clone(), from).await.unwrap();
            seen.extend(page.records.iter().map(|held| held.seq));
            steps += 1;
            let Some(next) = page.next else { break };
            from = next;
        }
        assert_eq!((seen, steps), (vec![LOOK_ROWS as u64 + 1], 4));
    }

    #[tokio::test]
    async fn unreadable_record_is_erased_with_any_person_and_shown_to_none() {
        let b = JournalTestBench::new(settings()).await;
        append(&b, &["bob", "ann"]).await;
        let unreadable = NewJournalRecord {
            site: b.site,
            message: MessageKey::new("shop", "odd"),
            rank: tagway_core::event::SenderRank::Server,
            received_at: b.clock.now(),
            identifies: true,
            body: br#"{"userId":"ann","traits":{"n":1e999}}"#.to_vec(),
        };
        b.journal.append(vec![unreadable]).await.unwrap();
        let names = Arc::new(names(&b, &["ann"]));
        let shown = b
            .journal
            .read_subject_records(b.site, names.clone(), SubjectCursor::START)
            .await
            .unwrap();
        assert_eq!(shown.records.iter().map(|held| held.seq).collect::<Vec<_>>(), [2]);
        let erased = b.journal.erase(b.site, names).await.unwrap();
        assert_eq!(erased.events, 2, "hers and the unreadable one, and not bob's");
    }
}

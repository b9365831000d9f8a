//! The audit log: who did what, when. Rows form a chain of hashes, so that changed, removed and inserted rows are
//! found. Its rows hold no passwords, no secrets and no personal data of visitors.
//!
//! The chain has no key: who can write the database can compute a new chain. The hash of each row is therefore also
//! in the program's log (`target=audit`), which is usually elsewhere.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::ConsoleStoreError;
use tagway_core::clock::SharedClock;
use tagway_settings::can_fool;
use tagway_storage::store::{SqliteMigrations, SqliteStore};

/// The tables of this module. `AUTOINCREMENT` keeps the greatest id that was ever used: removed newest rows leave a
/// gap. `audit_start` has the last row that retention removed.
pub(super) const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "console_audit",
    steps: &["CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
            actor TEXT NOT NULL, via TEXT NOT NULL, action TEXT NOT NULL, site TEXT, object TEXT,
            detail TEXT, previous BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
        CREATE TABLE audit_start (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL,
            hash BLOB NOT NULL) STRICT;"],
};

/// The longest name, action, site or object of a row, in characters: names of the configuration are shorter.
const NAME_CHARS: usize = 200;

/// The longest detail of a row, in characters: a line that people read.
const DETAIL_CHARS: usize = 1000;

/// The rows that are kept: 400 days, so that a year can be compared, of at most a million rows (about 300 MB).
const KEPT_TIME: SignedDuration = SignedDuration::from_hours(400 * 24);
const KEPT_ROWS: i64 = 1_000_000;

/// The most rows that one run of the retention removes: a run takes milliseconds of the database's writer.
const TRIM_ROWS: i64 = 5000;

/// The most rows that one page looks at: a filter that matches little must not read the whole log.
const SCAN_ROWS: i64 = 50_000;

/// The most rows of a page.
pub const PAGE_ROWS: usize = 1000;

/// The rows that one check of the chain reads.
pub const CHECK_ROWS: usize = 10_000;

/// The hash before the first row.
const NO_HASH: [u8; 32] = [0; 32];

/// The log of acts in the embedded database.
pub struct AuditLog {
    store: Arc<SqliteStore>,
    clock: SharedClock,
}

/// An act, before it is a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// The name of the account or token.
    pub actor: String,
    /// The kind of the credentials: `session`, `token`, `file` and others.
    pub via: &'static str,
    /// The act, such as `destination.pause`.
    pub action: &'static str,
    /// The site that it is about.
    pub site: Option<String>,
    /// The thing that it is about.
    pub object: Option<String>,
    /// The result, and more for people.
    pub detail: Option<String>,
}

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditRow {
    /// Its number. Numbers have no gaps.
    pub id: i64,
    /// The time of the act.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The name of the account or token.
    pub actor: String,
    /// The kind of the credentials: `session`, `token`, `file` and others.
    pub via: String,
    /// The act, such as `destination.pause`.
    pub action: String,
    /// The site that it is about.
    pub site: Option<String>,
    /// The thing that it is about.
    pub object: Option<String>,
    /// The result, and more for people.
    pub detail: Option<String>,
}

/// The filter of a page; `None` matches everything.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only rows with a smaller id.
    pub before: Option<i64>,
    /// The name of the account or token.
    pub actor: Option<String>,
    /// An act, or a kind of acts such as `destination.*`.
    pub action: Option<String>,
    /// Only acts about this site.
    pub site: Option<String>,
    /// The most rows, at most [`PAGE_ROWS`].
    pub limit: usize,
}

/// The result of a check of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditChainCheck {
    /// False if a row was changed, removed or inserted.
    pub ok: bool,
    /// The number of rows that were checked.
    pub checked: u64,
    /// The first row that does not fit.
    pub broken_at: Option<i64>,
}

/// Some rows, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditPage {
    /// The acts that match, the newest first.
    pub rows: Vec<AuditRow>,
    /// The value of `before` for the next page; null at the end.
    pub next: Option<i64>,
    /// The check of these rows, each with the row before it.
    pub chain: AuditChainCheck,
}

/// The check of some rows, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditCheckPage {
    /// The check of these rows.
    pub chain: AuditChainCheck,
    /// The value of `after` for the next page; null at the end.
    pub next: Option<i64>,
}

/// A row with its hashes, and the hash of the row before it.
struct ChainedRow {
    row: AuditRow,
    at_milliseconds: i64,
    previous: Vec<u8>,
    hash: Vec<u8>,
    /// The hash of the row with the number before, or of the removed row before the first.
    before: Option<Vec<u8>>,
}

impl AuditLog {
    /// Opens the log in the store, which must have [`super::MIGRATIONS`].
    pub fn new(store: Arc<SqliteStore>, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    /// Appends a row. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// Fails if the disk refuses the write.
    pub async fn append(&self, entry: AuditEntry) -> Result<i64, ConsoleStoreError> {
        let entry = bounded(entry);
        let (at, kept) = (self.clock.now().as_millisecond(), entry.clone());
        let (id, hash) = self.store.write_durably(move |c| insert(c, at, &kept)).await?;
        let AuditEntry { actor, via, action, site, object, detail } = entry;
        tracing::info!(
            target: "audit", id, actor, via, action, site, object, detail,
            hash = hex::encode(hash), "an act"
        );
        Ok(id)
    }

    /// Reads a page.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn page(&self, filter: AuditFilter) -> Result<AuditPage, ConsoleStoreError> {
        Ok(self.store.read(move |c| read_page(c, &filter)).await?)
    }

    /// Checks the rows after this one, at most [`CHECK_ROWS`]. `None` begins at the oldest.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn check(&self, after: Option<i64>) -> Result<AuditCheckPage, ConsoleStoreError> {
        Ok(self.store.read(move |c| check_rows(c, after)).await?)
    }

    /// Removes some of the rows that are too old, or too many. Returns their number.
    ///
    /// # Errors
    ///
    /// Fails if the disk refuses the write.
    pub async fn trim(&self) -> Result<usize, ConsoleStoreError> {
        let since = self.clock.now().checked_sub(KEPT_TIME).unwrap_or(Timestamp::MIN);
        Ok(self.store.write(move |c| remove_old(c, since.as_millisecond(), KEPT_ROWS)).await?)
    }
}

/// Cuts the texts, and replaces control characters.
fn bounded(entry: AuditEntry) -> AuditEntry {
    let cut = |text: String, chars: usize| -> String {
        let shown = text.chars().map(|c| if can_fool(c) { '\u{fffd}' } else { c });
        shown.take(chars).collect()
    };
    AuditEntry {
        actor: cut(entry.actor, NAME_CHARS),
        site: entry.site.map(|text| cut(text, NAME_CHARS)),
        object: entry.object.map(|text| cut(text, NAME_CHARS)),
        detail: entry.detail.map(|text| cut(text, DETAIL_CHARS)),
        ..entry
    }
}

/// Computes the hash of a row. Each text has its length before it, so that no two rows have the same input.
fn hash_of(previous: &[u8], id: i64, at: i64, texts: [Option<&str>; 6]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(id.to_le_bytes());
    hash.update(at.to_le_bytes());
    for text in texts {
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        hash.update(length.to_le_bytes());
        hash.update(text.unwrap_or_default());
    }
    hash.finalize().into()
}

fn insert(c: &Connection, at: i64, entry: &AuditEntry) -> rusqlite::Result<(i64, [u8; 32])> {
    let last = "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1";
    let pair = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
    let last = match c.query_row(last, [], pair).optional()? {
        Some(last) => last,
        None => start(c)?,
    };
    let used = "SELECT seq FROM sqlite_sequence WHERE name = 'audit'";
    let used: i64 = c.query_row(used, [], |row| row.get(0)).optional()?.unwrap_or(0);
    let (id, previous) = (last.0.max(used) + 1, last.1);
    let AuditEntry { actor, via, action, site, object, detail } = entry;
    let texts = [
        Some(actor.as_str()),
        Some(via),
        Some(action),
        site.as_deref(),
        object.as_deref(),
        detail.as_deref(),
    ];
    let hash = hash_of(&previous, id, at, texts);
    c.prepare_cached(
        "INSERT INTO audit (id, at, actor, via, action, site, object, detail, previous, hash)
         VALUES (:id, :at, :actor, :via, :action, :site, :object, :detail, :previous, :hash)",
    )?
    .execute(named_params! {
        ":id": id, ":at": at, ":actor": actor, ":via": via, ":action": action, ":site": site,
        ":object": object, ":detail": detail, ":previous": previous, ":hash": hash,
    })?;
    Ok((id, hash))
}

/// The last removed row, and its hash.
fn start(c: &Connection) -> rusqlite::Result<(i64, Vec<u8>)> {
    let sql = "SELECT id, hash FROM audit_start";
    let found = c.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.unwrap_or((0, NO_HASH.to_vec())))
}

/// The columns of [`ChainedRow`], with the row before.
const CHAINED: &str = "SELECT a.id, a.at, a.actor, a.via, a.action, a.site, a.object, a.detail,
        a.previous, a.hash, p.hash
    FROM audit a LEFT JOIN audit p ON p.id = a.id - 1";

fn chained(row: &Row<'_>) -> rusqlite::Result<ChainedRow> {
    let at_milliseconds = row.get(1)?;
    Ok(ChainedRow {
        row: AuditRow {
            id: row.get(0)?,
            at: Timestamp::from_millisecond(at_milliseconds).unwrap_or_default(),
            actor: row.get(2)?,
            via: row.get(3)?,
            action: row.get(4)?,
            site: row.get(5)?,
            object: row.get(6)?,
            detail: row.get(7)?,
        },
        at_milliseconds,
        previous: row.get(8)?,
        hash: row.get(9)?,
        before: row.get(10)?,
    })
}

impl ChainedRow {
    /// Returns true if the row has its own hash, and continues the row before.
    fn is_sound(&self, (start_id, start_hash): &(i64, Vec<u8>)) -> bool {
        let AuditRow { id, actor, via, action, site, object, detail, .. } = &self.row;
        let texts = [
            Some(actor.as_str()),
            Some(via),
            Some(action),
            site.as_deref(),
            object.as_deref(),
            detail.as_deref(),
        ];
        let first = (*id == start_id + 1).then_some(start_hash);
        let before = self.before.as_ref().or(first);
        before == Some(&self.previous)
            && self.hash == hash_of(&self.previous, *id, self.at_milliseconds, texts)
    }
}

/// Checks the rows, which are in any order.
fn check_chain<'r>(
    rows: impl Iterator<Item = &'r ChainedRow>,
    start: &(i64, Vec<u8>),
) -> AuditChainCheck {
    let (mut checked, mut broken_at) = (0, None::<i64>);
    for row in rows {
        checked += 1;
        if !row.is_sound(start) {
            broken_at = Some(broken_at.map_or(row.row.id, |other| other.min(row.row.id)));
        }
    }
    AuditChainCheck { ok: broken_at.is_none(), checked, broken_at }
}

fn read_page(c: &Connection, filter: &AuditFilter) -> rusqlite::Result<AuditPage> {
    let limit = filter.limit.clamp(1, PAGE_ROWS);
    let newest: i64 =
        c.query_row("SELECT coalesce(max(id), 0) FROM audit", [], |row| row.get(0))?;
    let before = filter.before.unwrap_or(i64::MAX).min(newest + 1);
    let (from, start) = ((before - SCAN_ROWS).max(0), start(c)?);
    let kind = filter.action.as_deref().and_then(|action| action.strip_suffix('*'));
    let action = filter.action.as_deref().filter(|_| kind.is_none());
    let sql = format!(
        "{CHAINED} WHERE a.id < :before AND a.id >= :from
           AND (:actor IS NULL OR a.actor = :actor) AND (:site IS NULL OR a.site = :site)
           AND (:action IS NULL OR a.action = :action)
           AND (:kind IS NULL OR substr(a.action, 1, length(:kind)) = :kind)
         ORDER BY a.id DESC LIMIT :limit"
    );
    let mut statement = c.prepare_cached(&sql)?;
    let found = statement.query_map(
        named_params! {
            ":before": before, ":from": from, ":actor": filter.actor, ":site": filter.site,
            ":action": action, ":kind": kind, ":limit": limit,
        },
        chained,
    )?;
    let rows = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let last = rows.last().filter(|_| rows.len() == limit).map(|row| row.row.id);
    let next = last.unwrap_or(from);
    let next = (next > start.0 + 1).then_some(next);
    let chain = check_chain(rows.iter(), &start);
    Ok(AuditPage { rows: rows.into_iter().map(|row| row.row).collect(), next, chain })
}

fn check_rows(c: &Connection, after: Option<i64>) -> rusqlite::Result<AuditCheckPage> {
    let start = start(c)?;
    let after = after.unwrap_or(start.0);
    let sql = format!("{CHAINED} WHERE a.id > ?1 ORDER BY a.id LIMIT ?2");
    let mut statement = c.prepare_cached(&sql)?;
    let rows = statement.query_map((after, CHECK_ROWS), chained)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut chain = check_chain(rows.iter(), &start);
    let last = rows.last().map(|row| row.row.id);
    let next = last.filter(|_| rows.len() == CHECK_ROWS);
    if next.is_none() && chain.ok {
        // The newest rows may have been removed.
        let used = "SELECT seq FROM sqlite_sequence WHERE name = 'audit'";
        let used: i64 = c.query_row(used, [], |row| row.get(0)).optional()?.unwrap_or(0);
        let end = last.unwrap_or(after.max(start.0));
        if used > end {
            chain = AuditChainCheck { ok: false, broken_at: Some(end + 1), ..chain };
        }
    }
    Ok(AuditCheckPage { chain, next })
}

fn remove_old(c: &Connection, since: i64, keep: i64) -> rusqlite::Result<usize> {
    let last: Option<i64> = c.query_row(
        "SELECT max(id) FROM (SELECT id, at FROM audit ORDER BY id LIMIT ?1)
         WHERE at < ?2 OR id <= (SELECT max(id) FROM audit) - ?3",
        (TRIM_ROWS, since, keep),
        |row| row.get(0),
    )?;
    let Some(last) = last else { return Ok(0) };
    c.execute(
        "INSERT INTO audit_start (one, id, hash) SELECT 1, id, hash FROM audit WHERE id = ?1
         ON CONFLICT (one) DO UPDATE SET id = excluded.id, hash = excluded.hash",
        [last],
    )?;
    c.execute("DELETE FROM audit WHERE id <= ?1", [last])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_core::clock::ManualClock;
    use tagway_storage::store::CommitSyncMode;

    struct TestLog {
        log: AuditLog,
        clock: Arc<ManualClock>,
        _folder: tempfile::TempDir,
    }

    impl TestLog {
        async fn new(rows: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(
                folder.path(),
                CommitSyncMode::Os,
                crate::MIGRATIONS,
                Arc::default(),
            );
            let clock = Arc::new(ManualClock::new("2026-12-01T10:00:00Z".parse().unwrap()));
            let log = AuditLog::new(Arc::new(store.unwrap()), clock.clone());
            let this = Self { log, clock, _folder: folder };
            for _ in 0..rows {
                this.add("ana", "dead.retry").await;
            }
            this
        }

        async fn add(&self, actor: &str, action: &'static str) -> i64 {
            let entry = AuditEntry {
                actor: actor.to_owned(),
                via: "session",
                action,
                site: Some("shop".to_owned()),
                detail: Some("2 letters".to_owned()),
                ..AuditEntry::default()
            };
            self.log.append(entry).await.unwrap()
        }

        async fn tamper(&self, sql: &'static str) {
            self.log.store.write(move |c| c.execute_batch(sql)).await.unwrap();
        }

        async fn broken_at(&self) -> Option<i64> {
            let check = self.log.check(None).await.unwrap().chain;
            assert_eq!(check.ok, check.broken_at.is_none());
            check.broken_at
        }
    }

    #[tokio::test]
    async fn chain_finds_changed_removed_and_inserted_rows() {
        let cases = [
            ("SELECT 1", None),
            ("UPDATE audit SET actor = 'bob' WHERE id = 3", Some(3)),
            ("UPDATE audit SET detail = NULL WHERE id = 3", Some(3)),
            ("UPDATE audit SET at = at + 1 WHERE id = 1", Some(1)),
            ("DELETE FROM audit WHERE id = 3", Some(4)),
            ("DELETE FROM audit WHERE id <= 2", Some(3)),
            ("DELETE FROM audit WHERE id >= 5", Some(5)),
            ("DELETE FROM audit", Some(1)),
            ("UPDATE audit SET id = 9 WHERE id = 5", Some(9)),
        ];
        for (sql, broken_at) in cases {
            let test = TestLog::new(5).await;
            test.tamper(sql).await;
            assert_eq!(test.broken_at().await, broken_at, "{sql}");
        }
        let test = TestLog::new(5).await;
        test.tamper("DELETE FROM audit WHERE id >= 5").await;
        test.add("ana", "dead.drop").await;
        assert_eq!(test.broken_at().await, Some(6), "later rows do not hide the gap");
    }

    #[tokio::test]
    async fn pages_are_filtered_and_checked() {
        let test = TestLog::new(3).await;
        test.add("bob", "session.begin").await;
        test.add("bob", "session.end").await;
        let page = async |filter: AuditFilter| test.log.page(filter).await.unwrap();
        let first = page(AuditFilter { limit: 2, ..AuditFilter::default() }).await;
        assert_eq!(first.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [5, 4]);
        let AuditRow { actor, via, action, site, .. } = &first.rows[0];
        assert_eq!(
            (actor.as_str(), via.as_str(), action.as_str()),
            ("bob", "session", "session.end")
        );
        assert_eq!(site.as_deref(), Some("shop"));
        assert_eq!(first.chain, AuditChainCheck { ok: true, checked: 2, broken_at: None });
        let rest = AuditFilter { before: first.next, limit: 10, ..AuditFilter::default() };
        let rest = page(rest).await;
        assert_eq!((rest.rows.len(), rest.next), (3, None));
        let kind = Some("session.*".to_owned());
        let kind = page(AuditFilter { action: kind, limit: 9, ..AuditFilter::default() }).await;
        assert_eq!(kind.rows.len(), 2);
        let actor =
            AuditFilter { actor: Some("ana".to_owned()), limit: 9, ..AuditFilter::default() };
        assert_eq!(page(actor).await.rows.len(), 3);
        test.tamper("UPDATE audit SET actor = 'bob' WHERE id = 1").await;
        let forged =
            AuditFilter { actor: Some("bob".to_owned()), limit: 9, ..AuditFilter::default() };
        assert_eq!(page(forged).await.chain.broken_at, Some(1));
    }

    #[tokio::test]
    async fn retention_moves_the_start_of_the_chain() {
        let test = TestLog::new(3).await;
        assert_eq!(test.log.trim().await.unwrap(), 0);
        test.clock.advance(401 * 24 * 3_600_000);
        test.add("ana", "dead.drop").await;
        assert_eq!(test.log.trim().await.unwrap(), 3);
        assert_eq!(test.broken_at().await, None);
        let kept = test.log.page(AuditFilter { limit: 9, ..AuditFilter::default() }).await.unwrap();
        assert_eq!((kept.rows.len(), kept.next, kept.chain.ok), (1, None, true));
        let removed = test.log.store.write(|c| remove_old(c, 0, 0)).await.unwrap();
        assert_eq!(removed, 1);
        assert_eq!(test.add("ana", "dead.drop").await, 5, "numbers go on");
        assert_eq!(test.broken_at().await, None);
        test.tamper("DELETE FROM audit_start").await;
        assert_eq!(test.broken_at().await, Some(5));
    }

    #[tokio::test]
    async fn long_and_foreign_texts_are_cut() {
        let test = TestLog::new(0).await;
        let (long, foreign) = ("x".repeat(5000), "a\u{1b}[2J\nb".to_owned());
        let entry = AuditEntry {
            actor: foreign,
            detail: Some(long.clone()),
            object: Some(long),
            ..AuditEntry::default()
        };
        test.log.append(entry).await.unwrap();
        let page = test.log.page(AuditFilter { limit: 9, ..AuditFilter::default() }).await.unwrap();
        let row = &page.rows[0];
        assert_eq!(row.actor, "a\u{fffd}[2J\u{fffd}b");
        assert_eq!(row.detail.as_ref().unwrap().len(), DETAIL_CHARS);
        assert_eq!(row.object.as_ref().unwrap().len(), NAME_CHARS);
        assert_eq!(test.broken_at().await, None);
    }
}

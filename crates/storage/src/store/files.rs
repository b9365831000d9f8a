//! Checks the database's files before anything opens them.
//!
//! SQLite makes an empty database of a file of no bytes, and drops a log that does not belong to it.
//! After a file was cut, replaced or lost, the gateway would start without its events and without an
//! error. Such files are refused, and nothing is changed.
//!
//! Not every damage can be found. A log of another time beside an intact file has other salts, and
//! SQLite ignores it; a file whose log was taken away is the database as it was at the last checkpoint.
//! Backups must keep the file and its log together.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// The application id of this program's SQLite files: "TGWY".
const APPLICATION_ID: u32 = 0x5447_5759;

/// The lengths of a database's header, of its log's and of each page's in the log
/// (<https://sqlite.org/fileformat.html>).
const HEADER_BYTES: usize = 100;
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

const MAGIC: &[u8] = b"SQLite format 3\0";

/// Database files that cannot be what the gateway left there.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFileError {
    /// The path is not a regular file.
    #[error(
        "{0} is not a regular file. Nothing was changed. Move it away, and restore the database if there is one"
    )]
    NoFile(PathBuf),
    /// The file has no bytes or is missing, and its log has some.
    #[error(
        "{path} has 0 bytes or is missing, but its log {path}-wal has {log_bytes}: the database was \
         lost or replaced. Nothing was changed. Put back {path} and {path}-wal from one backup; or, to \
         start without the old data, move {path}-wal and {path}-shm away"
    )]
    Lost {
        /// The path of the database.
        path: String,
        /// The length of its log, in bytes.
        log_bytes: u64,
    },
    /// The file has fewer pages than its header states, and its log does not have the others.
    #[error(
        "{path} is truncated: its header gives {wanted} bytes and the file has {found}. Nothing was \
        changed. Put back {path} and {path}-wal from one backup; what is left can be read with the sqlite3 \
         program's .recover"
    )]
    Cut {
        /// The path of the database.
        path: String,
        /// The length that the header states, in bytes.
        wanted: u64,
        /// The length of the file, in bytes.
        found: u64,
    },
    /// The file is not a database, or belongs to another program.
    #[error(
        "{0} is not a database of this program. Nothing was changed. Move it away, or set another data_dir"
    )]
    Foreign(PathBuf),
    /// The file cannot be read.
    #[error("{0} cannot be read")]
    Unreadable(PathBuf, #[source] io::Error),
}

/// Checks the files of the database at `path`, if there are any.
pub(super) fn examine(path: &Path) -> Result<(), DatabaseFileError> {
    let unreadable = |error| DatabaseFileError::Unreadable(path.to_owned(), error);
    let log = with_ending(path, "-wal");
    let log_bytes = metadata(&log).map_err(unreadable)?.map_or(0, |it| it.len());
    let length = match metadata(path).map_err(unreadable)? {
        Some(file) if !file.is_file() => return Err(DatabaseFileError::NoFile(path.to_owned())),
        file => file.map_or(0, |it| it.len()),
    };
    let name = || path.display().to_string();
    if length == 0 {
        return match log_bytes {
            0 => Ok(()),
            _ => Err(DatabaseFileError::Lost { path: name(), log_bytes }),
        };
    }
    let mut header = [0; HEADER_BYTES];
    let mut file = File::open(path).map_err(unreadable)?;
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(DatabaseFileError::Foreign(path.to_owned()));
        }
        read => read.map_err(unreadable)?,
    }
    let header = SqliteHeader::read(&header);
    let Some(header) = header.filter(|it| [0, APPLICATION_ID].contains(&it.application)) else {
        return Err(DatabaseFileError::Foreign(path.to_owned()));
    };
    let Some(pages) = header.pages else { return Ok(()) };
    let found = length / u64::from(header.page_bytes);
    if found >= u64::from(pages) {
        return Ok(());
    }
    // A checkpoint may have been interrupted: then the log has the pages that are missing here.
    let held = logged(&log, header.page_bytes).map_err(unreadable)?;
    let is_missing = |page: &u32| u64::from(*page) > found && !held.contains(page);
    match (1..=pages).any(|page| is_missing(&page)) {
        false => Ok(()),
        true => {
            let wanted = u64::from(pages) * u64::from(header.page_bytes);
            Err(DatabaseFileError::Cut { path: name(), wanted, found: length })
        }
    }
}

/// Returns true if the tables are another program's. That database stays unchanged.
pub(super) fn is_foreign(connection: &Connection) -> rusqlite::Result<bool> {
    let tables = "SELECT count(*) > 0 AND sum(name = 'migrations') = 0 FROM sqlite_schema";
    let is_foreign = connection.query_row(tables, [], |row| row.get::<_, Option<bool>>(0))?;
    let is_foreign = is_foreign.unwrap_or(false);
    if is_foreign {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    }
    Ok(is_foreign)
}

/// Writes this program's application id into the database.
pub(super) fn sign(connection: &Connection) -> rusqlite::Result<()> {
    let id: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    match id {
        APPLICATION_ID => Ok(()),
        _ => connection.pragma_update(None, "application_id", APPLICATION_ID),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match path.metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The header fields of a database that are checked.
struct SqliteHeader {
    page_bytes: u32,
    /// `None` if an old program wrote the header without a page count.
    pages: Option<u32>,
    application: u32,
}

impl SqliteHeader {
    fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let page_bytes = match u32::from(u16::from_be_bytes(*bytes.get(16..)?.first_chunk()?)) {
            // 1 stands for 65,536, which does not fit the field.
            1 => 1 << 16,
            bytes => bytes,
        };
        let (changes, version) = (number(bytes, 24)?, number(bytes, 92)?);
        let pages = Some(number(bytes, 28)?).filter(|_| changes == version);
        let application = number(bytes, 68)?;
        page_bytes.is_power_of_two().then_some(Self { page_bytes, pages, application })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Returns the numbers of the pages in a log, as far as its salts match.
fn logged(log: &Path, page_bytes: u32) -> io::Result<HashSet<u32>> {
    let mut pages = HashSet::new();
    let file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(pages),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut header = [0; LOG_HEADER_BYTES];
    if reader.read_exact(&mut header).is_err() || number(&header, 8) != Some(page_bytes) {
        return Ok(pages);
    }
    let marks = header.get(16..24);
    let mut frame = [0; FRAME_HEADER_BYTES];
    while reader.read_exact(&mut frame).is_ok() && frame.get(8..16) == marks {
        pages.extend(number(&frame, 0));
        reader.seek(SeekFrom::Current(page_bytes.into()))?;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::{CommitSyncMode, SqliteMigrations, SqliteStore, StoreOpenError};
    use super::*;
    use tagway_core::metrics::Metrics;

    const STEPS: &[&str] = &["CREATE TABLE t (n INTEGER PRIMARY KEY, text BLOB)"];

    fn open(folder: &Path) -> Result<SqliteStore, StoreOpenError> {
        let schema = SqliteMigrations { name: "test", steps: STEPS };
        SqliteStore::open(folder, CommitSyncMode::Os, &[schema], Arc::new(Metrics::new()))
    }

    async fn fill(store: &SqliteStore, rows: i64) {
        let fill = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT ?) \
                    INSERT INTO t (text) SELECT zeroblob(3000) FROM c";
        store.write_durably(move |c| c.execute(fill, [rows])).await.unwrap();
    }

    /// A data folder as a crash leaves it: copied while the store is open.
    async fn crashed(checkpoint: bool) -> tempfile::TempDir {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = open(from.path()).unwrap();
        fill(&store, 20).await;
        if checkpoint {
            let other = Connection::open(from.path().join("tagway.db")).unwrap();
            other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        }
        for name in ["tagway.db", "tagway.db-wal"] {
            fs::copy(from.path().join(name), to.path().join(name)).unwrap();
        }
        to
    }

    fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let each = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = each.filter(|path| path.is_file() && !path.ends_with("lock"));
        let mut all: Vec<_> =
            files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
        all.sort();
        all
    }

    /// Returns the message of the refusal, and checks that no file was changed.
    fn refusal(folder: &Path) -> String {
        let before = contents(folder);
        let Err(StoreOpenError::Unsound(error)) = open(folder) else { panic!("it opened") };
        assert!(contents(folder) == before, "nothing is changed");
        error.to_string()
    }

    #[tokio::test]
    async fn database_empty_or_missing_beside_its_log_is_refused() {
        for checkpoint in [false, true] {
            let folder = crashed(checkpoint).await;
            let path = folder.path().join("tagway.db");
            fs::write(&path, "").unwrap();
            let message = refusal(folder.path());
            assert!(message.contains("0 bytes") && message.contains("backup"), "{message}");
            fs::remove_file(&path).unwrap();
            assert!(refusal(folder.path()).contains("is missing"));
            assert!(!path.exists(), "none is made in its place");
            // The remedy that the message names.
            fs::remove_file(folder.path().join("tagway.db-wal")).unwrap();
            open(folder.path()).unwrap();
        }
    }

    #[tokio::test]
    async fn truncated_database_is_refused_unless_its_log_has_the_rest() {
        let folder = crashed(true).await;
        let path = folder.path().join("tagway.db");
        let length = fs::metadata(&path).unwrap().len();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(length - 4096 * 3 - 100).unwrap();
        // The log has all pages still: a checkpoint that was cut short.
        open(folder.path()).unwrap().close().await;
        let folder = crashed(true).await;
        let path = folder.path().join("tagway.db");
        fs::remove_file(folder.path().join("tagway.db-wal")).unwrap();
        open(folder.path()).unwrap().close().await;
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(length - 4096 * 3 - 100).unwrap();
        let message = refusal(folder.path());
        assert!(
            message.contains("is truncated") && message.contains(&length.to_string()),
            "{message}"
        );
    }

    #[tokio::test]
    async fn database_of_another_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tagway.db");
        fs::create_dir(&path).unwrap();
        assert!(refusal(folder.path()).contains("is not a regular file"));
        fs::remove_dir(&path).unwrap();
        for text in ["x", &"no database ".repeat(1000)] {
            fs::write(&path, text).unwrap();
            assert!(refusal(folder.path()).contains("not a database of this program"));
        }
        for sql in
            ["CREATE TABLE theirs (n)", "PRAGMA application_id = 7; CREATE TABLE migrations (n)"]
        {
            fs::remove_file(&path).unwrap();
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            assert!(refusal(folder.path()).contains("not a database of this program"), "{sql}");
        }
        // A database without an application id was written before ids were.
        fs::remove_file(&path).unwrap();
        open(folder.path()).unwrap().close().await;
        Connection::open(&path).unwrap().execute_batch("PRAGMA application_id = 0").unwrap();
        open(folder.path()).unwrap().close().await;
        let id =
            Connection::open(&path)
                .unwrap()
                .pragma_query_value(None, "application_id", |row| row.get::<_, u32>(0));
        assert_eq!(id.unwrap(), APPLICATION_ID);
    }
}

//! The embedded journal.

/// The journal in SQLite.
#[derive(Debug)]
pub struct SqliteJournal;

//! The embedded database.

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
#[error("the database refused the write")]
pub struct WriteError;

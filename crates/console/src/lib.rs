//! The data of the console: accounts, the audit log, time series and alerts.
//!
//! It stores them in the embedded database beside the journal. The HTTP routes over them are in the program's
//! `admin` module. Each module has its own tables and migrations ([`MIGRATIONS`]).

pub mod access;
pub mod account;
mod attempts;
pub mod audit;
pub mod issued_secret;
pub mod link;
pub mod password;
pub mod session;
#[cfg(test)]
mod tests;
pub mod token;

use std::sync::Arc;

use tagway_storage::store::{SqliteMigrations, StoreReadError, StoreWriteError};

/// The schemas of all modules, for the embedded database.
pub const MIGRATIONS: &[SqliteMigrations] = &[account::MIGRATIONS, audit::MIGRATIONS];

/// The reason that the console's data cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleStoreError {
    /// A read failed.
    #[error(transparent)]
    Read(#[from] StoreReadError),
    /// A write failed.
    #[error(transparent)]
    Write(#[from] Arc<StoreWriteError>),
}

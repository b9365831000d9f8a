//! The data of the console: accounts, the audit log, time series and alerts.
//!
//! It stores them in the embedded database beside the journal. The HTTP routes over them are in the program's
//! `admin` module. Each module has its own tables and migrations ([`MIGRATIONS`]).
//!
//! - [`access`] is the language of roles, [`audit`] the log of operators' acts.
//! - [`reading`] is one look at the running gateway, which the program takes twice a minute.
//! - [`series`] makes time series of the readings; [`alert`] evaluates rules over both, and notifies channels.

pub mod access;
pub mod account;
pub mod alert;
mod attempts;
pub mod audit;
pub mod issued_secret;
pub mod link;
pub mod password;
pub mod reading;
pub mod series;
pub mod session;
#[cfg(test)]
mod tests;
pub mod token;

use std::sync::Arc;

use tagway_storage::store::{SqliteMigrations, StoreReadError, StoreWriteError};

/// The schemas of all modules, for the embedded database.
pub const MIGRATIONS: &[SqliteMigrations] =
    &[account::MIGRATIONS, audit::MIGRATIONS, series::MIGRATIONS, alert::MIGRATIONS];

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

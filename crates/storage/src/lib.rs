//! Everything that the gateway keeps: accepted events, the profiles of visitors, and the databases below them.
//!
//! - [`journal`] appends events and is read by everything that follows them; `journal/guard.rs` prevents one
//!   record from stopping its readers at every start.
//! - [`profile`] follows the journal and stores the traits and counts of each visitor; it also reads traits
//!   from the site's external store.
//! - [`store`] is the embedded database: one writer thread, groups of commits, connections for readers. Only
//!   the SQLite backends use it. [`postgres`] is the database that gateways may share instead, for profiles and
//!   segments.

pub mod journal;
pub mod postgres;
pub mod profile;
pub mod store;

//! The data of the console: accounts, the audit log, time series and alerts.
//!
//! It stores them in the embedded database beside the journal. The HTTP routes over them are in the program's
//! `admin` module.

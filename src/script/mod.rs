//! First-party scripts.

pub mod proxy;

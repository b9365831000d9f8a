//! Tagway, a first-party tag gateway.

pub mod clock;
pub mod event;
pub mod feed;
pub mod metrics;
pub mod settings;
pub mod vendors;

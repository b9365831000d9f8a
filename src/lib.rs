//! Tagway, a first-party tag gateway.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod edge;
pub mod event;
pub mod feed;
pub mod gateway;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod privacy;
pub mod profile;
pub mod settings;
pub mod store;
pub mod vendors;
pub mod visitor;

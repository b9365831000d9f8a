//! The gateway from the clients', vendors' and operators' side: over the network, as a whole.
//!
//! One binary, so that it is linked once. `harness` starts gateways in this process and as the real
//! program; both check the ledger when they end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod abuse;
mod admin_tls;
mod alerts;
mod cdn;
mod certificates;
mod console;
mod delivery;
mod examples;
mod fate;
mod forget_kill;
mod harness;
mod identity;
mod intake;
mod libraries;
mod live;
mod mutants;
mod origin;
mod origin_clients;
mod origin_connections;
mod origin_pages;
mod outside;
mod overview;
mod pages;
mod pins;
mod poison;
mod privacy;
mod process;
mod profiles;
mod quotas;
mod recorded;
mod reload;
mod scripts;
mod secrets;
mod segments;
mod shared;
mod speaking;
mod start;
mod subjects;
mod vendors;

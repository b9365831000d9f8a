//! The gateway as its clients, vendors and operators meet it: over the network, in one piece.
//!
//! One binary, so that it is linked once. `harness` starts gateways in this process and as the real
//! program; both hold the ledger to its promise when they end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod abuse;
mod cdn;
mod certificates;
mod delivery;
mod fate;
mod forget_kill;
mod harness;
mod identity;
mod intake;
mod libraries;
mod mutants;
mod origin;
mod origin_clients;
mod origin_connections;
mod outside;
mod pages;
mod pins;
mod poison;
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

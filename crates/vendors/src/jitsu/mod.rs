//! Jitsu: its browser library's beacons (`docs/contracts/beacons.md` 7.3). Not a destination.

mod beacon;
mod script;

use super::Vendor;

/// Jitsu's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "jitsu",
    aliases: &["Jitsu"],
    beacon: Some(&beacon::JitsuBeacon),
    script: Some(&script::SCRIPT),
    ..Vendor::EMPTY
};

//! RudderStack: its browser library's beacons (`docs/contracts/beacons.md` 7.2). Not a destination.

mod beacon;
mod script;

use super::Vendor;

/// RudderStack's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "rudderstack",
    aliases: &["RudderStack"],
    beacon: Some(&beacon::RudderStackBeacon),
    script: Some(&script::SCRIPT),
    ..Vendor::EMPTY
};

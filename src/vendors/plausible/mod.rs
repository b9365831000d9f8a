//! Plausible: its browser script's beacons (`contracts/beacons.md` 9.1). It is no destination.

mod beacon;
mod script;

use super::Vendor;

/// Plausible's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "plausible",
    aliases: &["Plausible"],
    beacon: Some(&beacon::PlausibleBeacon),
    script: Some(&script::SCRIPT),
    ..Vendor::EMPTY
};

//! Plausible: its browser script's beacons (`docs/contracts/beacons.md` 9.1). Not a destination.

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

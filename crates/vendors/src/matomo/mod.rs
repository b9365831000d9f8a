//! Matomo: its browser library's beacons (`docs/contracts/beacons.md` 9.3). Not a destination.

mod beacon;
mod hit;
mod script;
#[cfg(test)]
mod tests;

use super::Vendor;

/// Matomo's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "matomo",
    aliases: &["Matomo"],
    beacon: Some(&beacon::MatomoBeacon),
    script: Some(&script::SCRIPT),
    ..Vendor::EMPTY
};

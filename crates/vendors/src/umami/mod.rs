//! Umami: its browser library's beacons (`docs/contracts/beacons.md` 9.2). Not a destination.

mod beacon;
mod script;
#[cfg(test)]
mod tests;

use super::Vendor;

/// Umami's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "umami",
    aliases: &["Umami"],
    beacon: Some(&beacon::UmamiBeacon),
    script: Some(&script::SCRIPT),
    ..Vendor::EMPTY
};

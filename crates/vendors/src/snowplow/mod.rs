//! Snowplow: its trackers' payloads, as its collector takes them (`docs/contracts/beacons.md` 9.4).
//! Not a destination.

mod beacon;
mod script;

use super::Vendor;

/// Snowplow's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "snowplow",
    aliases: &["Snowplow"],
    beacon: Some(&beacon::SnowplowBeacon),
    script: Some(&script::SCRIPT),
    ..Vendor::EMPTY
};

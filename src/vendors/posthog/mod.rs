//! PostHog: its browser library's beacons (`contracts/beacons.md` 8). It is no destination.

mod beacon;
mod event;
#[cfg(test)]
mod tests;

use super::Vendor;

/// PostHog's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "posthog",
    known_as: &["PostHog"],
    beacon: Some(&beacon::PostHog),
    shim: Some(include_str!("../../../static/sdk/dist/shims/posthog.js")),
    ..Vendor::NOTHING
};

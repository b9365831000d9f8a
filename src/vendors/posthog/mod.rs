//! PostHog: its browser library's beacons (`contracts/beacons.md` 8). It is no destination.

mod beacon;
mod event;
mod script;
#[cfg(test)]
mod tests;

use super::{Client, Shim, Vendor, shim};

/// PostHog's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "posthog",
    known_as: &["PostHog"],
    beacon: Some(&beacon::PostHog),
    script: Some(&script::SCRIPT),
    shim: Some(&Shim {
        script: include_str!("../../../static/sdk/dist/shims/posthog.js"),
        needs: &[&shim::STUB, &shim::STATE],
        retell: Some(event::retell),
        ..Shim::PLAIN
    }),
    client: Some(Client {
        script: include_str!("../../../static/sdk/dist/clients/posthog.js"),
        library: "/static/array.js",
        required: &["api_key"],
        optional: &["api_host"],
        twice: None,
    }),
    ..Vendor::NOTHING
};

//! PostHog: its browser library's beacons (`docs/contracts/beacons.md` 8). Not a destination.

mod beacon;
mod event;
mod script;
#[cfg(test)]
mod tests;

use super::{ClientLibrary, Vendor, VendorShim, shim};

/// PostHog's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "posthog",
    aliases: &["PostHog"],
    beacon: Some(&beacon::PostHogBeacon),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/posthog.js"),
        needs: &[&shim::STUB, &shim::STATE],
        to_canonical: Some(event::to_canonical),
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/posthog.js"),
        library: "/static/array.js",
        required: &["api_key"],
        optional: &["api_host"],
        duplicate_risk: None,
    }),
    ..Vendor::EMPTY
};

//! PostHog: its browser library's beacons (`docs/contracts/beacons.md` 8). Not a destination.

mod beacon;
mod event;
mod script;
#[cfg(test)]
mod tests;

use tagway_settings::Setting;

use super::{ClientLibrary, Vendor, VendorShim, shim};

/// The settings of a destination of this vendor, which runs in the page only.
const SETTINGS: &[Setting] = &[
    Setting::text("api_key")
        .example("phc_abc")
        .required()
        .doc("the project's key; public, since pages contain it; required"),
    Setting::form("api_host", "a URL")
        .example("https://eu.i.posthog.com")
        .doc("the project's address, outside the US"),
];

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
    settings: SETTINGS,
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/posthog.js"),
        library: "/static/array.js",
        required: &["api_key"],
        optional: &["api_host"],
        duplicate_risk: None,
    }),
    ..Vendor::EMPTY
};

//! Segment: the beacons of analytics.js, and the HTTP API on the same paths (`contracts/beacons.md` 7.1). It is no destination.

mod beacon;
mod script;

use super::{Shim, Vendor, shim};

/// Segment's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "segment",
    known_as: &["Segment", "Segment.io"],
    beacon: Some(&beacon::Segment),
    script: Some(&script::SCRIPT),
    shim: Some(&Shim {
        script: include_str!("../../../static/sdk/dist/shims/segment.js"),
        needs: &[&shim::STUB, &shim::STATE],
        ..Shim::PLAIN
    }),
    ..Vendor::NOTHING
};

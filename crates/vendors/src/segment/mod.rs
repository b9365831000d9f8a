//! Segment: the beacons of analytics.js, and the HTTP API on the same paths
//! (`docs/contracts/beacons.md` 7.1). Not a destination.

mod beacon;
mod script;

use super::{Vendor, VendorShim, shim};

/// Segment's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "segment",
    aliases: &["Segment", "Segment.io"],
    beacon: Some(&beacon::SegmentBeacon),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/segment.js"),
        needs: &[&shim::STUB, &shim::STATE],
        ..VendorShim::PLAIN
    }),
    ..Vendor::EMPTY
};

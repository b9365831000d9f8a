//! One file per route.

pub(super) mod beacon;
pub(super) mod integration_error;
pub(super) mod me;
pub(super) mod pixel;
pub(super) mod preview;
pub(super) mod reset;
pub(super) mod script;
pub(super) mod sdk;
pub(super) mod segment;
pub(super) mod vendor_script;

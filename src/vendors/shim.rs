//! The Shim face: what stands in for a vendor's browser API in the page and makes events of its calls.
//!
//! A shim is a built script. What it tells is in the vendor's own words where those differ from the
//! spec's: a page should not carry tables that the gateway has for the vendor's beacons in any case.

use crate::event::Object;

/// A vendor's shim.
#[derive(Debug)]
pub struct Shim {
    /// The built script.
    pub script: &'static str,
    /// What it shares with other shims: comes once, and before it.
    pub needs: &'static [&'static Shared],
    /// Its settings, ids that anybody may see: `[sites.vendors.NAME]` gives them to the page.
    pub ids: &'static [&'static str],
    /// Puts a message that it told in the vendor's words into the spec's, if it tells such.
    pub retell: Option<Retell>,
}

/// Changes a message whose member `shim` names the vendor.
pub type Retell = fn(&mut Object);

/// A built script that several shims use.
#[derive(Debug)]
pub struct Shared {
    /// Its name among the scripts of a page.
    pub name: &'static str,
    /// The script.
    pub script: &'static str,
}

/// How the stub that a vendor's snippet leaves in the page is worked off.
pub static STUB: Shared =
    Shared { name: "stub", script: include_str!("../../static/sdk/dist/shared/stub.js") };

/// The button in place of a messenger.
pub static CHAT: Shared =
    Shared { name: "chat", script: include_str!("../../static/sdk/dist/shared/chat.js") };

impl Shim {
    /// What most have.
    pub const PLAIN: Self = Self { script: "", needs: &[], ids: &[], retell: None };
}

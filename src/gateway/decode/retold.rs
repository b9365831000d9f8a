//! Messages of shims, which say what happened in their vendor's words.

use super::message::Invalid;
use crate::event::Object;
use crate::vendors;

/// The message in the spec's words, if it is in a vendor's. Its text is within the bounds of one event.
pub(super) fn retold(shim: Option<&str>, text: &str) -> Result<Option<String>, Invalid> {
    let vendor = shim.and_then(vendors::find);
    let Some(retell) = vendor.and_then(|vendor| vendor.shim?.retell) else { return Ok(None) };
    let mut message: Object = serde_json::from_str(text).map_err(|_invalid| "malformed")?;
    retell(&mut message);
    serde_json::to_string(&message).map(Some).map_err(|_impossible| "malformed")
}

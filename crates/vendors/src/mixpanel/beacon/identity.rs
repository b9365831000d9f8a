//! The visitor's ids in records of Mixpanel's library (`docs/contracts/beacons.md` 5.3).

use serde_json::Value;

use crate::beacon_format::{self, CanonicalMessage, put};
use tagway_core::event::JsonObject;

/// The prefix of a device's id before a user is identified.
const DEVICE: &str = "$device:";

/// Characters of a UUID.
const UUID_CHARS: usize = 36;

/// The ids of one record, as sent.
#[derive(Debug, Default)]
pub(super) struct MixpanelBeaconIds {
    distinct: Option<String>,
    device: Option<String>,
    user: Option<String>,
}

impl MixpanelBeaconIds {
    /// Takes a member that is one of the ids: `distinct_id`, or `$distinct_id` of a profile. Any other
    /// member is returned.
    pub(super) fn take(&mut self, name: &str, value: Value) -> Option<Value> {
        let place = match name {
            "distinct_id" | "$distinct_id" => &mut self.distinct,
            "$device_id" => &mut self.device,
            "$user_id" => &mut self.user,
            _ => return Some(value),
        };
        *place = beacon_format::id(value);
        None
    }

    /// Returns the user's id, if one is identified.
    pub(super) fn user(&self) -> Option<&str> {
        let of_distinct = || {
            let id = self.distinct.as_deref()?;
            let is_device = id.starts_with(DEVICE) || self.device.as_deref() == Some(id);
            (!is_device && !self.is_old()).then_some(id)
        };
        self.user.as_deref().or_else(of_distinct)
    }

    /// Returns the device's id without its prefix.
    pub(super) fn device(&self) -> Option<&str> {
        let of_distinct = || {
            let id = self.distinct.as_deref()?;
            id.strip_prefix(DEVICE).or_else(|| self.is_old().then_some(id))
        };
        self.device.as_deref().map(bare).or_else(of_distinct)
    }

    /// Returns true for a device id of libraries before `$device_id`: five numbers of any length, which no
    /// site gives its users.
    fn is_old(&self) -> bool {
        let Some(id) = self.distinct.as_deref() else { return false };
        let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
        self.device.is_none()
            && self.user.is_none()
            && id.len() > UUID_CHARS
            && id.split('-').count() == 5
            && id.split('-').all(is_hex)
    }

    /// Returns the record's `distinct_id`, of a user or a device.
    pub(super) fn distinct(&self) -> Option<&str> {
        self.distinct.as_deref()
    }

    /// Adds both ids to a message.
    pub(super) fn write(&self, message: CanonicalMessage) -> CanonicalMessage {
        message.with_ids(self.user(), self.device())
    }

    /// Adds the ids as sent to `context.clientIds`.
    pub(super) fn finish(self, context: &mut JsonObject) {
        let mut own = JsonObject::new();
        put(&mut own, "distinct_id", self.distinct);
        put(&mut own, "device_id", self.device);
        put(&mut own, "user_id", self.user);
        let mut ids = JsonObject::new();
        put(&mut ids, super::CLIENT, Some(own));
        put(context, "clientIds", Some(ids));
    }
}

/// Returns an id without the prefix of devices.
pub(super) fn bare(id: &str) -> &str {
    id.strip_prefix(DEVICE).unwrap_or(id)
}

/// Returns true if an id has the prefix of devices.
pub(super) fn is_device(id: &str) -> bool {
    id.starts_with(DEVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_devices_are_distinguished() {
        const OLD: &str = "16f0a6e4c3a1d2-0f2c3ad1e2d3a4-3f71449b-1fa400-16f0a6e4c3b2a1";
        const UUID: &str = "36e52e74-9374-4a3c-b93c-acf0dcf2c30e";
        for (distinct, device, user, expected) in [
            ("$device:d1", "d1", "", (None, Some("d1"))),
            ("$device:d1", "", "", (None, Some("d1"))),
            ("u1", "d1", "u1", (Some("u1"), Some("d1"))),
            ("u1", "d1", "", (Some("u1"), Some("d1"))),
            // Versions before 2.46 have no prefix for devices.
            ("d1", "d1", "", (None, Some("d1"))),
            (OLD, "", "", (None, Some(OLD))),
            (UUID, "", "", (Some(UUID), None)),
            ("", "", "", (None, None)),
        ] {
            let mut ids = MixpanelBeaconIds::default();
            for (name, id) in
                [("distinct_id", distinct), ("$device_id", device), ("$user_id", user)]
            {
                if !id.is_empty() {
                    assert_eq!(ids.take(name, id.into()), None);
                }
            }
            assert_eq!((ids.user(), ids.device()), expected, "{distinct} {device} {user}");
        }
    }
}

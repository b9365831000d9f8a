//! Cleans raw beacons that are passed on to their vendors: the recognisable addresses and denied properties in them
//! are truncated or removed, whatever the vendor.
//!
//! Bodies are JSON, forms, lines of forms, or forms with JSON in their fields, in the clear or in base64. Other
//! bodies stay as they are.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::form_urlencoded;

use super::network::{anonymize_value, names_address, network_of};
use super::policy::PrivacyPolicy;

/// The most levels of JSON that are read.
const MAX_DEPTH: usize = 100;

impl PrivacyPolicy {
    /// Returns true if beacons are changed before they are passed on.
    pub fn changes_beacons(&self) -> bool {
        self.anonymizes_ip() || self.denies_any()
    }

    /// Returns a decompressed beacon body, cleaned; `None` if nothing changes.
    pub fn clean_beacon(&self, body: &[u8]) -> Option<Vec<u8>> {
        let text = str::from_utf8(body).ok()?;
        if text.starts_with(['{', '[']) {
            return self.clean_json(text).map(String::into_bytes);
        }
        let mut is_changed = false;
        let lines = text.split('\n').map(|line| {
            let clean = self.clean_query(line);
            is_changed |= clean.is_some();
            clean.map_or(Cow::Borrowed(line), Cow::Owned)
        });
        let clean = lines.collect::<Vec<_>>().join("\n");
        is_changed.then(|| clean.into_bytes())
    }

    /// Returns a query, or a form, cleaned; `None` if nothing changes.
    pub fn clean_query(&self, query: &str) -> Option<String> {
        let mut is_changed = false;
        let mut kept: Vec<Cow<'_, str>> = Vec::new();
        for pair in query.split('&') {
            let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else {
                kept.push(Cow::Borrowed(pair));
                continue;
            };
            // `ep.ssn` and `cd[ssn]` are properties, as `ssn` is.
            let own = name.trim_end_matches(']').rsplit(['.', '[']).next().unwrap_or_default();
            if self.denies(&name) || self.denies(own) {
                is_changed = true;
                continue;
            }
            let clean = if self.anonymizes_ip() && names_address(own) {
                network_of(&value)
            } else {
                self.clean_field(&value)
            };
            match clean {
                None => kept.push(Cow::Borrowed(pair)),
                Some(clean) => {
                    is_changed = true;
                    let mut pair = form_urlencoded::Serializer::new(String::new());
                    kept.push(Cow::Owned(pair.append_pair(&name, &clean).finish()));
                }
            }
        }
        is_changed.then(|| kept.join("&"))
    }

    /// Cleans JSON in a form's field, or base64 of it.
    fn clean_field(&self, value: &str) -> Option<String> {
        if value.starts_with(['{', '[']) {
            return self.clean_json(value);
        }
        // The first characters of JSON in base64.
        if !value.starts_with(['e', 'W']) {
            return None;
        }
        let bytes = STANDARD.decode(value.replace(' ', "+")).ok()?;
        let clean = self.clean_json(str::from_utf8(&bytes).ok()?)?;
        Some(STANDARD.encode(clean))
    }

    fn clean_json(&self, text: &str) -> Option<String> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        self.clean_value(&mut value, MAX_DEPTH).then(|| value.to_string())
    }

    fn clean_value(&self, value: &mut Value, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        match value {
            Value::Object(members) => {
                let before = members.len();
                members.retain(|name, _| !self.denies(name));
                let mut is_changed = members.len() < before;
                for (name, value) in members.iter_mut() {
                    is_changed |= if self.anonymizes_ip() && names_address(name) {
                        anonymize_value(value, true, depth)
                    } else {
                        self.clean_value(value, depth)
                    };
                }
                is_changed
            }
            Value::Array(items) => {
                let mut is_changed = false;
                for item in items {
                    is_changed |= self.clean_value(item, depth);
                }
                is_changed
            }
            // A hit within a list of hits.
            Value::String(text) if text.starts_with('?') => {
                match self.clean_query(text.trim_start_matches('?')) {
                    Some(clean) => {
                        *text = format!("?{clean}");
                        true
                    }
                    None => false,
                }
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clean(body: &str) -> Option<String> {
        let policy = PrivacyPolicy::changing(true, &["ssn", "card_*"]);
        policy.clean_beacon(body.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn addresses_and_denied_properties_are_removed_from_every_form_of_beacon() {
        let data =
            json!([{ "event": "E", "properties": { "ip": "203.0.113.77", "ssn": "1", "a": 1 } }]);
        let left = json!([{ "event": "E", "properties": { "ip": "203.0.113.0", "a": 1 } }]);
        assert_eq!(clean(&data.to_string()), Some(left.to_string()));
        let form = format!("v=1&data={}", STANDARD.encode(data.to_string()).replace('+', "%2B"));
        let found = clean(&form).unwrap();
        let (_, value) = form_urlencoded::parse(found.as_bytes()).nth(1).unwrap();
        let bytes = STANDARD.decode(&*value).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), left);
        for (body, expected) in [
            (
                "en=a&_uip=203.0.113.77&ep.ssn=1\nen=b&ep.card_no=2&ep.x=%C3%BC",
                "en=a&_uip=203.0.113.0\nen=b&ep.x=%C3%BC",
            ),
            (
                "cd[ssn]=1&cd[x]=2&client_ip_address=203.0.113.77",
                "cd[x]=2&client_ip_address=203.0.113.0",
            ),
            (
                r#"{"requests":["?cip=203.0.113.77&a=1"]}"#,
                r#"{"requests":["?cip=203.0.113.0&a=1"]}"#,
            ),
        ] {
            assert_eq!(clean(body).as_deref(), Some(expected), "{body}");
        }
        for same in ["", "en=a&x=%zz&=&", r#"{"a":[1,"?b=1"]}"#, "{broken", "data=e30=", "W"] {
            assert_eq!(clean(same), None, "{same}");
        }
    }
}

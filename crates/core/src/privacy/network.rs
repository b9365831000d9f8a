//! Truncates the addresses in events to their networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::event::JsonObject;
use crate::values::address::read_visitor_address;

/// The most levels that are read: readers of the journal build no deeper trees.
const MAX_DEPTH: usize = 100;

/// The words in a member's name that mark its value as an address.
const WORDS: [&str; 11] = [
    "ip",
    "ips",
    "ipv4",
    "ipv6",
    "uip",
    "cip",
    "rip",
    "ipaddr",
    "ipaddress",
    "forwarded",
    "userip",
];

/// Returns the network of an address, for logs: /24 of IPv4, /48 of IPv6. Many people share it.
pub fn truncate(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// Returns true if a JSON text may have a member that is named for an address: a quick check before it is parsed.
pub fn may_name_address(json: &str) -> bool {
    let part =
        |part: &[u8]| json.as_bytes().windows(part.len()).any(|it| it.eq_ignore_ascii_case(part));
    part(b"ip") || part(b"addr") || part(b"forwarded") || part(b"\\u")
}

/// Truncates the address in each member that is named for one; returns true if anything changed. Of a list of
/// addresses only the visitor's network stays.
pub fn anonymize(object: &mut JsonObject) -> bool {
    anonymize_within(object, MAX_DEPTH)
}

fn anonymize_within(object: &mut JsonObject, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let mut is_changed = false;
    for (name, value) in object.iter_mut() {
        is_changed |= anonymize_value(value, names_address(name), depth);
    }
    is_changed
}

/// Truncates a value, which is an address if its name marks it as one.
pub(super) fn anonymize_value(value: &mut Value, is_named: bool, depth: usize) -> bool {
    match value {
        Value::String(text) if is_named => match network_of(text) {
            Some(network) => {
                *text = network;
                true
            }
            None => false,
        },
        Value::Object(members) => anonymize_within(members, depth),
        Value::Array(items) => {
            let Some(depth) = depth.checked_sub(1) else { return false };
            let mut is_changed = false;
            for item in items {
                is_changed |= anonymize_value(item, is_named, depth);
            }
            is_changed
        }
        _ => false,
    }
}

/// Returns the network of the address in a text; `None` if it has none or is truncated already.
pub fn network_of(text: &str) -> Option<String> {
    let network = truncate(read_visitor_address(text)?).to_string();
    (network != text).then_some(network)
}

/// Returns true if a name marks its value as an address: `ip`, `$ip`, `clientIP`, `remote_addr`, `X-Forwarded-For`.
pub fn names_address(name: &str) -> bool {
    let mut words = words(name).peekable();
    let mut is_remote = false;
    while let Some(word) = words.next() {
        let is_word = |known: &&str| word.eq_ignore_ascii_case(known);
        if WORDS.iter().any(is_word) {
            // The address itself, not a flag about it: `ip_country`, `ip_valid`.
            return words.peek().is_none_or(|next| {
                ["address", "addr", "override", "for", "v4", "v6", "list"]
                    .iter()
                    .any(|known| next.eq_ignore_ascii_case(known))
            });
        }
        let lower = word.to_ascii_lowercase();
        if ["clientip", "remoteip", "realip", "visitorip", "sourceip", "connectingip", "senderip"]
            .contains(&lower.as_str())
            || lower.ends_with("ipaddress")
            || lower == "remoteaddr"
            || lower == "xforwardedfor"
        {
            return true;
        }
        if is_remote && (lower == "addr" || lower == "address") {
            return true;
        }
        is_remote = matches!(lower.as_str(), "remote" | "client" | "peer");
    }
    false
}

/// Returns the words of a name, separated by signs or capitals.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.flat_map(|part| {
        let mut rest = part;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let bytes = rest.as_bytes();
            let is_start = |at: &usize| {
                bytes.get(*at).is_some_and(u8::is_ascii_uppercase)
                    && bytes.get(at - 1).is_some_and(u8::is_ascii_lowercase)
            };
            let end = (1..bytes.len()).find(is_start).unwrap_or(bytes.len());
            let (word, behind) = rest.split_at_checked(end)?;
            rest = behind;
            Some(word)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_cut_to_a_network() {
        for (address, expected) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3::4", "2001:db8:1::"),
        ] {
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(truncate(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn names_of_addresses_are_known() {
        for name in [
            "ip",
            "$ip",
            "IP",
            "uip",
            "_uip",
            "cip",
            "ip_address",
            "ipAddress",
            "ip_override",
            "userIp",
            "clientIP",
            "client_ip",
            "clientip",
            "user_ipaddress",
            "remote_addr",
            "remoteAddr",
            "REMOTE_ADDR",
            "X-Forwarded-For",
            "x_real_ip",
            "cf-connecting-ip",
            "ipv4",
            "ips",
        ] {
            assert!(names_address(name), "{name}");
        }
        for name in [
            "zip",
            "tip",
            "description",
            "ship_to",
            "address",
            "ip_country",
            "clip",
            "relationship",
        ] {
            assert!(!names_address(name), "{name}");
        }
    }

    #[test]
    fn every_address_of_an_object_is_cut() {
        let mut object = json!({
            "ip": "203.0.113.77, 10.0.0.1",
            "headers": { "X-Forwarded-For": "203.0.113.77", "host": "203.0.113.78" },
            "seen": [{ "$ip": "[2001:db8:1:2::9]:443" }],
            "ips": ["203.0.113.77", 7],
            "version": "203.0.113.77",
            "network": { "ip": "203.0.113.0" },
        });
        let Value::Object(members) = &mut object else { unreachable!() };
        assert!(may_name_address(&json!(members).to_string()));
        assert!(anonymize(members));
        assert!(!anonymize(members), "once");
        let expected = json!({
            "ip": "203.0.113.0",
            "headers": { "X-Forwarded-For": "203.0.113.0", "host": "203.0.113.78" },
            "seen": [{ "$ip": "2001:db8:1::" }],
            "ips": ["203.0.113.0", 7],
            "version": "203.0.113.77",
            "network": { "ip": "203.0.113.0" },
        });
        assert_eq!(object, expected);
        assert!(!may_name_address(r#"{"color":"red","n":1}"#));
    }
}

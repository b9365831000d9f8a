//! The client's address through trusted proxies: `X-Forwarded-For` or `Forwarded` (RFC 7239), read from the right,
//! because everything left of the first untrusted hop is that hop's unverified claim.
//!
//! Only the one field that the settings name is read. A proxy writes one of the two and passes the other on as the
//! client sent it, so a reader of both would trust the client.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use super::settings::ForwardedField;
use tagway_core::values::address::read_address;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The most hops that are read: no real chain of proxies is longer.
const MAX_HOPS: usize = 32;

/// The client as trusted proxies name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedClient {
    /// The client's address; the peer's if no trusted proxy names another.
    pub client: IpAddr,
    /// True if a trusted proxy reports TLS between it and the client.
    pub secure: bool,
}

/// One hop as a proxy wrote it: its caller's address and scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ForwardedHop<'a> {
    address: Option<IpAddr>,
    proto: Option<&'a str>,
}

pub(super) fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Finds the client of a request from `peer` in the field that proxies write.
pub fn resolve_client(
    trusted: &[IpNet],
    written: ForwardedField,
    peer: IpAddr,
    fields: &HeaderMap,
) -> ForwardedClient {
    let mut found = ForwardedClient { client: peer, secure: false };
    if trusted.is_empty() || !is_trusted(trusted, peer) {
        return found;
    }
    let mut proto = None;
    match written {
        ForwardedField::Forwarded => {
            let hops = elements(fields, &header::FORWARDED).map(forwarded_hop);
            walk(trusted, hops, &mut found.client, &mut proto);
        }
        ForwardedField::XForwardedFor => {
            let hops = elements(fields, &X_FORWARDED_FOR)
                .map(|text| ForwardedHop { address: read_address(text), proto: None });
            walk(trusted, hops, &mut found.client, &mut proto);
            // The nearest proxy's value.
            proto = elements(fields, &X_FORWARDED_PROTO).next();
        }
    }
    found.secure = proto.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"));
    found
}

/// Follows the hops from the right as long as they are trusted and name their callers.
fn walk<'a>(
    trusted: &[IpNet],
    hops: impl Iterator<Item = ForwardedHop<'a>>,
    client: &mut IpAddr,
    proto: &mut Option<&'a str>,
) {
    for hop in hops.take(MAX_HOPS) {
        if !is_trusted(trusted, *client) {
            return;
        }
        *proto = hop.proto.or(*proto);
        let Some(address) = hop.address else { return };
        *client = address;
    }
}

/// Returns the elements of a list field, from the right. Commas within quotes do not separate elements, and empty
/// elements are skipped (RFC 9110, section 5.6.1).
fn elements<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let values: Vec<&str> =
        fields.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    values.into_iter().rev().flat_map(|value| {
        let mut is_quoted = false;
        let elements = value.rsplit(move |c| {
            is_quoted ^= c == '"';
            c == ',' && !is_quoted
        });
        elements.filter(|element| !element.trim().is_empty())
    })
}

/// Reads `for=192.0.2.7;proto=https;by=...`.
fn forwarded_hop(element: &str) -> ForwardedHop<'_> {
    let mut hop = ForwardedHop::default();
    for pair in element.split(';') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("for") {
            hop.address = read_address(value);
        } else if name.trim().eq_ignore_ascii_case("proto") {
            hop.proto = Some(value);
        }
    }
    hop
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:ffff::/48".parse().unwrap()]
    }

    fn found_by(written: ForwardedField, peer: &str, pairs: &[(&str, &str)]) -> (String, bool) {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let found = resolve_client(&trusted(), written, peer.parse().unwrap(), &fields);
        (found.client.to_string(), found.secure)
    }

    /// Returns the client found with the first pair's field as the configured one.
    fn found(peer: &str, pairs: &[(&str, &str)]) -> (String, bool) {
        let written = match pairs.first() {
            Some(("forwarded", _)) => ForwardedField::Forwarded,
            _ => ForwardedField::XForwardedFor,
        };
        found_by(written, peer, pairs)
    }

    #[test]
    fn field_that_no_proxy_writes_is_not_trusted() {
        let (lie, truth) = ("for=1.1.1.1;proto=https", "for=192.0.2.7;proto=http");
        let appended = [("forwarded", lie), ("x-forwarded-for", "192.0.2.7")];
        let by = |written, fields: &[(&str, &str)]| found_by(written, PROXY, fields);
        let client = ("192.0.2.7".to_owned(), false);
        assert_eq!(by(ForwardedField::XForwardedFor, &appended), client);
        let other =
            [("forwarded", truth), ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")];
        assert_eq!(by(ForwardedField::Forwarded, &other), client);
        let alone = [("forwarded", lie)];
        assert_eq!(by(ForwardedField::XForwardedFor, &alone), (PROXY.to_owned(), false));
    }

    #[test]
    fn untrusted_peer_is_the_client_whatever_it_sends() {
        let lies = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")];
        assert_eq!(found("192.0.2.7", &lies), ("192.0.2.7".to_owned(), false));
        assert_eq!(found("192.0.2.7", &[("forwarded", "for=1.1.1.1;proto=https")]).0, "192.0.2.7");
    }

    #[test]
    fn first_untrusted_hop_from_the_right_is_the_client() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], PROXY),
            (&[("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.7, 10.2.2.2")], "192.0.2.7"),
            (
                &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.7,10.1.1.1")],
                "192.0.2.7",
            ),
            (&[("x-forwarded-for", "192.0.2.7, garbage")], PROXY),
            (&[("x-forwarded-for", "192.0.2.7, garbage, 10.9.9.9")], "10.9.9.9"),
            (&[("x-forwarded-for", "192.0.2.7:4711")], "192.0.2.7"),
            (&[("x-forwarded-for", "[2001:db8::7]:4711")], "2001:db8::7"),
            (&[("x-forwarded-for", "2001:db8::7, 2001:db8:ffff::1")], "2001:db8::7"),
            (&[("x-forwarded-for", "::ffff:192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "10.3.3.3")], "10.3.3.3"),
            (&[("x-forwarded-for", "192.0.2.7,")], "192.0.2.7"),
            (&[("x-forwarded-for", "1.1.1.1, ,192.0.2.7 , , 10.2.2.2,")], "192.0.2.7"),
            (&[("x-forwarded-for", "\"[2001:db8::7]:443\"")], "2001:db8::7"),
            (&[("x-forwarded-for", "\"192.0.2.7\"")], "192.0.2.7"),
            (&[("x-forwarded-for", "2001:db8::7%eth0")], "2001:db8::7"),
            (&[("x-forwarded-for", "192.0.2.7, unix:")], PROXY),
            (&[("forwarded", "for=192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "For=\"[2001:db8::7]:4711\";proto=http")], "2001:db8::7"),
            (&[("forwarded", "for=1.1.1.1, for=192.0.2.7;by=10.0.0.1, for=10.5.5.5")], "192.0.2.7"),
            (&[("forwarded", "for=192.0.2.7, for=_hidden")], PROXY),
            (&[("forwarded", "for=192.0.2.7, for=unknown")], PROXY),
            (&[("forwarded", ", for=192.0.2.7 , ")], "192.0.2.7"),
            (&[("forwarded", "for=\"a,b\", for=192.0.2.7")], "192.0.2.7"),
        ];
        for (fields, client) in cases {
            assert_eq!(found(PROXY, fields).0, *client, "{fields:?}");
        }
    }

    #[test]
    fn tls_is_taken_from_trusted_proxies_only() {
        let secure = |fields: &[(&str, &str)]| found(PROXY, fields).1;
        assert!(secure(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")]));
        assert!(secure(&[("x-forwarded-proto", "HTTPS")]));
        assert!(!secure(&[("x-forwarded-proto", "https, http")]));
        assert!(secure(&[("forwarded", "for=1.1.1.1;proto=https")]));
        assert!(secure(&[("forwarded", "for=1.1.1.1;proto=https, for=10.1.1.1")]));
        assert!(!secure(&[("forwarded", "for=1.1.1.1;proto=http")]));
        let forged = "for=2.2.2.2;proto=https, for=192.0.2.7;proto=http";
        assert!(!secure(&[("forwarded", forged)]), "left of the client is the client's word");
    }

    proptest! {
        #[test]
        fn addresses_left_of_an_untrusted_hop_are_ignored(left in "[ -~]{0,60}") {
            prop_assume!(left.matches('"').count() % 2 == 0);
            for name in ["x-forwarded-for", "forwarded"] {
                let prefix = if name == "forwarded" { "for=" } else { "" };
                let value = format!("{left},{prefix}192.0.2.7, {prefix}10.1.1.1");
                prop_assert_eq!(found(PROXY, &[(name, &value)]).0, "192.0.2.7");
            }
        }

        #[test]
        fn no_header_value_panics(value in "[ -~]{0,200}") {
            found(PROXY, &[("x-forwarded-for", &value), ("x-forwarded-proto", &value)]);
            found(PROXY, &[("forwarded", &value)]);
        }
    }
}

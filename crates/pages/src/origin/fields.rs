//! Header fields of one connection only, and the gateway's fields about the client.

use std::net::IpAddr;

use http::header::{CONNECTION, COOKIE, EXPECT, HOST, HeaderName, UPGRADE, VIA};
use http::{HeaderMap, HeaderValue, Version};

/// The gateway's name in Via.
const NAME: &str = "tagway";

/// Fields that concern one connection, named in Connection or not (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// End-to-end fields, whatever Connection says: without one of them the message would mean something else, and no
/// client may have it removed.
const END_TO_END: &[&str] = &[
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "host",
    "if-match",
    "if-none-match",
    "location",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "via",
    "x-content-type-options",
    "x-frame-options",
];

/// The field names that identify a client, besides `X-Forwarded-*`. Fields that CDNs name after themselves pass: a
/// CDN overwrites what clients send there.
const CLIENT_FIELDS: &[&str] =
    &["forwarded", "x-real-ip", "x-client-ip", "client-ip", "x-cluster-client-ip"];

/// Removes the fields that concern one connection only.
pub(super) fn strip(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| !END_TO_END.contains(&name.as_str()) && !name.as_str().starts_with("sec-"))
        .collect();
    for name in &named {
        fields.remove(name);
    }
    for name in HOP_BY_HOP {
        fields.remove(*name);
    }
}

/// Joins the cookies into one field. HTTP/2 may send them in several, which HTTP/1 forbids (RFC 9113, section
/// 8.2.3).
pub(super) fn join_cookies(fields: &mut HeaderMap) {
    let each: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if each.len() > 1
        && let Ok(all) = HeaderValue::from_bytes(&each.join(&b"; "[..]))
    {
        fields.insert(COOKIE, all);
    }
}

/// Returns true if the request asks for an upgrade to WebSocket.
pub(super) fn is_websocket(fields: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    says(CONNECTION, "upgrade") && says(UPGRADE, "websocket")
}

/// Returns true if the message passed through this gateway before.
pub(super) fn has_own_via(fields: &HeaderMap) -> bool {
    let values = fields.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let mut each = values.flat_map(|value| value.split(','));
    each.any(|one| one.split_whitespace().nth(1) == Some(NAME))
}

/// Adds the gateway to Via.
pub(super) fn add_via(fields: &mut HeaderMap, version: Version) {
    let value = match version {
        Version::HTTP_2 => "2 tagway",
        Version::HTTP_10 => "1.0 tagway",
        _ => "1.1 tagway",
    };
    fields.append(VIA, HeaderValue::from_static(value));
}

/// Sets the fields that name the client, in place of those that the client sent. Lookalikes with `_` for `-` are
/// removed too, because some servers read them as the same.
pub(super) fn set_forwarded_fields(
    fields: &mut HeaderMap,
    client: IpAddr,
    secure: bool,
    host: &str,
) {
    let listed: Vec<HeaderName> = fields
        .keys()
        .filter(|name| identifies_client(name.as_str()) || is_disguised(name.as_str()))
        .cloned()
        .collect();
    for name in listed {
        fields.remove(name);
    }
    // Programs behind CGI take `Proxy` for their own proxy setting (httpoxy).
    for name in [EXPECT, HOST, HeaderName::from_static("proxy")] {
        fields.remove(name);
    }
    let proto = if secure { "https" } else { "http" };
    let address = client.to_string();
    let node = match client {
        IpAddr::V4(_) => address.clone(),
        IpAddr::V6(_) => format!("\"[{address}]\""),
    };
    let quoted = !host.contains(['"', '\\']);
    let forwarded = quoted.then(|| format!("for={node};host=\"{host}\";proto={proto}"));
    let listed = [
        ("x-forwarded-for", HeaderValue::try_from(address).ok()),
        ("x-forwarded-proto", Some(HeaderValue::from_static(proto))),
        ("x-forwarded-host", HeaderValue::from_str(host).ok()),
        ("forwarded", forwarded.and_then(|value| HeaderValue::try_from(value).ok())),
    ];
    for (name, value) in listed {
        if let Some(value) = value {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Returns true if a field of this name identifies the client, also for servers that read `_` for `-`.
fn identifies_client(name: &str) -> bool {
    let read = name.replace('_', "-");
    read.starts_with("x-forwarded-") || CLIENT_FIELDS.contains(&read.as_str())
}

/// Returns true if a server that reads `_` for `-` takes the field for one that the gateway sets.
fn is_disguised(name: &str) -> bool {
    let is_one = |read: &str| HOP_BY_HOP.contains(&read) || END_TO_END.contains(&read);
    name.contains('_') && is_one(&name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        text.iter().map(pair).collect()
    }

    #[test]
    fn fields_of_one_connection_are_not_passed_on() {
        let mut sent = fields(&[
            ("connection", "keep-alive, X-Secret, Host, authorization, Sec-Fetch-Site"),
            ("x-secret", "1"),
            ("authorization", "Bearer x"),
            ("sec-fetch-site", "cross-site"),
            ("trailer", "x-forwarded-for"),
            ("http2-settings", "AAA"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("transfer-encoding", "chunked"),
            ("host", "shop.example"),
            ("accept", "*/*"),
        ]);
        strip(&mut sent);
        let kept = fields(&[
            ("authorization", "Bearer x"),
            ("sec-fetch-site", "cross-site"),
            ("host", "shop.example"),
            ("accept", "*/*"),
        ]);
        assert_eq!(sent, kept);
    }

    #[test]
    fn fields_that_identify_the_client_are_not_taken_from_it() {
        let mut sent = fields(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real_ip", "6.6.6.6"),
            ("client_ip", "6.6.6.6"),
            ("x-cluster-client-ip", "6.6.6.6"),
            ("content_length", "0"),
            ("transfer_encoding", "chunked"),
            ("proxy", "http://evil.example"),
            ("x_own_field", "kept"),
            ("forwarded-by", "kept"),
        ]);
        set_forwarded_fields(&mut sent, "2001:db8::1".parse().unwrap(), true, "shop.example:8443");
        let expected = fields(&[
            ("forwarded-by", "kept"),
            ("x_own_field", "kept"),
            ("x-forwarded-for", "2001:db8::1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example:8443"),
            ("forwarded", "for=\"[2001:db8::1]\";host=\"shop.example:8443\";proto=https"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn cookies_are_joined_into_one_field() {
        let mut sent = fields(&[("cookie", "a=1")]);
        sent.append(COOKIE, HeaderValue::from_static("b=2; c=3"));
        join_cookies(&mut sent);
        assert_eq!(sent, fields(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn only_websocket_upgrades_pass() {
        assert!(is_websocket(&fields(&[("connection", "x, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_websocket(&fields(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!is_websocket(&fields(&[("upgrade", "websocket")])));
    }

    #[test]
    fn loop_is_detected_by_via() {
        let mut sent = fields(&[("via", "1.0 fred")]);
        assert!(!has_own_via(&sent));
        add_via(&mut sent, Version::HTTP_11);
        assert!(has_own_via(&sent));
    }
}

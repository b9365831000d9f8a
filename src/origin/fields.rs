//! What of a head is between two neighbours only, and what the gateway says of its client.

use std::net::IpAddr;

use http::header::{CONNECTION, COOKIE, EXPECT, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE, VIA};
use http::{HeaderMap, HeaderValue, Version};

/// The gateway's name in Via.
const NAME: &str = "tagway";

/// Fields that concern one connection, named in Connection or not (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[&str] =
    &["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te"];

/// Takes off what concerns one connection only.
pub(super) fn strip(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        // Without these the message would mean something else: nobody may have them taken off.
        .filter(|name| !matches!(name.as_str(), "host" | "content-length" | "cookie"))
        .collect();
    for name in named.iter().chain(&[CONNECTION, TRANSFER_ENCODING, UPGRADE]) {
        fields.remove(name);
    }
    for name in HOP_BY_HOP {
        fields.remove(*name);
    }
}

/// Makes one field of the cookies, which HTTP/2 may send in several: before HTTP/1 that must not be
/// (RFC 9113, section 8.2.3).
pub(super) fn join_cookies(fields: &mut HeaderMap) {
    let each: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if each.len() > 1
        && let Ok(all) = HeaderValue::from_bytes(&each.join(&b"; "[..]))
    {
        fields.insert(COOKIE, all);
    }
}

/// Whether the other side is asked to speak WebSocket.
pub(super) fn is_websocket(fields: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    says(CONNECTION, "upgrade") && says(UPGRADE, "websocket")
}

/// Whether the message has been here before.
pub(super) fn has_passed(fields: &HeaderMap) -> bool {
    let values = fields.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let mut each = values.flat_map(|value| value.split(','));
    each.any(|one| one.split_whitespace().nth(1) == Some(NAME))
}

/// Says that the message came through here.
pub(super) fn passed(fields: &mut HeaderMap, version: Version) {
    let value = match version {
        Version::HTTP_2 => "2 tagway",
        Version::HTTP_10 => "1.0 tagway",
        _ => "1.1 tagway",
    };
    fields.append(VIA, HeaderValue::from_static(value));
}

/// Says whom the request is from, in place of what the client said of that. Servers that read `_`
/// for `-` in names must not be told otherwise by it.
pub(super) fn introduce(fields: &mut HeaderMap, client: IpAddr, secure: bool, host: &str) {
    let said: Vec<HeaderName> =
        fields.keys().filter(|name| says_who(name.as_str())).cloned().collect();
    for name in said {
        fields.remove(name);
    }
    fields.remove(EXPECT);
    fields.remove(HOST);
    let proto = if secure { "https" } else { "http" };
    let address = client.to_string();
    let node = match client {
        IpAddr::V4(_) => address.clone(),
        IpAddr::V6(_) => format!("\"[{address}]\""),
    };
    let quoted = !host.contains(['"', '\\']);
    let forwarded = quoted.then(|| format!("for={node};host=\"{host}\";proto={proto}"));
    let said = [
        ("x-forwarded-for", HeaderValue::try_from(address).ok()),
        ("x-forwarded-proto", Some(HeaderValue::from_static(proto))),
        ("x-forwarded-host", HeaderValue::from_str(host).ok()),
        ("forwarded", forwarded.and_then(|value| HeaderValue::try_from(value).ok())),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Whether a field of this name says whom a request is from, to those who read `_` for `-` as well.
fn says_who(name: &str) -> bool {
    let reads = |start: &str| {
        let same = |(one, other)| one == other || (one, other) == (b'_', b'-');
        name.len() >= start.len() && name.bytes().zip(start.bytes()).all(same)
    };
    let is = |whole: &str| name.len() == whole.len() && reads(whole);
    reads("x-forwarded-") || is("forwarded") || is("x-real-ip")
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
    fn what_concerns_one_connection_stays_there() {
        let mut sent = fields(&[
            ("connection", "keep-alive, X-Secret, Host"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("transfer-encoding", "chunked"),
            ("host", "shop.example"),
            ("accept", "*/*"),
        ]);
        strip(&mut sent);
        assert_eq!(sent, fields(&[("host", "shop.example"), ("accept", "*/*")]));
    }

    #[test]
    fn a_client_does_not_say_whom_it_is_from() {
        let mut sent = fields(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real_ip", "6.6.6.6"),
            ("forwarded-by", "kept"),
        ]);
        introduce(&mut sent, "2001:db8::1".parse().unwrap(), true, "shop.example:8443");
        let expected = fields(&[
            ("forwarded-by", "kept"),
            ("x-forwarded-for", "2001:db8::1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example:8443"),
            ("forwarded", "for=\"[2001:db8::1]\";host=\"shop.example:8443\";proto=https"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn cookies_come_in_one_field() {
        let mut sent = fields(&[("cookie", "a=1")]);
        sent.append(COOKIE, HeaderValue::from_static("b=2; c=3"));
        join_cookies(&mut sent);
        assert_eq!(sent, fields(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn only_websocket_is_upgraded_to() {
        assert!(is_websocket(&fields(&[("connection", "x, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_websocket(&fields(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!is_websocket(&fields(&[("upgrade", "websocket")])));
    }

    #[test]
    fn a_loop_is_seen() {
        let mut sent = fields(&[("via", "1.0 fred")]);
        assert!(!has_passed(&sent));
        passed(&mut sent, Version::HTTP_11);
        assert!(has_passed(&sent));
    }
}

//! What a request's head says of its sender.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{
    ACCEPT_LANGUAGE, AsHeaderName, COOKIE, HOST, HeaderName, ORIGIN, REFERER, USER_AGENT,
};
use http::request::Parts;
use jiff::Timestamp;

use crate::event::ClientHints;

const SEC_CH_UA: HeaderName = HeaderName::from_static("sec-ch-ua");
const SEC_CH_UA_MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");
const SEC_CH_UA_PLATFORM: HeaderName = HeaderName::from_static("sec-ch-ua-platform");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The longest language tag (RFC 5646, section 4.4.1).
const MAX_LANGUAGE_CHARS: usize = 35;

/// The host and port that the request is for, as sent.
pub(super) fn authority(head: &Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(&head.headers, HOST).unwrap_or_default(),
    }
}

/// The host alone, lower case.
pub(super) fn host(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        // Not the colons within an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Whether a page in a browser seems to have sent it.
pub(super) fn is_from_page(fields: &HeaderMap) -> bool {
    [ORIGIN, SEC_FETCH_SITE, COOKIE, REFERER].iter().any(|name| fields.contains_key(name))
}

/// All cookies; HTTP/2 may send them in several fields.
pub(super) fn cookies(fields: &HeaderMap) -> Cow<'_, str> {
    let mut values = fields.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let Some(first) = values.next() else { return Cow::Borrowed("") };
    match values.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let all: Vec<&str> = [first, second].into_iter().chain(values).collect();
            Cow::Owned(all.join("; "))
        }
    }
}

/// The page that links here, as far as the browser tells.
pub(super) fn referer(fields: &HeaderMap) -> Option<&str> {
    text(fields, REFERER)
}

/// The user agent, if it is text and not longer than `max` bytes.
pub(super) fn user_agent(fields: &HeaderMap, max: usize) -> Option<String> {
    text(fields, USER_AGENT).filter(|agent| agent.len() <= max).map(str::to_owned)
}

/// The first language tag.
pub(super) fn language(fields: &HeaderMap) -> Option<String> {
    let first = text(fields, ACCEPT_LANGUAGE)?.split([',', ';']).next()?.trim();
    let is_tag = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_tag && !first.is_empty() && first.len() <= MAX_LANGUAGE_CHARS).then(|| first.to_owned())
}

/// The low-entropy client hints, if there are any, each no longer than `max` bytes.
pub(super) fn hints(fields: &HeaderMap, max: usize) -> Option<ClientHints> {
    let short = |name| text(fields, name).filter(|text| text.len() <= max);
    let brands = short(SEC_CH_UA).map(str::to_owned);
    let mobile = short(SEC_CH_UA_MOBILE).and_then(|text| match text {
        "?1" => Some(true),
        "?0" => Some(false),
        _ => None,
    });
    let platform = short(SEC_CH_UA_PLATFORM).map(|text| text.trim_matches('"').to_owned());
    let hints = ClientHints { brands, mobile, platform };
    (hints != ClientHints::default()).then_some(hints)
}

/// The time to the millisecond, which is what clients and vendors count in.
pub(super) fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

fn text(fields: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    fields.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_port_no_dot_and_no_capitals() {
        for (authority, expected) in [
            ("t.shop.example", "t.shop.example"),
            ("T.Shop.Example:8443", "t.shop.example"),
            ("t.shop.example.", "t.shop.example"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("", ""),
        ] {
            assert_eq!(host(authority), expected, "{authority}");
        }
    }

    #[test]
    fn cookies_of_several_fields_are_one_list() {
        let mut fields = HeaderMap::new();
        assert_eq!(cookies(&fields), "");
        fields.append(COOKIE, "a=1".parse().unwrap());
        assert_eq!(cookies(&fields), "a=1");
        fields.append(COOKIE, "b=2; c=3".parse().unwrap());
        assert_eq!(cookies(&fields), "a=1; b=2; c=3");
    }

    #[test]
    fn languages_are_tags() {
        let read = |value: &str| {
            let fields = HeaderMap::from_iter([(ACCEPT_LANGUAGE, value.parse().unwrap())]);
            language(&fields)
        };
        assert_eq!(read("de-CH,de;q=0.9"), Some("de-CH".to_owned()));
        assert_eq!(read("en"), Some("en".to_owned()));
        assert_eq!(read("*"), None);
        assert_eq!(read(""), None);
    }
}

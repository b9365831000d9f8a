//! Reads the sender's facts from a request's head.

use std::borrow::Cow;

use http::header::{
    ACCEPT_LANGUAGE, AsHeaderName, COOKIE, HOST, HeaderName, ORIGIN, REFERER, USER_AGENT,
};
use http::{HeaderMap, Uri};
use jiff::Timestamp;

use tagway_core::event::ClientHints;

const SEC_CH_UA: HeaderName = HeaderName::from_static("sec-ch-ua");
const SEC_CH_UA_MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");
const SEC_CH_UA_PLATFORM: HeaderName = HeaderName::from_static("sec-ch-ua-platform");
/// The relation of the page that sends a request to the host that it goes to.
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The longest language tag (RFC 5646, section 4.4.1).
const MAX_LANGUAGE_CHARS: usize = 35;

/// Returns the host and port that a request is for, as sent. Empty if it names none, or several: a proxy might have
/// chosen another of them (RFC 9112, section 3.2).
pub(super) fn authority<'r>(uri: &'r Uri, fields: &'r HeaderMap) -> &'r str {
    if fields.get_all(HOST).iter().nth(1).is_some() {
        return "";
    }
    match uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(fields, HOST).unwrap_or_default(),
    }
}

/// Returns the host without the port, in lower case.
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

/// Returns true if the request seems to come from a page in a browser.
pub(super) fn is_from_page(fields: &HeaderMap) -> bool {
    is_of_page(fields) || fields.contains_key(COOKIE)
}

/// Returns true if the request names a page: cookies are no sign, programs have them too.
pub(super) fn is_of_page(fields: &HeaderMap) -> bool {
    [ORIGIN, SEC_FETCH_SITE, REFERER].iter().any(|name| fields.contains_key(name))
}

/// Returns true if a browser opens the response as a page.
pub(super) fn is_navigation(fields: &HeaderMap) -> bool {
    fields.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// Returns all cookies that are text; HTTP/2 may send them in several fields. Any script of the site can set
/// cookies, some beyond ASCII: those that are not text are left out, each on its own.
pub(super) fn cookies(fields: &HeaderMap) -> Cow<'_, str> {
    let mut values = fields.get_all(COOKIE).iter().map(|value| texts(value.as_bytes()));
    let Some(first) = values.next() else { return Cow::Borrowed("") };
    match values.next() {
        None => first,
        Some(second) => {
            let all: Vec<Cow<'_, str>> = [first, second].into_iter().chain(values).collect();
            Cow::Owned(all.join("; "))
        }
    }
}

/// Returns a field's cookies that are text.
fn texts(cookies: &[u8]) -> Cow<'_, str> {
    if let Ok(all) = str::from_utf8(cookies) {
        return Cow::Borrowed(all);
    }
    let each = cookies.split(|&byte| byte == b';');
    let texts: Vec<&str> = each.filter_map(|cookie| str::from_utf8(cookie).ok()).collect();
    Cow::Owned(texts.join(";"))
}

/// Returns the page that links here, if the browser sends it. Some browsers send non-ASCII letters raw.
pub(super) fn referer(fields: &HeaderMap) -> Option<Cow<'_, str>> {
    lossy(fields, REFERER)
}

/// Returns the user agent, if it is not longer than `max` bytes. Some devices write their makers' names into it in
/// raw UTF-8.
pub(super) fn user_agent(fields: &HeaderMap, max: usize) -> Option<String> {
    lossy(fields, USER_AGENT).filter(|agent| agent.len() <= max).map(Cow::into_owned)
}

/// Returns the first language tag.
pub(super) fn language(fields: &HeaderMap) -> Option<String> {
    let all = lossy(fields, ACCEPT_LANGUAGE)?;
    let first = all.split([',', ';']).next()?.trim();
    let is_tag = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_tag && !first.is_empty() && first.len() <= MAX_LANGUAGE_CHARS).then(|| first.to_owned())
}

/// Returns the low-entropy client hints, if there are any, each no longer than `max` bytes.
pub(super) fn hints(fields: &HeaderMap, max: usize) -> Option<ClientHints> {
    let short = |name| lossy(fields, name).filter(|text| text.len() <= max);
    let brands = short(SEC_CH_UA).map(Cow::into_owned);
    let mobile = short(SEC_CH_UA_MOBILE).and_then(|text| match &*text {
        "?1" => Some(true),
        "?0" => Some(false),
        _ => None,
    });
    let platform = short(SEC_CH_UA_PLATFORM).map(|text| text.trim_matches('"').to_owned());
    let hints = ClientHints { brands, mobile, platform };
    (hints != ClientHints::default()).then_some(hints)
}

/// Rounds the time to the millisecond, the unit of clients and vendors.
pub(super) fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Returns a field's text, with invalid UTF-8 replaced.
pub(super) fn lossy(fields: &HeaderMap, name: HeaderName) -> Option<Cow<'_, str>> {
    Some(String::from_utf8_lossy(fields.get(name)?.as_bytes()))
}

fn text(fields: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    fields.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_has_no_port_no_dot_and_no_capitals() {
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
    fn cookie_that_is_not_text_leaves_the_others() {
        let read = |bytes: &[u8]| {
            let fields = HeaderMap::from_iter([(COOKIE, bytes.try_into().unwrap())]);
            cookies(&fields).into_owned()
        };
        assert_eq!(read("city=Zürich; _tw=1".as_bytes()), "city=Zürich; _tw=1");
        assert_eq!(read(b"a=1; city=Z\xfcrich; _tw=1"), "a=1; _tw=1");
        assert_eq!(read(b"\xff"), "");
        let referer_of = |bytes: &[u8]| {
            let fields = HeaderMap::from_iter([(REFERER, bytes.try_into().unwrap())]);
            referer(&fields).unwrap().into_owned()
        };
        assert_eq!(referer_of(b"https://x/Z\xfc?gclid=1"), "https://x/Z\u{fffd}?gclid=1");
    }

    #[test]
    fn fields_keep_non_ascii_letters() {
        let fields = HeaderMap::from_iter([
            (USER_AGENT, "Mozilla/5.0 (Linux; 红米)".as_bytes().try_into().unwrap()),
            (SEC_CH_UA_PLATFORM, b"\"Caf\xe9\"".as_slice().try_into().unwrap()),
            (ACCEPT_LANGUAGE, b"de-CH;x=\xe9".as_slice().try_into().unwrap()),
        ]);
        assert_eq!(user_agent(&fields, 99).as_deref(), Some("Mozilla/5.0 (Linux; 红米)"));
        assert_eq!(hints(&fields, 99).unwrap().platform.as_deref(), Some("Caf\u{fffd}"));
        assert_eq!(language(&fields).as_deref(), Some("de-CH"));
    }

    #[test]
    fn request_for_several_hosts_names_none() {
        let mut fields = HeaderMap::new();
        let of = |uri: &'static str, fields: &HeaderMap| {
            authority(&Uri::from_static(uri), fields).to_owned()
        };
        assert_eq!(of("/e", &fields), "");
        fields.append(HOST, "a.example".parse().unwrap());
        assert_eq!(of("/e", &fields), "a.example");
        assert_eq!(of("http://b.example/e", &fields), "b.example");
        fields.append(HOST, "a.example".parse().unwrap());
        assert_eq!(of("/e", &fields), "");
        assert_eq!(of("http://b.example/e", &fields), "");
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

//! Meta's two browser cookies, `_fbp` and `_fbc` (`docs/contracts/destinations.md` 2.3 and
//! `docs/contracts/beacons.md` 4.5): `fb.INDEX.MILLISECONDS.PAYLOAD`, and in newer ones a fifth part of
//! 2 or 8 characters that Meta's own library adds.
//!
//! A valid value in a browser is never rewritten: it is sent byte by byte. A click id is case-sensitive.

use std::time::Duration;

use jiff::Timestamp;
use url::form_urlencoded;

use crate::{CookieContext, IssuedCookie};

/// The cookie that identifies the browser.
pub(super) const FBP: &str = "_fbp";

/// The cookie of the click that led to the site.
pub(super) const FBC: &str = "_fbc";

/// The query parameter with the click id, and the name under which the gateway stores it.
pub(super) const CLICK: &str = "fbclid";

/// The lifetime of both cookies in the browser.
const MAX_AGE: Duration = Duration::from_secs(90 * 86_400);

/// The longest valid value: the gateway reads no longer cookie.
const MAX_BYTES: usize = 512;

/// Query parameters that are read of one URL.
const MAX_PARAMETERS: usize = 100;

/// A well-formed value of one of the cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MetaCookieValue<'v> {
    /// The whole value, as found.
    pub(super) whole: &'v str,
    /// The part after the time, with any suffix that Meta's library added.
    rest: &'v str,
}

impl<'v> MetaCookieValue<'v> {
    /// Parses a value of four or five parts.
    pub(super) fn parse(whole: &'v str) -> Option<Self> {
        let mut parts = whole.splitn(4, '.');
        let (fb, index, millis, rest) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut payload = rest.split('.');
        let has_payload = payload.next().is_some_and(|payload| !payload.is_empty());
        let is_short = payload.count() <= 1;
        let is_clean =
            whole.len() <= MAX_BYTES && whole.bytes().all(|byte| byte.is_ascii_graphic());
        let is_valid = fb == "fb" && is_number(index) && is_number(millis);
        (is_valid && has_payload && is_short && is_clean).then_some(Self { whole, rest })
    }

    /// Returns true if the value is of this click.
    fn is_of(&self, click: &str) -> bool {
        match self.rest.strip_prefix(click) {
            Some("") => true,
            Some(added) => matches!(added.len(), 3 | 9) && added.starts_with('.'),
            None => false,
        }
    }
}

/// Returns the cookies that a browser lacks: `_fbp` if there is none, `_fbc` if the URL has another click
/// than the cookie, or if there is no cookie but a stored click.
pub(super) fn issue_cookies(landing: &CookieContext<'_>) -> Vec<IssuedCookie> {
    let kept =
        |name: &str| landing.cookies.get(name).and_then(|value| MetaCookieValue::parse(value));
    let cookie = |name, value| IssuedCookie { name, value, max_age: MAX_AGE };
    let mut minted = Vec::new();
    if kept(FBP).is_none() {
        let random = (landing.random >> 1).to_string();
        minted.push(cookie(FBP, assemble(landing.domain, landing.now, &random)));
    }
    let remembered = landing.click_ids.get(CLICK);
    let since = |click: &str| {
        remembered.filter(|remembered| remembered.value == click).map_or(landing.now, |it| it.at)
    };
    let clicked = landing.url.and_then(click_of);
    let wanted = match (&clicked, kept(FBC)) {
        (Some(click), Some(kept)) if kept.is_of(click) => None,
        // The browser's cookie is of another click: this one counts as new, even if it was stored before.
        (Some(click), Some(_)) => Some((click.as_str(), landing.now)),
        (Some(click), None) => Some((click.as_str(), since(click))),
        (None, Some(_)) => None,
        (None, None) => remembered.map(|click| (click.value.as_str(), click.at)),
    };
    if let Some((click, at)) = wanted {
        let value = assemble(landing.domain, at, click);
        // A click that makes no well-formed value would be issued again with every page.
        if MetaCookieValue::parse(&value).is_some() {
            minted.push(cookie(FBC, value));
        }
    }
    minted
}

/// Builds the value of a cookie for this domain, time and payload.
pub(super) fn assemble(domain: &str, at: Timestamp, payload: &str) -> String {
    let index = domain.bytes().filter(|byte| *byte == b'.').count();
    format!("fb.{index}.{}.{payload}", at.as_millisecond())
}

/// Returns the click id in a URL's query: the first of several, as in the browser's library.
pub(super) fn click_of(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let mut pairs = form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS);
    let (_, click) = pairs.find(|(name, _)| name.eq_ignore_ascii_case(CLICK))?;
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~');
    (!click.is_empty() && click.bytes().all(plain)).then(|| click.into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::test_support::now;
    use tagway_core::event::AdClickId;

    const NOW_MS: &str = "1795435200000";

    /// Issues cookies to a browser that has these; returns `NAME=VALUE` of each.
    fn minted(cookies: &[(&str, &str)], url: &str, remembered: Option<&str>) -> Vec<String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let at = "2026-11-20T12:00:00Z".parse().unwrap();
        let click = |value: &str| (CLICK.to_owned(), AdClickId { value: value.to_owned(), at });
        let landing = CookieContext {
            cookies: &cookies.iter().map(pair).collect::<BTreeMap<_, _>>(),
            click_ids: &remembered.map(click).into_iter().collect(),
            url: Some(url),
            domain: "shop.example",
            now: now(),
            random: u32::MAX,
        };
        issue_cookies(&landing)
            .into_iter()
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect()
    }

    #[test]
    fn values_have_four_or_five_parts() {
        for good in [
            "fb.1.1596403881668.1116446470",
            "fb.1.1554763741205.AbCdEf-_GhIj",
            "fb.2.1554763741205.AbCd.Bg",
            "fb.0.1554763741205.AbCd.AQAAAQIB",
        ] {
            assert_eq!(MetaCookieValue::parse(good).unwrap().whole, good);
        }
        for bad in [
            "",
            "fb",
            "fb.1.1",
            "fb.1.1.",
            "fb.x.1.a",
            "fb.1.x.a",
            "FB.1.1.a",
            "fb.1.1.a.b.c",
            "fb..1.a",
            "fb.1.1.a b",
            "fb.1.1..b",
        ] {
            assert_eq!(MetaCookieValue::parse(bad), None, "{bad}");
        }
        assert_eq!(MetaCookieValue::parse(&format!("fb.1.1.{}", "x".repeat(512))), None);
    }

    #[test]
    fn a_new_browser_gets_its_cookie() {
        let expected = [format!("_fbp=fb.1.{NOW_MS}.2147483647")];
        assert_eq!(minted(&[], "https://shop.example/", None), expected);
        assert_eq!(minted(&[("_fbp", "broken")], "https://shop.example/", None), expected);
    }

    #[test]
    fn existing_cookies_are_kept() {
        let has = [("_fbp", "fb.1.1596403881668.1116446470"), ("_fbc", "fb.1.5.AbC.AQAAAQIB")];
        for url in ["https://shop.example/", "https://shop.example/?fbclid=AbC"] {
            assert_eq!(minted(&has, url, None), [""; 0], "{url}");
            assert_eq!(minted(&has, url, Some("Older")), [""; 0], "{url}");
        }
    }

    #[test]
    fn a_new_click_replaces_the_old_one_and_case_matters() {
        let has = [("_fbp", "fb.1.1.1"), ("_fbc", "fb.1.5.AbC.AQAAAQIB")];
        let expected = [format!("_fbc=fb.1.{NOW_MS}.abC")];
        assert_eq!(minted(&has, "https://shop.example/?FBCLID=abC&x=1#f", None), expected);
        assert_eq!(minted(&has[..1], "https://shop.example/?a&fbclid=abC", None), expected);
    }

    #[test]
    fn a_remembered_click_keeps_its_time() {
        let has = [("_fbp", "fb.1.1.1")];
        let expected = ["_fbc=fb.1.1795176000000.Old"];
        assert_eq!(minted(&has, "https://shop.example/", Some("Old")), expected);
        assert_eq!(minted(&has, "https://shop.example/?fbclid=Old", Some("Old")), expected);
    }

    #[test]
    fn click_that_is_invalid_in_a_cookie_is_skipped() {
        let has = [("_fbp", "fb.1.1.1")];
        let long = "x".repeat(512);
        for click in ["a%20b", "", "%22", "a.b.c", &long] {
            let url = format!("https://shop.example/?fbclid={click}");
            assert_eq!(minted(&has, &url, None), [""; 0], "{click}");
        }
    }

    #[test]
    fn the_index_counts_the_labels_of_the_domain() {
        for (domain, index) in [("localhost", 0), ("example.com", 1), ("example.co.uk", 2)] {
            assert_eq!(assemble(domain, now(), "a"), format!("fb.{index}.{NOW_MS}.a"));
        }
    }
}

//! The `Set-Cookie` field of a first-party cookie (`contracts/beacons.md` 12.2).

use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::HeaderValue;

use super::{Seen, Settings};

/// The field that sets a cookie. `None` if its text cannot be a field.
pub(super) fn set(
    settings: &Settings,
    seen: &Seen<'_>,
    name: &str,
    value: String,
) -> Option<HeaderValue> {
    let seconds = i64::try_from(settings.cookie_max_age.as_secs()).unwrap_or(i64::MAX);
    let mut cookie = Cookie::build((name, value))
        .path("/")
        .http_only(true)
        .secure(seen.secure)
        .same_site(SameSite::Lax)
        .max_age(Duration::seconds(seconds));
    if let Some(domain) = domain(settings.cookie_domain.as_deref(), seen.host) {
        cookie = cookie.domain(domain.to_owned());
    }
    HeaderValue::try_from(cookie.build().to_string()).ok()
}

/// The domain whose pages all see the cookie: the one that the site names if the host is within it,
/// else the registrable domain of the host. `None` for hosts that have none: the cookie is theirs.
fn domain<'a>(named: Option<&'a str>, host: &'a str) -> Option<&'a str> {
    let is_within = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if let Some(named) = named.filter(|named| is_within(named)) {
        return Some(named);
    }
    let domain = psl::domain(host.as_bytes())?;
    if !domain.suffix().is_known() {
        return None;
    }
    str::from_utf8(domain.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::domain;

    #[test]
    fn the_cookie_is_for_the_registrable_domain() {
        assert_eq!(domain(None, "t.shop.com"), Some("shop.com"));
        assert_eq!(domain(None, "t.shop.co.uk"), Some("shop.co.uk"));
        assert_eq!(domain(None, "shop.github.io"), Some("shop.github.io"));
        for host in ["localhost", "127.0.0.1", "[::1]", "co.uk", "t.shop.unknown", ""] {
            assert_eq!(domain(None, host), None, "{host}");
        }
        assert_eq!(domain(Some("shop.example"), "t.shop.example"), Some("shop.example"));
        assert_eq!(domain(Some("shop.example"), "shop.example"), Some("shop.example"));
        assert_eq!(domain(Some("shop.example"), "t.othershop.com"), Some("othershop.com"));
        assert_eq!(domain(Some("shop.com"), "t.notshop.com"), Some("notshop.com"));
    }
}

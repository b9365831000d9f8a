//! The `Set-Cookie` field of a first-party cookie (`docs/contracts/beacons.md` 12.2).

use std::time::Duration;

use cookie::{Cookie, CookieBuilder, SameSite};
use http::HeaderValue;

use super::{VisitorRequest, VisitorSettings};

/// Returns the field that sets a cookie of the gateway's own, which no script can read. `None` if the cookie's text
/// is not valid in a header field.
pub(super) fn set(
    settings: &VisitorSettings,
    request: &VisitorRequest<'_>,
    name: &str,
    value: String,
) -> Option<HeaderValue> {
    let cookie = Cookie::build((name, value)).http_only(true);
    field(settings, request, cookie, settings.cookie_max_age)
}

/// Returns the field that sets a cookie which scripts in the page can read too. `None` if the cookie's text is not
/// valid in a header field.
pub fn set_for_scripts(
    settings: &VisitorSettings,
    request: &VisitorRequest<'_>,
    (name, value): (&str, &str),
    max_age: Duration,
) -> Option<HeaderValue> {
    field(settings, request, Cookie::build((name, value)), max_age)
}

/// Returns the domain of cookies set in a response from this host; the host itself if no wider domain applies.
pub fn cookie_domain<'a>(settings: &'a VisitorSettings, host: &'a str) -> &'a str {
    domain(settings.cookie_domain.as_deref(), host).unwrap_or(host)
}

fn field(
    settings: &VisitorSettings,
    request: &VisitorRequest<'_>,
    cookie: CookieBuilder<'_>,
    max_age: Duration,
) -> Option<HeaderValue> {
    let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
    let mut cookie = cookie
        .path("/")
        .secure(request.secure)
        .same_site(SameSite::Lax)
        .max_age(cookie::time::Duration::seconds(seconds));
    if let Some(domain) = domain(settings.cookie_domain.as_deref(), request.host) {
        cookie = cookie.domain(domain.to_owned());
    }
    HeaderValue::try_from(cookie.build().to_string()).ok()
}

/// Returns the domain whose pages all see the cookie: the site's configured domain if the host is within it, else
/// the registrable domain of the host. `None` for hosts without one: the cookie is the host's alone.
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

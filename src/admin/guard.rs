//! The check of all routes: the Host must be this listener's own, and an Origin must be the same.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use hyper::{HeaderMap, Method};

use super::request_source::{RequestSource, is_authority, name_of};
use super::{AdminContext, AdminRequestError};

/// The browser's word for the origin of a request: this origin, the site, another site, or the person.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The layer of all routes: passes on requests to the listener's own names from its own origin.
pub(super) async fn require_own_source(
    State(context): State<Arc<AdminContext>>,
    mut request: Request,
    next: Next,
) -> Result<Response, AdminRequestError> {
    let host = check_source(request.headers(), &context.settings.names)?;
    let peer = request.extensions().get().copied();
    let source = RequestSource::new(peer, (host, request.headers()), &context.settings);
    check_scheme(request.headers(), source.is_secure)?;
    request.extensions_mut().insert(source);
    Ok(next.run(request).await)
}

/// Rejects requests that a page of another site made a browser send. For requests with a session's cookie, and those
/// that begin one. Browsers say it in `Sec-Fetch-Site`; older ones send `Origin` with everything but reads, which the
/// check of all requests compares with the host.
pub(super) fn check_browser(
    method: &Method,
    headers: &HeaderMap,
    has_session: bool,
) -> Result<(), AdminRequestError> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let is_own = match single_value(headers, &SEC_FETCH_SITE)? {
        Some("same-origin") => true,
        // The address line, or a bookmark.
        Some("none") => is_read,
        Some(_) => false,
        None => is_read || !has_session || headers.contains_key(ORIGIN),
    };
    if is_own { Ok(()) } else { Err(AdminRequestError::ForeignOrigin) }
}

/// Rejects bodies that are not JSON: a page of another site can make a browser send other types without asking.
pub(super) fn check_content_type(
    method: &Method,
    headers: &HeaderMap,
    is_empty: bool,
) -> Result<(), AdminRequestError> {
    if is_empty && *method == Method::DELETE {
        return Ok(());
    }
    let kind = single_value(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind.eq_ignore_ascii_case("application/json");
    if is_json { Ok(()) } else { Err(AdminRequestError::ContentType) }
}

/// Rejects foreign host names and origins. A page that made a browser resolve its own name to this
/// address (DNS rebinding) sends its own name in Host; a page that posts across origins sends its
/// own in Origin. Returns the Host.
fn check_source<'h>(
    headers: &'h HeaderMap,
    names: &[String],
) -> Result<&'h str, AdminRequestError> {
    let host = single_value(headers, &HOST)?.ok_or(AdminRequestError::Misdirected)?;
    if !is_own_host(host, names) {
        return Err(AdminRequestError::Misdirected);
    }
    match single_value(headers, &ORIGIN)? {
        None => Ok(host),
        Some(origin) => {
            let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if named.is_some_and(|named| named.eq_ignore_ascii_case(host)) {
                Ok(host)
            } else {
                Err(AdminRequestError::ForeignOrigin)
            }
        }
    }
}

/// Rejects requests of plain pages over TLS: others on the way can write such pages.
fn check_scheme(headers: &HeaderMap, is_tls: bool) -> Result<(), AdminRequestError> {
    let is_plain = single_value(headers, &ORIGIN)?.is_some_and(|it| !it.starts_with("https://"));
    if is_tls && is_plain { Err(AdminRequestError::ForeignOrigin) } else { Ok(()) }
}

fn is_own_host(host: &str, names: &[String]) -> bool {
    if !is_authority(host) {
        return false;
    }
    let name = name_of(host);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The field's value if it occurs once; two of them could be read in two ways.
pub(super) fn single_value<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, AdminRequestError> {
    let malformed = || AdminRequestError::Malformed(format!("the {name} field is malformed"));
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed());
    }
    value.to_str().map(Some).map_err(|_opaque| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn check_source_accepts_own_host_names_only() {
        let names = ["ops.example".to_owned()];
        for own in ["127.0.0.1:9090", "[::1]:9090", "localhost", "LOCALHOST:1", "Ops.Example:9090"]
        {
            assert!(check_source(&headers(&[("host", own)]), &names).is_ok(), "{own}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example:9090", "a@127.0.0.1", "", "127.1.evil"]
        {
            let headers = headers(&[("host", foreign)]);
            let result = check_source(&headers, &names);
            assert!(matches!(result, Err(AdminRequestError::Misdirected)), "{foreign}");
        }
        assert!(check_source(&headers(&[]), &names).is_err());
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(matches!(check_source(&twice, &names), Err(AdminRequestError::Malformed(_))));
    }

    #[test]
    fn check_browser_accepts_requests_of_the_own_pages_only() {
        let check = |method: Method, pairs: &[(&str, &str)], has_session| {
            check_browser(&method, &headers(pairs), has_session).is_ok()
        };
        let own = [("sec-fetch-site", "same-origin")];
        assert!(check(Method::POST, &own, true) && check(Method::GET, &own, true));
        let typed = [("sec-fetch-site", "none")];
        assert!(check(Method::GET, &typed, true) && !check(Method::POST, &typed, true));
        for foreign in ["cross-site", "same-site", "x", ""] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let foreign = [("sec-fetch-site", foreign), ("origin", "http://localhost")];
                assert!(!check(method.clone(), &foreign, true) && !check(method, &foreign, false));
            }
        }
        assert!(!check(Method::POST, &[], true), "neither field");
        assert!(check(Method::POST, &[("origin", "http://localhost")], true));
        assert!(check(Method::GET, &[], true) && check(Method::POST, &[], false));
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert!(!check(Method::POST, &twice, true));
    }

    #[test]
    fn check_content_type_accepts_json_only() {
        let check = |method: Method, kind: &str, is_empty| {
            check_content_type(&method, &headers(&[("content-type", kind)]), is_empty).is_ok()
        };
        assert!(check(Method::POST, "application/json", false));
        assert!(check(Method::PATCH, "Application/JSON; charset=utf-8", false));
        for wrong in ["text/plain", "", "application/jsonp", "application/x-www-form-urlencoded"] {
            assert!(!check(Method::POST, wrong, true), "{wrong}");
        }
        assert!(check(Method::DELETE, "", true) && !check(Method::DELETE, "", false));
    }

    #[test]
    fn check_scheme_rejects_plain_pages_over_tls() {
        let check = |origin, is_tls| check_scheme(&headers(&[("origin", origin)]), is_tls).is_ok();
        assert!(check("https://ops.example", true) && check("http://ops.example", false));
        assert!(check_scheme(&headers(&[]), true).is_ok());
        assert!(!check("http://ops.example", true) && !check("null", true));
    }

    #[test]
    fn check_source_accepts_the_same_origin_only() {
        let from = |origin| {
            let headers = headers(&[("host", "localhost:9090"), ("origin", origin)]);
            check_source(&headers, &[]).map(str::to_owned)
        };
        assert!(from("http://localhost:9090").is_ok());
        for foreign in ["http://localhost:8080", "null", "https://evil.example", "localhost:9090"] {
            assert!(matches!(from(foreign), Err(AdminRequestError::ForeignOrigin)), "{foreign}");
        }
    }
}

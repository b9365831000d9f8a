//! Cross-origin rules (`docs/contracts/beacons.md` 1.3, the Fetch standard): exact origins of the site, credentials
//! allowed, every response readable, preflights cached.

use std::collections::HashSet;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tagway_core::answer::ResponseBody;

/// The longest list of field names that a preflight may request: the captured clients request five.
const MAX_ASKED_BYTES: usize = 1024;

/// The allowed origins of one site.
#[derive(Debug)]
pub(super) struct CorsAllowedOrigins {
    exact: HashSet<Box<[u8]>>,
    /// The schemes and ports at which pages of the requested host may send: `http://*:8000`.
    own_ports: Vec<(Box<str>, Box<str>)>,
}

/// Returns the scheme and the port of `http://*:8000`, with their separators.
pub(super) fn own_port(origin: &str) -> Option<(&str, &str)> {
    let (scheme, port) = origin.split_once('*')?;
    let is_port = port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (matches!(scheme, "http://" | "https://") && is_port).then_some((scheme, port))
}

/// Returns the host of an authority, without its port.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The origin of a request, as CORS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CorsOrigin {
    /// No `Origin`: a server, an image, a person.
    Missing,
    /// A page of the site, on another origin.
    Page(HeaderValue),
    /// A page of the gateway's own host.
    Same,
    /// Any other page.
    Foreign,
}

impl CorsAllowedOrigins {
    pub(super) fn new(origins: &[String]) -> Self {
        let own_ports = origins.iter().filter_map(|origin| own_port(origin));
        let exact = origins.iter().filter(|origin| own_port(origin).is_none());
        Self {
            exact: exact.map(|origin| origin.as_bytes().into()).collect(),
            own_ports: own_ports.map(|(scheme, port)| (scheme.into(), port.into())).collect(),
        }
    }

    /// Returns true if the origin is on the list.
    pub(super) fn contains(&self, origin: &str) -> bool {
        self.exact.contains(origin.as_bytes())
    }

    /// Returns true if the page is of the requested host, at a scheme and port that may send.
    fn is_own_port(&self, origin: &[u8], host: &str) -> bool {
        self.own_ports.iter().any(|(scheme, port)| {
            let rest = origin.strip_prefix(scheme.as_bytes());
            let name = rest.and_then(|rest| rest.strip_suffix(port.as_bytes()));
            name.is_some_and(|name| name.eq_ignore_ascii_case(without_port(host).as_bytes()))
        })
    }

    /// Returns the origin of a request to `host` (with its port, as sent).
    pub(super) fn source(&self, fields: &HeaderMap, host: &str) -> CorsOrigin {
        let Some(origin) = fields.get(ORIGIN) else { return CorsOrigin::Missing };
        let bytes = origin.as_bytes();
        if self.exact.contains(bytes) || self.is_own_port(bytes, host) {
            return CorsOrigin::Page(origin.clone());
        }
        // TLS may end before the gateway, so the scheme is not compared.
        let own = bytes.strip_prefix(b"https://").or_else(|| bytes.strip_prefix(b"http://"));
        if own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_bytes())) {
            return CorsOrigin::Same;
        }
        CorsOrigin::Foreign
    }
}

/// Lets the page read the response.
pub(super) fn expose(source: &CorsOrigin, fields: &mut HeaderMap) {
    fields.append(VARY, HeaderValue::from_static("Origin"));
    let CorsOrigin::Page(origin) = source else { return };
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
}

/// Responds to a preflight. For foreign origins it allows nothing.
pub(super) fn preflight(source: &CorsOrigin, asked: &HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let fields = response.headers_mut();
    fields.insert(VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
    let CorsOrigin::Page(origin) = source else { return response };
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    fields.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    // Chrome caches a preflight for two hours at most.
    fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| is_list(names)) {
        fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// Returns true if the value is a list of field names, and so safe to repeat.
fn is_list(names: &HeaderValue) -> bool {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ');
    names.len() <= MAX_ASKED_BYTES && names.as_bytes().iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn source(origin: &str) -> CorsOrigin {
        let origins = CorsAllowedOrigins::new(&["https://shop.example".to_owned()]);
        origins.source(&fields(&[(ORIGIN, origin)]), "t.shop.example:8443")
    }

    #[test]
    fn only_exact_origins_and_the_own_host_are_allowed() {
        assert!(matches!(source("https://shop.example"), CorsOrigin::Page(_)));
        assert_eq!(source("https://t.shop.example:8443"), CorsOrigin::Same);
        for foreign in [
            "null",
            "",
            "https://evil.example",
            "http://shop.example",
            "https://shop.example.evil.example",
            "https://shop.example:444",
            "https://t.shop.example",
            "https://SHOP.example",
        ] {
            assert_eq!(source(foreign), CorsOrigin::Foreign, "{foreign}");
        }
        assert_eq!(
            CorsAllowedOrigins::new(&[]).source(&HeaderMap::new(), "x"),
            CorsOrigin::Missing
        );
    }

    #[test]
    fn pages_of_the_requested_host_may_be_allowed_by_port() {
        let origins = CorsAllowedOrigins::new(&["http://*:8000".to_owned()]);
        let source = |origin: &str, host: &str| origins.source(&fields(&[(ORIGIN, origin)]), host);
        for (name, host) in [("box", "box:8080"), ("10.0.0.7", "10.0.0.7"), ("[::1]", "[::1]:80")] {
            let origin = format!("http://{name}:8000");
            assert_eq!(source(&origin, host), CorsOrigin::Page(origin.parse().unwrap()), "{name}");
            for foreign in ["http://evil.example:8000", "http://*:8000", "http://:8000"] {
                assert_eq!(source(foreign, host), CorsOrigin::Foreign, "{foreign}");
            }
            assert_eq!(source(&format!("https://{name}:8000"), host), CorsOrigin::Foreign);
            assert_eq!(source(&format!("http://{name}:8001"), host), CorsOrigin::Foreign);
        }
        assert_eq!(own_port("http://*"), None);
        assert_eq!(own_port("http://*.shop.example:80"), None);
    }

    #[test]
    fn foreign_page_cannot_read_the_response() {
        for foreign in [CorsOrigin::Foreign, CorsOrigin::Missing, CorsOrigin::Same] {
            let mut answer = HeaderMap::new();
            expose(&foreign, &mut answer);
            assert_eq!(answer.len(), 1, "only Vary: {answer:?}");
            let asked = fields(&[(ACCESS_CONTROL_REQUEST_HEADERS, "authorization")]);
            assert_eq!(preflight(&foreign, &asked).headers().len(), 1);
        }
    }

    #[test]
    fn preflight_repeats_requested_fields_only_if_they_are_a_list() {
        let page = source("https://shop.example");
        let asked = fields(&[(ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type")]);
        let answer = preflight(&page, &asked);
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()["access-control-allow-headers"], "authorization,content-type");
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://shop.example");
        assert_eq!(answer.headers()["access-control-max-age"], "7200");
        let asked = fields(&[(ACCESS_CONTROL_REQUEST_HEADERS, "a;b\"c")]);
        assert!(!preflight(&page, &asked).headers().contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }
}

//! Redirects plain requests to HTTPS.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode};

use super::EdgeResponseBody;

/// The port that an https URL may omit.
const HTTPS_PORT: u16 = 443;

/// Returns 308 to the same URL over TLS, which keeps the method and the body; 400 if the request names no valid
/// host, because the redirect must not repeat anything but a host.
pub(super) fn to_https<B>(request: &Request<B>, port: u16) -> Response<EdgeResponseBody> {
    let mut response = Response::new(EdgeResponseBody::new(Bytes::new()));
    let fields = response.headers_mut();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match location(request, port) {
        Some(location) => {
            fields.insert(LOCATION, location);
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn location<B>(request: &Request<B>, port: u16) -> Option<HeaderValue> {
    let host = match request.uri().host() {
        Some(host) => host,
        None => {
            let mut authorities = request.headers().get_all(HOST).iter();
            let authority = authorities.next()?.to_str().ok()?;
            if authorities.next().is_some() {
                return None;
            }
            match authority.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                _ => authority,
            }
        }
    };
    let host = url::Host::parse(host).ok()?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let text = match port {
        HTTPS_PORT => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, uri: &str, port: u16) -> Option<String> {
        let request = Request::builder().uri(uri).header(HOST, host).body(()).unwrap();
        location(&request, port).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_target_is_the_same_url_on_the_same_host() {
        let https = |host, uri| target(host, uri, 443);
        assert_eq!(https("t.shop.example", "/e?x=1").unwrap(), "https://t.shop.example/e?x=1");
        assert_eq!(https("t.shop.example:8080", "/").unwrap(), "https://t.shop.example/");
        assert_eq!(target("t.shop.example", "/", 8443).unwrap(), "https://t.shop.example:8443/");
        assert_eq!(https("[2001:db8::1]:80", "/").unwrap(), "https://[2001:db8::1]/");
    }

    #[test]
    fn values_that_are_no_host_are_not_repeated() {
        for host in [
            "",
            "evil.example/@shop.example",
            "a b",
            "user@evil.example",
            "x:y:z",
            "shop.example\\",
        ] {
            assert_eq!(target(host, "/", 443), None, "{host}");
        }
        let scheme_relative = target("shop.example", "//evil.example/x", 443).unwrap();
        assert_eq!(scheme_relative, "https://shop.example//evil.example/x");
    }
}

//! The check of all routes: the Host must be this listener's own, and an Origin must be the same.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::http::uri::Authority;

use super::{AdminContext, AdminRequestError};

/// The layer of all routes: passes on requests to the listener's own names from its own origin.
pub(super) async fn require_own_source(
    State(context): State<Arc<AdminContext>>,
    request: Request,
    next: Next,
) -> Result<Response, AdminRequestError> {
    check_source(request.headers(), &context.settings.names)?;
    Ok(next.run(request).await)
}

/// Rejects foreign host names and origins. A page that made a browser resolve its own name to this
/// address (DNS rebinding) sends its own name in Host; a page that posts across origins sends its
/// own in Origin.
fn check_source(headers: &HeaderMap, names: &[String]) -> Result<(), AdminRequestError> {
    let host = single_value(headers, &HOST)?.ok_or(AdminRequestError::Misdirected)?;
    if !is_own_host(host, names) {
        return Err(AdminRequestError::Misdirected);
    }
    match single_value(headers, &ORIGIN)? {
        None => Ok(()),
        Some(origin) => {
            let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if named.is_some_and(|named| named.eq_ignore_ascii_case(host)) {
                Ok(())
            } else {
                Err(AdminRequestError::ForeignOrigin)
            }
        }
    }
}

fn is_own_host(host: &str, names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    literal.parse::<IpAddr>().is_ok()
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
            let result = check_source(&headers(&[("host", foreign)]), &names);
            assert!(matches!(result, Err(AdminRequestError::Misdirected)), "{foreign}");
        }
        assert!(check_source(&headers(&[]), &names).is_err());
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(matches!(check_source(&twice, &names), Err(AdminRequestError::Malformed(_))));
    }

    #[test]
    fn check_source_accepts_the_same_origin_only() {
        let from =
            |origin| check_source(&headers(&[("host", "localhost:9090"), ("origin", origin)]), &[]);
        assert!(from("http://localhost:9090").is_ok());
        for foreign in ["http://localhost:8080", "null", "https://evil.example", "localhost:9090"] {
            assert!(matches!(from(foreign), Err(AdminRequestError::ForeignOrigin)), "{foreign}");
        }
    }
}

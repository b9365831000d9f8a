//! The exact size of a request's head, whatever protocol it came by. The parsers' own limits on memory are only
//! near it.

use http::Request;
use http::header::COOKIE;

use super::settings::EdgeLimits;

/// Returns true if the head exceeds the limit of bytes or fields.
pub(super) fn is_too_large<B>(request: &Request<B>, limits: &EdgeLimits) -> bool {
    let fields = request.headers();
    // HTTP/2 may send each cookie as a field of its own (RFC 9113, section 8.2.3); they count as one.
    let crumbs = fields.get_all(COOKIE).iter().count().saturating_sub(1);
    fields.len() - crumbs > limits.headers || bytes(request) > limits.header_bytes
}

/// Returns the head's length as HTTP/1.1 writes it.
fn bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len())
        + uri.authority().map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(0, |path| path.as_str().len());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    line + request.headers().iter().map(field).sum::<usize>() + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_long_as_it_is_written() {
        let request = Request::get("/e?x=1").header("host", "t.shop.example").body(()).unwrap();
        assert_eq!(bytes(&request), "GET /e?x=1 HTTP/1.1\r\nhost: t.shop.example\r\n\r\n".len());
    }
}

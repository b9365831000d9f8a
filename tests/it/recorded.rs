//! Beacons as files: `request.http` of a fixture.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// A request of a vendor's library.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    /// The path below the vendor's mount.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    /// Reads `request.http` of a case: method and target, header fields, an empty line, and the body,
    /// whose last line break is not part of it. In a multipart form they are all CRLF.
    pub(crate) fn read(case: &Path) -> Self {
        let text = std::fs::read_to_string(case.join("request.http")).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let mut lines = head.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let body = body.strip_suffix('\n').unwrap_or(body);
        let content_type = headers.get("content-type").map_or(&b""[..], HeaderValue::as_bytes);
        let is_multipart = content_type.starts_with(b"multipart/");
        let body = if is_multipart { body.replace('\n', "\r\n") } else { body.to_owned() };
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.into_bytes(),
        }
    }
}

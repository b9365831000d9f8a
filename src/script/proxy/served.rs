//! A script as it is served: rewritten for one mount, and compressed as far as it goes.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::source::{Hash, hash, hex};
use crate::script::file;

/// A script as it is served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) content_type: HeaderValue,
    pub(super) plain: Coded,
    /// The best first. Empty until they are made.
    pub(super) compressed: OnceLock<Vec<Coded>>,
    /// Whether somebody is making them.
    pub(super) compressing: AtomicBool,
}

/// Its text in one content coding.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    /// None for the text as it is.
    pub(super) coding: Option<&'static str>,
    pub(super) etag: HeaderValue,
    pub(super) body: Bytes,
}

impl Served {
    pub(super) fn new(text: Vec<u8>, content_type: &str) -> Self {
        let hash = hash(&text);
        Self {
            content_type: HeaderValue::from_str(content_type)
                .unwrap_or(HeaderValue::from_static("text/javascript")),
            plain: Coded { coding: None, etag: etag(&hash, ""), body: text.into() },
            compressed: OnceLock::new(),
            compressing: AtomicBool::new(false),
        }
    }

    /// The bytes it takes, or will.
    pub(super) fn weight(&self) -> usize {
        self.plain.body.len() * 2 + 1024
    }

    /// Compresses it. Takes long.
    pub(super) fn compress(&self) {
        let text = &self.plain.body;
        let hash = hash(text);
        let codings: [(&'static str, Option<Vec<u8>>); 3] =
            [("br", brotli(text)), ("zstd", zstd(text)), ("gzip", gzip(text))];
        let coded = codings.into_iter().filter_map(|(coding, body)| {
            let body = Bytes::from(body?);
            let etag = etag(&hash, coding);
            (body.len() < text.len()).then_some(Coded { coding: Some(coding), etag, body })
        });
        self.compressed.get_or_init(|| coded.collect());
    }

    /// Whether the client has one of the codings, which are all the same text.
    pub(super) fn is_known(&self, fields: &HeaderMap) -> bool {
        let mut all = self.compressed.get().into_iter().flatten().chain([&self.plain]);
        all.any(|it| it.etag.to_str().is_ok_and(|etag| file::is_known(fields, etag)))
    }

    /// The best that the client takes.
    pub(super) fn best(&self, accepts: Option<&HeaderValue>) -> &Coded {
        let accepts = accepts.and_then(|field| field.to_str().ok()).unwrap_or_default();
        let coded = self.compressed.get().into_iter().flatten();
        let mut taken = coded.filter(|it| it.coding.is_some_and(|it| takes(accepts, it)));
        taken.next().unwrap_or(&self.plain)
    }
}

/// Whether an `Accept-Encoding` takes a coding.
fn takes(accepts: &str, coding: &str) -> bool {
    let quality = |name: &str| {
        accepts.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(name);
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            is_it.then(|| weight.is_none_or(|it| it.parse::<f32>().is_ok_and(|it| it > 0.0)))
        })
    };
    quality(coding).or_else(|| quality("*")).unwrap_or(false)
}

fn etag(hash: &Hash, coding: &str) -> HeaderValue {
    let hash: String = hex(hash).chars().take(32).collect();
    let dash = if coding.is_empty() { "" } else { "-" };
    HeaderValue::try_from(format!("\"{hash}{dash}{coding}\""))
        .unwrap_or(HeaderValue::from_static("\"\""))
}

fn brotli(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = brotli::CompressorWriter::new(Vec::new(), 4096, 11, 22);
    out.write_all(text).ok()?;
    out.flush().ok()?;
    Some(out.into_inner())
}

fn zstd(text: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::compress(text, 19).ok()
}

fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(text).ok()?;
    out.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_coding_that_the_client_takes() {
        let served = Served::new("let a = 1;".repeat(100).into_bytes(), "text/javascript");
        let best = |accepts: &str| served.best(Some(&accepts.parse().unwrap())).coding;
        assert_eq!(best("br, gzip"), None, "until it is compressed");
        served.compress();
        for (accepts, coding) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip, deflate, zstd", Some("zstd")),
            ("gzip;q=0.5", Some("gzip")),
            ("*", Some("br")),
            ("br;q=0, *", Some("zstd")),
            ("identity", None),
            ("", None),
            ("br;q=0", None),
        ] {
            assert_eq!(best(accepts), coding, "{accepts}");
        }
        let tags: std::collections::HashSet<_> =
            served.compressed.get().unwrap().iter().map(|it| it.etag.clone()).collect();
        assert_eq!(tags.len(), 3);
    }

    #[test]
    fn any_coding_among_the_tags_that_a_client_names_is_known() {
        let served = Served::new(vec![b'a'; 1000], "text/javascript");
        served.compress();
        let codings = served.compressed.get().unwrap();
        assert_eq!(codings.len(), 3);
        for etag in codings.iter().chain([&served.plain]).map(|it| it.etag.to_str().unwrap()) {
            let tags = format!("\"x\", W/{etag}");
            let fields =
                HeaderMap::from_iter([(http::header::IF_NONE_MATCH, tags.parse().unwrap())]);
            assert!(served.is_known(&fields), "{etag}");
        }
        let fields =
            HeaderMap::from_iter([(http::header::IF_NONE_MATCH, "\"x\"".parse().unwrap())]);
        assert!(!served.is_known(&fields));
    }
}

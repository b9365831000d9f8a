//! A text in the content codings that browsers accept, each compressed once at its best level, and the
//! choice among them for a request (RFC 9110 section 12.5.3).

use std::io::{self, Write};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};

use super::coding::{AcceptedCodings, QualityValue};

/// The codings in the order of preference among those that a client wants equally.
const CODINGS: [(&str, CompressFunction); 3] = [("br", brotli), ("zstd", zstd), ("gzip", gzip)];

type CompressFunction = fn(&[u8]) -> io::Result<Vec<u8>>;

/// A text and its compressed forms.
#[derive(Debug)]
pub(super) struct EncodedText {
    plain: EncodedForm,
    /// In the order of [`CODINGS`], without those that don't make it shorter. Empty until they are made.
    compressed: OnceLock<Vec<EncodedForm>>,
}

/// The text in one coding.
#[derive(Debug)]
pub(super) struct EncodedForm {
    /// None for the uncompressed text.
    pub(super) coding: Option<&'static str>,
    pub(super) etag: HeaderValue,
    pub(super) body: Bytes,
}

impl EncodedText {
    /// The uncompressed text. Its entity tags begin with `name`, which must be unique to the text.
    pub(super) fn new(text: Bytes, name: &str) -> Self {
        let etag = HeaderValue::try_from(format!("\"{name}\""));
        let etag = etag.unwrap_or(HeaderValue::from_static("\"\""));
        Self { plain: EncodedForm { coding: None, etag, body: text }, compressed: OnceLock::new() }
    }

    /// Compresses the text at the best levels: not for the request path.
    pub(super) fn compress(&self) {
        let make = || {
            let forms = CODINGS.into_iter().filter_map(|(coding, compress)| {
                // Writing to memory does not fail; if it did, the coding would not be offered.
                let body = compress(&self.plain.body).ok()?;
                let own = self.plain.etag.to_str().ok()?.trim_end_matches('"');
                let etag = HeaderValue::try_from(format!("{own}-{coding}\"")).ok()?;
                let is_shorter = body.len() < self.plain.body.len();
                is_shorter.then(|| EncodedForm { coding: Some(coding), etag, body: body.into() })
            });
            forms.collect()
        };
        self.compressed.get_or_init(make);
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compressed.get().is_some()
    }

    /// The uncompressed form of the text.
    pub(super) fn plain(&self) -> &EncodedForm {
        &self.plain
    }

    /// The form that the client prefers. A client that accepts a coding, but none that is available, gets
    /// the uncompressed text, even if it excludes it. `None` if it accepts nothing that could be made.
    pub(super) fn best(&self, fields: &HeaderMap) -> Option<&EncodedForm> {
        let accepted = accepted(fields);
        let mut best = (0, None);
        for form in self.forms() {
            let weight = weight(&accepted, form.coding);
            if weight > best.0 {
                best = (weight, Some(form));
            }
        }
        let takes_some = || accepted.codings.iter().any(|weight| *weight > 0);
        best.1.or_else(|| takes_some().then_some(&self.plain))
    }

    /// Returns true if `If-None-Match` names the text in any coding, compared weakly (RFC 9110 section 13.1.2).
    pub(super) fn is_known(&self, fields: &HeaderMap) -> bool {
        let lines = fields.get_all(IF_NONE_MATCH).into_iter();
        let mut tags = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || self.forms().any(|form| form.etag == tag)
        })
    }

    fn forms(&self) -> impl Iterator<Item = &EncodedForm> {
        self.compressed.get().into_iter().flatten().chain([&self.plain])
    }
}

/// The client's q-values for [`CODINGS`].
fn accepted(fields: &HeaderMap) -> AcceptedCodings<{ CODINGS.len() }> {
    let lines = fields.get_all(ACCEPT_ENCODING).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    AcceptedCodings::read(lines, CODINGS.map(|(name, _)| name))
}

/// The q-value of a coding.
fn weight(accepted: &AcceptedCodings<{ CODINGS.len() }>, coding: Option<&str>) -> QualityValue {
    let Some(coding) = coding else { return accepted.plain };
    let own = CODINGS.iter().zip(accepted.codings).find(|((name, _), _)| *name == coding);
    own.map_or(0, |(_, weight)| weight)
}

fn brotli(text: &[u8]) -> io::Result<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
    let mut content = Vec::new();
    brotli::BrotliCompress(&mut &*text, &mut content, &params)?;
    Ok(content)
}

fn zstd(text: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(text, 19)
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> EncodedText {
        EncodedText::new("let a = 1;".repeat(100).into(), "name")
    }

    fn fields(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (ACCEPT_ENCODING, line.parse().unwrap())).collect()
    }

    #[test]
    fn best_follows_the_clients_weights_then_our_preference() {
        let encoded = encoded();
        encoded.compress();
        let (br, zstd, gzip, plain) =
            (Some(Some("br")), Some(Some("zstd")), Some(Some("gzip")), Some(None));
        let cases: [(&[&str], Option<Option<&str>>); 28] = [
            (&[], plain),
            (&[""], plain),
            (&["gzip, deflate, br, zstd"], br),
            (&["gzip, deflate, zstd"], zstd),
            (&["gzip", "br"], br),
            (&["br;q=0.5, gzip;q=0.9, zstd;q=0.7"], gzip),
            (&["br;q=0.501, zstd;q=0.502"], zstd),
            (&["BR ; Q=0.3 , x-GZIP;q=0.2"], br),
            (&["br;q=0, zstd;q=0.0, gzip;q=0.001"], gzip),
            (&["br;q=0"], plain),
            (&["identity"], plain),
            (&["identity, br"], br),
            (&["identity;q=0.5, br;q=0.1"], plain),
            (&["identity;q=0.5, br;q=0.5"], br),
            (&["*"], br),
            (&["br;q=0, *"], zstd),
            (&["*;q=0.1, gzip;q=0.5"], gzip),
            (&["gzip;q=0.1, *;q=0.5"], br),
            (&["identity;q=0, gzip"], gzip),
            (&["identity;q=0, *;q=0.1"], br),
            (&["identity;q=0"], None),
            (&["*;q=0"], None),
            (&["*;q=0, identity"], plain),
            (&["*;q=0, gzip;q=0.1"], gzip),
            (&["br;q=x, gzip"], gzip),
            (&["br;q=1.5, zstd;q=nan, gzip;q=0.1234"], plain),
            (&["br;q=1.000, gzip;q=1."], br),
            (&["compress, brotli, br2"], plain),
        ];
        for (lines, wanted) in cases {
            let best = encoded.best(&fields(lines)).map(|form| form.coding);
            assert_eq!(best, wanted, "{lines:?}");
        }
    }

    #[test]
    fn best_is_uncompressed_before_compression_and_for_short_texts() {
        let encoded = encoded();
        for accepts in ["br", "br, identity;q=0"] {
            assert_eq!(encoded.best(&fields(&[accepts])).unwrap().coding, None, "{accepts}");
        }
        assert!(encoded.best(&fields(&["*;q=0"])).is_none());
        let short = EncodedText::new("1;".into(), "name");
        short.compress();
        assert!(short.is_compressed());
        assert_eq!(short.best(&fields(&["br, gzip"])).unwrap().coding, None);
    }

    #[test]
    fn is_known_accepts_the_tag_of_any_coding() {
        let encoded = encoded();
        encoded.compress();
        let is_known = |tags: &str| {
            encoded.is_known(&HeaderMap::from_iter([(IF_NONE_MATCH, tags.parse().unwrap())]))
        };
        for tags in ["\"name\"", "\"name-br\"", "\"x\", W/\"name-zstd\"", "\"name-gzip\"", "*"] {
            assert!(is_known(tags), "{tags}");
        }
        assert!(!is_known("\"x\"") && !is_known("name") && !is_known("\"name-deflate\""));
    }
}

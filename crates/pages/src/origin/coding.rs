//! Compresses a page while it streams through.
//!
//! The page is made for this one visitor, who waits: levels at which a page costs less than a millisecond, and
//! windows that limit one client's page to about a MiB of memory. A page of 24 KB took 0.2 ms and became 8.6 KB
//! with zstd at 3, 0.9 ms and 8.3 KB with brotli at 4, 0.6 ms and 8.5 KB with gzip at 4, which is why zstd comes
//! first. Every chunk is flushed at once, so that a page that its server sends in pieces arrives in pieces.

use std::io::{self, Write};
use std::mem;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use zstd::stream::raw::CParameter;

use crate::script::coding::AcceptedCodings;

/// The zstd window: 256 KiB, more than most pages have.
const WINDOW_LOG: u32 = 18;

/// The output buffer of the brotli encoder, in bytes.
const BUFFER: usize = 4096;

/// A content coding for pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageCompression {
    Brotli,
    Zstd,
    Gzip,
}

/// The compressor of one page.
pub(super) enum PageCompressor {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl PageCompression {
    /// Returns the preferred coding that a client accepts.
    pub(super) fn best(accepts: &str) -> Option<Self> {
        const ALL: [PageCompression; 3] =
            [PageCompression::Zstd, PageCompression::Brotli, PageCompression::Gzip];
        let accepted = AcceptedCodings::read(std::iter::once(accepts), ALL.map(Self::name));
        ALL.get(accepted.best()?).copied()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the value of `Content-Encoding`.
    pub(super) const fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

impl PageCompressor {
    pub(super) fn new(coding: PageCompression) -> io::Result<Self> {
        let out = Vec::new();
        Ok(match coding {
            PageCompression::Brotli => {
                Self::Brotli(Box::new(brotli::CompressorWriter::new(out, BUFFER, 4, WINDOW_LOG)))
            }
            PageCompression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 3)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
                Self::Zstd(encoder)
            }
            PageCompression::Gzip => Self::Gzip(GzEncoder::new(out, Compression::new(4))),
        })
    }

    /// Compresses more of the page, and returns output from which all of it so far can be decoded.
    pub(super) fn write(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        if plain.is_empty() {
            return Ok(Vec::new());
        }
        let writer: &mut dyn Write = match self {
            Self::Brotli(encoder) => encoder.as_mut(),
            Self::Zstd(encoder) => encoder,
            Self::Gzip(encoder) => encoder,
        };
        writer.write_all(plain)?;
        writer.flush()?;
        Ok(mem::take(match self {
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        }))
    }

    /// Returns the end of the compressed page.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn plain(coding: PageCompression, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // An unfinished page has no end: what is there of it counts.
        match coding {
            PageCompression::Brotli => {
                brotli::Decompressor::new(bytes, BUFFER).read_to_end(&mut out).ok()
            }
            PageCompression::Zstd => {
                zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out).ok()
            }
            PageCompression::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).ok(),
        };
        out
    }

    #[test]
    fn every_chunk_of_a_page_can_be_decoded_when_it_is_sent() {
        for coding in [PageCompression::Brotli, PageCompression::Zstd, PageCompression::Gzip] {
            let mut encoder = PageCompressor::new(coding).unwrap();
            let (mut out, mut page) = (Vec::new(), Vec::<u8>::new());
            for number in 0..50 {
                let piece = format!("<p class=item>{number} {}</p>", "ä".repeat(number * 100));
                page.extend(piece.as_bytes());
                out.extend(encoder.write(piece.as_bytes()).unwrap());
                assert!(plain(coding, &out) == page, "{coding:?} {number}");
            }
            assert!(encoder.write(b"").unwrap().is_empty());
            out.extend(encoder.finish().unwrap());
            assert!(plain(coding, &out) == page && out.len() < page.len() / 10, "{coding:?}");
        }
    }

    #[test]
    fn best_coding_is_the_preferred_one_that_the_client_accepts() {
        for (accepts, coding) in [
            ("gzip, deflate, br, zstd", Some(PageCompression::Zstd)),
            ("gzip, deflate, br", Some(PageCompression::Brotli)),
            ("br;q=0, gzip;q=0.5", Some(PageCompression::Gzip)),
            ("identity", None),
            ("", None),
        ] {
            assert_eq!(PageCompression::best(accepts), coding, "{accepts}");
        }
    }
}

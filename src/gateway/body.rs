//! A request's body, read and decompressed within its limits (`contracts/beacons.md` 1.2, steps
//! 1 to 4), and within what all bodies may take together.

use std::error::Error;
use std::io::Read;
use std::pin::pin;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::budget::{AT_ONCE_BYTES, Budget, Share};
use super::rejection::Rejection;
use super::settings::Limits;

/// Encodings one upon the other; no client captured uses more than one.
const MAX_ENCODINGS: usize = 2;

/// A longer body is decompressed aside: its CPU time could delay other requests.
const ASIDE_BYTES: usize = 16 * 1024;

/// What every gzip stream starts with: some clients compress without saying so.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// The byte order mark that some tools put before JSON.
const BOM: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The text of a body, and its share of what all may take, to be held as long as what is made of it.
pub(super) struct Received {
    /// The body as it was sent.
    pub(super) sent: Bytes,
    pub(super) text: Bytes,
    /// None if it is parsed at once.
    pub(super) share: Option<Share>,
}

/// Reads the whole body, decompresses it, and takes off what stands around the text.
pub(super) async fn read<B>(
    body: B,
    fields: &HeaderMap,
    limits: &Limits,
    budget: &Budget,
) -> Result<Received, Rejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
{
    let deadline = Instant::now() + limits.body_time;
    let encodings = encodings(fields)?;
    let sent = collect(body, limits, deadline).await?;
    // The share is taken when the body is there, so that nobody holds one by sending slowly.
    if encodings.is_empty() && !sent.starts_with(GZIP_MAGIC) {
        let share = match sent.len() {
            ..=AT_ONCE_BYTES => None,
            length => Some(budget.take(length, deadline).await?),
        };
        return Ok(Received { text: trim(sent.clone()), sent, share });
    }
    let share = budget.take(limits.inflated_bytes, deadline).await?;
    inflate(sent, encodings, limits.inflated_bytes, share).await
}

async fn collect<B>(body: B, limits: &Limits, deadline: Instant) -> Result<Bytes, Rejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
{
    // A Content-Length that is too large is refused before anything is read.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(Rejection::TooLarge);
    }
    let read = pin!(Limited::new(body, limits.body_bytes).collect());
    match timeout_at(deadline, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Rejection::TooLarge),
        Ok(Err(_)) => Err(Rejection::Broken),
        Err(_) => Err(Rejection::TooSlow),
    }
}

/// The encodings in the order they were applied.
fn encodings(fields: &HeaderMap) -> Result<Vec<Encoding>, Rejection> {
    let mut encodings = Vec::new();
    for value in fields.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_opaque| Rejection::UnknownEncoding)?;
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let encoding = match name.to_ascii_lowercase().as_str() {
                "identity" => continue,
                "gzip" | "x-gzip" => Encoding::Gzip,
                "deflate" => Encoding::Deflate,
                "br" => Encoding::Brotli,
                "zstd" => Encoding::Zstd,
                _ => return Err(Rejection::UnknownEncoding),
            };
            if encodings.len() == MAX_ENCODINGS {
                return Err(Rejection::UnknownEncoding);
            }
            encodings.push(encoding);
        }
    }
    Ok(encodings)
}

async fn inflate(
    sent: Bytes,
    encodings: Vec<Encoding>,
    max: usize,
    mut share: Share,
) -> Result<Received, Rejection> {
    let is_short = sent.len() <= ASIDE_BYTES && max <= ASIDE_BYTES;
    // The work goes on when its client goes away, and keeps its share until it is done.
    let work = move || {
        let text = trim(inflate_all(sent.clone(), encodings, max)?);
        share.shrink(text.len());
        Ok(Received { text, sent, share: Some(share) })
    };
    if is_short {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Rejection::Closing))
}

fn inflate_all(sent: Bytes, encodings: Vec<Encoding>, max: usize) -> Result<Bytes, Rejection> {
    let mut bytes = sent;
    for encoding in encodings.into_iter().rev() {
        bytes = decode(encoding, &bytes, max)?;
    }
    if bytes.starts_with(GZIP_MAGIC) {
        bytes = decode(Encoding::Gzip, &bytes, max)?;
    }
    Ok(bytes)
}

fn decode(encoding: Encoding, bytes: &[u8], max: usize) -> Result<Bytes, Rejection> {
    /// The largest window a zstd stream may ask for, as RFC 8878 recommends: 8 MiB.
    const ZSTD_WINDOW_LOG: u32 = 23;
    /// What brotli reads at a time.
    const BROTLI_BUFFER: usize = 4096;
    match encoding {
        Encoding::Gzip => fill(flate2::read::MultiGzDecoder::new(bytes), max),
        // "deflate" means zlib, but some clients send the bare stream (RFC 9110, 8.4.1.2).
        Encoding::Deflate if is_zlib(bytes) => fill(flate2::read::ZlibDecoder::new(bytes), max),
        Encoding::Deflate => fill(flate2::read::DeflateDecoder::new(bytes), max),
        Encoding::Brotli => fill(brotli::Decompressor::new(bytes, BROTLI_BUFFER), max),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(|_invalid| Rejection::BadEncoding)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_invalid| Rejection::BadEncoding)?;
            fill(decoder, max)
        }
    }
}

/// The first two bytes of a zlib stream: deflate with a window, and a check of both (RFC 1950).
fn is_zlib(bytes: &[u8]) -> bool {
    let [method, flags, ..] = bytes else { return false };
    method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31)
}

fn fill(reader: impl Read, max: usize) -> Result<Bytes, Rejection> {
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|_invalid| Rejection::BadEncoding)?;
    if out.len() > max { Err(Rejection::TooLarge) } else { Ok(out.into()) }
}

fn trim(mut text: Bytes) -> Bytes {
    if text.starts_with(BOM) {
        text.advance(BOM.len());
    }
    let start = text.len() - text.trim_ascii_start().len();
    text.advance(start);
    text.truncate(text.trim_ascii_end().len());
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;
    use crate::gateway::tests::limits;

    const TEXT: &[u8] = br#"{"type":"track","event":"Order Completed"}"#;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn bare_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(bytes).unwrap();
        out
    }

    async fn read_bytes<B>(body: B, fields: &HeaderMap) -> Result<Bytes, Rejection>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
    {
        let budget = Budget::new(limits().inflated_bytes);
        read(body, fields, &limits(), &budget).await.map(|read| read.text)
    }

    async fn read_as(encoding: &str, body: Vec<u8>) -> Result<Bytes, Rejection> {
        let mut fields = HeaderMap::new();
        if !encoding.is_empty() {
            fields.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        read_bytes(Full::new(Bytes::from(body)), &fields).await
    }

    #[tokio::test]
    async fn every_encoding_is_undone() {
        let cases = [
            ("", TEXT.to_vec()),
            ("identity", TEXT.to_vec()),
            ("gzip", gzip(TEXT)),
            ("X-GZIP", gzip(TEXT)),
            ("", gzip(TEXT)),
            ("deflate", zlib(TEXT)),
            ("deflate", bare_deflate(TEXT)),
            ("br", brotli(TEXT)),
            ("zstd", zstd::encode_all(TEXT, 3).unwrap()),
            ("deflate, gzip", gzip(&zlib(TEXT))),
            ("gzip", gzip(&gzip(TEXT))),
        ];
        for (encoding, body) in cases {
            assert_eq!(read_as(encoding, body).await.unwrap(), TEXT, "{encoding}");
        }
    }

    #[tokio::test]
    async fn a_bomb_is_refused_in_every_encoding() {
        let zeros = vec![b'0'; 16 << 20];
        let bombs = [
            ("gzip", gzip(&zeros)),
            ("", gzip(&zeros)),
            ("deflate", zlib(&zeros)),
            ("br", brotli(&zeros)),
            ("zstd", zstd::encode_all(zeros.as_slice(), 3).unwrap()),
            ("gzip, gzip", gzip(&gzip(&zeros))),
        ];
        for (encoding, body) in bombs {
            assert!(body.len() < limits().body_bytes, "{encoding}: {}", body.len());
            let result = read_as(encoding, body).await;
            assert!(matches!(result, Err(Rejection::TooLarge)), "{encoding}: {result:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_as_it_says_is_refused() {
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            let result = read_as(encoding, TEXT.to_vec()).await;
            assert!(matches!(result, Err(Rejection::BadEncoding)), "{encoding}: {result:?}");
        }
        let mut cut = gzip(TEXT);
        cut.truncate(20);
        assert!(matches!(read_as("gzip", cut).await, Err(Rejection::BadEncoding)));
        for encoding in ["compress", "gzip, gzip, gzip", "gzip;q=1"] {
            let result = read_as(encoding, TEXT.to_vec()).await;
            assert!(matches!(result, Err(Rejection::UnknownEncoding)), "{encoding}");
        }
    }

    #[tokio::test]
    async fn what_stands_around_the_text_is_taken_off() {
        assert_eq!(read_as("", b"\xef\xbb\xbf \r\n{} \n".to_vec()).await.unwrap(), &b"{}"[..]);
        assert_eq!(read_as("", b" ".to_vec()).await.unwrap(), &b""[..]);
    }

    #[tokio::test]
    async fn a_long_body_is_refused_whether_or_not_it_says_how_long() {
        let long = vec![b' '; limits().body_bytes + 1];
        let result = read_as("", long.clone()).await;
        assert!(matches!(result, Err(Rejection::TooLarge)));
        let frames = long.chunks(1000).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))));
        let frames: Vec<Result<_, std::io::Error>> = frames.collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let result = read_bytes(body, &HeaderMap::new()).await;
        assert!(matches!(result, Err(Rejection::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickling_body_ends() {
        let trickle = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b" "))), ()))
        });
        let started = tokio::time::Instant::now();
        let result = read_bytes(StreamBody::new(trickle), &HeaderMap::new()).await;
        assert!(matches!(result, Err(Rejection::TooSlow)));
        assert_eq!(started.elapsed(), limits().body_time);
    }
}

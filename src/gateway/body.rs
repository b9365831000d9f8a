//! Reads and decompresses a request's body within its limits (`docs/contracts/beacons.md` 1.2, steps 1 to 4), and within
//! the budget of all bodies together.

use std::error::Error;
use std::io::Read;
use std::pin::pin;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::budget::{BudgetAccount, BudgetShare, SMALL_BODY_BYTES};
use super::fair::FairShareGrant;
use super::rejection::RequestRejection;
use super::settings::GatewayLimits;
use tagway_core::values::finite::{may_have_non_finite_numbers, without_non_finite_numbers};

/// The most nested encodings; no captured client uses more than one.
const MAX_ENCODINGS: usize = 2;

/// The longest body as sent that is decompressed at once, however little it contains: streams may consist of empty
/// parts.
const SMALL_BODY_SENT_BYTES: usize = 16 * 1024;

/// The signature of gzip streams: some clients compress without declaring it.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// The byte order mark that some tools put before JSON.
const BOM: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyCompression {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The text of a body, and its share of the budget, to be kept as long as the messages made of it.
pub(super) struct ReceivedBody {
    /// The body as it was sent.
    pub(super) sent: Bytes,
    pub(super) text: Bytes,
    /// The bytes that the quotas count: the body as sent, or decompressed with everything around the text,
    /// whichever is more.
    pub(super) bytes: usize,
    /// `None` if it is parsed at once.
    pub(super) share: Option<BudgetShare>,
}

impl ReceivedBody {
    fn new(inflated: Bytes, sent: Bytes, share: Option<BudgetShare>) -> Self {
        let bytes = inflated.len().max(sent.len());
        let text = trim(inflated);
        let text = without_non_finite_numbers(&text).map_or(text, Bytes::from);
        Self { text, sent, bytes, share }
    }
}

/// Reads the whole body, decompresses it, and trims everything around the text. Numbers that JSON does not
/// know (`NaN`, `Infinity`) become `null`.
pub(super) async fn read<B>(
    body: B,
    fields: &HeaderMap,
    limits: &GatewayLimits,
    account: BudgetAccount<'_>,
) -> Result<ReceivedBody, RequestRejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
{
    let deadline = Instant::now() + limits.body_time;
    let encodings = encodings(fields)?;
    // Released when the body has its share.
    let (sent, _room) = collect(body, limits, account, deadline).await?;
    // The share is taken once the body has arrived, so that slow senders occupy none.
    if encodings.is_empty() && !sent.starts_with(GZIP_MAGIC) {
        if sent.len() <= SMALL_BODY_BYTES {
            return Ok(ReceivedBody::new(sent.clone(), sent, None));
        }
        let share = account.budget.take(account.owner, sent.len(), limits).await?;
        if !may_have_non_finite_numbers(&sent) {
            return Ok(ReceivedBody::new(sent.clone(), sent, Some(share)));
        }
        // Their replacement reads the text byte by byte and makes another.
        let work = move |share| Ok(ReceivedBody::new(sent.clone(), sent, Some(share)));
        return share.run(work).await;
    }
    let few = limits.inflated_bytes.min(SMALL_BODY_BYTES);
    if sent.len() <= SMALL_BODY_SENT_BYTES {
        match inflate_all(sent.clone(), &encodings, few) {
            Ok(inflated) => return Ok(ReceivedBody::new(inflated, sent, None)),
            Err(RequestRejection::TooLarge) if few < limits.inflated_bytes => {}
            Err(rejection) => return Err(rejection),
        }
    }
    let share = account.budget.take(account.owner, limits.inflated_bytes, limits).await?;
    let limits = limits.clone();
    let work = move |mut share: BudgetShare| {
        let inflated = inflate_all(sent.clone(), &encodings, limits.inflated_bytes)?;
        share.shrink(inflated.len().max(sent.len()), &limits);
        Ok(ReceivedBody::new(inflated, sent, Some(share)))
    };
    share.run(work).await
}

/// Reads the body as sent, and takes a grant for it until it is decoded.
async fn collect<B>(
    body: B,
    limits: &GatewayLimits,
    account: BudgetAccount<'_>,
    deadline: Instant,
) -> Result<(Bytes, Option<FairShareGrant>), RequestRejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
{
    let size = body.size_hint();
    // A Content-Length that is too large is refused before anything is read.
    if size.lower() > limits.body_bytes as u64 {
        return Err(RequestRejection::TooLarge);
    }
    let exact = size.exact().and_then(|bytes| usize::try_from(bytes).ok());
    let mut body = pin!(Limited::new(body, limits.body_bytes));
    let (mut parts, mut length, mut room) = (Vec::new(), 0_usize, None);
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => {
                return Err(RequestRejection::TooLarge);
            }
            Ok(Some(Err(_))) => return Err(RequestRejection::Broken),
            Err(_) => return Err(RequestRejection::TooSlow),
        };
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > SMALL_BODY_BYTES && room.is_none() {
            room = Some(account.budget.arrive(account.owner, exact.unwrap_or(limits.body_bytes))?);
        }
        parts.push(data);
    }
    let whole = match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            parts.concat().into()
        }
        None => Bytes::new(),
    };
    Ok((whole, room))
}

/// Returns the encodings in the order they were applied.
fn encodings(fields: &HeaderMap) -> Result<Vec<BodyCompression>, RequestRejection> {
    let mut encodings = Vec::new();
    for value in fields.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_opaque| RequestRejection::UnknownEncoding)?;
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let encoding = match name.to_ascii_lowercase().as_str() {
                "identity" => continue,
                "gzip" | "x-gzip" => BodyCompression::Gzip,
                "deflate" => BodyCompression::Deflate,
                "br" => BodyCompression::Brotli,
                "zstd" => BodyCompression::Zstd,
                _ => return Err(RequestRejection::UnknownEncoding),
            };
            if encodings.len() == MAX_ENCODINGS {
                return Err(RequestRejection::UnknownEncoding);
            }
            encodings.push(encoding);
        }
    }
    Ok(encodings)
}

fn inflate_all(
    sent: Bytes,
    encodings: &[BodyCompression],
    max: usize,
) -> Result<Bytes, RequestRejection> {
    let mut bytes = sent;
    for encoding in encodings.iter().rev() {
        bytes = decode(*encoding, &bytes, max)?;
    }
    if bytes.starts_with(GZIP_MAGIC) {
        bytes = decode(BodyCompression::Gzip, &bytes, max)?;
    }
    Ok(bytes)
}

fn decode(encoding: BodyCompression, bytes: &[u8], max: usize) -> Result<Bytes, RequestRejection> {
    /// The largest window a stream may ask for, as RFC 8878 recommends: 8 MiB.
    const MAX_WINDOW_LOG: u32 = 23;
    /// The input buffer of the brotli decoder, in bytes.
    const BROTLI_BUFFER: usize = 4096;
    match encoding {
        BodyCompression::Gzip => fill(flate2::read::MultiGzDecoder::new(bytes), max),
        // "deflate" means zlib, but some clients send the bare stream (RFC 9110, 8.4.1.2).
        BodyCompression::Deflate if is_zlib(bytes) => {
            fill(flate2::read::ZlibDecoder::new(bytes), max)
        }
        BodyCompression::Deflate => fill(flate2::read::DeflateDecoder::new(bytes), max),
        BodyCompression::Brotli if brotli_window_log(bytes) > MAX_WINDOW_LOG => {
            Err(RequestRejection::BadEncoding)
        }
        BodyCompression::Brotli => fill(brotli::Decompressor::new(bytes, BROTLI_BUFFER), max),
        BodyCompression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(|_invalid| RequestRejection::BadEncoding)?;
            decoder
                .window_log_max(MAX_WINDOW_LOG)
                .map_err(|_invalid| RequestRejection::BadEncoding)?;
            fill(decoder, max)
        }
    }
}

/// Returns true if the first two bytes are a zlib header: deflate with a window, and a check of both (RFC 1950).
fn is_zlib(bytes: &[u8]) -> bool {
    let [method, flags, ..] = bytes else { return false };
    method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31)
}

/// Returns the window that a brotli stream requests (RFC 7932, section 9.1), as the logarithm of its bytes.
fn brotli_window_log(bytes: &[u8]) -> u32 {
    let first = u32::from(bytes.first().copied().unwrap_or_default());
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        // The marker of windows beyond the standard's.
        (_, 0, 1) => u32::MAX,
        (_, 0, small) => 8 + small,
        (_, large, _) => 17 + large,
    }
}

fn fill(reader: impl Read, max: usize) -> Result<Bytes, RequestRejection> {
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|_invalid| RequestRejection::BadEncoding)?;
    if out.len() > max {
        return Err(RequestRejection::TooLarge);
    }
    out.shrink_to_fit();
    Ok(out.into())
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
    use crate::gateway::budget::{BodyBudget, BudgetOwner};
    use crate::gateway::tests::limits;
    use tagway_storage::journal::SiteId;

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

    async fn read_bytes<B>(body: B, fields: &HeaderMap) -> Result<Bytes, RequestRejection>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
    {
        let budget = BodyBudget::new(&limits());
        let payer = BudgetOwner::servers(SiteId(1));
        read(body, fields, &limits(), BudgetAccount { budget: &budget, owner: payer })
            .await
            .map(|read| read.text)
    }

    async fn read_as(encoding: &str, body: Vec<u8>) -> Result<Bytes, RequestRejection> {
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
    async fn decompression_bomb_is_refused_in_every_encoding() {
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
            assert!(matches!(result, Err(RequestRejection::TooLarge)), "{encoding}: {result:?}");
        }
    }

    #[test]
    fn brotli_windows_are_read() {
        let stream = |window| {
            let mut out = Vec::new();
            let mut writer = brotli::CompressorWriter::new(&mut out, 4096, 5, window);
            writer.write_all(&TEXT.repeat(1000)).unwrap();
            drop(writer);
            out
        };
        for window in [10, 16, 17, 18, 22, 24] {
            assert_eq!(brotli_window_log(&stream(window)), window, "{window}");
        }
        assert_eq!(brotli_window_log(&[0x11]), u32::MAX, "a large window");
        assert!(decode(BodyCompression::Brotli, &stream(22), 1 << 20).is_ok());
        let refused = decode(BodyCompression::Brotli, &stream(24), 1 << 20);
        assert!(matches!(refused, Err(RequestRejection::BadEncoding)), "16 MiB for any body");
    }

    #[tokio::test]
    async fn many_bodies_that_arrive_at_once_have_a_bound() {
        let limits = limits();
        let budget = BodyBudget::new(&limits);
        let payer = |number| BudgetOwner::client(SiteId(1), [192, 0, 2, number].into());
        let long = || Full::new(Bytes::from(vec![b' '; limits.body_bytes]));
        let held: Vec<_> = (0..8).map(|_| budget.arrive(payer(1), limits.body_bytes)).collect();
        assert!(held.iter().all(Result::is_ok));
        let fields = HeaderMap::new();
        let ask = |number, body| {
            read(body, &fields, &limits, BudgetAccount { budget: &budget, owner: payer(number) })
        };
        let refused = ask(1, long()).await;
        assert!(matches!(refused, Err(RequestRejection::Overloaded)), "{:?}", refused.err());
        assert!(ask(1, Full::new(Bytes::from_static(b"{}"))).await.is_ok(), "it is small");
        assert!(ask(2, long()).await.is_ok(), "another client's");
    }

    #[tokio::test]
    async fn body_that_does_not_match_its_encoding_is_refused() {
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            let result = read_as(encoding, TEXT.to_vec()).await;
            assert!(matches!(result, Err(RequestRejection::BadEncoding)), "{encoding}: {result:?}");
        }
        let mut cut = gzip(TEXT);
        cut.truncate(20);
        assert!(matches!(read_as("gzip", cut).await, Err(RequestRejection::BadEncoding)));
        for encoding in ["compress", "gzip, gzip, gzip", "gzip;q=1"] {
            let result = read_as(encoding, TEXT.to_vec()).await;
            assert!(matches!(result, Err(RequestRejection::UnknownEncoding)), "{encoding}");
        }
    }

    #[tokio::test]
    async fn bytes_around_the_text_are_trimmed() {
        assert_eq!(read_as("", b"\xef\xbb\xbf \r\n{} \n".to_vec()).await.unwrap(), &b"{}"[..]);
        assert_eq!(read_as("", b" ".to_vec()).await.unwrap(), &b""[..]);
    }

    #[tokio::test]
    async fn long_body_is_refused_with_and_without_a_content_length() {
        let long = vec![b' '; limits().body_bytes + 1];
        let result = read_as("", long.clone()).await;
        assert!(matches!(result, Err(RequestRejection::TooLarge)));
        let frames = long.chunks(1000).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))));
        let frames: Vec<Result<_, std::io::Error>> = frames.collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let result = read_bytes(body, &HeaderMap::new()).await;
        assert!(matches!(result, Err(RequestRejection::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_times_out() {
        let trickle = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b" "))), ()))
        });
        let started = tokio::time::Instant::now();
        let result = read_bytes(StreamBody::new(trickle), &HeaderMap::new()).await;
        assert!(matches!(result, Err(RequestRejection::TooSlow)));
        assert_eq!(started.elapsed(), limits().body_time);
    }
}

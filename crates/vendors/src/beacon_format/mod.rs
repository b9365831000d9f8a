//! The formats of browsers' beacons, of any vendor (`docs/contracts/beacons.md` 1.2): forms, JSON, base64 and gzip
//! in any order; and the canonical messages that are made of them.

mod batch;
mod campaign_context;
mod dotted;
mod fields;
mod lenient_json;
mod message;
mod page;
mod scan;
mod source;
pub mod spec;
#[cfg(test)]
pub(crate) mod test_support;
mod value;

pub use batch::{ErasureRequest, MessageBatch, ReadMessage};
pub use campaign_context::CampaignContext;
pub use dotted::insert_dotted;
pub use fields::FormFields;
pub use message::{
    CanonicalMessage, MessageFault, MessageHead, MessageObjects, MessageTime, RejectedMessage,
    is_blank, preallocated_object, put, take,
};
pub use page::{campaign_member, page, screen};
pub use scan::{UNREADABLE, fits, members, records, string, tree};
pub use source::{is_from, note_source, own_name, own_operations, source};
pub use value::{id, moment, moment_of, scalar_text};

use std::borrow::Cow;
use std::io::Read;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::beacon::{BeaconDecodeError, BeaconLimits};
use tagway_core::values::finite::without_non_finite_numbers;

/// The first bytes of every gzip stream.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Both alphabets work after `-` and `_` are replaced; padding is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes a base64 text of either alphabet, padded or not. A plus sign that was not percent-encoded has
/// become a space.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() && c != ' ').as_bytes();
    let is_foreign = |byte: &u8| matches!(byte, b' ' | b'-' | b'_');
    if !text.iter().any(is_foreign) {
        return BASE64.decode(text).ok();
    }
    let plain = |byte: &u8| match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    BASE64.decode(text.iter().map(plain).collect::<Vec<u8>>()).ok()
}

/// Decompresses a gzip stream.
///
/// # Errors
///
/// Fails if the stream is broken or its content longer than `max`.
pub fn gunzip(bytes: &[u8], max: usize) -> Result<Vec<u8>, BeaconDecodeError> {
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    flate2::read::MultiGzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|_broken| BeaconDecodeError::Malformed("the gzip within the body is broken"))?;
    if out.len() > max {
        return Err(BeaconDecodeError::TooLarge);
    }
    out.shrink_to_fit();
    Ok(out)
}

/// Returns true if bytes begin as a JSON object or list does.
pub fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'{' | b'['))
}

/// Parses a JSON object or list in a field, if it is within the bounds of one event.
pub fn json(bytes: &[u8], bounds: &BeaconLimits) -> Option<Value> {
    let clean = without_non_finite_numbers(bytes);
    is_json(bytes).then(|| tree(clean.as_deref().unwrap_or(bytes), bounds).ok()).flatten()
}

/// Returns the text of a JSON object or list in a field: as it is, or as base64, perhaps of gzip.
///
/// # Errors
///
/// [`BeaconDecodeError::Malformed`] if the text is neither; an error of its own if the unpacked text is too large.
pub fn unpacked<'t>(
    text: &'t str,
    bounds: &BeaconLimits,
) -> Result<Cow<'t, [u8]>, BeaconDecodeError> {
    const NONE: BeaconDecodeError = BeaconDecodeError::Malformed("there is no JSON in the field");
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() && c != ' ');
    if is_json(text.trim_start().as_bytes()) {
        let json = text.trim_start().as_bytes();
        return Ok(without_non_finite_numbers(json).map_or(Cow::Borrowed(json), Cow::Owned));
    }
    let mut bytes = base64(text).ok_or(NONE)?;
    if bytes.starts_with(GZIP_MAGIC) {
        bytes = gunzip(&bytes, bounds.unpacked_bytes)?;
    }
    let start = bytes.len() - bytes.trim_ascii_start().len();
    bytes.truncate(bytes.trim_ascii_end().len());
    bytes.drain(..start.min(bytes.len()));
    if !is_json(&bytes) {
        return Err(NONE);
    }
    Ok(Cow::Owned(without_non_finite_numbers(&bytes).unwrap_or(bytes)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::test_support::BOUNDS;
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn json_is_unpacked_from_base64_and_gzip() {
        let value = json!({ "event": "a>>?~ü" });
        let text = value.to_string();
        let zipped = gzip(text.as_bytes());
        for packed_text in [
            text.clone(),
            format!("\n {text}"),
            STANDARD.encode(&text),
            STANDARD.encode(&text).replace('+', " "),
            URL_SAFE_NO_PAD.encode(&text),
            STANDARD.encode(&zipped),
        ] {
            let found = unpacked(&packed_text, &BOUNDS).unwrap();
            assert_eq!(json(&found, &BOUNDS), Some(value.clone()), "{packed_text}");
        }
        let bomb = STANDARD.encode(gzip(&vec![b' '; BOUNDS.unpacked_bytes + 1]));
        assert_eq!(unpacked(&bomb, &BOUNDS), Err(BeaconDecodeError::TooLarge));
        for nothing in ["", "7", "\"x\"", "***"] {
            assert!(unpacked(nothing, &BOUNDS).is_err(), "{nothing}");
        }
        let broken = unpacked("e30x", &BOUNDS).unwrap();
        assert_eq!((json(&broken, &BOUNDS), json(b"{", &BOUNDS)), (None, None));
    }

    proptest! {
        #[test]
        fn unpacked_finds_only_json_in_any_text(text in ".*") {
            prop_assert!(unpacked(&text, &BOUNDS).map_or(true, |found| is_json(&found)));
            prop_assert!(base64(&text).is_none_or(|bytes| bytes.len() <= text.len()));
        }
    }
}

//! A script as fetched from the vendor.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(super) type ScriptHash = [u8; 32];

/// The prefix of a written hash, as in a page's `integrity`.
const WRITTEN: &str = "sha256-";

/// A script as fetched from the vendor.
#[derive(Clone, Debug)]
pub(super) struct FetchedScript {
    pub(super) facts: ScriptMetadata,
    pub(super) hash: ScriptHash,
    pub(super) body: Bytes,
}

/// The metadata of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ScriptMetadata {
    /// The URL it was fetched from.
    pub(super) url: String,
    pub(super) content_type: String,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    /// The vendor's `max-age`.
    pub(super) max_age: Option<Duration>,
    /// The time at which the vendor last confirmed it, in milliseconds since 1970.
    pub(super) checked_at: i64,
}

pub(super) fn hash(bytes: &[u8]) -> ScriptHash {
    Sha256::digest(bytes).into()
}

/// A hash in hexadecimal.
pub(super) fn hex(hash: &ScriptHash) -> String {
    hex::encode(hash)
}

/// A hash in the form that people read and write.
pub(super) fn written(hash: &ScriptHash) -> String {
    WRITTEN.to_owned() + &STANDARD.encode(hash)
}

/// Parses a written hash.
pub(super) fn read_hash(text: &str) -> Option<ScriptHash> {
    let bytes = STANDARD.decode(text.strip_prefix(WRITTEN)?).ok()?;
    bytes.try_into().ok()
}

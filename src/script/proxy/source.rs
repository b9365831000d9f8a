//! A script as the vendor gave it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(super) type ScriptHash = [u8; 32];

/// What a written hash begins with, as in a page's `integrity`.
const WRITTEN: &str = "sha256-";

/// A script as the vendor gave it.
#[derive(Clone, Debug)]
pub(super) struct FetchedScript {
    pub(super) facts: ScriptMetadata,
    pub(super) hash: ScriptHash,
    pub(super) body: Bytes,
}

/// What is known of a script besides its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ScriptMetadata {
    /// Where it came from.
    pub(super) url: String,
    pub(super) content_type: String,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    /// How long the vendor said it is fresh.
    pub(super) max_age: Option<Duration>,
    /// When the vendor last said that it is right, in milliseconds since 1970.
    pub(super) checked_at: i64,
}

pub(super) fn hash(bytes: &[u8]) -> ScriptHash {
    Sha256::digest(bytes).into()
}

/// A hash in hexadecimal.
pub(super) fn hex(hash: &ScriptHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash as people read and write it.
pub(super) fn written(hash: &ScriptHash) -> String {
    WRITTEN.to_owned() + &STANDARD.encode(hash)
}

/// The hash that is written.
pub(super) fn read_hash(text: &str) -> Option<ScriptHash> {
    let bytes = STANDARD.decode(text.strip_prefix(WRITTEN)?).ok()?;
    bytes.try_into().ok()
}

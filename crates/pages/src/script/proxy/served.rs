//! A served script: rewritten for one mount, and compressed at the best levels.

use std::sync::atomic::AtomicBool;

use http::HeaderValue;

use super::source::{hash, hex};
use crate::script::encoding::EncodedText;

/// Hexadecimal digits of a script's name in its entity tags.
const NAME_CHARS: usize = 32;

/// A script rewritten for one mount.
#[derive(Debug)]
pub(super) struct ProxiedScript {
    pub(super) content_type: HeaderValue,
    pub(super) encoded: EncodedText,
    /// True once its compression has begun.
    pub(super) compressing: AtomicBool,
}

impl ProxiedScript {
    pub(super) fn new(text: Vec<u8>, content_type: &str) -> Self {
        let name: String = hex(&hash(&text)).chars().take(NAME_CHARS).collect();
        Self {
            content_type: HeaderValue::from_str(content_type)
                .unwrap_or(HeaderValue::from_static("text/javascript")),
            encoded: EncodedText::new(text.into(), &name),
            compressing: AtomicBool::new(false),
        }
    }

    /// The memory that it takes, or will take once compressed, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.encoded.plain().body.len() * 2 + 1024
    }
}

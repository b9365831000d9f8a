//! A script as it is served: rewritten for one mount, and compressed as far as it goes.

use std::sync::atomic::AtomicBool;

use http::HeaderValue;

use super::source::{hash, hex};
use crate::script::encoding::EncodedText;

/// Hexadecimal digits of a script's name.
const NAME_CHARS: usize = 32;

/// A script as it is served.
#[derive(Debug)]
pub(super) struct ProxiedScript {
    pub(super) content_type: HeaderValue,
    pub(super) encoded: EncodedText,
    /// Whether somebody compresses it, or has.
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

    /// The bytes it takes, or will.
    pub(super) fn weight(&self) -> usize {
        self.encoded.plain().body.len() * 2 + 1024
    }
}

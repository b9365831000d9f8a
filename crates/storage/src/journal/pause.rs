//! An operator's pause of a reader, stored beside its position.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most characters of a pause's author, and of its reason: a sentence, which lists and alerts quote.
const MAX_TEXT_CHARS: usize = 500;

/// An operator's pause of a reader. One that an earlier version stored has no author, reason and time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReaderPause {
    /// The operator who paused it.
    pub by: String,
    /// The operator's reason.
    pub why: String,
    /// The time of the pause.
    pub at: Option<Timestamp>,
    /// The time at which it ends without an operator.
    pub until: Option<Timestamp>,
}

impl ReaderPause {
    /// Builds a pause; longer texts are cut to 500 characters.
    pub fn new(by: &str, why: &str, at: Timestamp, until: Option<Timestamp>) -> Self {
        let cut = |text: &str| text.chars().take(MAX_TEXT_CHARS).collect();
        Self { by: cut(by), why: cut(why), at: Some(at), until }
    }

    /// Returns true if the pause has ended.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

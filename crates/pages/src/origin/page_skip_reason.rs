//! The reasons why a page did not get the gateway's script.

use std::fmt;
use std::sync::Arc;

/// A reason why a page passes unchanged, or why the inserted script does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageSkipReason {
    /// An AMP page, which may have no script of its own.
    Amp,
    /// An XHTML page, which needs another parser.
    Xhtml,
    /// Several `Content-Type` fields.
    Ambiguous,
    /// A charset that is not a superset of ASCII: UTF-16, ISO-2022-JP.
    Charset,
    /// The origin compressed the page although that was not requested.
    Compressed,
    /// `Cache-Control: no-transform`.
    NoTransform,
    /// A policy of the page stops the script, or what the script sends.
    Policy,
    /// Such a policy appears in the page, after the script.
    LatePolicy,
    /// A tag or comment at its beginning is longer than `tag_bytes`.
    LongTag,
    /// The page ends within a tag or comment at its beginning.
    Unfinished,
    /// The page is empty.
    Empty,
}

impl PageSkipReason {
    /// All reasons, for the counters of skipped pages.
    pub const ALL: [Self; 11] = [
        Self::Amp,
        Self::Xhtml,
        Self::Ambiguous,
        Self::Charset,
        Self::Compressed,
        Self::NoTransform,
        Self::Policy,
        Self::LatePolicy,
        Self::LongTag,
        Self::Unfinished,
        Self::Empty,
    ];

    /// Returns the label in metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Amp => "amp",
            Self::Xhtml => "xhtml",
            Self::Ambiguous => "ambiguous",
            Self::Charset => "charset",
            Self::Compressed => "compressed",
            Self::NoTransform => "no_transform",
            Self::Policy => "policy",
            Self::LatePolicy => "late_policy",
            Self::LongTag => "long_tag",
            Self::Unfinished => "unfinished",
            Self::Empty => "empty",
        }
    }
}

/// Writes the reason, and the cure if there is one.
impl fmt::Display for PageSkipReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Amp => {
                "it is an AMP page, which may have no script of its own. Use <amp-analytics> there"
            }
            Self::Xhtml => {
                "it is XHTML (application/xhtml+xml). Send it as text/html, or insert the snippet yourself"
            }
            Self::Ambiguous => "it has several Content-Type fields. Send one",
            Self::Charset => {
                "its charset is not a superset of ASCII (UTF-16, ISO-2022-JP). Send it in UTF-8"
            }
            Self::Compressed => {
                "the origin compressed it although it was asked not to (Accept-Encoding: identity). \
                 Make the origin respect that; the gateway compresses pages itself"
            }
            Self::NoTransform => {
                "it has Cache-Control: no-transform. Remove that from pages that shall have the snippet"
            }
            Self::Policy => {
                "its Content-Security-Policy does not let /tw.js load, or does not let it send. \
                 The script needs 'self' (or a nonce) in script-src and 'self' in connect-src"
            }
            Self::LatePolicy => {
                "the snippet is in it, but a Content-Security-Policy in a later <meta> does not let it \
                 load /tw.js or send. Put that <meta> before the first script and style sheet, or allow \
                 'self' in script-src and connect-src"
            }
            Self::LongTag => {
                "a tag or comment at its beginning is longer than tag_bytes of [site_defaults.proxy]"
            }
            Self::Unfinished => "it ends within a tag or comment at its beginning",
            Self::Empty => "it is empty",
        })
    }
}

/// The reporter of pages that are not rewritten.
#[derive(Clone)]
pub struct PageSkipReporter(Arc<dyn Fn(PageSkipReason) + Send + Sync>);

impl PageSkipReporter {
    /// Creates a reporter that calls this function.
    pub fn new(hear: impl Fn(PageSkipReason) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(super) fn report(&self, reason: PageSkipReason) {
        (self.0)(reason);
    }
}

impl fmt::Debug for PageSkipReporter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PageReport")
    }
}

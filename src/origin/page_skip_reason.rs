//! The reasons why a page did not get the gateway's script.

use std::fmt;
use std::sync::Arc;

/// A reason why a page is as its origin made it, or why the script that it got does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageSkipReason {
    /// AMP: a page with a script of its own is none.
    Amp,
    /// XHTML, whose parser is another.
    Xhtml,
    /// Several `Content-Type` fields.
    Ambiguous,
    /// A charset that is not ASCII's superset: UTF-16, ISO-2022-JP.
    Charset,
    /// The origin compressed it unasked.
    Compressed,
    /// `Cache-Control: no-transform`.
    NoTransform,
    /// A policy of the page stops the script, or what the script sends.
    Policy,
    /// Such a policy stands in the page, after the script.
    LatePolicy,
    /// A tag or comment at its beginning is longer than `tag_bytes`.
    LongTag,
    /// It ends within a tag or comment at its beginning.
    Unfinished,
    /// There is nothing in it.
    Empty,
}

impl PageSkipReason {
    /// All of them.
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

    /// The label in metrics.
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

/// The reason, and the cure if there is one.
impl fmt::Display for PageSkipReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Amp => {
                "it is an AMP page, which may have no script of its own. Use <amp-analytics> there"
            }
            Self::Xhtml => {
                "it is XHTML (application/xhtml+xml). Send it as text/html, or put the snippet in yourself"
            }
            Self::Ambiguous => "it has several Content-Type fields. Send one",
            Self::Charset => {
                "its charset is not a superset of ASCII (UTF-16, ISO-2022-JP). Send it in UTF-8"
            }
            Self::Compressed => {
                "the origin compressed it although it was asked not to (Accept-Encoding: identity). \
                 Let the origin heed that; the gateway compresses pages itself"
            }
            Self::NoTransform => {
                "it says Cache-Control: no-transform. Take that off pages that are to have the snippet"
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
            Self::Empty => "there is nothing in it",
        })
    }
}

/// Hears of each page that is left alone.
#[derive(Clone)]
pub struct PageSkipReporter(Arc<dyn Fn(PageSkipReason) + Send + Sync>);

impl PageSkipReporter {
    /// A report to this function.
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

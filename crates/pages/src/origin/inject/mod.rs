//! Rewrites a page while it streams through: the gateway's script comes before anything that loads or runs in it,
//! and vendors' tags are rewritten to load the gateway's copies of their scripts.
//!
//! The parser only reads. Edits are cut into the page's own bytes, so that everything else stays unchanged, however
//! the parser understood it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings};

use super::edits::{PageEditPlan, PageEditState};
use super::page_head::{PageHeadScanner, PageHeadToken};
use super::page_skip_reason::PageSkipReason;

/// The parser gets pages in pieces of this size: it buffers a whole piece as soon as a tag in it is incomplete, so
/// larger ones would reach its limit without a large tag.
const PIECE: usize = 16 << 10;

/// The parser's initial allocation, in bytes, within its limit.
const FIRST_BYTES: usize = 1024;

type PageSink = Box<dyn FnMut(&[u8]) + Send>;
type PageParser = HtmlRewriter<'static, PageSink>;

/// The rewriter of one streamed page.
pub(super) struct PageRewriter {
    /// Set until the parser gives up.
    parser: Option<PageParser>,
    page: Arc<PageEditState>,
    /// Set until the script's position is found.
    beginning: Option<PageHeadBuffer>,
    /// Set once it is known if the page declares a charset after the script, and which.
    later_charset: Option<Option<&'static str>>,
    limits: PageLimits,
}

/// The limits on buffered bytes of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimits {
    /// The limit for a tag.
    pub(super) tag: usize,
    /// The limit for an inline script.
    pub(super) inline: usize,
}

/// The beginning of a page, until the script's position is found.
#[derive(Default)]
struct PageHeadBuffer {
    opening: PageHeadScanner,
    /// The bytes that were received and not scanned yet.
    rest: Vec<u8>,
    /// True once the position is found and only the page's charset is awaited.
    is_found: bool,
}

impl PageRewriter {
    /// Creates the rewriter of a page in this encoding.
    pub(super) fn new(
        encoding: AsciiCompatibleEncoding,
        task: PageEditPlan,
        limits: PageLimits,
    ) -> Self {
        let names_charset = task.names_charset || !task.injects;
        let page = Arc::new(PageEditState::new(task));
        let mut settings = Settings::new_send();
        settings.element_content_handlers = page.handlers();
        settings.encoding = encoding;
        settings.strict = false;
        let mut memory = MemorySettings::new();
        memory.max_allowed_memory_usage = limits.tag;
        memory.preallocated_parsing_buffer_size = limits.tag.min(FIRST_BYTES);
        settings.memory_settings = memory;
        let it = page.clone();
        let sink: PageSink = Box::new(move |bytes| {
            it.parsed.fetch_add(bytes.len(), Ordering::Relaxed);
        });
        let parser = Some(HtmlRewriter::new(settings, sink));
        let later_charset = names_charset.then_some(None);
        Self { parser, page, beginning: Some(PageHeadBuffer::default()), later_charset, limits }
    }

    /// Returns true while the page may still declare a charset after the script, too late for browsers.
    pub(super) fn is_looking(&self) -> bool {
        self.beginning.as_ref().is_some_and(|beginning| !beginning.opening.is_declared())
    }

    /// Returns the charset that the page declares, but perhaps too late for browsers after the insertion.
    pub(super) fn moved_charset(&self) -> Option<&'static str> {
        self.later_charset.flatten().filter(|_| self.page.lock().injected.is_some())
    }

    /// Returns the output that is ready after this much more of the page.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + FIRST_BYTES);
        match self.beginning.take() {
            Some(mut beginning) if self.parser.is_some() => {
                beginning.rest.extend_from_slice(bytes);
                self.begin(beginning, false, &mut out);
            }
            _ => self.write_pieces(bytes, &mut out),
        }
        out
    }

    /// Scans the beginning of the page as far as it has arrived.
    fn begin(&mut self, mut beginning: PageHeadBuffer, is_whole: bool, out: &mut Vec<u8>) {
        let rest = mem::take(&mut beginning.rest);
        let mut at = 0;
        while !beginning.is_found {
            let left = rest.get(at..).unwrap_or_default();
            let ahead = match beginning.opening.next(left) {
                PageHeadToken::Passed(length) => {
                    self.write_pieces(left.get(..length).unwrap_or(left), out);
                    at += length;
                    if self.parser.is_none() {
                        return self.give_up(PageSkipReason::LongTag, rest.get(at..), out);
                    }
                    if self.page.lock().is_amp {
                        return self.give_up(PageSkipReason::Amp, rest.get(at..), out);
                    }
                    continue;
                }
                PageHeadToken::Content => None,
                PageHeadToken::Utf16 => Some(PageSkipReason::Charset),
                PageHeadToken::Partial if left.is_empty() && is_whole => {
                    (!beginning.opening.has_elements()).then_some(PageSkipReason::Empty)
                }
                PageHeadToken::Partial if is_whole => Some(PageSkipReason::Unfinished),
                PageHeadToken::Partial if left.len() > self.limits.tag => {
                    Some(PageSkipReason::LongTag)
                }
                PageHeadToken::Partial => {
                    beginning.rest = left.to_vec();
                    self.beginning = Some(beginning);
                    return;
                }
            };
            if let Some(reason) = ahead {
                return self.give_up(reason, Some(left), out);
            }
            beginning.is_found = true;
        }
        let left = rest.get(at..).unwrap_or_default();
        if self.later_charset.is_none() {
            self.later_charset = beginning.opening.later_charset(left, is_whole);
        }
        if self.later_charset.is_none() {
            beginning.rest = left.to_vec();
            self.beginning = Some(beginning);
            return;
        }
        self.page.insert();
        self.write_pieces(left, out);
    }

    /// Lets the rest of the page pass unchanged.
    fn give_up(&mut self, reason: PageSkipReason, rest: Option<&[u8]>, out: &mut Vec<u8>) {
        if self.page.injects {
            self.page.report.report(reason);
        }
        self.parser = None;
        self.later_charset = Some(None);
        let mut progress = self.page.lock();
        out.append(&mut progress.pending);
        out.extend_from_slice(rest.unwrap_or_default());
    }

    fn write_pieces(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.chunks(PIECE) {
            self.write_piece(piece, out);
        }
    }

    fn write_piece(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(parser) = &mut self.parser else { return out.extend_from_slice(piece) };
        self.page.lock().pending.extend_from_slice(piece);
        let parsed = parser.write(piece);
        let mut progress = self.page.lock();
        let upto = self.page.parsed.load(Ordering::Relaxed);
        if progress.held.is_some_and(|held| upto.saturating_sub(held.from) > self.limits.inline) {
            progress.held = None;
        }
        let held = progress.held.map_or(upto, |held| held.from);
        if parsed.is_ok() {
            progress.pass(held.min(upto), out);
        } else {
            self.parser = None;
            progress.pass(upto, out);
            out.append(&mut progress.pending);
        }
    }

    /// Returns the rest of the output.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(beginning) = self.beginning.take() {
            self.begin(beginning, true, &mut out);
        }
        let Some(parser) = self.parser.take() else { return out };
        // It fails only for an incomplete tag: the rest passes as it is.
        let _unfinished = parser.end().is_err();
        let mut progress = self.page.lock();
        let upto = self.page.parsed.load(Ordering::Relaxed);
        progress.pass(upto, &mut out);
        out.append(&mut progress.pending);
        out
    }
}

#[cfg(test)]
pub(super) mod tests;

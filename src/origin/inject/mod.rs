//! The rewriting of a page while it streams through: the gateway's script comes before anything that loads or
//! runs in it, and tags of vendors point at what the gateway has of their scripts.
//!
//! The parser only reads. What changes is cut into the page's own bytes, so that everything else stays
//! as it is, whatever the parser made of it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings};

use super::edits::{PageEditPlan, PageEditState};
use super::page_head::{PageHeadScanner, PageHeadToken};
use super::page_skip_reason::PageSkipReason;

/// The parser gets pages in pieces of this size: it counts a piece whole as soon as a tag in it is
/// not whole, so larger ones would meet its limit without a large tag.
const PIECE: usize = 16 << 10;

/// What the parser takes from the start, of what it may.
const FIRST_BYTES: usize = 1024;

type PageSink = Box<dyn FnMut(&[u8]) + Send>;
type PageParser = HtmlRewriter<'static, PageSink>;

/// A page on its way through.
pub(super) struct PageRewriter {
    /// Until it gives up.
    parser: Option<PageParser>,
    page: Arc<PageEditState>,
    /// Until the script's place is found.
    beginning: Option<PageHeadBuffer>,
    /// The charset that the page declares after the script, once that is known.
    later_charset: Option<Option<&'static str>>,
    limits: PageLimits,
}

/// The bytes of a page that are held at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimits {
    /// For a tag.
    pub(super) tag: usize,
    /// For an inline script.
    pub(super) inline: usize,
}

/// The beginning of a page, until the script's place is found.
#[derive(Default)]
struct PageHeadBuffer {
    opening: PageHeadScanner,
    /// The bytes that came in and were not looked at yet.
    rest: Vec<u8>,
    /// True once the place is found: it waits for the page's charset only.
    is_found: bool,
}

impl PageRewriter {
    /// A page in this encoding.
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

    /// True as long as the page may declare a charset after the script, too late for browsers.
    pub(super) fn is_looking(&self) -> bool {
        self.beginning.as_ref().is_some_and(|beginning| !beginning.opening.is_declared())
    }

    /// The charset that the page declares, but perhaps not where browsers look for it any more.
    pub(super) fn moved_charset(&self) -> Option<&'static str> {
        self.later_charset.flatten().filter(|_| self.page.lock().injected.is_some())
    }

    /// What can be said of the page after this much more of it.
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

    /// Looks at the beginning of the page as far as it is here.
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

    /// Lets all that follows pass as it is.
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

    /// The rest.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(beginning) = self.beginning.take() {
            self.begin(beginning, true, &mut out);
        }
        let Some(parser) = self.parser.take() else { return out };
        // If it fails, then for a tag that is not whole: all there is of it goes on.
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

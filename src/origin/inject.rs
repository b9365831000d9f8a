//! The gateway's script in a page, put there while the page streams through.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::header::CONTENT_SECURITY_POLICY;
use lol_html::html_content::{ContentType, EndTag};
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings, element};

use crate::script::Sdk;
use crate::script::compose::SNIPPET;

/// Where the gateway's script is.
const SCRIPT: &str = "/tw.js";

/// The parser gets pages in pieces of this size: it counts a piece whole as soon as a tag in it is
/// not whole, so larger ones would meet its limit without a large tag.
const PIECE: usize = 16 << 10;

/// What the parser takes from the start, of what it may.
const FIRST_BYTES: usize = 1024;

type Sink = Box<dyn FnMut(&[u8]) + Send>;
type Parser = HtmlRewriter<'static, Sink>;

/// A page on its way through.
pub(super) struct Rewriter {
    /// Until it gives up.
    parser: Option<Parser>,
    progress: Shared,
    /// What came in and did not go out yet: all there is of the page if the parser gives up.
    pending: Vec<u8>,
    /// How much of the page is not pending any more.
    passed: usize,
    /// How much went out.
    sent: usize,
}

/// What was done to the page so far.
#[derive(Default)]
struct Progress {
    /// Not yet taken.
    written: Vec<u8>,
    /// Whether the script is in the page.
    is_done: bool,
    /// Bytes that the page did not have.
    inserted: usize,
    /// Bytes of the page that were left out.
    removed: usize,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Progress>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the script is still to be put in, which is then done.
    fn insert(&self, tag: &str) -> bool {
        let mut progress = self.lock();
        if progress.is_done {
            return false;
        }
        progress.is_done = true;
        progress.inserted += tag.len();
        true
    }
}

impl Rewriter {
    /// A page in this encoding that is asked for at `authority`. The parser holds `limit` bytes at
    /// most.
    pub(super) fn new(
        encoding: AsciiCompatibleEncoding,
        admitted: &Admitted,
        authority: &str,
        limit: usize,
    ) -> Self {
        let (tag, authority): (Arc<str>, Arc<str>) = (admitted.tag().into(), authority.into());
        let progress = Shared::default();
        let (shared, text) = (progress.clone(), tag.clone());
        let head = move |head: &mut Element<'_, '_>| {
            if shared.insert(&text) {
                head.prepend(&text, ContentType::Html);
            }
            Ok(())
        };
        let (shared, text) = (progress.clone(), tag.clone());
        let script = move |script: &mut Element<'_, '_>| {
            let is_ours = script.get_attribute("src").is_some_and(|src| is_ours(&src, &authority));
            if !is_ours {
                if shared.insert(&text) {
                    script.before(&text, ContentType::Html);
                }
            } else if mem::replace(&mut shared.lock().is_done, true) {
                leave_out(script, &shared);
            }
            Ok(())
        };
        let shared = progress.clone();
        let body = move |body: &mut Element<'_, '_>| {
            if shared.insert(&tag) {
                body.before(&tag, ContentType::Html);
            }
            Ok(())
        };
        let mut settings = Settings::new_send();
        settings.element_content_handlers =
            vec![element!("head", head), element!("script", script), element!("body", body)];
        settings.encoding = encoding;
        settings.strict = false;
        let mut memory = MemorySettings::new();
        memory.max_allowed_memory_usage = limit;
        memory.preallocated_parsing_buffer_size = limit.min(FIRST_BYTES);
        settings.memory_settings = memory;
        let shared = progress.clone();
        let sink: Sink = Box::new(move |bytes| shared.lock().written.extend_from_slice(bytes));
        let parser = Some(HtmlRewriter::new(settings, sink));
        Self { parser, progress, pending: Vec::new(), passed: 0, sent: 0 }
    }

    /// What can be said of the page after this much more of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(parser) = &mut self.parser else { return bytes.to_vec() };
        self.pending.extend_from_slice(bytes);
        let parsed = bytes.chunks(PIECE).try_for_each(|piece| parser.write(piece));
        self.settle(parsed.is_ok())
    }

    /// The rest.
    pub(super) fn end(mut self) -> Vec<u8> {
        match self.parser.take().map(Parser::end) {
            Some(parsed) => self.settle(parsed.is_ok()),
            None => Vec::new(),
        }
    }

    /// What goes out now. If the parser gave up, all that it has not passed on: what it passed on is
    /// the page's beginning, but for what was put in or left out.
    fn settle(&mut self, is_parsed: bool) -> Vec<u8> {
        let mut progress = self.progress.lock();
        let mut out = mem::take(&mut progress.written);
        self.sent += out.len();
        let passed = (self.sent + progress.removed).saturating_sub(progress.inserted);
        let newly = passed.saturating_sub(self.passed).min(self.pending.len());
        self.pending.drain(..newly);
        self.passed += newly;
        if !is_parsed {
            self.parser = None;
            out.append(&mut self.pending);
        }
        out
    }
}

/// Leaves out a script that would be the second.
fn leave_out(script: &mut Element<'_, '_>, shared: &Shared) {
    let (start, shared) = (script.source_location().bytes().start, shared.clone());
    let ended = move |tag: &mut EndTag<'_>| {
        shared.lock().removed += tag.source_location().bytes().end.saturating_sub(start);
        Ok(())
    };
    // One that cannot end, as in SVG, stays: it finds the first there and does nothing.
    if let Some(handlers) = script.end_tag_handlers() {
        handlers.push(Box::new(ended));
        script.remove();
    }
}

/// Whether a page loads the gateway's script itself, from the host that the page is from.
fn is_ours(src: &str, authority: &str) -> bool {
    let src = src.trim().split(['?', '#']).next().unwrap_or_default();
    let after = src.strip_prefix("https:").or_else(|| src.strip_prefix("http:")).unwrap_or(src);
    match after.strip_prefix("//") {
        Some(after) => after
            .split_at_checked(authority.len())
            .is_some_and(|(host, path)| host.eq_ignore_ascii_case(authority) && Sdk::is_at(path)),
        None => Sdk::is_at(src),
    }
}

/// Which scripts the page's policies let run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// What those must carry that do.
    nonce: Option<String>,
    /// Whether any may stand in the page itself.
    inline: bool,
}

impl Admitted {
    /// Reads the policies of an answer.
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut admitted = Self { nonce: None, inline: true };
        let policies = fields.get_all(CONTENT_SECURITY_POLICY).iter();
        let policies = policies.filter_map(|value| value.to_str().ok());
        for policy in policies.flat_map(|value| value.split(',')) {
            let Some(sources) = of_scripts(policy) else { continue };
            let nonce = sources.clone().find_map(nonce_of);
            // Who names hashes or nonces means no others.
            let is_open = sources.clone().any(|it| it.eq_ignore_ascii_case("'unsafe-inline'"))
                && !sources.clone().any(|it| it.starts_with("'sha") || it.starts_with("'nonce-"));
            admitted.inline &= nonce.is_some() || is_open;
            admitted.nonce = admitted.nonce.or(nonce);
        }
        admitted
    }

    /// What is put into the page: the snippet, where it may run, and the script.
    fn tag(&self) -> String {
        let nonce = self.nonce.as_ref().map(|nonce| format!(r#" nonce="{nonce}""#));
        let nonce = nonce.unwrap_or_default();
        let snippet = match self.inline {
            true => format!("<script{nonce}>{}</script>", SNIPPET.trim()),
            false => String::new(),
        };
        format!(r#"{snippet}<script async src="{SCRIPT}"{nonce}></script>"#)
    }
}

/// What a policy says of scripts, if it does.
fn of_scripts(policy: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    ["script-src-elem", "script-src", "default-src"].iter().find_map(|wanted| {
        policy.split(';').find_map(|directive| {
            let mut words = directive.split_ascii_whitespace();
            words.next()?.eq_ignore_ascii_case(wanted).then_some(words)
        })
    })
}

/// Only the characters that a nonce can have: it comes to stand in the page.
fn nonce_of(word: &str) -> Option<String> {
    let nonce = word.strip_prefix("'nonce-")?.strip_suffix('\'')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    (!nonce.is_empty() && nonce.bytes().all(fits)).then(|| nonce.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Admitted = Admitted { nonce: None, inline: true };

    /// The page, cut into pieces of this size.
    fn by(page: &str, size: usize, limit: usize) -> String {
        let encoding = AsciiCompatibleEncoding::utf_8();
        let mut rewriter = Rewriter::new(encoding, &OPEN, "t.shop.example", limit);
        let mut out = Vec::new();
        for chunk in page.as_bytes().chunks(size) {
            out.extend(rewriter.write(chunk));
        }
        out.extend(rewriter.end());
        String::from_utf8(out).unwrap()
    }

    /// The page, however it is cut.
    fn rewritten(page: &str) -> String {
        let whole = by(page, page.len().max(1), 1 << 20);
        for size in 1..page.len() {
            assert_eq!(by(page, size, 1 << 20), whole, "{size}");
        }
        whole
    }

    #[test]
    fn the_script_comes_first_in_the_head_and_all_else_stays() {
        let page = "<!doctype html>\n<HTML><head lang=x>\r\n<title>ä &amp;</title><script>'<head>'</script>\
                    </head><body class = a>x<p>y</body>";
        let (before, after) = page.split_once("\r\n").unwrap();
        assert_eq!(rewritten(page), format!("{before}{}\r\n{after}", OPEN.tag()));
    }

    #[test]
    fn pages_without_a_head_get_it_before_their_first_script_or_body() {
        let tag = OPEN.tag();
        assert_eq!(rewritten("<p>x<script>1</script>"), format!("<p>x{tag}<script>1</script>"));
        assert_eq!(rewritten("<body>x"), format!("{tag}<body>x"));
        assert_eq!(rewritten("just <text"), "just <text");
    }

    #[test]
    fn nothing_is_loaded_twice_and_nothing_of_others_is_left_out() {
        let tag = OPEN.tag();
        for own in ["https://T.shop.example/tw.js?v=1", "/tw.js", "//t.shop.example/tw.js"] {
            let page = format!("<head><script src='{own}'>x</script><p></head>");
            assert_eq!(rewritten(&page), format!("<head>{tag}<p></head>"));
        }
        for other in ["https://other.example/tw.js", "/a/tw.js", "//t.shop.example.evil/tw.js"] {
            let page = format!("<script src='{other}'></script></head>");
            assert_eq!(rewritten(&format!("<head>{page}")), format!("<head>{tag}{page}"));
        }
        let page = "<p><script src=/tw.js></script><body>";
        assert_eq!(rewritten(page), page);
    }

    #[test]
    fn a_page_that_the_parser_gives_up_on_goes_on_as_it_is() {
        let long = "x".repeat(9000);
        let tail = format!("<script id='{long}'>ä</script><script src=/tw.js></script>");
        let page = format!("<head><script src=/tw.js></script><b></b></head>{tail}");
        let expected = format!("<head>{}<b></b></head>{tail}", OPEN.tag());
        for size in [1, 7, 100, 4096, 5000, 8999] {
            assert_eq!(by(&page, size, 4096), expected, "{size}");
        }
        for limit in [0, 1, 1024] {
            let passed = by(&format!("<head title='{long}'><body>"), 100, limit);
            assert_eq!(passed, format!("<head title='{long}'><body>"));
        }
    }

    #[test]
    fn the_snippet_fits_into_a_page() {
        assert!(!SNIPPET.to_ascii_lowercase().contains("</script") && !SNIPPET.contains("<!--"));
    }

    #[test]
    fn the_nonce_is_the_one_for_scripts_and_what_may_not_run_is_not_put_in() {
        let of = |policy: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
            let Admitted { nonce, inline } = Admitted::of(&fields);
            (nonce.unwrap_or_default(), inline)
        };
        let both = "default-src 'nonce-a'; script-src 'self' 'nonce-b=='; style-src 'nonce-c'";
        assert_eq!(of(both), ("b==".to_owned(), true));
        assert_eq!(of("Default-Src 'nonce-a'"), ("a".to_owned(), true));
        assert_eq!(of("style-src 'nonce-a'"), (String::new(), true));
        assert_eq!(of("script-src 'self'"), (String::new(), false));
        assert_eq!(of("script-src 'unsafe-inline'"), (String::new(), true));
        assert_eq!(of("script-src 'unsafe-inline' 'sha256-x'"), (String::new(), false));
        assert_eq!(of("img-src x, script-src 'self'"), (String::new(), false));
        assert_eq!(of("script-src 'nonce-a\"><script>'"), (String::new(), false));
        let bare = Admitted { nonce: None, inline: false };
        assert_eq!(bare.tag(), r#"<script async src="/tw.js"></script>"#);
    }
}

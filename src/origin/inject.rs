//! The gateway's script in a page, put there while the page streams through.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::CONTENT_SECURITY_POLICY;
use lol_html::errors::RewritingError;
use lol_html::html_content::ContentType;
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings, element};

/// Where the gateway's script is.
const SCRIPT: &str = "/tw.js";

/// The most that one tag may take: what is not whole yet has to wait.
const TAG_BYTES: usize = 2 << 20;

/// What was written so far of the page.
type Written = Arc<Mutex<Vec<u8>>>;

/// A page on its way through.
pub(super) struct Rewriter {
    rewriter: HtmlRewriter<'static, Box<dyn FnMut(&[u8]) + Send>>,
    written: Written,
}

impl Rewriter {
    /// A page in this encoding, whose policy lets scripts with this nonce run.
    pub(super) fn new(encoding: AsciiCompatibleEncoding, nonce: Option<&str>) -> Self {
        let tag: Arc<str> = tag(nonce).into();
        let is_done = Arc::new(AtomicBool::new(false));
        let (done, text) = (is_done.clone(), tag.clone());
        let head = move |head: &mut Element<'_, '_>| {
            if !done.swap(true, Ordering::Relaxed) {
                head.prepend(&text, ContentType::Html);
            }
            Ok(())
        };
        let (done, text) = (is_done.clone(), tag.clone());
        let script = move |script: &mut Element<'_, '_>| {
            if is_ours(script) {
                if done.swap(true, Ordering::Relaxed) {
                    script.remove();
                }
            } else if !done.swap(true, Ordering::Relaxed) {
                script.before(&text, ContentType::Html);
            }
            Ok(())
        };
        let body = move |body: &mut Element<'_, '_>| {
            if !is_done.swap(true, Ordering::Relaxed) {
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
        memory.max_allowed_memory_usage = TAG_BYTES;
        settings.memory_settings = memory;
        let written = Written::default();
        let sink = written.clone();
        let sink: Box<dyn FnMut(&[u8]) + Send> = Box::new(move |bytes| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        });
        Self { rewriter: HtmlRewriter::new(settings, sink), written }
    }

    /// What can be said of the page after this much more of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Vec<u8>, RewritingError> {
        self.rewriter.write(bytes)?;
        Ok(take(&self.written))
    }

    /// The rest.
    pub(super) fn end(self) -> Result<Vec<u8>, RewritingError> {
        self.rewriter.end()?;
        Ok(take(&self.written))
    }
}

fn take(written: &Written) -> Vec<u8> {
    mem::take(&mut written.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a page loads the gateway's script itself.
fn is_ours(script: &Element<'_, '_>) -> bool {
    let path = script.get_attribute("src");
    path.is_some_and(|path| path.split(['?', '#']).next().is_some_and(|it| it.ends_with(SCRIPT)))
}

fn tag(nonce: Option<&str>) -> String {
    match nonce {
        Some(nonce) => format!(r#"<script async src="{SCRIPT}" nonce="{nonce}"></script>"#),
        None => format!(r#"<script async src="{SCRIPT}"></script>"#),
    }
}

/// The nonce with which the page's policy lets scripts run, if it has one.
pub(super) fn nonce(fields: &HeaderMap) -> Option<String> {
    let policies = fields.get_all(CONTENT_SECURITY_POLICY).iter();
    let policies = policies.filter_map(|value| value.to_str().ok());
    policies.flat_map(|value| value.split(',')).find_map(|policy| {
        ["script-src-elem", "script-src", "default-src"].iter().find_map(|wanted| {
            policy.split(';').find_map(|directive| {
                let mut words = directive.split_ascii_whitespace();
                if !words.next()?.eq_ignore_ascii_case(wanted) {
                    return None;
                }
                words.find_map(nonce_of)
            })
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

    const TAG: &str = r#"<script async src="/tw.js"></script>"#;

    /// The page, however it is cut.
    fn rewritten(page: &str) -> String {
        let by = |size: usize| {
            let mut rewriter = Rewriter::new(AsciiCompatibleEncoding::utf_8(), None);
            let mut out = Vec::new();
            for chunk in page.as_bytes().chunks(size) {
                out.extend(rewriter.write(chunk).unwrap());
            }
            out.extend(rewriter.end().unwrap());
            String::from_utf8(out).unwrap()
        };
        let whole = by(page.len().max(1));
        for size in 1..page.len() {
            assert_eq!(by(size), whole, "{size}");
        }
        whole
    }

    #[test]
    fn the_script_comes_first_in_the_head_and_all_else_stays() {
        let page = "<!doctype html>\n<HTML><head lang=x>\r\n<title>ä &amp;</title><script>'<head>'</script>\
                    </head><body class = a>x<p>y</body>";
        let (before, after) = page.split_once("\r\n").unwrap();
        assert_eq!(rewritten(page), format!("{before}{TAG}\r\n{after}"));
    }

    #[test]
    fn pages_without_a_head_get_it_before_their_first_script_or_body() {
        assert_eq!(rewritten("<p>x<script>1</script>"), format!("<p>x{TAG}<script>1</script>"));
        assert_eq!(rewritten("<body>x"), format!("{TAG}<body>x"));
        assert_eq!(rewritten("just <text"), "just <text");
    }

    #[test]
    fn nothing_is_loaded_twice() {
        let page = "<head><script src='https://t.shop.example/tw.js?v=1'></script></head>";
        assert_eq!(rewritten(page), format!("<head>{TAG}</head>"));
        let page = "<p><script src=/tw.js></script><body>";
        assert_eq!(rewritten(page), page);
    }

    #[test]
    fn the_nonce_is_the_one_for_scripts() {
        let of = |policy: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
            nonce(&fields)
        };
        let both = "default-src 'nonce-a'; script-src 'self' 'nonce-b=='; style-src 'nonce-c'";
        assert_eq!(of(both).as_deref(), Some("b=="));
        assert_eq!(of("Default-Src 'nonce-a'").as_deref(), Some("a"));
        assert_eq!(of("style-src 'nonce-a'"), None);
        assert_eq!(of("script-src 'nonce-a\"><script>'"), None);
    }
}

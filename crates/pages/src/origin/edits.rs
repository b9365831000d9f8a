//! The edits of one page: replacements of its bytes, found as its elements are parsed.

use std::borrow::Cow;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lol_html::html_content::{Attribute, EndTag};
use lol_html::send::{Element, ElementContentHandlers};
use lol_html::{Selector, element};
use parking_lot::{Mutex, MutexGuard};

use super::hints::{self, CONNECTING, FETCHING};
use super::page_skip_reason::{PageSkipReason, PageSkipReporter};
use super::policy::{CspHosts, CspScriptRules};
use super::tags::{PageLink, PageTextEdit, VendorTags};
use crate::script::SiteSdkScripts;
use crate::script::compose::snippet;

/// The path of the gateway's script.
pub(super) const SCRIPT: &str = "/tw.js";

/// Removes the snippet from the document when it has run: applications that hydrate the whole document fail on
/// elements that they did not create.
pub(super) const LEAVE: &str = "document.currentScript.remove()";

/// Elements in SVG and MathML have other namespaces.
const HTML: &str = "http://www.w3.org/1999/xhtml";

/// A parser handler for the elements of one name.
pub(super) type ElementHandler = (Cow<'static, Selector>, ElementContentHandlers<'static>);

/// The planned edits of one page.
pub(super) struct PageEditPlan {
    /// True if the page gets the gateway's script.
    pub(super) injects: bool,
    /// The tags that are rewritten.
    pub(super) tags: Arc<VendorTags>,
    /// The scripts that the page's policies admit.
    pub(super) admitted: CspScriptRules,
    /// The host and port that the page is requested at.
    pub(super) authority: String,
    /// True if it is requested over TLS.
    pub(super) secure: bool,
    /// The host and port that the script sends to.
    pub(super) events: String,
    /// True if its head names its charset.
    pub(super) names_charset: bool,
    /// The reporter, in case the page is not rewritten.
    pub(super) report: PageSkipReporter,
}

/// The state of a page that its edits depend on.
pub(super) struct PageEditState {
    pub(super) injects: bool,
    tags: Arc<VendorTags>,
    authority: String,
    /// True if the authority can be written into scripts.
    is_plain: bool,
    events: String,
    pub(super) report: PageSkipReporter,
    /// The URL before paths in scripts: a scheme and the authority.
    base: String,
    /// The number of bytes that the parser has finished.
    pub(super) parsed: AtomicUsize,
    progress: Mutex<PageEditProgress>,
}

/// The progress of a page, and its edits.
#[derive(Default)]
pub(super) struct PageEditProgress {
    /// The bytes that were received and not sent yet.
    pub(super) pending: Vec<u8>,
    /// The number of bytes that were sent.
    passed: usize,
    /// The edits, in the page's order.
    changes: Vec<PageTextEdit>,
    /// The gateway's script, once it is in the page.
    pub(super) injected: Option<InjectedScript>,
    /// True if the page is AMP, which may not be changed.
    pub(super) is_amp: bool,
    /// True if the page has a `<base>`, so that paths may resolve to another host.
    has_base: bool,
    /// A script that is buffered until its end.
    pub(super) held: Option<BufferedScript>,
    admitted: CspScriptRules,
}

/// The gateway's script, as inserted into a page.
pub(super) struct InjectedScript {
    nonce: Option<String>,
    /// True if a later policy stops it.
    is_stopped: bool,
}

/// A script that is buffered.
#[derive(Clone, Copy)]
pub(super) struct BufferedScript {
    /// The position of its tag, which identifies it.
    tag: usize,
    /// The position of the first buffered byte.
    pub(super) from: usize,
}

impl PageEditProgress {
    /// Writes the page up to a position, with its edits.
    pub(super) fn pass(&mut self, upto: usize, out: &mut Vec<u8>) {
        let changes = self.changes.partition_point(|(range, _)| range.end <= upto);
        let mut at = self.passed;
        for (range, text) in self.changes.drain(..changes) {
            out.extend_from_slice(of(&self.pending, self.passed, &(at..range.start)));
            out.extend_from_slice(text.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(of(&self.pending, self.passed, &(at..upto)));
        let length = upto.saturating_sub(self.passed).min(self.pending.len());
        self.pending.drain(..length);
        self.passed += length;
    }

    /// Returns a part of the page that has not been sent.
    fn text(&self, range: &Range<usize>) -> &[u8] {
        of(&self.pending, self.passed, range)
    }
}

/// Returns a part of a page of which only the bytes after `passed` are buffered.
fn of<'p>(pending: &'p [u8], passed: usize, range: &Range<usize>) -> &'p [u8] {
    let place = |at: usize| at.checked_sub(passed);
    let range = place(range.start).zip(place(range.end));
    range.and_then(|(start, end)| pending.get(start..end)).unwrap_or_default()
}

impl PageEditState {
    pub(super) fn new(task: PageEditPlan) -> Self {
        let PageEditPlan { injects, tags, admitted, authority, secure, events, report, .. } = task;
        // The authority is written into scripts.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        let is_plain = authority.len() <= 300 && authority.bytes().all(is_plain);
        let scheme = if secure { "https" } else { "http" };
        Self {
            injects,
            tags: if is_plain { tags } else { Arc::default() },
            base: format!("{scheme}://{}", authority.to_ascii_lowercase()),
            authority,
            is_plain,
            events,
            report,
            parsed: AtomicUsize::new(0),
            progress: Mutex::new(PageEditProgress { admitted, ..PageEditProgress::default() }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PageEditProgress> {
        self.progress.lock()
    }

    pub(super) fn handlers(self: &Arc<Self>) -> Vec<ElementHandler> {
        type ElementHandler = fn(&Arc<PageEditState>, &mut Element<'_, '_>);
        let all: [(&str, ElementHandler); 5] = [
            ("html", |page, html| page.html(html)),
            ("base", |page, base| page.lock().has_base |= base.has_attribute("href")),
            ("meta", |page, meta| page.meta(meta)),
            ("script", |page, script| page.script(script)),
            ("link", |page, link| page.link(link)),
        ];
        // Without tags to rewrite, links need no handler.
        let count = if self.tags.is_empty() { all.len() - 1 } else { all.len() };
        let handlers = all.into_iter().take(count);
        handlers
            .map(|(name, hear)| {
                let page = self.clone();
                element!(name, move |element: &mut Element<'_, '_>| {
                    hear(&page, element);
                    Ok(())
                })
            })
            .collect()
    }

    /// Inserts the gateway's script after the parsed part, where it may run and send.
    pub(super) fn insert(&self) {
        if !self.injects {
            return;
        }
        let mut progress = self.lock();
        let nonce = progress.admitted.nonce().map(str::to_owned);
        // A `<base>` of the page would change the script's address; an unusual host cannot be written into a
        // script.
        let host = progress.has_base.then_some(&*self.authority);
        if !progress.admitted.allows_gateway_script(nonce.as_deref())
            || (progress.has_base && !self.is_plain)
        {
            drop(progress);
            return self.report.report(PageSkipReason::Policy);
        }
        let at = progress.passed + progress.pending.len();
        let tag = tag(&progress.admitted, host);
        progress.changes.push((at..at, tag));
        progress.injected = Some(InjectedScript { nonce, is_stopped: false });
    }

    /// AMP has its own attributes, and rejects pages with scripts other than its own.
    fn html(&self, html: &Element<'_, '_>) {
        let is_amp = |name: &str| {
            let name = name.replace('\u{fe0f}', "");
            let kind = name.strip_prefix("amp").or_else(|| name.strip_prefix('\u{26a1}'));
            kind.is_some_and(|kind| ["", "4ads", "4email"].contains(&kind))
        };
        self.lock().is_amp |= html.attributes().iter().any(|it| is_amp(&it.name()));
    }

    fn script(self: &Arc<Self>, script: &mut Element<'_, '_>) {
        let tag = script.source_location().bytes();
        let src = script.get_attribute("src");
        // The script before did not end where the parser expected.
        self.lock().held = None;
        let is_injected = self.lock().injected.is_some();
        if is_injected && src.as_deref().is_some_and(|src| is_ours(src, &self.authority)) {
            self.hold(script, tag.start, move |_, progress, end| {
                // Edits within the script were recorded last.
                while progress.changes.pop_if(|(range, _)| range.end > tag.start).is_some() {}
                progress.changes.push((tag.start..end.end, String::new()));
            });
            return;
        }
        if self.tags.is_empty() {
            return;
        }
        let nonce = script.get_attribute("nonce");
        let nonce = nonce.as_deref();
        if src.is_some() {
            if self.lock().admitted.may_load(nonce) {
                self.point(script.attributes(), "src");
            }
        } else if script.namespace_uri() == HTML
            && !is_data(script.get_attribute("type").as_deref())
            && self.lock().admitted.allows_inline_edit(nonce)
        {
            self.hold(script, tag.end, move |page, progress, end| {
                let text = progress.text(&(tag.end..end.start));
                let changes = page.tags.within(text, &page.base);
                progress.changes.extend(
                    changes
                        .into_iter()
                        .map(|(range, to)| (tag.end + range.start..tag.end + range.end, to)),
                );
            });
        }
    }

    /// Buffers the page from here until the element ends, and then runs `done`.
    fn hold(
        self: &Arc<Self>,
        element: &mut Element<'_, '_>,
        from: usize,
        done: impl FnOnce(&Self, &mut PageEditProgress, Range<usize>) + Send + 'static,
    ) {
        let tag = element.source_location().bytes().start;
        // An element that has no end tag, as in SVG, stays as it is.
        let Some(handlers) = element.end_tag_handlers() else { return };
        let page = self.clone();
        self.lock().held = Some(BufferedScript { tag, from });
        handlers.push(Box::new(move |end: &mut EndTag<'_>| {
            let mut progress = page.lock();
            // Unless it became too long to buffer.
            if progress.held.take_if(|held| held.tag == tag).is_some() {
                done(&page, &mut progress, end.source_location().bytes());
            }
            Ok(())
        }));
    }

    /// Rewrites an attribute to the gateway's copy of the script in it, if there is one.
    fn point(&self, attributes: &[Attribute<'_>], name: &str) {
        let named = |name: &str| attributes.iter().find(|attribute| attribute.name() == name);
        let Some((attribute, place)) = named(name).and_then(|attribute| {
            let value = attribute.value();
            let link = PageLink::read(&value)?;
            let place = self.tags.find_replacement(&link)?;
            let start = attribute.value_source_location()?.bytes().start;
            let part = link.replaced(&place);
            Some((start + part.start..start + part.end, place.to))
        }) else {
            return;
        };
        let mut progress = self.lock();
        let to = match progress.has_base {
            true => format!("//{}{place}", self.authority),
            false => place,
        };
        let mut changes = vec![(attribute, to)];
        if let Some(integrity) = named("integrity")
            && let Some((name, value)) =
                integrity.name_source_location().zip(integrity.value_source_location())
        {
            let (start, end) = (name.bytes().start, value.bytes().end);
            // Includes the closing quote, and the space before the name.
            let end = end + usize::from(is_any(progress.text(&(end..end + 1)), b"\"'"));
            let before = start.saturating_sub(1)..start;
            let start = start - usize::from(is_any(progress.text(&before), b" \t\r\n\x0c"));
            changes.push((start..end, String::new()));
        }
        changes.sort_by_key(|(range, _)| range.start);
        progress.changes.append(&mut changes);
    }

    fn link(&self, link: &mut Element<'_, '_>) {
        let (Some(rel), Some(href)) = (link.get_attribute("rel"), link.get_attribute("href"))
        else {
            return;
        };
        let nonce = link.get_attribute("nonce");
        if hints::has(&rel, FETCHING) {
            if self.lock().admitted.may_load(nonce.as_deref()) {
                self.point(link.attributes(), "href");
            }
        } else if hints::has(&rel, CONNECTING) && self.lock().admitted.may_load(None) {
            let value = href.trim();
            let is_needless =
                PageLink::read(value).is_some_and(|it| self.tags.is_needless(it.host()));
            let attribute = link.attributes().iter().find(|it| it.name() == "href");
            // The element stays: applications that hydrate the document count its elements.
            if is_needless && let Some(value) = attribute.and_then(Attribute::value_source_location)
            {
                self.lock().changes.push((value.bytes(), format!("//{}", self.authority)));
            }
        }
    }

    /// Reads a policy in the page: it applies to what follows.
    fn meta(&self, meta: &Element<'_, '_>) {
        let is_policy = |it: String| it.trim().eq_ignore_ascii_case("content-security-policy");
        let Some(content) = meta.get_attribute("content") else { return };
        if !meta.get_attribute("http-equiv").is_some_and(is_policy) {
            return;
        }
        let hosts = CspHosts { page: &self.authority, events: &self.events };
        let mut progress = self.lock();
        let PageEditProgress { admitted, injected, .. } = &mut *progress;
        admitted.add(&unescaped(&content), hosts);
        if let Some(injected) = injected
            && !admitted.allows_gateway_script(injected.nonce.as_deref())
            && !mem::replace(&mut injected.is_stopped, true)
        {
            drop(progress);
            self.report.report(PageSkipReason::LatePolicy);
        }
    }
}

/// Returns the text of an attribute, with the characters that policies use unescaped.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap_or((part, ""));
        let number =
            name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => digits.parse().ok(),
            });
        let named = match name {
            "apos" => Some('\''),
            "quot" => Some('"'),
            "amp" => Some('&'),
            "colon" => Some(':'),
            "semi" => Some(';'),
            "equals" => Some('='),
            _ => None,
        };
        match number.and_then(char::from_u32).or(named) {
            Some(character) => {
                out.push(character);
                out.push_str(rest);
            }
            None => {
                out.push('&');
                out.push_str(part);
            }
        }
    }
    out
}

fn is_any(text: &[u8], of: &[u8]) -> bool {
    text.first().is_some_and(|byte| of.contains(byte))
}

/// Returns true if an inline script of this type is data for other scripts.
fn is_data(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| {
        let kind = kind.trim().to_ascii_lowercase();
        kind.ends_with("json") || ["importmap", "speculationrules"].contains(&kind.as_str())
    })
}

/// Returns true if a page loads the gateway's script itself, from its own host.
fn is_ours(src: &str, authority: &str) -> bool {
    let src = src.trim().split(['?', '#']).next().unwrap_or_default();
    let after = src.strip_prefix("https:").or_else(|| src.strip_prefix("http:")).unwrap_or(src);
    match after.strip_prefix("//") {
        Some(after) => after.split_at_checked(authority.len()).is_some_and(|(host, path)| {
            host.eq_ignore_ascii_case(authority) && SiteSdkScripts::is_at(path)
        }),
        None => SiteSdkScripts::is_at(src),
    }
}

/// Returns the markup for the page: the snippet, which loads the script, where a policy admits it; else the queue
/// where that may run, and a tag. `host` names the script's host where the page's base is another.
pub(super) fn tag(admitted: &CspScriptRules, host: Option<&str>) -> String {
    let script = host.map_or_else(|| SCRIPT.to_owned(), |host| format!("//{host}{SCRIPT}"));
    let nonce = admitted.nonce().map(|nonce| format!(r#" nonce="{nonce}""#));
    let nonce = nonce.unwrap_or_default();
    if admitted.allows_snippet() {
        return format!("<script{nonce}>{}{LEAVE}</script>", snippet(&script));
    }
    let queue = match admitted.inline() {
        true => format!("<script{nonce}>{}{LEAVE}</script>", snippet("")),
        false => String::new(),
    };
    format!(r#"{queue}<script async src="{script}"{nonce}></script>"#)
}

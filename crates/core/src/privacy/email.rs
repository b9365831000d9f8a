//! E-mail addresses, redacted wherever vendors' policies forbid to send one in the clear: alone, within a text, and
//! in any part of a URL, in the clear or percent-encoded, once or several times.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The replacement for an address.
pub const REDACTED: &str = "[redacted]";

/// The most layers of percent-encoding that are undone: a URL in a parameter of a URL in a parameter, and one more.
const MAX_ENCODINGS: usize = 5;

/// The characters that are encoded again in a decoded part of a URL.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Signs allowed before an address's at sign, besides letters and digits (RFC 5322), except those that separate the
/// parts of a URL.
const NAME_SIGNS: &[char] =
    &['.', '_', '+', '-', '!', '#', '$', '*', '^', '`', '{', '|', '}', '~', '\''];

/// The at sign, also in its full-width forms.
const AT: &[char] = &['@', '\u{ff20}', '\u{fe6b}'];

/// File name endings, which are no top-level domains: `logo@2x.png`.
const FILES: &[&str] = &[
    "avif", "bmp", "css", "gif", "heic", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "map",
    "mjs", "pdf", "png", "svg", "tiff", "ts", "txt", "webp", "woff", "xml",
];

/// Returns true if a text looks like an e-mail address.
pub fn is_email(text: &str) -> bool {
    let Some((name, domain)) = text.trim().split_once('@') else { return false };
    let plain =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '@');
    plain(name) && plain(domain) && domain.contains('.') && !domain.starts_with('.')
}

/// Returns true if a text may contain an address: a quick check before it is parsed.
fn may_have_email(text: &str) -> bool {
    text.contains(AT)
        || text.contains("%40")
        || text.contains("%25")
        || text.contains("%EF%BC%A0")
        || text.contains("%ef%bc%a0")
}

/// Returns a URL, or a part of one, without e-mail addresses. A parameter that is only an address is removed;
/// elsewhere a word replaces the address. User names and passwords in the URL are redacted too.
pub fn without_emails(url: String) -> String {
    if !may_have_email(&url) {
        return url;
    }
    match clean_url(&url, MAX_ENCODINGS) {
        Some(clean) => clean,
        None => url,
    }
}

/// Redacts e-mail addresses in a text whose words may be URLs.
pub fn redact_text(text: &mut String) {
    if !may_have_email(text) {
        return;
    }
    let is_url = text.contains("://") && !text.trim().contains(char::is_whitespace)
        || text.starts_with(['/', '?', '#']);
    let clean = if is_url { clean_url(text, MAX_ENCODINGS) } else { clean_words(text) };
    if let Some(clean) = clean {
        *text = clean;
    }
}

/// Redacts the words of a text, some of which may be URLs or encoded; `None` if nothing changes.
fn clean_words(text: &str) -> Option<String> {
    let mut is_changed = false;
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let bare = word.trim_end();
        let clean = if bare.contains("://") {
            clean_url(bare, MAX_ENCODINGS)
        } else {
            clean_part(bare, MAX_ENCODINGS)
        };
        match clean {
            None => Cow::Borrowed(word),
            Some(clean) => {
                is_changed = true;
                Cow::Owned(clean + word.strip_prefix(bare).unwrap_or_default())
            }
        }
    });
    let clean: String = words.collect();
    is_changed.then_some(clean)
}

/// Redacts a URL's parameters, path and fragment; `None` if nothing changes.
fn clean_url(url: &str, depth: usize) -> Option<String> {
    let (before, fragment) = split_at_sign(url, '#');
    let (path, query) = split_at_sign(before, '?');
    let clean_path = clean_part(path, depth);
    let clean_query = query.and_then(|query| clean_query(query, depth));
    // Single-page applications keep a path with parameters in the fragment.
    let clean_fragment = fragment.and_then(|fragment| clean_url(fragment, depth));
    if clean_path.is_none() && clean_query.is_none() && clean_fragment.is_none() {
        return None;
    }
    let mut clean = clean_path.unwrap_or_else(|| path.to_owned());
    match (query, clean_query) {
        (Some(_), Some(query)) if query.is_empty() => {}
        (Some(query), clean_query) => {
            clean.push('?');
            clean.push_str(clean_query.as_deref().unwrap_or(query));
        }
        (None, _) => {}
    }
    if let Some(fragment) = fragment {
        clean.push('#');
        clean.push_str(clean_fragment.as_deref().unwrap_or(fragment));
    }
    Some(clean)
}

fn split_at_sign(text: &str, sign: char) -> (&str, Option<&str>) {
    text.split_once(sign).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Redacts addresses in parameters; `None` if there are none.
fn clean_query(query: &str, depth: usize) -> Option<String> {
    let mut is_changed = false;
    let mut clean = String::with_capacity(query.len());
    for pair in query.split('&') {
        let (name, value) = split_at_sign(pair, '=');
        let is_address = is_whole(value.unwrap_or(name), depth);
        if is_address {
            is_changed = true;
            continue;
        }
        if !clean.is_empty() {
            clean.push('&');
        }
        let clean_name = clean_part(name, depth);
        let clean_value = value.and_then(|value| clean_part(value, depth));
        is_changed |= clean_name.is_some() || clean_value.is_some();
        clean.push_str(clean_name.as_deref().unwrap_or(name));
        if let Some(value) = value {
            clean.push('=');
            clean.push_str(clean_value.as_deref().unwrap_or(value));
        }
    }
    is_changed.then_some(clean)
}

/// Returns true if a part of a URL is only an address, however often it is encoded.
fn is_whole(part: &str, depth: usize) -> bool {
    if addresses(part).next().is_some_and(|range| range == (0..part.len())) {
        return true;
    }
    let Some((depth, decoded)) = depth.checked_sub(1).zip(decoded(part)) else { return false };
    is_whole(decoded.trim(), depth)
}

/// Decodes a part of a URL once; `None` if it is not encoded.
fn decoded(part: &str) -> Option<Cow<'_, str>> {
    if !part.contains('%') {
        return None;
    }
    let decoded = percent_decode_str(part).decode_utf8_lossy();
    (decoded != part).then_some(decoded)
}

/// Redacts a part of a URL, or a word; `None` if it has no address. Parts that had to be decoded are encoded again.
fn clean_part(part: &str, depth: usize) -> Option<String> {
    let plain = clean_plain(part);
    let current = plain.as_deref().unwrap_or(part);
    let Some((depth, inner)) = depth.checked_sub(1).zip(decoded(current)) else { return plain };
    match clean_url(&inner, depth).or_else(|| clean_plain(&inner)) {
        // The separators of a path stay as they were: only what was encoded is encoded again.
        Some(_) if current.contains('/') => {
            let pieces = current.split('/').map(|piece| match clean_piece(piece, depth) {
                Some(clean) => Cow::Owned(clean),
                None => Cow::Borrowed(piece),
            });
            Some(pieces.collect::<Vec<_>>().join("/"))
        }
        Some(clean) => Some(utf8_percent_encode(&clean, COMPONENT).to_string()),
        None => plain,
    }
}

fn clean_piece(piece: &str, depth: usize) -> Option<String> {
    let inner = decoded(piece)?;
    let clean = clean_url(&inner, depth).or_else(|| clean_plain(&inner))?;
    Some(utf8_percent_encode(&clean, COMPONENT).to_string())
}

/// Replaces the addresses in the clear in a text; `None` if there are none.
fn clean_plain(text: &str) -> Option<String> {
    if !text.contains(AT) {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    let mut copied = 0;
    let users = users(text).map(|range| (range, ""));
    let mut found: Vec<(Range<usize>, &str)> = users.collect();
    let is_user = |range: &Range<usize>| {
        found.iter().any(|(user, _)| range.start < user.end && user.start < range.end)
    };
    let own: Vec<_> = addresses(text).filter(|range| !is_user(range)).collect();
    found.extend(own.into_iter().map(|range| (range, REDACTED)));
    if found.is_empty() {
        return None;
    }
    found.sort_by_key(|(range, _)| range.start);
    for (range, word) in found {
        clean.push_str(text.get(copied..range.start).unwrap_or_default());
        clean.push_str(word);
        copied = range.end.max(copied);
    }
    clean.push_str(text.get(copied..).unwrap_or_default());
    Some(clean)
}

/// Returns the ranges of user names and passwords in a text's URLs, with the at sign after them.
fn users(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, sign)| {
        let start = at + sign.len();
        let authority = text.get(start..)?;
        let is_end =
            |c: char| matches!(c, '/' | '?' | '#' | '"' | '<' | '>' | '&') || c.is_whitespace();
        let end = authority.find(is_end).unwrap_or(authority.len());
        let user = authority.get(..end)?.rfind('@')?;
        Some(start..start + user + 1)
    })
}

/// Returns the ranges of addresses in the clear.
fn addresses(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut end_of_last = 0;
    text.match_indices(AT).filter_map(move |(at, sign)| {
        let before = text.get(end_of_last..at)?;
        let is_name = |c: char| c.is_alphanumeric() || NAME_SIGNS.contains(&c);
        let name =
            before.chars().rev().take_while(|c| is_name(*c)).map(char::len_utf8).sum::<usize>();
        // Quotation marks, brackets and dots around it are not part of it.
        let name =
            before.get(before.len() - name..)?.trim_start_matches(['\'', '`', '{', '|', '.', '*']);
        let after = text.get(at + sign.len()..)?;
        let is_domain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '\u{3002}');
        let length = after.find(|c| !is_domain(c)).unwrap_or(after.len());
        let domain = after.get(..length)?.trim_end_matches(['.', '-']);
        if name.is_empty() || !is_public_name(domain) {
            return None;
        }
        let range = at - name.len()..at + sign.len() + domain.len();
        end_of_last = range.end;
        Some(range)
    })
}

/// Returns true if a text may be a domain below a top-level one.
fn is_public_name(domain: &str) -> bool {
    let Some((below, top)) = domain.rsplit_once(['.', '\u{3002}']) else { return false };
    let is_top = top.chars().count() >= 2
        && (top.chars().all(char::is_alphabetic)
            || top.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("xn--")));
    let is_file = FILES.iter().any(|ending| top.eq_ignore_ascii_case(ending));
    is_top && !is_file && below.starts_with(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_removed_from_urls() {
        for (url, clean) in [
            ("https://x.example/?a=1", "https://x.example/?a=1"),
            ("https://x.example/?a=1&email=jo%40x.example&b=2", "https://x.example/?a=1&b=2"),
            ("https://x.example/?jo=a@b.co", "https://x.example/"),
            ("https://x.example/?a@b.co", "https://x.example/"),
            ("https://jo@x.example/", "https://x.example/"),
            ("https://jo:secret@x.example/a", "https://x.example/a"),
            ("/path?e=a@b.co&x=1", "/path?x=1"),
            ("https://x.example/@jo", "https://x.example/@jo"),
            ("https://x.example/off/jo@x.example/1", "https://x.example/off/[redacted]/1"),
            ("https://x.example/off/jo%40x.example/1", "https://x.example/off/%5Bredacted%5D/1"),
            ("https://x.example/a%2Fb/jo%40x.example", "https://x.example/a%2Fb/%5Bredacted%5D"),
            ("https://x.example/#/reset?email=jo@x.example&a=1", "https://x.example/#/reset?a=1"),
            ("https://x.example/#jo@x.example", "https://x.example/#[redacted]"),
            (
                "https://x.example/?q=from%3A%20jo%40x.example%20now",
                "https://x.example/?q=from%3A%20%5Bredacted%5D%20now",
            ),
            ("https://x.example/?u=mailto:jo@x.example", "https://x.example/?u=mailto:[redacted]"),
            ("https://x.example/img/logo@2x.png?v=1", "https://x.example/img/logo@2x.png?v=1"),
            ("https://x.example/npm/pkg@1.2.3/a.js", "https://x.example/npm/pkg@1.2.3/a.js"),
            ("https://x.example/maps/@51.5,-0.1,15z", "https://x.example/maps/@51.5,-0.1,15z"),
            ("https://x.example/?a=100%&b=2", "https://x.example/?a=100%&b=2"),
        ] {
            assert_eq!(without_emails(url.to_owned()), clean, "{url}");
        }
    }

    #[test]
    fn addresses_are_removed_from_texts() {
        for (text, clean) in [
            ("q=from: a@b.co today", "q=from: [redacted] today"),
            ("write to <jo@x.example>, please", "write to <[redacted]>, please"),
            ("jo@x.example;amy+x@y.example.", "[redacted];[redacted]."),
            ("see https://x.example/?e=jo%40x.example&a=1 now", "see https://x.example/?a=1 now"),
            ("jö@müller.example", "[redacted]"),
            ("jo@xn--mller-kva.xn--p1ai", "[redacted]"),
            ("jo\u{ff20}x.example", "[redacted]"),
            ("jo%40x.example", "%5Bredacted%5D"),
            ("@jo 2 @ 3 a@b", "@jo 2 @ 3 a@b"),
            ("50%40 off", "50%40 off"),
        ] {
            let mut found = text.to_owned();
            redact_text(&mut found);
            assert_eq!(found, clean, "{text}");
        }
    }

    fn encoded(text: &str, times: usize) -> String {
        (0..times)
            .fold(text.to_owned(), |text, _| utf8_percent_encode(&text, COMPONENT).to_string())
    }

    proptest! {
        #[test]
        fn addresses_are_found_in_every_place_and_encoding(
            name in "[a-z][a-z0-9.+_-]{0,8}[a-z0-9]", host in "[a-z]{1,8}\\.(example|com|co\\.uk)",
            place in 0_usize..9, times in 0_usize..4,
        ) {
            let address = format!("{name}@{host}");
            let written = encoded(&address, times);
            let nested = encoded(&format!("https://y.example/a?email={address}&b=1"), times.max(1));
            let url = match place {
                0 => format!("https://x.example/{written}"),
                1 => format!("https://x.example/a/{written}/b"),
                2 => format!("https://x.example/?{written}"),
                3 => format!("https://x.example/?a=1&e={written}&b=2"),
                4 => format!("https://x.example/?q={}", encoded(&format!("to {address} now"), times.max(1))),
                5 => format!("https://x.example/#{written}"),
                6 => format!("https://x.example/#/a?e={written}"),
                7 => format!("/a?next={nested}"),
                _ => format!("https://x.example/{}", encoded(&format!("mailto:{address}"), times)),
            };
            let clean = without_emails(url.clone());
            let mut shown = clean.clone();
            for _ in 0..5 {
                prop_assert!(!shown.contains(&address), "{} became {}", url, clean);
                shown = percent_decode_str(&shown).decode_utf8_lossy().into_owned();
            }
            let mut text = format!("look at {url} there");
            redact_text(&mut text);
            prop_assert!(!text.contains(&address), "{}", text);
        }

        #[test]
        fn redaction_of_any_text_never_panics(text in ".{0,60}", likely in "[a-z@.%0-9:/?&=#]{0,60}") {
            for text in [text, likely] {
                let mut found = text.clone();
                redact_text(&mut found);
                let _ = without_emails(text);
            }
        }
    }
}

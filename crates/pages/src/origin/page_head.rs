//! Scans the beginning of a page, before anything that loads, runs or shows.
//!
//! HTML lets a page omit the tags of `html`, `head` and `body`, and a parser puts the beginning into an implied
//! head. So the script is inserted before the first thing that is none of: white space, comments, the doctype,
//! `<html>`, `<head>`, `<meta>`, `<title>`, `<base>`, and links that load nothing that the page waits for. The
//! page's charset declaration, its policies and its base stay before the script, where they keep their meaning.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};
use memchr::memmem;

/// The part of a page in which browsers look for a charset declaration, in bytes (HTML, section 13.2.3.2).
const DECLARED_WITHIN: usize = 1024;

/// The scanner's state after the tokens read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageHeadScanner {
    /// The number of bytes scanned: whole tokens.
    passed: usize,
    /// True from the first element of the head on, explicit or implied.
    in_head: bool,
    /// True if the page declares its charset.
    is_declared: bool,
    /// True if there is more than white space, comments and a doctype.
    has_elements: bool,
}

/// One token of the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageHeadToken {
    /// A token of this many bytes, after which the script may follow.
    Passed(usize),
    /// A token that the script must come before.
    Content,
    /// An incomplete token.
    Partial,
    /// A page in UTF-16, whatever its head says.
    Utf16,
}

impl PageHeadScanner {
    /// Returns true if the page has a tag.
    pub(super) const fn has_elements(&self) -> bool {
        self.has_elements
    }

    /// Returns true if the page declares its charset at its beginning.
    pub(super) const fn is_declared(&self) -> bool {
        self.is_declared
    }

    /// Reads the next token; `rest` is the text after the tokens before.
    pub(super) fn next(&mut self, rest: &[u8]) -> PageHeadToken {
        let token = self.token(rest);
        if let PageHeadToken::Passed(length) = token {
            self.passed += length;
        }
        token
    }

    fn token(&mut self, rest: &[u8]) -> PageHeadToken {
        if self.passed == 0 {
            const BOM: &[u8] = b"\xef\xbb\xbf";
            if rest.starts_with(b"\xfe\xff") || rest.starts_with(b"\xff\xfe") {
                return PageHeadToken::Utf16;
            }
            if rest.starts_with(BOM) {
                self.is_declared = true;
                return PageHeadToken::Passed(BOM.len());
            }
            if BOM.starts_with(rest) || matches!(rest, [0xfe | 0xff]) {
                return PageHeadToken::Partial;
            }
        }
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        match rest {
            [] => PageHeadToken::Partial,
            _ if spaces > 0 => PageHeadToken::Passed(spaces),
            [b'<', b'!' | b'?', ..] => declaration(rest),
            [b'<', first, ..] if first.is_ascii_alphabetic() => self.tag(rest),
            [b'<'] => PageHeadToken::Partial,
            _ => PageHeadToken::Content,
        }
    }

    fn tag(&mut self, rest: &[u8]) -> PageHeadToken {
        let Some(name) = name(rest) else { return PageHeadToken::Partial };
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let is_first = !self.in_head;
        let Some(end) = tag_end(rest) else {
            let may_pass = ["html", "head", "meta", "base", "title", "link"].into_iter().any(is);
            return if may_pass { PageHeadToken::Partial } else { PageHeadToken::Content };
        };
        let tag = rest.get(..end).unwrap_or_default();
        let passes = match () {
            () if is("html") => is_first,
            () if is("head") => is_first,
            () if is("meta") => {
                self.is_declared |= charset(tag).is_some();
                true
            }
            () if is("base") => true,
            () if is("link") => !contains(tag, b"stylesheet"),
            () if is("title") => {
                let Some(length) = title_end(rest, end) else { return PageHeadToken::Partial };
                self.in_head = true;
                self.has_elements = true;
                return PageHeadToken::Passed(length);
            }
            () => false,
        };
        self.has_elements = true;
        self.in_head |= !is("html");
        if passes { PageHeadToken::Passed(end) } else { PageHeadToken::Content }
    }

    /// Returns the charset that a page declares after its beginning, near enough for browsers to see it, but
    /// perhaps not after the insertion. The outer `None` means that a declaration may still arrive; `rest` is the
    /// text after the beginning.
    pub(super) fn later_charset(
        &self,
        rest: &[u8],
        is_whole: bool,
    ) -> Option<Option<&'static str>> {
        if self.is_declared {
            return Some(None);
        }
        let room = DECLARED_WITHIN.saturating_sub(self.passed);
        let seen = rest.get(..room).unwrap_or(rest);
        let declared = metas(seen).find_map(charset);
        let is_over = is_whole || seen.len() == room || is_past_head(seen);
        (declared.is_some() || is_over).then_some(declared)
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

/// Reads a comment, a doctype, or what parsers treat as a comment.
fn declaration(rest: &[u8]) -> PageHeadToken {
    let find = |end: &[u8], from: usize| {
        memmem::find(rest.get(from..)?, end).map(|at| from + at + end.len())
    };
    let end = match rest {
        [b'<', b'!', b'-', b'-', b'>', ..] => Some(5),
        [b'<', b'!', b'-', b'-', b'-', b'>', ..] => Some(6),
        [b'<', b'!', b'-', b'-', ..] => {
            [find(b"-->", 4), find(b"--!>", 4)].into_iter().flatten().min()
        }
        [b'<', b'!'] | [b'<', b'!', b'-'] => None,
        _ => find(b">", 2),
    };
    end.map_or(PageHeadToken::Partial, PageHeadToken::Passed)
}

/// Returns the name of a tag. `None` if it may continue.
fn name(tag: &[u8]) -> Option<&[u8]> {
    let name = tag.get(1..)?;
    let end = name.iter().position(|&byte| is_space(byte) || byte == b'/' || byte == b'>')?;
    name.get(..end)
}

/// Returns the position after a tag.
fn tag_end(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut before_value = false;
    for (at, &byte) in tag.iter().enumerate() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None => match byte {
                b'>' => return Some(at + 1),
                // Quotes elsewhere than before a value are parts of names and values.
                b'"' | b'\'' if before_value => quote = Some(byte),
                b'=' => before_value = true,
                _ if is_space(byte) => {}
                _ => before_value = false,
            },
        }
        if quote.is_some() {
            before_value = false;
        }
    }
    None
}

/// Returns the position after a title that begins with a tag of `from` bytes.
fn title_end(rest: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memmem::find(rest.get(at..)?, b"</")?;
        let after = rest.get(at + 2..)?;
        let is_end = after.get(..5).is_some_and(|it| it.eq_ignore_ascii_case(b"title"))
            && after.get(5).is_some_and(|&byte| is_space(byte) || byte == b'/' || byte == b'>');
        if is_end {
            return tag_end(rest.get(at..)?).map(|length| at + length);
        }
        at += 2;
    }
}

fn contains(text: &[u8], lower: &[u8]) -> bool {
    find(text, lower).is_some()
}

/// Returns the position of a lower-case text, ignoring case.
fn find(text: &[u8], lower: &[u8]) -> Option<usize> {
    text.windows(lower.len()).position(|part| part.eq_ignore_ascii_case(lower))
}

/// Returns the `meta` tags outside comments.
fn metas(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = memchr::memchr(b'<', rest)?;
            rest = rest.get(at..)?;
            if rest.starts_with(b"<!--") {
                let PageHeadToken::Passed(length) = declaration(rest) else { return None };
                rest = rest.get(length..)?;
            } else if name(rest).is_some_and(|name| name.eq_ignore_ascii_case(b"meta")) {
                let (tag, after) = rest.split_at_checked(tag_end(rest)?)?;
                rest = after;
                return Some(tag);
            } else {
                rest = rest.get(1..)?;
            }
        }
    })
}

/// Returns true if a part of a page goes beyond its head.
fn is_past_head(text: &[u8]) -> bool {
    let is_of_head = |name: &[u8]| {
        ["meta", "title", "base", "link", "script", "style", "noscript", "template"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    match text {
        [b'<', first, ..] if first.is_ascii_alphabetic() => {
            name(text).is_some_and(|name| !is_of_head(name))
                || contains(text, b"</head")
                || contains(text, b"<body")
        }
        [b'<', ..] => contains(text, b"</head"),
        _ => true,
    }
}

/// Returns the charset that a `meta` tag declares (HTML, "prescan a byte stream to determine its encoding").
fn charset(meta: &[u8]) -> Option<&'static str> {
    let after = meta.get(find(meta, b"charset")? + "charset".len()..)?.trim_ascii_start();
    let value = after.strip_prefix(b"=")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let is_end = |byte: &u8| is_space(*byte) || b"\"'>;/".contains(byte);
    let label = value.get(..value.iter().position(is_end)?)?;
    let encoding = Encoding::for_label(label)?;
    let meant = match encoding {
        _ if encoding == UTF_16LE || encoding == UTF_16BE => UTF_8,
        _ if encoding == X_USER_DEFINED => WINDOWS_1252,
        _ => encoding,
    };
    Some(meant.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the part of a page that passes, in every segmentation.
    fn passed(page: &str) -> (&str, PageHeadToken) {
        let page = page.as_bytes();
        let mut results = Vec::new();
        for step in 1..=page.len().max(1) {
            let (mut opening, mut at, mut token) =
                (PageHeadScanner::default(), 0, PageHeadToken::Partial);
            let mut here = 0;
            while here < page.len() && token == PageHeadToken::Partial {
                here = (here + step).min(page.len());
                while let PageHeadToken::Passed(length) = opening.next(&page[at..here]) {
                    at += length;
                }
                token = { opening }.next(&page[at..here]);
            }
            results.push((at, token));
        }
        assert!(results.windows(2).all(|two| two[0] == two[1]), "{results:?}");
        let (at, token) = results[0];
        (std::str::from_utf8(&page[..at]).unwrap(), token)
    }

    #[test]
    fn beginning_ends_before_the_first_thing_that_loads_runs_or_shows() {
        for (before, after) in [
            ("<!doctype html>\n<meta charset=utf-8>\n<title>a<b></title>\n", "<h1>x"),
            ("<!DOCTYPE HTML><HTML><HEAD><TITLE>x</TITLE>", "</HEAD><BODY>x"),
            ("<!doctype html><html lang=\"a>b\"><meta a='>'>", "<link rel=StyleSheet href=x>"),
            ("<html><head><link rel=icon href=x><base href=/>", "<script>1</script>"),
            ("<html><head profile=x>", "<style>a</style>"),
            ("<html><title>x</title>", "<frameset cols=*>"),
            ("<?xml version='1'?><!doctype html><!-- <script> --><!--> <!---> ", "text"),
            ("<!--[if IE]> <html> <![endif]--> <!--[if gt IE 8]><!--> <html>", "<body>"),
            ("<!-- a --!> <![if x]>", "<p>"),
            ("\u{feff} ", "</p>"),
            ("<title>a</titles></title >", "<main>"),
            ("<meta charset=utf-8>", "<head><meta>"),
            ("", "<metadata><p>"),
            ("", "<p>"),
            ("", "x"),
        ] {
            assert_eq!(passed(&format!("{before}{after}")), (before, PageHeadToken::Content));
        }
        for partial in ["", " ", "<", "<!", "<!-- x", "<html", "<html a='", "<title>x</titl", "<me"]
        {
            assert_eq!(passed(partial).1, PageHeadToken::Partial, "{partial}");
        }
        assert_eq!(PageHeadScanner::default().next(b"\xff\xfe<"), PageHeadToken::Utf16);
        assert_eq!(PageHeadScanner::default().next(b"\xff"), PageHeadToken::Partial);
    }

    #[test]
    fn charset_that_is_declared_late_is_found_where_browsers_look() {
        let found = |page: &str, is_whole| {
            let (mut opening, mut at) = (PageHeadScanner::default(), 0);
            while let PageHeadToken::Passed(length) = opening.next(&page.as_bytes()[at..]) {
                at += length;
            }
            opening.later_charset(&page.as_bytes()[at..], is_whole)
        };
        let script = "<head><script>1</script>";
        for (declared, charset) in [
            ("<meta charset=utf8>", "UTF-8"),
            ("<META a CHARSET = 'latin1'/>", "windows-1252"),
            ("<meta http-equiv=content-type content='text/html; charset=Shift_JIS'>", "Shift_JIS"),
            ("<meta charset=\"utf-16\">", "UTF-8"),
            ("<!-- <meta charset=koi8-r> --><meta charset=koi8-u>", "KOI8-U"),
        ] {
            assert_eq!(found(&format!("{script}{declared}"), false), Some(Some(charset)));
        }
        // The declaration may still arrive.
        assert_eq!(found(script, false), None);
        assert_eq!(found(&format!("{script}<meta charset=\"utf"), false), None);
        for none in [
            format!("<meta charset=utf-8>{script}<meta charset=utf-8>"),
            format!("\u{feff}{script}"),
            format!("{script}</head>"),
            format!("{script}<body>"),
            format!("{script}{}<meta charset=utf-8>", "<i>".repeat(400)),
            format!("<p>{script}"),
            "text".to_owned(),
        ] {
            assert_eq!(found(&none, false), Some(None), "{none}");
        }
        assert_eq!(found(script, true), Some(None));
    }
}

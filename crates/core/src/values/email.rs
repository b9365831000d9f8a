//! Reader of e-mail addresses as people, forms and address books write them.
//!
//! The reader extracts the address from the text around it (`mailto:`, `Jo Doe <jo@x.example>`, quotes, a
//! full stop at the end) and removes invisible characters. It keeps the case, and changes nothing that
//! would make it another person's address.

use std::borrow::Cow;

use super::unicode;

/// The longest address (RFC 5321, section 4.5.3.1.3: a path has 256 octets with its brackets).
const MAX_BYTES: usize = 254;

/// The longest text that is searched for an address: with a name around it and a subject behind it.
const MAX_TEXT_BYTES: usize = 2048;

/// Signs that people and systems put around an address.
const WRAPPING: [char; 16] = [
    '<', '>', '"', '\'', '(', ')', '[', ']', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}',
    ',', '«', '»',
];

/// Dots as Chinese and Japanese keyboards write them.
const DOTS: [char; 2] = ['\u{3002}', '\u{ff61}'];

/// Returns the address in a text, its case kept. `None` if the text contains none, or several.
pub fn read(text: &str) -> Option<String> {
    if text.len() > MAX_TEXT_BYTES || !has_at_sign(text) {
        return None;
    }
    let text = unicode::visible(text);
    let text = unicode::plain_forms(&text);
    let text = text.trim();
    let text = bracketed(text, '<', '>').or_else(|| bracketed(text, '[', ']')).unwrap_or(text);
    let text = without_comment(text);
    let text = text.trim_matches(|c: char| c.is_whitespace() || WRAPPING.contains(&c));
    let text = without_scheme(text);
    let text = &*decoded(text)?;
    let text = text.trim_end_matches(['.', ',', ';', ':']);
    let text = text.trim_matches(|c: char| c.is_whitespace() || WRAPPING.contains(&c));
    let (name, domain) = text.split_once('@')?;
    let domain = domain.replace(DOTS, ".");
    let domain = domain.trim_end_matches('.');
    (is_local_part(name) && is_domain(domain) && name.len() + domain.len() < MAX_BYTES)
        .then(|| format!("{name}@{domain}"))
}

/// Returns the address in the form that identifies a person: in lower case.
pub fn identity(text: &str) -> Option<String> {
    read(text).map(|address| address.to_lowercase())
}

fn has_at_sign(text: &str) -> bool {
    text.contains(['@', '\u{ff20}', '\u{fe6b}']) || text.contains("%40")
}

/// Returns the address in the last pair of angle brackets: `"Doe, Jo" <jo@x.example>`.
fn bracketed(text: &str, open: char, close: char) -> Option<&str> {
    let (before, rest) = text.rsplit_once(open)?;
    let (address, behind) = rest.split_once(close)?;
    // Two addresses identify no single person.
    let is_alone = !before.contains(['@', open]) && !behind.contains('@') && address.contains('@');
    is_alone.then_some(address)
}

/// Returns the address before a remark in brackets: `jo@x.example (Jo)`.
fn without_comment(text: &str) -> &str {
    let found = text.strip_suffix(')').and_then(|text| text.rsplit_once('('));
    match found {
        Some((address, comment)) if address.contains('@') && !comment.contains('@') => {
            address.trim()
        }
        _ => text,
    }
}

/// Returns the address of a `mailto:` link, without its headers.
fn without_scheme(text: &str) -> &str {
    let Some((scheme, rest)) = text.split_once(':') else { return text };
    if !["mailto", "email", "e-mail", "mail", "smtp"]
        .iter()
        .any(|it| scheme.eq_ignore_ascii_case(it))
    {
        return text;
    }
    let rest = rest.trim_start().trim_start_matches('/');
    rest.split('?').next().unwrap_or_default()
}

/// Decodes a link's address: `jo%40x.example`. A text with an at sign is decoded already.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('@') {
        return Some(Cow::Borrowed(text));
    }
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

fn is_local_part(name: &str) -> bool {
    let is_plain = |c: char| {
        !c.is_whitespace()
            && !c.is_control()
            && !matches!(c, '@' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '"' | '[' | ']' | '\\')
    };
    !name.is_empty() && name.chars().all(is_plain)
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || is_foreign_letter(c))
    };
    domain.contains('.') && domain.split('.').all(is_label)
}

/// Returns true for a letter of any script but basic Latin, or one of its spelling marks; not punctuation.
const fn is_foreign_letter(c: char) -> bool {
    !matches!(c, '\0'..='\u{bf}' | '\u{2000}'..='\u{2bff}' | '\u{3000}'..='\u{3020}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff0f}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn read_extracts_the_address_from_the_text_around_it() {
        for text in [
            "jo@mail.example",
            "\u{200f}jo@mail.example",
            "jo@mail.example\u{200b}",
            "\u{feff}jo@mail.example",
            "jo@mail\u{ad}.example",
            "\u{a0}jo@mail.example\u{a0}",
            "\tjo@mail.example\n",
            "jo\u{ff20}mail.example",
            "ｊｏ＠ｍａｉｌ．ｅｘａｍｐｌｅ",
            "jo@mail。example",
            "mailto:jo@mail.example",
            "MAILTO:jo@mail.example?subject=Hi%20you",
            "Jo Doe <jo@mail.example>",
            "\"Doe, Jo\" <jo@mail.example>",
            "Jo Doe <mailto:jo@mail.example>",
            "<jo@mail.example>",
            "'jo@mail.example'",
            "jo@mail.example.",
            "jo@mail.example;",
            "E-Mail: jo@mail.example",
            "(jo@mail.example)",
            "jo@mail.example (Jo)",
            "Jo Doe [mailto:jo@mail.example]",
            "«jo@mail.example»",
            "jo\u{fe6b}mail.example",
            "mailto:jo%40mail.example",
            "jo%40mail.example",
        ] {
            assert_eq!(read(text).as_deref(), Some("jo@mail.example"), "{text:?}");
        }
        assert_eq!(
            read(" Jo@X.Example").as_deref(),
            Some("Jo@X.Example"),
            "the case is the vendor's"
        );
        assert_eq!(read("jose\u{301}@x.example").as_deref(), Some("jos\u{e9}@x.example"));
        assert_eq!(read("jo@münchen.example").as_deref(), Some("jo@münchen.example"));
        assert_eq!(read("o'brien+a%b@x.example").as_deref(), Some("o'brien+a%b@x.example"));
    }

    #[test]
    fn read_refuses_other_texts_and_several_addresses() {
        for text in [
            "",
            "jo",
            "jo@",
            "@x.example",
            "jo@x",
            "j o@x.example",
            "jo@x@y.example",
            "jo@.example",
            "jo@x..example",
            "a@x.example, b@x.example",
            "a@x.example;b@x.example",
            "<a@x.example> <b@x.example>",
            "jo@-x.example",
            "jo@x_y.example",
            "https://x.example/@jo",
            "jo at x.example",
            "jo@x.exa mple",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(read(&format!("{}@x.example", "j".repeat(250))), None);
    }

    proptest! {
        #[test]
        fn read_ignores_invisible_characters_at_any_place(
            place in 0_usize..=15, mark in proptest::sample::select(&[
                '\u{200b}', '\u{200f}', '\u{feff}', '\u{ad}', '\u{202a}', '\u{2060}', '\u{180e}', '\0',
                '\u{e0020}', '\u{fe0f}', '\u{34f}', '\u{61c}',
            ][..]), times in 1_usize..4,
        ) {
            let mut text = "jo@mail.example".to_owned();
            text.insert_str(place, &mark.to_string().repeat(times));
            let address = read(&text);
            prop_assert_eq!(address.as_deref(), Some("jo@mail.example"));
        }

        #[test]
        fn any_text_is_read_or_not_and_what_is_read_reads_as_itself(text in "\\PC{0,40}", at in any::<bool>()) {
            let text = if at { format!("{text}@x.example") } else { text };
            if let Some(address) = read(&text) {
                prop_assert_eq!(read(&address), Some(address));
            }
        }
    }
}

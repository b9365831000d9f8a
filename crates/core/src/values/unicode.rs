//! The spellings of one text in Unicode: invisible marks, composed and decomposed letters, digits of
//! other scripts.

use std::borrow::Cow;

use icu_normalizer::{
    ComposingNormalizerBorrowed as ComposingNormalizer,
    DecomposingNormalizerBorrowed as DecomposingNormalizer,
};

/// The zeros of the scripts with ten successive digits, as people and keyboards use them.
const ZEROS: [char; 14] = [
    '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}',
    '\u{be6}', '\u{c66}', '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ff10}',
];

/// Returns true for an invisible character: controls, marks of direction, joiners, soft hyphens,
/// variation selectors, byte order marks. White space is not invisible.
pub const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{ad}'
            | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns the text without invisible characters.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_invisible) {
        Cow::Owned(text.chars().filter(|c| !is_invisible(*c)).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns the text in its composed form (NFC): one spelling of texts that look and mean the same.
pub fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    ComposingNormalizer::new_nfc().normalize(text)
}

/// Returns the spellings in which a text may have been stored: composed, decomposed, and as it is written,
/// each once. Stores from before composition was added may contain any of them.
pub fn spellings(text: &str) -> Vec<Cow<'_, str>> {
    let mut all = vec![composed(text)];
    if !text.is_ascii() {
        let decomposed = DecomposingNormalizer::new_nfd().normalize(text);
        for spelling in [decomposed, Cow::Borrowed(text)] {
            if !all.contains(&spelling) {
                all.push(spelling);
            }
        }
    }
    all
}

/// Returns the composed text with full-width forms and mathematical letters in their plain ones: like NFKC
/// where that loses nothing. Fractions, superscripts and ligatures stay.
pub fn plain_forms(text: &str) -> Cow<'_, str> {
    const fn is_form(c: char) -> bool {
        matches!(c, '\u{2024}' | '\u{fe50}'..='\u{fe6b}' | '\u{ff01}'..='\u{ff9f}' | '\u{ffe0}'..='\u{ffee}' | '\u{1d400}'..='\u{1d7ff}')
    }
    if !text.contains(is_form) {
        return composed(text);
    }
    let nfkc = ComposingNormalizer::new_nfkc();
    let plain: String = text
        .chars()
        .flat_map(|c| {
            let mut utf8 = [0; 4];
            let one: &str = c.encode_utf8(&mut utf8);
            if is_form(c) { nfkc.normalize(one).into_owned() } else { one.to_owned() }
                .chars()
                .collect::<Vec<char>>()
        })
        .collect();
    Cow::Owned(composed(&plain).into_owned())
}

/// Returns a decimal digit of any script as an ASCII one; other characters as they are.
pub fn ascii_digit(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    let found = ZEROS.iter().find_map(|zero| {
        let value = u32::from(c).checked_sub(u32::from(*zero))?;
        char::from_digit(value, 10)
    });
    found.unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_removes_invisible_characters_only() {
        assert_eq!(visible("\u{feff}j\u{ad}o\u{200b}\u{202c}"), "jo");
        assert!(matches!(visible("jo\u{a0}é"), Cow::Borrowed("jo\u{a0}é")));
    }

    #[test]
    fn plain_forms_keeps_fractions_and_ligatures() {
        assert_eq!(plain_forms("ｊｏ＠ｘ．ｅｘａｍｐｌｅ"), "jo@x.example");
        assert_eq!(plain_forms("e\u{301}"), "\u{e9}");
        assert_eq!(plain_forms("½ ﬁ ²"), "½ ﬁ ²");
        assert_eq!(plain_forms("\u{1d423}\u{1d428}"), "jo");
    }

    #[test]
    fn spellings_lists_each_spelling_once() {
        let (composed, decomposed) = ("jos\u{e9}", "jose\u{301}");
        assert_eq!(spellings(composed), [composed, decomposed]);
        assert_eq!(spellings(decomposed), [composed, decomposed]);
        assert_eq!(spellings("jose"), ["jose"]);
    }

    #[test]
    fn ascii_digit_reads_digits_of_other_scripts() {
        assert_eq!("٤۷९３7x".chars().map(ascii_digit).collect::<String>(), "47937x");
    }
}

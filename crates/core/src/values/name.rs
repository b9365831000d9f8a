//! Reader of people's names as forms and systems write them.

use super::unicode;

/// Returns a name in composed form, without invisible characters, with single spaces. `None` if it is empty.
pub fn read(text: &str) -> Option<String> {
    let text = unicode::plain_forms(text);
    let words = text.split(char::is_whitespace).map(unicode::visible);
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_gives_a_name_one_spelling() {
        assert_eq!(
            read("\u{200f} Jose\u{301}\u{a0} de  la\u{ad} O \t").as_deref(),
            Some("José de la O")
        );
        assert_eq!(read("\u{200b} "), None);
    }
}

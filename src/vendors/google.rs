//! The forms in which Google's advertising products want what says something of a person, before it is
//! hashed (`contracts/destinations.md` 1.4 and 7.0). A value that its sender hashed stays as it is.

use super::digest::is_sha256;
use super::email::is_email;

/// The domains whose addresses are the same with and without full stops.
const DOTLESS: [&str; 2] = ["gmail.com", "googlemail.com"];

/// The digits of an international telephone number (E.164).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// An address in lower case without spaces; a digest of one stays. Nothing if it is neither.
pub(super) fn email(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let text = text.to_lowercase();
    match text.rsplit_once('@') {
        Some((name, domain)) if DOTLESS.contains(&domain) => {
            format!("{}@{domain}", name.replace('.', ""))
        }
        Some(_) if is_email(&text) => text,
        _ => hashed_already(&text),
    }
}

/// An international number: digits after a plus sign. One without its country's code is nobody's.
pub(super) fn phone(text: &str) -> String {
    let text = text.trim();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches("00");
    let is_international = text.starts_with('+') || digits.starts_with("00");
    if is_international && PHONE_DIGITS.contains(&significant.len()) {
        format!("+{significant}")
    } else {
        hashed_already(text)
    }
}

/// The text if its sender hashed it.
fn hashed_already(text: &str) -> String {
    if is_sha256(text) { text.to_owned() } else { String::new() }
}

/// Lower case, without digits and symbols.
pub(super) fn letters(text: &str) -> String {
    if !hashed_already(text).is_empty() {
        return text.to_owned();
    }
    kept(text, |c| c.is_alphabetic() || c.is_whitespace())
}

/// Lower case, without symbols.
pub(super) fn without_symbols(text: &str) -> String {
    kept(text, |c| c.is_alphanumeric() || c.is_whitespace())
}

/// A postal code without the signs that Google leaves out.
pub(super) fn postal_code(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '.' | '~')).collect::<String>().trim().to_owned()
}

/// A country's code of two letters (ISO 3166-1). Names are not guessed at.
pub(super) fn country(text: &str) -> String {
    let code = text.trim().to_ascii_uppercase();
    let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { code } else { String::new() }
}

fn kept(text: &str, keep: impl Fn(char) -> bool) -> String {
    text.to_lowercase().chars().filter(|c| keep(*c)).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_googles_form() {
        assert_eq!(email(" J.Doe@GMail.com "), "jdoe@gmail.com");
        assert_eq!(email("J.Doe@Shop.example"), "j.doe@shop.example");
        assert_eq!(email("nobody"), "");
        assert_eq!(phone("+41 (0)79 123"), "+41079123");
        assert_eq!(phone("0041 79 123 45 67"), "+41791234567");
        assert_eq!(phone("079 123 45 67"), "", "of which country?");
        assert_eq!(letters(" O'Brien 3rd "), "obrien rd");
        assert_eq!(without_symbols("12, Main St."), "12 main st");
        assert_eq!(postal_code(" 80.01~ "), "8001");
        assert_eq!(country("ch"), "CH");
        assert_eq!(country("Switzerland"), "");
    }
}

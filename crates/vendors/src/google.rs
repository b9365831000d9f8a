//! The forms of personal data that Google's advertising products want before hashing
//! (`docs/contracts/destinations.md` 1.4 and 7.0). A value that its sender hashed stays as it is.

use super::digest::is_sha256;
use super::person::EventPerson;
use tagway_core::values::telephone::TelephoneReader;
use tagway_core::values::{email, name};

/// The domains whose addresses are the same with and without full stops.
const DOTLESS: [&str; 2] = ["gmail.com", "googlemail.com"];

/// Returns an address in lower case, or a digest of one unchanged; empty if it is neither.
pub(super) fn email(text: &str) -> String {
    let Some(text) = email::identity(text) else { return normalise_digest(text.trim()) };
    match text.rsplit_once('@') {
        Some((name, domain)) if DOTLESS.contains(&domain) => {
            format!("{}@{domain}", name.replace('.', ""))
        }
        _ => text,
    }
}

/// Returns the person's number: its digits after a plus sign. A number of an unknown country is omitted.
pub(super) fn phone(person: EventPerson<'_>, reader: &TelephoneReader) -> String {
    let Some(text) = person.phone() else { return String::new() };
    match person.telephone(reader) {
        Some(digits) => format!("+{digits}"),
        None => normalise_digest(text.trim()),
    }
}

/// Returns the text if its sender hashed it.
fn normalise_digest(text: &str) -> String {
    if is_sha256(text) { text.to_owned() } else { String::new() }
}

/// Returns the text in lower case, without digits and symbols.
pub(super) fn letters(text: &str) -> String {
    if !normalise_digest(text).is_empty() {
        return text.to_owned();
    }
    filter_chars(&name::read(text).unwrap_or_default(), |c| c.is_alphabetic() || c.is_whitespace())
}

/// Returns the text in lower case, without symbols.
pub(super) fn without_symbols(text: &str) -> String {
    filter_chars(text, |c| c.is_alphanumeric() || c.is_whitespace())
}

/// Returns a postal code without the signs that Google leaves out.
pub(super) fn postal_code(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '.' | '~')).collect::<String>().trim().to_owned()
}

/// Returns a country's code of two letters (ISO 3166-1). Country names are not guessed at.
pub(super) fn country(text: &str) -> String {
    let code = text.trim().to_ascii_uppercase();
    let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { code } else { String::new() }
}

fn filter_chars(text: &str, keep: impl Fn(char) -> bool) -> String {
    text.to_lowercase().chars().filter(|c| keep(*c)).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    #[test]
    fn values_are_normalised_to_googles_form() {
        assert_eq!(email(" J.Doe@GMail.com "), "jdoe@gmail.com");
        assert_eq!(email("J.Doe@Shop.example"), "j.doe@shop.example");
        assert_eq!(email("nobody"), "");
        assert_eq!(email("Jo Doe <jo@shop.example>"), "jo@shop.example");
        let reader = TelephoneReader::default();
        for (traits, number) in [
            (json!({ "phone": "0041 79 123 45 67" }), "+41791234567"),
            (json!({ "phone": "16505551212" }), "+16505551212"),
            (json!({ "phone": 16_505_551_212_u64 }), "+16505551212"),
            (json!({ "phone": "tel:+1-650-555-1212" }), "+16505551212"),
            (json!({ "phone": "079 123 45 67", "country": "ch" }), "+41791234567"),
            (json!({ "phone": "079 123 45 67" }), ""),
            (json!({ "phone": "+41 (0)79 123" }), ""),
            (json!({}), ""),
        ] {
            let event = test_support::known(json!({}), None, traits.clone());
            assert_eq!(phone(EventPerson::of(&event), &reader), number, "{traits}");
        }
        assert_eq!(letters(" O'Brien 3rd "), "obrien rd");
        assert_eq!(without_symbols("12, Main St."), "12 main st");
        assert_eq!(postal_code(" 80.01~ "), "8001");
        assert_eq!(country("ch"), "CH");
        assert_eq!(country("Switzerland"), "");
    }
}

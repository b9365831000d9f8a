//! Who the person is, for Google's advertising products: `user_data`
//! (`contracts/destinations.md` 1.4). Goes only where the settings ask for it.

use serde::Serialize;

use crate::event::Enriched;
use crate::vendors::digest::sha256;
use crate::vendors::email::is_email;
use crate::vendors::person::Person;

/// The domains whose addresses are the same with and without full stops.
const DOTLESS: [&str; 2] = ["gmail.com", "googlemail.com"];

/// The digits of an international telephone number (E.164).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// What Google finds the person by.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct UserData {
    #[serde(rename = "sha256_email_address", skip_serializing_if = "Option::is_none")]
    email: Option<[String; 1]>,
    #[serde(rename = "sha256_phone_number", skip_serializing_if = "Option::is_none")]
    phone: Option<[String; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<[Address; 1]>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Address {
    #[serde(rename = "sha256_first_name", skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    #[serde(rename = "sha256_last_name", skip_serializing_if = "Option::is_none")]
    last_name: Option<String>,
    #[serde(rename = "sha256_street", skip_serializing_if = "Option::is_none")]
    street: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postal_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
}

impl UserData {
    /// Whom the event is of. `None` if nothing is known of the person.
    pub(super) fn of(event: &Enriched) -> Option<Self> {
        let person = Person::of(event);
        let text = |value: Option<std::borrow::Cow<'_, str>>, form: fn(&str) -> String| {
            value.map(|value| form(&value)).filter(|text| !text.is_empty())
        };
        let digest = |value, form| text(value, form).and_then(|text| sha256(&text));
        let address = Address {
            first_name: digest(person.first_name(), letters),
            last_name: digest(person.last_name(), letters),
            street: digest(person.street(), without_symbols),
            city: text(person.city(), letters),
            region: text(person.state(), letters),
            postal_code: text(person.postal_code(), postal_code),
            country: text(person.country(), country),
        };
        let data = Self {
            email: digest(person.email(), email).map(|digest| [digest]),
            phone: digest(person.phone(), phone).map(|digest| [digest]),
            address: (address != Address::default()).then_some([address]),
        };
        (data != Self::default()).then_some(data)
    }
}

/// An address in lower case without spaces; a digest of one stays. Nothing if it is neither.
fn email(text: &str) -> String {
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
fn phone(text: &str) -> String {
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
    if crate::vendors::digest::is_sha256(text) { text.to_owned() } else { String::new() }
}

/// Lower case, without digits and symbols.
fn letters(text: &str) -> String {
    if !hashed_already(text).is_empty() {
        return text.to_owned();
    }
    kept(text, |c| c.is_alphabetic() || c.is_whitespace())
}

/// Lower case, without symbols.
fn without_symbols(text: &str) -> String {
    kept(text, |c| c.is_alphanumeric() || c.is_whitespace())
}

fn postal_code(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '.' | '~')).collect::<String>().trim().to_owned()
}

/// A country's code of two letters (ISO 3166-1). Names are not guessed at.
fn country(text: &str) -> String {
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

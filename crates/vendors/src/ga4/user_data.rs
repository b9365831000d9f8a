//! The person's identifiers for Google's advertising products: `user_data` (`docs/contracts/destinations.md` 1.4).
//! Sent only where the settings ask for it.

use serde::Serialize;

use crate::digest::sha256;
use crate::google::{country, email, letters, phone, postal_code, without_symbols};
use crate::person::EventPerson;
use tagway_core::event::EnrichedEvent;
use tagway_core::values::telephone::TelephoneReader;

/// The identifiers by which Google finds the person.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Ga4UserData {
    #[serde(rename = "sha256_email_address", skip_serializing_if = "Option::is_none")]
    email: Option<[String; 1]>,
    #[serde(rename = "sha256_phone_number", skip_serializing_if = "Option::is_none")]
    phone: Option<[String; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<[Ga4UserAddress; 1]>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Ga4UserAddress {
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

impl Ga4UserData {
    /// Reads the event's person; `None` if nothing is known of them.
    pub(super) fn of(event: &EnrichedEvent, telephones: &TelephoneReader) -> Option<Self> {
        let person = EventPerson::of(event);
        let text = |value: Option<std::borrow::Cow<'_, str>>, form: fn(&str) -> String| {
            value.map(|value| form(&value)).filter(|text| !text.is_empty())
        };
        let digest = |value, form| text(value, form).and_then(|text| sha256(&text));
        let address = Ga4UserAddress {
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
            phone: sha256(&phone(person, telephones)).map(|digest| [digest]),
            address: (address != Ga4UserAddress::default()).then_some([address]),
        };
        (data != Self::default()).then_some(data)
    }
}

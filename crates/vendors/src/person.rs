//! The person's identifiers and traits, under the many names that sites give them.
//!
//! Every function takes the first of: the traits of the event itself (identify), `context.traits`, the
//! event's properties where the key is unmistakable (an order's `email`), and the profile. The values come as
//! they were written: each vendor normalises them, and hashes them where it must, in its own way
//! (`docs/contracts/destinations.md` 7.0).

use std::borrow::Cow;

use serde_json::Value;

use tagway_core::event::{DroppedFields, EnrichedEvent, EventKind, FieldDropReason, JsonObject};
use tagway_core::values::email;
use tagway_core::values::telephone::{HomeCountry, TelephoneReader};
use tagway_settings::SettingsSection;

/// The person behind one event.
#[derive(Clone, Copy, Debug)]
pub struct EventPerson<'e>(&'e EnrichedEvent);

/// The objects that a lookup reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PersonSources {
    /// The person's traits.
    Traits,
    /// The event's properties as well: the key shows that they are the person's.
    Properties,
}

impl<'e> EventPerson<'e> {
    /// Wraps the event to read its person.
    pub fn of(event: &'e EnrichedEvent) -> Self {
        Self(event)
    }

    /// Returns the e-mail address.
    pub fn email(self) -> Option<Cow<'e, str>> {
        self.first(&["email", "Email", "email_address", "emailAddress"], PersonSources::Properties)
    }

    /// Returns the telephone number.
    pub fn phone(self) -> Option<Cow<'e, str>> {
        let keys = ["phone", "phone_number", "phoneNumber", "mobile", "telephone"];
        self.first(&keys, PersonSources::Properties)
    }

    /// Returns the whole name; else the first and the last.
    pub fn name(self) -> Option<Cow<'e, str>> {
        self.first(&["name", "full_name", "fullName"], PersonSources::Traits).or_else(|| {
            let names = [self.own_first_name(), self.own_last_name()];
            let names: Vec<_> = names.into_iter().flatten().collect();
            (!names.is_empty()).then(|| names.join(" ").into())
        })
    }

    /// Returns the first name; else the first word of a name of two.
    pub fn first_name(self) -> Option<Cow<'e, str>> {
        self.own_first_name().or_else(|| Some(self.two_words()?.0.into()))
    }

    /// Returns the last name; else the second word of a name of two.
    pub fn last_name(self) -> Option<Cow<'e, str>> {
        self.own_last_name().or_else(|| Some(self.two_words()?.1.into()))
    }

    /// Returns the day of birth.
    pub fn birthday(self) -> Option<Cow<'e, str>> {
        let keys = ["birthday", "birth_date", "birthDate", "date_of_birth", "dateOfBirth", "dob"];
        self.first(&keys, PersonSources::Properties)
    }

    /// Returns the gender.
    pub fn gender(self) -> Option<Cow<'e, str>> {
        self.first(&["gender", "sex"], PersonSources::Properties)
    }

    /// Returns the picture's URL.
    pub fn avatar(self) -> Option<Cow<'e, str>> {
        self.first(&["avatar", "avatar_url", "avatarUrl"], PersonSources::Traits)
    }

    /// Returns the time when the account was made.
    pub fn created_at(self) -> Option<Cow<'e, str>> {
        self.first(&["createdAt", "created_at", "created"], PersonSources::Traits)
    }

    /// Returns the street and the house.
    pub fn street(self) -> Option<Cow<'e, str>> {
        self.address(&["street", "address1", "line1"])
    }

    /// Returns the city.
    pub fn city(self) -> Option<Cow<'e, str>> {
        self.address(&["city"])
    }

    /// Returns the state, the province or the canton.
    pub fn state(self) -> Option<Cow<'e, str>> {
        self.address(&["state", "region", "province"])
    }

    /// Returns the postal code.
    pub fn postal_code(self) -> Option<Cow<'e, str>> {
        self.address(&["postalCode", "postal_code", "zip", "zip_code", "zipCode", "postcode"])
    }

    /// Returns the country, as it was written.
    pub fn country(self) -> Option<Cow<'e, str>> {
        self.address(&["country", "country_code", "countryCode"])
    }

    /// Returns the digits of the telephone number, the country's code first. A national number is of the
    /// country of the person's address, else of the reader's own, else of the one that their requests come
    /// from.
    pub fn telephone(self, reader: &TelephoneReader) -> Option<Box<str>> {
        let stated = self.country();
        let seen = self.0.event.facts.place.as_ref().and_then(|place| place.country.as_deref());
        reader.digits(&self.phone()?, stated.as_deref(), seen)
    }

    /// Records the e-mail address and the telephone number that are present and cannot be read. A digest of
    /// one is read as it is.
    pub fn note_unreadable(self, reader: &TelephoneReader, dropped: &mut DroppedFields) {
        let is_hashed = |text: &str| {
            let text = text.trim();
            matches!(text.len(), 32 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let email = self.email().filter(|text| !is_hashed(text));
        if email.is_some_and(|text| email::read(&text).is_none()) {
            dropped.add("email", FieldDropReason::UnreadableEmail);
        }
        let phone = self.phone().filter(|text| !is_hashed(text));
        if phone.is_some() && self.telephone(reader).is_none() {
            dropped.add("phone", FieldDropReason::UnreadablePhone);
        }
    }

    /// Returns all traits, the newest value of each: the profile's, then the event's. `null` counts as a
    /// value: the trait was removed.
    pub fn traits(self) -> JsonObject {
        let mut traits = self.0.profile.traits.clone();
        for stated_event in self.own_traits().into_iter().rev() {
            traits.extend(stated_event.clone());
        }
        traits
    }

    fn own_first_name(self) -> Option<Cow<'e, str>> {
        self.first(&["firstName", "first_name", "firstname"], PersonSources::Properties)
    }

    fn own_last_name(self) -> Option<Cow<'e, str>> {
        self.first(&["lastName", "last_name", "lastname"], PersonSources::Properties)
    }

    fn two_words(self) -> Option<(String, String)> {
        let name = self.first(&["name", "full_name", "fullName"], PersonSources::Traits)?;
        let mut words = name.split_whitespace();
        let (first, last) = (words.next()?, words.next()?);
        words.next().is_none().then(|| (first.to_owned(), last.to_owned()))
    }

    /// Returns a part of the address, or the same key on its own.
    fn address(self, keys: &[&str]) -> Option<Cow<'e, str>> {
        self.objects(PersonSources::Properties).into_iter().find_map(|object| {
            let address = object.get("address").and_then(Value::as_object);
            let addresses = address.into_iter().chain([object]);
            addresses.into_iter().find_map(|object| first_text(object, keys))
        })
    }

    fn first(self, keys: &[&str], sources: PersonSources) -> Option<Cow<'e, str>> {
        self.objects(sources).into_iter().find_map(|object| first_text(object, keys))
    }

    /// Returns the event's own traits of the person, the surest first.
    fn own_traits(self) -> Vec<&'e JsonObject> {
        let event = &*self.0.event;
        // The traits of a group event are the group's.
        let own = event.traits.as_ref().filter(|_| event.kind == EventKind::Identify);
        let context = self.0.context(&["traits"]).and_then(Value::as_object);
        own.into_iter().chain(context).collect()
    }

    fn objects(self, sources: PersonSources) -> Vec<&'e JsonObject> {
        let mut objects = self.own_traits();
        if sources == PersonSources::Properties {
            objects.extend(&self.0.event.properties);
        }
        objects.push(&self.0.profile.traits);
        objects
    }
}

/// The description of `default_country_code`, which several vendors have.
pub(super) const COUNTRY_CODE_DOC: &str = "the calling code of telephone numbers without one, for people without a known \
     country; otherwise the country of the event is used";

/// Reads `default_country_code`: the country code of numbers without one.
pub(super) fn telephone_reader(section: &mut SettingsSection<'_>) -> TelephoneReader {
    let Some(written) = section.opt_string("default_country_code") else {
        return TelephoneReader::default();
    };
    let digits = written.trim_start_matches('+');
    let is_code = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let home = HomeCountry::of(digits).filter(|_| is_code && !digits.starts_with('0'));
    if home.is_none() {
        section.error("default_country_code", "must be a calling code, such as \"41\"");
    }
    TelephoneReader::new(home)
}

/// Returns the first of these keys that has text; numbers are written out.
fn first_text<'o>(object: &'o JsonObject, keys: &[&str]) -> Option<Cow<'o, str>> {
    keys.iter().find_map(|key| match object.get(*key)? {
        Value::String(text) if !text.trim().is_empty() => Some(Cow::Borrowed(text.as_str())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    fn event(fields: Value, profile: Value) -> EnrichedEvent {
        test_support::known(fields, None, profile)
    }

    #[test]
    fn event_traits_come_before_the_profiles() {
        let known = json!({ "email": "old@x.example", "plan": "free", "city": "Bern" });
        let order = event(
            json!({ "properties": { "email": "order@x.example", "name": "Mug" } }),
            known.clone(),
        );
        assert_eq!(EventPerson::of(&order).email().as_deref(), Some("order@x.example"));
        assert_eq!(EventPerson::of(&order).name(), None, "a product's name is nobody's");
        assert_eq!(EventPerson::of(&order).city().as_deref(), Some("Bern"));
        let stated_event = event(
            json!({ "context": { "traits": { "email": "new@x.example", "plan": null } },
                "properties": { "email": "order@x.example" } }),
            known,
        );
        assert_eq!(EventPerson::of(&stated_event).email().as_deref(), Some("new@x.example"));
        let traits = EventPerson::of(&stated_event).traits();
        assert_eq!(traits["email"], "new@x.example");
        assert!(traits["plan"].is_null());
    }

    #[test]
    fn group_traits_are_not_the_persons() {
        let group = event(json!({ "type": "group", "traits": { "name": "ACME" } }), json!({}));
        assert_eq!(EventPerson::of(&group).name(), None);
    }

    #[test]
    fn names_are_joined_and_split() {
        let whole = event(json!({}), json!({ "name": "Mary Jones" }));
        let person = EventPerson::of(&whole);
        let names = (person.first_name(), person.last_name());
        assert_eq!(names, (Some("Mary".into()), Some("Jones".into())));
        let three = event(json!({}), json!({ "name": "Mary Ann Jones" }));
        assert_eq!(EventPerson::of(&three).first_name(), None, "nobody knows where to part it");
        let parts = event(json!({}), json!({ "firstName": "Mary", "last_name": "Jones" }));
        assert_eq!(EventPerson::of(&parts).name().as_deref(), Some("Mary Jones"));
    }

    #[test]
    fn address_may_be_nested_or_flat_and_codes_numbers() {
        let nested = json!({ "address": { "postalCode": 94035, "state": "CA" }, "zip": "1" });
        let nested = event(json!({}), nested);
        assert_eq!(EventPerson::of(&nested).postal_code().as_deref(), Some("94035"));
        assert_eq!(EventPerson::of(&nested).state().as_deref(), Some("CA"));
        assert_eq!(EventPerson::of(&nested).country(), None);
    }
}

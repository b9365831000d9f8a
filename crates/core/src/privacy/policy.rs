//! A site's rules on its visitors' data, for all destinations: `[sites.privacy]`.

use serde_json::{Value, json};
use wildmatch::WildMatch;

use super::consent::ConsentRecord;
use super::{BrowserSignals, UnknownConsent, email};
use crate::event::{Event, EventFacts, JsonObject, UtmCampaign};
use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[site_defaults.privacy]`.
pub const PRIVACY_SETTINGS: &[Setting] = &[
    Setting::texts("gpc").default("[\"advertising\"]").doc(
        "a browser's Sec-GPC: 1 refuses these categories, whatever the page's own choice \
             is: several US states require it",
    ),
    Setting::texts("dnt").default("[]").doc("the same for DNT: 1, which is not legally binding"),
    Setting::boolean("anonymize_ip").default("false").doc(
        "true: only the network of an address is stored and sent, /24 or /48 of IPv6: of \
             the visitor's address, and of addresses in event members with such names, as \
             context.ip",
    ),
    Setting::boolean("redact_emails").default("true").doc(
        "true: e-mail addresses in URLs, titles and properties are not sent, plain or \
             percent-encoded, except in properties whose names mean an e-mail address",
    ),
    Setting::texts("deny_properties").default("[]").doc(
        "names of properties and traits that are not sent, at any depth, with * and ?; \
             or paths, such as \"customer.ssn\". In beacons that are forwarded unchanged, \
             this and redact_emails apply to bodies in JSON or form encoding",
    ),
    Setting::texts("opt_in_countries").default("[]").doc(
        "\"DE\", or \"EUROPE\" for the EEA, GB and CH: in these countries, and if the \
             country is unknown, an unknown consent choice counts as a refusal; needs [geo]",
    ),
];

/// Countries whose law requires opt-in: the European Economic Area, and others with the same rule.
const OPT_IN: &[&str] = &[
    "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU",
    "IE", "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// The configuration's word for [`OPT_IN`].
const EUROPE: &str = "EUROPE";

/// The most levels of properties that are read: readers of the journal build no deeper trees.
const MAX_DEPTH: usize = 100;

/// A site's rules on its visitors' data, as configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrivacyPolicy {
    gpc: Vec<String>,
    dnt: Vec<String>,
    anonymize_ip: bool,
    redact_emails: bool,
    deny_properties: Vec<WildMatch>,
    opt_in_countries: Vec<String>,
}

impl PrivacyPolicy {
    /// Reads `[sites.privacy]`. `has_places`: true if addresses have countries.
    pub fn read(section: &mut SettingsSection<'_>, has_places: bool) -> Self {
        section.describe(PRIVACY_SETTINGS);
        let countries = section.strings("opt_in_countries");
        for country in &countries {
            let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
            if !is_code && country != EUROPE {
                section.error_about(
                    "opt_in_countries",
                    country,
                    "must be a country code of two capital letters, or \"EUROPE\"",
                    None,
                );
            }
        }
        if !countries.is_empty() && !has_places {
            section.error("opt_in_countries", "needs a place database: set [geo] database");
        }
        let europe = countries.iter().any(|country| country == EUROPE);
        let europe = OPT_IN.iter().filter(|_| europe).map(|country| (*country).to_owned());
        Self {
            gpc: section.strings("gpc"),
            dnt: section.strings("dnt"),
            anonymize_ip: section.boolean("anonymize_ip"),
            redact_emails: section.boolean("redact_emails"),
            deny_properties: section
                .strings("deny_properties")
                .iter()
                .map(|pattern| WildMatch::new(pattern))
                .collect(),
            opt_in_countries: europe.chain(countries).collect(),
        }
    }

    /// Returns true if only the network of an address may be kept.
    pub const fn anonymizes_ip(&self) -> bool {
        self.anonymize_ip
    }

    /// Returns the handling of an unknown choice for this visitor; `unknown` is the handling elsewhere. A visitor
    /// whose country is not known may be in one that requires opt-in.
    pub fn unknown(&self, facts: &EventFacts, unknown: UnknownConsent) -> UnknownConsent {
        if self.opt_in_countries.is_empty() {
            return unknown;
        }
        let country = facts.place.as_ref().and_then(|place| place.country.as_ref());
        match country {
            Some(country) if !self.opt_in_countries.contains(country) => unknown,
            _ => UnknownConsent::Deny,
        }
    }

    /// Returns the handling of an unknown choice in a page, which does not know its visitor's country: silence is
    /// not consent there if a country requires opt-in.
    pub fn unknown_in_page(&self, unknown: UnknownConsent) -> UnknownConsent {
        match unknown {
            UnknownConsent::Allow if !self.opt_in_countries.is_empty() => UnknownConsent::Hold,
            _ => unknown,
        }
    }

    /// Returns the names of denied properties, as configured.
    pub fn denied_properties(&self) -> impl Iterator<Item = String> {
        self.deny_properties.iter().map(WildMatch::pattern)
    }

    /// Returns the categories that the browser's own signals refuse.
    pub fn refused_by_signals(&self, signals: BrowserSignals) -> impl Iterator<Item = &str> {
        let gpc = self.gpc.iter().filter(move |_| signals.gpc);
        let dnt = self.dnt.iter().filter(move |_| signals.dnt);
        gpc.chain(dnt).map(String::as_str)
    }

    /// Prepares an event for sending: its consent is written in one form, whatever form the page used, and denied
    /// data is removed.
    pub fn protect(&self, event: &mut Event) {
        self.settle_consent(event);
        if self.denies_any() {
            self.deny(event);
        }
        if self.redact_emails {
            redact_event(event);
        }
    }

    /// Removes denied properties at every depth of every object that describes the event, the person or the group.
    fn deny(&self, event: &mut Event) {
        let traits = event.context.as_mut().and_then(|context| context.get_mut("traits"));
        let traits = traits.and_then(Value::as_object_mut);
        let objects = [event.properties.as_mut(), event.traits.as_mut(), traits];
        for object in objects.into_iter().flatten() {
            self.deny_within(object, &mut String::new(), MAX_DEPTH);
        }
    }

    /// Removes denied traits from those that the gateway itself fills in.
    pub fn deny_traits(&self, traits: &mut JsonObject) {
        self.deny_within(traits, &mut String::new(), MAX_DEPTH);
    }

    /// Returns true if any property is denied.
    pub fn denies_any(&self) -> bool {
        !self.deny_properties.is_empty()
    }

    /// Returns true if the name is a denied property's.
    pub fn denies(&self, name: &str) -> bool {
        self.deny_properties.iter().any(|it| it.matches(name))
    }

    /// Removes denied members by their names or by their paths, such as `customer.ssn`.
    fn deny_within(&self, object: &mut JsonObject, path: &mut String, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let length = path.len();
        object.retain(|name, value| {
            path.push_str(name);
            let is_denied = self.denies(name) || (length > 0 && self.denies(path));
            if !is_denied {
                path.push('.');
                self.deny_value(value, path, depth);
            }
            path.truncate(length);
            !is_denied
        });
    }

    fn deny_value(&self, value: &mut Value, path: &mut String, depth: usize) {
        match value {
            Value::Object(members) => self.deny_within(members, path, depth),
            Value::Array(items) => {
                let Some(depth) = depth.checked_sub(1) else { return };
                items.iter_mut().for_each(|item| self.deny_value(item, path, depth));
            }
            _ => {}
        }
    }

    fn settle_consent(&self, event: &mut Event) {
        let record = event.context.as_ref().and_then(|context| context.get("consent"));
        let signals = BrowserSignals::of(&event.facts);
        let mut refused = self.refused_by_signals(signals).peekable();
        if record.is_none() && refused.peek().is_none() {
            return;
        }
        let known = event.context.as_ref().and_then(ConsentRecord::read);
        if known.is_none() && refused.peek().is_none() {
            return;
        }
        let mut consent = known.unwrap_or_else(ConsentRecord::undecided);
        for category in refused {
            consent.refuse(category);
        }
        write(event, &consent, true);
    }
}

/// Adds consent recorded elsewhere to an event, as its page would have written it. The event's own record stays.
pub fn add_consent(event: &mut Event, decided: &ConsentRecord) {
    write(event, decided, false);
}

/// Writes choices into an event: over its own if `over`, else beside them.
fn write(event: &mut Event, consent: &ConsentRecord, over: bool) {
    let context = event.context.get_or_insert_default();
    let record = context.entry("consent").or_insert_with(|| json!({}));
    if !record.is_object() {
        *record = json!({});
    }
    let Some(record) = record.as_object_mut() else { return };
    let preferences = record.entry("categoryPreferences").or_insert_with(|| json!({}));
    if !preferences.is_object() {
        *preferences = json!({});
    }
    let Some(preferences) = preferences.as_object_mut() else { return };
    for (category, answer) in consent.answers() {
        let mut is_said = false;
        // A page may write a category in several ways.
        for (name, value) in preferences.iter_mut() {
            if name.trim().to_lowercase() == category && (over || !value.is_null()) {
                is_said = true;
                if over {
                    *value = Value::Bool(answer);
                }
            }
        }
        if !is_said {
            preferences.insert(category.to_owned(), Value::Bool(answer));
        }
    }
}

fn redact_event(event: &mut Event) {
    // Traits may contain e-mail addresses deliberately.
    let context = event.context.iter_mut().flat_map(JsonObject::iter_mut);
    for member in context.filter(|(name, _)| !matches!(name.as_str(), "traits" | "consent")) {
        redact_member(member, MAX_DEPTH);
    }
    for member in event.properties.iter_mut().flat_map(JsonObject::iter_mut) {
        redact_member(member, MAX_DEPTH);
    }
    for text in [&mut event.event, &mut event.name, &mut event.category].into_iter().flatten() {
        email::redact_text(text);
    }
    let Some(campaign) = &mut event.facts.campaign else { return };
    let UtmCampaign { name, source, medium, term, content, id } = campaign;
    for text in [name, source, medium, term, content, id].into_iter().flatten() {
        email::redact_text(text);
    }
}

/// Members named for an e-mail address are sent deliberately.
fn redact_member((name, value): (&String, &mut Value), depth: usize) {
    let name = name.to_ascii_lowercase();
    if !name.contains("email") && !name.contains("e_mail") && !name.contains("e-mail") {
        redact(value, depth);
    }
}

fn redact(value: &mut Value, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::String(text) => email::redact_text(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, depth)),
        Value::Object(members) => {
            members.iter_mut().for_each(|member| redact_member(member, depth));
        }
        _ => {}
    }
}

#[cfg(any(test, feature = "testing"))]
impl PrivacyPolicy {
    /// Returns a policy that changes what is kept and sent.
    pub fn changing(anonymize_ip: bool, deny_properties: &[&str]) -> Self {
        let deny_properties = deny_properties.iter().map(|it| WildMatch::new(it)).collect();
        Self { anonymize_ip, deny_properties, ..Self::default() }
    }

    /// Returns a policy that requires opt-in in these countries.
    pub fn opting_in(countries: &[&str]) -> Self {
        let opt_in_countries = countries.iter().map(ToString::to_string).collect();
        Self { opt_in_countries, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::GeoLocation;

    fn policy() -> PrivacyPolicy {
        PrivacyPolicy {
            gpc: vec!["advertising".to_owned()],
            redact_emails: true,
            deny_properties: vec![WildMatch::new("internal_*"), WildMatch::new("ssn")],
            opt_in_countries: vec!["DE".to_owned()],
            ..PrivacyPolicy::default()
        }
    }

    fn protected(members: Value) -> Value {
        let mut event = json!({
            "type": "track", "event": "x", "messageId": "m",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let mut event: Event = serde_json::from_value(event).unwrap();
        policy().protect(&mut event);
        serde_json::to_value(event).unwrap()
    }

    #[test]
    fn every_form_of_consent_becomes_one() {
        let event = protected(json!({
            "context": { "consent": {
                "google": { "gcs": "G110" }, "categoryPreferences": { "Analytics": true },
            } },
        }));
        assert_eq!(
            event["context"]["consent"]["categoryPreferences"],
            json!({ "Analytics": true, "advertising": true })
        );
    }

    #[test]
    fn browser_signal_refuses_whatever_the_record_has() {
        let preferences = json!({ "consent": { "categoryPreferences": { "Advertising": true } } });
        let event = protected(json!({ "facts": { "gpc": true }, "context": preferences }));
        let answers = &event["context"]["consent"]["categoryPreferences"];
        assert_eq!(*answers, json!({ "Advertising": false }));
        let event = protected(json!({ "facts": { "gpc": true } }));
        let answers = &event["context"]["consent"]["categoryPreferences"];
        assert_eq!(*answers, json!({ "advertising": false }));
        assert_eq!(protected(json!({})).get("context"), None, "nothing was said");
    }

    #[test]
    fn no_form_of_a_record_reverts_a_refusal() {
        for preferences in [
            json!(null),
            json!([true]),
            json!({ "Advertising": true, "advertising": true, "ADVERTISING": "yes" }),
        ] {
            let context = json!({ "consent": { "categoryPreferences": preferences } });
            let event = protected(json!({ "facts": { "gpc": true }, "context": context }));
            let consent = ConsentRecord::read(event["context"].as_object().unwrap()).unwrap();
            assert_eq!(consent.answer("advertising"), Some(false), "{preferences}");
        }
    }

    #[test]
    fn added_consent_fills_only_what_the_event_leaves_open() {
        let decided = ConsentRecord::parse(
            r#"{"categoryPreferences":{"analytics":true,"advertising":true}}"#,
        );
        let mut event: Event = serde_json::from_value(json!({
            "type": "track", "event": "x", "messageId": "m",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
            "context": { "consent": { "categoryPreferences": { "Advertising": false } } },
        }))
        .unwrap();
        add_consent(&mut event, &decided.unwrap());
        assert_eq!(
            event.context.unwrap()["consent"]["categoryPreferences"],
            json!({ "Advertising": false, "analytics": true })
        );
    }

    #[test]
    fn addresses_and_denied_properties_are_removed() {
        let event = protected(json!({
            "name": "Hello jo@x.example",
            "properties": {
                "email": "jo@x.example", "note": "write to <jo@x.example>, please", "n": 1,
                "internal_id": 7, "ssn": "1", "links": ["https://x.example/?e=jo%40x.example&a=1"],
                "deep": { "contact": "jo@x.example", "user_email": "jo@x.example" },
                "handle": "@jo", "price": "2 @ 3",
            },
            "context": { "page": { "url": "https://x.example/?m=jo@x.example", "title": "jo@x.example" } },
        }));
        assert_eq!(event["name"], "Hello [redacted]");
        assert_eq!(
            event["properties"],
            json!({
                "email": "jo@x.example", "note": "write to <[redacted]>, please", "n": 1,
                "links": ["https://x.example/?a=1"],
                "deep": { "contact": "[redacted]", "user_email": "jo@x.example" },
                "handle": "@jo", "price": "2 @ 3",
            })
        );
        assert_eq!(
            event["context"]["page"],
            json!({ "url": "https://x.example/", "title": "[redacted]" })
        );
    }

    #[test]
    fn denied_properties_are_found_at_every_depth_and_place() {
        let denied = json!({ "ssn": "1", "internal_x": 1, "kept": [{ "SSN": 2, "ssn": 3, "a": { "ssn": 4, "b": 5 } }] });
        let left = json!({ "kept": [{ "SSN": 2, "a": { "b": 5 } }] });
        let event = protected(json!({
            "properties": denied, "traits": denied, "context": { "traits": denied, "ip": "192.0.2.1" },
        }));
        assert_eq!((&event["properties"], &event["traits"]), (&left, &left));
        assert_eq!(event["context"], json!({ "traits": left, "ip": "192.0.2.1" }));
    }

    #[test]
    fn addresses_are_found_between_spaces_of_any_kind_which_stay() {
        for (text, expected) in [
            ("Name: Jo\njo@x.example\tcalls", "Name: Jo\n[redacted]\tcalls"),
            (" jo@x.example\r\n\u{a0}a  b ", " [redacted]\r\n\u{a0}a  b "),
            ("a\u{2003}jo@x.example", "a\u{2003}[redacted]"),
        ] {
            let event = protected(json!({ "properties": { "note": text } }));
            assert_eq!(event["properties"]["note"], expected);
        }
    }

    #[test]
    fn missing_choice_is_a_refusal_in_opt_in_countries() {
        let at = |country: Option<&str>| {
            let place = country.map(|country| GeoLocation {
                country: Some(country.to_owned()),
                ..GeoLocation::default()
            });
            policy().unknown(&EventFacts { place, ..EventFacts::default() }, UnknownConsent::Allow)
        };
        assert_eq!(at(Some("DE")), UnknownConsent::Deny);
        assert_eq!(at(Some("US")), UnknownConsent::Allow);
        assert_eq!(at(None), UnknownConsent::Deny, "it may be there");
        assert_eq!(
            PrivacyPolicy::default().unknown(&EventFacts::default(), UnknownConsent::Allow),
            UnknownConsent::Allow
        );
    }
}

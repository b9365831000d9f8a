//! The filters that select a destination's events: the site's choice, the client's switches, consent.

use tagway_core::event::{Event, JsonObject};
use tagway_core::privacy::{ConsentDecision, ConsentRecord, UnknownConsent, decide};
use tagway_vendors::OutcomeReason;
use tagway_vendors::mapping::GlobPatterns;

/// A destination's selection among its site's events.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationFilter {
    /// The destination's name in the site.
    pub name: String,
    /// The vendor's name.
    pub vendor: &'static str,
    /// Other names of the vendor.
    pub vendor_aliases: &'static [&'static str],
    /// The selection by event name.
    pub events: GlobPatterns,
    /// The selection by the vendor whose tag in the page reported the event; `None` selects all.
    pub tags: Option<GlobPatterns>,
    /// The consent categories that the visitor must have granted.
    pub consent: Vec<String>,
    /// The treatment of a visitor whose choice is unknown.
    pub unknown_consent: UnknownConsent,
}

impl DestinationFilter {
    /// Returns the reason why the event is not for this destination; `None` if it is.
    /// `unknown` is the treatment of this visitor if their choice is unknown.
    pub fn refuse(&self, event: &Event, unknown: UnknownConsent) -> Option<OutcomeReason> {
        if event.facts.test_of.as_ref().is_some_and(|name| *name != self.name) {
            return Some(OutcomeReason::new("test_of_another"));
        }
        if !self.events.matches(event.label()) {
            return Some(OutcomeReason::new("not_selected"));
        }
        if let (Some(tags), Some(tag)) = (&self.tags, &event.facts.tag)
            && !tags.matches(tag)
        {
            return Some(OutcomeReason::new("other_tag"));
        }
        if event.integrations.as_ref().is_some_and(|switches| self.is_switched_off(switches)) {
            return Some(OutcomeReason::new("switched_off"));
        }
        self.refuse_consent(event.context.as_ref(), unknown)
    }

    /// Returns the reason why the visitor's choice, read from this context, excludes this destination.
    pub fn refuse_consent(
        &self,
        context: Option<&JsonObject>,
        unknown: UnknownConsent,
    ) -> Option<OutcomeReason> {
        if self.consent.is_empty() {
            return None;
        }
        let record = context.and_then(ConsentRecord::read);
        match decide(&self.consent, record.as_ref(), unknown) {
            ConsentDecision::Keep => None,
            ConsentDecision::Drop(code) => Some(OutcomeReason::new(code)),
            // The hold has ended without a choice.
            ConsentDecision::Hold => Some(OutcomeReason::new("consent_unknown")),
        }
    }

    /// Reads the Segment spec's `integrations`: a destination's own switch, else `All`, else on.
    fn is_switched_off(&self, switches: &JsonObject) -> bool {
        let is_mine = |key: &str| {
            key.eq_ignore_ascii_case(&self.name)
                || key.eq_ignore_ascii_case(self.vendor)
                || self.vendor_aliases.iter().any(|name| key.eq_ignore_ascii_case(name))
        };
        let own = switches.iter().find(|(key, _)| is_mine(key)).map(|(_, value)| value);
        let switch = own.or_else(|| switches.get("All")).or_else(|| switches.get("all"));
        switch.is_some_and(|value| value.as_bool() == Some(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: serde_json::Value) -> Event {
        let mut event = serde_json::json!({
            "type": "track", "event": "Order Completed", "messageId": "m",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        });
        event.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    fn filter(events: &[&str], consent: &[&str]) -> DestinationFilter {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        DestinationFilter {
            name: "analytics".into(),
            vendor: "ga4",
            vendor_aliases: &["Google Analytics 4"],
            events: GlobPatterns::new(&texts(events)),
            tags: None,
            consent: texts(consent),
            unknown_consent: UnknownConsent::Deny,
        }
    }

    fn code(filter: &DestinationFilter, value: serde_json::Value) -> Option<&'static str> {
        filter.refuse(&event(value), filter.unknown_consent).map(|reason| reason.code)
    }

    #[test]
    fn refuse_selects_by_name_and_exclusions_win() {
        let none = serde_json::json!({});
        assert_eq!(code(&filter(&["*"], &[]), none.clone()), None);
        assert_eq!(code(&filter(&["Order *"], &[]), none.clone()), None);
        assert_eq!(code(&filter(&["order *"], &[]), none.clone()), Some("not_selected"));
        assert_eq!(code(&filter(&["*", "!Order*"], &[]), none.clone()), Some("not_selected"));
        assert_eq!(code(&filter(&["!Product*"], &[]), none), None);
        let page = serde_json::json!({"type": "page", "event": null});
        assert_eq!(code(&filter(&["page"], &[]), page), None);
    }

    #[test]
    fn refuse_skips_events_of_another_vendors_tag() {
        let refusal = |tags: Option<&[&str]>, facts: serde_json::Value| {
            let mut filter = filter(&["*"], &[]);
            filter.tags = tags.map(|tags| {
                GlobPatterns::new(&tags.iter().map(|&tag| tag.into()).collect::<Vec<_>>())
            });
            code(&filter, serde_json::json!({ "facts": facts }))
        };
        let (own, other) = (serde_json::json!({"tag": "ga4"}), serde_json::json!({"tag": "meta"}));
        assert_eq!(refusal(Some(&["ga4"]), own), None);
        assert_eq!(refusal(Some(&["ga4"]), other.clone()), Some("other_tag"));
        assert_eq!(refusal(None, other), None);
        assert_eq!(refusal(Some(&["ga4"]), serde_json::json!({"format": "sdk"})), None, "no tag");
    }

    #[test]
    fn refuse_skips_test_events_of_other_destinations() {
        let all = filter(&["*"], &[]);
        let of = |name: &str| code(&all, serde_json::json!({ "facts": { "testOf": name } }));
        assert_eq!(of("analytics"), None);
        assert_eq!(of("ga4"), Some("test_of_another"), "a vendor's name is no destination's");
    }

    #[test]
    fn refuse_obeys_the_clients_switches() {
        let all = filter(&["*"], &[]);
        let switched = |value| code(&all, serde_json::json!({ "integrations": value }));
        assert_eq!(switched(serde_json::json!({"All": false})), Some("switched_off"));
        assert_eq!(switched(serde_json::json!({"All": false, "GA4": true})), None);
        assert_eq!(switched(serde_json::json!({"All": false, "ga4": {"clientId": "1.2"}})), None);
        assert_eq!(switched(serde_json::json!({"Analytics": false})), Some("switched_off"));
        assert_eq!(switched(serde_json::json!({"Meta": false})), None);
    }

    #[test]
    fn a_denied_or_unknown_category_skips() {
        let strict = filter(&["*"], &["analytics"]);
        let consenting = |value: bool| {
            let record = serde_json::json!({"categoryPreferences": {"analytics": value}});
            code(&strict, serde_json::json!({"context": {"consent": record}}))
        };
        assert_eq!(consenting(true), None);
        assert!(consenting(false).is_some());
        assert!(code(&strict, serde_json::json!({})).is_some(), "unknown is denied here");
    }
}

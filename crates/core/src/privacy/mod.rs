//! Rules on the use of visitors' data: consent in all its common forms, the site's own policy, addresses truncated
//! or removed. Pure.

mod consent;
pub mod email;
pub mod google;
mod network;
mod policy;
mod raw;
mod signals;
pub mod tcf;
pub mod us;

pub use consent::{AD_PERSONALIZATION, AD_USER_DATA, ADVERTISING, ANALYTICS, ConsentRecord};
pub use network::{anonymize, may_name_address, names_address, network_of, truncate};
pub use policy::{PRIVACY_SETTINGS, PrivacyPolicy, add_consent};
pub use signals::BrowserSignals;

/// The handling of a visitor whose choice is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownConsent {
    /// Treats it as consent.
    Allow,
    /// Treats it as a refusal.
    Deny,
    /// Waits for the choice; if there is none in time, it is a refusal.
    Hold,
}

/// The decision on sending an event to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentDecision {
    /// The event may be sent.
    Keep,
    /// The event may not be sent; the code is the reason.
    Drop(&'static str),
    /// The event waits for the visitor's choice.
    Hold,
}

/// Decides if an event may go where all of these categories are required.
pub fn decide(
    required: &[String],
    record: Option<&ConsentRecord>,
    unknown: UnknownConsent,
) -> ConsentDecision {
    let mut standing = ConsentDecision::Keep;
    for category in required {
        match record.and_then(|record| record.answer(category)) {
            Some(true) => {}
            Some(false) => return ConsentDecision::Drop("consent_denied"),
            None if unknown == UnknownConsent::Allow => {}
            // One refusal among the others still decides.
            None if unknown == UnknownConsent::Hold => standing = ConsentDecision::Hold,
            None => return ConsentDecision::Drop("consent_unknown"),
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn consent(preferences: serde_json::Value) -> Option<ConsentRecord> {
        let context = json!({ "consent": { "categoryPreferences": preferences } });
        ConsentRecord::read(context.as_object().unwrap())
    }

    #[test]
    fn every_required_category_must_be_granted() {
        let record = consent(json!({ "Analytics": true, "ads": false, "x": null })).unwrap();
        let decide = |required: &[&str], unknown| {
            let required: Vec<String> = required.iter().map(|&name| name.to_owned()).collect();
            decide(&required, Some(&record), unknown)
        };
        assert_eq!(decide(&[], UnknownConsent::Deny), ConsentDecision::Keep);
        assert_eq!(decide(&["analytics"], UnknownConsent::Deny), ConsentDecision::Keep);
        assert_eq!(
            decide(&["analytics", "ads"], UnknownConsent::Allow),
            ConsentDecision::Drop("consent_denied")
        );
        assert_eq!(decide(&["x"], UnknownConsent::Allow), ConsentDecision::Keep);
        assert_eq!(decide(&["x"], UnknownConsent::Deny), ConsentDecision::Drop("consent_unknown"));
    }

    #[test]
    fn no_record_is_neither_yes_nor_no() {
        assert_eq!(consent(json!([true])), None);
        let required = ["analytics".to_owned()];
        assert_eq!(decide(&required, None, UnknownConsent::Allow), ConsentDecision::Keep);
        assert_eq!(
            decide(&required, None, UnknownConsent::Deny),
            ConsentDecision::Drop("consent_unknown")
        );
    }
}

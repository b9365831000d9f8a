//! The campaign and ad clicks of a visit, where the client sends them apart from the page's URL: as
//! properties that are named like the query parameters (`docs/contracts/beacons.md` 2, 12.7).

use serde_json::Value;

use super::{campaign_member, put};
use tagway_core::event::JsonObject;

/// Query parameters that identify a click on an advertisement.
const CLICK_IDS: [&str; 13] = [
    "gclid",
    "fbclid",
    "msclkid",
    "dclid",
    "wbraid",
    "gbraid",
    "ko_click_id",
    "li_fat_id",
    "sccid",
    "ScCid",
    "ttclid",
    "twclid",
    "rdt_cid",
];

/// The collected `context.campaign` and `context.clickIds`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignContext {
    campaign: JsonObject,
    clicks: JsonObject,
}

impl CampaignContext {
    /// Returns true if a property belongs to a campaign or an ad click.
    pub fn is_campaign_property(name: &str) -> bool {
        name.starts_with("utm_") || Self::is_click_id(name)
    }

    /// Returns true if a query parameter identifies a click on an advertisement.
    pub fn is_click_id(name: &str) -> bool {
        CLICK_IDS.contains(&name)
    }

    /// Takes the property if it belongs to a campaign or an ad click, else returns it.
    pub fn take(&mut self, name: String, value: Value) -> Option<(String, Value)> {
        if !matches!(value, Value::String(_) | Value::Null) {
            return Some((name, value));
        }
        if let Some(rest) = name.strip_prefix("utm_").filter(|rest| !rest.is_empty()) {
            // Parameters that the spec has no name for keep their own.
            put(&mut self.campaign, campaign_member(&name).unwrap_or(rest), Some(value));
        } else if Self::is_click_id(&name) {
            put(&mut self.clicks, &name, Some(value));
        } else {
            return Some((name, value));
        }
        None
    }

    /// Writes the collected members into the context.
    pub fn finish(self, context: &mut JsonObject) {
        put(context, "campaign", Some(self.campaign));
        put(context, "clickIds", Some(self.clicks));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn campaign_and_clicks_are_separated_from_other_properties() {
        let mut arrival = CampaignContext::default();
        for (name, value) in [
            ("utm_source", json!("google")),
            ("utm_campaign", json!("fall")),
            ("utm_marketing_tactic", json!("x")),
            ("utm_term", json!(null)),
            ("gclid", json!("c1")),
        ] {
            assert!(CampaignContext::is_campaign_property(name));
            assert_eq!(arrival.take(name.to_owned(), value), None, "{name}");
        }
        for (name, value) in [("utm_", json!("a")), ("utm_source", json!(1)), ("plan", json!("b"))]
        {
            assert_eq!(
                arrival.take(name.to_owned(), value.clone()),
                Some((name.to_owned(), value))
            );
        }
        let mut context = JsonObject::new();
        arrival.finish(&mut context);
        assert_eq!(
            Value::Object(context),
            json!({
                "campaign": { "source": "google", "name": "fall", "marketing_tactic": "x" },
                "clickIds": { "gclid": "c1" },
            })
        );
    }
}

//! The visitor's acquisition, as properties of the person: campaign, referrer and clicks on advertisements
//! (`docs/contracts/destinations.md` 9.1). Each is set, and set once under its name with `initial_` in front.
//!
//! A referrer on the site's own domain is ignored.

use serde_json::Value;
use url::{Host, Url};

use super::values::put_text;
use crate::beacon_format::CampaignContext;
use tagway_core::event::{EnrichedEvent, JsonObject};

/// The campaign's parameters without `utm_`, and their names in the client's context.
const CAMPAIGN: [(&str, &str); 6] = [
    ("source", "source"),
    ("medium", "medium"),
    ("campaign", "name"),
    ("term", "term"),
    ("content", "content"),
    ("id", "id"),
];

/// The properties that an event sets from its person's acquisition.
#[derive(Debug, Default)]
pub(super) struct AmplitudeAttribution {
    pub(super) set: JsonObject,
    pub(super) set_once: JsonObject,
}

impl AmplitudeAttribution {
    /// Reads the event's own acquisition. Empty if it has no campaign and no referrer of another site.
    pub(super) fn of(event: &EnrichedEvent) -> Self {
        let mut attribution = Self::default();
        for (key, name) in CAMPAIGN {
            if let Some(text) = event.context_text(&["campaign", name]) {
                attribution.put(&format!("utm_{key}"), Some(text));
            }
        }
        attribution.put_referrer(event);
        if !attribution.set.is_empty() {
            attribution.put_clicks(event);
        }
        attribution
    }

    /// Reads the same, or the campaign that the gateway stored for the visitor.
    pub(super) fn known_of(event: &EnrichedEvent) -> Self {
        let mut attribution = Self::default();
        for (key, value) in campaign(event) {
            attribution.put(&format!("utm_{key}"), Some(value));
        }
        attribution.put_referrer(event);
        attribution
    }

    fn put(&mut self, name: &str, text: Option<&str>) {
        if text.is_some() {
            put_text(&mut self.set, name, text);
            put_text(&mut self.set_once, &format!("initial_{name}"), text);
        }
    }

    fn put_referrer(&mut self, event: &EnrichedEvent) {
        if let Some(referrer) = foreign_referrer(event) {
            self.put("referrer", Some(referrer));
            self.put("referring_domain", host(referrer).as_deref());
        }
    }

    /// Adds the clicks that the client names, and those in the page's URL.
    fn put_clicks(&mut self, event: &EnrichedEvent) {
        for (name, id) in
            event.context(&["clickIds"]).and_then(Value::as_object).into_iter().flatten()
        {
            self.put(name, id.as_str());
        }
        let query = event.context_text(&["page", "url"]).and_then(|url| url.split_once('?'));
        let query = query.and_then(|(_, query)| query.split('#').next()).unwrap_or_default();
        for (name, id) in url::form_urlencoded::parse(query.as_bytes()) {
            if CampaignContext::is_click_id(&name) {
                self.put(&name, Some(&id));
            }
        }
    }
}

/// Returns the campaign that brought the visitor, under the names that follow `utm_`: the client's, else the
/// one that the gateway stored.
pub(super) fn campaign(event: &EnrichedEvent) -> Vec<(&'static str, &str)> {
    let stated =
        |(key, name): (&'static str, &str)| Some((key, event.context_text(&["campaign", name])?));
    let stated: Vec<_> = CAMPAIGN.into_iter().filter_map(stated).collect();
    if !stated.is_empty() {
        return stated;
    }
    let Some(seen) = &event.event.facts.campaign else { return stated };
    let seen = [&seen.source, &seen.medium, &seen.name, &seen.term, &seen.content, &seen.id];
    let seen = CAMPAIGN.into_iter().zip(seen);
    seen.filter_map(|((key, _), value)| Some((key, value.as_deref()?))).collect()
}

/// Returns the page that the visitor came from, if it is another site's.
fn foreign_referrer(event: &EnrichedEvent) -> Option<&str> {
    let referrer = event.context_text(&["page", "referrer"])?;
    let from = host(referrer)?;
    let own = event.context_text(&["page", "url"]).and_then(host);
    own.is_none_or(|own| own != from && domain(&own) != domain(&from)).then_some(referrer)
}

/// Returns the host of a URL, in lower case and without a final dot.
fn host(url: &str) -> Option<String> {
    let host = url.trim().parse::<http::Uri>().ok()?.host().map(str::to_ascii_lowercase);
    // Only browsers' rules read a host that is not ASCII.
    let host = host.or_else(|| Url::parse(url.trim()).ok()?.host().map(|host| host.to_string()))?;
    // Libraries write `$direct` for no referrer.
    let is_url = url.contains("://") || host.contains('.');
    Some(host.trim_end_matches('.').to_owned()).filter(|host| is_url && !host.is_empty())
}

/// Returns the domain of a host, or the host itself where it has none.
fn domain(host: &str) -> &str {
    if Host::parse(host).is_ok_and(|host| !matches!(host, Host::Domain(_))) {
        return host;
    }
    psl::domain_str(host).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{event, object};

    fn of(context: Value) -> (Value, Value) {
        let AmplitudeAttribution { set, set_once } =
            AmplitudeAttribution::of(&event(json!({ "event": "x", "context": context })));
        (set.into(), set_once.into())
    }

    #[test]
    fn attribution_is_set_and_set_once() {
        let (set, once) = of(json!({
            "campaign": { "name": "spring", "source": "google", "medium": "cpc", "term": "", "x": "y" },
            "page": { "url": "https://shop.example/p?gclid=G1&x=2#f", "referrer": "https://www.google.com/search" },
        }));
        let expected = json!({ "utm_source": "google", "utm_medium": "cpc", "utm_campaign": "spring",
            "referrer": "https://www.google.com/search", "referring_domain": "www.google.com", "gclid": "G1" });
        assert_eq!(set, expected);
        let initial =
            object(expected).into_iter().map(|(name, value)| (format!("initial_{name}"), value));
        assert_eq!(once, Value::Object(initial.collect()));
    }

    #[test]
    fn referrer_of_the_sites_own_domain_is_ignored() {
        let of_pages = |url: &str, referrer: &str| {
            let page = json!({ "page": { "url": url, "referrer": referrer } });
            of(page).0.get("referring_domain").and_then(Value::as_str).map(str::to_owned)
        };
        for own in [
            "https://shop.example.co.uk/a",
            "https://www.example.co.uk/",
            "https://EXAMPLE.co.uk./",
        ] {
            assert_eq!(of_pages("https://shop.example.co.uk/?gclid=1", own), None, "{own}");
        }
        let other = of_pages("https://shop.example.co.uk/", "https://other.co.uk/");
        assert_eq!(other.as_deref(), Some("other.co.uk"));
        assert_eq!(
            of_pages("http://203.0.113.9/", "http://198.51.113.9/").as_deref(),
            Some("198.51.113.9")
        );
        assert_eq!(of_pages("", "https://a.example/").as_deref(), Some("a.example"));
        for nothing in ["", "$direct", "about blank"] {
            assert_eq!(of_pages("https://shop.example/", nothing), None, "{nothing}");
        }
    }
}

//! The device of an event that has no user agent, and the place of one that has no address: of an app, or of
//! a visitor that a server reports (`docs/contracts/destinations.md` 1.2). Google ignores a user agent where there
//! is a device and an address where there is a place, and derives more from user agent and address, so a
//! browser's events have neither device nor place.

use serde::Serialize;

use crate::products;
use tagway_core::event::EnrichedEvent;

/// Google's categories of devices.
pub(super) const CATEGORIES: [&str; 4] = ["desktop", "tablet", "mobile", "smart TV"];

/// The most characters of a field.
const MAX_TEXT_CHARS: usize = 100;

/// The device in the form that Google takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Ga4DeviceFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    screen_resolution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operating_system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operating_system_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    brand: Option<String>,
}

impl Ga4DeviceFields {
    /// Reads the device from the event's context; `None` if it has none, or if there is a user agent, which
    /// has more details.
    pub(super) fn of(event: &EnrichedEvent) -> Option<Self> {
        if event.user_agent().is_some() {
            return None;
        }
        let text = |path: &[&str]| {
            let text = event.context_text(path).map(str::trim).filter(|text| !text.is_empty());
            text.map(|text| text.chars().take(MAX_TEXT_CHARS).collect::<String>())
        };
        let system = text(&["os", "name"]);
        let hints = event.event.facts.hints.as_ref();
        let mobile = hints.and_then(|hints| hints.mobile).filter(|is_mobile| *is_mobile);
        let device = Self {
            category: text(&["device", "type"])
                .as_deref()
                .and_then(category)
                .or(mobile.map(|_| "mobile"))
                .or_else(|| system.as_deref().and_then(category_of_system)),
            language: text(&["locale"]).or_else(|| event.event.facts.language.clone()),
            screen_resolution: resolution(event),
            operating_system: system.or_else(|| hints.and_then(|hints| hints.platform.clone())),
            operating_system_version: text(&["os", "version"]),
            model: text(&["device", "model"]),
            brand: text(&["device", "brand"]).or_else(|| text(&["device", "manufacturer"])),
        };
        (device != Self::default()).then_some(device)
    }
}

/// The place in the form that Google takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Ga4UserLocation {
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region_id: Option<String>,
    country_id: String,
}

impl Ga4UserLocation {
    /// Reads the place from the event's context, if the event has no address; `None` without a country by its
    /// code.
    pub(super) fn of(event: &EnrichedEvent) -> Option<Self> {
        if event.ip().is_some() {
            return None;
        }
        let text = |key: &str| event.context_text(&["location", key]).map(str::trim);
        let country = text("country_code").or_else(|| text("country"));
        let country_id = country.filter(|code| is_code(code, 2..=2))?.to_ascii_uppercase();
        let region = text("region_code").or_else(|| text("region")).unwrap_or_default();
        let region = region.to_ascii_uppercase();
        let part = region.strip_prefix(&format!("{country_id}-")).unwrap_or(&region);
        let region_id = is_code(part, 1..=3).then(|| format!("{country_id}-{part}"));
        let city = text("city").filter(|city| !city.is_empty());
        let city = city.map(|city| city.chars().take(MAX_TEXT_CHARS).collect());
        Some(Self { city, region_id, country_id })
    }
}

fn is_code(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Returns Google's category for a kind of device, or for the system that clients give as one.
fn category(written: &str) -> Option<&'static str> {
    let word = written.to_ascii_lowercase();
    match word.as_str() {
        "desktop" | "laptop" | "pc" | "computer" => Some("desktop"),
        "mobile" | "phone" | "smartphone" | "handset" => Some("mobile"),
        "tablet" => Some("tablet"),
        "tv" | "smarttv" | "smart tv" | "smart-tv" | "television" => Some("smart TV"),
        system => category_of_system(system),
    }
}

fn category_of_system(system: &str) -> Option<&'static str> {
    match system.to_ascii_lowercase().as_str() {
        "ios" | "android" | "watchos" => Some("mobile"),
        "ipados" => Some("tablet"),
        "tvos" => Some("smart TV"),
        "windows" | "macos" | "mac os" | "mac os x" | "linux" | "chrome os" => Some("desktop"),
        _ => None,
    }
}

fn resolution(event: &EnrichedEvent) -> Option<String> {
    let side = |key: &str| {
        let side = event.context(&["screen", key]).and_then(products::whole_number)?;
        (1..100_000).contains(&side).then_some(side)
    };
    Some(format!("{}x{}", side("width")?, side("height")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::event;

    #[test]
    fn device_is_sent_only_without_a_user_agent() {
        let context = json!({ "locale": "de-CH", "screen": { "width": 390, "height": 844 },
            "os": { "name": "iOS", "version": "18.1" },
            "device": { "type": "ios", "model": "iPhone15,2", "manufacturer": "Apple" } });
        let app = event(json!({ "event": "x", "context": context }));
        let expected = json!({ "category": "mobile", "language": "de-CH", "screen_resolution": "390x844",
            "operating_system": "iOS", "operating_system_version": "18.1", "model": "iPhone15,2",
            "brand": "Apple" });
        assert_eq!(serde_json::to_value(Ga4DeviceFields::of(&app)).unwrap(), expected);
        let agent = json!({ "userAgent": "Mozilla/5.0", "locale": "de" });
        assert_eq!(Ga4DeviceFields::of(&event(json!({ "event": "x", "context": agent }))), None);
        assert_eq!(Ga4DeviceFields::of(&event(json!({ "event": "x" }))), None);
    }

    #[test]
    fn location_is_sent_by_codes_only_without_an_address() {
        let of = |location: serde_json::Value| {
            let fields = json!({ "event": "x", "context": { "location": location } });
            serde_json::to_value(Ga4UserLocation::of(&event(fields))).unwrap()
        };
        let expected = json!({ "city": "San Francisco", "region_id": "US-CA", "country_id": "US" });
        for region in ["CA", "US-CA", "us-ca"] {
            let location = json!({ "city": "San Francisco", "region": region, "country": "us" });
            assert_eq!(of(location), expected, "{region}");
        }
        let named = json!({ "region": "California", "country": "US" });
        assert_eq!(of(named), json!({ "country_id": "US" }));
        assert_eq!(of(json!({ "country": "United States" })), json!(null));
        let facts = json!({ "ip": "203.0.113.9" });
        let located =
            json!({ "event": "x", "facts": facts, "context": { "location": { "country": "US" } } });
        assert_eq!(Ga4UserLocation::of(&event(located)), None);
    }
}

//! The device of an event that has no user agent: an app's, or one that a server tells of
//! (`contracts/destinations.md` 1.2). Google ignores a user agent where there is a device, and reads more
//! out of the agent, so a browser's events have no device.

use serde::Serialize;

use crate::event::Enriched;
use crate::vendors::products;

/// Google's kinds of devices.
pub(super) const CATEGORIES: [&str; 4] = ["desktop", "tablet", "mobile", "smart TV"];

/// The longest text of a field.
const MAX_TEXT_CHARS: usize = 100;

/// The device as Google takes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Device {
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

impl Device {
    /// The device that the event's context describes. `None` if it says nothing of one, or if a user
    /// agent says more.
    pub(super) fn of(event: &Enriched) -> Option<Self> {
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

/// Google's word for a kind of device, or for the system that clients give as one.
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

fn resolution(event: &Enriched) -> Option<String> {
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
    use crate::vendors::trial::event;

    #[test]
    fn device_is_described_where_no_user_agent_is_known() {
        let context = json!({ "locale": "de-CH", "screen": { "width": 390, "height": 844 },
            "os": { "name": "iOS", "version": "18.1" },
            "device": { "type": "ios", "model": "iPhone15,2", "manufacturer": "Apple" } });
        let app = event(json!({ "event": "x", "context": context }));
        let expected = json!({ "category": "mobile", "language": "de-CH", "screen_resolution": "390x844",
            "operating_system": "iOS", "operating_system_version": "18.1", "model": "iPhone15,2",
            "brand": "Apple" });
        assert_eq!(serde_json::to_value(Device::of(&app)).unwrap(), expected);
        let agent = json!({ "userAgent": "Mozilla/5.0", "locale": "de" });
        assert_eq!(Device::of(&event(json!({ "event": "x", "context": agent }))), None);
        assert_eq!(Device::of(&event(json!({ "event": "x" }))), None);
    }
}

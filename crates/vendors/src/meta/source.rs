//! The place of an event: `action_source`, and the fields that Meta requires with each
//! (`docs/contracts/destinations.md` 2.2 and 2.5).

use serde::Serialize;
use serde_json::Value;

use super::settings::MetaSettings;
use crate::email::without_emails;
use tagway_core::event::EnrichedEvent;

/// All action sources, by Meta's names.
pub(super) const ACTION_SOURCES: [&str; 9] = [
    WEBSITE,
    APP,
    PHYSICAL_STORE,
    "email",
    "phone_call",
    "chat",
    "system_generated",
    "business_messaging",
    "other",
];

pub(super) const WEBSITE: &str = "website";
pub(super) const APP: &str = "app";
pub(super) const PHYSICAL_STORE: &str = "physical_store";

/// The longest URL that is sent: browsers and servers take some thousand characters.
const MAX_URL_BYTES: usize = 4096;

/// The action source of one event, with the fields that it requires.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MetaEventSource {
    pub(super) action_source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_source_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_data: Option<MetaAppData>,
}

/// The app and its device, in Meta's form.
#[derive(Clone, Debug, Serialize)]
struct MetaAppData {
    advertiser_tracking_enabled: u8,
    application_tracking_enabled: u8,
    /// Sixteen texts in Meta's fixed order, empty if unknown.
    extinfo: [String; 16],
}

impl MetaEventSource {
    /// Returns the event's own action source; else the website if the event has a page; else the app if it
    /// has one; else the settings' source.
    ///
    /// # Errors
    ///
    /// Returns a dead letter's code if the event names a source and lacks a field that Meta requires with it.
    pub(super) fn of(event: &EnrichedEvent, settings: &MetaSettings) -> Result<Self, &'static str> {
        let stated = event.property("action_source").and_then(Value::as_str);
        let stated =
            stated.and_then(|stated| ACTION_SOURCES.into_iter().find(|known| *known == stated));
        match stated {
            Some(WEBSITE) => match page_url(event) {
                None => Err("missing_event_source_url"),
                Some(_) if event.user_agent().is_none() => Err("missing_user_agent"),
                Some(url) => Ok(Self::website(event, url)),
            },
            Some(APP) => match MetaAppData::of(event) {
                None => Err("missing_app_data"),
                Some(data) => Ok(Self::app(data)),
            },
            Some(stated) => Ok(Self::elsewhere(stated)),
            None => Ok(Self::resolve_source(event, settings)),
        }
    }

    fn resolve_source(event: &EnrichedEvent, settings: &MetaSettings) -> Self {
        if event.user_agent().is_some()
            && let Some(url) = page_url(event)
        {
            return Self::website(event, url);
        }
        match MetaAppData::of(event) {
            Some(data) => Self::app(data),
            // Meta accepts no website event without a page's URL and a user agent.
            None if settings.action_source == WEBSITE => Self::elsewhere("other"),
            None if settings.action_source == APP => Self::elsewhere("other"),
            None => Self::elsewhere(settings.action_source),
        }
    }

    fn website(event: &EnrichedEvent, url: String) -> Self {
        let referrer = event.context_text(&["page", "referrer"]).and_then(web_url);
        Self { event_source_url: Some(url), referrer_url: referrer, ..Self::elsewhere(WEBSITE) }
    }

    fn app(data: MetaAppData) -> Self {
        Self { app_data: Some(data), ..Self::elsewhere(APP) }
    }

    fn elsewhere(action_source: &'static str) -> Self {
        Self { action_source, event_source_url: None, referrer_url: None, app_data: None }
    }
}

/// Returns the page's URL: from the context, else from the event's properties.
fn page_url(event: &EnrichedEvent) -> Option<String> {
    let own = || event.property("url").and_then(Value::as_str).and_then(web_url);
    event.context_text(&["page", "url"]).and_then(web_url).or_else(own)
}

/// Returns a URL of the web, without parts that have an e-mail address.
fn web_url(text: &str) -> Option<String> {
    let text = text.trim();
    let is_web = ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let has_host = text.len() > "https://".len();
    if !is_web || !has_host || text.len() > MAX_URL_BYTES || text.contains(char::is_whitespace) {
        return None;
    }
    Some(without_emails(text.to_owned())).filter(|url| !url.is_empty())
}

impl MetaAppData {
    /// Reads the app from the context; `None` if there is none or if it lacks what Meta requires.
    fn of(event: &EnrichedEvent) -> Option<Self> {
        let text = |path: &[&str]| match event.context(path) {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let system = [&["device", "type"][..], &["os", "name"][..]].into_iter().find_map(
            |path| match event.context_text(path)?.to_ascii_lowercase().as_str() {
                "ios" | "ipados" | "tvos" | "watchos" | "visionos" => Some("i2"),
                "android" => Some("a2"),
                _ => None,
            },
        )?;
        let version = text(&["os", "version"]);
        // A browser on a telephone has the same system but no app.
        if version.is_empty() || event.context(&["app"]).is_none() {
            return None;
        }
        let tracks = event.context(&["device", "adTrackingEnabled"]).and_then(Value::as_bool);
        Some(Self {
            // Without an answer, tracking counts as not granted.
            advertiser_tracking_enabled: u8::from(tracks.unwrap_or(false)),
            application_tracking_enabled: u8::from(tracks.unwrap_or(true)),
            extinfo: [
                system.to_owned(),
                text(&["app", "namespace"]),
                text(&["app", "version"]),
                text(&["app", "build"]),
                version,
                text(&["device", "model"]),
                text(&["locale"]),
                String::new(), // The time zone's abbreviation: clients send only its name.
                text(&["network", "carrier"]),
                text(&["screen", "width"]),
                text(&["screen", "height"]),
                text(&["screen", "density"]),
                String::new(), // Cores, storage and free storage: unknown.
                String::new(),
                String::new(),
                text(&["timezone"]),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::web_url;

    #[test]
    fn web_url_takes_http_urls_and_removes_emails() {
        for (written, expected) in [
            (" https://x.example/a?b=1 ", Some("https://x.example/a?b=1")),
            ("HTTP://x.example", Some("HTTP://x.example")),
            ("https://x.example/?email=jo%40x.example&b=2", Some("https://x.example/?b=2")),
            ("android-app://x", None),
            ("//x.example", None),
            ("https://", None),
            ("https://x.example/a b", None),
            ("", None),
        ] {
            assert_eq!(web_url(written).as_deref(), expected, "{written}");
        }
    }
}

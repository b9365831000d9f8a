//! Where an event happened: `action_source`, and what Meta requires with each
//! (`contracts/destinations.md` 2.2 and 2.5).

use serde::Serialize;
use serde_json::Value;

use super::settings::MetaSettings;
use crate::event::EnrichedEvent;
use crate::vendors::email::without_emails;

/// Where events can have happened, by Meta's names.
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

/// The longest URL that is passed on: browsers and servers take some thousand characters.
const MAX_URL_BYTES: usize = 4096;

/// Where one event happened.
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

/// What Meta wants to know of the app and its device.
#[derive(Clone, Debug, Serialize)]
struct MetaAppData {
    advertiser_tracking_enabled: u8,
    application_tracking_enabled: u8,
    /// Sixteen texts, each in its place, empty if unknown.
    extinfo: [String; 16],
}

impl MetaEventSource {
    /// Where the event happened: where it says, else on a page if there is one, else in an app if
    /// it tells of one, else where the settings say. The error is the code of a dead letter: it
    /// says where, but not what Meta requires with that.
    pub(super) fn of(event: &EnrichedEvent, settings: &MetaSettings) -> Result<Self, &'static str> {
        let said = event.property("action_source").and_then(Value::as_str);
        let said = said.and_then(|said| ACTION_SOURCES.into_iter().find(|known| *known == said));
        match said {
            Some(WEBSITE) => match page_url(event) {
                None => Err("missing_event_source_url"),
                Some(_) if event.user_agent().is_none() => Err("missing_user_agent"),
                Some(url) => Ok(Self::website(event, url)),
            },
            Some(APP) => match MetaAppData::of(event) {
                None => Err("missing_app_data"),
                Some(data) => Ok(Self::app(data)),
            },
            Some(said) => Ok(Self::elsewhere(said)),
            None => Ok(Self::found(event, settings)),
        }
    }

    fn found(event: &EnrichedEvent, settings: &MetaSettings) -> Self {
        if event.user_agent().is_some()
            && let Some(url) = page_url(event)
        {
            return Self::website(event, url);
        }
        match MetaAppData::of(event) {
            Some(data) => Self::app(data),
            // Without a page's URL and a user agent, Meta takes no event for a page's.
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

/// The page's URL: what the client says of its surroundings, else the event's own.
fn page_url(event: &EnrichedEvent) -> Option<String> {
    let own = || event.property("url").and_then(Value::as_str).and_then(web_url);
    event.context_text(&["page", "url"]).and_then(web_url).or_else(own)
}

/// A URL of the web, without whatever names a person.
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
    /// What the client says of its app; `None` if it is none, or lacks what Meta requires.
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
        // A browser on a telephone says the same of its system, but has no app.
        if version.is_empty() || event.context(&["app"]).is_none() {
            return None;
        }
        let tracks = event.context(&["device", "adTrackingEnabled"]).and_then(Value::as_bool);
        Some(Self {
            // What is not said is not granted.
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
                String::new(), // The time zone's abbreviation: clients send its name alone.
                text(&["network", "carrier"]),
                text(&["screen", "width"]),
                text(&["screen", "height"]),
                text(&["screen", "density"]),
                String::new(), // Cores, storage and free storage: nobody says.
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
    fn urls_are_of_the_web_and_name_nobody() {
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

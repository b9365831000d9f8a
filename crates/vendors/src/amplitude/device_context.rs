//! The surroundings of an event: the app, the system, the device, the place (`docs/contracts/destinations.md` 4.4,
//! "Context").

use serde_json::Value;

use super::values::put_text;
use crate::products;
use tagway_core::event::{EnrichedEvent, JsonObject};

/// The names of the libraries of web pages.
const WEB_LIBRARIES: &[&str] = &["tagway.js", "analytics.js", "@segment/analytics-next"];

/// The formats that only browsers send.
const WEB_FORMATS: &[&str] = &["sdk", "pixel"];

/// The operating systems of apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AmplitudeAppSystem {
    /// One of Apple's, under Amplitude's name of its platform.
    Apple(&'static str),
    Android,
}

impl AmplitudeAppSystem {
    /// Returns the app's system, if an app sent the event.
    fn of(event: &EnrichedEvent) -> Option<Self> {
        let named = |text: &str| match text.to_ascii_lowercase().as_str() {
            "ios" | "ipados" => Some(Self::Apple("iOS")),
            "tvos" => Some(Self::Apple("tvOS")),
            "watchos" => Some(Self::Apple("watchOS")),
            "visionos" => Some(Self::Apple("visionOS")),
            "android" => Some(Self::Android),
            _ => None,
        };
        let kind = event.context_text(&["device", "type"]).and_then(named);
        let has_app = event.context(&["app"]).is_some();
        kind.or_else(|| event.context_text(&["os", "name"]).filter(|_| has_app).and_then(named))
    }
}

/// Returns true if an app sent the event.
pub(super) fn is_app(event: &EnrichedEvent) -> bool {
    AmplitudeAppSystem::of(event).is_some()
}

/// Adds the known fields of the event's surroundings.
pub(super) fn add(upload: &mut JsonObject, event: &EnrichedEvent) {
    let text = |path: &[&str]| event.context_text(path);
    let app = AmplitudeAppSystem::of(event);
    put_text(upload, "app_version", text(&["app", "version"]));
    put_text(upload, "platform", platform(event, app));
    // Amplitude parses a browser's user agent. It has the same information as the fields in other words: only
    // one of them is sent.
    match event.user_agent().filter(|_| app.is_none()) {
        Some(agent) => put_text(upload, "user_agent", Some(agent)),
        None => {
            put_text(upload, "os_name", text(&["os", "name"]));
            put_text(upload, "os_version", text(&["os", "version"]));
            put_text(upload, "device_brand", text(&["device", "brand"]));
            put_text(upload, "device_manufacturer", text(&["device", "manufacturer"]));
            put_text(upload, "device_model", text(&["device", "model"]));
        }
    }
    put_text(upload, "carrier", text(&["network", "carrier"]));
    // If one of the four is sent, Amplitude clears the others that are not.
    for key in ["country", "region", "city", "dma"] {
        put_text(upload, key, text(&["location", key]));
    }
    let language = text(&["locale"]).or(event.event.facts.language.as_deref());
    put_text(upload, "language", language);
    for (key, name) in [("location_lat", "latitude"), ("location_lng", "longitude")] {
        if let Some(degrees) = event.context(&["location", name]).and_then(products::number) {
            upload.insert(key.to_owned(), Value::Number(degrees));
        }
    }
    if let Some(ip) = event.ip() {
        upload.insert("ip".to_owned(), ip.to_string().into());
    }
    if let Some(app) = app {
        add_device_ids(upload, event, app);
    }
}

fn platform(event: &EnrichedEvent, app: Option<AmplitudeAppSystem>) -> Option<&str> {
    match app {
        Some(AmplitudeAppSystem::Apple(platform)) => return Some(platform),
        Some(AmplitudeAppSystem::Android) => return Some("Android"),
        None => {}
    }
    let library = event.context_text(&["library", "name"]).unwrap_or_default();
    let is_web = WEB_FORMATS.contains(&event.event.facts.format.as_str())
        || WEB_LIBRARIES.contains(&library)
        || event.context_text(&["channel"]) == Some("web");
    if is_web { Some("Web") } else { event.context_text(&["device", "type"]) }
}

/// Adds the advertising id, unless the person objected, and the vendor id.
fn add_device_ids(upload: &mut JsonObject, event: &EnrichedEvent, app: AmplitudeAppSystem) {
    let text = |key| event.context_text(&["device", key]).filter(|id| !is_zero(id));
    let objects = event.context(&["device", "adTrackingEnabled"]) == Some(&Value::Bool(false));
    let advertising = text("advertisingId").filter(|_| !objects);
    match app {
        AmplitudeAppSystem::Apple(_) => {
            put_text(upload, "idfa", advertising);
            put_text(upload, "idfv", text("id"));
        }
        AmplitudeAppSystem::Android => put_text(upload, "adid", advertising),
    }
}

/// Returns true for the id of devices that give none, which Amplitude rejects.
fn is_zero(id: &str) -> bool {
    id.bytes().all(|byte| matches!(byte, b'0' | b'-'))
}

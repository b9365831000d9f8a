//! What an event says of the device it was made on: by client hints, the client's own word, the user
//! agent. Only tokens that browsers write of themselves are read; what is not known stays unsaid.

use serde_json::{Value, json};

use crate::event::{Event, Object};

/// The longest user agent that is looked at: browsers' have some 150 bytes.
const MAX_AGENT_BYTES: usize = 1024;

/// The longest name that a client gives its device's system.
const MAX_NAME_BYTES: usize = 64;

/// Tokens of user agents, browsers that pose as others before those they pose as.
const BROWSERS: &[(&str, &str)] = &[
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("YaBrowser/", "Yandex"),
    ("Vivaldi/", "Vivaldi"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("UCBrowser/", "UC Browser"),
    ("CriOS/", "Chrome"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Firefox/", "Firefox"),
    // Apple's browser names itself last, and its version apart.
    ("Version/", "Safari"),
];

/// Tokens of systems; those that stand in others' user agents last.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("iPod", "iOS"),
    ("Android", "Android"),
    ("CrOS", "Chrome OS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
];

/// Tokens of devices that are neither telephones nor computers.
const TYPES: &[(&str, &str)] = &[
    ("iPad", "tablet"),
    ("Tablet", "tablet"),
    ("SmartTV", "tv"),
    ("SMART-TV", "tv"),
    ("Tizen", "tv"),
];

/// `type` (`desktop`, `mobile`, `tablet`, `tv`), `os`, `os_version`, `browser`, `browser_version`.
pub(super) fn device(event: &Event) -> Object {
    let mut device = Object::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) =
            value.filter(|value| !value.is_empty() && value.len() <= MAX_NAME_BYTES)
        {
            device.insert(key.to_owned(), json!(value));
        }
    };
    let said = |object: &str, key: &str| {
        event.context.as_ref()?.get(object)?.get(key).and_then(Value::as_str)
    };
    let agent = event.facts.user_agent.as_deref();
    let agent = agent.or_else(|| event.context.as_ref()?.get("userAgent").and_then(Value::as_str));
    let agent = agent.filter(|agent| agent.len() <= MAX_AGENT_BYTES).unwrap_or_default();
    // Libraries and bots name themselves only; browsers and apps name their system in brackets.
    let inside = agent.split_once('(').map(|(_, inside)| inside).unwrap_or_default();
    let find = |tokens: &[(&str, &'static str)], text: &str| {
        tokens.iter().find(|(token, _)| text.contains(token)).map(|(_, name)| *name)
    };
    let hints = event.facts.hints.as_ref();
    let system = find(SYSTEMS, inside);
    let os = hints.and_then(|hints| hints.platform.as_deref());
    let os = os.or_else(|| said("os", "name")).or(system);
    set("os", os);
    set("os_version", said("os", "version"));
    let is_mobile = hints
        .and_then(|hints| hints.mobile)
        .unwrap_or_else(|| inside.contains("Mobile") || inside.contains("iPhone"));
    let kind = find(TYPES, inside).or(match os {
        None => None,
        Some(_) if is_mobile => Some("mobile"),
        Some("Android") => Some("tablet"),
        Some("iOS") => Some("mobile"),
        Some(_) => Some("desktop"),
    });
    set("type", kind);
    if let Some((token, name)) = BROWSERS.iter().find(|(token, _)| agent.contains(token)) {
        let is_one = *name != "Safari" || agent.contains("Safari/");
        let version = agent.split_once(token).map(|(_, rest)| rest).unwrap_or_default();
        let version = version.split(|c: char| !c.is_ascii_digit()).next();
        set("browser", is_one.then_some(*name));
        set("browser_version", version.filter(|_| is_one));
    }
    device
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(facts: Value, context: Value) -> Value {
        let event = json!({
            "type": "page", "messageId": "m", "timestamp": "2026-11-23T10:00:00Z",
            "receivedAt": "2026-11-23T10:00:00Z", "facts": facts, "context": context,
        });
        Value::Object(device(&serde_json::from_value(event).unwrap()))
    }

    #[test]
    fn devices_are_told_apart() {
        let webkit = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
        let chrome = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0";
        for (agent, expected) in [
            (
                format!(
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {chrome} Safari/537.36 Edg/141.0"
                ),
                ["desktop", "Windows", "Edge", "141"],
            ),
            (
                format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {webkit} Version/18.6 Mobile/15E148 Safari/604.1"
                ),
                ["mobile", "iOS", "Safari", "18"],
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 10; K) {chrome} Mobile Safari/537.36"),
                ["mobile", "Android", "Chrome", "140"],
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 10; K) {chrome} Safari/537.36"),
                ["tablet", "Android", "Chrome", "140"],
            ),
        ] {
            let found = known(json!({ "userAgent": agent }), json!({}));
            let [kind, os, browser, version] = expected;
            let expected =
                json!({ "type": kind, "os": os, "browser": browser, "browser_version": version });
            assert_eq!(found, expected, "{agent}");
        }
    }

    #[test]
    fn hints_and_the_clients_word_stand_above_the_user_agent() {
        let frozen = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36";
        let hints = json!({ "platform": "Android", "mobile": true });
        let found = known(json!({ "userAgent": frozen, "hints": hints }), json!({}));
        assert_eq!((&found["type"], &found["os"]), (&json!("mobile"), &json!("Android")));
        let app = known(json!({}), json!({ "os": { "name": "iOS", "version": "18.1" } }));
        assert_eq!(app, json!({ "os": "iOS", "os_version": "18.1", "type": "mobile" }));
        assert_eq!(known(json!({ "userAgent": "curl/8.5.0" }), json!({})), json!({}));
    }
}

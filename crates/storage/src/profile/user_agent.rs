//! The device of an event: by client hints, the client's own data, the user agent. Unknown values stay
//! empty, and so do those that browsers have frozen: the versions of desktop systems, of Android in
//! Chrome and of iOS in Safari stand still in every user agent.
//!
//! User agents are parsed by the tables of uap-core (`static/agents`), which costs some microseconds
//! each; recent ones are cached. A browser has one name on whatever system ("Chrome", not "Chrome
//! Mobile iOS"), and every Linux desktop is "Linux".

use std::sync::{Arc, OnceLock};

use moka::sync::Cache;
use serde_json::{Value, json};

use tagway_core::event::{Event, JsonObject};

/// The tables: regular expressions, and the meaning of the parts that they match.
const TABLES: &str = include_str!("../../../../static/agents/regexes.json");

/// The longest user agent that is parsed, in bytes: browsers' have some 150.
const MAX_AGENT_BYTES: usize = 1024;

/// The longest name of a device's system that a client may give, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The most user agents that are cached, some 500 bytes each: those of most of a site's visitors.
const REMEMBERED: u64 = 4000;

/// Browsers whose common name differs from the one in the tables.
const BROWSERS: &[(&str, &str)] = &[
    ("IE", "Internet Explorer"),
    ("IE Mobile", "Internet Explorer"),
    ("Yandex Browser", "Yandex"),
    // An app that does not name itself.
    ("Mobile Safari UI/WKWebView", ""),
];

/// The suffixes that the tables append to a browser's name by its system.
const PLACES: [&str; 3] = [" WebView", " iOS", " Mobile"];

/// Systems whose common name differs from the one in the tables.
const SYSTEMS: &[(&str, &str)] = &[("Mac OS X", "macOS"), ("Web0S", "webOS")];

/// Tokens of devices that are neither telephones nor computers.
const TYPES: &[(&str, &str)] = &[
    ("iPad", "tablet"),
    ("Tablet", "tablet"),
    ("SmartTV", "tv"),
    ("SMART-TV", "tv"),
    ("Tizen", "tv"),
];

/// Parses user agents, and caches the results.
pub struct UserAgentParser {
    tables: OnceLock<Option<UserAgentTables>>,
    cache: Cache<Box<str>, Arc<ParsedUserAgent>>,
}

struct UserAgentTables {
    browsers: ua_parser::user_agent::Extractor<'static>,
    systems: ua_parser::os::Extractor<'static>,
}

/// The device data of a user agent.
#[derive(Debug, Default)]
struct ParsedUserAgent {
    browser: Option<String>,
    browser_version: Option<String>,
    os: Option<String>,
    os_version: Option<String>,
    kind: Option<&'static str>,
    is_mobile: bool,
}

impl Default for UserAgentParser {
    fn default() -> Self {
        Self { tables: OnceLock::new(), cache: Cache::new(REMEMBERED) }
    }
}

impl UserAgentParser {
    /// Compiles the tables, which takes some hundred milliseconds and twelve megabytes; otherwise the
    /// first user agent waits for it.
    pub fn prepare(&self) {
        self.tables();
    }

    fn tables(&self) -> Option<&UserAgentTables> {
        let tables = self.tables.get_or_init(|| {
            let tables = UserAgentTables::new();
            if tables.is_none() {
                tracing::error!(
                    "the tables of user agents are not readable: devices of visitors stay unknown"
                );
            }
            tables
        });
        tables.as_ref()
    }

    fn read(&self, agent: &str) -> Arc<ParsedUserAgent> {
        // Libraries and bots name themselves only; browsers and apps name their system in brackets.
        let Some((_, inside)) = agent.split_once('(') else { return Arc::default() };
        if let Some(known) = self.cache.get(agent) {
            return known;
        }
        let Some(tables) = self.tables() else { return Arc::default() };
        let read = Arc::new(tables.read(agent, inside));
        self.cache.insert(agent.into(), read.clone());
        read
    }
}

impl UserAgentTables {
    fn new() -> Option<Self> {
        let tables: ua_parser::Regexes<'static> = serde_json::from_str(TABLES).ok()?;
        let browsers = ua_parser::user_agent::Builder::new();
        let systems = ua_parser::os::Builder::new();
        Some(Self {
            browsers: browsers.push_all(tables.user_agent_parsers).ok()?.build().ok()?,
            systems: systems.push_all(tables.os_parsers).ok()?.build().ok()?,
        })
    }

    /// Parses a user agent. `inside` is the text after the first bracket.
    fn read(&self, agent: &str, inside: &str) -> ParsedUserAgent {
        let mut read = ParsedUserAgent {
            kind: TYPES.iter().find(|(token, _)| inside.contains(token)).map(|(_, kind)| *kind),
            is_mobile: inside.contains("Mobile") || inside.contains("iPhone"),
            ..ParsedUserAgent::default()
        };
        if let Some(found) = self.browsers.extract(agent) {
            let name = browser_name(&found.family);
            if !name.is_empty() {
                read.browser = Some(name.to_owned());
                read.browser_version = found.major.map(str::to_owned);
            }
        }
        if let Some(found) = self.systems.extract(agent) {
            let name = system_name(&found.os, inside);
            let parts = [found.major.as_deref(), found.minor.as_deref()];
            let version = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
            let is_told = match name {
                "iOS" => !is_older(found.major.as_deref(), &read),
                "Android" => !inside.contains("Android 10; K)"),
                _ => false,
            };
            read.os = Some(name.to_owned());
            read.os_version = Some(version).filter(|version| is_told && !version.is_empty());
        }
        read
    }
}

/// Returns one name for a browser on whatever system.
fn browser_name(family: &str) -> &str {
    if let Some((_, name)) = BROWSERS.iter().find(|(named, _)| *named == family) {
        return name;
    }
    let name = PLACES.iter().fold(family, |name, place| name.strip_suffix(place).unwrap_or(name));
    name.strip_prefix("Mobile ").unwrap_or(name)
}

fn system_name<'a>(os: &'a str, inside: &str) -> &'a str {
    if inside.contains("X11") && os != "Chrome OS" {
        return "Linux";
    }
    SYSTEMS.iter().find(|(named, _)| *named == os).map_or(os, |(_, name)| name)
}

/// Returns true if Safari's version, which is the system's, is higher: then the system's version in the
/// user agent is frozen.
fn is_older(os: Option<&str>, read: &ParsedUserAgent) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    read.browser.as_deref() == Some("Safari")
        && number(read.browser_version.as_deref()) > number(os)
}

/// Returns the members `type` (`desktop`, `mobile`, `tablet`, `tv`), `os`, `os_version`, `browser`,
/// `browser_version`.
pub(super) fn device(event: &Event, agents: &UserAgentParser) -> JsonObject {
    let mut device = JsonObject::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) =
            value.filter(|value| !value.is_empty() && value.len() <= MAX_NAME_BYTES)
        {
            device.insert(key.to_owned(), json!(value));
        }
    };
    let stated = |object: &str, key: &str| {
        event.context.as_ref()?.get(object)?.get(key).and_then(Value::as_str)
    };
    let agent = event.facts.user_agent.as_deref();
    let agent = agent.or_else(|| event.context.as_ref()?.get("userAgent").and_then(Value::as_str));
    let agent = agent.filter(|agent| agent.len() <= MAX_AGENT_BYTES).unwrap_or_default();
    let read = agents.read(agent);
    let hints = event.facts.hints.as_ref();
    let os = hints.and_then(|hints| hints.platform.as_deref());
    let os = os.or_else(|| stated("os", "name")).or(read.os.as_deref());
    set("os", os);
    let is_same = os == read.os.as_deref();
    let version = read.os_version.as_deref().filter(|_| is_same);
    set("os_version", stated("os", "version").or(version));
    let is_mobile = hints.and_then(|hints| hints.mobile).unwrap_or(read.is_mobile);
    let kind = read.kind.or(match os {
        None => None,
        Some(_) if is_mobile => Some("mobile"),
        Some("Android") => Some("tablet"),
        Some("iOS") => Some("mobile"),
        Some(_) => Some("desktop"),
    });
    set("type", kind);
    set("browser", read.browser.as_deref());
    set("browser_version", read.browser_version.as_deref());
    device
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(facts: Value, context: Value) -> Event {
        let event = json!({
            "type": "page", "messageId": "m", "timestamp": "2026-11-23T10:00:00Z",
            "receivedAt": "2026-11-23T10:00:00Z", "facts": facts, "context": context,
        });
        serde_json::from_value(event).unwrap()
    }

    fn known(facts: Value, context: Value) -> Value {
        Value::Object(device(&event(facts, context), &UserAgentParser::default()))
    }

    /// User agents as browsers and apps send them; unknown values are empty.
    const SEEN: &[(&str, [&str; 5])] = &[
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/141.0.0.0",
            ["desktop", "Windows", "", "Edge", "141"],
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
            ["desktop", "Windows", "", "Chrome", "141"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
            ["mobile", "iOS", "18.6", "Safari", "18"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
            ["mobile", "Android", "", "Chrome", "140"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            ["tablet", "Android", "", "Chrome", "140"],
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
            ["desktop", "macOS", "", "Safari", "18"],
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0",
            ["desktop", "macOS", "", "Firefox", "143"],
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
            ["desktop", "Linux", "", "Firefox", "143"],
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
            ["desktop", "Chrome OS", "", "Chrome", "139"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
            ["mobile", "Android", "14", "Samsung Internet", "28"],
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
            ["tablet", "iOS", "17.5", "Safari", "17"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0.7339.101 Mobile/15E148 Safari/604.1",
            ["mobile", "iOS", "18.6", "Chrome", "140"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/142.0 Mobile/15E148 Safari/605.1.15",
            ["mobile", "iOS", "18.5", "Firefox", "142"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/525.0.0.53.107;FBBV/777;FBDV/iPhone15,2;FBMD/iPhone;FBSN/iOS;FBSV/18.6;FBSS/3;FBID/phone;FBLC/de_DE;FBOP/5]",
            ["mobile", "iOS", "18.6", "Facebook", "525"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/22G86 Instagram 397.0.0.31.81 (iPhone14,5; iOS 18_6; de_DE; de; scale=3.00; 1170x2532; 785863906)",
            ["mobile", "iOS", "18.6", "Instagram", "397"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-A546B Build/UP1A.231005.007; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/139.0.7258.94 Mobile Safari/537.36 Instagram 395.0.0.43.82 Android",
            ["mobile", "Android", "14", "Instagram", "395"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; Pixel 7 Build/TQ3A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.7204.179 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/520.0.0.40.61;]",
            ["mobile", "Android", "13", "Facebook", "520"],
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36 OPR/123.0.0.0",
            ["desktop", "Windows", "", "Opera", "123"],
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
            ["desktop", "Windows", "", "Firefox", "143"],
        ),
        (
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/4.0 Chrome/94.0.4606.31 TV Safari/537.36",
            ["tv", "Tizen", "", "Samsung Internet", "4"],
        ),
        (
            "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/108.0.5359.211 Safari/537.36 WebAppManager",
            ["tv", "webOS", "", "Chrome", "108"],
        ),
        (
            "Mozilla/5.0 (Android 14; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0",
            ["mobile", "Android", "14", "Firefox", "143"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 12; SAMSUNG SM-T870) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Safari/537.36",
            ["tablet", "Android", "12", "Samsung Internet", "27"],
        ),
        (
            "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
            ["desktop", "Windows", "", "Internet Explorer", "11"],
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile DuckDuckGo/5 Safari/537.36",
            ["mobile", "Android", "", "DuckDuckGo", "5"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15",
            ["mobile", "iOS", "18.5", "DuckDuckGo", "7"],
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 YaBrowser/25.8.0.0 Safari/537.36",
            ["desktop", "Windows", "", "Yandex", "25"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) EdgiOS/140.0.3485.66 Version/18.0 Mobile/15E148 Safari/604.1",
            ["mobile", "iOS", "18.6", "Edge", "140"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) GSA/383.0.797833943 Mobile/15E148 Safari/604.1",
            ["mobile", "iOS", "18.6", "Google", "383"],
        ),
        (
            "Mozilla/5.0 (PlayStation; PlayStation 5/5.50) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.4 Safari/605.1.15",
            ["", "", "", "Safari", "16"],
        ),
        ("curl/8.5.0", ["", "", "", "", ""]),
        ("python-requests/2.31.0", ["", "", "", "", ""]),
        ("okhttp/4.12.0", ["", "", "", "", ""]),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
            ["mobile", "iOS", "", "Safari", "26"],
        ),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
            ["desktop", "Linux", "", "Firefox", "143"],
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
            ["mobile", "iOS", "18.6", "", ""],
        ),
    ];

    #[test]
    fn device_is_read_from_user_agents() {
        let agents = UserAgentParser::default();
        for _twice in 0..2 {
            for (agent, stated) in SEEN {
                let event = event(json!({ "userAgent": agent }), json!({}));
                let found = device(&event, &agents);
                let keys = ["type", "os", "os_version", "browser", "browser_version"];
                let found = keys.map(|key| found.get(key).and_then(Value::as_str).unwrap_or(""));
                assert_eq!(found, *stated, "{agent}");
            }
        }
    }

    #[test]
    fn user_agent_of_no_browser_is_neither_parsed_nor_cached() {
        let agents = UserAgentParser::default();
        for agent in ["", "curl/8.5.0", &format!("x ({}", "y".repeat(MAX_AGENT_BYTES))] {
            assert_eq!(
                device(&event(json!({ "userAgent": agent }), json!({})), &agents),
                JsonObject::new()
            );
        }
        assert!(agents.tables.get().is_none());
    }

    #[test]
    fn hints_and_client_data_win_over_the_user_agent() {
        let frozen = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36";
        let hints = json!({ "platform": "Android", "mobile": true });
        let found = known(json!({ "userAgent": frozen, "hints": hints }), json!({}));
        assert_eq!((&found["type"], &found["os"]), (&json!("mobile"), &json!("Android")));
        let app = known(json!({}), json!({ "os": { "name": "iOS", "version": "18.1" } }));
        assert_eq!(app, json!({ "os": "iOS", "os_version": "18.1", "type": "mobile" }));
        assert_eq!(known(json!({ "userAgent": "curl/8.5.0" }), json!({})), json!({}));
    }
}

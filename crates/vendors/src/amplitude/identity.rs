//! The ids and the session of an event (`docs/contracts/destinations.md` 4.3).
//!
//! Both ids are sent whenever both are known: that joins a person's anonymous history to them. Ids that
//! Amplitude refuses, because broken senders give them to all visitors, are dropped.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::settings::AmplitudeSettings;
use super::values::MAX_TEXT_CHARS;
use super::{VENDOR, device_context};
use crate::match_keys::MatchWeight::High;
use crate::match_keys::{MatchKey, RAISE_BROWSER, RAISE_USER_ID, key};
use crate::products;
use tagway_core::event::EnrichedEvent;
use tagway_core::values::time::read_date_text;

/// The ids by which Amplitude joins events.
pub(super) const MATCH_KEYS: &[MatchKey] = &[
    key("user_id", "Your own user id", "/user_id", High, RAISE_USER_ID),
    key("device_id", "Browser or device", "/device_id", High, RAISE_BROWSER),
];

/// The ids that Amplitude refuses, in lower case.
const REFUSED_IDS: &[&str] = &[
    "",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "00000000-0000-0000-0000-000000000000",
    "{}",
    "lmy47d",
    "0",
    "-1",
];

/// The earliest valid session, 2000-01-01: a smaller number is no time in milliseconds, but a count or
/// seconds.
const FIRST_SESSION: i64 = 946_684_800_000;

/// The most time that a session may begin after its event: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// The time without an event after which the browser SDK begins a new session (its default).
const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);

/// The user id and the device id of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AmplitudeIds {
    pub(super) user: Option<String>,
    pub(super) device: Option<String>,
}

/// The content of the cookie of Amplitude's own browser SDK.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AmplitudeSdkCookie {
    device_id: Option<String>,
    session_id: Option<i64>,
    last_event_time: Option<i64>,
}

impl AmplitudeIds {
    /// Returns the ids of this event. The device's is the browser SDK's, so that its sessions and the
    /// gateway's join; else the app's own; else the visitor's.
    pub(super) fn of(event: &EnrichedEvent, cookie: Option<&AmplitudeSdkCookie>) -> Self {
        let user = [event.event.user_id.as_deref(), event.profile.user_id.as_deref()];
        let device = [
            cookie.and_then(|cookie| cookie.device_id.as_deref()),
            event.context_text(&["device", "id"]).filter(|_| device_context::is_app(event)),
            event.event.anonymous_id.as_deref(),
        ];
        let first = |ids: &[Option<&str>]| ids.iter().flatten().find_map(|id| valid_id(id));
        Self { user: first(&user), device: first(&device) }
    }

    /// Returns true if the event has neither id.
    pub(super) fn are_none(&self) -> bool {
        self.user.is_none() && self.device.is_none()
    }
}

/// Returns the id without space around it, if Amplitude takes it.
pub(super) fn valid_id(id: &str) -> Option<String> {
    let id = id.trim();
    let is_refused = REFUSED_IDS.iter().any(|refused| refused.eq_ignore_ascii_case(id));
    (!is_refused && id.chars().count() <= MAX_TEXT_CHARS).then(|| id.to_owned())
}

/// Returns the browser SDK's cookie of this project.
pub(super) fn sdk_cookie(
    event: &EnrichedEvent,
    settings: &AmplitudeSettings,
) -> Option<AmplitudeSdkCookie> {
    read_cookie(event.event.facts.cookies.get(&settings.cookie)?)
}

/// Reads the SDK's cookie: JSON, percent-encoded, in base64; it may be percent-encoded as a whole.
fn read_cookie(value: &str) -> Option<AmplitudeSdkCookie> {
    let value = percent_decode_str(value).decode_utf8().ok()?;
    let value = value.trim_matches(['"', '=', ' ']);
    let text = String::from_utf8(STANDARD_NO_PAD.decode(value).ok()?).ok()?;
    let text = percent_decode_str(&text).decode_utf8().ok()?;
    serde_json::from_str(&text).ok()
}

/// Returns the start of the session, in milliseconds: the client's, else that of the browser SDK's cookie,
/// else the gateway's own.
pub(super) fn session(event: &EnrichedEvent, cookie: Option<&AmplitudeSdkCookie>) -> Option<i64> {
    let option = VENDOR
        .options(event)
        .and_then(|options| ["session_id", "sessionId"].iter().find_map(|key| options.get(*key)));
    if let Some(stated) = option {
        if products::whole_number(stated) == Some(-1) {
            return None;
        }
        if let Some(session) = milliseconds(stated, event) {
            return Some(session);
        }
    }
    event
        .context(&["sessionId"])
        .and_then(|stated| milliseconds(stated, event))
        .or_else(|| cookie?.session_at(event))
        .or_else(|| {
            let session = event.event.facts.session?;
            plausible(session.id.checked_mul(1000)?, event)
        })
}

impl AmplitudeSdkCookie {
    /// Returns the session, if the SDK would still count this event to it.
    fn session_at(&self, event: &EnrichedEvent) -> Option<i64> {
        let idle = event.event.timestamp.as_millisecond().checked_sub(self.last_event_time?)?;
        let is_open = u128::from(idle.unsigned_abs()) < SESSION_IDLE.as_millis();
        plausible(self.session_id?, event).filter(|_| is_open)
    }
}

/// Reads a number of milliseconds, or a date.
fn milliseconds(stated: &Value, event: &EnrichedEvent) -> Option<i64> {
    let date = || Some(read_date_text(stated.as_str()?)?.as_millisecond());
    plausible(products::whole_number(stated).or_else(date)?, event)
}

fn plausible(session: i64, event: &EnrichedEvent) -> Option<i64> {
    let skew = i64::try_from(CLOCK_SKEW.as_millis()).unwrap_or(i64::MAX);
    let last = event.event.received_at.as_millisecond().saturating_add(skew);
    (FIRST_SESSION..=last).contains(&session).then_some(session)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    const START: i64 = 1_795_435_000_000;

    #[test]
    fn ids_that_amplitude_refuses_are_dropped() {
        for bad in ["Anonymous", " null ", "N/A", "0", "-1", "{}", "LMY47D", "undefined", ""] {
            assert_eq!(valid_id(bad), None, "{bad:?}");
        }
        assert_eq!(valid_id("00000000-0000-0000-0000-000000000000"), None);
        assert_eq!(valid_id(&"x".repeat(MAX_TEXT_CHARS + 1)), None);
        assert_eq!(valid_id(" 7 ").as_deref(), Some("7"), "short ids are taken with min_id_length");
    }

    #[test]
    fn sdk_cookie_is_read_in_any_encoding() {
        let json = r#"{"deviceId":"d-1","userId":"ü","sessionId":1795435000000,"optOut":false}"#;
        let percent: String = url::form_urlencoded::byte_serialize(json.as_bytes()).collect();
        let base64 = base64::engine::general_purpose::STANDARD.encode(&percent);
        let plain = base64::engine::general_purpose::STANDARD.encode(json);
        let whole = base64.replace('=', "%3D");
        for written in [&base64, &plain, &whole] {
            let cookie = read_cookie(written).unwrap();
            assert_eq!(cookie.device_id.as_deref(), Some("d-1"), "{written}");
            assert_eq!(cookie.session_id, Some(START));
        }
        for bad in ["", "%%%", "bm9uZQ==", "W10="] {
            assert!(read_cookie(bad).is_none_or(|cookie| cookie.device_id.is_none()), "{bad}");
        }
    }

    #[test]
    fn session_is_a_plausible_time_in_milliseconds() {
        let facts = json!({ "session": { "id": 1_795_430_000, "number": 1 } });
        let session = |option: Value, context: Value| {
            let integrations = json!({ "Amplitude": { "session_id": option } });
            let context = json!({ "sessionId": context });
            let fields = json!({ "event": "x", "facts": facts, "integrations": integrations,
                "context": context });
            super::session(&test_support::event(fields), None)
        };
        let own = Some(1_795_430_000_000);
        for (option, context, expected) in [
            (json!(START), json!(START + 1), Some(START)),
            (json!(START.to_string()), json!(null), Some(START)),
            (json!("2026-11-23T11:56:40Z"), json!(null), Some(START)),
            (json!(-1), json!(START), None),
            (json!("soon"), json!(START), Some(START)),
            (json!(null), json!(START.to_string()), Some(START)),
            (json!(null), json!(1_795_435_000), own),
            (json!(null), json!("a-1"), own),
            (json!(null), json!(START * 2), own),
        ] {
            assert_eq!(session(option.clone(), context.clone()), expected, "{option} {context}");
        }
    }

    #[test]
    fn sdk_session_counts_while_it_is_open() {
        let now = test_support::now().as_millisecond();
        let event = test_support::event(json!({ "event": "x" }));
        let session = |idle_minutes: i64| {
            let last_event_time = Some(now - idle_minutes * 60_000);
            let cookie =
                AmplitudeSdkCookie { device_id: None, session_id: Some(START), last_event_time };
            super::session(&event, Some(&cookie))
        };
        assert_eq!((session(29), session(30), session(-1)), (Some(START), None, Some(START)));
    }
}

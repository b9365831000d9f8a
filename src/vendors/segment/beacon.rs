//! analytics.js asks for its settings and posts what is already canonical; the HTTP API and the pixels
//! of e-mails have the same paths.
//!
//! The settings name this mount as the host of all beacons, which moves them here without a change to
//! the page. They are answered whatever else is refused: without them the library never starts. A
//! body that is too long is called a success: the library would not send it in parts.

use http::Method;
use http::header::{AUTHORIZATION, HeaderName};
use serde_json::json;

use crate::event::{Kind, Object};
use crate::vendors::beacon::{Answer, Beacon, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{MessageBatch, spec};

pub(super) struct Segment;

/// The longest write key that is shown to its sender again; Segment's have 32 characters.
const MAX_KEY_BYTES: usize = 64;

/// What a path below the mount is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    /// The settings of the source with this write key.
    Settings(&'a str),
    /// Messages, of one kind or any.
    Messages(Option<Kind>),
    /// A message in the query of an image.
    Pixel(Kind),
    /// How the library itself fares.
    Metrics,
}

impl<'a> Endpoint<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let below = path.strip_suffix('/').unwrap_or(path).strip_prefix("/v1/")?;
        if let Some(key) = below.strip_prefix("projects/") {
            let key = key.strip_suffix("/settings")?;
            return is_key(key).then_some(Self::Settings(key));
        }
        if let Some(kind) = below.strip_prefix("pixel/") {
            return kind_of(kind).map(Self::Pixel);
        }
        match below {
            "b" | "batch" | "import" => Some(Self::Messages(None)),
            "m" => Some(Self::Metrics),
            _ => kind_of(below).map(|kind| Self::Messages(Some(kind))),
        }
    }
}

/// The kind of a path's last part: the browser library writes one letter, everybody else the name.
fn kind_of(name: &str) -> Option<Kind> {
    match name {
        "t" => Some(Kind::Track),
        "p" => Some(Kind::Page),
        "i" => Some(Kind::Identify),
        "g" => Some(Kind::Group),
        "a" => Some(Kind::Alias),
        "s" => Some(Kind::Screen),
        _ => Kind::from_name(name),
    }
}

fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(is_plain)
}

impl Beacon for Segment {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        match Endpoint::of(path)? {
            Endpoint::Settings(_) | Endpoint::Pixel(_) => Some(Methods::Get),
            Endpoint::Messages(_) | Endpoint::Metrics => Some(Methods::Post),
        }
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        let complete = |message: &mut Object, kind| {
            spec::mend(message, kind, "segment");
            // Images bring cookies.
            if inbound.method == Method::POST {
                spec::name_nobody(message, inbound);
            }
        };
        match Endpoint::of(inbound.path) {
            None | Some(Endpoint::Settings(_) | Endpoint::Metrics) => Ok(()),
            Some(Endpoint::Pixel(kind)) => {
                let mut message = spec::in_query(inbound)?;
                complete(&mut message, Some(kind));
                batch.push(&message)
            }
            Some(Endpoint::Messages(kind)) => {
                spec::read(inbound, batch, |message| complete(message, kind))
            }
        }
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://api.segment.io")
    }

    fn key_field(&self) -> Option<HeaderName> {
        Some(AUTHORIZATION)
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match (Endpoint::of(inbound.path), verdict) {
            (Some(Endpoint::Settings(key)), _) => Answer::json(settings(inbound, key)),
            (Some(Endpoint::Pixel(_)), _) => Answer::gif(),
            (Some(Endpoint::Messages(_)), Verdict::Later { limited }) => Answer::later(limited),
            (None | Some(Endpoint::Messages(_) | Endpoint::Metrics), _) => {
                Answer::json("{\"success\":true}")
            }
        }
    }
}

/// The settings of a source that sends nothing anywhere but here.
fn settings(inbound: &Inbound<'_>, key: &str) -> String {
    let settings = json!({
        "integrations": { "Segment.io": {
            "apiKey": key,
            "apiHost": format!("{}{}/v1", inbound.authority, inbound.mount),
            "protocol": if inbound.secure { "https" } else { "http" },
            "addBundledMetadata": true,
            "unbundledIntegrations": [],
            "maybeBundledConfigIds": {},
            "versionSettings": { "version": "4.4.7", "componentTypes": ["browser"] },
        } },
        "plan": {
            "track": { "__default": { "enabled": true, "integrations": {} } },
            "identify": { "__default": { "enabled": true } },
            "group": { "__default": { "enabled": true } },
        },
        "edgeFunction": {},
        "analyticsNextEnabled": true,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": { "sampleRate": 0 },
        "legacyVideoPluginsEnabled": false,
        "remotePlugins": [],
    });
    settings.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vendors::wire::trial::{Sent, broken, broken_query};

    const GOOD: &str = r#"{"batch":[{"type":"track","event":"Order Completed","userId":"u1",
        "properties":{"order_id":"o1","products":[{"sku":"s1"}]},"context":{"page":{"url":"u"}}},
        {"type":"page","name":"P","userId":null,"originalTimestamp":"2026-11-23T11:48:02.076Z"}],
        "sentAt":"2026-11-23T11:48:02.076Z","context":{"ip":"192.0.2.1"}}"#;

    #[test]
    fn every_path_of_the_library_and_of_the_http_api_is_known() {
        for (path, endpoint) in [
            ("/v1/t", Endpoint::Messages(Some(Kind::Track))),
            ("/v1/alias/", Endpoint::Messages(Some(Kind::Alias))),
            ("/v1/b", Endpoint::Messages(None)),
            ("/v1/import", Endpoint::Messages(None)),
            ("/v1/m", Endpoint::Metrics),
            ("/v1/pixel/identify", Endpoint::Pixel(Kind::Identify)),
            ("/v1/projects/SEGWRITEKEY/settings", Endpoint::Settings("SEGWRITEKEY")),
        ] {
            assert_eq!(Endpoint::of(path), Some(endpoint), "{path}");
        }
        let long = format!("/v1/projects/{}/settings", "k".repeat(65));
        for unknown in [
            "/",
            "/v1",
            "/v1/x",
            "/t",
            "/v1/pixel/batch",
            "/v1/projects//settings",
            "/v1/projects/a%22b/settings",
            "/v1/projects/a\"b/settings",
            "/v1/projects/a/b/settings",
            &long,
        ] {
            assert_eq!(Endpoint::of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn settings_come_whatever_else_is_refused() {
        let sent = Sent::new(Method::GET, "/v1/projects/KEY_1-a/settings", "");
        for verdict in [Verdict::Ignored, Verdict::Later { limited: true }, Verdict::TooLarge] {
            let answer = sent.answer(&Segment, verdict);
            assert_eq!(answer.status, 200);
            let settings: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let own = &settings["integrations"]["Segment.io"];
            assert_eq!(own["apiKey"], "KEY_1-a");
            assert_eq!(own["apiHost"], "t.shop.example/mount/v1");
        }
    }

    #[test]
    fn what_a_server_says_of_a_whole_batch_does_not_multiply() {
        let context = "x".repeat(10_000);
        let messages = vec!["{\"type\":\"page\"}"; 100].join(",");
        let body = format!("{{\"batch\":[{messages}],\"context\":{{\"a\":\"{context}\"}}}}");
        assert!(Sent::new(Method::POST, "/v1/batch", body).decode(&Segment).is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_harm(
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                broken(GOOD),
            ],
            path in prop_oneof![Just("/v1/t"), Just("/v1/batch"), Just("/v1/m")],
        ) {
            Sent::new(Method::POST, path, body).check(&Segment, 10);
        }

        #[test]
        fn any_query_is_read_without_harm(
            query in prop_oneof![
                "[!-~]{0,200}",
                broken_query("userId=u&event=E&properties.a.b=1&context.page.url=u"),
                broken_query("data=eyJldmVudCI6IkUiLCJwcm9wZXJ0aWVzIjp7Im4iOjF9fQ"),
            ],
        ) {
            Sent::new(Method::GET, &format!("/v1/pixel/track?{query}"), "").check(&Segment, 10);
        }
    }
}

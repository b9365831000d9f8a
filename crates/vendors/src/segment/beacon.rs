//! analytics.js requests its settings and posts canonical messages; the HTTP API and the pixels of
//! e-mails use the same paths.
//!
//! The settings name this mount as the host of all beacons, so the page needs no change. They are sent
//! whatever else is refused: without them the library never starts. A body that is too long is answered
//! with success: the library would not send it in parts.

use http::header::{AUTHORIZATION, HeaderName};
use serde_json::json;

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::MessageBatch;
use crate::beacon_format::spec::SpecDialect;
use tagway_core::event::EventKind;

pub(super) struct SegmentBeacon;

/// The longest write key that is echoed, in bytes; Segment's have 32 characters.
const MAX_KEY_BYTES: usize = 64;

/// The purpose of a path below the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentBeaconRoute<'a> {
    /// The settings of the source with this write key.
    Settings(&'a str),
    /// Messages of one kind; `None` for any kind.
    Messages(Option<EventKind>),
    /// A message in the query of an image.
    Pixel(EventKind),
    /// The library's metrics of itself.
    Metrics,
}

impl<'a> SegmentBeaconRoute<'a> {
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

/// Returns the kind of a path's last part: one letter from the browser library, else the full name.
fn kind_of(name: &str) -> Option<EventKind> {
    match name {
        "t" => Some(EventKind::Track),
        "p" => Some(EventKind::Page),
        "i" => Some(EventKind::Identify),
        "g" => Some(EventKind::Group),
        "a" => Some(EventKind::Alias),
        "s" => Some(EventKind::Screen),
        _ => EventKind::from_name(name),
    }
}

fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(is_plain)
}

impl Beacon for SegmentBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        match SegmentBeaconRoute::of(path)? {
            SegmentBeaconRoute::Settings(_) | SegmentBeaconRoute::Pixel(_) => {
                Some(AllowedMethods::Get)
            }
            SegmentBeaconRoute::Messages(_) | SegmentBeaconRoute::Metrics => {
                Some(AllowedMethods::Post)
            }
        }
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let dialect = |kind| SpecDialect { client: "segment", kind, adapt: &|_| {} };
        match SegmentBeaconRoute::of(inbound.path) {
            None | Some(SegmentBeaconRoute::Settings(_) | SegmentBeaconRoute::Metrics) => Ok(()),
            Some(SegmentBeaconRoute::Pixel(kind)) => dialect(Some(kind)).read_query(inbound, batch),
            Some(SegmentBeaconRoute::Messages(kind)) => dialect(kind).read(inbound, batch),
        }
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://api.segment.io")
    }

    fn key_field(&self) -> Option<HeaderName> {
        Some(AUTHORIZATION)
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match (SegmentBeaconRoute::of(inbound.path), verdict) {
            (Some(SegmentBeaconRoute::Settings(key)), _) => {
                BeaconReply::json(settings(inbound, key))
            }
            (Some(SegmentBeaconRoute::Pixel(_)), _) => BeaconReply::gif(),
            (Some(SegmentBeaconRoute::Messages(_)), BeaconOutcome::RetryLater { limited }) => {
                BeaconReply::retry_later(limited)
            }
            (None | Some(SegmentBeaconRoute::Messages(_) | SegmentBeaconRoute::Metrics), _) => {
                BeaconReply::json("{\"success\":true}")
            }
        }
    }
}

/// Returns the settings of a source whose only destination is this mount.
fn settings(inbound: &BeaconRequest<'_>, key: &str) -> String {
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
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::beacon_format::test_support::{TestBeaconRequest, broken, broken_query};

    const GOOD: &str = r#"{"batch":[{"type":"track","event":"Order Completed","userId":"u1",
        "properties":{"order_id":"o1","products":[{"sku":"s1"}]},"context":{"page":{"url":"u"}}},
        {"type":"page","name":"P","userId":null,"originalTimestamp":"2026-11-23T11:48:02.076Z"}],
        "sentAt":"2026-11-23T11:48:02.076Z","context":{"ip":"192.0.2.1"}}"#;

    #[test]
    fn every_path_of_the_library_and_of_the_http_api_is_known() {
        for (path, endpoint) in [
            ("/v1/t", SegmentBeaconRoute::Messages(Some(EventKind::Track))),
            ("/v1/alias/", SegmentBeaconRoute::Messages(Some(EventKind::Alias))),
            ("/v1/b", SegmentBeaconRoute::Messages(None)),
            ("/v1/import", SegmentBeaconRoute::Messages(None)),
            ("/v1/m", SegmentBeaconRoute::Metrics),
            ("/v1/pixel/identify", SegmentBeaconRoute::Pixel(EventKind::Identify)),
            ("/v1/projects/SEGWRITEKEY/settings", SegmentBeaconRoute::Settings("SEGWRITEKEY")),
        ] {
            assert_eq!(SegmentBeaconRoute::of(path), Some(endpoint), "{path}");
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
            assert_eq!(SegmentBeaconRoute::of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn shared_members_are_bounded_before_they_become_trees() {
        let read = |body: String| {
            TestBeaconRequest::new(Method::POST, "/v1/b", body).decode(&SegmentBeacon)
        };
        // Small as a text, and 60 times as much as a tree.
        let many = "{\"\":0},".repeat(40_000);
        let body = format!(r#"{{"batch":[{{"type":"page"}}],"context":{{"a":[{many}0]}}}}"#);
        assert!(matches!(read(body), Err(BeaconDecodeError::TooLarge)));
        // Many short messages may share a context of the usual length.
        let messages = vec![r#"{"type":"page","userId":"u"}"#; 40].join(",");
        let context = "c".repeat(1300);
        let body = format!(r#"{{"batch":[{messages}],"context":{{"a":"{context}"}}}}"#);
        assert_eq!(read(body).unwrap().len(), 40);
    }

    #[test]
    fn message_nested_too_deep_is_rejected_alone() {
        let deep = format!("{}0{}", "[".repeat(70), "]".repeat(70));
        let one = format!(r#"{{"type":"page","userId":"u","properties":{{"a":{deep}}}}}"#);
        for body in [one.clone(), format!(r#"{{"batch":[{one},{{"type":"page","userId":"v"}}]}}"#)]
        {
            let sent = TestBeaconRequest::new(Method::POST, "/v1/b", body.clone());
            let messages = sent.decode(&SegmentBeacon).unwrap();
            assert_eq!(messages.len(), usize::from(body.contains("batch")), "{body}");
        }
    }

    #[test]
    fn settings_are_answered_for_every_outcome() {
        let sent = TestBeaconRequest::new(Method::GET, "/v1/projects/KEY_1-a/settings", "");
        for verdict in [
            BeaconOutcome::Ignored,
            BeaconOutcome::RetryLater { limited: true },
            BeaconOutcome::TooLarge,
        ] {
            let answer = sent.answer(&SegmentBeacon, verdict);
            assert_eq!(answer.status, 200);
            let settings: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let own = &settings["integrations"]["Segment.io"];
            assert_eq!(own["apiKey"], "KEY_1-a");
            assert_eq!(own["apiHost"], "t.shop.example/mount/v1");
        }
    }

    #[test]
    fn batch_with_a_large_shared_context_is_refused() {
        let context = "x".repeat(10_000);
        let messages = vec!["{\"type\":\"page\"}"; 100].join(",");
        let body = format!("{{\"batch\":[{messages}],\"context\":{{\"a\":\"{context}\"}}}}");
        assert!(
            TestBeaconRequest::new(Method::POST, "/v1/batch", body).decode(&SegmentBeacon).is_err()
        );
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
            TestBeaconRequest::new(Method::POST, path, body).check(&SegmentBeacon, 10);
        }

        #[test]
        fn any_query_is_read_without_harm(
            query in prop_oneof![
                "[!-~]{0,200}",
                broken_query("userId=u&event=E&properties.a.b=1&context.page.url=u"),
                broken_query("data=eyJldmVudCI6IkUiLCJwcm9wZXJ0aWVzIjp7Im4iOjF9fQ"),
            ],
        ) {
            TestBeaconRequest::new(Method::GET, &format!("/v1/pixel/track?{query}"), "").check(&SegmentBeacon, 10);
        }
    }
}

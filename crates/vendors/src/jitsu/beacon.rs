//! `POST /api/s/<type>`: one canonical message. The library itself adds the ids of other vendors'
//! cookies. It has no queue, never retries, and takes a reply that is not JSON for an error.
//!
//! Jitsu's server libraries call `/api/s/s2s/<type>` with a write key in a header. With the site's token
//! as the write key they count as the site's servers.

use http::header::HeaderName;
use serde_json::Value;

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::MessageBatch;
use crate::beacon_format::spec::{SpecDialect, object_in};
use tagway_core::event::{EventKind, JsonObject};

pub(super) struct JitsuBeacon;

fn kind_of(path: &str) -> Option<EventKind> {
    let below = path.strip_suffix('/').unwrap_or(path).strip_prefix("/api/s/")?;
    EventKind::from_name(below.strip_prefix("s2s/").unwrap_or(below))
}

impl Beacon for JitsuBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        kind_of(path).map(|_| AllowedMethods::Post)
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let kind = kind_of(inbound.path);
        inbound.field("x-write-key").into_iter().for_each(|key| batch.show_key(key));
        let adapt = |message: &mut JsonObject| {
            if let Some(context) = object_in(message, "context") {
                session(context);
            }
        };
        SpecDialect { client: "jitsu", kind, adapt: &adapt }.read(inbound, batch)
    }

    fn key_field(&self) -> Option<HeaderName> {
        Some(HeaderName::from_static("x-write-key"))
    }

    fn answer(&self, _inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match verdict {
            BeaconOutcome::RetryLater { limited } => BeaconReply::retry_later(limited),
            BeaconOutcome::Taken { .. } | BeaconOutcome::Ignored | BeaconOutcome::TooLarge => {
                BeaconReply::json("{\"ok\":true}")
            }
        }
    }
}

/// Takes the session id of Google's library, if it has only one: each of its streams has its own.
fn session(context: &mut JsonObject) {
    if context.contains_key("sessionId") {
        return;
    }
    let ids = context.get("clientIds").and_then(|ids| ids.get("ga4")?.get("sessionIds"));
    let Some(Value::Object(ids)) = ids else { return };
    let mut sessions = ids.values();
    if let (Some(id @ (Value::String(_) | Value::Number(_))), None) =
        (sessions.next().cloned(), sessions.next())
    {
        context.insert("sessionId".to_owned(), id);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::beacon_format::test_support::{TestBeaconRequest, broken};

    const GOOD: &str = r#"{"type":"page","properties":{"title":"Product page","width":1280},
        "userId":null,"anonymousId":"a1","timestamp":"2026-11-23T11:48:47.657Z","messageId":"m",
        "writeKey":"jk:***","context":{"traits":{},"clientIds":{"ga4":{"clientId":"1.2",
        "sessionIds":{"G-1":"1795434661"}},"fbp":"fb.1.1.2"},"campaign":{"source":"google"}}}"#;

    #[test]
    fn endpoint_accepts_message_paths_only() {
        for path in
            ["/api/s/page", "/api/s/s2s/track", "/api/s/track", "/api/s/identify/", "/api/s/group"]
        {
            assert_eq!(JitsuBeacon.endpoint(path), Some(AllowedMethods::Post), "{path}");
        }
        for unknown in ["/", "/api/s", "/api/s/s2s/x", "/api/s/x", "/p.js"] {
            assert_eq!(JitsuBeacon.endpoint(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn session_is_taken_from_ga4_if_it_is_the_only_one() {
        for (ids, expected) in [
            (r#"{"G-1":"17954"}"#, Some(Value::from("17954"))),
            (r#"{"G-1":"17954","G-2":"17955"}"#, None),
            (r#"{"G-1":{}}"#, None),
            ("[]", None),
        ] {
            let body = GOOD.replace(r#"{"G-1":"1795434661"}"#, ids);
            let messages = TestBeaconRequest::new(Method::POST, "/api/s/page", body)
                .decode(&JitsuBeacon)
                .unwrap();
            assert_eq!(messages[0]["context"].get("sessionId"), expected.as_ref(), "{ids}");
        }
    }

    #[test]
    fn daily_id_is_assigned_only_without_user_id_and_cookies() {
        let nobody = r#"{"type":"page","userId":null}"#;
        let name = |sent: TestBeaconRequest| {
            let messages = sent.decode(&JitsuBeacon).unwrap();
            messages[0].get("anonymousId").cloned()
        };
        let sent = || TestBeaconRequest::new(Method::POST, "/api/s/page", nobody);
        let sent_by_a_page = || sent().with("origin", "https://shop.example");
        assert_eq!(name(sent_by_a_page()), Some("daily1".into()));
        assert_eq!(name(sent_by_a_page().with("cookie", "a=b")), None);
        assert_eq!(name(sent_by_a_page().with("sec-fetch-site", "same-origin")), None);
        assert_eq!(name(sent()), None);
        let known =
            TestBeaconRequest::new(Method::POST, "/api/s/page", nobody.replace("null", "7"));
        assert_eq!(name(known.with("origin", "https://shop.example")), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_harm(
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                broken(GOOD),
            ],
        ) {
            TestBeaconRequest::new(Method::POST, "/api/s/page", body).check(&JitsuBeacon, 10);
        }
    }
}

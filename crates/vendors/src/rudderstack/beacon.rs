//! The RudderStack library requests its source's configuration and posts nearly canonical messages: an
//! unknown user's id is `""`, traits are in the context, `originalTimestamp` stands in for `timestamp`,
//! and a page without a referrer has `$direct` for one.
//!
//! The configuration is sent whatever else is refused: without it the library never starts. It asks
//! `/rsaRequest` to set cookies; the gateway sets none, so the library sets them itself.

use http::header::{AUTHORIZATION, HeaderName};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::spec::{SpecDialect, object_in};
use crate::beacon_format::{self, FormFields, MessageBatch, put};
use tagway_core::event::{EventKind, JsonObject, is_identifying_id};

pub(super) struct RudderStackBeacon;

/// The library's text for a page without a referrer.
const NO_REFERRER: &str = "$direct";

/// The longest write key that is echoed, in bytes; RudderStack's have 27 characters.
const MAX_KEY_BYTES: usize = 64;

/// The longest header field that is decoded, in bytes.
const MAX_FIELD_BYTES: usize = 1024;

/// The purpose of a path below the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RudderStackBeaconRoute {
    /// The configuration of the source.
    Configuration,
    /// Messages of one kind; `None` for any kind.
    Messages(Option<EventKind>),
    /// A message in the query of an image.
    Pixel(EventKind),
    /// A request to set cookies.
    Cookies,
}

impl RudderStackBeaconRoute {
    fn of(path: &str) -> Option<Self> {
        match path.strip_suffix('/').unwrap_or(path) {
            "/sourceConfig" => Some(Self::Configuration),
            "/rsaRequest" => Some(Self::Cookies),
            "/v1/batch" | "/v1/import" | "/beacon/v1/batch" => Some(Self::Messages(None)),
            "/pixel/v1/track" => Some(Self::Pixel(EventKind::Track)),
            "/pixel/v1/page" => Some(Self::Pixel(EventKind::Page)),
            other => {
                let kind = other.strip_prefix("/v1/").and_then(EventKind::from_name)?;
                Some(Self::Messages(Some(kind)))
            }
        }
    }
}

impl Beacon for RudderStackBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        match RudderStackBeaconRoute::of(path)? {
            RudderStackBeaconRoute::Configuration | RudderStackBeaconRoute::Pixel(_) => {
                Some(AllowedMethods::Get)
            }
            RudderStackBeaconRoute::Messages(_) | RudderStackBeaconRoute::Cookies => {
                Some(AllowedMethods::Post)
            }
        }
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let head = RudderStackHeaders::of(inbound);
        let adapt = |message: &mut JsonObject| {
            head.complete(message);
            mend(message);
        };
        let dialect = |kind| SpecDialect { client: "rudderstack", kind, adapt: &adapt };
        match RudderStackBeaconRoute::of(inbound.path) {
            None
            | Some(RudderStackBeaconRoute::Configuration | RudderStackBeaconRoute::Cookies) => {
                Ok(())
            }
            Some(RudderStackBeaconRoute::Pixel(kind)) => {
                dialect(Some(kind)).read_query(inbound, batch)
            }
            Some(RudderStackBeaconRoute::Messages(kind)) => dialect(kind).read(inbound, batch),
        }
    }

    fn key_field(&self) -> Option<HeaderName> {
        Some(AUTHORIZATION)
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match (RudderStackBeaconRoute::of(inbound.path), verdict) {
            (Some(RudderStackBeaconRoute::Configuration), _) => {
                BeaconReply::json(configuration(inbound))
            }
            (Some(RudderStackBeaconRoute::Pixel(_)), _) => BeaconReply::gif(),
            (Some(RudderStackBeaconRoute::Messages(_)), BeaconOutcome::RetryLater { limited }) => {
                BeaconReply::retry_later(limited)
            }
            (
                None | Some(RudderStackBeaconRoute::Messages(_) | RudderStackBeaconRoute::Cookies),
                _,
            ) => BeaconReply::text("OK"),
        }
    }
}

/// Headers of a request that complete its messages.
struct RudderStackHeaders {
    anonymous_id: Option<String>,
    sent_at: Option<Timestamp>,
}

impl RudderStackHeaders {
    fn of(inbound: &BeaconRequest<'_>) -> Self {
        let field = |name| inbound.field(name).filter(|value| value.len() <= MAX_FIELD_BYTES);
        let anonymous_id = field("anonymousid").and_then(beacon_format::base64);
        let anonymous_id = anonymous_id.and_then(|bytes| String::from_utf8(bytes).ok());
        Self {
            anonymous_id: anonymous_id.filter(|id| is_identifying_id(id)),
            sent_at: field("sentat").and_then(|time| time.parse().ok()),
        }
    }

    fn complete(&self, message: &mut JsonObject) {
        if !message.contains_key("anonymousId") && !message.contains_key("userId") {
            put(message, "anonymousId", self.anonymous_id.as_deref());
        }
        if !message.contains_key("sentAt") {
            put(message, "sentAt", self.sent_at.map(|time| time.to_string()));
        }
    }
}

fn mend(message: &mut JsonObject) {
    let is_identify =
        message.get("type").and_then(Value::as_str) == Some(EventKind::Identify.name());
    if is_identify && message.get("traits").is_none_or(beacon_format::is_blank) {
        let traits = object_in(message, "context").and_then(|all| all.shift_remove("traits"));
        put(message, "traits", traits);
    }
    if let Some(properties) = object_in(message, "properties") {
        forget_no_referrer(properties);
    }
    let Some(context) = object_in(message, "context") else { return };
    if let Some(page) = object_in(context, "page") {
        forget_no_referrer(page);
    }
    // In a browser the library names itself as the app: destinations would take its visitors for an
    // app's users.
    let name = |of: &str| context.get(of).and_then(|of| of.get("name")?.as_str());
    if name("app").is_some() && name("app") == name("library") {
        context.shift_remove("app");
    }
    // Browsers' libraries send an operating system with empty members.
    if context.get("os").and_then(Value::as_object).is_some_and(|os| os.values().all(is_empty)) {
        context.shift_remove("os");
    }
    consent(context);
}

fn is_empty(value: &Value) -> bool {
    beacon_format::is_blank(value)
}

fn forget_no_referrer(page: &mut JsonObject) {
    page.retain(|name, value| {
        !matches!(name.as_str(), "referrer" | "initial_referrer")
            || value.as_str() != Some(NO_REFERRER)
    });
}

/// Converts the consent ids that the visitor allowed and denied to answers by category.
fn consent(context: &mut JsonObject) {
    if context.contains_key("consent") {
        return;
    }
    let Some(Value::Object(management)) = context.get("consentManagement") else { return };
    let mut answers = JsonObject::new();
    for (list, answer) in [("allowedConsentIds", true), ("deniedConsentIds", false)] {
        let ids = management.get(list).and_then(Value::as_array).into_iter().flatten();
        for id in ids.filter_map(Value::as_str) {
            answers.insert(id.to_owned(), answer.into());
        }
    }
    if !answers.is_empty() {
        context.insert("consent".to_owned(), json!({ "categoryPreferences": answers }));
    }
}

/// Returns the configuration of a source without destinations, with this mount as its data plane.
fn configuration(inbound: &BeaconRequest<'_>) -> String {
    let fields = FormFields::form(inbound.query);
    let key = fields.get("writeKey").filter(|key| is_key(key)).unwrap_or_default();
    let configuration = json!({
        "source": {
            "id": "tagway",
            "name": "tagway",
            "writeKey": key,
            "enabled": true,
            "workspaceId": "tagway",
            "config": { "statsCollection": {
                "errors": { "enabled": false }, "metrics": { "enabled": false },
            } },
            "destinations": [],
            "dataplanes": { "US": [{ "url": inbound.base(), "default": true }] },
            "sourceDefinition": {
                "id": "javascript", "name": "Javascript", "displayName": "Javascript",
            },
        },
        "updatedAt": "2026-01-01T00:00:00.000Z",
        "consentManagementMetadata": { "providers": [] },
    });
    configuration.to_string()
}

fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    key.len() <= MAX_KEY_BYTES && key.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::beacon_format::test_support::{TestBeaconRequest, broken, broken_query};

    const GOOD: &str = r#"{"batch":[{"type":"identify","channel":"web","userId":"","context":{
        "traits":{"email":"a@b.co"},"sessionId":1795434555852,"os":{"name":"","version":""},
        "page":{"referrer":"$direct","url":"https://shop.example/"},
        "consentManagement":{"allowedConsentIds":["C1"],"deniedConsentIds":["C2"]}},
        "originalTimestamp":"2026-11-23T11:49:15.865Z","messageId":"m","anonymousId":"a"}],
        "sentAt":"2026-11-23T11:49:15.868Z"}"#;

    #[test]
    fn every_path_of_the_library_is_known() {
        for (path, methods) in [
            ("/sourceConfig", AllowedMethods::Get),
            ("/sourceConfig/", AllowedMethods::Get),
            ("/v1/track", AllowedMethods::Post),
            ("/v1/alias", AllowedMethods::Post),
            ("/v1/batch", AllowedMethods::Post),
            ("/beacon/v1/batch", AllowedMethods::Post),
            ("/pixel/v1/page", AllowedMethods::Get),
            ("/rsaRequest", AllowedMethods::Post),
        ] {
            assert_eq!(RudderStackBeacon.endpoint(path), Some(methods), "{path}");
        }
        for unknown in ["/", "/v1", "/v1/t", "/v1/x", "/pixel/v1/identify", "/beacon/v1/track"] {
            assert_eq!(RudderStackBeacon.endpoint(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn configuration_echoes_only_well_formed_write_keys() {
        for (query, shown) in
            [("writeKey=RUDDER-WK_1", "RUDDER-WK_1"), ("writeKey=%22%3C", ""), ("", "")]
        {
            let sent = TestBeaconRequest::new(Method::GET, &format!("/sourceConfig/?{query}"), "");
            let answer =
                sent.answer(&RudderStackBeacon, BeaconOutcome::RetryLater { limited: false });
            let configuration: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(configuration["source"]["writeKey"], shown, "{query}");
            let plane = &configuration["source"]["dataplanes"]["US"][0]["url"];
            assert_eq!(plane, "https://t.shop.example/mount");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_harm(
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                broken(GOOD),
            ],
            path in prop_oneof![Just("/v1/identify"), Just("/v1/batch"), Just("/beacon/v1/batch")],
            id in "[ -~]{0,40}",
        ) {
            let sent = TestBeaconRequest::new(Method::POST, path, body).with("anonymousid", &id);
            sent.check(&RudderStackBeacon, 10);
        }

        #[test]
        fn any_query_is_read_without_harm(
            query in prop_oneof![
                "[!-~]{0,200}",
                broken_query("writeKey=k&anonymousId=a&event=E&properties.a.b=1&context.page.url=u"),
            ],
            path in prop_oneof![Just("/pixel/v1/track"), Just("/sourceConfig")],
        ) {
            TestBeaconRequest::new(Method::GET, &format!("{path}?{query}"), "").check(&RudderStackBeacon, 10);
        }
    }
}

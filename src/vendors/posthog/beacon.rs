//! What posthog-js asks of its host: events under many names and in many forms; settings, flags,
//! surveys, which are answered as if there were none; recordings, which are taken and dropped.
//!
//! Only a 200 ends a request for the library: it sends again after a 204, and it drops events upon a
//! 429 but keeps them upon a 503. The form `lz64` of ancient versions is not read.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::event;
use crate::event::Object;
use crate::vendors::beacon::{Answer, Beacon, Inbound, Malformed, Methods, Verdict};
use crate::vendors::wire::{self, Fields};

pub(super) struct PostHog;

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose<'a> {
    Events,
    Profiles,
    Recordings,
    Flags,
    /// Of the project with this token; as a script or as JSON.
    Settings(&'a str, bool),
    /// A list of things that there are not, under this name.
    Nothing(&'static str),
}

impl<'a> Purpose<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        Some(match path {
            "/e" | "/i/v0/e" | "/capture" | "/track" | "/batch" => Self::Events,
            "/engage" => Self::Profiles,
            "/s" | "/i/v1/logs" => Self::Recordings,
            "/flags" | "/decide" => Self::Flags,
            "/api/surveys" => Self::Nothing("surveys"),
            "/api/early_access_features" => Self::Nothing("earlyAccessFeatures"),
            "/api/web_experiments" => Self::Nothing("experiments"),
            _ => {
                let (token, file) = path.strip_prefix("/array/")?.split_once('/')?;
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                if token.is_empty() || !token.bytes().all(is_plain) {
                    return None;
                }
                match file {
                    "config" => Self::Settings(token, false),
                    "config.js" => Self::Settings(token, true),
                    _ => return None,
                }
            }
        })
    }
}

impl Beacon for PostHog {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        Some(match Purpose::of(path)? {
            Purpose::Events | Purpose::Profiles | Purpose::Flags => Methods::Both,
            Purpose::Recordings => Methods::Post,
            Purpose::Settings(..) | Purpose::Nothing(_) => Methods::Get,
        })
    }

    fn decode(&self, inbound: &Inbound<'_>) -> Result<Vec<Object>, Malformed> {
        let purpose = Purpose::of(inbound.path);
        if !matches!(purpose, Some(Purpose::Events | Purpose::Profiles)) {
            return Ok(Vec::new());
        }
        let query = Fields::form(inbound.query);
        if query.get("compression") == Some("lz64") {
            return Err(Malformed("compression lz64 is not read"));
        }
        let mut body = body(inbound, &query).ok_or(Malformed("the body is not JSON"))?;
        // The client's clock at sending: of the newest versions, and of those before.
        let mut sent_at = query.get("_").and_then(event::milliseconds);
        if let Value::Object(one) = &mut body {
            if let Some(Value::String(said)) = one.remove("sent_at") {
                sent_at = Some(said);
            }
            if let Some(batch) = one.remove("batch") {
                body = batch;
            }
        }
        let events = match body {
            Value::Array(events) => events,
            one @ Value::Object(_) => vec![one],
            _ => return Err(Malformed("the batch is not a list")),
        };
        let message = |event: Value| {
            let Value::Object(event) = event else { return None };
            if purpose == Some(Purpose::Profiles) {
                return event::profile(event, inbound);
            }
            event::message(event, sent_at.as_deref(), inbound)
        };
        Ok(events.into_iter().filter_map(message).collect())
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match Purpose::of(inbound.path) {
            Some(Purpose::Flags) => Answer::json(flags().to_string()),
            Some(Purpose::Settings(token, is_script)) => settings(token, is_script),
            Some(Purpose::Nothing(name)) => Answer::json(json!({ name: [] }).to_string()),
            Some(Purpose::Recordings | Purpose::Events | Purpose::Profiles) | None => match verdict
            {
                Verdict::Later { .. } => Answer::later(false),
                Verdict::Taken { .. } | Verdict::Ignored | Verdict::TooLarge => {
                    Answer::json(r#"{"status":"Ok"}"#)
                }
            },
        }
    }
}

/// The JSON of a body or of the query, in whichever way it was packed (8.3).
fn body(inbound: &Inbound<'_>, query: &Fields<'_>) -> Option<Value> {
    let max = inbound.max_bytes;
    if inbound.body.is_empty() {
        return wire::packed(query.get("data")?, max);
    }
    if let Some(body) = wire::json(inbound.body) {
        return Some(body);
    }
    let text = std::str::from_utf8(inbound.body).ok()?;
    match Fields::form(text).get("data") {
        Some(data) => wire::packed(data, max),
        None => wire::packed(text, max),
    }
}

/// There are no flags; for each version of the question.
fn flags() -> Value {
    json!({
        "flags": {}, "featureFlags": {}, "featureFlagPayloads": {},
        "errorsWhileComputingFlags": false, "config": { "enable_collect_everything": true },
        "supportedCompression": ["gzip", "gzip-js"], "sessionRecording": false, "surveys": false,
        "toolbarParams": {}, "isAuthenticated": false, "siteApps": [],
    })
}

/// What the library may do: events, and nothing that would need more of PostHog.
fn settings(token: &str, is_script: bool) -> Answer {
    let settings = json!({
        "token": token, "supportedCompression": ["gzip", "gzip-js"], "hasFeatureFlags": false,
        "captureDeadClicks": false, "capturePerformance": false, "autocapture_opt_out": true,
        "autocaptureExceptions": false, "analytics": { "endpoint": "/i/v0/e/" },
        "elementsChainAsString": true, "sessionRecording": false, "heatmaps": false,
        "surveys": false, "siteApps": [],
    });
    if !is_script {
        return Answer::json(settings.to_string());
    }
    let script = format!(
        "(function(){{var all=window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{{}};\
         all[\"{token}\"]={{config:{settings},siteApps:[]}};}})();"
    );
    let content_type = Some("application/javascript; charset=utf-8");
    Answer { status: StatusCode::OK, content_type, body: Bytes::from(script) }
}

//! The endpoints that posthog-js uses: events under many names and in many forms; settings, flags and
//! surveys, answered with none; recordings, accepted and dropped.
//!
//! Only a 200 ends a request for the library: it retries after a 204, drops events upon a 429 but keeps
//! them upon a 503. The compression `lz64` of very old versions is not read.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::event;
use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{self, FormFields, MessageBatch};

pub(super) struct PostHogBeacon;

/// The longest text of a time, in bytes.
const MAX_TIME_BYTES: usize = 64;

/// The purpose of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PostHogBeaconRoute<'a> {
    Events,
    Profiles,
    Recordings,
    Flags,
    /// All flags with their rules, for servers that evaluate flags locally.
    FlagDefinitions,
    /// The payload of one flag.
    NoPayload,
    /// The settings of the project with this token: as a script if true, else as JSON.
    Settings(&'a str, bool),
    /// An empty list under this name.
    Nothing(&'static str),
}

impl<'a> PostHogBeaconRoute<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        Some(match path {
            "/e" | "/i/v0/e" | "/i/v1/analytics/events" | "/capture" | "/track" | "/batch" => {
                Self::Events
            }
            "/engage" => Self::Profiles,
            "/s" | "/i/v1/logs" => Self::Recordings,
            "/flags" | "/decide" => Self::Flags,
            "/flags/definitions" | "/api/feature_flag/local_evaluation" => Self::FlagDefinitions,
            "/api/remote_config" => Self::NoPayload,
            "/api/surveys" => Self::Nothing("surveys"),
            "/api/early_access_features" => Self::Nothing("earlyAccessFeatures"),
            "/api/web_experiments" => Self::Nothing("experiments"),
            _ if is_remote_config(path) => Self::NoPayload,
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

/// Returns true for `/api/projects/ID/feature_flags/KEY/remote_config`.
fn is_remote_config(path: &str) -> bool {
    let of_flag = path.strip_prefix("/api/projects/").and_then(|rest| rest.split_once('/'));
    of_flag.is_some_and(|(_project, rest)| {
        rest.starts_with("feature_flags/") && rest.ends_with("/remote_config")
    })
}

impl Beacon for PostHogBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        Some(match PostHogBeaconRoute::of(path)? {
            PostHogBeaconRoute::Events
            | PostHogBeaconRoute::Profiles
            | PostHogBeaconRoute::Flags => AllowedMethods::Both,
            PostHogBeaconRoute::Recordings => AllowedMethods::Post,
            PostHogBeaconRoute::FlagDefinitions
            | PostHogBeaconRoute::NoPayload
            | PostHogBeaconRoute::Settings(..)
            | PostHogBeaconRoute::Nothing(_) => AllowedMethods::Get,
        })
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let purpose = PostHogBeaconRoute::of(inbound.path);
        if !matches!(purpose, Some(PostHogBeaconRoute::Events | PostHogBeaconRoute::Profiles)) {
            return Ok(());
        }
        let query = FormFields::form(inbound.query);
        if query.get("compression") == Some("lz64") {
            return Err(BeaconDecodeError::Malformed("compression lz64 is not read"));
        }
        let body = body(inbound, &query)?;
        if let Cow::Owned(body) = &body {
            batch.add_unpacked(body.len());
        }
        // The client's clock at sending: in the query by the newest versions, in the body by older ones.
        let mut sent_at = query.get("_").and_then(beacon_format::moment_of);
        let mut events = &*body;
        let of_query = query.get("api_key").or_else(|| query.get("token"));
        of_query.into_iter().for_each(|key| batch.show_key(key));
        if let Some([stated, list, keys @ ..]) =
            beacon_format::members(&body, ["sent_at", "batch", "api_key", "token"])
        {
            keys.into_iter().for_each(|key| batch.show_key_in(key));
            let stated = stated.filter(|stated| stated.len() <= MAX_TIME_BYTES);
            if let Some(stated) = stated.and_then(beacon_format::string) {
                sent_at = beacon_format::moment_of(&stated);
            }
            events = list.unwrap_or(events);
        }
        for event in beacon_format::records(events, &inbound.bounds)? {
            let Some(event) = batch.object(event) else { continue };
            let message = if purpose == Some(PostHogBeaconRoute::Profiles) {
                event::profile(event, inbound)
            } else {
                event::message(event, sent_at, inbound)
            };
            batch.extend(message)?;
        }
        Ok(())
    }

    fn has_unique_ids(&self) -> bool {
        false
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match PostHogBeaconRoute::of(inbound.path) {
            Some(PostHogBeaconRoute::Flags) => BeaconReply::json(flags().to_string()),
            Some(PostHogBeaconRoute::FlagDefinitions) => {
                BeaconReply::json(r#"{"flags":[],"group_type_mapping":{},"cohorts":{}}"#)
            }
            Some(PostHogBeaconRoute::NoPayload) => BeaconReply::json("null"),
            Some(PostHogBeaconRoute::Settings(token, is_script)) => settings(token, is_script),
            Some(PostHogBeaconRoute::Nothing(name)) => {
                BeaconReply::json(json!({ name: [] }).to_string())
            }
            Some(
                PostHogBeaconRoute::Recordings
                | PostHogBeaconRoute::Events
                | PostHogBeaconRoute::Profiles,
            )
            | None => match verdict {
                BeaconOutcome::RetryLater { .. } => BeaconReply::retry_later(false),
                BeaconOutcome::Taken { .. } | BeaconOutcome::Ignored | BeaconOutcome::TooLarge => {
                    BeaconReply::json(r#"{"status":"Ok"}"#)
                }
            },
        }
    }
}

/// Returns the JSON of a body or of the query, unpacked from any of its encodings (8.3).
fn body<'a>(
    inbound: &BeaconRequest<'a>,
    query: &FormFields<'_>,
) -> Result<Cow<'a, [u8]>, BeaconDecodeError> {
    const NONE: BeaconDecodeError = BeaconDecodeError::Malformed("the body is not JSON");
    let unpack = |fields: &FormFields<'_>| {
        let data = fields.get("data").ok_or(NONE)?;
        Ok(Cow::Owned(beacon_format::unpacked(data, &inbound.bounds)?.into_owned()))
    };
    if inbound.body.is_empty() {
        return unpack(query);
    }
    if beacon_format::is_json(inbound.body) {
        return Ok(Cow::Borrowed(inbound.body));
    }
    let fields = FormFields::of_bytes(inbound.body);
    match fields.get("data") {
        Some(_) => unpack(&fields),
        None => {
            let text = std::str::from_utf8(inbound.body).map_err(|_invalid| NONE)?;
            beacon_format::unpacked(text, &inbound.bounds)
        }
    }
}

/// Returns an answer without flags, for every version of the request.
fn flags() -> Value {
    json!({
        "flags": {}, "featureFlags": {}, "featureFlagPayloads": {},
        "errorsWhileComputingFlags": false, "config": { "enable_collect_everything": true },
        "supportedCompression": ["gzip", "gzip-js"], "sessionRecording": false, "surveys": false,
        "toolbarParams": {}, "isAuthenticated": false, "siteApps": [],
    })
}

/// Returns the library's settings: events are on, all features that need more of PostHog are off.
fn settings(token: &str, is_script: bool) -> BeaconReply {
    let settings = json!({
        "token": token, "supportedCompression": ["gzip", "gzip-js"], "hasFeatureFlags": false,
        "captureDeadClicks": false, "capturePerformance": false, "autocapture_opt_out": true,
        "autocaptureExceptions": false, "analytics": { "endpoint": "/i/v0/e/" },
        "elementsChainAsString": true, "sessionRecording": false, "heatmaps": false,
        "surveys": false, "siteApps": [],
    });
    if !is_script {
        return BeaconReply::json(settings.to_string());
    }
    let script = format!(
        "(function(){{var all=window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{{}};\
         all[\"{token}\"]={{config:{settings},siteApps:[]}};}})();"
    );
    let content_type = Some("application/javascript; charset=utf-8");
    BeaconReply { status: StatusCode::OK, content_type, body: Bytes::from(script) }
}

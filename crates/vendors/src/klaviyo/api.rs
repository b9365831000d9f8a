//! The single calls to Klaviyo and the meaning of each reply.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::contact_api::{check_reply, refusal_error, unreadable_reply_error};
use crate::{Outcome, VendorCall, VendorReply};
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The settings of a destination of this vendor.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::secret("api_key")
        .example("${KLAVIYO_KEY}")
        .required()
        .doc("a private key with read and write access to lists and profiles; required"),
    Setting::text("revision")
        .default(REVISION)
        .doc("the revision of the API that the gateway uses"),
];

/// Klaviyo's API, unless the endpoint says otherwise.
const BASE: &str = "https://a.klaviyo.com";

/// The revision of the API that this code follows.
const REVISION: &str = "2026-07-15";

/// The media type of JSON:API.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.api+json");

/// E-mail addresses of one look-up: one page of Klaviyo's, and a URL short enough for every server.
pub(super) const MAX_SOUGHT: usize = 50;

/// Klaviyo's base URL and the headers of every call.
pub(super) struct KlaviyoApi {
    base: String,
    headers: HeaderMap,
}

/// A client that makes the calls of one change.
#[derive(Clone, Copy)]
pub(super) struct KlaviyoClient<'c> {
    pub(super) api: &'c KlaviyoApi,
    pub(super) call: &'c dyn VendorCall,
}

impl KlaviyoApi {
    /// Reads the API key and the revision; returns the key as well, as a secret to redact.
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        endpoint: Option<Url>,
    ) -> (Self, SecretString) {
        section.describe(SETTINGS);
        let base = endpoint.as_ref().map_or(BASE, Url::as_str).trim_end_matches('/').to_owned();
        let key = section.secret("api_key");
        let mut headers = HeaderMap::new();
        match HeaderValue::try_from(format!("Klaviyo-API-Key {}", key.expose())) {
            Ok(mut authorization) => {
                authorization.set_sensitive(true);
                headers.insert(AUTHORIZATION, authorization);
            }
            Err(_) => {
                section.error("api_key", "contains characters that are not valid in a header")
            }
        }
        let revision = section.string("revision");
        let is_date =
            revision.get(..10).is_some_and(|day| day.parse::<jiff::civil::Date>().is_ok());
        match HeaderValue::try_from(&revision).ok().filter(|_| is_date) {
            Some(revision) => {
                headers.insert("revision", revision);
            }
            None => section.error("revision", "must be a date, such as \"2026-07-15\""),
        }
        headers.insert(ACCEPT, MEDIA_TYPE);
        (Self { base, headers }, key)
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Request<Bytes>> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::new(bytes);
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.base).parse().ok()?;
        request.headers_mut().clone_from(&self.headers);
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
        }
        Some(request)
    }
}

impl KlaviyoClient<'_> {
    /// Creates a list; returns Klaviyo's id of it.
    pub(super) async fn make_list(self, name: &str) -> Result<String, Outcome> {
        let body = json!({ "data": { "type": "list", "attributes": { "name": name } } });
        let reply = self.send(Method::POST, "/api/lists", Some(&body)).await?;
        if reply.status.is_success() { id(&reply) } else { Err(rejection_error(&reply)) }
    }

    /// Returns the ids of the profiles with these e-mail addresses, by address in lower case.
    pub(super) async fn find(self, emails: &[&str]) -> Result<HashMap<String, String>, Outcome> {
        let listed: Vec<String> = emails.iter().map(|email| json!(email).to_string()).collect();
        let query = Serializer::new(String::new())
            .append_pair("filter", &format!("any(email,[{}])", listed.join(",")))
            .append_pair("fields[profile]", "email")
            .append_pair("page[size]", &MAX_SOUGHT.to_string())
            .finish();
        let reply = self.send(Method::GET, &format!("/api/profiles?{query}"), None).await?;
        if !reply.status.is_success() {
            return Err(rejection_error(&reply));
        }
        let body = reply.json().unwrap_or_default();
        let found = body
            .get("data")
            .and_then(Value::as_array)
            .ok_or_else(|| unreadable_reply_error(&reply))?;
        let profile = |profile: &Value| {
            let email = profile.pointer("/attributes/email")?.as_str()?.to_lowercase();
            Some((email, profile.get("id")?.as_str()?.to_owned()))
        };
        Ok(found.iter().filter_map(profile).collect())
    }

    /// Creates a profile, or finds the one with this address; returns its id.
    pub(super) async fn make(
        self,
        email: &str,
        external_id: Option<&str>,
    ) -> Result<String, Outcome> {
        let attributes = match external_id {
            Some(id) => json!({ "email": email, "external_id": id }),
            None => json!({ "email": email }),
        };
        let body = json!({ "data": { "type": "profile", "attributes": attributes } });
        let reply = self.send(Method::POST, "/api/profile-import", Some(&body)).await?;
        if reply.status.is_success() { id(&reply) } else { Err(rejection_error(&reply)) }
    }

    /// Adds profiles to a list, or removes them. Returns false if the list does not exist.
    pub(super) async fn relate(
        self,
        method: Method,
        list: &str,
        ids: &[String],
    ) -> Result<bool, Outcome> {
        let data: Vec<_> = ids.iter().map(|id| json!({ "type": "profile", "id": id })).collect();
        let list = utf8_percent_encode(list, NON_ALPHANUMERIC);
        let path = format!("/api/lists/{list}/relationships/profiles");
        let reply = self.send(method, &path, Some(&json!({ "data": data }))).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(true),
            404 => Ok(false),
            _ => Err(rejection_error(&reply)),
        }
    }

    async fn send(
        self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<VendorReply, Outcome> {
        let request = self.api.request(method, path, body);
        let request = request.ok_or(Outcome::dead("id_too_long"))?;
        check_reply(self.call.call(request).await, self.call.now())
    }
}

/// Returns the id of the object in the reply.
fn id(reply: &VendorReply) -> Result<String, Outcome> {
    let body = reply.json().unwrap_or_default();
    let id = body.pointer("/data/id").and_then(Value::as_str).filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| unreadable_reply_error(reply))
}

/// Returns Klaviyo's reason for refusing a request: the first of `errors`.
fn rejection_error(reply: &VendorReply) -> Outcome {
    let body = reply.json().unwrap_or_default();
    let first = body.pointer("/errors/0");
    let text = |key: &str| first.and_then(|it| it.get(key)).and_then(Value::as_str);
    let message = match (text("code"), text("detail").or_else(|| text("title"))) {
        (Some(code), Some(detail)) => Some(format!("{code}: {detail}")),
        (one, other) => one.or(other).map(str::to_owned),
    };
    refusal_error(reply, message)
}

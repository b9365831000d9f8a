//! The single calls to Intercom, and the meaning of each reply (`docs/contracts/destinations.md` 5.1, 5.2 and
//! 5.5).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::LINK;
use http::{HeaderValue, Method, Request};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use crate::contact_api::{ApiClient, check_reply, refusal_error, unreadable_reply_error};
use crate::{Outcome, OutcomeReason, VendorCall, VendorReply};
use tagway_core::event::JsonObject;
use tagway_settings::{SecretString, SettingsSection};

/// The regions' addresses. A token belongs to one of them.
const REGIONS: [(&str, &str); 3] = [
    ("us", "https://api.intercom.io"),
    ("eu", "https://api.eu.intercom.io"),
    ("au", "https://api.au.intercom.io"),
];

/// The API version that this code was written for. The calls made here are the same from 2.10 to 2.16.
pub(super) const VERSION: &str = "2.14";

/// The longest pause that one reply imposes on all calls: the limit is counted in windows of ten seconds, and
/// a clock may be off.
const MAX_PAUSE_SECONDS: i64 = 60;

/// The most contacts that a search returns: of several, one is chosen.
const MAX_SEARCH_RESULTS: usize = 10;

/// The characters that are escaped in an id within a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Intercom's address and credentials, and the end of the current rate-limit pause.
pub(super) struct IntercomApi {
    api_client: ApiClient,
    /// Seconds since 1970; zero if there is no pause.
    rate_limited_until: AtomicI64,
}

/// The calls of one conversation.
#[derive(Clone, Copy)]
pub(super) struct IntercomClient<'c> {
    pub(super) api: &'c IntercomApi,
    pub(super) call: &'c dyn VendorCall,
}

/// A contact that a search found.
#[derive(Debug)]
pub(super) struct IntercomContactMatch {
    pub(super) id: String,
    pub(super) is_lead: bool,
    pub(super) external_id: Option<String>,
}

/// The result of making a contact.
pub(super) enum IntercomCreateOutcome {
    /// The contact was made, with this id.
    New(String),
    /// The contact existed already.
    Known(String),
}

/// The result of changing a contact.
pub(super) enum IntercomUpdateOutcome {
    /// The contact was changed.
    Done,
    /// It was merged into another contact, or another one has these ids.
    Moved(String),
    /// There is no such contact.
    Gone,
}

/// The result of a call about a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntercomCallOutcome {
    Accepted,
    UnknownContact,
}

impl IntercomApi {
    /// Reads Intercom's address and the credentials.
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        endpoint: Option<Url>,
    ) -> (Self, SecretString) {
        section.describe(super::settings::SETTINGS);
        let base = section.choice("region", &REGIONS);
        let base = endpoint.as_ref().map_or(base, Url::as_str);
        let (front, token) = ApiClient::read(section, base);
        let version = section.string("api_version");
        let version = HeaderValue::try_from(&version).ok().filter(|_| is_version(&version));
        let version = version.unwrap_or_else(|| {
            section.error("api_version", "must be of the form \"2.14\"");
            HeaderValue::from_static(VERSION)
        });
        (
            Self {
                api_client: front.with("intercom-version", version),
                rate_limited_until: 0.into(),
            },
            token,
        )
    }

    /// Returns a copy that knows of no rate limit.
    pub(super) fn without_memory(&self) -> Self {
        Self { api_client: self.api_client.clone(), rate_limited_until: 0.into() }
    }

    /// Returns the rest of the rate-limit pause.
    fn pause(&self, now: Timestamp) -> Option<Duration> {
        let seconds = self.rate_limited_until.load(Ordering::Relaxed) - now.as_second();
        u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Records the rate limit that a reply states.
    fn note(&self, reply: &VendorReply, now: Timestamp) {
        let number = |name| reply.headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let is_spent = number("x-ratelimit-remaining").is_some_and(|left| left <= 0);
        if (is_spent || reply.status == 429)
            && let Some(reset) = number("x-ratelimit-reset")
        {
            let until = reset.min(now.as_second() + MAX_PAUSE_SECONDS);
            self.rate_limited_until.fetch_max(until, Ordering::Relaxed);
        }
    }
}

fn is_version(text: &str) -> bool {
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.parse::<u16>().is_ok();
    text.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

impl IntercomClient<'_> {
    /// Returns the user with this external id.
    pub(super) async fn find_user(&self, external_id: &str) -> Result<Option<String>, Outcome> {
        let path = format!("/contacts/find_by_external_id/{}", escaped(external_id));
        let reply = self.send_empty_request(Method::GET, &path).await?;
        match reply.status.as_u16() {
            200..=299 => id(&reply).map(Some),
            404 => Ok(None),
            410 => merged_into(&reply).map(Some),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Returns the contacts that a query finds. New ones may be missing for minutes.
    pub(super) async fn search(&self, query: Value) -> Result<Vec<IntercomContactMatch>, Outcome> {
        let body = json!({ "query": query, "pagination": { "per_page": MAX_SEARCH_RESULTS } });
        let reply = self.send_json(Method::POST, "/contacts/search", &body).await?;
        if !reply.status.is_success() {
            return Err(rejection_error(&reply));
        }
        let found = reply.json().unwrap_or_default();
        let found = found
            .get("data")
            .and_then(Value::as_array)
            .ok_or_else(|| unreadable_reply_error(&reply))?;
        let text = |contact: &Value, key: &str| Some(contact.get(key)?.as_str()?.to_owned());
        let contact = |contact: &Value| {
            Some(IntercomContactMatch {
                id: text(contact, "id")?,
                is_lead: contact.get("role").is_some_and(|role| role == "lead"),
                external_id: text(contact, "external_id"),
            })
        };
        Ok(found.iter().filter_map(contact).collect())
    }

    /// Makes a contact.
    pub(super) async fn make(&self, contact: JsonObject) -> Result<IntercomCreateOutcome, Outcome> {
        let reply = self.send_json(Method::POST, "/contacts", &Value::Object(contact)).await?;
        match reply.status.as_u16() {
            200..=299 => id(&reply).map(IntercomCreateOutcome::New),
            409 => conflicting(&reply).map(IntercomCreateOutcome::Known),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Changes a contact.
    pub(super) async fn change(
        &self,
        id: &str,
        contact: &JsonObject,
    ) -> Result<IntercomUpdateOutcome, Outcome> {
        let path = format!("/contacts/{}", escaped(id));
        let reply = self.send_json(Method::PUT, &path, &Value::Object(contact.clone())).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(IntercomUpdateOutcome::Done),
            404 => Ok(IntercomUpdateOutcome::Gone),
            409 => conflicting(&reply).map(IntercomUpdateOutcome::Moved),
            410 => merged_into(&reply).map(IntercomUpdateOutcome::Moved),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Merges a lead into a user. A lead that is gone, or that Intercom will not merge, stays unchanged.
    pub(super) async fn merge(&self, lead: &str, user: &str) -> Result<(), Outcome> {
        let body = json!({ "from": lead, "into": user, "skip_duplicate_validation": true });
        let reply = self.send_json(Method::POST, "/contacts/merge", &body).await?;
        match reply.status.as_u16() {
            200..=299 | 400 | 404 | 410 => Ok(()),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Sends an event.
    pub(super) async fn event(&self, event: JsonObject) -> Result<IntercomCallOutcome, Outcome> {
        let reply = self.send_json(Method::POST, "/events", &Value::Object(event)).await?;
        call_outcome(&reply)
    }

    /// Makes or changes a company, and returns Intercom's id of it.
    pub(super) async fn company(&self, company: &JsonObject) -> Result<String, Outcome> {
        let body = Value::Object(company.clone());
        let reply = self.send_json(Method::POST, "/companies", &body).await?;
        if reply.status.is_success() { id(&reply) } else { Err(rejection_error(&reply)) }
    }

    /// Returns Intercom's id of the company that has this id at the site.
    pub(super) async fn find_company(&self, company_id: &str) -> Result<Option<String>, Outcome> {
        let path = format!("/companies?company_id={}", escaped(company_id));
        let reply = self.send_empty_request(Method::GET, &path).await?;
        match reply.status.as_u16() {
            200..=299 => id(&reply).map(Some),
            404 => Ok(None),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Adds a contact to a company.
    pub(super) async fn attach(
        &self,
        contact: &str,
        company: &str,
    ) -> Result<IntercomCallOutcome, Outcome> {
        let path = format!("/contacts/{}/companies", escaped(contact));
        let reply = self.send_json(Method::POST, &path, &json!({ "id": company })).await?;
        call_outcome(&reply)
    }

    /// Removes a contact from a company. A contact that is not in it is no error.
    pub(super) async fn detach(&self, contact: &str, company: &str) -> Result<(), Outcome> {
        let path = format!("/contacts/{}/companies/{}", escaped(contact), escaped(company));
        let reply = self.send_empty_request(Method::DELETE, &path).await?;
        call_outcome(&reply).map(|_taken| ())
    }

    /// Returns the id of the tag of this name, which is made if it does not exist.
    pub(super) async fn make_tag(&self, name: &str) -> Result<String, Outcome> {
        let reply = self.send_json(Method::POST, "/tags", &json!({ "name": name })).await?;
        if reply.status.is_success() { id(&reply) } else { Err(rejection_error(&reply)) }
    }

    /// Adds a tag to a contact.
    pub(super) async fn tag(
        &self,
        contact: &str,
        tag: &str,
    ) -> Result<IntercomCallOutcome, Outcome> {
        let path = format!("/contacts/{}/tags", escaped(contact));
        call_outcome(&self.send_json(Method::POST, &path, &json!({ "id": tag })).await?)
    }

    /// Removes a tag from a contact.
    pub(super) async fn untag(
        &self,
        contact: &str,
        tag: &str,
    ) -> Result<IntercomCallOutcome, Outcome> {
        let path = format!("/contacts/{}/tags/{}", escaped(contact), escaped(tag));
        call_outcome(&self.send_empty_request(Method::DELETE, &path).await?)
    }

    async fn send_empty_request(&self, method: Method, path: &str) -> Result<VendorReply, Outcome> {
        self.send(self.api.api_client.build_request(method, path)?).await
    }

    async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<VendorReply, Outcome> {
        self.send(self.api.api_client.build_json_request(method, path, body)?).await
    }

    /// Makes a call, unless the rate limit is used up.
    async fn send(&self, request: Request<Bytes>) -> Result<VendorReply, Outcome> {
        if let Some(pause) = self.api.pause(self.call.now()) {
            let reason = OutcomeReason::detailed("rate_limited", "no call is left in this window");
            return Err(Outcome::Retry { reason, after: Some(pause) });
        }
        let result = self.call.call(request).await;
        let now = self.call.now();
        if let Ok(reply) = &result {
            self.api.note(reply, now);
        }
        check_reply(result, now).map_err(|stop| match stop {
            Outcome::Retry { reason, after } => {
                Outcome::Retry { reason, after: self.api.pause(now).or(after) }
            }
            other => other,
        })
    }
}

fn escaped(id: &str) -> String {
    utf8_percent_encode(id, PATH).to_string()
}

fn call_outcome(reply: &VendorReply) -> Result<IntercomCallOutcome, Outcome> {
    match reply.status.as_u16() {
        200..=299 => Ok(IntercomCallOutcome::Accepted),
        404 | 410 => Ok(IntercomCallOutcome::UnknownContact),
        _ => Err(rejection_error(reply)),
    }
}

/// Returns the id of the object in the reply.
fn id(reply: &VendorReply) -> Result<String, Outcome> {
    let object = reply.json().unwrap_or_default();
    let id = object.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| unreadable_reply_error(reply))
}

/// Returns the contact into which a merged one was merged: the last part of the link's address.
fn merged_into(reply: &VendorReply) -> Result<String, Outcome> {
    let link = reply.headers.get(LINK).and_then(|link| link.to_str().ok()).unwrap_or_default();
    let address = link.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let path = address.map_or(link, |(address, _)| address).split(['?', '#']).next();
    let last = path.unwrap_or_default().trim_end_matches('/').rsplit('/').next();
    let id = last.filter(|id| is_id(id));
    id.map(str::to_owned).ok_or_else(|| rejection_error(reply))
}

/// Returns the contact that conflicts with another: its id is in the text of the refusal. Without an id the
/// search will find it in a while.
fn conflicting(reply: &VendorReply) -> Result<String, Outcome> {
    let (_, message) = first_error(reply).unwrap_or_default();
    let after = message.split_once("id=").map(|(_, rest)| rest);
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let id = after.and_then(|rest| rest.split(|char| !is_part(char)).next());
    id.filter(|id| is_id(id)).map(str::to_owned).ok_or_else(|| Outcome::Retry {
        reason: OutcomeReason::detailed("contact_exists", "HTTP 409"),
        after: None,
    })
}

fn is_id(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_part)
}

/// Returns the first error of an `error.list`.
fn first_error(reply: &VendorReply) -> Option<(String, String)> {
    let list = reply.json()?;
    let first = list.get("errors")?.as_array()?.first()?;
    let text = |key| first.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((text("code"), text("message")))
}

fn rejection_error(reply: &VendorReply) -> Outcome {
    refusal_error(reply, first_error(reply).map(|(code, message)| format!("{code}: {message}")))
}

//! The conversations of vendors that take one event in several calls: find the contact, make or update it,
//! send the event.
//!
//! A conversation is straight code: each step makes one request and returns its result, or the [`Outcome`]
//! that ends the conversation. Every step may be repeated, so an interrupted
//! conversation starts anew.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request};
use jiff::Timestamp;
use moka::sync::Cache;
use serde_json::Value;

use super::person::EventPerson;
use super::{Outcome, OutcomeReason, VendorCall, VendorCallError, VendorReply, classify_reply};
use tagway_core::event::{EnrichedEvent, Event, EventKind, JsonObject};
use tagway_core::values::email;
use tagway_core::values::telephone::TelephoneReader;
use tagway_settings::{SecretString, SettingsSection};

/// The most characters of a vendor's message that a reason quotes.
const MAX_QUOTED_CHARS: usize = 300;

/// Contacts whose ids are cached: those of an hour with six new ones a second, about 200 bytes each.
const CACHED_CONTACTS: u64 = 20_000;

/// The time for which a contact's id is cached: a contact that was deleted or merged there is found anew after it.
const CACHED_FOR: Duration = Duration::from_secs(3600);

/// Returns the reply, unless it ends any conversation: no reply, a refusal of the credentials, a request to
/// come later. The meaning of other statuses depends on the step.
pub(super) fn check_reply(
    result: Result<VendorReply, VendorCallError>,
    now: Timestamp,
) -> Result<VendorReply, Outcome> {
    match (classify_reply(&result, now), result) {
        (Outcome::Delivered | Outcome::Refused(_), Ok(reply)) => Ok(reply),
        (outcome, _) => Err(outcome),
    }
}

/// Makes the error of a reply that this step cannot continue from, with the vendor's message.
pub(super) fn refusal_error(reply: &VendorReply, message: Option<String>) -> Outcome {
    let status = reply.status.as_u16();
    let text = message
        .map_or_else(|| format!("HTTP {status}"), |message| format!("HTTP {status} {message}"));
    Outcome::Dead(OutcomeReason::detailed("refused", cut(&text, MAX_QUOTED_CHARS)))
}

/// Makes the error of a 2xx reply without the expected content: an intermediary answered, or the vendor is
/// broken.
pub(super) fn unreadable_reply_error(reply: &VendorReply) -> Outcome {
    let reason =
        OutcomeReason::detailed("unreadable_reply", format!("HTTP {}", reply.status.as_u16()));
    Outcome::Retry { reason, after: None }
}

/// Returns the first so many characters.
pub(super) fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// Runs the conversation of each event of a batch, in their order. After one that must be repeated the rest
/// waits, or the visitor's later events would overtake it.
pub(super) async fn deliver_in_order<'e, F>(
    batch: &'e [EnrichedEvent],
    call: &dyn VendorCall,
    converse: impl Fn(&'e EnrichedEvent) -> F + Send,
) -> Vec<Outcome>
where
    F: Future<Output = Result<(), Outcome>> + Send,
{
    let mut outcomes = Vec::with_capacity(batch.len());
    for event in batch {
        call.set_current_event(event.seq);
        let ended = converse(event).await;
        let outcome = ended.err().unwrap_or(Outcome::Delivered);
        let must_wait = matches!(outcome, Outcome::Retry { .. } | Outcome::Unauthorised(_));
        outcomes.push(outcome);
        if must_wait {
            break;
        }
    }
    if let Some(last) = outcomes.last().cloned() {
        outcomes.resize(batch.len(), last);
    }
    outcomes
}

/// The identity of an event's person, as far as a vendor of contacts can tell people apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContactIdentity {
    pub(super) user_id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) anonymous_id: Option<String>,
}

impl ContactIdentity {
    /// Returns the identity of the event's person. A user id that a URL would take for a step between folders
    /// is ignored.
    pub(super) fn of(event: &EnrichedEvent) -> Self {
        let user_id = event.user_id().map(str::trim);
        Self {
            user_id: user_id.filter(|id| !matches!(*id, "" | "." | "..")).map(str::to_owned),
            email: email(event),
            anonymous_id: event.event.anonymous_id.clone().filter(|id| !id.trim().is_empty()),
        }
    }

    /// Returns the contact's cache key, by the surest identifier that is known.
    pub(super) fn key(&self) -> Option<ContactKey> {
        let user = self.user_id.clone().map(ContactKey::User);
        let email = || self.email.as_deref().map(ContactKey::email);
        user.or_else(email).or_else(|| self.anonymous_id.clone().map(ContactKey::Anonymous))
    }
}

/// Returns the person's e-mail address, if it is valid.
pub(super) fn email(event: &EnrichedEvent) -> Option<String> {
    email::read(&EventPerson::of(event).email()?)
}

/// Returns the person's telephone number as E.164 writes it, if its country is known.
pub(super) fn phone(event: &EnrichedEvent, reader: &TelephoneReader) -> Option<String> {
    Some(format!("+{}", EventPerson::of(event).telephone(reader)?))
}

/// Returns the existing traits of these names. A nested trait is named with a dot, and gets a name with a
/// `_`: `address.city` is `address_city`.
pub(super) fn select_values<'t>(
    traits: &'t JsonObject,
    names: &'t [String],
) -> impl Iterator<Item = (String, &'t Value)> {
    names.iter().filter_map(|path| {
        let mut steps = path.split('.');
        let start = traits.get(steps.next()?)?;
        let value = steps.try_fold(start, |value, step| value.get(step))?;
        Some((path.replace('.', "_"), value))
    })
}

/// Returns the event name that is sent for a page or a screen.
pub(super) fn view_event_name(event: &Event) -> String {
    match (event.name.as_deref().map(str::trim).filter(|name| !name.is_empty()), event.kind) {
        (Some(name), _) => format!("Viewed {name}"),
        (None, EventKind::Screen) => "Viewed a Screen".to_owned(),
        (None, _) => "Viewed a Page".to_owned(),
    }
}

/// The key of a contact in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ContactKey {
    /// The id that the site knows the person by.
    User(String),
    /// An e-mail address, in lower case.
    Email(String),
    /// The id of a device whose person has neither.
    Anonymous(String),
    /// A device and the user that it was found to belong to.
    Device(String, String),
}

impl ContactKey {
    /// Makes the key of an e-mail address.
    pub(super) fn email(address: &str) -> Self {
        Self::Email(address.to_lowercase())
    }
}

/// The vendor's own ids of recently used contacts. Losing it costs calls, not events.
pub(super) struct ContactCache<I>(Cache<ContactKey, I>);

impl<I: Clone + Send + Sync + 'static> ContactCache<I> {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(CACHED_CONTACTS).time_to_live(CACHED_FOR).build())
    }

    /// Returns the contact's id, if it is cached.
    pub(super) fn get(&self, key: &ContactKey) -> Option<I> {
        self.0.get(key)
    }

    /// Caches the contact's id.
    pub(super) fn remember(&self, key: ContactKey, id: I) {
        self.0.insert(key, id);
    }

    /// Removes a contact that the vendor no longer has.
    pub(super) fn forget(&self, key: &ContactKey) {
        self.0.invalidate(key);
    }
}

/// The vendor's address, and the headers of every call.
#[derive(Clone)]
pub(super) struct ApiClient {
    base: String,
    headers: HeaderMap,
}

impl ApiClient {
    /// Reads the access token; `base` is the vendor's address.
    pub(super) fn read(section: &mut SettingsSection<'_>, base: &str) -> (Self, SecretString) {
        let token = section.secret("access_token");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        match HeaderValue::try_from(format!("Bearer {}", token.expose())) {
            Ok(mut bearer) => {
                bearer.set_sensitive(true);
                headers.insert(AUTHORIZATION, bearer);
            }
            Err(_) => {
                section.error("access_token", "contains characters that are not valid in a header")
            }
        }
        (Self { base: base.trim_end_matches('/').to_owned(), headers }, token)
    }

    /// Adds a header to every call.
    pub(super) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Builds a request without a body.
    pub(super) fn build_request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<Request<Bytes>, Outcome> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.base).parse().map_err(|_too_long| {
            // Only an id can make the address too long.
            Outcome::dead("id_too_long")
        })?;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }

    /// Builds a request with a JSON body.
    pub(super) fn build_json_request(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Request<Bytes>, Outcome> {
        let mut request = self.build_request(method, path)?;
        *request.body_mut() = Bytes::from(body.to_string());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    #[test]
    fn invalid_addresses_and_numbers_are_left_out() {
        let of = |traits| test_support::known(json!({ "event": "Clicked" }), None, traits);
        for (written, read) in [
            (" Jo@X.example ", Some("Jo@X.example")),
            ("jo@x", None),
            ("jo", None),
            ("j o@x.example", None),
            ("jo@x@y.example", None),
            ("@x.example", None),
            ("jo@x.example.", Some("jo@x.example")),
            ("Jo <Jo@x.example>", Some("Jo@x.example")),
        ] {
            assert_eq!(email(&of(json!({ "email": written }))).as_deref(), read, "{written}");
        }
        for (written, read) in [
            ("+41 (44) 123-45.67", Some("+41441234567")),
            ("044 123 45 67", None),
            ("+0441234567", None),
            ("+41", None),
            ("+4144CALLNOW", None),
        ] {
            let event = of(json!({ "phone": written }));
            let reader = TelephoneReader::default();
            assert_eq!(phone(&event, &reader).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn contact_key_is_the_surest_known_identifier() {
        let who =
            |fields, traits| ContactIdentity::of(&test_support::known(fields, None, traits)).key();
        let mail = json!({ "email": "Jo@X.example" });
        assert_eq!(
            who(json!({ "userId": "u1" }), mail.clone()),
            Some(ContactKey::User("u1".to_owned()))
        );
        assert_eq!(who(json!({ "userId": ".." }), mail), Some(ContactKey::email("jo@x.example")));
        assert_eq!(who(json!({}), json!({})), Some(ContactKey::Anonymous("a1".to_owned())));
    }

    #[tokio::test]
    async fn rest_of_batch_waits_after_a_retried_conversation() {
        let batch: Vec<EnrichedEvent> =
            ["a", "b", "c", "d"].map(|name| test_support::event(json!({ "event": name }))).to_vec();
        let busy = || Outcome::Retry { reason: OutcomeReason::new("busy"), after: None };
        let call = test_support::CannedReplies::default();
        let outcomes = deliver_in_order(&batch, &call, |event| async move {
            match event.event.label() {
                "a" => Ok(()),
                "b" => Err(busy()),
                later => panic!("{later} overtakes"),
            }
        });
        let again = busy();
        assert_eq!(outcomes.await, [Outcome::Delivered, again.clone(), again.clone(), again]);
    }
    #[test]
    fn refused_bounds_the_vendors_message() {
        let reply = VendorReply {
            status: http::StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let Outcome::Dead(reason) = refusal_error(&reply, Some("é".repeat(1000))) else {
            panic!()
        };
        assert_eq!(reason.detail.unwrap().chars().count(), MAX_QUOTED_CHARS);
    }
}

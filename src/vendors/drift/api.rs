//! The single calls to Drift, and what each answer means (`contracts/destinations.md` 6.1, 6.2, 6.4).

use bytes::Bytes;
use http::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::message::Account;
use crate::event::Object;
use crate::vendors::conversation::{Front, Stop, heard, refused, unreadable};
use crate::vendors::{Call, CallError, Reason, Reply};

/// The calls of one conversation.
#[derive(Clone, Copy)]
pub(super) struct Line<'c> {
    pub(super) front: &'c Front,
    pub(super) call: &'c dyn Call,
    /// Whether what may have been told may be told again.
    pub(super) may_repeat: bool,
}

/// A contact that was found. Drift's ids have 64 bits: as a float they would be others.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) external_id: Option<String>,
}

/// What became of a contact that was to be made.
pub(super) enum Made {
    New(i64),
    /// It was not, and this is what Drift said: perhaps that it is there already.
    Refused(Stop),
}

/// Whether Drift knew whom a call was about.
pub(super) enum Taken {
    Yes,
    /// It did not, or refused what was said.
    No(Stop),
}

impl Line<'_> {
    /// The contact with this external id.
    pub(super) async fn find_user(&self, external_id: &str) -> Result<Option<Found>, Stop> {
        let found = self.find(&[("idType", "external"), ("id", external_id)]).await?;
        Ok(found.into_iter().next())
    }

    /// The contacts with this e-mail address.
    pub(super) async fn find_by_email(&self, email: &str) -> Result<Vec<Found>, Stop> {
        self.find(&[("email", email)]).await
    }

    /// Makes a contact.
    pub(super) async fn make(&self, attributes: &Object) -> Result<Made, Stop> {
        let body = json!({ "attributes": attributes });
        let reply = self.tell(Method::POST, "/contacts", &body).await?;
        if !reply.status.is_success() {
            return Ok(Made::Refused(complaint(&reply)));
        }
        match contacts(&reply)?.into_iter().next() {
            Some(contact) => Ok(Made::New(contact.id)),
            None => Err(unreadable(&reply)),
        }
    }

    /// Changes a contact.
    pub(super) async fn change(&self, id: i64, attributes: &Object) -> Result<Taken, Stop> {
        let body = json!({ "attributes": attributes });
        let reply = self.tell(Method::PATCH, &format!("/contacts/{id}"), &body).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(Taken::Yes),
            404 => Ok(Taken::No(complaint(&reply))),
            _ => Err(complaint(&reply)),
        }
    }

    /// Adds tags to a contact. Those that it has stay as they are.
    pub(super) async fn tag(&self, id: i64, tags: &[Value]) -> Result<Taken, Stop> {
        let body = Value::Array(tags.to_vec());
        let reply = self.tell(Method::POST, &format!("/contacts/{id}/tags"), &body).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(Taken::Yes),
            404 => Ok(Taken::No(complaint(&reply))),
            _ => Err(complaint(&reply)),
        }
    }

    /// Takes a tag off a contact.
    pub(super) async fn untag(&self, id: i64, tag: &str) -> Result<Taken, Stop> {
        let tag = utf8_percent_encode(tag, NON_ALPHANUMERIC);
        let path = format!("/contacts/{id}/tags/{tag}");
        let reply = self.send(self.front.ask(Method::DELETE, &path)?).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(Taken::Yes),
            404 => Ok(Taken::No(complaint(&reply))),
            _ => Err(complaint(&reply)),
        }
    }

    /// Writes into a contact's timeline. Nothing tells an entry from its repetition.
    pub(super) async fn event(&self, entry: Object) -> Result<Taken, Stop> {
        let body = Value::Object(entry);
        let request = self.front.tell(Method::POST, "/contacts/timeline", &body)?;
        let result = self.call.call(request).await;
        let is_ambiguous = result.as_ref().is_err_and(CallError::is_ambiguous);
        if is_ambiguous && !self.may_repeat {
            return Err(Stop::Dead(Reason::new("ambiguous_timeout")));
        }
        let reply = heard(result, self.call.now())?;
        Ok(if reply.status.is_success() { Taken::Yes } else { Taken::No(complaint(&reply)) })
    }

    /// Makes an account, or changes the one that has its domain.
    pub(super) async fn account(&self, account: &Account) -> Result<(), Stop> {
        let body = Value::Object(account.body.clone());
        let reply = self.tell(Method::POST, "/accounts/create", &body).await?;
        match reply.status.as_u16() {
            200..=299 => return Ok(()),
            400 | 409 | 422 => {}
            _ => return Err(complaint(&reply)),
        }
        let mut body = account.body.clone();
        body.insert("accountId".to_owned(), account.id.as_str().into());
        let reply = self.tell(Method::PATCH, "/accounts/update", &Value::Object(body)).await?;
        if reply.status.is_success() { Ok(()) } else { Err(complaint(&reply)) }
    }

    async fn find(&self, query: &[(&str, &str)]) -> Result<Vec<Found>, Stop> {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let reply = self.send(self.front.ask(Method::GET, &format!("/contacts?{query}"))?).await?;
        match reply.status.as_u16() {
            200..=299 => contacts(&reply),
            404 => Ok(Vec::new()),
            _ => Err(complaint(&reply)),
        }
    }

    async fn tell(&self, method: Method, path: &str, body: &Value) -> Result<Reply, Stop> {
        self.send(self.front.tell(method, path, body)?).await
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Reply, Stop> {
        heard(self.call.call(request).await, self.call.now())
    }
}

/// The contacts of an answer. Drift's pages show `data` as one contact where they speak of a list.
fn contacts(reply: &Reply) -> Result<Vec<Found>, Stop> {
    let body = reply.json().unwrap_or_default();
    let listed = match body.get("data") {
        Some(Value::Array(contacts)) => contacts.iter().collect(),
        Some(Value::Null) => Vec::new(),
        Some(contact) => vec![contact],
        None => return Err(unreadable(reply)),
    };
    let contact = |contact: &Value| {
        let external_id = contact.pointer("/attributes/externalId");
        let external_id = external_id.and_then(crate::vendors::products::text);
        Some(Found { id: contact.get("id")?.as_i64()?, external_id })
    };
    listed.into_iter().map(|one| contact(one).ok_or_else(|| unreadable(reply))).collect()
}

fn complaint(reply: &Reply) -> Stop {
    let body = reply.json().unwrap_or_default();
    let error = body.get("error").unwrap_or(&body);
    let text = |key| error.get(key).and_then(Value::as_str);
    let said = match (text("type"), text("message")) {
        (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
        (one, other) => one.or(other).map(str::to_owned),
    };
    refused(reply, said)
}

//! The single calls to Drift, and the meaning of each reply (`docs/contracts/destinations.md` 6.1, 6.2, 6.4).

use bytes::Bytes;
use http::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::message::DriftAccount;
use crate::contact_api::{ApiClient, check_reply, refusal_error, unreadable_reply_error};
use crate::{Outcome, VendorCall, VendorCallError, VendorReply};
use tagway_core::event::JsonObject;

/// The calls of one conversation.
#[derive(Clone, Copy)]
pub(super) struct DriftClient<'c> {
    pub(super) api_client: &'c ApiClient,
    pub(super) call: &'c dyn VendorCall,
    /// True if an entry that may have arrived may be sent again.
    pub(super) may_repeat: bool,
}

/// A contact that a search found. Drift's ids have 64 bits: as a float they would change.
#[derive(Debug)]
pub(super) struct DriftContactMatch {
    pub(super) id: i64,
    pub(super) external_id: Option<String>,
}

/// The result of making a contact.
pub(super) enum DriftCreateOutcome {
    New(i64),
    /// It was not made, for Drift's stated reason: it may exist already.
    Refused(Outcome),
}

/// The result of a call about a contact.
pub(super) enum DriftCallOutcome {
    Accepted,
    /// Drift does not have the contact, or refused the call.
    Rejected(Outcome),
}

impl DriftClient<'_> {
    /// Returns the contact with this external id.
    pub(super) async fn find_user(
        &self,
        external_id: &str,
    ) -> Result<Option<DriftContactMatch>, Outcome> {
        let found = self.find(&[("idType", "external"), ("id", external_id)]).await?;
        Ok(found.into_iter().next())
    }

    /// Returns the contacts with this e-mail address.
    pub(super) async fn find_by_email(
        &self,
        email: &str,
    ) -> Result<Vec<DriftContactMatch>, Outcome> {
        self.find(&[("email", email)]).await
    }

    /// Makes a contact.
    pub(super) async fn make(
        &self,
        attributes: &JsonObject,
    ) -> Result<DriftCreateOutcome, Outcome> {
        let body = json!({ "attributes": attributes });
        let reply = self.send_json(Method::POST, "/contacts", &body).await?;
        if !reply.status.is_success() {
            return Ok(DriftCreateOutcome::Refused(rejection_error(&reply)));
        }
        match contacts(&reply)?.into_iter().next() {
            Some(contact) => Ok(DriftCreateOutcome::New(contact.id)),
            None => Err(unreadable_reply_error(&reply)),
        }
    }

    /// Changes a contact.
    pub(super) async fn change(
        &self,
        id: i64,
        attributes: &JsonObject,
    ) -> Result<DriftCallOutcome, Outcome> {
        let body = json!({ "attributes": attributes });
        let reply = self.send_json(Method::PATCH, &format!("/contacts/{id}"), &body).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(DriftCallOutcome::Accepted),
            404 => Ok(DriftCallOutcome::Rejected(rejection_error(&reply))),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Adds tags to a contact; its other tags stay.
    pub(super) async fn tag(&self, id: i64, tags: &[Value]) -> Result<DriftCallOutcome, Outcome> {
        let body = Value::Array(tags.to_vec());
        let reply = self.send_json(Method::POST, &format!("/contacts/{id}/tags"), &body).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(DriftCallOutcome::Accepted),
            404 => Ok(DriftCallOutcome::Rejected(rejection_error(&reply))),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Removes a tag from a contact.
    pub(super) async fn untag(&self, id: i64, tag: &str) -> Result<DriftCallOutcome, Outcome> {
        let tag = utf8_percent_encode(tag, NON_ALPHANUMERIC);
        let path = format!("/contacts/{id}/tags/{tag}");
        let reply = self.send(self.api_client.build_request(Method::DELETE, &path)?).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(DriftCallOutcome::Accepted),
            404 => Ok(DriftCallOutcome::Rejected(rejection_error(&reply))),
            _ => Err(rejection_error(&reply)),
        }
    }

    /// Writes into a contact's timeline. Repeated entries cannot be distinguished.
    pub(super) async fn event(&self, entry: JsonObject) -> Result<DriftCallOutcome, Outcome> {
        let body = Value::Object(entry);
        let request =
            self.api_client.build_json_request(Method::POST, "/contacts/timeline", &body)?;
        let result = self.call.call(request).await;
        let is_ambiguous = result.as_ref().is_err_and(VendorCallError::is_ambiguous);
        if is_ambiguous && !self.may_repeat {
            return Err(Outcome::dead("ambiguous_timeout"));
        }
        let reply = check_reply(result, self.call.now())?;
        Ok(if reply.status.is_success() {
            DriftCallOutcome::Accepted
        } else {
            DriftCallOutcome::Rejected(rejection_error(&reply))
        })
    }

    /// Makes an account, or changes the one that has its domain.
    pub(super) async fn account(&self, account: &DriftAccount) -> Result<(), Outcome> {
        let body = Value::Object(account.body.clone());
        let reply = self.send_json(Method::POST, "/accounts/create", &body).await?;
        match reply.status.as_u16() {
            200..=299 => return Ok(()),
            400 | 409 | 422 => {}
            _ => return Err(rejection_error(&reply)),
        }
        let mut body = account.body.clone();
        body.insert("accountId".to_owned(), account.id.as_str().into());
        let reply = self.send_json(Method::PATCH, "/accounts/update", &Value::Object(body)).await?;
        if reply.status.is_success() { Ok(()) } else { Err(rejection_error(&reply)) }
    }

    async fn find(&self, query: &[(&str, &str)]) -> Result<Vec<DriftContactMatch>, Outcome> {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let reply = self
            .send(self.api_client.build_request(Method::GET, &format!("/contacts?{query}"))?)
            .await?;
        match reply.status.as_u16() {
            200..=299 => contacts(&reply),
            404 => Ok(Vec::new()),
            _ => Err(rejection_error(&reply)),
        }
    }

    async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<VendorReply, Outcome> {
        self.send(self.api_client.build_json_request(method, path, body)?).await
    }

    async fn send(&self, request: Request<Bytes>) -> Result<VendorReply, Outcome> {
        check_reply(self.call.call(request).await, self.call.now())
    }
}

/// Returns the contacts of a reply. Drift's pages show `data` as one contact where they speak of a list.
fn contacts(reply: &VendorReply) -> Result<Vec<DriftContactMatch>, Outcome> {
    let body = reply.json().unwrap_or_default();
    let listed = match body.get("data") {
        Some(Value::Array(contacts)) => contacts.iter().collect(),
        Some(Value::Null) => Vec::new(),
        Some(contact) => vec![contact],
        None => return Err(unreadable_reply_error(reply)),
    };
    let contact = |contact: &Value| {
        let external_id = contact.pointer("/attributes/externalId");
        let external_id = external_id.and_then(crate::products::text);
        Some(DriftContactMatch { id: contact.get("id")?.as_i64()?, external_id })
    };
    listed
        .into_iter()
        .map(|one| contact(one).ok_or_else(|| unreadable_reply_error(reply)))
        .collect()
}

fn rejection_error(reply: &VendorReply) -> Outcome {
    let body = reply.json().unwrap_or_default();
    let error = body.get("error").unwrap_or(&body);
    let text = |key| error.get(key).and_then(Value::as_str);
    let reported = match (text("type"), text("message")) {
        (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
        (one, other) => one.or(other).map(str::to_owned),
    };
    refusal_error(reply, reported)
}

//! Drift's REST API (`contracts/destinations.md` section 6): contacts that are unique by external id,
//! otherwise by e-mail; timelines that keep repeated entries.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, answer, parse};

/// The first contact's id: too large to be exact as a float.
const FIRST_ID: i64 = (1 << 53) + 1;

/// The organisation's id, the prefix of its accounts' ids.
const ORG_ID: i64 = 123_458;

/// Attributes that Drift writes itself (6.2).
const DERIVED: [&str; 6] =
    ["tags", "events", "socialProfiles", "start_date", "_END_USER_VERSION", "_end_user_version"];

/// The state of one organisation.
#[derive(Default)]
pub(super) struct DriftSimulator {
    contacts: Vec<Map<String, Value>>,
    /// Accounts by their ids.
    accounts: BTreeMap<String, Map<String, Value>>,
}

/// An error reply: status, type and message.
struct DriftErrorReply(StatusCode, &'static str, String);

impl VendorApi for DriftSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let mut accepted = Vec::new();
        let bearer = asked.headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
        let result = if bearer.is_none_or(|bearer| !bearer.starts_with("Bearer ")) {
            Err(DriftErrorReply(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "no token".to_owned(),
            ))
        } else {
            self.answer(asked, &mut accepted)
        };
        let (status, body, objections) = match result {
            Ok(data) => (StatusCode::OK, json!({ "data": data }), Vec::new()),
            Err(DriftErrorReply(status, kind, message)) => {
                // A contact that does not exist, or exists twice, is not the caller's mistake.
                let is_mistake = status == StatusCode::BAD_REQUEST && kind != "duplicate";
                let objections = Vec::from_iter(is_mistake.then(|| message.clone()));
                let error = json!({ "error": { "type": kind, "message": message } });
                (status, error, objections)
            }
        };
        SimulatorOutcome { reply: answer(status, body.to_string()), accepted, objections }
    }

    fn lists(&self) -> MemberLists {
        let mut lists = MemberLists::new();
        for contact in &self.contacts {
            let who = text(contact, "externalId").or_else(|| text(contact, "email"));
            let tags = contact.get("tags").and_then(Value::as_array).into_iter().flatten();
            for tag in tags.filter_map(Value::as_str) {
                lists.entry(tag.to_owned()).or_default().extend(who.map(str::to_owned));
            }
        }
        lists
    }
}

impl DriftSimulator {
    fn answer(
        &mut self,
        asked: &SimulatorRequest<'_>,
        accepted: &mut Vec<Option<String>>,
    ) -> Result<Value, DriftErrorReply> {
        let path: Vec<&str> = asked.target.path().split('/').skip(1).collect();
        let body = || {
            let is_json =
                asked.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
            if !is_json {
                return Err(bad("the body is not application/json"));
            }
            let body = parse(asked.body).map_err(|objection| bad(&objection))?;
            body.as_object().cloned().ok_or_else(|| bad("the body is no object"))
        };
        match (asked.method, path.as_slice()) {
            (&Method::GET, ["contacts"]) => self.find(asked.target.query().unwrap_or_default()),
            (&Method::POST, ["contacts"]) => self.make(&body()?),
            (&Method::POST, ["contacts", "timeline"]) => {
                let (entry, key) = self.tell(&body()?)?;
                accepted.push(Some(key));
                Ok(entry)
            }
            (&Method::POST, ["contacts", id, "tags"]) => self.tag(id, asked),
            (&Method::DELETE, ["contacts", id, "tags", name]) => self.untag(id, name),
            (&Method::PATCH, ["contacts", id]) => self.change(id, &body()?),
            (&Method::POST, ["accounts", "create"]) => self.make_account(body()?),
            (&Method::PATCH, ["accounts", "update"]) => self.change_account(body()?),
            _ => Err(bad(&format!("there is no {} {}", asked.method, asked.target.path()))),
        }
    }

    fn find(&self, query: &str) -> Result<Value, DriftErrorReply> {
        let pairs: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let found: Vec<Value> = match (pairs.get("email"), pairs.get("idType"), pairs.get("id")) {
            (Some(email), None, None) => {
                let is_there = |attributes: &Map<String, Value>| is_at(attributes, email);
                self.listed(is_there)
            }
            (None, Some(kind), Some(id)) if kind == "external" => {
                self.listed(|attributes| text(attributes, "externalId") == Some(id))
            }
            _ => return Err(bad("neither email nor an external id")),
        };
        match found.as_slice() {
            [] if pairs.contains_key("id") => Err(DriftErrorReply(
                StatusCode::NOT_FOUND,
                "not_found",
                "no such contact".to_owned(),
            )),
            _ => Ok(found.into()),
        }
    }

    fn listed(&self, is_wanted: impl Fn(&Map<String, Value>) -> bool) -> Vec<Value> {
        let contacts = self.contacts.iter().enumerate();
        contacts.filter(|(_, one)| is_wanted(one)).map(|(place, one)| shown(place, one)).collect()
    }

    fn make(&mut self, body: &Map<String, Value>) -> Result<Value, DriftErrorReply> {
        let attributes = attributes(body)?;
        let Some(email) = text(attributes, "email") else { return Err(bad("email is required")) };
        let external_id = text(attributes, "externalId");
        let is_same = |other: &Map<String, Value>| match external_id {
            Some(id) => text(other, "externalId") == Some(id),
            None => is_at(other, email),
        };
        if self.contacts.iter().any(is_same) {
            return Err(duplicate("a contact with these details exists"));
        }
        self.contacts.push(attributes.clone());
        Ok(shown(self.contacts.len() - 1, attributes))
    }

    fn change(&mut self, id: &str, body: &Map<String, Value>) -> Result<Value, DriftErrorReply> {
        let attributes = attributes(body)?;
        let place = id.parse().ok().and_then(place);
        let contact = place.and_then(|place| self.contacts.get_mut(place));
        let (Some(contact), Some(place)) = (contact, place) else { return Err(unknown()) };
        contact.extend(attributes.clone());
        Ok(shown(place, contact))
    }

    /// Adds tags, each once.
    fn tag(&mut self, id: &str, asked: &SimulatorRequest<'_>) -> Result<Value, DriftErrorReply> {
        let body = parse(asked.body).map_err(|objection| bad(&objection))?;
        let place = id.parse().ok().and_then(place);
        let contact = place.and_then(|place| self.contacts.get_mut(place)).ok_or_else(unknown)?;
        let tags = body.as_array().filter(|tags| !tags.is_empty());
        let tags = tags.ok_or_else(|| bad("a list of tags is required"))?;
        let name = |tag: &Value| match tag.as_object() {
            Some(tag) if tag.len() == 1 => text(tag, "name").map(str::to_owned),
            _ => None,
        };
        let names: Option<Vec<String>> = tags.iter().map(name).collect();
        let names = names.ok_or_else(|| bad("a tag has a name and nothing else"))?;
        let own = contact.entry("tags").or_insert_with(|| Value::Array(Vec::new()));
        let own = own.as_array_mut().ok_or_else(unknown)?;
        for name in names.into_iter().map(Value::from) {
            if !own.contains(&name) {
                own.push(name);
            }
        }
        Ok(Value::Array(own.clone()))
    }

    fn untag(&mut self, id: &str, name: &str) -> Result<Value, DriftErrorReply> {
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        let place = id.parse().ok().and_then(place);
        let contact = place.and_then(|place| self.contacts.get_mut(place)).ok_or_else(unknown)?;
        let own = contact.get_mut("tags").and_then(Value::as_array_mut).ok_or_else(unknown)?;
        let place = own.iter().position(|tag| *tag == *name).ok_or_else(unknown)?;
        own.remove(place);
        Ok(Value::Array(own.clone()))
    }

    /// Returns the timeline entry, and the key that counts it.
    fn tell(&self, body: &Map<String, Value>) -> Result<(Value, String), DriftErrorReply> {
        let fields = ["contactId", "externalId", "event", "createdAt", "attributes"];
        if let Some(other) = body.keys().find(|key| !fields.contains(&key.as_str())) {
            return Err(bad(&format!("there is no {other}")));
        }
        let event = text(body, "event").filter(|event| !event.trim().is_empty());
        let event = event.ok_or_else(|| bad("event is required"))?;
        let created_at = body.get("createdAt").map(|at| at.as_i64().filter(|ms| *ms > 1 << 40));
        if created_at == Some(None) {
            return Err(bad("createdAt is not in milliseconds"));
        }
        let is_flat =
            body.get("attributes").map(|is_flat| is_flat.as_object().is_some_and(are_scalars));
        if is_flat == Some(false) {
            return Err(bad("attributes of an entry are flat"));
        }
        let is_there = match (body.get("contactId"), body.get("externalId")) {
            (Some(id), None) => {
                let id = id.as_i64().ok_or_else(|| bad("contactId is no 64-bit integer"))?;
                place(id).is_some_and(|place| self.contacts.get(place).is_some())
            }
            (None, Some(id)) => {
                let id = id.as_str().ok_or_else(|| bad("externalId is no text"))?;
                self.contacts.iter().any(|one| text(one, "externalId") == Some(id))
            }
            _ => return Err(bad("either contactId or externalId")),
        };
        if !is_there {
            return Err(unknown());
        }
        let whose = body.get("contactId").or_else(|| body.get("externalId"));
        let whose = whose.map(ToString::to_string).unwrap_or_default();
        let key = format!("{whose}:{event}:{}", created_at.flatten().unwrap_or_default());
        Ok((Value::Object(body.clone()), key))
    }

    fn make_account(&mut self, body: Map<String, Value>) -> Result<Value, DriftErrorReply> {
        let id = account_id(&body)?;
        if self.accounts.contains_key(&id) {
            return Err(duplicate("an account with this domain exists"));
        }
        self.accounts.insert(id.clone(), body.clone());
        Ok(shown_account(&id, body))
    }

    fn change_account(&mut self, body: Map<String, Value>) -> Result<Value, DriftErrorReply> {
        account_id(&body)?;
        let id = text(&body, "accountId").ok_or_else(|| bad("accountId is required"))?.to_owned();
        let account = self.accounts.get_mut(&id).ok_or_else(unknown)?;
        account.extend(body.clone());
        Ok(shown_account(&id, body))
    }
}

fn text<'o>(object: &'o Map<String, Value>, key: &str) -> Option<&'o str> {
    object.get(key).and_then(Value::as_str)
}

fn is_at(attributes: &Map<String, Value>, email: &str) -> bool {
    text(attributes, "email").is_some_and(|own| own.eq_ignore_ascii_case(email))
}

/// The attributes to make or change a contact with.
fn attributes(body: &Map<String, Value>) -> Result<&Map<String, Value>, DriftErrorReply> {
    let attributes = body.get("attributes").and_then(Value::as_object);
    let attributes = attributes.ok_or_else(|| bad("attributes are required"))?;
    if let Some(derived) = DERIVED.iter().find(|name| attributes.contains_key(**name)) {
        return Err(bad(&format!("{derived} is not written from outside")));
    }
    if attributes.is_empty() || !are_scalars(attributes) {
        return Err(bad("attributes are texts, numbers and claims"));
    }
    if attributes.get("externalId").is_some_and(|id| !id.is_string()) {
        return Err(bad("externalId is a text"));
    }
    if text(attributes, "email").is_some_and(|email| !email.contains('@')) {
        return Err(bad("email is no address"));
    }
    Ok(attributes)
}

fn are_scalars(object: &Map<String, Value>) -> bool {
    object.values().all(|value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    })
}

fn account_id(body: &Map<String, Value>) -> Result<String, DriftErrorReply> {
    if body.get("ownerId").and_then(Value::as_i64).is_none() {
        return Err(bad("ownerId is required"));
    }
    let domain = text(body, "domain").filter(|domain| domain.contains('.'));
    let domain = domain.ok_or_else(|| bad("domain is required"))?;
    Ok(format!("{ORG_ID}_{}", domain.strip_prefix("www.").unwrap_or(domain)))
}

fn place(id: i64) -> Option<usize> {
    usize::try_from(id.checked_sub(FIRST_ID)?).ok()
}

fn shown(place: usize, attributes: &Map<String, Value>) -> Value {
    let id = i64::try_from(place).map_or(i64::MAX, |place| FIRST_ID + place);
    json!({ "id": id, "createdAt": 1_617_825_403_810_i64, "attributes": attributes })
}

fn shown_account(id: &str, mut account: Map<String, Value>) -> Value {
    account.insert("accountId".to_owned(), id.into());
    Value::Object(account)
}

fn bad(message: &str) -> DriftErrorReply {
    DriftErrorReply(StatusCode::BAD_REQUEST, "invalid_request", message.to_owned())
}

fn duplicate(message: &str) -> DriftErrorReply {
    DriftErrorReply(StatusCode::BAD_REQUEST, "duplicate", message.to_owned())
}

fn unknown() -> DriftErrorReply {
    DriftErrorReply(StatusCode::NOT_FOUND, "not_found", "no such contact or account".to_owned())
}

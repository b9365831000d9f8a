//! Intercom's REST API (`contracts/destinations.md` section 5): contacts that are merged, searches that
//! find new contacts late, events that are deduplicated by contact, name and second.

mod checks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LINK};
use http::{HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, answer, parse};

/// The most event names of a workspace (5.2).
const MAX_NAMES: usize = 120;

/// The window in which calls are counted, in seconds (5.5).
const WINDOW_SECONDS: i64 = 10;

/// The behaviour of a workspace of Intercom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntercomWorkspace {
    /// The time in which a search does not find a new contact.
    pub search_lag: Duration,
    /// The most calls in a window of ten seconds, if limited.
    pub calls_per_window: Option<u32>,
    /// True if a conflict does not name the other contact.
    pub hides_conflicts: bool,
}

impl IntercomWorkspace {
    /// A workspace without delays and limits.
    pub const PLAIN: Self =
        Self { search_lag: Duration::ZERO, calls_per_window: None, hides_conflicts: false };
}

/// The state of one workspace.
#[derive(Default)]
pub(super) struct IntercomSimulator {
    workspace: IntercomWorkspace,
    contacts: Vec<SimulatedContact>,
    /// Companies by the site's ids: the index is Intercom's id.
    companies: Vec<String>,
    /// Tags by their names: the index is the id.
    tags: Vec<String>,
    names: BTreeSet<String>,
    events: HashSet<(String, String, i64)>,
    /// The window, and the calls in it.
    window: (i64, u32),
}

#[derive(Clone, Debug)]
struct SimulatedContact {
    id: String,
    is_user: bool,
    external_id: Option<String>,
    email: Option<String>,
    custom: BTreeMap<String, Value>,
    made_at: Timestamp,
    merged_into: Option<String>,
    companies: BTreeSet<String>,
    tags: BTreeSet<String>,
}

/// An error reply: status, code and message.
struct IntercomErrorReply(StatusCode, &'static str, String);

/// A reply of the workspace: an object, or only a status.
type IntercomResult = Result<(StatusCode, Value), IntercomErrorReply>;

impl VendorApi for IntercomSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let mut objections = checks::head(asked);
        let mut accepted = Vec::new();
        let bearer = asked.headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
        let result = if bearer.is_none_or(|bearer| !bearer.starts_with("Bearer ")) {
            Err(IntercomErrorReply(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Access Token Invalid".to_owned(),
            ))
        } else if self.is_over_limit(asked.now) {
            Err(IntercomErrorReply(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                "Slow down".to_owned(),
            ))
        } else {
            self.answer(asked, &mut accepted)
        };
        let mut reply = match result {
            Ok((status, Value::Null)) => answer(status, ""),
            Ok((status, body)) => answer(status, body.to_string()),
            Err(IntercomErrorReply(StatusCode::GONE, _, successor)) => moved(&successor),
            Err(IntercomErrorReply(status, code, message)) => {
                // A contact that does not exist, or exists twice, is not the caller's mistake.
                if status == StatusCode::BAD_REQUEST {
                    objections.push(format!("{code}: {message}"));
                }
                let error = json!({ "type": "error.list", "request_id": "r1",
                    "errors": [{ "code": code, "message": message }] });
                answer(status, error.to_string())
            }
        };
        self.tell_limit(&mut reply);
        SimulatorOutcome { reply, accepted, objections }
    }

    fn lists(&self) -> MemberLists {
        let members = |tag: &String| {
            let tagged = self.contacts.iter().filter(|one| one.tags.contains(tag));
            let tagged = tagged.filter(|one| one.merged_into.is_none());
            tagged.filter_map(|one| one.external_id.clone().or(one.email.clone())).collect()
        };
        self.tags.iter().map(|tag| (tag.clone(), members(tag))).collect()
    }
}

/// The reply for a merged contact, with its successor.
fn moved(successor: &str) -> Response<Bytes> {
    let mut reply = answer(StatusCode::GONE, "");
    let link = format!("<https://api.intercom.io/contacts/{successor}>; rel=\"successor-version\"");
    if let Ok(link) = HeaderValue::try_from(link) {
        reply.headers_mut().insert(LINK, link);
    }
    reply
}

impl IntercomSimulator {
    /// An empty workspace.
    pub(super) fn new(workspace: IntercomWorkspace) -> Self {
        Self { workspace, ..Self::default() }
    }

    fn is_over_limit(&mut self, now: Timestamp) -> bool {
        let window = now.as_second() / WINDOW_SECONDS;
        if self.window.0 != window {
            self.window = (window, 0);
        }
        self.window.1 += 1;
        self.workspace.calls_per_window.is_some_and(|most| self.window.1 > most)
    }

    fn tell_limit(&self, reply: &mut Response<Bytes>) {
        let Some(most) = self.workspace.calls_per_window else { return };
        let reset = (self.window.0 + 1) * WINDOW_SECONDS;
        let fields = reply.headers_mut();
        fields.insert("x-ratelimit-limit", most.into());
        fields.insert("x-ratelimit-remaining", most.saturating_sub(self.window.1).into());
        fields.insert("x-ratelimit-reset", reset.into());
    }

    fn answer(
        &mut self,
        asked: &SimulatorRequest<'_>,
        accepted: &mut Vec<Option<String>>,
    ) -> IntercomResult {
        let path = percent_path(asked.target.path());
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let body = || {
            let is_json =
                asked.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
            if !is_json {
                return Err(bad("media_type", "send application/json"));
            }
            parse(asked.body).map_err(|objection| bad("json_parse_error", &objection))
        };
        match (asked.method, path.as_slice()) {
            (&Method::POST, ["events"]) => self.event(&body()?, asked.now, accepted),
            (&Method::POST, ["contacts", "search"]) => self.search(&body()?, asked.now),
            (&Method::GET, ["contacts", "find_by_external_id", id]) => self.find_user(id),
            (&Method::POST, ["contacts"]) => self.make(&body()?, asked.now),
            (&Method::PUT, ["contacts", id]) => self.change(id, &body()?),
            (&Method::POST, ["contacts", "merge"]) => self.merge(&body()?),
            (&Method::POST, ["companies"]) => self.company(&body()?),
            (&Method::GET, ["companies"]) => self.find_company(asked.target.query()),
            (&Method::POST, ["contacts", id, "companies"]) => self.attach(id, &body()?),
            (&Method::DELETE, ["contacts", id, "companies", company]) => self.detach(id, company),
            (&Method::POST, ["tags"]) => self.make_tag(&body()?),
            (&Method::POST, ["contacts", id, "tags"]) => self.tag(id, &body()?),
            (&Method::DELETE, ["contacts", id, "tags", tag]) => self.untag(id, tag),
            _ => {
                let objection = format!("there is no {} {}", asked.method, asked.target.path());
                Err(bad("route_not_found", &objection))
            }
        }
    }

    fn event(
        &mut self,
        event: &Value,
        now: Timestamp,
        accepted: &mut Vec<Option<String>>,
    ) -> IntercomResult {
        let (name, created_at) =
            checks::event(event, now).map_err(|objection| invalid(&objection))?;
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        let there = |contact: &&SimulatedContact| contact.merged_into.is_none();
        let mut of: Vec<&SimulatedContact> = match (text("user_id"), text("id"), text("email")) {
            (Some(user_id), None, None) => {
                let is_it = |one: &&SimulatedContact| {
                    one.is_user && one.external_id.as_deref() == Some(user_id)
                };
                self.contacts.iter().filter(is_it).collect()
            }
            (None, Some(id), None) => self.contacts.iter().filter(|one| one.id == id).collect(),
            (None, None, Some(email)) => {
                self.contacts.iter().filter(|one| one.is_at(email)).collect()
            }
            _ => return Err(invalid("one of user_id, id and email")),
        };
        of.retain(there);
        let [contact] = of.as_slice() else {
            return Err(unknown("User Not Found"));
        };
        let whose = contact.external_id.clone().unwrap_or_else(|| contact.id.clone());
        let name = name.to_lowercase();
        if !self.names.contains(&name) && self.names.len() >= MAX_NAMES {
            return Err(invalid("too many names of events"));
        }
        self.names.insert(name.clone());
        if self.events.insert((whose.clone(), name.clone(), created_at)) {
            accepted.push(Some(format!("{whose}:{name}:{created_at}")));
        }
        Ok((StatusCode::ACCEPTED, Value::Null))
    }

    fn search(&self, body: &Value, now: Timestamp) -> IntercomResult {
        let (field, value) = checks::query(body).map_err(|objection| invalid(&objection))?;
        let lag = self.workspace.search_lag.as_secs();
        let is_found = |one: &&SimulatedContact| {
            let age = now.as_second().saturating_sub(one.made_at.as_second());
            one.merged_into.is_none()
                && u64::try_from(age).is_ok_and(|age| age >= lag)
                && one.has(field, value)
        };
        let data: Vec<Value> =
            self.contacts.iter().filter(is_found).map(SimulatedContact::shown).collect();
        let body = json!({ "type": "list", "total_count": data.len(), "data": data });
        Ok((StatusCode::OK, body))
    }

    fn find_user(&self, external_id: &str) -> IntercomResult {
        let is_it = |one: &&SimulatedContact| {
            one.is_user && one.external_id.as_deref() == Some(external_id)
        };
        let user = self.contacts.iter().find(is_it);
        shown(user.ok_or_else(|| unknown("User Not Found"))?)
    }

    fn make(&mut self, body: &Value, now: Timestamp) -> IntercomResult {
        checks::contact(body).map_err(|objection| invalid(&objection))?;
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let is_user = text("role").is_none_or(|role| role == "user");
        let (external_id, email) = (text("external_id"), text("email"));
        if email.is_none() && external_id.is_none() && text("role").is_none() {
            return Err(invalid("one of email, external_id and role"));
        }
        if !is_user && external_id.is_some() {
            return Err(invalid("external_id of a lead"));
        }
        let is_taken = |one: &&SimulatedContact| {
            let has_id = external_id.is_some() && one.external_id == external_id;
            let has_email = email.as_deref().is_some_and(|email| one.is_at(email));
            // Users with two ids may share an address; a lead and another contact may not.
            let other = one.external_id.is_some() && external_id.is_some() && !has_id;
            one.merged_into.is_none() && (has_id || (is_user && one.is_user && has_email && !other))
        };
        if let Some(other) = self.contacts.iter().find(is_taken) {
            return Err(self.conflict(other));
        }
        let mut contact = SimulatedContact {
            id: format!("c{:023}", self.contacts.len() + 1),
            is_user,
            external_id,
            email,
            custom: BTreeMap::new(),
            made_at: now,
            merged_into: None,
            companies: BTreeSet::new(),
            tags: BTreeSet::new(),
        };
        contact.learn(body);
        self.contacts.push(contact.clone());
        shown(&contact)
    }

    fn change(&mut self, id: &str, body: &Value) -> IntercomResult {
        checks::contact(body).map_err(|objection| invalid(&objection))?;
        let external_id = body.get("external_id").and_then(Value::as_str);
        let has_id = |one: &&SimulatedContact| {
            one.id != id && external_id.is_some() && one.external_id.as_deref() == external_id
        };
        let conflict = self.contacts.iter().find(has_id).map(|other| self.conflict(other));
        let contact = self.contact(id)?;
        let is_user = contact.is_user || body.get("role").is_some_and(|role| role == "user");
        if external_id.is_some() && !is_user {
            return Err(invalid("external_id of a lead"));
        }
        if let Some(conflict) = conflict {
            return Err(conflict);
        }
        contact.is_user = is_user;
        contact.external_id = external_id.map(str::to_owned).or(contact.external_id.take());
        contact.learn(body);
        shown(contact)
    }

    fn merge(&mut self, body: &Value) -> IntercomResult {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let lead = self.contact(text("from"))?.clone();
        let user = self.contact(text("into"))?;
        let skips = body.get("skip_duplicate_validation") == Some(&json!(true));
        let is_same = lead.email.as_deref().is_some_and(|email| user.is_at(email));
        if lead.is_user || !user.is_user || !(is_same || skips) {
            return Err(bad("invalid_merge", "not a lead and a user of one address"));
        }
        user.companies.extend(lead.companies);
        let (user_id, shown) = (user.id.clone(), shown(user));
        self.contact(text("from"))?.merged_into = Some(user_id);
        shown
    }

    fn company(&mut self, body: &Value) -> IntercomResult {
        let company_id = checks::company(body).map_err(|objection| invalid(&objection))?;
        let known = self.companies.iter().position(|known| known == company_id);
        let place = known.unwrap_or_else(|| {
            self.companies.push(company_id.to_owned());
            self.companies.len() - 1
        });
        Ok((StatusCode::OK, shown_company(place, company_id)))
    }

    fn find_company(&self, query: Option<&str>) -> IntercomResult {
        let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let wanted = pairs.find(|(key, _)| key == "company_id").map(|(_, value)| value);
        let place =
            self.companies.iter().position(|known| Some(known.as_str()) == wanted.as_deref());
        match (place, wanted) {
            (Some(place), Some(id)) => Ok((StatusCode::OK, shown_company(place, &id))),
            _ => Err(unknown("Company Not Found")),
        }
    }

    fn attach(&mut self, contact: &str, body: &Value) -> IntercomResult {
        let company = body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_there = (0..self.companies.len()).any(|place| company_name(place) == company);
        if !is_there {
            return Err(unknown("Company Not Found"));
        }
        self.contact(contact)?.companies.insert(company.clone());
        Ok((StatusCode::OK, json!({ "type": "company", "id": company })))
    }

    fn detach(&mut self, contact: &str, company: &str) -> IntercomResult {
        if !self.contact(contact)?.companies.remove(company) {
            return Err(unknown("Company Not Found"));
        }
        Ok((StatusCode::OK, json!({ "type": "company", "id": company })))
    }

    /// Makes a tag, or finds the one with this name.
    fn make_tag(&mut self, body: &Value) -> IntercomResult {
        let fields = body.as_object().map_or(0, serde_json::Map::len);
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        if fields != 1 || name.is_empty() {
            return Err(invalid("a tag has a name and nothing else"));
        }
        let known = self.tags.iter().position(|known| known == name);
        let place = known.unwrap_or_else(|| {
            self.tags.push(name.to_owned());
            self.tags.len() - 1
        });
        Ok((StatusCode::OK, json!({ "type": "tag", "id": place.to_string(), "name": name })))
    }

    fn tag(&mut self, contact: &str, body: &Value) -> IntercomResult {
        let id = body.get("id").and_then(Value::as_str).unwrap_or_default();
        let tag = self.tag_of(id)?;
        self.contact(contact)?.tags.insert(tag);
        Ok((StatusCode::OK, json!({ "type": "tag", "id": id })))
    }

    fn untag(&mut self, contact: &str, id: &str) -> IntercomResult {
        let tag = self.tag_of(id)?;
        if !self.contact(contact)?.tags.remove(&tag) {
            return Err(unknown("Tag Not Found"));
        }
        Ok((StatusCode::OK, json!({ "type": "tag", "id": id })))
    }

    fn tag_of(&self, id: &str) -> Result<String, IntercomErrorReply> {
        let tag = id.parse().ok().and_then(|place: usize| self.tags.get(place));
        tag.cloned().ok_or_else(|| unknown("Tag Not Found"))
    }

    /// The contact of this id, unless it was merged into another.
    fn contact(&mut self, id: &str) -> Result<&mut SimulatedContact, IntercomErrorReply> {
        let contact = self.contacts.iter_mut().find(|one| one.id == id);
        let contact = contact.ok_or_else(|| unknown("User Not Found"))?;
        match &contact.merged_into {
            Some(into) => Err(IntercomErrorReply(StatusCode::GONE, "", into.clone())),
            None => Ok(contact),
        }
    }

    fn conflict(&self, other: &SimulatedContact) -> IntercomErrorReply {
        let whose = if self.workspace.hides_conflicts { "" } else { " with id=" };
        let id = if self.workspace.hides_conflicts { "" } else { &other.id };
        let message = format!("A contact matching those details already exists{whose}{id}");
        IntercomErrorReply(StatusCode::CONFLICT, "conflict", message)
    }
}

impl SimulatedContact {
    fn is_at(&self, email: &str) -> bool {
        self.email.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(email))
    }

    fn has(&self, field: &str, value: &str) -> bool {
        match field {
            "email" => self.is_at(value),
            "external_id" => self.external_id.as_deref() == Some(value),
            "role" => value == if self.is_user { "user" } else { "lead" },
            _ => field
                .strip_prefix("custom_attributes.")
                .and_then(|name| self.custom.get(name)?.as_str())
                .is_some_and(|own| own == value),
        }
    }

    fn learn(&mut self, body: &Value) {
        let email = body.get("email").and_then(Value::as_str).map(str::to_owned);
        self.email = email.or(self.email.take());
        let custom = body.get("custom_attributes").and_then(Value::as_object);
        self.custom
            .extend(custom.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    }

    fn shown(&self) -> Value {
        // Intercom assigns ids to leads.
        let leads_own = (!self.is_user).then(|| format!("lead-{}", self.id));
        let external_id = self.external_id.clone().or(leads_own);
        json!({
            "type": "contact",
            "id": self.id,
            "role": if self.is_user { "user" } else { "lead" },
            "external_id": external_id,
            "email": self.email,
            "custom_attributes": self.custom,
        })
    }
}

fn shown(contact: &SimulatedContact) -> IntercomResult {
    match &contact.merged_into {
        Some(into) => Err(IntercomErrorReply(StatusCode::GONE, "", into.clone())),
        None => Ok((StatusCode::OK, contact.shown())),
    }
}

fn shown_company(place: usize, company_id: &str) -> Value {
    json!({ "type": "company", "id": company_name(place), "company_id": company_id })
}

fn company_name(place: usize) -> String {
    format!("k{place:023}")
}

fn percent_path(path: &str) -> Vec<String> {
    let steps = path.split('/').skip(1);
    steps.map(|step| percent_decode_str(step).decode_utf8_lossy().into_owned()).collect()
}

fn bad(code: &'static str, message: &str) -> IntercomErrorReply {
    IntercomErrorReply(StatusCode::BAD_REQUEST, code, message.to_owned())
}

fn invalid(message: &str) -> IntercomErrorReply {
    bad("parameter_invalid", message)
}

fn unknown(message: &str) -> IntercomErrorReply {
    IntercomErrorReply(StatusCode::NOT_FOUND, "not_found", message.to_owned())
}

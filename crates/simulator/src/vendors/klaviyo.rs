//! Klaviyo's API of profiles and lists (`contracts/destinations.md` 7.9), in JSON:API.

use std::collections::{BTreeMap, BTreeSet};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, answer, parse};

/// The most profiles in one change of a list, in one page, and the most characters of a site's own id.
const MAX_PROFILES: usize = 1000;
const MAX_PAGE: u64 = 100;
const MAX_ID_CHARS: usize = 255;

/// The state of the simulated Klaviyo: profiles by their ids, and lists.
#[derive(Default)]
pub(super) struct KlaviyoSimulator {
    profiles: BTreeMap<String, SimulatedProfile>,
    lists: BTreeMap<String, KlaviyoMemberList>,
}

struct SimulatedProfile {
    email: String,
    external_id: Option<String>,
}

struct KlaviyoMemberList {
    name: String,
    members: BTreeSet<String>,
}

/// A status, a code and the reason.
type KlaviyoRefusal = (StatusCode, &'static str, String);

fn bad(why: impl Into<String>) -> KlaviyoRefusal {
    (StatusCode::BAD_REQUEST, "invalid", why.into())
}

impl VendorApi for KlaviyoSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let (reply, objections) = match self.answer(asked) {
            Ok((status, Value::Null)) => (answer(status, ""), Vec::new()),
            Ok((status, answer_body)) => (answer(status, answer_body.to_string()), Vec::new()),
            Err((status, code, why)) => {
                let error = json!({ "id": "e1", "status": status.as_u16(), "code": code,
                    "title": code, "detail": why, "source": { "pointer": "/data" } });
                (answer(status, json!({ "errors": [error] }).to_string()), vec![why])
            }
        };
        SimulatorOutcome { reply, accepted: Vec::new(), objections }
    }

    fn lists(&self) -> MemberLists {
        let name = |id: &String| {
            let profile = self.profiles.get(id)?;
            Some(profile.external_id.clone().unwrap_or_else(|| profile.email.clone()))
        };
        let members = |list: &KlaviyoMemberList| list.members.iter().filter_map(name).collect();
        self.lists.values().map(|list| (list.name.clone(), members(list))).collect()
    }
}

impl KlaviyoSimulator {
    fn answer(
        &mut self,
        asked: &SimulatorRequest<'_>,
    ) -> Result<(StatusCode, Value), KlaviyoRefusal> {
        let field = |name: &str| {
            asked.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let key = field(AUTHORIZATION.as_str()).strip_prefix("Klaviyo-API-Key ");
        if key.is_none_or(|key| key.trim().is_empty()) {
            let why = "Missing or invalid authorization scheme".to_owned();
            return Err((StatusCode::UNAUTHORIZED, "not_authenticated", why));
        }
        let is_date = field("revision").parse::<jiff::civil::Date>().is_ok();
        if !is_date {
            return Err(bad("a revision is required"));
        }
        let path: Vec<&str> = asked.target.path().split('/').skip(2).collect();
        if asked.method == Method::GET && path == ["profiles"] {
            return self.find(asked.target.query().unwrap_or_default());
        }
        if !matches!(field(CONTENT_TYPE.as_str()), "application/vnd.api+json" | "application/json")
        {
            let why = "the content type is not JSON:API's".to_owned();
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", why));
        }
        let body = parse(asked.body).map_err(bad)?;
        match (asked.method, path.as_slice()) {
            (&Method::POST, ["lists"]) => self.make(&body),
            (&Method::POST, ["profile-import"]) => self.import(&body),
            (&Method::POST, ["lists", list, "relationships", "profiles"]) => {
                self.relate(list, &body, true)
            }
            (&Method::DELETE, ["lists", list, "relationships", "profiles"]) => {
                self.relate(list, &body, false)
            }
            (method, path) => {
                let why = format!("there is no {method} {}", path.join("/"));
                Err((StatusCode::NOT_FOUND, "not_found", why))
            }
        }
    }

    fn find(&self, query: &str) -> Result<(StatusCode, Value), KlaviyoRefusal> {
        let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
        if let Some(size) = query.get("page[size]")
            && size.parse().is_ok_and(|size: u64| !(1..=MAX_PAGE).contains(&size))
        {
            return Err(bad("page[size] is not between 1 and 100"));
        }
        let filter = query.get("filter").map(AsRef::as_ref).unwrap_or_default();
        let emails = filter.strip_prefix("any(email,").and_then(|rest| rest.strip_suffix(')'));
        let emails: Vec<String> = emails
            .and_then(|emails| serde_json::from_str(emails).ok())
            .ok_or_else(|| bad("filter is none that is known"))?;
        let is_sought =
            |email: &str| emails.iter().any(|sought| sought.eq_ignore_ascii_case(email));
        let found = self.profiles.iter().filter(|(_, profile)| is_sought(&profile.email));
        let found: Vec<Value> = found
            .map(|(id, profile)| {
                json!({ "type": "profile", "id": id, "attributes": { "email": profile.email } })
            })
            .collect();
        Ok((StatusCode::OK, json!({ "data": found, "links": { "next": null } })))
    }

    fn make(&mut self, body: &Value) -> Result<(StatusCode, Value), KlaviyoRefusal> {
        let name = body.pointer("/data/attributes/name").and_then(Value::as_str);
        let name = name.filter(|name| !name.trim().is_empty());
        if body.pointer("/data/type").is_none_or(|kind| kind != "list") || name.is_none() {
            return Err(bad("type or name is bad"));
        }
        let id = format!("L{:05}", self.lists.len() + 1);
        let name = name.unwrap_or_default().to_owned();
        self.lists.insert(id.clone(), KlaviyoMemberList { name, members: BTreeSet::new() });
        Ok((StatusCode::CREATED, json!({ "data": { "type": "list", "id": id } })))
    }

    fn import(&mut self, body: &Value) -> Result<(StatusCode, Value), KlaviyoRefusal> {
        let text = |key: &str| {
            let value = body.pointer(&format!("/data/attributes/{key}"));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let email = text("email").filter(|email| email.contains('@'));
        let (Some(email), external_id) = (email, text("external_id")) else {
            return Err(bad("email is none"));
        };
        if body.pointer("/data/type").is_none_or(|kind| kind != "profile") {
            return Err(bad("type is bad"));
        }
        if external_id.as_ref().is_some_and(|id| id.chars().count() > MAX_ID_CHARS) {
            return Err(bad("external_id is too long"));
        }
        let known = self.profiles.iter_mut().find(|(_, it)| it.email.eq_ignore_ascii_case(&email));
        let (status, id) = match known {
            Some((id, profile)) => {
                profile.external_id = external_id.or(profile.external_id.take());
                (StatusCode::OK, id.clone())
            }
            None => {
                let id = format!("01P{:07}", self.profiles.len() + 1);
                self.profiles.insert(id.clone(), SimulatedProfile { email, external_id });
                (StatusCode::CREATED, id)
            }
        };
        Ok((status, json!({ "data": { "type": "profile", "id": id } })))
    }

    fn relate(
        &mut self,
        list: &str,
        body: &Value,
        adds: bool,
    ) -> Result<(StatusCode, Value), KlaviyoRefusal> {
        let why = format!("A list with id {list} does not exist.");
        let list = self.lists.get_mut(list);
        let list = list.ok_or((StatusCode::NOT_FOUND, "not_found", why))?;
        let data = body.get("data").and_then(Value::as_array);
        let data = data.filter(|data| (1..=MAX_PROFILES).contains(&data.len()));
        let data = data.ok_or_else(|| bad("data is missing, or too much"))?;
        let id = |it: &Value| {
            let id = it.get("id").and_then(Value::as_str).filter(|_| it["type"] == "profile")?;
            self.profiles.contains_key(id).then(|| id.to_owned())
        };
        let ids: Option<Vec<String>> = data.iter().map(id).collect();
        for id in ids.ok_or_else(|| bad("data has one who is no profile"))? {
            match adds {
                true => list.members.insert(id),
                false => list.members.remove(&id),
            };
        }
        Ok((StatusCode::NO_CONTENT, Value::Null))
    }
}

//! TikTok's custom audiences (`contracts/destinations.md` 7.1): every reply is a 200 with the result of the
//! call in its body. Identifiers are added to a list and removed from it one by one.

use std::collections::{BTreeMap, BTreeSet};

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, answer, digest_objection, parse,
};

/// The kinds of identifiers; true if they are SHA-256.
const KINDS: [(&str, bool); 6] = [
    ("EMAIL_SHA256", true),
    ("PHONE_SHA256", true),
    ("IDFA_SHA256", true),
    ("AAID_SHA256", true),
    ("IDFA_MD5", false),
    ("AAID_MD5", false),
];

/// The first audience's number.
const FIRST_ID: usize = 7_300_000_000_000_000_001;

/// The state of the simulated TikTok: the audiences of one advertiser by their numbers.
#[derive(Default)]
pub(super) struct TikTokSimulator(BTreeMap<String, TikTokMemberList>);

struct TikTokMemberList {
    name: String,
    members: BTreeSet<String>,
}

/// A code and the reason.
type TikTokRefusal = (i64, String);

fn bad(why: impl Into<String>) -> TikTokRefusal {
    (40_002, why.into())
}

impl VendorApi for TikTokSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let path = asked.target.path();
        let result = match (asked.method, path) {
            (&Method::POST, "/open_api/v1.3/segment/audience/") => {
                body(asked).and_then(|body| self.make(&body))
            }
            (&Method::POST, "/open_api/v1.3/segment/mapping/") => {
                body(asked).and_then(|body| self.change(&body))
            }
            (method, path) => Err((40_006, format!("there is no {method} {path}"))),
        };
        let (response, objections) = match result {
            Ok(data) => (json!({ "code": 0, "message": "OK", "data": data }), Vec::new()),
            Err((code, why)) => (json!({ "code": code, "message": why, "data": {} }), vec![why]),
        };
        let reply = answer(StatusCode::OK, response.to_string());
        SimulatorOutcome { reply, accepted: Vec::new(), objections }
    }

    fn lists(&self) -> MemberLists {
        self.0.values().map(|audience| (audience.name.clone(), audience.members.clone())).collect()
    }
}

fn body(asked: &SimulatorRequest<'_>) -> Result<Value, TikTokRefusal> {
    if asked.headers.get("access-token").is_none_or(|token| token.is_empty()) {
        return Err((40_104, "Access token is empty".to_owned()));
    }
    if asked.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return Err(bad("the content type is not application/json"));
    }
    parse(asked.body).map_err(bad)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl TikTokSimulator {
    fn make(&mut self, body: &Value) -> Result<Value, TikTokRefusal> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        if !is_number(text("advertiser_id")) {
            return Err(bad("advertiser_id: Missing data for required field."));
        }
        if text("custom_audience_name").trim().is_empty() || text("action") != "create" {
            return Err(bad("custom_audience_name or action is bad"));
        }
        if !KINDS.iter().any(|(kind, _)| *kind == text("id_type")) {
            return Err(bad("id_type is bad"));
        }
        let id = (FIRST_ID + self.0.len()).to_string();
        let name = text("custom_audience_name").to_owned();
        self.0.insert(id.clone(), TikTokMemberList { name, members: BTreeSet::new() });
        Ok(json!({ "audience_id": id }))
    }

    fn change(&mut self, body: &Value) -> Result<Value, TikTokRefusal> {
        let all = |key: &str| body.get(key).and_then(Value::as_array).filter(|it| !it.is_empty());
        let advertisers = all("advertiser_ids").ok_or_else(|| bad("no advertiser_ids"))?;
        if !advertisers.iter().all(|id| id.as_str().is_some_and(is_number)) {
            return Err(bad("advertiser_ids are bad"));
        }
        let adds = match body.get("action").and_then(Value::as_str) {
            Some("add") => true,
            Some("delete") => false,
            _ => return Err(bad("action is neither add nor delete")),
        };
        let schema = all("id_schema").ok_or_else(|| bad("no id_schema"))?;
        let kind = |name: &Value| KINDS.iter().find(|(kind, _)| name == kind).map(|(_, it)| *it);
        let kinds: Option<Vec<bool>> = schema.iter().map(kind).collect();
        let kinds = kinds.ok_or_else(|| bad("id_schema has an unknown kind"))?;
        let rows = all("batch_data").ok_or_else(|| bad("no batch_data"))?;
        let mut response = Vec::new();
        for row in rows {
            response.extend(cells(row, &kinds).map_err(bad)?);
        }
        if let Some((_, audience)) = response.iter().find(|(_, id)| !self.0.contains_key(id)) {
            return Err(bad(format!("audience {audience} does not exist")));
        }
        for (id, audience) in response {
            let Some(audience) = self.0.get_mut(&audience) else { continue };
            match adds {
                true => audience.members.insert(id),
                false => audience.members.remove(&id),
            };
        }
        Ok(json!({}))
    }
}

/// The identifiers of a row, each with the audience that it is sent for.
fn cells(row: &Value, kinds: &[bool]) -> Result<Vec<(String, String)>, String> {
    let row = row.as_array().filter(|row| row.len() == kinds.len());
    let row = row.ok_or("a row is not as long as id_schema")?;
    let mut response = Vec::new();
    for (cell, is_sha256) in row.iter().zip(kinds) {
        let cell = cell.as_object().ok_or("a cell is no object")?;
        if cell.is_empty() {
            continue;
        }
        let id = cell.get("id").and_then(Value::as_str).ok_or("a cell has no id")?;
        if let Some(objection) = Some(id).filter(|_| *is_sha256).and_then(digest_objection) {
            return Err(objection);
        }
        let audiences = cell.get("audience_ids").and_then(Value::as_array);
        let audiences = audiences.filter(|it| !it.is_empty()).ok_or("no audience_ids")?;
        for audience in audiences {
            let audience = audience.as_str().ok_or("an audience is no text")?;
            response.push((id.to_owned(), audience.to_owned()));
        }
    }
    if response.is_empty() { Err("a row is empty".to_owned()) } else { Ok(response) }
}

//! Amplitude's cohorts API (`contracts/destinations.md` 4.6): one change of a cohort at a time, of known
//! users.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::super::{MemberLists, SimulatorOutcome, SimulatorRequest, answer, parse};
use super::{bad, has_type, key_problem, refused};

/// The most ids in one request.
const MAX_IDS: usize = 100_000;

/// Cohorts by their ids.
#[derive(Default)]
pub(super) struct SimulatedCohorts(BTreeMap<String, SimulatedCohort>);

struct SimulatedCohort {
    name: String,
    members: BTreeSet<String>,
}

impl SimulatedCohorts {
    /// The members of each cohort.
    pub(super) fn lists(&self) -> MemberLists {
        self.0.values().map(|cohort| (cohort.name.clone(), cohort.members.clone())).collect()
    }

    /// Makes a cohort, or changes its members.
    pub(super) fn read(
        &mut self,
        asked: &SimulatorRequest<'_>,
        is_user: impl Fn(&str) -> bool,
    ) -> SimulatorOutcome {
        let given = asked.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| STANDARD.decode(value.strip_prefix("Basic ")?).ok());
        let given = given.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let (key, secret) = given.split_once(':').unwrap_or_default();
        if key_problem(asked, Some(key)).is_some() || secret.is_empty() {
            return refused(StatusCode::UNAUTHORIZED, json!({}), "Invalid credentials");
        }
        if !has_type(asked, "application/json") {
            return bad(json!({}), "the content type is not application/json");
        }
        let response = parse(asked.body).and_then(|body| {
            if asked.target.path().ends_with("/upload") {
                self.make(&body)
            } else {
                self.change(&body, is_user)
            }
        });
        match response {
            Ok(response) => SimulatorOutcome {
                reply: answer(StatusCode::OK, response.to_string()),
                accepted: Vec::new(),
                objections: Vec::new(),
            },
            Err(objection) if objection == NONE => {
                refused(StatusCode::NOT_FOUND, json!({}), &objection)
            }
            Err(objection) => bad(json!({}), &objection),
        }
    }

    fn make(&mut self, body: &Value) -> Result<Value, String> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let has_ids = !ids(body)?.is_empty();
        if text("name").is_empty() || text("owner").is_empty() || !has_ids {
            return Err("name, owner and ids are required".to_owned());
        }
        if body.get("app_id").and_then(Value::as_u64).is_none() {
            return Err("app_id must be a number".to_owned());
        }
        if !matches!(text("id_type"), "BY_USER_ID" | "BY_AMP_ID") {
            return Err("id_type is bad".to_owned());
        }
        if body.get("published").and_then(Value::as_bool).is_none() {
            return Err("published is required".to_owned());
        }
        let id = format!("c{}", self.0.len() + 1);
        let cohort = SimulatedCohort { name: text("name").to_owned(), members: BTreeSet::new() };
        self.0.insert(id.clone(), cohort);
        Ok(json!({ "cohortId": id, "metadata": { "matched": 0, "totals": 1 } }))
    }

    fn change(&mut self, body: &Value, is_user: impl Fn(&str) -> bool) -> Result<Value, String> {
        let id = body.get("cohort_id").and_then(Value::as_str).unwrap_or_default();
        let cohort = self.0.get_mut(id).ok_or(NONE)?;
        let changes = body.get("memberships").and_then(Value::as_array);
        let changes = changes.filter(|changes| !changes.is_empty()).ok_or("no memberships")?;
        let mut results = Vec::new();
        for change in changes {
            let text = |key: &str| change.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("id_type") != "BY_NAME" {
                return Err("users are told BY_NAME".to_owned());
            }
            let (known, skipped): (Vec<_>, Vec<_>) =
                ids(change)?.into_iter().partition(|id| is_user(id));
            match text("operation") {
                "ADD" => cohort.members.extend(known),
                "REMOVE" => cohort.members.retain(|member| !known.contains(member)),
                _ => return Err("operation is bad".to_owned()),
            }
            results.push(json!({ "skipped_ids": skipped, "id_type": "BY_NAME",
                "operation": text("operation") }));
        }
        Ok(json!({ "cohort_id": id, "memberships_result": results }))
    }
}

/// The error for an unknown cohort.
const NONE: &str = "there is no such cohort";

fn ids(object: &Value) -> Result<Vec<String>, String> {
    let ids = object.get("ids").and_then(Value::as_array).ok_or("ids are required")?;
    if ids.len() > MAX_IDS {
        return Err("too many ids".to_owned());
    }
    let texts: Option<Vec<String>> = ids.iter().map(|id| id.as_str().map(str::to_owned)).collect();
    texts.ok_or_else(|| "an id is no text".to_owned())
}

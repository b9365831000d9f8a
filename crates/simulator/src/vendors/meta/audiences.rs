//! Meta's Custom Audiences (`contracts/destinations.md` 2.7): a person is removed by the identifiers with
//! which they were added.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};

use super::super::{MemberLists, SimulatorRequest};
use super::{EMPTY_SHA256, MetaRefusal};

/// The most rows in one request.
const MAX_ROWS: usize = 10_000;

/// Columns, and true if they must be digests.
const COLUMNS: [(&str, bool); 16] = [
    ("EXTERN_ID", false),
    ("EMAIL", true),
    ("PHONE", true),
    ("GEN", true),
    ("DOBY", true),
    ("DOBM", true),
    ("DOBD", true),
    ("LN", true),
    ("FN", true),
    ("FI", true),
    ("CT", true),
    ("ST", true),
    ("ZIP", true),
    ("COUNTRY", true),
    ("MADID", false),
    ("LOOKALIKE_VALUE", false),
];

/// The first list's number.
const FIRST_ID: usize = 23_850_000_000_001;

/// Lists by their numbers.
#[derive(Default)]
pub(super) struct SimulatedAudiences(BTreeMap<String, SimulatedAudience>);

struct SimulatedAudience {
    name: String,
    rows: BTreeSet<Vec<String>>,
}

impl SimulatedAudiences {
    /// Answers a call about lists, if it is one: `/vN/act_N/customaudiences`, `/vN/N/users`.
    pub(super) fn answer(
        &mut self,
        asked: &SimulatorRequest<'_>,
        body: &Value,
    ) -> Option<Result<Value, MetaRefusal>> {
        let path: Vec<&str> = asked.target.path().split('/').skip(2).collect();
        match (asked.method, path.as_slice()) {
            (&Method::POST, [account, "customaudiences"]) => Some(self.make(account, body)),
            (&Method::POST, [list, "users"]) => Some(self.change(list, body, true)),
            (&Method::DELETE, [list, "users"]) => Some(self.change(list, body, false)),
            _ => None,
        }
    }

    /// The members of each list, by the first identifier of each row.
    pub(super) fn lists(&self) -> MemberLists {
        let first = |row: &Vec<String>| row.iter().find(|cell| !cell.is_empty()).cloned();
        let members = |it: &SimulatedAudience| it.rows.iter().filter_map(first).collect();
        self.0.values().map(|audience| (audience.name.clone(), members(audience))).collect()
    }

    fn make(&mut self, account: &str, body: &Value) -> Result<Value, MetaRefusal> {
        let number = account.strip_prefix("act_").unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(MetaRefusal::new(100, 33, "Unsupported post request: no such account"));
        }
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let sources =
            ["USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"];
        if text("subtype") != "CUSTOM" || !sources.contains(&text("customer_file_source")) {
            return Err(MetaRefusal::new(100, 0, "subtype or customer_file_source is bad"));
        }
        if text("name").trim().is_empty() {
            return Err(MetaRefusal::new(100, 0, "name is required"));
        }
        let id = (FIRST_ID + self.0.len()).to_string();
        let audience = SimulatedAudience { name: text("name").to_owned(), rows: BTreeSet::new() };
        self.0.insert(id.clone(), audience);
        Ok(json!({ "id": id }))
    }

    fn change(&mut self, list: &str, body: &Value, adds: bool) -> Result<Value, MetaRefusal> {
        let Some(audience) = self.0.get_mut(list) else {
            return Err(MetaRefusal::new(
                100,
                33,
                "Unsupported request: the object does not exist",
            ));
        };
        let rows = rows(body).map_err(|objection| MetaRefusal::new(100, 0, objection))?;
        let received = rows.len();
        for row in rows {
            match adds {
                true => audience.rows.insert(row),
                false => audience.rows.remove(&row),
            };
        }
        Ok(json!({ "audience_id": list, "session_id": "1", "num_received": received,
            "num_invalid_entries": 0, "invalid_entry_samples": {} }))
    }
}

/// The rows of a body; every cell is checked.
fn rows(body: &Value) -> Result<Vec<Vec<String>>, String> {
    let payload = body.get("payload").ok_or("payload is required")?;
    let schema: Vec<&str> = payload
        .get("schema")
        .and_then(Value::as_array)
        .map(|schema| schema.iter().filter_map(Value::as_str).collect())
        .filter(|schema: &Vec<&str>| !schema.is_empty())
        .ok_or("payload.schema is required")?;
    let kind = |name: &str| COLUMNS.iter().find(|(column, _)| *column == name).map(|(_, it)| *it);
    let kinds: Option<Vec<bool>> = schema.iter().map(|name| kind(name)).collect();
    let kinds = kinds.ok_or("payload.schema has an unknown column")?;
    let data = payload.get("data").and_then(Value::as_array).ok_or("payload.data is required")?;
    if !(1..=MAX_ROWS).contains(&data.len()) {
        return Err(format!("{} rows", data.len()));
    }
    data.iter().map(|row| cells(row, &kinds)).collect()
}

fn cells(row: &Value, kinds: &[bool]) -> Result<Vec<String>, String> {
    let row = row.as_array().filter(|row| row.len() == kinds.len());
    let row = row.ok_or("a row is not as long as the schema")?;
    let cell = |(cell, is_digest): (&Value, &bool)| {
        let text = cell.as_str().ok_or("a cell is no text")?;
        let is_one =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if *is_digest && !text.is_empty() && (!is_one || text == EMPTY_SHA256) {
            return Err(format!("{text} is no digest"));
        }
        Ok(text.to_owned())
    };
    let row = row.iter().zip(kinds).map(cell).collect::<Result<Vec<_>, String>>()?;
    if row.iter().all(String::is_empty) { Err("a row is empty".to_owned()) } else { Ok(row) }
}

//! Segments as people's property (`contracts/destinations.md` 3.7): no call of Mixpanel's takes the
//! members of a cohort, so each person holds the list of their segments, of which a cohort is made.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::identity::Ids;
use super::plan::Path;
use super::replies::{self, Answer};
use super::{Mixpanel, settings::Settings};
use crate::event::Enriched;
use crate::vendors::audience::{Audience, Change, Listed, Row, alike, readable};
use crate::vendors::{Call, Outcome, Reason};

/// Records in one request to `/engage`.
const MAX_ROWS: usize = 2000;

#[async_trait]
impl Audience for Mixpanel {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &Enriched) -> Result<Row, Reason> {
        match &*Ids::of(person).distinct(self.settings.id_merge) {
            "" => Err(Reason::new("no_identifier")),
            id => Row::of(&id),
        }
    }

    async fn open(&self, list: &Listed<'_>, _call: &dyn Call) -> Result<String, Outcome> {
        Ok(list.id.unwrap_or(list.title).to_owned())
    }

    async fn change(
        &self,
        list: &str,
        change: Change,
        rows: &[Row],
        call: &dyn Call,
    ) -> Vec<Outcome> {
        let (read, ends) = readable::<String>(rows);
        if read.is_empty() {
            return alike(ends, &Outcome::Delivered);
        }
        let record = |(_, id): (usize, String)| record(&self.settings, &id, list, change);
        let body = Value::Array(read.into_iter().map(record).collect()).to_string();
        let result = call.call(self.request(Path::Engage, body.into_bytes())).await;
        let outcome = match replies::read(Path::Engage, &result, call.now(), &[]) {
            Answer::Taken(_) => Outcome::Delivered,
            Answer::Refused(reason) => Outcome::Refused(reason),
            Answer::Closed(outcome) => outcome,
        };
        alike(ends, &outcome)
    }
}

/// The update of one person. They did nothing: it is not when they were last seen, nor where.
fn record(settings: &Settings, id: &str, list: &str, change: Change) -> Value {
    let property = settings.segment_property.as_str();
    let (operation, value) = match change {
        Change::Add => ("$union", json!({ property: [list] })),
        Change::Remove => ("$remove", json!({ property: list })),
    };
    json!({
        "$token": settings.token.expose(), "$distinct_id": id, "$ip": "0", "$ignore_time": true,
        operation: value,
    })
}

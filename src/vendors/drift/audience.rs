//! Segments as tags (`contracts/destinations.md` 6.5). A contact that is not there is not made: who is
//! worth a contact is what the events say.

use async_trait::async_trait;
use serde_json::json;

use super::Drift;
use super::api::{Line, Taken};
use super::talk::find;
use crate::event::Enriched;
use crate::vendors::audience::{Audience, Change, Contact, Listed, Row, row_by_row, unlisted};
use crate::vendors::conversation::Stop;
use crate::vendors::{Call, Outcome, Reason};

/// Rows of one change: a call or two each, as many as should be told again if it breaks off.
const MAX_ROWS: usize = 50;

#[async_trait]
impl Audience for Drift {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &Enriched) -> Result<Row, Reason> {
        Contact::row(person)
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
        row_by_row(rows, |contact| self.tag(list, change, contact, call)).await
    }
}

impl Drift {
    async fn tag(
        &self,
        tag: &str,
        change: Change,
        contact: Contact,
        call: &dyn Call,
    ) -> Result<(), Stop> {
        let line = Line { front: &self.front, call, may_repeat: self.settings.retry_ambiguous };
        let who = contact.who();
        let Some(key) = who.key() else { return unlisted(change) };
        if let Some(id) = self.contacts.get(&key) {
            if let Taken::Yes = put(line, change, id, tag).await? {
                return Ok(());
            }
            // What was remembered has been deleted since.
            self.contacts.forget(&key);
        }
        let Some(found) = find(line, &who).await? else { return unlisted(change) };
        self.contacts.remember(key, found.id);
        match put(line, change, found.id, tag).await? {
            Taken::Yes => Ok(()),
            Taken::No(_) => unlisted(change),
        }
    }
}

async fn put(line: Line<'_>, change: Change, contact: i64, tag: &str) -> Result<Taken, Stop> {
    match change {
        Change::Add => line.tag(contact, &[json!({ "name": tag })]).await,
        Change::Remove => line.untag(contact, tag).await,
    }
}

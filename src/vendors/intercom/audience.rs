//! Segments as tags (`contracts/destinations.md` 5.6): Intercom's own segments cannot be written. A
//! contact that is not there is not made: who is worth a contact is what the events say.

use async_trait::async_trait;

use super::Intercom;
use super::api::{Line, Taken};
use super::talk::find_person;
use crate::event::Enriched;
use crate::vendors::audience::{Audience, Change, Contact, Listed, Row, row_by_row, unlisted};
use crate::vendors::conversation::Stop;
use crate::vendors::{Call, Outcome, Reason};

/// Rows of one change: a call or two each, as many as should be told again if it breaks off.
const MAX_ROWS: usize = 50;

#[async_trait]
impl Audience for Intercom {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &Enriched) -> Result<Row, Reason> {
        Contact::row(person)
    }

    async fn open(&self, list: &Listed<'_>, call: &dyn Call) -> Result<String, Outcome> {
        match list.id {
            Some(id) => Ok(id.to_owned()),
            // Of a tag that is there this returns the id.
            None => self.line(call).make_tag(list.title).await.map_err(Outcome::from),
        }
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

impl Intercom {
    fn line<'c>(&'c self, call: &'c dyn Call) -> Line<'c> {
        Line { api: &self.api, call }
    }

    async fn tag(
        &self,
        tag: &str,
        change: Change,
        contact: Contact,
        call: &dyn Call,
    ) -> Result<(), Stop> {
        let line = self.line(call);
        let who = contact.who();
        let Some(key) = who.key() else { return unlisted(change) };
        if let Some(id) = self.contacts.get(&key) {
            if put(line, change, &id, tag).await? == Taken::Yes {
                return Ok(());
            }
            // What was remembered has been deleted or merged since.
            self.contacts.forget(&key);
        }
        let Some(id) = find_person(line, &who).await? else { return unlisted(change) };
        self.contacts.remember(key, id.clone());
        match put(line, change, &id, tag).await? {
            Taken::Yes => Ok(()),
            Taken::Unknown => unlisted(change),
        }
    }
}

async fn put(line: Line<'_>, change: Change, contact: &str, tag: &str) -> Result<Taken, Stop> {
    match change {
        Change::Add => line.tag(contact, tag).await,
        Change::Remove => line.untag(contact, tag).await,
    }
}

//! Segments as tags (`docs/contracts/destinations.md` 5.6): Intercom's own segments cannot be written. A missing
//! contact is not made: events decide who becomes a contact.

use async_trait::async_trait;

use super::IntercomDestination;
use super::api::{IntercomCallOutcome, IntercomClient};
use super::contact_sync::find_person;
use crate::audience::{
    AudienceChange, AudienceList, AudienceRow, ContactRow, VendorAudience, apply_rows_in_order,
    unknown_contact_result,
};
use crate::{Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;

/// The most rows of one change: each takes one or two calls, and all are sent again after a failure.
const MAX_ROWS: usize = 50;

#[async_trait]
impl VendorAudience for IntercomDestination {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        ContactRow::row(person)
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        match list.id {
            Some(id) => Ok(id.to_owned()),
            // For an existing tag this returns its id.
            None => self.client(call).make_tag(list.title).await,
        }
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        apply_rows_in_order(rows, |contact| self.tag(list, change, contact, call)).await
    }
}

impl IntercomDestination {
    fn client<'c>(&'c self, call: &'c dyn VendorCall) -> IntercomClient<'c> {
        IntercomClient { api: &self.api, call }
    }

    async fn tag(
        &self,
        tag: &str,
        change: AudienceChange,
        contact: ContactRow,
        call: &dyn VendorCall,
    ) -> Result<(), Outcome> {
        let line = self.client(call);
        let who = contact.into_identity();
        let Some(key) = who.key() else { return unknown_contact_result(change) };
        if let Some(id) = self.contacts.get(&key) {
            if put(line, change, &id, tag).await? == IntercomCallOutcome::Accepted {
                return Ok(());
            }
            // The cached contact has been deleted or merged since.
            self.contacts.forget(&key);
        }
        let Some(id) = find_person(line, &who).await? else {
            return unknown_contact_result(change);
        };
        self.contacts.remember(key, id.clone());
        match put(line, change, &id, tag).await? {
            IntercomCallOutcome::Accepted => Ok(()),
            IntercomCallOutcome::UnknownContact => unknown_contact_result(change),
        }
    }
}

async fn put(
    line: IntercomClient<'_>,
    change: AudienceChange,
    contact: &str,
    tag: &str,
) -> Result<IntercomCallOutcome, Outcome> {
    match change {
        AudienceChange::Add => line.tag(contact, tag).await,
        AudienceChange::Remove => line.untag(contact, tag).await,
    }
}

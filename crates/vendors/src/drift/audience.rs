//! Segments as tags (`docs/contracts/destinations.md` 6.5). A missing contact is not made: events decide who
//! becomes a contact.

use async_trait::async_trait;
use serde_json::json;

use super::DriftDestination;
use super::api::{DriftCallOutcome, DriftClient};
use super::contact_sync::find;
use crate::audience::{
    AudienceChange, AudienceRow, ContactRow, VendorAudience, apply_rows_in_order,
    unknown_contact_result,
};
use crate::{Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;

/// The most rows of one change: each takes one or two calls, and all are sent again after a failure.
const MAX_ROWS: usize = 50;

#[async_trait]
impl VendorAudience for DriftDestination {
    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        ContactRow::row(person)
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

impl DriftDestination {
    async fn tag(
        &self,
        tag: &str,
        change: AudienceChange,
        contact: ContactRow,
        call: &dyn VendorCall,
    ) -> Result<(), Outcome> {
        let line = DriftClient {
            api_client: &self.api_client,
            call,
            may_repeat: self.settings.retry_ambiguous,
        };
        let who = contact.into_identity();
        let Some(key) = who.key() else { return unknown_contact_result(change) };
        if let Some(id) = self.contacts.get(&key) {
            if let DriftCallOutcome::Accepted = put(line, change, id, tag).await? {
                return Ok(());
            }
            // The cached contact has been deleted since.
            self.contacts.forget(&key);
        }
        let Some(found) = find(line, &who).await? else { return unknown_contact_result(change) };
        self.contacts.remember(key, found.id);
        match put(line, change, found.id, tag).await? {
            DriftCallOutcome::Accepted => Ok(()),
            DriftCallOutcome::Rejected(_) => unknown_contact_result(change),
        }
    }
}

async fn put(
    line: DriftClient<'_>,
    change: AudienceChange,
    contact: i64,
    tag: &str,
) -> Result<DriftCallOutcome, Outcome> {
    match change {
        AudienceChange::Add => line.tag(contact, &[json!({ "name": tag })]).await,
        AudienceChange::Remove => line.untag(contact, tag).await,
    }
}

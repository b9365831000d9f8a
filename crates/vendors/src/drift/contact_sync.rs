//! The conversations about one event (`docs/contracts/destinations.md` 6.3), each in the order of its calls.

use serde_json::Value;

use super::api::{DriftCallOutcome, DriftClient, DriftContactMatch, DriftCreateOutcome};
use super::message::{DriftAccount, DriftTimelineEntry, attributes};
use super::settings::DriftSettings;
use crate::contact_api::{ContactCache, ContactIdentity};
use crate::{Outcome, OutcomeReason};
use tagway_core::event::{EnrichedEvent, JsonObject};

/// The most times a contact may turn out to be another one before the event is retried later.
const MAX_CONTACT_CHANGES: usize = 4;

/// The context of one event's conversation.
#[derive(Clone, Copy)]
pub(super) struct DriftContactSync<'t> {
    pub(super) client: DriftClient<'t>,
    pub(super) contacts: &'t ContactCache<i64>,
    pub(super) settings: &'t DriftSettings,
    pub(super) event: &'t EnrichedEvent,
    pub(super) identity: &'t ContactIdentity,
}

impl DriftContactSync<'_> {
    /// Updates the person's contact and adds its tags.
    pub(super) async fn person(&self, tags: &[Value]) -> Result<(), Outcome> {
        let contact = self.upsert(self.contact_attributes()).await?;
        if tags.is_empty() {
            return Ok(());
        }
        match self.client.tag(contact, tags).await? {
            DriftCallOutcome::Accepted => Ok(()),
            DriftCallOutcome::Rejected(stop) => Err(stop),
        }
    }

    /// Writes an event into the contact's timeline. If Drift no longer has the contact, finds or makes it
    /// anew and sends the event once more.
    pub(super) async fn event(&self, entry: &DriftTimelineEntry) -> Result<(), Outcome> {
        let contact = match entry.introduces {
            true => self.upsert(self.contact_attributes()).await?,
            false => self.find_or_create().await?,
        };
        if let DriftCallOutcome::Accepted =
            self.client.event(self.timeline_entry(entry, contact)).await?
        {
            return Ok(());
        }
        self.forget();
        let contact = self.find_or_create().await?;
        match self.client.event(self.timeline_entry(entry, contact)).await? {
            DriftCallOutcome::Accepted => Ok(()),
            DriftCallOutcome::Rejected(stop) => Err(stop),
        }
    }

    /// Adds the person to a company, after making the company's account.
    pub(super) async fn company(
        &self,
        name: &str,
        account: Option<&DriftAccount>,
    ) -> Result<(), Outcome> {
        if let Some(account) = account {
            self.client.account(account).await?;
        }
        let mut fields = self.contact_attributes();
        fields.insert("company".to_owned(), name.into());
        self.upsert(fields).await.map(|_id| ())
    }

    /// Returns the contact: from the cache, found, or made.
    async fn find_or_create(&self) -> Result<i64, Outcome> {
        if let Some(id) = self.remembered() {
            return Ok(id);
        }
        match self.find().await? {
            Some(found)
                if self.identity.user_id.is_none()
                    || found.external_id == self.identity.user_id =>
            {
                Ok(self.remember(found.id))
            }
            // One that only the address leads to must get the user's id.
            found => self.settle(found.map(|found| found.id), self.contact_attributes()).await,
        }
    }

    /// Updates the contact with the person's data, or makes it, and returns its id.
    async fn upsert(&self, fields: JsonObject) -> Result<i64, Outcome> {
        let known = match self.remembered() {
            Some(id) => Some(id),
            None => self.find().await?.map(|found| found.id),
        };
        self.settle(known, fields).await
    }

    /// Changes the contact or makes it, even if other calls delete or make it meanwhile.
    async fn settle(&self, mut known: Option<i64>, fields: JsonObject) -> Result<i64, Outcome> {
        for _ in 0..MAX_CONTACT_CHANGES {
            known = match known {
                Some(id) => match self.client.change(id, &fields).await? {
                    DriftCallOutcome::Accepted => return Ok(self.remember(id)),
                    DriftCallOutcome::Rejected(_gone) => {
                        self.forget();
                        self.find().await?.map(|found| found.id)
                    }
                },
                None => match self.make(&fields).await? {
                    DriftCreateOutcome::New(id) => return Ok(self.remember(id)),
                    // Another call may have made it since the search.
                    DriftCreateOutcome::Refused(stop) => Some(self.find().await?.ok_or(stop)?.id),
                },
            };
        }
        Err(Outcome::Retry { reason: OutcomeReason::new("contact_moves"), after: None })
    }

    async fn make(&self, fields: &JsonObject) -> Result<DriftCreateOutcome, Outcome> {
        if self.identity.email.is_none() {
            return Err(Outcome::skipped("unknown_contact"));
        }
        self.client.make(fields).await
    }

    async fn find(&self) -> Result<Option<DriftContactMatch>, Outcome> {
        find(self.client, self.identity).await
    }

    fn contact_attributes(&self) -> JsonObject {
        attributes(self.event, self.identity, self.settings)
    }

    /// Returns the entry for the timeline of this contact.
    fn timeline_entry(&self, entry: &DriftTimelineEntry, contact: i64) -> JsonObject {
        let mut reference = entry.body.clone();
        match &self.identity.user_id {
            Some(user_id) => reference.insert("externalId".to_owned(), user_id.as_str().into()),
            None => reference.insert("contactId".to_owned(), contact.into()),
        };
        reference
    }

    fn remembered(&self) -> Option<i64> {
        self.contacts.get(&self.identity.key()?)
    }

    fn remember(&self, id: i64) -> i64 {
        if let Some(key) = self.identity.key() {
            self.contacts.remember(key, id);
        }
        id
    }

    fn forget(&self) {
        if let Some(key) = self.identity.key() {
            self.contacts.forget(&key);
        }
    }
}

/// Looks for the contact: by the user's id, then by the address.
pub(super) async fn find(
    line: DriftClient<'_>,
    who: &ContactIdentity,
) -> Result<Option<DriftContactMatch>, Outcome> {
    if let Some(user_id) = &who.user_id
        && let Some(mut found) = line.find_user(user_id).await?
    {
        // The search was for this id, however Drift writes it.
        found.external_id = Some(user_id.clone());
        return Ok(Some(found));
    }
    let Some(email) = &who.email else { return Ok(None) };
    let mut found = line.find_by_email(email).await?;
    found.retain(|contact| match (&who.user_id, &contact.external_id) {
        (Some(own), Some(other)) => own == other,
        _ => true,
    });
    if found.len() > 1 && who.user_id.is_none() {
        return Err(Outcome::dead("email_not_unique"));
    }
    Ok(found.into_iter().next())
}

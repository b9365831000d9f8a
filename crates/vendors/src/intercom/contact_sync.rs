//! The conversations about one event (`docs/contracts/destinations.md` 5.3), each in the order of its calls.

use serde_json::{Value, json};

use super::api::{
    IntercomCallOutcome, IntercomClient, IntercomContactMatch, IntercomCreateOutcome,
    IntercomUpdateOutcome,
};
use super::contact::contact;
use super::message::IntercomEvent;
use super::settings::IntercomSettings;
use crate::contact_api::{ContactCache, ContactIdentity, ContactKey};
use crate::{Outcome, OutcomeReason};
use tagway_core::event::{EnrichedEvent, JsonObject};

/// The most times a contact may turn out to be another one before the event is retried later.
const MAX_CONTACT_CHANGES: usize = 4;

/// The context of one event's conversation.
#[derive(Clone, Copy)]
pub(super) struct IntercomContactSync<'t> {
    pub(super) client: IntercomClient<'t>,
    pub(super) contacts: &'t ContactCache<String>,
    pub(super) settings: &'t IntercomSettings,
    pub(super) event: &'t EnrichedEvent,
    pub(super) identity: &'t ContactIdentity,
}

impl IntercomContactSync<'_> {
    /// Updates the person's contact and removes it from the company of this id.
    pub(super) async fn person(&self, leaves: Option<&str>) -> Result<(), Outcome> {
        let id = self.upsert().await?;
        self.absorb_leads(&id).await?;
        let Some(leaves) = leaves else { return Ok(()) };
        match self.client.find_company(leaves).await? {
            Some(company) => self.client.detach(&id, &company).await,
            None => Ok(()),
        }
    }

    /// Sends an event. If Intercom does not know the user, makes the contact and sends the event once more.
    pub(super) async fn event(&self, happening: &IntercomEvent) -> Result<(), Outcome> {
        if happening.introduces {
            let id = self.upsert().await?;
            self.absorb_leads(&id).await?;
        }
        let (key, whose) = match &self.identity.user_id {
            Some(user_id) => ("user_id", user_id.clone()),
            None => ("id", self.find_or_create().await?),
        };
        if self.client.event(contact_event(happening, key, &whose)).await?
            == IntercomCallOutcome::Accepted
        {
            return Ok(());
        }
        self.forget();
        let id = match &self.identity.user_id {
            Some(_) => self.upsert().await?,
            None => self.find_or_create().await?,
        };
        self.expect(self.client.event(contact_event(happening, "id", &id)).await?)
    }

    /// Adds the person to a company.
    pub(super) async fn company(&self, company: &JsonObject) -> Result<(), Outcome> {
        let contact = match self.remembered() {
            Some(id) => id,
            None => self.upsert().await?,
        };
        let company = self.client.company(company).await?;
        if self.client.attach(&contact, &company).await? == IntercomCallOutcome::Accepted {
            return Ok(());
        }
        self.forget();
        let contact = self.upsert().await?;
        self.expect(self.client.attach(&contact, &company).await?)
    }

    /// Merges the lead of the previous id into this user.
    pub(super) async fn alias(&self) -> Result<(), Outcome> {
        if self.find_lead().await?.is_none() {
            return Err(Outcome::skipped("no_lead"));
        }
        // If there is no such user yet, the lead becomes it.
        let id = self.upsert().await?;
        self.absorb_leads(&id).await
    }

    /// Updates the contact with the person's data, or makes it, and returns its id.
    async fn upsert(&self) -> Result<String, Outcome> {
        let attributes = self.contact_attributes();
        let mut known = match self.remembered() {
            Some(id) => Some(id),
            None => self.find().await?,
        };
        for _ in 0..MAX_CONTACT_CHANGES {
            let Some(id) = known else {
                match self.make(attributes.clone()).await? {
                    IntercomCreateOutcome::New(id) => return Ok(self.remember(id)),
                    IntercomCreateOutcome::Known(id) => known = Some(id),
                }
                continue;
            };
            known = match self.client.change(&id, &attributes).await? {
                IntercomUpdateOutcome::Done => return Ok(self.remember(id)),
                IntercomUpdateOutcome::Moved(to) => Some(to),
                IntercomUpdateOutcome::Gone => {
                    self.forget();
                    self.find().await?
                }
            };
        }
        Err(Outcome::Retry { reason: OutcomeReason::new("contact_moves"), after: None })
    }

    /// Returns the contact of a person without a user id: from the cache, found, or made.
    async fn find_or_create(&self) -> Result<String, Outcome> {
        if let Some(id) = self.remembered() {
            return Ok(id);
        }
        if let Some(id) = self.find().await? {
            return Ok(self.remember(id));
        }
        let (IntercomCreateOutcome::New(id) | IntercomCreateOutcome::Known(id)) =
            self.make(self.contact_attributes()).await?;
        Ok(self.remember(id))
    }

    /// Returns the contact's attributes as far as they are known here.
    fn contact_attributes(&self) -> JsonObject {
        contact(self.event, self.identity, self.settings, self.client.call.now())
    }

    async fn make(&self, mut attributes: JsonObject) -> Result<IntercomCreateOutcome, Outcome> {
        if self.identity.user_id.is_none() {
            if !self.settings.leads {
                return Err(Outcome::skipped("unknown_contact"));
            }
            attributes.insert("role".to_owned(), "lead".into());
        }
        self.client.make(attributes).await
    }

    /// Looks for the contact: by the user's id, by the address, then as the lead of this device.
    async fn find(&self) -> Result<Option<String>, Outcome> {
        match find_person(self.client, self.identity).await? {
            Some(id) => Ok(Some(id)),
            None => self.find_lead().await,
        }
    }

    /// Returns the lead of this device, if leads are distinguished by device.
    async fn find_lead(&self) -> Result<Option<String>, Outcome> {
        let Some(device) = &self.identity.anonymous_id else { return Ok(None) };
        if !self.settings.leads {
            return Ok(None);
        }
        if let Some(lead) = self.contacts.get(&ContactKey::Anonymous(device.clone())) {
            return Ok(Some(lead));
        }
        let Some(attribute) = &self.settings.lead_attribute else { return Ok(None) };
        let found = self.client.search(equals(&format!("custom_attributes.{attribute}"), device));
        // A lead that became a user keeps the attribute: a later visitor of this device is another person.
        let lead = found.await?.into_iter().find(|contact| contact.is_lead);
        Ok(lead.map(|lead| lead.id))
    }

    /// Merges the user's former leads, by device and by address, into the user.
    async fn absorb_leads(&self, user: &str) -> Result<(), Outcome> {
        let Some(user_id) = self.identity.user_id.as_ref().filter(|_| self.settings.leads) else {
            return Ok(());
        };
        let device = self.identity.anonymous_id.clone();
        let done = device.map(|device| ContactKey::Device(device, user_id.clone()));
        if done.as_ref().is_some_and(|done| self.contacts.get(done).is_some()) {
            return Ok(());
        }
        let mut leads = Vec::from_iter(self.find_lead().await?);
        if let Some(email) = &self.identity.email {
            let found = self.client.search(equals("email", &email.to_lowercase())).await?;
            leads.extend(found.into_iter().filter(|found| found.is_lead).map(|found| found.id));
            self.contacts.forget(&ContactKey::email(email));
        }
        leads.sort_unstable();
        leads.dedup();
        for lead in leads.iter().filter(|lead| *lead != user) {
            self.client.merge(lead, user).await?;
        }
        if let Some(device) = &self.identity.anonymous_id {
            self.contacts.forget(&ContactKey::Anonymous(device.clone()));
        }
        if let Some(done) = done {
            self.contacts.remember(done, user.to_owned());
        }
        Ok(())
    }

    fn remembered(&self) -> Option<String> {
        self.contacts.get(&self.identity.key()?)
    }

    fn remember(&self, id: String) -> String {
        if let (Some(_), Some(device)) = (&self.identity.user_id, &self.identity.anonymous_id) {
            let lead = ContactKey::Anonymous(device.clone());
            if self.contacts.get(&lead).as_ref() == Some(&id) {
                // The lead became the user: no other visitor of this device is that lead.
                self.contacts.forget(&lead);
            }
        }
        if let Some(key) = self.identity.key() {
            self.contacts.remember(key, id.clone());
        }
        id
    }

    fn forget(&self) {
        if let Some(key) = self.identity.key() {
            self.contacts.forget(&key);
        }
    }

    /// Fails if a contact that existed a moment ago is gone.
    fn expect(&self, taken: IntercomCallOutcome) -> Result<(), Outcome> {
        match taken {
            IntercomCallOutcome::Accepted => Ok(()),
            IntercomCallOutcome::UnknownContact => {
                self.forget();
                Err(Outcome::dead("unknown_contact"))
            }
        }
    }
}

/// Looks for a person: by the user's id, then by the address.
pub(super) async fn find_person(
    line: IntercomClient<'_>,
    who: &ContactIdentity,
) -> Result<Option<String>, Outcome> {
    if let Some(user_id) = &who.user_id
        && let Some(id) = line.find_user(user_id).await?
    {
        return Ok(Some(id));
    }
    let Some(email) = &who.email else { return Ok(None) };
    let found = line.search(equals("email", &email.to_lowercase())).await?;
    choose(&found, who.user_id.as_deref())
}

/// Returns the person's contact among those with this address: a user before a lead, never another user.
fn choose(
    found: &[IntercomContactMatch],
    user_id: Option<&str>,
) -> Result<Option<String>, Outcome> {
    let is_own = |contact: &&IntercomContactMatch| match (user_id, contact.external_id.as_deref()) {
        (Some(own), Some(other)) => contact.is_lead || own == other,
        _ => true,
    };
    let (leads, users): (Vec<_>, Vec<_>) =
        found.iter().filter(is_own).partition(|contact| contact.is_lead);
    match users.as_slice() {
        [] => Ok(leads.first().map(|lead| lead.id.clone())),
        [user] => Ok(Some(user.id.clone())),
        [user, ..] if user_id.is_some() => Ok(Some(user.id.clone())),
        _ => Err(Outcome::dead("email_not_unique")),
    }
}

fn equals(field: &str, value: &str) -> Value {
    json!({ "field": field, "operator": "=", "value": value })
}

/// Builds an event of the contact that this key and value name.
fn contact_event(happening: &IntercomEvent, key: &str, whose: &str) -> JsonObject {
    let mut event = JsonObject::new();
    event.insert("event_name".to_owned(), happening.name.as_str().into());
    event.insert("created_at".to_owned(), happening.created_at.into());
    event.insert(key.to_owned(), whose.into());
    if !happening.metadata.is_empty() {
        event.insert("metadata".to_owned(), Value::Object(happening.metadata.clone()));
    }
    event
}

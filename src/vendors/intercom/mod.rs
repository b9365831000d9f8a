//! Intercom, by its REST API (`contracts/destinations.md` section 5).
//!
//! Intercom knows contacts (users and leads), companies and events, and takes one of them a call: what
//! a message needs is said in a short conversation. Everything that is said may be said again: events
//! are told apart by contact, name and second, contacts by their ids.
//!
//! Decisions where the contract leaves a choice or sources disagree:
//! - An event of a known user goes at once, by `user_id`; only if Intercom does not know the user is
//!   the contact made and the event sent once more. People known by e-mail only are looked up first.
//! - Contacts are looked for by user id, then by e-mail. A lead found by e-mail becomes the user; a
//!   user found by e-mail who has another user id is somebody else, and a new contact is made.
//! - People without a user id become leads only with `leads = true`; those who gave no e-mail address
//!   either only if `lead_attribute` names the custom attribute by which they are found again. When
//!   they turn out to be a user, their lead is merged into it.
//! - The amount of an event (`revenue`, else `total`, `price`, `value`) becomes `price` in minor units
//!   if the event or the settings name a currency; otherwise it stays a number. Metadata is flattened
//!   with `_`, without lists; the ten keys kept are those of `metadata_priority`, then `price`, then
//!   the first.
//! - Two events of one contact and name within a second are one to Intercom, and the second is lost.
//! - A workspace holds 120 names of events: choose them with the destination's `events`.

mod api;
mod audience;
mod contact;
mod message;
mod metadata;
mod script;
mod settings;
mod talk;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::api::{Api, Line};
use self::message::{Message, Say};
use self::settings::Settings;
use self::talk::Talk;
use super::conversation::{Contacts, Stop, one_by_one};
use super::{
    Audience, Call, Client, Destination, Habits, Outcome, Reason, Screening, Shim, Unit, Vendor,
    shim,
};
use crate::event::Enriched;
use crate::settings::Secret;

/// Intercom's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "intercom",
    known_as: &["Intercom"],
    destination: Some(|section, endpoint| {
        let (api, token) = Api::read(section, endpoint);
        let (settings, contacts) = (Settings::read(section), Contacts::read(section));
        Box::new(Intercom { api, token, settings, contacts })
    }),
    script: Some(&script::SCRIPT),
    shim: Some(&Shim {
        script: include_str!("../../../static/sdk/dist/shims/intercom.js"),
        needs: &[&shim::CHAT],
        ids: &["app_id"],
        ..Shim::PLAIN
    }),
    client: Some(Client {
        script: include_str!("../../../static/sdk/dist/clients/intercom.js"),
        library: "/widget/{app_id}",
        required: &["app_id"],
        optional: &[],
        twice: Some("Intercom knows no event id: events are counted twice"),
    }),
    ..Vendor::NOTHING
};

/// 10,000 calls a minute and app are counted in windows of ten seconds (Intercom's page on rate
/// limits), 1,666 in each: this rate and a second's burst stay below.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(150).unwrap();

struct Intercom {
    api: Api,
    token: Secret,
    settings: Settings,
    contacts: Contacts<String>,
}

#[async_trait]
impl Destination for Intercom {
    fn habits(&self) -> Habits {
        Habits {
            // One event a call: a batch is only a visitor's turn.
            unit: Unit::Visitor,
            max_events: 20,
            max_bytes: 512 * 1024,
            linger: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 16,
            calls_per_second: Some(CALLS_PER_SECOND),
            timeout: Duration::from_secs(15),
        }
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![self.token.clone()]
    }

    fn screen(&self, event: &Enriched, _now: Timestamp) -> Screening {
        match &*self.message(event) {
            Ok(_) => Screening::Send,
            Err(screening) => screening.clone(),
        }
    }

    async fn deliver(&self, batch: &[Enriched], call: &dyn Call) -> Vec<Outcome> {
        one_by_one(batch, call, |event| self.converse(event, call)).await
    }

    fn audience(&self) -> Option<&dyn Audience> {
        Some(self)
    }
}

impl Intercom {
    fn message(&self, event: &Enriched) -> Arc<Result<Message, Screening>> {
        event.rendered(|event| message::render(event, &self.settings))
    }

    async fn converse(&self, event: &Enriched, call: &dyn Call) -> Result<(), Stop> {
        let message = self.message(event);
        let Ok(Message { who, say }) = &*message else {
            // Screening let it pass: there is no way here.
            return Err(Stop::Dead(Reason::new("unmappable")));
        };
        let talk = Talk {
            line: Line { api: &self.api, call },
            contacts: &self.contacts,
            settings: &self.settings,
            event,
            who,
        };
        match say {
            Say::Person { leaves } => talk.person(leaves.as_deref()).await,
            Say::Event(happening) => talk.event(happening).await,
            Say::Company(company) => talk.company(company).await,
            Say::Alias => talk.alias().await,
        }
    }
}

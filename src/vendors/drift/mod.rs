//! Drift, by its REST API (`contracts/destinations.md` section 6).
//!
//! Drift knows contacts and what stands in their timelines. A timeline entry needs a contact that is
//! there, so every event is a short conversation: find or make the contact, then tell.
//!
//! Decisions where the contract leaves a choice:
//! - The contact is looked for by the user's id, then by e-mail; a contact of that address with another
//!   id is somebody else. One can be made only where an address is known; otherwise the event is
//!   skipped, as Drift has nobody to tell it of. Anonymous visitors are known to the widget alone.
//! - The timeline has no dedupe key: after a timeout the event is a dead letter, unless
//!   `retry_ambiguous` says that being told twice is better. Everything else may be asked again.
//! - Attributes of timeline entries are deprecated: none go, but those of `event_attributes`. Drift
//!   advises to name the application in an entry's text: `event_prefix`.
//! - The contact's tags are those of one trait, if the settings name it: Drift's newer pages say that
//!   attributes took their place. Tags are added, never taken away.
//! - Of promotions and coupons nothing is told, as in the contract's cross-walk.
//! - A group is the contact's attribute `company`; with `account_owner_id` it is an account as well,
//!   made by its domain, or changed under the id that Drift gives it: the organisation's id and the
//!   domain.

mod api;
mod audience;
mod message;
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

use self::api::Line;
use self::message::{Message, Say};
use self::settings::Settings;
use self::talk::Talk;
use super::conversation::{Contacts, Front, Stop, one_by_one};
use super::{
    Audience, Call, Client, Destination, Habits, Outcome, Reason, Screening, Shim, Unit, Vendor,
    shim,
};
use crate::event::Enriched;
use crate::settings::Secret;

/// Drift's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "drift",
    known_as: &["Drift"],
    destination: Some(|section, endpoint| {
        let base = endpoint.as_ref().map_or(BASE, url::Url::as_str);
        let (front, token) = Front::read(section, base);
        let (settings, contacts) = (Settings::read(section), Contacts::read(section));
        Box::new(Drift { front, token, settings, contacts })
    }),
    script: Some(&script::SCRIPT),
    shim: Some(&Shim {
        script: include_str!("../../../static/sdk/dist/shims/drift.js"),
        needs: &[&shim::STUB, &shim::CHAT],
        ids: &["embed_id"],
        ..Shim::PLAIN
    }),
    client: Some(Client {
        script: include_str!("../../../static/sdk/dist/clients/drift.js"),
        // The number is only there to get past caches.
        library: "/include/0/{embed_id}.js",
        required: &["embed_id"],
        optional: &[],
        twice: Some("Drift knows no event id: events are counted twice"),
    }),
    ..Vendor::NOTHING
};

/// Where Drift is. There is one region.
const BASE: &str = "https://driftapi.com";

/// Drift publishes no limit: a rate that the contract takes for safe.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

struct Drift {
    front: Front,
    token: Secret,
    settings: Settings,
    contacts: Contacts<i64>,
}

#[async_trait]
impl Destination for Drift {
    fn habits(&self) -> Habits {
        Habits {
            // One event a call: a batch is only a visitor's turn.
            unit: Unit::Visitor,
            max_events: 20,
            max_bytes: 512 * 1024,
            linger: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 4,
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

impl Drift {
    fn message(&self, event: &Enriched) -> Arc<Result<Message, Screening>> {
        event.rendered(|event| message::render(event, &self.settings))
    }

    async fn converse(&self, event: &Enriched, call: &dyn Call) -> Result<(), Stop> {
        let message = self.message(event);
        let Ok(Message { who, say }) = &*message else {
            // Screening let it pass: there is no way here.
            return Err(Stop::Dead(Reason::new("unmappable")));
        };
        let line = Line { front: &self.front, call, may_repeat: self.settings.retry_ambiguous };
        let talk = Talk { line, contacts: &self.contacts, settings: &self.settings, event, who };
        match say {
            Say::Person { tags } => talk.person(tags).await,
            Say::Event(entry) => talk.event(entry).await,
            Say::Company { name, account } => talk.company(name, account.as_ref()).await,
        }
    }
}

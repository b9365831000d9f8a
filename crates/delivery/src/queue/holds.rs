//! Events held for their visitor: parked in the journal before any try, until the visitor makes a choice
//! about consent (`unknown_consent = "hold"`), or is known (`identity_wait`); and behind earlier events.
//!
//! Consent: held until the visitor agrees or refuses, for `consent_wait` from the receipt at most. After that
//! an unknown choice is a refusal.
//!
//! Identity: held until the visitor signs in, or the profile has an e-mail address or a telephone number, for
//! `identity_wait` from the receipt at most. Then the event goes, with the data known by then. The worker learns
//! that a visitor is known from the events that it reads anyway: any event of a known visitor releases the
//! events held under one of its identities, and queues behind them, so that events of one visitor stay in
//! order. A released event is looked up anew, and releases in turn the events held under its other identities.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::parked::{LeftEntry, ParkReason, ParkStage, ParkedEntry};
use super::schedule::{QueuedEvent, VisitorOrderKey};
use super::{Queue, Settlements};
use tagway_core::event::{Event, ProfileView};
use tagway_core::feed::FeedEvent;
use tagway_core::metrics::{AttemptLabels, DestinationLabels};
use tagway_core::privacy::{self, ConsentDecision, ConsentRecord, UnknownConsent};
use tagway_storage::journal::ParkRequest;
use tagway_storage::profile::{IdentityKind, identities};

/// The number of tries of an event that was never tried: such a parked event delays no later ones.
const NO_ATTEMPTS: u32 = 0;

/// Traits by which vendors identify a person without a user id.
const CONTACT_TRAITS: [&str; 2] = ["email", "phone"];

/// An event that arrives, for the first time or out of the parked ones.
#[derive(Clone, Copy)]
pub(super) struct EventArrival {
    pub(super) seq: u64,
    pub(super) was_parked: bool,
    pub(super) attempt: u32,
    /// The state that it had while it was parked.
    pub(super) left: LeftEntry,
    pub(super) now: Timestamp,
}

/// The identities of an event's visitor, as keys.
pub(super) struct VisitorIdentity {
    keys: Vec<VisitorOrderKey>,
    is_known: bool,
}

impl Queue {
    /// Restores the entry of a parked event after a restart. An event that was not tried is held, for one
    /// reason or for both.
    pub(super) fn restore(&mut self, event: &Event, request: ParkRequest) {
        let ParkRequest { seq, due_at, attempt } = request;
        let settings = self.context.settings.clone();
        let holds = [
            (ParkReason::Retry, attempt > NO_ATTEMPTS),
            (ParkReason::Consent, attempt == NO_ATTEMPTS && settings.can_hold_for_consent(event)),
            (ParkReason::Identity, attempt == NO_ATTEMPTS && !settings.identity_wait.is_zero()),
        ];
        for (reason, _) in holds.into_iter().filter(|(_, is_parked)| *is_parked) {
            let keys = match reason {
                ParkReason::Retry => vec![visitor_key(event)],
                ParkReason::Consent => vec![consent_key(event)],
                ParkReason::Identity => identity_keys(event).keys,
            };
            let stage = ParkStage::Waiting;
            self.parked.insert(ParkedEntry { keys, seq, due_at, reason, stage });
        }
    }

    /// Returns the event, with its visitor's choice if another event had that; `None` if it is held for the
    /// choice.
    pub(super) fn resolve_consent(
        &mut self,
        arrival: &EventArrival,
        mut event: Arc<Event>,
        settlements: &mut Settlements,
    ) -> Option<Arc<Event>> {
        let settings = self.context.settings.clone();
        if !settings.can_hold_for_consent(&event) {
            return Some(event);
        }
        let (visitor, now) = (consent_key(&event), arrival.now);
        let record = event.context.as_ref().and_then(ConsentRecord::read);
        let standing =
            privacy::decide(&settings.filter.consent, record.as_ref(), UnknownConsent::Hold);
        if let (Some(record), true) = (record, standing != ConsentDecision::Hold) {
            self.decisions.insert(visitor, record);
            self.release(ParkReason::Consent, &[visitor], now, settlements);
            return Some(event);
        }
        if let Some(decision) = self.decisions.get(&visitor) {
            privacy::add_consent(Arc::make_mut(&mut event), &decision);
            return Some(event);
        }
        let until = event.received_at.checked_add(settings.consent_wait).ok();
        let until = until.filter(|at| *at > now && !arrival.left.consent.is_given_up);
        let Some(due_at) = until else { return Some(event) };
        let (reason, stage) = (ParkReason::Consent, ParkStage::Waiting);
        let entry = ParkedEntry { keys: vec![visitor], seq: arrival.seq, due_at, reason, stage };
        self.hold(arrival, entry, settlements);
        None
    }

    /// Returns the identities of the visitor of an event that arrives, where events are held for these. If the
    /// visitor is known, the events held for that are released.
    pub(super) fn identify(
        &mut self,
        event: &Event,
        view: &ProfileView,
        now: Timestamp,
        settlements: &mut Settlements,
    ) -> Option<VisitorIdentity> {
        if self.context.settings.identity_wait.is_zero() {
            return None;
        }
        let mut visitor = identity_keys(event);
        visitor.is_known |= is_identified(view);
        if visitor.is_known {
            self.release(ParkReason::Identity, &visitor.keys, now, settlements);
        }
        Some(visitor)
    }

    /// Returns true if the event is held, for its visitor to become known or for earlier events of the same
    /// visitor. Events that were tried are never held.
    pub(super) fn hold_for_identity(
        &mut self,
        arrival: &EventArrival,
        visitor: Option<VisitorIdentity>,
        event: &Event,
        settlements: &mut Settlements,
    ) -> bool {
        let EventArrival { seq, attempt, left, now, .. } = *arrival;
        let Some(VisitorIdentity { keys, is_known }) = visitor else { return false };
        let settings = &self.context.settings;
        // A visitor with an id for one event alone cannot be recognised later, and that of a test event is none.
        let is_placeholder =
            keys.is_empty() || event.facts.ephemeral_id || event.facts.test_of.is_some();
        if attempt > NO_ATTEMPTS || is_placeholder || !settings.is_for(event) {
            return false;
        }
        let reason = ParkReason::Identity;
        let until = event.received_at.checked_add(settings.identity_wait).ok();
        let until = until.filter(|at| *at > now && !left.identity.is_given_up);
        // Held once at most: the events that it stayed behind came back before it, or never will.
        let is_behind = is_known
            && left.identity.stage.is_none()
            && self.parked.earlier_due_at(reason, &keys, seq).is_some();
        let (stage, due_at) = match until {
            _ if is_behind => (ParkStage::Behind, now),
            Some(until) if !is_known => (ParkStage::Waiting, until),
            _ => {
                self.count_hold(arrival, is_known);
                return false;
            }
        };
        self.hold(arrival, ParkedEntry { keys, seq, due_at, reason, stage }, settlements);
        true
    }

    /// Parks an event behind a parked one of its visitor, to keep their order. At the limit of parked events
    /// it passes instead: order is worth less than bounded memory.
    pub(super) fn park_behind_earlier(
        &mut self,
        item: &QueuedEvent,
        settlements: &mut Settlements,
    ) -> bool {
        let (reason, keys) = (ParkReason::Retry, [item.visitor]);
        let earlier = self.parked.earlier_due_at(reason, &keys, item.event.seq);
        let due_at = earlier.filter(|_| self.parked.has_room(reason, 1));
        due_at.map(|due_at| self.park(item, due_at, settlements)).is_some()
    }

    /// Holds an event. If the most events are held, the oldest goes as it is.
    fn hold(&mut self, arrival: &EventArrival, entry: ParkedEntry, settlements: &mut Settlements) {
        let EventArrival { seq, was_parked, now, .. } = *arrival;
        let oldest = self.parked.make_room(entry.reason);
        self.make_due(oldest, now, settlements);
        if !was_parked && entry.stage == ParkStage::Waiting {
            self.publish_hold(&entry);
        }
        let due_at = entry.due_at;
        settlements.park(ParkRequest { seq, due_at, attempt: NO_ATTEMPTS }, was_parked);
        self.wake_at(due_at, now);
        self.parked.insert(entry);
    }

    /// Makes the events due that are held under these keys.
    fn release(
        &mut self,
        reason: ParkReason,
        keys: &[VisitorOrderKey],
        now: Timestamp,
        settlements: &mut Settlements,
    ) {
        let released = self.parked.release(reason, keys);
        self.make_due(released, now, settlements);
    }

    fn make_due(
        &mut self,
        seqs: impl IntoIterator<Item = u64>,
        now: Timestamp,
        settlements: &mut Settlements,
    ) {
        for seq in seqs {
            settlements.park(ParkRequest { seq, due_at: now, attempt: NO_ATTEMPTS }, true);
            self.next_due = Some(Instant::now());
        }
    }

    fn publish_hold(&self, entry: &ParkedEntry) {
        let client = &self.context.client;
        client.feed.publish(&client.labels.site, &[entry.seq], || FeedEvent::Held {
            at: client.clock.now(),
            site: client.labels.site.clone(),
            destination: client.labels.destination.clone(),
            seq: entry.seq,
            awaits: if entry.reason == ParkReason::Consent { "consent" } else { "identity" },
            needs: self.context.settings.filter.consent.clone(),
            until: entry.due_at,
        });
    }

    /// Counts the end of a hold for identity.
    fn count_hold(&self, arrival: &EventArrival, is_known: bool) {
        let result = match arrival.left.identity.stage {
            _ if arrival.left.identity.is_given_up => "crowded",
            Some(ParkStage::Waiting | ParkStage::Released) if is_known => "known",
            Some(ParkStage::Waiting) => "expired",
            _ => return,
        };
        let DestinationLabels { site, destination } = self.context.client.labels.clone();
        let labels = AttemptLabels { site, destination, result };
        self.context.client.metrics.identity_holds.get_or_create(&labels).inc();
    }
}

/// Returns the schedule's key of a visitor. The hash has no secret: a sender who makes two visitors
/// collide makes them wait for each other, which sending with one id does as well.
pub(super) fn visitor_key(event: &Event) -> VisitorOrderKey {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(event.order_key())
}

/// Returns the key of a choice: the browser's, whatever ids its libraries use. Without the gateway's cookie
/// any client can claim any id, so that the address must match as well; and only servers decide for events
/// of servers.
fn consent_key(event: &Event) -> VisitorOrderKey {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    match &event.facts.visitor {
        Some(visitor) => hash.hash_one(&visitor.id),
        None => hash.hash_one((event.order_key(), event.facts.ip, event.facts.from_server)),
    }
}

/// Returns the keys of a visitor's identities; a visitor with a user id is known.
fn identity_keys(event: &Event) -> VisitorIdentity {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    let identities = identities(event);
    let is_known = identities.iter().any(|identity| identity.kind == IdentityKind::User);
    let keys = identities.iter().map(|identity| hash.hash_one(identity)).collect();
    VisitorIdentity { keys, is_known }
}

/// Returns true if a vendor could identify the person by the profile.
fn is_identified(view: &ProfileView) -> bool {
    let says = |key: &&str| view.traits.get(*key).and_then(serde_json::Value::as_str);
    view.user_id.is_some()
        || CONTACT_TRAITS.iter().filter_map(says).any(|text| !text.trim().is_empty())
}

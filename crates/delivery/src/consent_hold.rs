//! Events held for their visitor's consent choice (`unknown_consent = "hold"`): parked in the journal until
//! the visitor agrees or refuses, for `hold` at most. After that an unknown choice is a refusal.
//!
//! Decisions are cached here for as long as events are held, so that they also apply to events without a
//! consent record, from another library of the same page.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;

use super::schedule::VisitorOrderKey;
use super::worker::DeliveryWorker;
use tagway_core::event::Event;
use tagway_core::feed::FeedEvent;
use tagway_core::privacy::{self, ConsentDecision, ConsentRecord, UnknownConsent};
use tagway_storage::journal::ParkRequest;

/// The most visitors whose choice is cached.
const MAX_DECISIONS: u64 = 100_000;

/// The number of tries of an event that was never tried: such a parked event delays no later ones.
const NO_ATTEMPTS: u32 = 0;

/// The held events of one destination, by visitor, and the visitors' decisions.
#[derive(Debug)]
pub(super) struct ConsentHold {
    visitors: HashMap<VisitorOrderKey, BTreeSet<u64>>,
    /// The visitor of each held event, the oldest event first.
    visitor_by_event: BTreeMap<u64, VisitorOrderKey>,
    /// Events released early to make room: their hold has ended.
    released_early: BTreeSet<u64>,
    decisions: Cache<VisitorOrderKey, ConsentRecord>,
}

impl ConsentHold {
    pub(super) fn new(hold: Duration) -> Self {
        let decisions = Cache::builder().max_capacity(MAX_DECISIONS).time_to_live(hold).build();
        Self {
            visitors: HashMap::new(),
            visitor_by_event: BTreeMap::new(),
            released_early: BTreeSet::new(),
            decisions,
        }
    }

    fn insert(&mut self, visitor: VisitorOrderKey, seq: u64) {
        self.visitors.entry(visitor).or_default().insert(seq);
        self.visitor_by_event.insert(seq, visitor);
    }

    fn remove(&mut self, visitor: VisitorOrderKey, seq: u64) {
        let Some(seqs) = self.visitors.get_mut(&visitor) else { return };
        seqs.remove(&seq);
        self.visitor_by_event.remove(&seq);
        if seqs.is_empty() {
            self.visitors.remove(&visitor);
        }
    }

    fn release(&mut self, visitor: VisitorOrderKey) -> BTreeSet<u64> {
        let seqs = self.visitors.remove(&visitor).unwrap_or_default();
        for seq in &seqs {
            self.visitor_by_event.remove(seq);
        }
        seqs
    }

    /// Ends the hold of the oldest event early.
    fn give_up_oldest(&mut self) -> Option<u64> {
        let (&seq, &visitor) = self.visitor_by_event.first_key_value()?;
        self.remove(visitor, seq);
        self.released_early.insert(seq);
        Some(seq)
    }
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

impl DeliveryWorker {
    /// Restores a held event after a restart: one that is parked untried for a later time.
    pub(super) fn restore_consent_hold(&mut self, event: &Event, seq: u64) {
        self.state.consent_hold.insert(consent_key(event), seq);
    }

    /// Returns the event, with its visitor's choice if another event had that; `None` if it is held for the
    /// choice.
    pub(super) fn resolve_consent(
        &mut self,
        seq: u64,
        mut event: Arc<Event>,
        was_parked: bool,
        now: Timestamp,
    ) -> Option<Arc<Event>> {
        if !self.settings.can_hold_for_consent(&event) {
            return Some(event);
        }
        let visitor = consent_key(&event);
        self.state.consent_hold.remove(visitor, seq);
        let is_given_up = self.state.consent_hold.released_early.remove(&seq);
        let record = event.context.as_ref().and_then(ConsentRecord::read);
        let standing =
            privacy::decide(&self.settings.filter.consent, record.as_ref(), UnknownConsent::Hold);
        if let (Some(record), true) = (record, standing != ConsentDecision::Hold) {
            self.state.consent_hold.decisions.insert(visitor, record);
            self.release(visitor, now);
            return Some(event);
        }
        if let Some(decision) = self.state.consent_hold.decisions.get(&visitor) {
            privacy::add_consent(Arc::make_mut(&mut event), &decision);
            return Some(event);
        }
        let until =
            event.received_at.checked_add(self.settings.consent_wait).ok().filter(|at| *at > now);
        let Some(due_at) = until.filter(|_| !is_given_up) else { return Some(event) };
        if self.state.consent_hold.visitor_by_event.len() >= self.settings.retry.parked_max
            && let Some(oldest) = self.state.consent_hold.give_up_oldest()
        {
            self.state.park.push(ParkRequest { seq: oldest, due_at: now, attempt: NO_ATTEMPTS });
            self.wake_within(Duration::ZERO);
        }
        if !was_parked {
            self.state.progress.complete(seq, seq);
            self.publish_hold(seq, "consent", due_at);
        }
        self.state.consent_hold.insert(visitor, seq);
        self.state.park.push(ParkRequest { seq, due_at, attempt: NO_ATTEMPTS });
        self.schedule_settlement();
        self.wake_within(Duration::try_from(due_at.duration_since(now)).unwrap_or_default());
        None
    }

    /// Publishes to the live feed that an event is held.
    pub(super) fn publish_hold(&self, seq: u64, awaits: &'static str, until: Timestamp) {
        self.client.feed.publish(|| FeedEvent::Held {
            at: self.client.clock.now(),
            site: self.client.labels.site.clone(),
            destination: self.client.labels.destination.clone(),
            seq,
            awaits,
            needs: self.settings.filter.consent.clone(),
            until,
        });
    }

    /// Makes the events due that are held for this visitor.
    fn release(&mut self, visitor: VisitorOrderKey, now: Timestamp) {
        let seqs = self.state.consent_hold.release(visitor);
        if seqs.is_empty() {
            return;
        }
        let due = |seq| ParkRequest { seq, due_at: now, attempt: NO_ATTEMPTS };
        self.state.park.extend(seqs.into_iter().map(due));
        self.schedule_settlement();
        self.wake_within(Duration::ZERO);
    }
}

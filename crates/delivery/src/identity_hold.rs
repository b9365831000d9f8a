//! Events held until their visitor is known (`identity_wait`): parked in the journal until the visitor signs
//! in, or the profile has an e-mail address or a telephone number, for `identity_wait` from their receipt at
//! most. Then they go, with the data known by then.
//!
//! The worker learns that a visitor is known from the events that it reads anyway: any event of a known
//! visitor releases the events held under one of its identities, and queues behind them, so that events of
//! one visitor stay in order. A released event is looked up anew, and releases in turn the events held
//! under its other identities.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use jiff::Timestamp;

use super::worker::DeliveryWorker;
use tagway_core::event::{Event, ProfileView};
use tagway_core::metrics::AttemptLabels;
use tagway_storage::journal::ParkRequest;
use tagway_storage::profile::{IdentityKind, identities};

/// The number of tries of an event that was never tried.
const NO_ATTEMPTS: u32 = 0;

/// Traits by which vendors identify a person without a user id.
const CONTACT_TRAITS: [&str; 2] = ["email", "phone"];

/// One of a visitor's identities, as a hash: visitors with equal hashes only release each other.
type VisitorNameHash = u64;

/// The held events of one destination, with the identities of their visitors.
#[derive(Debug, Default)]
pub(super) struct IdentityHold {
    names: HashMap<VisitorNameHash, BTreeSet<u64>>,
    events: BTreeMap<u64, IdentityHoldEntry>,
    /// Events released early to make room: their hold has ended.
    released_early: BTreeSet<u64>,
}

#[derive(Debug)]
struct IdentityHoldEntry {
    names: Vec<VisitorNameHash>,
    reason: IdentityHoldReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentityHoldReason {
    /// The visitor is unknown.
    Anonymous,
    /// The event is due at once, and its visitor's later events must stay behind it.
    Released,
    /// The event stays behind its visitor's earlier events, and is due with them.
    Behind,
}

/// An event that arrives, for the first time or after a hold.
pub(super) struct ArrivingEvent {
    names: Vec<VisitorNameHash>,
    is_known: bool,
    /// The reason why it was held until now.
    previous_hold: Option<IdentityHoldReason>,
    is_given_up: bool,
}

impl IdentityHold {
    fn insert(&mut self, seq: u64, names: Vec<VisitorNameHash>, why: IdentityHoldReason) {
        self.remove(seq);
        for name in &names {
            self.names.entry(*name).or_default().insert(seq);
        }
        self.events.insert(seq, IdentityHoldEntry { names, reason: why });
    }

    /// Removes an event that is admitted again, or has ended.
    pub(super) fn remove(&mut self, seq: u64) -> Option<IdentityHoldReason> {
        let IdentityHoldEntry { names, reason: why } = self.events.remove(&seq)?;
        for name in names {
            if let Some(seqs) = self.names.get_mut(&name) {
                seqs.remove(&seq);
                if seqs.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        Some(why)
    }

    /// Releases the events held under these identities, except those already due.
    fn release(&mut self, names: &[VisitorNameHash]) -> BTreeSet<u64> {
        let under = names.iter().filter_map(|name| self.names.get(name)).flatten().copied();
        let mut released: BTreeSet<u64> = under.collect();
        released.retain(|seq| {
            let waiting =
                self.events.get_mut(seq).filter(|it| it.reason == IdentityHoldReason::Anonymous);
            waiting.map(|it| it.reason = IdentityHoldReason::Released).is_some()
        });
        released
    }

    /// Returns true if earlier events of this visitor have yet to come back.
    fn is_behind(&self, names: &[VisitorNameHash], seq: u64) -> bool {
        let first = |name| self.names.get(name).and_then(BTreeSet::first);
        names.iter().filter_map(first).any(|first| *first < seq)
    }

    /// Releases early the oldest event held for an unknown visitor.
    fn give_up_oldest(&mut self) -> Option<u64> {
        let mut events = self.events.iter();
        let (&seq, _) =
            events.find(|(_, waiting)| waiting.reason == IdentityHoldReason::Anonymous)?;
        self.remove(seq);
        self.released_early.insert(seq);
        Some(seq)
    }
}

/// Returns the hashed identities of an event's visitor, and true if a user id is among them.
fn names(event: &Event) -> (Vec<VisitorNameHash>, bool) {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    let identities = identities(event);
    let has_user = identities.iter().any(|identity| identity.kind == IdentityKind::User);
    (identities.iter().map(|identity| hash.hash_one(identity)).collect(), has_user)
}

/// Returns true if a vendor could identify the person by the profile.
fn is_identified(view: &ProfileView) -> bool {
    let says = |key: &&str| view.traits.get(*key).and_then(serde_json::Value::as_str);
    view.user_id.is_some()
        || CONTACT_TRAITS.iter().filter_map(says).any(|text| !text.trim().is_empty())
}

impl DeliveryWorker {
    /// Restores a held event after a restart: one that is parked untried for a later time.
    pub(super) fn restore_identity_hold(&mut self, event: &Event, seq: u64) {
        if !self.settings.identity_wait.is_zero() {
            self.state.identity_hold.insert(seq, names(event).0, IdentityHoldReason::Anonymous);
        }
    }

    /// Records that an event arrives. If its visitor is known, the events held for that are released.
    pub(super) fn record_arrival(
        &mut self,
        seq: u64,
        event: &Event,
        view: &ProfileView,
        now: Timestamp,
    ) -> Option<ArrivingEvent> {
        if self.settings.identity_wait.is_zero() {
            return None;
        }
        let waited = self.state.identity_hold.remove(seq);
        let is_given_up = self.state.identity_hold.released_early.remove(&seq);
        let (names, has_user) = names(event);
        let is_known = has_user || is_identified(view);
        if is_known {
            let due = |seq| ParkRequest { seq, due_at: now, attempt: NO_ATTEMPTS };
            let released = self.state.identity_hold.release(&names);
            if !released.is_empty() {
                self.state.park.extend(released.into_iter().map(due));
                self.schedule_settlement();
                self.wake_within(Duration::ZERO);
            }
        }
        Some(ArrivingEvent { names, is_known, previous_hold: waited, is_given_up })
    }

    /// Returns true if the event is held, for its visitor to become known or for earlier events of the same
    /// visitor. Events that were tried are never held.
    pub(super) fn hold_for_identity(
        &mut self,
        arrival: Option<ArrivingEvent>,
        (seq, event): (u64, &Event),
        (was_parked, attempt): (bool, u32),
        now: Timestamp,
    ) -> bool {
        let Some(ArrivingEvent { names, is_known, previous_hold: waited, is_given_up }) = arrival
        else {
            return false;
        };
        // A visitor with an id for one event alone cannot be recognised later.
        let is_placeholder = names.is_empty() || event.facts.ephemeral_id;
        if attempt > NO_ATTEMPTS || is_placeholder || !self.settings.is_for(event) {
            return false;
        }
        let until = event.received_at.checked_add(self.settings.identity_wait).ok();
        let until = until.filter(|at| *at > now && !is_given_up);
        let (why, due_at) = match until {
            // Held once at most: the events that it stayed behind came back before it, or never will.
            _ if is_known
                && waited.is_none()
                && self.state.identity_hold.is_behind(&names, seq) =>
            {
                (IdentityHoldReason::Behind, now)
            }
            Some(until) if !is_known => (IdentityHoldReason::Anonymous, until),
            _ => {
                self.count_waited(waited, is_known, is_given_up);
                return false;
            }
        };
        self.make_room(now);
        if !was_parked {
            self.state.progress.complete(seq, seq);
            if why == IdentityHoldReason::Anonymous {
                self.publish_hold(seq, "identity", due_at);
            }
        }
        self.state.identity_hold.insert(seq, names, why);
        self.state.park.push(ParkRequest { seq, due_at, attempt: NO_ATTEMPTS });
        self.schedule_settlement();
        self.wake_within(Duration::try_from(due_at.duration_since(now)).unwrap_or_default());
        true
    }

    /// Releases the oldest event unchanged if the most events are held.
    fn make_room(&mut self, now: Timestamp) {
        if self.state.identity_hold.events.len() >= self.settings.retry.parked_max
            && let Some(oldest) = self.state.identity_hold.give_up_oldest()
        {
            self.state.park.push(ParkRequest { seq: oldest, due_at: now, attempt: NO_ATTEMPTS });
            self.wake_within(Duration::ZERO);
        }
    }

    fn count_waited(&self, waited: Option<IdentityHoldReason>, is_known: bool, is_given_up: bool) {
        let result = match waited {
            _ if is_given_up => "crowded",
            Some(IdentityHoldReason::Anonymous | IdentityHoldReason::Released) if is_known => {
                "known"
            }
            Some(IdentityHoldReason::Anonymous) => "expired",
            _ => return,
        };
        let labels = &self.client.labels;
        let (site, destination) = (labels.site.clone(), labels.destination.clone());
        let labels = AttemptLabels { site, destination, result };
        self.client.metrics.identity_holds.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_frees_each_held_event_once_and_keeps_later_ones_behind() {
        let mut awaiting = IdentityHold::default();
        awaiting.insert(1, vec![7, 8], IdentityHoldReason::Anonymous);
        awaiting.insert(2, vec![8], IdentityHoldReason::Anonymous);
        awaiting.insert(3, vec![9], IdentityHoldReason::Anonymous);
        assert_eq!(awaiting.release(&[7, 70]), BTreeSet::from([1]));
        assert_eq!(awaiting.release(&[7]), BTreeSet::new(), "it is due already");
        assert!(awaiting.is_behind(&[7], 4) && !awaiting.is_behind(&[70], 4));
        assert!(!awaiting.is_behind(&[7], 1), "not behind itself");
        assert_eq!(awaiting.remove(1), Some(IdentityHoldReason::Released));
        assert!(!awaiting.is_behind(&[7], 4));
        assert_eq!(awaiting.release(&[8, 9]), BTreeSet::from([2, 3]));
    }

    #[test]
    fn give_up_oldest_releases_the_oldest_held_event() {
        let mut awaiting = IdentityHold::default();
        for seq in 1..=3 {
            awaiting.insert(seq, vec![seq], IdentityHoldReason::Anonymous);
        }
        awaiting.release(&[1]);
        assert_eq!(awaiting.give_up_oldest(), Some(2), "the first is due already");
        assert_eq!((awaiting.remove(2), awaiting.released_early.contains(&2)), (None, true));
        assert_eq!(awaiting.names.len(), 2);
    }
}

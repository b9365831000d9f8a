//! Events that wait until it is known who their visitor is (`identity_wait`): parked in the journal until
//! the visitor signs in, or the profile has an e-mail address or a telephone number, at the longest for
//! `identity_wait` from when they were received. Then they go, with what is known by then.
//!
//! Who becomes known is seen in the events that the worker reads anyway: any of a known visitor
//! releases what waits under one of the names that it shows, and steps behind that, so that events of
//! one visitor stay in their order. What is released is looked up anew, and releases in turn what
//! waits under its other names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use jiff::Timestamp;

use super::worker::Worker;
use crate::event::{Event, ProfileView};
use crate::journal::Parking;
use crate::metrics::AttemptLabels;
use crate::profile::{IdentityKind, identities};

/// The try of an event that was never tried.
const UNTRIED: u32 = 0;

/// Traits by which vendors know a person without a user id.
const CONTACTS: [&str; 2] = ["email", "phone"];

/// One of a visitor's names, as a hash: visitors that fall together only wake each other.
type NameHash = u64;

/// The events of one destination that wait, and by which names their visitors go.
#[derive(Debug, Default)]
pub(super) struct Awaiting {
    names: HashMap<NameHash, BTreeSet<u64>>,
    events: BTreeMap<u64, Waiting>,
    /// Those that had to make room: their time is up.
    given_up: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiting {
    names: Vec<NameHash>,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nobody knows its visitor.
    Anonymous,
    /// It is due at once, and its visitor's later events are to stay behind it.
    Released,
    /// It stays behind its visitor's earlier events, and is due as they are.
    Behind,
}

/// An event that comes in, or back.
pub(super) struct Arrival {
    names: Vec<NameHash>,
    is_known: bool,
    /// What it waited for until now.
    waited: Option<Why>,
    is_given_up: bool,
}

impl Awaiting {
    fn insert(&mut self, seq: u64, names: Vec<NameHash>, why: Why) {
        self.remove(seq);
        for name in &names {
            self.names.entry(*name).or_default().insert(seq);
        }
        self.events.insert(seq, Waiting { names, why });
    }

    /// An event is taken up again, or has ended.
    pub(super) fn remove(&mut self, seq: u64) -> Option<Why> {
        let Waiting { names, why } = self.events.remove(&seq)?;
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

    /// What waits under these names, but for what is due already. From now on it is.
    fn release(&mut self, names: &[NameHash]) -> BTreeSet<u64> {
        let under = names.iter().filter_map(|name| self.names.get(name)).flatten().copied();
        let mut released: BTreeSet<u64> = under.collect();
        released.retain(|seq| {
            let waiting = self.events.get_mut(seq).filter(|it| it.why == Why::Anonymous);
            waiting.map(|it| it.why = Why::Released).is_some()
        });
        released
    }

    /// Whether events of this visitor before this one are still to come back.
    fn is_behind(&self, names: &[NameHash], seq: u64) -> bool {
        let first = |name| self.names.get(name).and_then(BTreeSet::first);
        names.iter().filter_map(first).any(|first| *first < seq)
    }

    /// Gives the oldest event up that waits for its visitor.
    fn give_up_oldest(&mut self) -> Option<u64> {
        let mut events = self.events.iter();
        let (&seq, _) = events.find(|(_, waiting)| waiting.why == Why::Anonymous)?;
        self.remove(seq);
        self.given_up.insert(seq);
        Some(seq)
    }
}

/// The names by which the visitor of an event is known.
fn names(event: &Event) -> (Vec<NameHash>, bool) {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    let identities = identities(event);
    let has_user = identities.iter().any(|identity| identity.kind == IdentityKind::User);
    (identities.iter().map(|identity| hash.hash_one(identity)).collect(), has_user)
}

/// Whether a vendor could tell by the profile who it is.
fn is_somebody(view: &ProfileView) -> bool {
    let says = |key: &&str| view.traits.get(*key).and_then(serde_json::Value::as_str);
    view.user_id.is_some() || CONTACTS.iter().filter_map(says).any(|text| !text.trim().is_empty())
}

impl Worker {
    /// After a restart: an event that is parked untried for a later time waits for its visitor.
    pub(super) fn remember_awaiting(&mut self, event: &Event, seq: u64) {
        if !self.settings.hold_identity.is_zero() {
            self.state.awaiting.insert(seq, names(event).0, Why::Anonymous);
        }
    }

    /// Notes that an event comes in or back. If its visitor is known, what waited for that is taken up.
    pub(super) fn arrive(
        &mut self,
        seq: u64,
        event: &Event,
        view: &ProfileView,
        now: Timestamp,
    ) -> Option<Arrival> {
        if self.settings.hold_identity.is_zero() {
            return None;
        }
        let waited = self.state.awaiting.remove(seq);
        let is_given_up = self.state.awaiting.given_up.remove(&seq);
        let (names, has_user) = names(event);
        let is_known = has_user || is_somebody(view);
        if is_known {
            let due = |seq| Parking { seq, due_at: now, attempt: UNTRIED };
            let released = self.state.awaiting.release(&names);
            if !released.is_empty() {
                self.state.park.extend(released.into_iter().map(due));
                self.will_settle();
                self.look_again(Duration::ZERO);
            }
        }
        Some(Arrival { names, is_known, waited, is_given_up })
    }

    /// Whether the event waits, for its visitor to become known or for earlier ones of the same
    /// visitor. What has been tried does not.
    pub(super) fn awaits(
        &mut self,
        arrival: Option<Arrival>,
        (seq, event): (u64, &Event),
        (was_parked, attempt): (bool, u32),
        now: Timestamp,
    ) -> bool {
        let Some(Arrival { names, is_known, waited, is_given_up }) = arrival else { return false };
        // Who was given an id for one event alone is never met again.
        let is_placeholder = names.is_empty() || event.facts.passing;
        if attempt > UNTRIED || is_placeholder || !self.settings.is_for(event) {
            return false;
        }
        let until = event.received_at.checked_add(self.settings.hold_identity).ok();
        let until = until.filter(|at| *at > now && !is_given_up);
        let (why, due_at) = match until {
            // Once is enough: what it stayed behind came back before it, or will not come back.
            _ if is_known && waited.is_none() && self.state.awaiting.is_behind(&names, seq) => {
                (Why::Behind, now)
            }
            Some(until) if !is_known => (Why::Anonymous, until),
            _ => {
                self.count_waited(waited, is_known, is_given_up);
                return false;
            }
        };
        self.make_room(now);
        if !was_parked {
            self.state.progress.complete(seq, seq);
            if why == Why::Anonymous {
                self.tell_held(seq, "identity", due_at);
            }
        }
        self.state.awaiting.insert(seq, names, why);
        self.state.park.push(Parking { seq, due_at, attempt: UNTRIED });
        self.will_settle();
        self.look_again(Duration::try_from(due_at.duration_since(now)).unwrap_or_default());
        true
    }

    /// Where as many wait as may, the oldest goes as it is.
    fn make_room(&mut self, now: Timestamp) {
        if self.state.awaiting.events.len() >= self.settings.retry.parked_max
            && let Some(oldest) = self.state.awaiting.give_up_oldest()
        {
            self.state.park.push(Parking { seq: oldest, due_at: now, attempt: UNTRIED });
            self.look_again(Duration::ZERO);
        }
    }

    fn count_waited(&self, waited: Option<Why>, is_known: bool, is_given_up: bool) {
        let result = match waited {
            _ if is_given_up => "crowded",
            Some(Why::Anonymous | Why::Released) if is_known => "known",
            Some(Why::Anonymous) => "expired",
            _ => return,
        };
        let labels = &self.line.labels;
        let (site, destination) = (labels.site.clone(), labels.destination.clone());
        let labels = AttemptLabels { site, destination, result };
        self.line.metrics.identity_holds.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_under_a_name_is_released_once_and_holds_up_what_comes_behind_it() {
        let mut awaiting = Awaiting::default();
        awaiting.insert(1, vec![7, 8], Why::Anonymous);
        awaiting.insert(2, vec![8], Why::Anonymous);
        awaiting.insert(3, vec![9], Why::Anonymous);
        assert_eq!(awaiting.release(&[7, 70]), BTreeSet::from([1]));
        assert_eq!(awaiting.release(&[7]), BTreeSet::new(), "it is due already");
        assert!(awaiting.is_behind(&[7], 4) && !awaiting.is_behind(&[70], 4));
        assert!(!awaiting.is_behind(&[7], 1), "not behind itself");
        assert_eq!(awaiting.remove(1), Some(Why::Released));
        assert!(!awaiting.is_behind(&[7], 4));
        assert_eq!(awaiting.release(&[8, 9]), BTreeSet::from([2, 3]));
    }

    #[test]
    fn the_oldest_that_waits_makes_room() {
        let mut awaiting = Awaiting::default();
        for seq in 1..=3 {
            awaiting.insert(seq, vec![seq], Why::Anonymous);
        }
        awaiting.release(&[1]);
        assert_eq!(awaiting.give_up_oldest(), Some(2), "the first is due already");
        assert_eq!((awaiting.remove(2), awaiting.given_up.contains(&2)), (None, true));
        assert_eq!(awaiting.names.len(), 2);
    }
}

//! Reads of the store that are under way, so that whoever misses the same names at the same time waits
//! for one read: destinations that follow the same journal all meet an event within a moment.
//!
//! Who joins a read must not see less than a read of its own would show: only reads that began after the
//! latest published change are joined.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Identity;
use super::cache::Known;
use crate::journal::SiteId;

/// What a read found, sorted by identity.
pub(super) type Fetched = Arc<Vec<(Identity, Known)>>;

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<(SiteId, Identity), Flight>>);

#[derive(Clone, Debug)]
struct Flight {
    /// The latest change that was published before it began.
    epoch: u64,
    found: watch::Receiver<Option<Fetched>>,
}

/// What one looks for, shared out.
pub(super) struct Boarding<'f> {
    flights: &'f Flights,
    site: SiteId,
    /// What nobody is reading: to be read, and told of by [`Boarding::land`].
    pub(super) own: Vec<Identity>,
    found: watch::Sender<Option<Fetched>>,
    /// What others are reading.
    joined: Vec<(Identity, watch::Receiver<Option<Fetched>>)>,
}

impl Flights {
    /// Shares out what is to be read: what is not being read yet is the caller's.
    pub(super) fn board(&self, site: SiteId, wanted: Vec<Identity>, epoch: u64) -> Boarding<'_> {
        let (found, receiver) = watch::channel(None);
        let (mut own, mut joined) = (Vec::with_capacity(wanted.len()), Vec::new());
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for identity in wanted {
            let flight = || Flight { epoch, found: receiver.clone() };
            match flights.entry((site, identity.clone())) {
                Entry::Occupied(flown) if flown.get().epoch == epoch => {
                    joined.push((identity, flown.get().found.clone()));
                }
                Entry::Occupied(mut stale) => {
                    stale.insert(flight());
                    own.push(identity);
                }
                Entry::Vacant(free) => {
                    free.insert(flight());
                    own.push(identity);
                }
            }
        }
        Boarding { flights: self, site, own, found, joined }
    }
}

impl Boarding<'_> {
    /// Tells those who wait.
    pub(super) fn land(&self, fetched: Fetched) {
        self.found.send_replace(Some(fetched));
    }

    /// What the others found, and what is left because their read failed or was given up.
    pub(super) async fn others(&mut self) -> (Vec<(Identity, Known)>, Vec<Identity>) {
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for (identity, mut flight) in std::mem::take(&mut self.joined) {
            let landed = flight.wait_for(Option::is_some).await.map(|it| it.clone());
            let known = landed.ok().flatten().and_then(|fetched| {
                let index = fetched.binary_search_by(|(it, _)| it.cmp(&identity)).ok()?;
                Some(fetched.get(index)?.1.clone())
            });
            match known {
                Some(known) => found.push((identity, known)),
                None => left.push(identity),
            }
        }
        (found, left)
    }
}

/// Nobody joins a read that has ended, or that nobody goes on with.
impl Drop for Boarding<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = self.found.subscribe();
        for identity in self.own.drain(..) {
            if let Entry::Occupied(flight) = flights.entry((self.site, identity))
                && flight.get().found.same_channel(&ours)
            {
                flight.remove();
            }
        }
    }
}

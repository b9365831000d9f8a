//! Records changed profiles for tasks that act on them within moments. Nothing here is durable and
//! nothing waits: a change that is lost here is found by the periodic pass over all profiles.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{ProfileChanges, ProfileId};
use crate::journal::SiteId;

/// The profiles that changed since they were last taken, by site.
pub struct ChangedProfiles {
    /// The most profiles of a site: if there are more, none are returned.
    max_profiles: usize,
    people: Mutex<HashMap<SiteId, BTreeSet<ProfileId>>>,
    has_more: Notify,
}

impl ChangedProfiles {
    /// Creates an empty set that remembers at most `most` profiles of a site.
    pub fn new(most: usize) -> Self {
        Self { max_profiles: most, people: Mutex::default(), has_more: Notify::new() }
    }

    /// Waits until a profile changed.
    pub async fn wait(&self) {
        self.has_more.notified().await;
    }

    /// Returns and clears a site's changed profiles. Empty if there were more than are remembered.
    pub fn take(&self, site: SiteId) -> BTreeSet<ProfileId> {
        let people = self.people.lock().remove(&site);
        people.filter(|people| people.len() <= self.max_profiles).unwrap_or_default()
    }

    /// Returns true if no profile of the site is recorded.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_taken(&self, site: SiteId) -> bool {
        !self.people.lock().contains_key(&site)
    }

    /// Records the profiles of these changes.
    pub fn record_changes(&self, site: SiteId, changes: &ProfileChanges) {
        if changes.profiles.is_empty() && changes.counted.is_empty() {
            return;
        }
        let mut all = self.people.lock();
        let people = all.entry(site).or_default();
        for profile in changes.profiles.iter().chain(changes.counted.keys()) {
            // One more than `most` marks an overflow.
            if people.len() > self.max_profiles {
                break;
            }
            people.insert(*profile);
        }
        self.has_more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteId = SiteId(1);

    fn of(profiles: std::ops::Range<i64>) -> ProfileChanges {
        ProfileChanges { profiles: profiles.map(ProfileId).collect(), ..ProfileChanges::default() }
    }

    #[tokio::test]
    async fn changed_profiles_are_returned_once_and_none_on_overflow() {
        let changed = ChangedProfiles::new(4);
        changed.record_changes(SITE, &of(1..3));
        let counted = [(ProfileId(9), Default::default())].into();
        changed.record_changes(SITE, &ProfileChanges { counted, ..of(2..4) });
        changed.record_changes(SiteId(2), &of(5..6));
        changed.wait().await;
        let numbers = |site| changed.take(site).into_iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!((numbers(SITE), numbers(SiteId(2))), (vec![1, 2, 3, 9], vec![5]));
        assert!(numbers(SITE).is_empty());
        changed.record_changes(SITE, &of(1..4));
        changed.record_changes(SITE, &of(7..9));
        assert!(numbers(SITE).is_empty(), "of five none");
        changed.record_changes(SITE, &of(1..4));
        let counted = (1..5).map(|id| (ProfileId(id), Default::default())).collect();
        changed.record_changes(SITE, &ProfileChanges { counted, ..ProfileChanges::default() });
        assert_eq!(numbers(SITE), [1, 2, 3, 4], "who changes again takes no room");
    }
}

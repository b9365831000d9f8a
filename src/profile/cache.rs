//! The profiles in memory, in front of their store.
//!
//! A name and what is known of the profile it names are entries of their own, so that a change of a
//! profile is one entry, however many names it has.
//!
//! Coherence: what was read goes into the cache only if no change was published since before the
//! read, and publishing a change removes what it made stale; both under one lock. So nothing older
//! than a published change is ever seen.
//!
//! What is computed of a person's events is an entry of its own, read for mappings that ask for it.
//! Nearly every event changes somebody's: it is not removed but counted on, if the event is not in it
//! already, which its place in the journal says. So that events of other people do not keep it from
//! being remembered, changes of it are noted by groups of profiles.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;

use super::flights::Flights;
use super::{
    Agents, Changes, Counted, CounterStore, Identity, IdentityKind, OnTimeout, ProfileError,
    ProfileId, ProfileStore, Settings, Unseen, Update, identities,
};
use crate::event::{Computed, Event, ProfileView, Tally};
use crate::journal::SiteId;
use crate::metrics::{Metrics, ReasonLabels, ResultLabels};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Name(SiteId, Identity),
    Profile(ProfileId),
    Computed(ProfileId),
}

#[derive(Clone)]
enum Entry {
    /// The name is nobody's, which is worth remembering as well.
    Nobody,
    Names(ProfileId),
    Known(Arc<ProfileView>),
    /// As of an event of the journal.
    Computed(u64, Arc<Computed>),
}

pub(super) type Known = Option<(ProfileId, Arc<ProfileView>)>;

/// What is known of an event's visitor.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Who they are.
    pub view: Arc<ProfileView>,
    /// What is computed of their events, where it was asked for and there is a profile.
    pub computed: Option<Arc<Computed>>,
}

/// How many changes were published.
struct Epochs {
    known: u64,
    /// Of what is computed, by a profile's number modulo [`GROUPS`].
    computed: Vec<u64>,
}

/// Groups of profiles: more than change in the time of a read.
const GROUPS: usize = 4096;

/// Steps of removing visitors in one round, which bounds what the round costs the writer.
const EXPIRE_STEPS: usize = 10;

/// Bytes an entry costs besides its texts: the cache's own bookkeeping, the key, the allocations.
const ENTRY_BYTES: usize = 200;

/// A time and a profile.
type Place = (i64, ProfileId);

/// Before all.
const START: Place = (i64::MIN, ProfileId(0));

/// The profiles of one gateway.
pub struct Profiles {
    pub(super) store: Arc<dyn ProfileStore>,
    cache: Cache<Key, Entry>,
    epochs: RwLock<Epochs>,
    flights: Flights,
    timeout: Duration,
    on_timeout: OnTimeout,
    /// Where removing visitors goes on, and whether it has removed any since it began.
    expiring: Mutex<HashMap<SiteId, (Place, bool)>>,
    metrics: Arc<Metrics>,
    nobody: Arc<ProfileView>,
    agents: Arc<Agents>,
}

impl Profiles {
    /// Puts a cache in front of `store`.
    pub fn new(store: Arc<dyn ProfileStore>, settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let cache = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .time_to_idle(settings.cache_idle)
            .time_to_live(settings.cache_ttl)
            .weigher(weight)
            .build();
        let epochs = RwLock::new(Epochs { known: 0, computed: vec![0; GROUPS] });
        let (expiring, nobody) = (Mutex::default(), Arc::default());
        Self {
            store,
            cache,
            epochs,
            flights: Flights::default(),
            timeout: settings.timeout,
            on_timeout: settings.on_timeout,
            expiring,
            metrics,
            nobody,
            agents: Arc::default(),
        }
    }

    /// What is known of each event's visitor, by the surest of the event's identities that has a
    /// profile. Events of unknown visitors get an empty view.
    ///
    /// That takes `timeout` at most. What is not known by then is an error, or goes without, as the
    /// settings have it.
    pub async fn lookup(
        &self,
        site: SiteId,
        events: &[Arc<Event>],
        with_computed: bool,
    ) -> Result<Vec<Found>, ProfileError> {
        let wanted: Vec<Vec<Identity>> = events.iter().map(|event| identities(event)).collect();
        let found = self.of_identities(site, &wanted, with_computed);
        let error = match tokio::time::timeout(self.timeout, found).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error,
            Err(_elapsed) => ProfileError::Timeout,
        };
        let result = if matches!(error, ProfileError::Timeout) { "timeout" } else { "error" };
        self.metrics.profile_lookups.get_or_create(&ResultLabels { result }).inc();
        if self.on_timeout == OnTimeout::Wait {
            return Err(error);
        }
        tracing::warn!(%error, "events go without what is known of their visitors");
        Ok(wanted.iter().map(|identities| self.remembered(site, identities)).collect())
    }

    /// What the cache alone knows, if the store does not answer.
    fn remembered(&self, site: SiteId, identities: &[Identity]) -> Found {
        let known = self.cached(site, identities);
        if known.is_none() {
            self.metrics.events_unenriched.inc();
        }
        let Some((profile, view)) = known.flatten() else {
            return Found { view: self.nobody.clone(), computed: None };
        };
        let computed = match self.cache.get(&Key::Computed(profile)) {
            Some(Entry::Computed(_, computed)) => Some(computed),
            _ => None,
        };
        Found { view, computed }
    }

    /// What is known of whom each of these lists names, the surest first.
    async fn of_identities(
        &self,
        site: SiteId,
        wanted: &[Vec<Identity>],
        with_computed: bool,
    ) -> Result<Vec<Found>, ProfileError> {
        let mut missing = Vec::new();
        let mut views = Vec::with_capacity(wanted.len());
        for identities in wanted {
            let found = self.cached(site, identities);
            let result = if found.is_some() { "hit" } else { "miss" };
            self.metrics.profile_lookups.get_or_create(&ResultLabels { result }).inc();
            if found.is_none() {
                missing.extend(identities.iter().cloned());
            }
            views.push(found);
        }
        let fetched = self.fetch(site, missing).await?;
        let known = |identity: &Identity| {
            let index = fetched.binary_search_by(|(known, _)| known.cmp(identity)).ok()?;
            fetched.get(index)?.1.clone()
        };
        let complete = |(view, identities): (Option<Known>, &Vec<Identity>)| {
            view.unwrap_or_else(|| identities.iter().find_map(known))
        };
        let known: Vec<Known> = views.into_iter().zip(wanted).map(complete).collect();
        let computed = if with_computed {
            self.computed(site, known.iter().flatten().map(|(profile, _)| *profile)).await?
        } else {
            BTreeMap::new()
        };
        let found = |known: Known| match known {
            None => Found { view: self.nobody.clone(), computed: None },
            Some((profile, view)) => Found { view, computed: computed.get(&profile).cloned() },
        };
        Ok(known.into_iter().map(found).collect())
    }

    /// What is known of the visitor who has this id in the site's own cookie.
    pub async fn of_visitor(
        &self,
        site: SiteId,
        id: &str,
        with_computed: bool,
    ) -> Result<Found, ProfileError> {
        let identity = Identity::of(IdentityKind::Visitor, Some(id));
        let wanted = [identity.into_iter().collect()];
        let found = self.of_identities(site, &wanted, with_computed);
        Ok(found.await?.pop().unwrap_or_default())
    }

    /// What is computed of these people's events.
    async fn computed(
        &self,
        site: SiteId,
        profiles: impl Iterator<Item = ProfileId>,
    ) -> Result<BTreeMap<ProfileId, Arc<Computed>>, ProfileError> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for profile in profiles {
            match self.cache.get(&Key::Computed(profile)) {
                _ if found.contains_key(&profile) || missing.contains(&profile) => {}
                Some(Entry::Computed(_, computed)) => drop(found.insert(profile, computed)),
                _ => missing.push(profile),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let group_epochs = |epochs: &Epochs| -> Vec<Option<u64>> {
            missing.iter().map(|it| epochs.computed.get(group(*it)).copied()).collect()
        };
        let before = group_epochs(&self.epochs.read().unwrap_or_else(PoisonError::into_inner));
        let (upto, computed) = self.store.computed(site, missing.clone()).await?;
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        let now = group_epochs(&epochs);
        for (((profile, computed), before), now) in
            missing.iter().zip(computed).zip(before).zip(now)
        {
            let Some(computed) = computed.map(Arc::new) else { continue };
            if before == now {
                let entry = Entry::Computed(upto, computed.clone());
                self.cache.insert(Key::Computed(*profile), entry);
            }
            found.insert(*profile, computed);
        }
        Ok(found)
    }

    /// Applies updates to the store and forgets what they changed.
    pub async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<Update>,
    ) -> Result<(), ProfileError> {
        let changes = self.store.apply(site, upto, updates).await?;
        for (reason, count) in [
            ("traits", changes.traits_refused),
            ("identities", changes.identities_refused),
            ("event_names", changes.names_refused),
        ] {
            if count > 0 {
                self.metrics.profile_refused.get_or_create(&ReasonLabels { reason }).inc_by(count);
            }
        }
        self.publish(site, upto, changes);
        Ok(())
    }

    /// Removes some of the visitors nobody knows who were not seen since then.
    pub async fn expire(&self, site: SiteId, since: Timestamp) -> Result<(), ProfileError> {
        let since = since.as_millisecond();
        let expiring = || self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut after, mut has_removed) = expiring().get(&site).copied().unwrap_or((START, false));
        for _ in 0..EXPIRE_STEPS {
            let expired = self.store.expire(site, Unseen { since, after }).await?;
            has_removed |= !expired.changes.profiles.is_empty();
            self.publish(site, 0, expired.changes);
            let Some(next) = expired.next else {
                if has_removed {
                    self.store.forget_names(site).await?;
                }
                (after, has_removed) = (START, false);
                break;
            };
            after = next;
        }
        expiring().insert(site, (after, has_removed));
        Ok(())
    }

    /// Makes known what changed with the events up to `upto`.
    pub(super) fn publish(&self, site: SiteId, upto: u64, changes: Changes) {
        let is_known = changes.identities.is_empty() && changes.profiles.is_empty();
        if is_known && changes.counted.is_empty() {
            return;
        }
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        epochs.known += u64::from(!is_known);
        for identity in changes.identities {
            self.cache.invalidate(&Key::Name(site, identity));
        }
        for profile in &changes.profiles {
            epochs.change(*profile);
            self.cache.invalidate(&Key::Profile(*profile));
            self.cache.invalidate(&Key::Computed(*profile));
        }
        self.count_on(&mut epochs, upto, changes.counted);
    }

    /// Counts on in what is remembered.
    fn count_on(&self, epochs: &mut Epochs, upto: u64, counted: Counted) {
        for (profile, tallies) in counted {
            epochs.change(profile);
            let key = Key::Computed(profile);
            let Some(Entry::Computed(at, mut computed)) = self.cache.get(&key) else { continue };
            if at < upto {
                add(&mut Arc::make_mut(&mut computed).activity, tallies);
                self.cache.insert(key, Entry::Computed(upto, computed));
            }
        }
    }

    /// After how long without the store events are delivered all the same; `None` if they wait for it.
    pub(super) fn patience(&self) -> Option<Duration> {
        (self.on_timeout == OnTimeout::Deliver).then_some(self.timeout)
    }

    /// What reads user agents.
    pub fn agents(&self) -> &Arc<Agents> {
        &self.agents
    }

    /// Where counters begin and how far they are filled, if the store notes it.
    pub fn counters(&self) -> Option<&dyn CounterStore> {
        self.store.counters()
    }

    /// Forgets everything: the store has changed in a way that nobody heard of.
    pub(super) fn forget(&self) {
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        epochs.known += 1;
        epochs.change_all();
        self.cache.invalidate_all();
    }

    /// The last event of the site that is in the profiles.
    pub async fn projected(&self, site: SiteId) -> Result<u64, ProfileError> {
        self.store.projected(site).await
    }

    /// The view, if the cache alone can tell: every identity before the first that has a profile
    /// is known to have none.
    fn cached(&self, site: SiteId, identities: &[Identity]) -> Option<Known> {
        for identity in identities {
            if let Entry::Names(profile) = self.cache.get(&Key::Name(site, identity.clone()))? {
                return match self.cache.get(&Key::Profile(profile)) {
                    Some(Entry::Known(view)) => Some(Some((profile, view))),
                    _ => None,
                };
            }
        }
        Some(None)
    }

    /// Reads from the store into the cache. Sorted by identity.
    async fn fetch(
        &self,
        site: SiteId,
        mut identities: Vec<Identity>,
    ) -> Result<Vec<(Identity, Known)>, ProfileError> {
        identities.sort();
        identities.dedup();
        if identities.is_empty() {
            return Ok(Vec::new());
        }
        let epoch = self.epochs.read().unwrap_or_else(PoisonError::into_inner).known;
        let mut boarding = self.flights.board(site, identities, epoch);
        let mut fetched = Vec::new();
        if !boarding.own.is_empty() {
            fetched = self.read(site, boarding.own.clone(), epoch).await?;
            boarding.land(Arc::new(fetched.clone()));
        }
        let (others, left) = boarding.others().await;
        drop(boarding);
        fetched.extend(others);
        if !left.is_empty() {
            fetched.extend(self.read(site, left, epoch).await?);
        }
        fetched.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(fetched)
    }

    /// Reads from the store into the cache, if no change was published since this epoch. In the order
    /// of the identities.
    async fn read(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
        epoch: u64,
    ) -> Result<Vec<(Identity, Known)>, ProfileError> {
        let found = self.store.find(site, identities.clone()).await?;
        let found = found.into_iter().map(|found| found.map(|(id, view)| (id, Arc::new(view))));
        let fetched: Vec<_> = identities.into_iter().zip(found).collect();
        let now = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        if now.known == epoch {
            for (identity, found) in &fetched {
                let entry = match found {
                    Some((profile, view)) => {
                        self.cache.insert(Key::Profile(*profile), Entry::Known(view.clone()));
                        Entry::Names(*profile)
                    }
                    None => Entry::Nobody,
                };
                self.cache.insert(Key::Name(site, identity.clone()), entry);
            }
        }
        drop(now);
        Ok(fetched)
    }
}

impl Epochs {
    fn change_all(&mut self) {
        self.computed.iter_mut().for_each(|epoch| *epoch += 1);
    }

    fn change(&mut self, profile: ProfileId) {
        if let Some(epoch) = self.computed.get_mut(group(profile)) {
            *epoch += 1;
        }
    }
}

fn group(profile: ProfileId) -> usize {
    // The numbers are counted up, so that neighbours fall into different groups.
    usize::try_from(profile.0.unsigned_abs()).unwrap_or_default() % GROUPS
}

fn add(activity: &mut BTreeMap<String, Tally>, tallies: BTreeMap<String, Tally>) {
    for (name, tally) in tallies {
        match activity.get_mut(&name) {
            Some(known) => known.add(tally),
            None => drop(activity.insert(name, tally)),
        }
    }
}

fn weight(key: &Key, entry: &Entry) -> u32 {
    let name = match key {
        Key::Name(_, identity) => identity.value.len(),
        Key::Profile(_) | Key::Computed(_) => 0,
    };
    let known = match entry {
        Entry::Nobody | Entry::Names(_) => 0,
        Entry::Computed(_, computed) => {
            let Computed { touches, device, place, consent, group_id, activity, .. } = &**computed;
            let objects = [touches, device, place, consent].into_iter().flatten();
            let group = group_id.as_ref().map_or(0, String::len);
            // A tally has 32 bytes.
            let activity = activity.keys().map(|name| 96 + name.len()).sum::<usize>();
            group + activity + objects.map(|(key, value)| entry_bytes(key, value)).sum::<usize>()
        }
        Entry::Known(view) => {
            let user = view.user_id.as_ref().map_or(0, String::len);
            user + view.traits.iter().map(|(key, value)| entry_bytes(key, value)).sum::<usize>()
        }
    };
    u32::try_from(ENTRY_BYTES + name + known).unwrap_or(u32::MAX)
}

/// A tree's size, roughly: 64 bytes of structure an entry, 24 a value, and the texts.
fn entry_bytes(key: &str, value: &serde_json::Value) -> usize {
    64 + key.len() + value_bytes(value)
}

fn value_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    24 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| entry_bytes(key, value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::profile::Limits;

    const SITE: SiteId = SiteId(1);
    const ORDER: Tally = Tally::one(5, 2.0);

    /// One profile, which every identity names, and reads that end when they may.
    struct Slow {
        plan: Mutex<&'static str>,
        done: Mutex<(u64, Tally)>,
        may_end: Semaphore,
        reads: AtomicUsize,
    }

    #[async_trait]
    impl ProfileStore for Slow {
        async fn projected(&self, _site: SiteId) -> Result<u64, ProfileError> {
            Ok(0)
        }

        async fn apply(
            &self,
            _site: SiteId,
            upto: u64,
            updates: Vec<Update>,
        ) -> Result<Changes, ProfileError> {
            if updates.iter().any(|update| update.sighting.is_some()) {
                let mut done = self.done.lock().unwrap();
                *done = (upto, done.1.and(ORDER));
                let counted = BTreeMap::from([("Order".to_owned(), ORDER)]);
                let counted = Counted::from([(ProfileId(1), counted)]);
                return Ok(Changes { counted, ..Changes::default() });
            }
            *self.plan.lock().unwrap() = "pro";
            Ok(Changes { profiles: [ProfileId(1)].into(), ..Changes::default() })
        }

        async fn find(
            &self,
            _site: SiteId,
            identities: Vec<Identity>,
        ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let traits = serde_json::json!({"plan": *self.plan.lock().unwrap()});
            let traits = traits.as_object().unwrap().clone();
            self.may_end.acquire().await.unwrap().forget();
            let view = ProfileView { user_id: Some("u".into()), traits };
            Ok(identities.iter().map(|_| Some((ProfileId(1), view.clone()))).collect())
        }

        async fn computed(
            &self,
            _site: SiteId,
            profiles: Vec<ProfileId>,
        ) -> Result<crate::profile::ComputedAt, ProfileError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            // As it is now, whatever is written until the read ends.
            let (upto, tally) = *self.done.lock().unwrap();
            self.may_end.acquire().await.unwrap().forget();
            let activity = BTreeMap::from([("Order".to_owned(), tally)]);
            let computed = Computed { activity, ..Computed::default() };
            Ok((upto, profiles.iter().map(|_| Some(computed.clone())).collect()))
        }

        async fn expire(
            &self,
            _site: SiteId,
            _unseen: Unseen,
        ) -> Result<crate::profile::Expired, ProfileError> {
            Ok(crate::profile::Expired::default())
        }

        async fn forget_names(&self, _site: SiteId) -> Result<(), ProfileError> {
            Ok(())
        }

        async fn subjects(
            &self,
            _site: SiteId,
            _name: String,
        ) -> Result<Vec<crate::profile::Subject>, ProfileError> {
            Ok(Vec::new())
        }

        async fn erase(
            &self,
            _site: SiteId,
            _names: Arc<std::collections::HashSet<crate::journal::NameKey>>,
        ) -> Result<Changes, ProfileError> {
            Ok(Changes::default())
        }
    }

    fn bench() -> (Arc<Slow>, Profiles) {
        bench_with(|_| ())
    }

    fn bench_with(set: fn(&mut Settings)) -> (Arc<Slow>, Profiles) {
        let (plan, may_end) = (Mutex::new("free"), Semaphore::new(0));
        let done = Mutex::new((0, ORDER));
        let store = Arc::new(Slow { plan, done, may_end, reads: AtomicUsize::new(0) });
        let limits = Limits { traits_bytes: 1000, identities: 10, event_names: 10 };
        let mut settings = Settings::small(limits);
        set(&mut settings);
        let profiles = Profiles::new(store.clone(), &settings, Arc::new(Metrics::new()));
        (store, profiles)
    }

    fn event_of(user: &str) -> Arc<Event> {
        let event = serde_json::from_value(serde_json::json!({
            "type": "track", "messageId": "m", "userId": user,
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        }));
        Arc::new(event.unwrap())
    }

    async fn plan_of(profiles: &Profiles, user: &str) -> String {
        let found = profiles.lookup(SITE, &[event_of(user)], false).await.unwrap();
        found[0].view.traits["plan"].as_str().unwrap().to_owned()
    }

    /// How many orders are known of somebody.
    async fn orders(profiles: &Profiles) -> u64 {
        let found = profiles.computed(SITE, [ProfileId(1)].into_iter()).await.unwrap();
        found[&ProfileId(1)].activity["Order"].count
    }

    async fn order(profiles: &Profiles, upto: u64) {
        let sighting = Some(crate::profile::Sighting::default());
        profiles.apply(SITE, upto, vec![Update { sighting, ..Update::default() }]).await.unwrap();
    }

    fn count(profiles: &Profiles, result: &'static str) -> u64 {
        profiles.metrics.profile_lookups.get_or_create(&ResultLabels { result }).get()
    }

    #[tokio::test]
    async fn who_asks_for_the_same_at_the_same_time_waits_for_one_read() {
        let (store, profiles) = bench();
        let open = async { store.may_end.add_permits(1) };
        let (one, two, ()) = tokio::join!(plan_of(&profiles, "u"), plan_of(&profiles, "u"), open);
        assert_eq!((one.as_str(), two.as_str()), ("free", "free"));
        assert_eq!(store.reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_asks_after_a_change_does_not_wait_for_a_read_from_before_it() {
        let (store, profiles) = bench();
        let later = async {
            profiles.apply(SITE, 1, vec![Update::default()]).await.unwrap();
            let ask = plan_of(&profiles, "u");
            let open = async { store.may_end.add_permits(2) };
            tokio::join!(ask, open).0
        };
        let (before, after) = tokio::join!(plan_of(&profiles, "u"), later);
        assert_eq!((before.as_str(), after.as_str()), ("free", "pro"));
        assert_eq!(store.reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_read_that_is_given_up_reads_themselves() {
        let (store, profiles) = bench();
        let first = tokio::time::timeout(Duration::from_secs(1), plan_of(&profiles, "u"));
        let open = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            store.may_end.add_permits(1);
        };
        let (first, second, ()) = tokio::join!(first, plan_of(&profiles, "u"), open);
        assert!(first.is_err());
        assert_eq!(second, "free");
        assert_eq!(store.reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_stops_events_or_lets_them_go_without() {
        let (_store, profiles) = bench();
        let waits = profiles.lookup(SITE, &[event_of("u")], false).await;
        assert!(matches!(waits, Err(ProfileError::Timeout)));
        assert_eq!((count(&profiles, "timeout"), profiles.metrics.events_unenriched.get()), (1, 0));

        let (store, profiles) = bench_with(|it| it.on_timeout = OnTimeout::Deliver);
        store.may_end.add_permits(1);
        assert_eq!(plan_of(&profiles, "known").await, "free");
        let events = [event_of("u"), event_of("known")];
        let found = profiles.lookup(SITE, &events, false).await.unwrap();
        assert!(found[0].view.traits.is_empty());
        assert_eq!(found[1].view.traits["plan"], "free", "what is in memory is known");
        assert_eq!((count(&profiles, "timeout"), profiles.metrics.events_unenriched.get()), (1, 1));
    }

    #[tokio::test]
    async fn what_is_counted_is_counted_on_in_memory_and_never_twice() {
        let (store, profiles) = bench();
        store.may_end.add_permits(1);
        assert_eq!(orders(&profiles).await, 1);
        for upto in 1..=3 {
            order(&profiles, upto).await;
            assert_eq!(orders(&profiles).await, 1 + upto);
        }
        assert_eq!(store.reads.load(Ordering::Relaxed), 1);
        // Written before it is read, made known after.
        let changes = store.apply(
            SITE,
            4,
            vec![Update {
                sighting: Some(crate::profile::Sighting::default()),
                ..Update::default()
            }],
        );
        let changes = changes.await.unwrap();
        profiles.cache.invalidate_all();
        store.may_end.add_permits(1);
        assert_eq!(orders(&profiles).await, 5);
        profiles.publish(SITE, 4, changes);
        assert_eq!(orders(&profiles).await, 5, "it was in what was read");
    }

    #[tokio::test]
    async fn what_was_counted_during_a_read_is_not_missed_after_it() {
        let (store, profiles) = bench();
        let change = async {
            order(&profiles, 1).await;
            store.may_end.add_permits(2);
        };
        let (before, ()) = tokio::join!(orders(&profiles), change);
        assert_eq!(before, 1, "this lookup began before");
        assert_eq!(orders(&profiles).await, 2);
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (store, profiles) = bench();
        let change = async {
            profiles.apply(SITE, 1, Vec::new()).await.unwrap();
            store.may_end.add_permits(2);
        };
        let (plan, ()) = tokio::join!(plan_of(&profiles, "u"), change);
        assert_eq!(plan, "free", "this lookup began before");
        assert_eq!(plan_of(&profiles, "u").await, "pro");
    }

    #[tokio::test]
    async fn a_change_of_a_profile_reaches_all_its_names() {
        let (store, profiles) = bench();
        store.may_end.add_permits(4);
        for name in ["a", "b", "a"] {
            assert_eq!(plan_of(&profiles, name).await, "free");
        }
        assert_eq!(store.reads.load(Ordering::Relaxed), 2, "the third was remembered");
        profiles.apply(SITE, 1, Vec::new()).await.unwrap();
        for name in ["a", "b"] {
            assert_eq!(plan_of(&profiles, name).await, "pro");
        }
        assert_eq!(store.reads.load(Ordering::Relaxed), 3, "and read again once");
    }
}

//! Tests of lookups while profiles change, and while the store is slow.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::profile::{ActivityCounts, ProfileId, ProfileLimits};
use tagway_core::event::EventTally;

const SITE: SiteId = SiteId(1);
const ORDER: EventTally = EventTally::single(5, 2.0);

/// A store with one profile, which every identity names; its reads end when the test permits.
struct SlowProfileStore {
    plan: Mutex<&'static str>,
    done: Mutex<(u64, EventTally)>,
    may_end: Semaphore,
    reads: AtomicUsize,
}

#[async_trait]
impl ProfileStore for SlowProfileStore {
    async fn projected_seq(&self, _site: SiteId) -> Result<u64, ProfileError> {
        Ok(0)
    }

    async fn apply(
        &self,
        _site: SiteId,
        upto: u64,
        updates: Vec<ProfileUpdate>,
    ) -> Result<ProfileChanges, ProfileError> {
        if updates.iter().any(|update| update.activity.is_some()) {
            let mut done = self.done.lock();
            *done = (upto, done.1.combine(ORDER));
            let counted = BTreeMap::from([("Order".to_owned(), ORDER)]);
            let counted = ActivityCounts::from([(ProfileId(1), counted)]);
            return Ok(ProfileChanges { counted, ..ProfileChanges::default() });
        }
        *self.plan.lock() = "pro";
        Ok(ProfileChanges { profiles: [ProfileId(1)].into(), ..ProfileChanges::default() })
    }

    async fn find(
        &self,
        _site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let traits = serde_json::json!({"plan": *self.plan.lock()});
        let traits = traits.as_object().unwrap().clone();
        self.may_end.acquire().await.unwrap().forget();
        let view = ProfileView { user_id: Some("u".into()), traits };
        Ok(identities.iter().map(|_| Some((ProfileId(1), view.clone()))).collect())
    }

    async fn find_page_profile(
        &self,
        _site: SiteId,
        _id: String,
    ) -> Result<Option<PageProfile>, ProfileError> {
        unimplemented!("no test asks for it")
    }

    async fn computed(
        &self,
        _site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<crate::profile::ComputedSnapshot, ProfileError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // The state at the start of the read, whatever is written until it ends.
        let (upto, tally) = *self.done.lock();
        self.may_end.acquire().await.unwrap().forget();
        let activity = BTreeMap::from([("Order".to_owned(), tally)]);
        let computed = ComputedAttributes { activity, ..ComputedAttributes::default() };
        let computed = profiles.iter().map(|_| Some(computed.clone())).collect();
        Ok(crate::profile::ComputedSnapshot { upto, computed })
    }

    async fn expire(
        &self,
        _site: SiteId,
        _unseen: ExpiryRequest,
    ) -> Result<crate::profile::ExpiryOutcome, ProfileError> {
        Ok(crate::profile::ExpiryOutcome::default())
    }

    async fn counted_names(
        &self,
        site: SiteId,
        names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError> {
        let _site = site;
        Ok(names)
    }

    async fn forget_names(&self, _site: SiteId) -> Result<(), ProfileError> {
        Ok(())
    }

    async fn subjects(
        &self,
        _site: SiteId,
        _name: String,
    ) -> Result<Vec<crate::profile::SubjectProfile>, ProfileError> {
        Ok(Vec::new())
    }

    async fn search(
        &self,
        site: SiteId,
        search: ProfileSearch,
    ) -> Result<ProfilePage, ProfileError> {
        let _unused = (site, search);
        Ok(ProfilePage::default())
    }

    async fn erase(
        &self,
        _site: SiteId,
        _names: Arc<std::collections::HashSet<crate::journal::PersonNameDigest>>,
    ) -> Result<ProfileChanges, ProfileError> {
        Ok(ProfileChanges::default())
    }
}

fn bench() -> (Arc<SlowProfileStore>, ProfileService) {
    bench_with(|_| ())
}

fn bench_with(set: fn(&mut ProfileSettings)) -> (Arc<SlowProfileStore>, ProfileService) {
    let (plan, may_end) = (Mutex::new("free"), Semaphore::new(0));
    let done = Mutex::new((0, ORDER));
    let store = Arc::new(SlowProfileStore { plan, done, may_end, reads: AtomicUsize::new(0) });
    let limits = ProfileLimits::new(1000, 10, 10);
    let mut settings = ProfileSettings::small(limits);
    set(&mut settings);
    let profiles =
        ProfileService::new(store.clone(), &settings, Arc::new(Metrics::new()), Handle::current());
    (store, profiles)
}

fn event_of(user: &str) -> Arc<Event> {
    let event = serde_json::from_value(serde_json::json!({
        "type": "track", "messageId": "m", "userId": user,
        "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
    }));
    Arc::new(event.unwrap())
}

async fn plan_of(profiles: &ProfileService, user: &str) -> String {
    let found = profiles.lookup(SITE, &[event_of(user)], false).await.unwrap();
    found[0].view.traits["plan"].as_str().unwrap().to_owned()
}

/// Returns the number of orders of profile 1.
async fn orders(profiles: &ProfileService) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(3600);
    let found = profiles.cache.computed(SITE, [ProfileId(1)].into(), deadline).await.unwrap();
    found[&ProfileId(1)].activity["Order"].count
}

async fn order(profiles: &ProfileService, upto: u64) {
    let activity = Some(crate::profile::Activity::default());
    profiles
        .apply(SITE, upto, vec![ProfileUpdate { activity, ..ProfileUpdate::default() }])
        .await
        .unwrap();
}

/// Waits until this many reads have begun.
async fn begun(store: &SlowProfileStore, reads: usize) {
    while store.reads.load(Ordering::Relaxed) < reads {
        tokio::task::yield_now().await;
    }
}

fn count(profiles: &ProfileService, result: &'static str) -> u64 {
    profiles.metrics.profile_lookups.get_or_create(&ResultLabels { result }).get()
}

#[tokio::test]
async fn lookups_of_one_key_share_one_read() {
    let (store, profiles) = bench();
    let open = async { store.may_end.add_permits(1) };
    let (one, two, ()) = tokio::join!(plan_of(&profiles, "u"), plan_of(&profiles, "u"), open);
    assert_eq!((one.as_str(), two.as_str()), ("free", "free"));
    assert_eq!(store.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn lookup_after_a_change_does_not_join_an_older_read() {
    let (store, profiles) = bench();
    let later = async {
        begun(&store, 1).await;
        profiles.apply(SITE, 1, vec![ProfileUpdate::default()]).await.unwrap();
        let ask = plan_of(&profiles, "u");
        let open = async { store.may_end.add_permits(2) };
        tokio::join!(ask, open).0
    };
    let (before, after) = tokio::join!(plan_of(&profiles, "u"), later);
    assert_eq!((before.as_str(), after.as_str()), ("free", "pro"));
    assert_eq!(store.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn read_continues_after_its_first_waiter_gave_up() {
    let (store, profiles) = bench();
    let first = tokio::time::timeout(Duration::from_secs(1), plan_of(&profiles, "u"));
    let open = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        store.may_end.add_permits(1);
    };
    let (first, second, ()) = tokio::join!(first, plan_of(&profiles, "u"), open);
    assert!(first.is_err());
    assert_eq!(second, "free");
    assert_eq!(store.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn store_slower_than_the_timeout_still_fills_the_cache() {
    let (store, profiles) = bench_with(|it| it.timeout = Duration::from_secs(2));
    let events = [event_of("u")];
    let opened = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Another profile changes meanwhile, which does not affect this one.
        let profiles_changed = [ProfileId(2)].into();
        let changes = ProfileChanges { profiles: profiles_changed, ..ProfileChanges::default() };
        profiles.publish(SITE, 1, changes);
        store.may_end.add_permits(1);
    };
    let asked = async {
        let first = profiles.lookup(SITE, &events, false).await;
        assert!(matches!(first, Err(ProfileError::Timeout)));
        plan_of(&profiles, "u").await
    };
    assert_eq!(tokio::join!(asked, opened).0, "free");
    assert_eq!(plan_of(&profiles, "u").await, "free");
    assert_eq!(store.reads.load(Ordering::Relaxed), 1, "the second joined it, the third is a hit");
}

#[tokio::test(start_paused = true)]
async fn slow_reads_of_computed_attributes_are_shared() {
    let (store, profiles) = bench();
    let patience = Duration::from_secs(1);
    assert!(tokio::time::timeout(patience, orders(&profiles)).await.is_err());
    let open = async { store.may_end.add_permits(1) };
    let (one, two, ()) = tokio::join!(orders(&profiles), orders(&profiles), open);
    assert_eq!((one, two), (1, 1));
    assert_eq!(orders(&profiles).await, 1);
    assert_eq!(store.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn concurrent_reads_are_bounded() {
    let (store, profiles) = bench_with(|it| it.max_concurrent_lookups = 2);
    let all = async { tokio::join!(plan_of(&profiles, "a"), plan_of(&profiles, "b")) };
    let third = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        plan_of(&profiles, "c").await
    };
    let open = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(store.reads.load(Ordering::Relaxed), 2);
        store.may_end.add_permits(3);
    };
    tokio::join!(all, third, open);
    assert_eq!(store.reads.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn reads_in_flight_end_with_the_gateway() {
    let (_store, profiles) = bench();
    let events = [event_of("u")];
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        profiles.stop().await;
    };
    let (found, ()) = tokio::join!(profiles.lookup(SITE, &events, false), stop);
    assert!(matches!(found, Err(ProfileError::Ended)));
    let later = profiles.lookup(SITE, &events, false).await;
    assert!(matches!(later, Err(ProfileError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn unresponsive_store_fails_lookups_or_delivers_events_without_profiles() {
    let (_store, profiles) = bench();
    let waits = profiles.lookup(SITE, &[event_of("u")], false).await;
    assert!(matches!(waits, Err(ProfileError::Timeout)));
    assert_eq!((count(&profiles, "timeout"), profiles.metrics.events_unenriched.get()), (1, 0));

    let (store, profiles) = bench_with(|it| {
        it.on_timeout = LookupTimeoutPolicy::Deliver;
        it.cache_ttl = 2 * it.timeout;
    });
    store.may_end.add_permits(1);
    assert_eq!(plan_of(&profiles, "known").await, "free");
    let events = [event_of("u"), event_of("known")];
    let found = profiles.lookup(SITE, &events, false).await.unwrap();
    assert!(found[0].view.traits.is_empty());
    assert_eq!(found[1].view.traits["plan"], "free", "what is in memory is known");
    assert_eq!((count(&profiles, "timeout"), profiles.metrics.events_unenriched.get()), (1, 1));
}

#[tokio::test]
async fn counts_are_added_to_the_cache_and_never_twice() {
    let (store, profiles) = bench();
    store.may_end.add_permits(1);
    assert_eq!(orders(&profiles).await, 1);
    for upto in 1..=3 {
        order(&profiles, upto).await;
        assert_eq!(orders(&profiles).await, 1 + upto);
    }
    assert_eq!(store.reads.load(Ordering::Relaxed), 1);
    // Written before it is read, published after.
    let changes = store.apply(
        SITE,
        4,
        vec![ProfileUpdate {
            activity: Some(crate::profile::Activity::default()),
            ..ProfileUpdate::default()
        }],
    );
    let changes = changes.await.unwrap();
    profiles.forget();
    store.may_end.add_permits(1);
    assert_eq!(orders(&profiles).await, 5);
    profiles.publish(SITE, 4, changes);
    assert_eq!(orders(&profiles).await, 5, "it was in what was read");
}

#[tokio::test]
async fn event_counted_during_a_read_is_included_after_it() {
    let (store, profiles) = bench();
    let change = async {
        begun(&store, 1).await;
        order(&profiles, 1).await;
        store.may_end.add_permits(2);
    };
    let (before, ()) = tokio::join!(orders(&profiles), change);
    assert_eq!(before, 1, "this lookup began before");
    assert_eq!(orders(&profiles).await, 2);
}

#[tokio::test]
async fn value_read_before_a_change_is_not_cached_after_it() {
    let (store, profiles) = bench();
    let change = async {
        begun(&store, 1).await;
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

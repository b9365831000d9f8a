//! Tests of external traits, from sources of all kinds: quick, slow, refusing, unreachable.

mod http;
mod redis;
mod redis_server;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::template::LookupTemplate;
use super::*;
use crate::journal::SiteId;
use crate::profile::{
    LookupTimeoutPolicy, ProfileError, ProfileLimits, ProfileService, ProfileSettings,
    SqliteProfileStore, update_of,
};
use crate::store::{CommitSyncMode, SqliteStore as Database};
use tagway_settings::test_support;

const SITE: SiteId = SiteId(1);
const SECOND: Duration = Duration::from_secs(1);

/// The behaviour of the test source's next calls.
#[derive(Clone, Copy, PartialEq)]
enum FakeSourceMode {
    Well,
    Down,
    Hanging,
    /// Answers, except for one person.
    WellBut(&'static str),
}

/// A source that counts its calls.
struct FakeTraitClient {
    people: Mutex<HashMap<String, TraitReply>>,
    mode: Mutex<FakeSourceMode>,
    calls: AtomicUsize,
    takes: Duration,
}

#[async_trait]
impl TraitClient for FakeTraitClient {
    fn max_batch_keys(&self) -> usize {
        1
    }

    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<TraitReply>, TraitSourceError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mode.lock();
        tokio::time::sleep(self.takes).await;
        match mood {
            FakeSourceMode::WellBut(whom) if keys.iter().any(|key| **key == *whom) => {
                return Err(TraitSourceError::Status(500));
            }
            FakeSourceMode::Down => return Err(TraitSourceError::Status(503)),
            FakeSourceMode::Hanging => std::future::pending().await,
            FakeSourceMode::Well | FakeSourceMode::WellBut(_) => {}
        }
        let people = self.people.lock();
        let answer = |key: &Arc<str>| people.get(&**key).cloned().unwrap_or(TraitReply::Unknown);
        Ok(keys.iter().map(answer).collect())
    }
}

impl FakeTraitClient {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn set_traits(&self, user: &str, plan: &str) {
        let traits = json!({ "plan": plan }).as_object().unwrap().clone();
        self.people.lock().insert(user.to_owned(), TraitReply::Known(traits));
    }

    fn set_mode(&self, mood: FakeSourceMode) {
        *self.mode.lock() = mood;
    }
}

/// An empty profile store, and a site's source.
struct TraitSourceTestBed {
    profiles: ProfileService,
    _folder: tempfile::TempDir,
}

impl TraitSourceTestBed {
    fn new(on_timeout: LookupTimeoutPolicy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let schemas = [crate::profile::MIGRATIONS];
        let store =
            Database::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone()).unwrap();
        let limits = ProfileLimits::new(1000, 10, 10);
        let settings = ProfileSettings { on_timeout, ..ProfileSettings::small(limits) };
        let store = Arc::new(SqliteProfileStore::new(Arc::new(store), limits));
        let profiles = ProfileService::new(store, &settings, metrics, Handle::current());
        Self { profiles, _folder: folder }
    }

    fn with(self, text: &str) -> Self {
        let settings = settings(text);
        self.profiles.set_source(SITE, &"shop".into(), Some(&settings), true).unwrap();
        self
    }

    /// Returns a test bed with the test source, which takes a moment to answer.
    fn fake(on_timeout: LookupTimeoutPolicy) -> (Self, Arc<FakeTraitClient>) {
        let bed = Self::new(on_timeout);
        let fake = Arc::new(FakeTraitClient {
            people: Mutex::default(),
            mode: Mutex::new(FakeSourceMode::Well),
            calls: AtomicUsize::new(0),
            takes: Duration::from_millis(100),
        });
        let settings = TraitSourceSettings {
            store: TraitClientSettings::Test(LookupTemplate::key("{user_id}").unwrap()),
            timeout: 2 * SECOND,
            reply_bytes: 1000,
            max_concurrent_lookups: 4,
            cache_bytes: 1 << 20,
            ttl: 600 * SECOND,
            negative_ttl: 60 * SECOND,
            renew_after: 480 * SECOND,
            stale: 86_400 * SECOND,
            retry: 10 * SECOND,
        };
        let (tasks, metrics) = (&bed.profiles.tasks, bed.profiles.metrics.clone());
        let source = TraitSource::new(settings, true, fake.clone(), tasks, "shop".into(), metrics);
        bed.profiles.sources.write().insert(SITE, Arc::new(source));
        (bed, fake)
    }

    async fn traits(&self, event: &Arc<Event>) -> Result<Value, ProfileError> {
        let events = [event.clone()];
        let mut found = self.profiles.lookup(SITE, &events, false).await?;
        Ok(Value::Object(found.remove(0).view.traits.clone()))
    }

    async fn plan(&self, user: &str) -> Result<Value, ProfileError> {
        Ok(self.traits(&event(user)).await?["plan"].clone())
    }

    fn counted(&self, result: &'static str) -> u64 {
        let labels = TraitSourceLabels { site: "shop".into(), result };
        self.profiles.metrics.profile_source_lookups.get_or_create(&labels).get()
    }
}

fn settings(text: &str) -> TraitSourceSettings {
    let defaults = "timeout = \"300ms\"\nreply_bytes = \"1KiB\"\nmax_concurrent_lookups = 4\n\
        cache_bytes = \"1MiB\"\nttl = \"10m\"\nnegative_ttl = \"1m\"\n\
        stale = \"24h\"\nretry = \"10s\"\n";
    test_support::settings(&format!("{defaults}{text}"), TraitSourceSettings::read).unwrap()
}

fn event(user: &str) -> Arc<Event> {
    event_with(json!({ "type": "track", "userId": user }))
}

fn event_with(members: Value) -> Arc<Event> {
    let mut event = json!({
        "messageId": "m", "timestamp": "2026-11-23T10:00:00Z",
        "receivedAt": "2026-11-23T10:00:00Z",
    });
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(event).unwrap())
}

#[tokio::test(start_paused = true)]
async fn source_failure_for_one_person_stops_no_events_for_long() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    fake.set_traits("u", "pro");
    fake.set_mode(FakeSourceMode::WellBut("broken"));
    assert!(bed.plan("broken").await.is_err());
    assert_eq!(bed.plan("u").await.unwrap(), "pro");
    assert!(bed.plan("broken").await.is_err(), "it may be its own trouble");
    assert_eq!(bed.plan("broken").await.unwrap(), Value::Null);
    assert_eq!(bed.counted("refused"), 1);
    let calls = fake.calls();
    assert_eq!(bed.plan("broken").await.unwrap(), Value::Null);
    assert_eq!(fake.calls(), calls, "they are left alone for a while");
    // Failures with an answer between them do not add up.
    let user = "at-times";
    fake.set_mode(FakeSourceMode::WellBut(user));
    assert!(bed.plan(user).await.is_err() && bed.plan(user).await.is_err());
    fake.set_mode(FakeSourceMode::Well);
    assert_eq!(bed.plan(user).await.unwrap(), Value::Null);
    tokio::time::sleep(61 * SECOND).await;
    fake.set_mode(FakeSourceMode::WellBut(user));
    assert_eq!(bed.plan("somebody").await.unwrap(), Value::Null);
    assert!(bed.plan(user).await.is_err(), "once");
    // If all fail it is no person's fault.
    tokio::time::sleep(700 * SECOND).await;
    fake.set_mode(FakeSourceMode::Down);
    for _ in 0..5 {
        assert!(bed.plan("another").await.is_err());
    }
}

#[tokio::test]
async fn traits_of_own_events_win_over_external_ones() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    let traits = json!({ "plan": "free", "score": 7, "address": { "city": "Bern" } });
    let traits = traits.as_object().unwrap().clone();
    fake.people.lock().insert("u".to_owned(), TraitReply::Known(traits));
    let stated = json!({ "plan": "pro", "address": { "zip": "1" } });
    let identify = event_with(json!({
        "type": "identify", "userId": "u", "anonymousId": "a", "traits": stated,
    }));
    let outside = json!({ "plan": "free", "score": 7, "address": { "city": "Bern" } });
    assert_eq!(bed.traits(&identify).await.unwrap(), outside, "nobody knows them yet");
    bed.profiles.apply(SITE, 1, vec![update_of(&identify)]).await.unwrap();
    let both = json!({ "plan": "pro", "score": 7, "address": { "zip": "1" } });
    assert_eq!(bed.traits(&identify).await.unwrap(), both);
    let later = event_with(json!({ "type": "track", "anonymousId": "a" }));
    assert_eq!(bed.traits(&later).await.unwrap(), both, "the profile knows the user id");
    let stranger = event_with(json!({ "type": "track", "anonymousId": "b" }));
    assert_eq!(bed.traits(&stranger).await.unwrap(), json!({}));
    assert_eq!((fake.calls(), bed.counted("miss"), bed.counted("hit")), (1, 1, 2));
    bed.profiles.sources.read()[&SITE].clear();
    bed.traits(&later).await.unwrap();
    assert_eq!(fake.calls(), 2, "nothing is left of them");
}

#[test]
fn lookup_uses_the_events_ids_then_the_profiles() {
    let view = |email: &str| ProfileView {
        user_id: Some("known".into()),
        traits: json!({ "email": email }).as_object().unwrap().clone(),
    };
    let of = |members: Value, email: &str| {
        let (event, view) = (event_with(members), view(email));
        let identities = crate::profile::identities(&event);
        let person = lookup_ids(&event, &identities, &view);
        let owned = |id: Option<&str>| id.unwrap_or("-").to_owned();
        [owned(person.user_id), owned(person.anonymous_id), owned(person.email)].join(" ")
    };
    let stated = json!({
        "type": "track", "userId": "u", "anonymousId": "a",
        "context": { "traits": { "email": " jo@x.example" } },
    });
    assert_eq!(of(stated, "other@x.example"), "u a jo@x.example");
    assert_eq!(of(json!({ "type": "track" }), "known@x.example"), "known - known@x.example");
    let sloppy = json!({ "type": "track", "userId": "null", "anonymousId": "undefined" });
    assert_eq!(of(sloppy, "none"), "known - -");
    let daily = json!({
        "type": "track", "anonymousId": "today's", "facts": { "format": "plausible" },
    });
    assert_eq!(of(daily, "test@test.com"), "known - -");
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_of_one_person_share_one_request() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    fake.set_traits("u", "pro");
    let (one, two) = tokio::join!(bed.plan("u"), bed.plan("u"));
    assert_eq!((one.unwrap(), two.unwrap()), (json!("pro"), json!("pro")));
    let events: Vec<_> = (0..50).map(|n| event(&format!("u{}", n % 8))).collect();
    bed.profiles.lookup(SITE, &events, false).await.unwrap();
    assert_eq!(fake.calls(), 1 + 8);
}

#[tokio::test(start_paused = true)]
async fn unknown_and_refused_answers_expire_sooner() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    fake.people.lock().insert("refused".to_owned(), TraitReply::Refused);
    for user in ["nobody", "refused", "nobody", "refused"] {
        assert_eq!(bed.plan(user).await.unwrap(), Value::Null);
    }
    assert_eq!((fake.calls(), bed.counted("refused")), (2, 1));
    fake.set_traits("nobody", "pro");
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(bed.plan("nobody").await.unwrap(), "pro");
}

#[tokio::test(start_paused = true)]
async fn answer_is_renewed_in_the_background() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    fake.set_traits("u", "free");
    assert_eq!(bed.plan("u").await.unwrap(), "free");
    fake.set_traits("u", "pro");
    tokio::time::sleep(470 * SECOND).await;
    assert_eq!((bed.plan("u").await.unwrap(), fake.calls()), (json!("free"), 1), "it is young");
    tokio::time::sleep(20 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(bed.plan("u").await.unwrap(), "free", "nobody waits");
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(bed.plan("u").await.unwrap(), "pro");
    assert_eq!((fake.calls(), bed.counted("refresh"), bed.counted("miss")), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn concurrent_renewals_are_bounded() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    let users: Vec<String> = (0..10).map(|n| format!("u{n}")).collect();
    users.iter().for_each(|user| fake.set_traits(user, "free"));
    let events: Vec<_> = users.iter().map(|user| event(user)).collect();
    bed.profiles.lookup(SITE, &events, false).await.unwrap();
    tokio::time::sleep(500 * SECOND).await;
    for rounds in 1..=3 {
        bed.profiles.lookup(SITE, &events, false).await.unwrap();
        assert_eq!(bed.counted("refresh"), (4 * rounds).min(10), "the others when they are used");
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!((fake.calls(), bed.counted("hit")), (20, 30));
}

#[tokio::test(start_paused = true)]
async fn an_older_answer_is_used_while_the_source_is_down() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    fake.set_traits("u", "pro");
    assert_eq!(bed.plan("u").await.unwrap(), "pro");
    fake.set_mode(FakeSourceMode::Down);
    tokio::time::sleep(700 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(bed.plan("u").await.unwrap(), "pro");
    }
    assert_eq!((fake.calls(), bed.counted("error")), (2, 1), "it is left alone for a while");
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(bed.plan("u").await.unwrap(), "pro");
    assert_eq!(fake.calls(), 3);
    tokio::time::sleep(86_400 * SECOND).await;
    let error = bed.plan("u").await.unwrap_err();
    assert!(matches!(error, ProfileError::Outside(TraitSourceError::Status(503))), "it is too old");
    fake.set_mode(FakeSourceMode::Well);
    assert_eq!(bed.plan("u").await.unwrap(), "pro");
}

#[tokio::test(start_paused = true)]
async fn unresponsive_source_fails_lookups_or_delivers_events_without_traits() {
    for (mood, result) in [(FakeSourceMode::Down, "error"), (FakeSourceMode::Hanging, "timeout")] {
        let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
        fake.set_mode(mood);
        assert!(matches!(bed.plan("u").await, Err(ProfileError::Outside(_))));
        tokio::time::sleep(SECOND).await;
        assert_eq!(bed.counted(result), 1);

        let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Deliver);
        fake.set_traits("known", "pro");
        assert_eq!(bed.plan("known").await.unwrap(), "pro");
        fake.set_mode(mood);
        let began = Instant::now();
        let events: Vec<_> = ["known", "a", "b", "c", "d", "e", "f"].map(event).into();
        let found = bed.profiles.lookup(SITE, &events, false).await.unwrap();
        assert!(began.elapsed() <= 2 * SECOND, "no longer than the timeout, for all of them");
        assert_eq!(found[0].view.traits["plan"], "pro");
        assert!(found[1].view.traits.is_empty());
        assert_eq!(bed.profiles.metrics.events_unenriched.get(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn batch_slower_than_the_timeout_is_cached_in_the_end() {
    let (bed, _fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    // Batches of 100 ms, four at once: two and a half seconds.
    let events: Vec<_> = (0..100).map(|n| event(&format!("u{n}"))).collect();
    assert!(bed.profiles.lookup(SITE, &events, false).await.is_err());
    bed.profiles.lookup(SITE, &events, false).await.unwrap();
}

#[tokio::test]
async fn page_lookup_uses_only_the_visitors_proven_user_id() {
    let (bed, fake) = TraitSourceTestBed::fake(LookupTimeoutPolicy::Wait);
    fake.set_traits("u", "pro");
    let visitor = json!({ "id": "v", "since": "2026-11-23T10:00:00Z" });
    let identify = |is_proven: bool| {
        let event = event_with(json!({
            "type": "identify", "userId": "u",
            "facts": { "visitor": visitor, "proven": is_proven },
        }));
        vec![update_of(&event)]
    };
    bed.profiles.apply(SITE, 1, identify(false)).await.unwrap();
    let claimed = bed.profiles.of_visitor(SITE, "v", false).await.unwrap();
    assert!(claimed.view.traits.is_empty() && claimed.view.user_id.is_none());
    assert_eq!(fake.calls(), 0, "nobody is asked for by what anybody can claim");
    bed.profiles.apply(SITE, 2, identify(true)).await.unwrap();
    let found = bed.profiles.of_visitor(SITE, "v", false).await.unwrap();
    assert_eq!(found.view.traits["plan"], "pro");
    let nobody = bed.profiles.of_visitor(SITE, "w", false).await.unwrap();
    assert!(nobody.view.traits.is_empty());
    assert_eq!(fake.calls(), 1);
}

#[test]
fn settings_mistakes_are_reported_without_secrets() {
    let read = |text: &str| test_support::read(text, TraitSourceSettings::read);
    assert_eq!(read("kind = \"off\"\nttl = \"10m\""), (None, Vec::new()));
    for (text, key) in [
        ("kind = \"htp\"", "kind"),
        ("kind = \"http\"", "url"),
        ("kind = \"http\"\nurl = \"https://cdp.example/?key=hush\"", "url"),
        ("kind = \"http\"\nurl = \"https://cdp.example/{user_id}\"\npath = \"data\"", "path"),
        (
            "kind = \"http\"\nurl = \"https://cdp.example/{user_id}\"\nheaders = { host = \"x\" }",
            "headers",
        ),
        ("kind = \"redis\"\nurl = \"redis://:hush@h/\"", "key"),
        ("kind = \"redis\"\nurl = \"http://:hush@h/\"\nkey = \"{user_id}\"", "url"),
    ] {
        let (_, mistakes) = read(text);
        let is_reported = mistakes.iter().any(|mistake| mistake.contains(key));
        assert!(is_reported, "{text}: {mistakes:?}");
        assert!(!format!("{mistakes:?}").contains("hush"), "{mistakes:?}");
    }
    let settings = settings(
        "kind = \"http\"\nurl = \"https://cdp.example/{user_id}?k=hush\"\n\
         headers = { authorization = \"hush\" }",
    );
    assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
}

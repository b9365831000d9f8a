//! Tests of the profile stores: the same for every backend.

mod activity;
mod claims;
mod model;
mod projection;
mod ranks;
mod refused;
mod search;
mod stitching;

use serde_json::json;

use super::*;
use crate::journal::{PersonNameDigest, SiteId};
use crate::postgres::PostgresDatabase;
use crate::store::{CommitSyncMode, SqliteStore};
use tagway_core::event::{ComputedAttributes, ProfileView};
use tagway_core::metrics::Metrics;

const SITE: SiteId = SiteId(1);
const LIMITS: ProfileLimits = ProfileLimits::new(100, 3, 3);

/// Runs each of a file's tests with each backend. Without PostgreSQL, its tests pass without a check.
macro_rules! in_every_backend {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            use crate::profile::tests::{ProfileTestBed, TestBackend};
            $(#[test] fn $name() { super::$name(&|limits| ProfileTestBed::new(TestBackend::Sqlite, limits)) })*
        }
        mod postgres {
            use crate::profile::tests::{ProfileTestBed, TestBackend};
            $(#[test] fn $name() { super::$name(&|limits| ProfileTestBed::new(TestBackend::Postgres, limits)) })*
        }
    };
}
use in_every_backend;

/// Creates a test bed, if its backend is installed.
type TestBedFactory<'m> = &'m dyn Fn(ProfileLimits) -> Option<ProfileTestBed>;

#[derive(Clone, Copy)]
enum TestBackend {
    Sqlite,
    Postgres,
}

/// An empty store of one backend. Its functions block until the answer.
struct ProfileTestBed {
    runtime: tokio::runtime::Runtime,
    backend: TestBedStore,
}

enum TestBedStore {
    Sqlite(
        SqliteProfileStore,
        Arc<SqliteStore>,
        #[expect(dead_code, reason = "it ends with the bed")] tempfile::TempDir,
    ),
    Postgres(PostgresProfileStore, Arc<PostgresDatabase>),
}

impl ProfileTestBed {
    fn new(backend: TestBackend, limits: ProfileLimits) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let backend = match backend {
            TestBackend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let metrics = Arc::new(Metrics::new());
                let store =
                    SqliteStore::open(folder.path(), CommitSyncMode::Os, &[MIGRATIONS], metrics)
                        .unwrap();
                let store = Arc::new(store);
                TestBedStore::Sqlite(SqliteProfileStore::new(store.clone(), limits), store, folder)
            }
            TestBackend::Postgres => {
                let database = PostgresDatabase::of_test(&[SCHEMA])?;
                database.name_site(SITE.0, "shop");
                let profiles =
                    PostgresProfileStore::new(database.clone(), "one".to_owned(), limits);
                TestBedStore::Postgres(profiles, database)
            }
        };
        Some(Self { runtime, backend })
    }

    /// Returns another gateway with the same database.
    fn other(&self, limits: ProfileLimits) -> Option<Self> {
        let TestBedStore::Postgres(_, database) = &self.backend else { return None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = database.again();
        database.name_site(SITE.0, "shop");
        let profiles = PostgresProfileStore::new(database.clone(), "other".to_owned(), limits);
        Some(Self { runtime, backend: TestBedStore::Postgres(profiles, database) })
    }

    fn store(&self) -> &dyn ProfileStore {
        match &self.backend {
            TestBedStore::Sqlite(profiles, _, _) => profiles,
            TestBedStore::Postgres(profiles, _) => profiles,
        }
    }

    fn apply(&self, upto: u64, updates: Vec<ProfileUpdate>) -> ProfileChanges {
        self.runtime.block_on(self.store().apply(SITE, upto, updates)).unwrap()
    }

    /// Clears the remembered statements.
    fn forget(&self) {
        match &self.backend {
            TestBedStore::Sqlite(profiles, _, _) => profiles.forget(),
            TestBedStore::Postgres(profiles, _) => profiles.forget(),
        }
    }

    fn find(&self, identity: Identity) -> Option<(ProfileId, ProfileView)> {
        self.runtime.block_on(self.store().find(SITE, vec![identity])).unwrap().remove(0)
    }

    fn projected(&self) -> u64 {
        self.runtime.block_on(self.store().projected_seq(SITE)).unwrap()
    }

    fn computed(&self, identity: Identity) -> Option<ComputedAttributes> {
        let (profile, _) = self.find(identity)?;
        let found = self.runtime.block_on(self.store().computed(SITE, vec![profile]));
        found.unwrap().computed.remove(0)
    }

    /// Returns the part of a profile that a page may know by the cookie with this id.
    fn standing(&self, id: &str) -> Option<PageProfile> {
        self.runtime.block_on(self.store().find_page_profile(SITE, id.to_owned())).unwrap()
    }

    fn expire(&self, unseen: ExpiryRequest) -> ExpiryOutcome {
        self.runtime.block_on(self.store().expire(SITE, unseen)).unwrap()
    }

    fn subjects(&self, name: &str) -> Vec<SubjectProfile> {
        self.runtime.block_on(self.store().subjects(SITE, name.to_owned())).unwrap()
    }

    fn erase(&self, kind: crate::journal::PersonNameKind, name: &str) -> ProfileChanges {
        let names = Arc::new([PersonNameDigest::new(SITE, kind, name)].into());
        self.runtime.block_on(self.store().erase(SITE, names)).unwrap()
    }

    /// Returns a query's rows, as texts: the tables have the same content in all backends.
    fn rows(&self, query: &str) -> Vec<Vec<Option<String>>> {
        let query = query.to_owned();
        self.runtime.block_on(async {
            match &self.backend {
                TestBedStore::Sqlite(_, store, _) => {
                    let rows = store.read(move |c| {
                        let mut statement = c.prepare(&query)?;
                        let columns = statement.column_count();
                        let rows = statement.query_map([], |row| {
                            let text = |n: usize| {
                                use rusqlite::types::ValueRef;
                                Ok(match row.get_ref(n)? {
                                    ValueRef::Null => None,
                                    ValueRef::Integer(number) => Some(number.to_string()),
                                    ValueRef::Real(number) => Some(number.to_string()),
                                    ValueRef::Text(text) | ValueRef::Blob(text) => {
                                        Some(String::from_utf8(text.to_vec()).unwrap())
                                    }
                                })
                            };
                            (0..columns).map(text).collect()
                        })?;
                        rows.collect()
                    });
                    rows.await.unwrap()
                }
                TestBedStore::Postgres(_, database) => {
                    let client = database.client().await.unwrap();
                    let messages = client.simple_query(&query).await.unwrap();
                    let row = |message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => {
                            Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect())
                        }
                        _ => None,
                    };
                    messages.into_iter().filter_map(row).collect()
                }
            }
        })
    }

    fn count(&self, table: &str) -> i64 {
        let rows = self.rows(&format!("SELECT count(*) FROM {table}"));
        rows[0][0].as_ref().unwrap().parse().unwrap()
    }

    /// Returns another value whenever a profile or an identity was written since.
    fn written(&self) -> Vec<Vec<Option<String>>> {
        match &self.backend {
            TestBedStore::Sqlite(_, store, _) => {
                let changes = store.write(|c| Ok(c.total_changes()));
                let changes = self.runtime.block_on(changes).unwrap();
                // Each batch writes its position.
                let batches = self.projected();
                vec![vec![Some((changes - batches).to_string())]]
            }
            TestBedStore::Postgres(..) => self
                .rows("SELECT xmin::text FROM profiles UNION ALL SELECT xmin::text FROM identities ORDER BY 1"),
        }
    }
}

fn anonymous(value: &str) -> Identity {
    Identity { kind: IdentityKind::Anonymous, value: value.into() }
}

fn user(value: &str) -> Identity {
    Identity { kind: IdentityKind::User, value: value.into() }
}

fn weak(identity: Identity) -> DeviceIdentity {
    DeviceIdentity { identity, client: None }
}

fn update_with_traits(
    user: Option<&str>,
    device: &str,
    traits: serde_json::Value,
) -> ProfileUpdate {
    let traits = traits.as_object().unwrap().clone();
    let user = user.map(self::user);
    ProfileUpdate {
        user,
        devices: vec![weak(anonymous(device))],
        traits,
        ..ProfileUpdate::default()
    }
}

fn view(store: &ProfileTestBed, identity: Identity) -> Option<(Option<String>, String)> {
    let (_, view) = store.find(identity)?;
    Some((view.user_id, serde_json::Value::Object(view.traits).to_string()))
}

in_every_backend!(
    an_anonymous_profile_becomes_the_users_and_traits_merge,
    two_users_of_one_device_stay_two_people,
    event_without_statements_makes_no_profile,
    traits_of_a_device_yield_to_its_users_traits,
    repeated_update_is_no_change,
    profile_refuses_devices_beyond_the_limit,
    profile_refuses_traits_beyond_the_limit_and_keeps_the_known_ones,
    any_character_is_stored,
);

fn an_anonymous_profile_becomes_the_users_and_traits_merge(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let updates = vec![
        update_with_traits(None, "a", json!({"plan": "free", "town": "Bern"})),
        update_with_traits(Some("u"), "a", json!({"plan": "pro", "town": null})),
        update_with_traits(Some("u"), "b", json!({})),
    ];
    let changed = store.apply(3, updates).identities;
    assert!([user("u"), anonymous("a"), anonymous("b")].iter().all(|i| changed.contains(i)));
    let expected = Some((Some("u".to_owned()), r#"{"plan":"pro"}"#.to_owned()));
    for identity in [user("u"), anonymous("a"), anonymous("b")] {
        assert_eq!(view(&store, identity), expected);
    }
    assert_eq!(view(&store, anonymous("c")), None);
    assert_eq!(store.projected(), 3);
}

fn two_users_of_one_device_stay_two_people(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let updates = vec![
        update_with_traits(Some("u"), "a", json!({"name": "U"})),
        update_with_traits(Some("v"), "a", json!({"name": "V"})),
    ];
    store.apply(2, updates);
    assert_eq!(view(&store, user("u")).unwrap().1, r#"{"name":"U"}"#);
    assert_eq!(view(&store, user("v")).unwrap().1, r#"{"name":"V"}"#);
    assert_eq!(view(&store, anonymous("a")).unwrap().0.as_deref(), Some("v"));
}

fn event_without_statements_makes_no_profile(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    store.apply(1, vec![update_with_traits(None, "a", json!({}))]);
    assert_eq!(view(&store, anonymous("a")), None);
}

fn traits_of_a_device_yield_to_its_users_traits(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let updates = vec![
        update_with_traits(Some("u"), "a", json!({"plan": "pro"})),
        update_with_traits(None, "b", json!({"plan": "free", "town": "Bern"})),
    ];
    store.apply(2, updates);
    let changes = store.apply(3, vec![update_with_traits(Some("u"), "b", json!({}))]);
    let expected = Some((Some("u".to_owned()), r#"{"plan":"pro","town":"Bern"}"#.to_owned()));
    for identity in [user("u"), anonymous("a"), anonymous("b")] {
        assert_eq!(view(&store, identity), expected);
    }
    assert_eq!(changes.identities, [anonymous("b")].into());
    assert_eq!(changes.profiles.len(), 2, "the one that went and the one it went into");
}

fn repeated_update_is_no_change(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let update = update_with_traits(Some("u"), "a", json!({"plan": "pro", "town": null}));
    assert_eq!(store.apply(1, vec![update.clone()]).profiles.len(), 1);
    assert_eq!(store.apply(2, vec![update]), ProfileChanges::default());
    let device = update_with_traits(Some("u"), "b", json!({}));
    let changes = store.apply(3, vec![device]);
    assert!(changes.profiles.is_empty(), "another device says nothing new of the person");
    assert_eq!(changes.identities, [anonymous("b")].into());
}

fn profile_refuses_devices_beyond_the_limit(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let updates =
        ["a", "b", "c", "d", "a"].map(|device| update_with_traits(Some("u"), device, json!({})));
    let changes = store.apply(5, updates.into());
    assert_eq!(changes.identities_refused, 1);
    assert!(view(&store, anonymous("c")).is_some());
    assert_eq!(view(&store, anonymous("d")), None);
    let other = vec![
        update_with_traits(None, "e", json!({"x": 1})),
        update_with_traits(Some("u"), "e", json!({})),
    ];
    let changes = store.apply(7, other);
    assert_eq!(view(&store, anonymous("e")), None);
    assert_eq!(view(&store, user("u")).unwrap().1, r#"{"x":1}"#);
    assert!(changes.identities.contains(&anonymous("e")));
}

fn profile_refuses_traits_beyond_the_limit_and_keeps_the_known_ones(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let long = "x".repeat(60);
    let updates = vec![
        update_with_traits(Some("u"), "a", json!({"long": long, "town": "Bern"})),
        update_with_traits(Some("u"), "a", json!({"other": long})),
        update_with_traits(Some("u"), "a", json!({"town": "x".repeat(61), "plan": "pro"})),
    ];
    let changes = store.apply(3, updates);
    assert_eq!(changes.traits_refused, 2);
    let (_, traits) = view(&store, user("u")).unwrap();
    assert_eq!(traits, json!({"long": long, "town": "Bern", "plan": "pro"}).to_string());
    let shorter = update_with_traits(Some("u"), "a", json!({"long": null, "other": long}));
    assert_eq!(store.apply(4, vec![shorter]).traits_refused, 0);
}

fn any_character_is_stored(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let odd = "a\u{0}\u{1}\u{2}b\u{3}\u{10ffff}\"\\";
    let update = update_with_traits(Some(odd), odd, json!({ odd: odd }));
    store.apply(1, vec![update]);
    let known = view(&store, anonymous(odd)).unwrap();
    assert_eq!(known, (Some(odd.to_owned()), json!({ odd: odd }).to_string()));
    assert_eq!(store.subjects(odd)[0].identities.len(), 2);
    store.erase(crate::journal::PersonNameKind::User, odd);
    assert_eq!(store.count("identities"), 0);
}

/// Two gateways share people, each with its own journal.
#[test]
fn gateways_share_profiles_and_each_has_its_own_position() {
    let Some(one) = ProfileTestBed::new(TestBackend::Postgres, LIMITS) else { return };
    let other = one.other(LIMITS).unwrap();
    let update = update_with_traits(Some("u"), "a", json!({ "plan": "pro" }));
    one.apply(7, vec![update.clone()]);
    assert_eq!((one.projected(), other.projected()), (7, 0));
    assert_eq!(view(&other, anonymous("a")).unwrap().1, r#"{"plan":"pro"}"#);
    // A remembered statement is invalid once the other gateway has changed its person.
    other.apply(
        3,
        vec![update_with_traits(Some("u"), "a", json!({ "plan": null, "town": "Bern" }))],
    );
    one.apply(8, vec![update]);
    assert_eq!(view(&other, user("u")).unwrap().1, r#"{"town":"Bern","plan":"pro"}"#);
    one.erase(crate::journal::PersonNameKind::User, "u");
    other.apply(
        4,
        vec![update_with_traits(Some("u"), "a", json!({ "plan": null, "town": "Bern" }))],
    );
    assert_eq!(view(&one, user("u")).unwrap().1, r#"{"town":"Bern"}"#);
}

/// Several gateways write at once, and each needs the same rows.
#[test]
fn concurrent_gateways_count_every_event_once() {
    let Some(one) = ProfileTestBed::new(TestBackend::Postgres, LIMITS) else { return };
    let did = |n: u8| {
        let sighting = Activity { name: (n % 3).to_string(), value: 1.0, ..Activity::default() };
        let user = Some(user("u"));
        let devices = vec![weak(anonymous(&(n % 2).to_string()))];
        ProfileUpdate { user, devices, activity: Some(sighting), ..ProfileUpdate::default() }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let gateway = one.other(LIMITS).unwrap();
            scope.spawn(move || {
                for n in 0..25 {
                    gateway.apply(u64::from(n), vec![did(n), did(n + 1)]);
                }
            });
        }
    });
    let counts = one.computed(user("u")).unwrap().activity;
    assert_eq!(counts.values().map(|it| it.count).sum::<u64>(), 200);
    assert_eq!(one.count("profiles"), 1);
}

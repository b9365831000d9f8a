//! What is counted of people's events, and what becomes of it when they turn out to be one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::event::{Computed, Tally};
use crate::profile::{Sighting, Unseen};

const DAY_MS: i64 = 86_400_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// A device does something worth `value`.
fn did(device: &str, name: &str, ms: i64, value: f64) -> Update {
    let sighting = Sighting { name: name.into(), value, ..Sighting::default() };
    let devices = vec![weak(anonymous(device))];
    Update { at: at(ms), devices, sighting: Some(sighting), ..Update::default() }
}

async fn computed(store: &SqliteProfiles, identity: Identity) -> Option<Computed> {
    let (profile, _) = store.find(SITE, vec![identity]).await.unwrap().remove(0)?;
    store.computed(SITE, vec![profile]).await.unwrap().1.remove(0)
}

async fn rows(store: &SqliteProfiles, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    store.store.read(move |c| c.query_row(&query, [], |row| row.get(0))).await.unwrap()
}

#[tokio::test]
async fn visitors_nobody_knows_are_counted_and_become_who_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let day = 20_000 * DAY_MS;
    let updates = vec![
        did("a", "Order", day, 2.0),
        did("a", "Order", day + 5, 3.0),
        did("a", "Order", day + DAY_MS, 1.0),
        did("b", "page", day, 0.0),
    ];
    let changes = store.apply(SITE, 4, updates).await.unwrap();
    assert_eq!(changes.counted.len(), 2);
    let order = Tally { count: 3, first: day, last: day + DAY_MS, sum: 6.0 };
    let expected = BTreeMap::from([("Order".to_owned(), order)]);
    assert_eq!(computed(&store, anonymous("a")).await.unwrap().activity, expected);
    // Both devices turn out to be the user's, who orders meanwhile.
    let user = Some(self::user("u"));
    let devices = vec![weak(anonymous("a")), weak(anonymous("b"))];
    let known = Update { user, devices, ..did("a", "Order", day + 9, 10.0) };
    let changes = store.apply(SITE, 5, vec![known]).await.unwrap();
    let order = Tally { count: 4, sum: 16.0, ..order };
    let found = computed(&store, self::user("u")).await.unwrap();
    assert_eq!(found.activity["Order"], order);
    assert_eq!(found.activity["page"], Tally::one(day, 0.0));
    assert!(changes.profiles.len() >= 2, "of both something else is known");
    assert_eq!(rows(&store, "profiles").await, 1);
    assert_eq!(rows(&store, "activity").await, 3, "two days of orders, one of pages");
}

#[tokio::test]
async fn a_site_counts_only_so_many_names_and_its_own_counters_always() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut updates: Vec<_> =
        ["1", "2", "3", "4", "1", "5"].map(|name| did("a", name, DAY_MS, 0.0)).into();
    updates[3].sighting.as_mut().unwrap().counters.push("segment".to_owned());
    let changes = store.apply(SITE, 1, updates).await.unwrap();
    assert_eq!(changes.names_refused, 2);
    let activity = computed(&store, anonymous("a")).await.unwrap().activity;
    let counts: Vec<_> = activity.iter().map(|(name, it)| (name.as_str(), it.count)).collect();
    assert_eq!(counts, [("1", 2), ("2", 1), ("3", 1), ("segment", 1)]);
    let changes = store.apply(SITE, 2, vec![did("a", "6", DAY_MS, 0.0)]).await.unwrap();
    assert_eq!(changes.names_refused, 1);
}

#[tokio::test]
async fn visitors_not_seen_for_long_leave_with_all_that_is_kept_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let email = Update { email: Identity::of_email("jo@x.example"), ..did("mail", "b", 5, 0.0) };
    let known = Update { user: Some(user("u")), ..did("known", "b", 5, 0.0) };
    let mut updates = vec![email, known, did("late", "c", DAY_MS, 0.0)];
    updates.extend((0..250).map(|n| did(&format!("d{n}"), "a", n, 0.0)));
    // Said again, it is remembered whose it is.
    updates.push(did("d0", "a", 1, 0.0));
    store.apply(SITE, 1, updates).await.unwrap();
    let mut unseen = Unseen { since: DAY_MS, after: (i64::MIN, ProfileId(0)) };
    let mut steps = 0;
    loop {
        let expired = store.expire(SITE, unseen).await.unwrap();
        steps += 1;
        let Some(next) = expired.next else { break };
        unseen.after = next;
    }
    assert_eq!(steps, 2, "a bounded number at once");
    assert_eq!(rows(&store, "profiles").await, 3, "two with a name, and one who was here lately");
    assert_eq!(rows(&store, "activity").await, 3);
    assert_eq!(computed(&store, anonymous("d0")).await, None);
    store.forget_names(SITE).await.unwrap();
    assert_eq!(rows(&store, "event_names").await, 2);
    // Who comes again is another, under a number that nobody had.
    store.apply(SITE, 2, vec![did("d0", "a", 2, 0.0)]).await.unwrap();
    assert_eq!(computed(&store, anonymous("d0")).await.unwrap().activity["a"].count, 1);
    assert_eq!(rows(&store, "profiles WHERE id = 254").await, 1);
}

#[tokio::test]
async fn who_is_forgotten_leaves_no_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let known = Update { user: Some(user("u")), ..did("a", "Order", 5, 7.0) };
    store.apply(SITE, 1, vec![known, did("b", "Order", 5, 1.0)]).await.unwrap();
    let shown = store.subjects(SITE, "u".to_owned()).await.unwrap().remove(0);
    assert_eq!(shown.activity.len(), 1);
    let order = (shown.activity[0].event.as_str(), shown.activity[0].tally);
    assert_eq!(order, ("Order", Tally::one(5, 7.0)));
    let names = [NameKey::new(SITE, crate::journal::NameKind::User, "u")].into();
    store.erase(SITE, Arc::new(names)).await.unwrap();
    assert_eq!(rows(&store, "activity").await, 1);
    assert_eq!(rows(&store, "profiles").await, 1);
}

/// One event, in small numbers: a device does something, and perhaps says whose it is.
#[derive(Clone, Debug)]
struct Said {
    devices: BTreeSet<u8>,
    user: bool,
    name: u8,
    day: i64,
    value: u8,
}

fn said() -> impl Strategy<Value = Said> {
    let devices = prop::collection::btree_set(0..5_u8, 1..3);
    (devices, prop::bool::weighted(0.3), 0..3_u8, 0..3_i64, any::<u8>())
        .prop_map(|(devices, user, name, day, value)| Said { devices, user, name, day, value })
}

type Rows = BTreeMap<(String, i64), (u64, i64, i64, i64)>;

/// All that is counted, whoever did it.
fn total(connection: &Connection) -> Rows {
    let mut statement = connection
        .prepare(
            "SELECT n.name, day, sum(count), min(first), max(last), CAST(sum(sum) AS INTEGER)
             FROM activity a JOIN event_names n ON n.id = a.event
             JOIN profiles p ON p.id = a.profile GROUP BY n.name, day",
        )
        .unwrap();
    let rows = statement.query_map([], |row| {
        let tally = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(((row.get(0)?, row.get(1)?), tally))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whoever_turns_out_to_be_one_the_sums_are_the_same_in_any_order(
        said in prop::collection::vec(said(), 1..30),
        order in prop::collection::vec(any::<u16>(), 30),
        step in 1..7_usize,
    ) {
        let updates: Vec<Update> = said.iter().zip(0_i64..).map(|(said, n)| {
            let ms = said.day * DAY_MS + n;
            let devices = said.devices.iter().map(|n| weak(anonymous(&n.to_string())));
            Update {
                devices: devices.collect(),
                user: said.user.then(|| user("u")),
                ..did("", &said.name.to_string(), ms, f64::from(said.value))
            }
        }).collect();
        let mut expected = Rows::new();
        for (update, said) in updates.iter().zip(&said) {
            let ms = update.at.as_millisecond().max(1);
            let (name, value) = (said.name.to_string(), i64::from(said.value));
            let known = expected.entry((name, said.day)).or_insert((0, ms, ms, 0));
            *known = (known.0 + 1, known.1.min(ms), known.2.max(ms), known.3 + value);
        }
        let mut shuffled: Vec<_> = order.into_iter().zip(updates).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(_, update)| update).collect();
        let (connection, memory) = (database(usize::MAX), Repeats::default());
        let limits = Limits { traits_bytes: 1000, identities: 100, event_names: 10 };
        for updates in shuffled.chunks(step) {
            let mut batch = Batch::new(SqliteRows::new(&connection, SITE), SITE, limits, &memory);
            for update in updates {
                batch.apply(update).unwrap();
            }
            let (_, _, notes) = batch.finish().unwrap();
            memory.take(notes);
        }
        // One more makes all of them one person.
        let all = (0..5_u8).map(|n| weak(anonymous(&n.to_string())));
        let all = Update { user: Some(user("u")), devices: all.collect(), ..Update::default() };
        let mut batch = Batch::new(SqliteRows::new(&connection, SITE), SITE, limits, &memory);
        batch.apply(&all).unwrap();
        batch.finish().unwrap();
        prop_assert_eq!(total(&connection), expected);
        let people: i64 =
            connection.query_row("SELECT count(*) FROM profiles", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(people, 1);
    }
}

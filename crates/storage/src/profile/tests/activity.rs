//! Tests of the counts of people's events, and of their merge when profiles become one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use tagway_core::event::EventTally;

const DAY_MS: i64 = 86_400_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// Returns an update of a device with an activity of this value.
fn did(device: &str, name: &str, ms: i64, value: f64) -> ProfileUpdate {
    let sighting = Activity { name: name.into(), value, ..Activity::default() };
    let devices = vec![weak(anonymous(device))];
    ProfileUpdate { at: at(ms), devices, activity: Some(sighting), ..ProfileUpdate::default() }
}

in_every_backend!(
    unknown_visitors_are_counted_and_merge_into_known_users,
    counted_names_of_a_site_are_bounded_except_its_own_counters,
    expire_removes_unknown_visitors_not_seen_for_long_with_their_activity,
    erase_removes_the_counts_of_a_person,
    counts_after_merges_are_the_same_in_any_order,
);

fn unknown_visitors_are_counted_and_merge_into_known_users(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let day = 20_000 * DAY_MS;
    let updates = vec![
        did("a", "Order", day, 2.0),
        did("a", "Order", day + 5, 3.0),
        did("a", "Order", day + DAY_MS, 1.0),
        did("b", "page", day, 0.0),
    ];
    let changes = store.apply(4, updates);
    assert_eq!(changes.counted.len(), 2);
    let order = EventTally { count: 3, first: day, last: day + DAY_MS, sum: 6.0 };
    let expected = BTreeMap::from([("Order".to_owned(), order)]);
    assert_eq!(store.computed(anonymous("a")).unwrap().activity, expected);
    // Both devices turn out to be the user's, who orders meanwhile.
    let user = Some(self::user("u"));
    let devices = vec![weak(anonymous("a")), weak(anonymous("b"))];
    let known = ProfileUpdate { user, devices, ..did("a", "Order", day + 9, 10.0) };
    let changes = store.apply(5, vec![known]);
    let order = EventTally { count: 4, sum: 16.0, ..order };
    let found = store.computed(self::user("u")).unwrap();
    assert_eq!(found.activity["Order"], order);
    assert_eq!(found.activity["page"], EventTally::single(day, 0.0));
    assert!(changes.profiles.len() >= 2, "of both something else is known");
    assert_eq!(store.count("profiles"), 1);
    assert_eq!(store.count("activity"), 3, "two days of orders, one of pages");
}

fn counted_names_of_a_site_are_bounded_except_its_own_counters(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let mut updates: Vec<_> =
        ["1", "2", "3", "4", "1", "5"].map(|name| did("a", name, DAY_MS, 0.0)).into();
    updates[3].activity.as_mut().unwrap().counters.push("segment".to_owned());
    let changes = store.apply(1, updates);
    assert_eq!(changes.names_refused, 2);
    let activity = store.computed(anonymous("a")).unwrap().activity;
    let counts: Vec<_> = activity.iter().map(|(name, it)| (name.as_str(), it.count)).collect();
    assert_eq!(counts, [("1", 2), ("2", 1), ("3", 1), ("segment", 1)]);
    let changes = store.apply(2, vec![did("a", "6", DAY_MS, 0.0)]);
    assert_eq!(changes.names_refused, 1);
}

fn expire_removes_unknown_visitors_not_seen_for_long_with_their_activity(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let email =
        ProfileUpdate { email: Identity::of_email("jo@x.example"), ..did("mail", "b", 5, 0.0) };
    let known = ProfileUpdate { user: Some(user("u")), ..did("known", "b", 5, 0.0) };
    let mut updates = vec![email, known, did("late", "c", DAY_MS, 0.0)];
    updates.extend((0..250).map(|n| did(&format!("d{n}"), "a", n, 0.0)));
    // A repeated statement, so that its profile is remembered.
    updates.push(did("d0", "a", 1, 0.0));
    store.apply(1, updates);
    let numbers = store.rows("SELECT max(id) FROM profiles")[0][0].clone().unwrap();
    let numbers: i64 = numbers.parse().unwrap();
    let mut unseen = ExpiryRequest { since: DAY_MS, after: ExpiryPosition::START };
    let mut steps = 0;
    loop {
        let expired = store.expire(unseen);
        steps += 1;
        let Some(next) = expired.next else { break };
        unseen.after = next;
    }
    assert_eq!(steps, 2, "a bounded number at once");
    assert_eq!(store.count("profiles"), 3, "two with a name, and one who was here lately");
    assert_eq!(store.count("activity"), 3);
    assert_eq!(store.computed(anonymous("d0")), None);
    store.runtime.block_on(store.store().forget_names(SITE)).unwrap();
    assert_eq!(store.count("event_names"), 2);
    // A visitor who returns gets a new profile, under a number that was never used.
    store.apply(2, vec![did("d0", "a", 2, 0.0)]);
    assert_eq!(store.computed(anonymous("d0")).unwrap().activity["a"].count, 1);
    let newest = store.rows("SELECT max(id) FROM profiles")[0][0].clone().unwrap();
    assert!(newest.parse::<i64>().unwrap() > numbers);
}

fn erase_removes_the_counts_of_a_person(make: TestBedFactory<'_>) {
    let Some(store) = make(LIMITS) else { return };
    let known = ProfileUpdate { user: Some(user("u")), ..did("a", "Order", 5, 7.0) };
    store.apply(1, vec![known, did("b", "Order", 5, 1.0)]);
    let shown = store.subjects("u").remove(0);
    assert_eq!(shown.activity.len(), 1);
    let order = (shown.activity[0].event.as_str(), shown.activity[0].tally);
    assert_eq!(order, ("Order", EventTally::single(5, 7.0)));
    store.erase(crate::journal::PersonNameKind::User, "u");
    assert_eq!(store.count("activity"), 1);
    assert_eq!(store.count("profiles"), 1);
}

/// One event, in small numbers: a device does something, and perhaps has a user id.
#[derive(Clone, Debug)]
struct ActivityCase {
    devices: BTreeSet<u8>,
    user: bool,
    name: u8,
    day: i64,
    value: u8,
}

fn activity_cases() -> impl Strategy<Value = ActivityCase> {
    let devices = prop::collection::btree_set(0..5_u8, 1..3);
    (devices, prop::bool::weighted(0.3), 0..3_u8, 0..3_i64, any::<u8>()).prop_map(
        |(devices, user, name, day, value)| ActivityCase { devices, user, name, day, value },
    )
}

type ActivityTotals = BTreeMap<(String, i64), (u64, i64, i64, f64)>;

/// Returns all counts, whatever their profile.
fn total(bed: &ProfileTestBed) -> ActivityTotals {
    let rows = bed.rows(
        "SELECT n.name, day, sum(count), min(first), max(last), sum(sum)
         FROM activity a JOIN event_names n ON n.id = a.event
         JOIN profiles p ON p.id = a.profile GROUP BY n.name, day",
    );
    let row = |row: Vec<Option<String>>| {
        let row: Vec<String> = row.into_iter().map(Option::unwrap).collect();
        let number = |n: usize| row[n].parse::<i64>().unwrap();
        let count = u64::try_from(number(2)).unwrap();
        let tally = (count, number(3), number(4), row[5].parse::<f64>().unwrap());
        ((row[0].clone(), number(1)), tally)
    };
    rows.into_iter().map(row).collect()
}

fn counts_after_merges_are_the_same_in_any_order(make: TestBedFactory<'_>) {
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) }, |(

        cases in prop::collection::vec(activity_cases(), 1..30),
        order in prop::collection::vec(any::<u16>(), 30),
        step in 1..7_usize,
    )| {
        let updates: Vec<ProfileUpdate> = cases.iter().zip(0_i64..).map(|(cases, n)| {
            let ms = cases.day * DAY_MS + n;
            let devices = cases.devices.iter().map(|n| weak(anonymous(&n.to_string())));
            ProfileUpdate {
                devices: devices.collect(),
                user: cases.user.then(|| user("u")),
                ..did("", &cases.name.to_string(), ms, f64::from(cases.value))
            }
        }).collect();
        let mut expected = ActivityTotals::new();
        for (update, cases) in updates.iter().zip(&cases) {
            let ms = update.at.as_millisecond().max(1);
            let (name, value) = (cases.name.to_string(), f64::from(cases.value));
            let known = expected.entry((name, cases.day)).or_insert((0, ms, ms, 0.0));
            *known = (known.0 + 1, known.1.min(ms), known.2.max(ms), known.3 + value);
        }
        let mut shuffled: Vec<_> = order.into_iter().zip(updates).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(_, update)| update).collect();
        let limits = ProfileLimits::new(1000, 100, 10);
        let Some(bed) = make(limits) else { return Ok(()) };
        for updates in shuffled.chunks(step) {
            bed.apply(1, updates.to_vec());
        }
        // One more event makes all of them one person.
        let all = (0..5_u8).map(|n| weak(anonymous(&n.to_string())));
        let all = ProfileUpdate { user: Some(user("u")), devices: all.collect(), ..ProfileUpdate::default() };
        bed.apply(2, vec![all]);
        prop_assert_eq!(total(&bed), expected);
        prop_assert_eq!(bed.count("profiles"), 1);
    });
}

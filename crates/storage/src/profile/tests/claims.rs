//! Tests of the bounds of claims: how many profiles and names of events they make, and that they never
//! change servers' statements.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::ranks::{object, sees};
use super::*;

in_every_backend!(
    profiles_made_by_claims_alone_are_bounded,
    names_of_settings_and_servers_are_counted_despite_claimed_names,
    claims_never_change_servers_statements,
);

fn profiles_made_by_claims_alone_are_bounded(make: TestBedFactory<'_>) {
    let limits = ProfileLimits { claimed_max: 50, ..LIMITS };
    let Some(bed) = make(limits) else { return };
    let known = |n: i64, rank| ProfileUpdate { rank, ..sees(rank, n + 1, Activity::default()) };
    let named = |n: i64, rank| {
        let user = Some(user(&format!("{rank:?}{n}")));
        ProfileUpdate { user, devices: Vec::new(), ..known(n, rank) }
    };
    bed.apply(1, (0..9).map(|n| named(n, SenderRank::Server)).collect());
    bed.apply(2, (0..9).map(|n| named(n, SenderRank::Proven)).collect());
    let mut evicted = 0;
    for round in 0..10_i64 {
        let flood = (0..100).map(|n| named(1000 * round + n, SenderRank::Claimed));
        evicted += bed.apply(3, flood.collect()).evicted;
        assert_eq!(bed.count("profiles"), 50 + 18);
    }
    assert_eq!(evicted, 950);
    let counted = bed.rows("SELECT claimed FROM profile_counts");
    assert_eq!(counted, [[Some("50".to_owned())]]);
    assert!(bed.find(user("Claimed9099")).is_some() && bed.find(user("Claimed9000")).is_none());
    assert_eq!(bed.count("identities"), 50 + 18, "all of them goes");
    assert_eq!(bed.count("activity"), 50 + 18);
    // A profile that becomes proven, is erased or is merged into another no longer counts as claimed.
    bed.apply(
        4,
        vec![ProfileUpdate { user: Some(user("Claimed9099")), ..named(1, SenderRank::Server) }],
    );
    bed.erase(crate::journal::PersonNameKind::User, "Claimed9098");
    let joined = ["Claimed9096", "Claimed9097"].map(user);
    let [one, other] = joined.map(Some);
    bed.apply(
        5,
        vec![ProfileUpdate { user: one, previous: other, ..named(1, SenderRank::Server) }],
    );
    let is_claimed = "SELECT count(*) FROM profiles WHERE rank = 0";
    assert_eq!(bed.rows(is_claimed), bed.rows("SELECT claimed FROM profile_counts"));
    let numbers = bed.rows(is_claimed);
    assert_eq!(numbers, [[Some("46".to_owned())]]);
    let unseen = ExpiryRequest { since: i64::MAX, after: ExpiryPosition::START };
    bed.expire(unseen);
    assert_eq!(bed.rows(is_claimed), bed.rows("SELECT claimed FROM profile_counts"));
}

fn names_of_settings_and_servers_are_counted_despite_claimed_names(make: TestBedFactory<'_>) {
    let Some(bed) = make(LIMITS) else { return };
    let named = |rank, ms, name: &str, is_reserved| {
        let mut update = sees(rank, ms, Activity::default());
        let sighting = update.activity.as_mut().unwrap();
        (sighting.name, sighting.is_reserved) = (name.to_owned(), is_reserved);
        update
    };
    let made_up = |n: i64| named(SenderRank::Claimed, n + 1, &format!("made up {n}"), false);
    let changes = bed.apply(1, (0..9).map(made_up).collect());
    assert_eq!(changes.names_refused, 6);
    let names = [
        (SenderRank::Claimed, "Order", true),
        (SenderRank::Server, "Refund", false),
        (SenderRank::Claimed, "Other", false),
        // A claim has given the name, and a server gives it now.
        (SenderRank::Server, "Other", false),
        (SenderRank::Claimed, "Other", false),
    ];
    let updates = names.iter().map(|(rank, name, is_used)| named(*rank, 50, name, *is_used));
    let changes = bed.apply(2, updates.collect());
    assert_eq!(changes.names_refused, 1, "nothing but what a claim made up");
    // A claimed name that settings use from now on makes room for another.
    bed.apply(3, vec![named(SenderRank::Claimed, 60, "made up 0", true), made_up(20)]);
    let activity = bed.computed(user("u")).unwrap().activity;
    let names: Vec<&str> = activity.keys().map(String::as_str).collect();
    let expected =
        ["Order", "Other", "Refund", "made up 0", "made up 1", "made up 2", "made up 20"];
    assert_eq!(names, expected);
    let asked = ["Order", "made up 8", "never done"].map(str::to_owned).to_vec();
    let counted = bed.runtime.block_on(bed.store().counted_names(SITE, asked)).unwrap();
    assert_eq!(counted, ["Order"]);
}

/// A statement of one sender, in small numbers.
#[derive(Clone, Debug)]
struct StatementCase {
    is_server: bool,
    user: u8,
    device: u8,
    browser: u8,
    key: u8,
    value: Option<u8>,
    email: u8,
    minute: i64,
    is_alias: bool,
}

fn statement() -> impl Strategy<Value = StatementCase> {
    let who = (any::<bool>(), 0..4_u8, 0..4_u8, 0..4_u8);
    let what = (0..3_u8, prop::option::of(0..5_u8), 0..4_u8, 0..500_i64, any::<bool>());
    (who, what).prop_map(|((is_server, user, device, browser), what)| {
        let (key, value, email, minute, is_alias) = what;
        StatementCase { is_server, user, device, browser, key, value, email, minute, is_alias }
    })
}

fn update(case: &StatementCase) -> ProfileUpdate {
    let name = |n: u8| Some(format!("n{n}")).filter(|_| n > 0);
    let of = |kind, n: u8| name(n).map(|value| Identity { kind, value });
    let is_server = case.is_server;
    let mut devices: Vec<Identity> = of(IdentityKind::Anonymous, case.device).into_iter().collect();
    if !is_server {
        devices.extend(of(IdentityKind::Visitor, case.browser));
        devices.extend(of(IdentityKind::Ga, case.device));
    }
    // A server names the user: without a user id its statement would follow claimed links.
    let user = if is_server { case.user.max(1) } else { case.user };
    let email = name(case.email).and_then(|name| Identity::of_email(&format!("{name}@x.example")));
    let traits = object(json!({ format!("k{}", case.key): case.value }));
    let consent = object(json!({ "ads": case.value == Some(1) }));
    let group = Some(format!("g{}", case.key));
    let previous = of(IdentityKind::User, case.email).filter(|_| is_server && case.is_alias);
    ProfileUpdate {
        at: Timestamp::from_second(1_800_000_000 + case.minute * 60).unwrap(),
        rank: if is_server { SenderRank::Server } else { SenderRank::Claimed },
        previous: previous.filter(|it| Some(it) != of(IdentityKind::User, user).as_ref()),
        user: of(IdentityKind::User, user),
        email: email.filter(|_| !case.is_alias),
        devices: devices.into_iter().map(weak).collect(),
        traits,
        activity: Some(Activity { name: "e".into(), consent, group, ..Activity::default() }),
    }
}

/// Returns the users with the identities and traits that servers stated. Not the group: if it is
/// repeated, the later time is written only with other data, so that the result in between may differ.
fn proven_of(bed: &ProfileTestBed) -> Vec<Vec<String>> {
    let mut people = Vec::new();
    for row in bed.rows("SELECT id, user_id, traits, trait_ranks FROM profiles") {
        let text = |n: usize| row[n].clone().unwrap_or_default();
        let names = bed.rows(&format!(
            "SELECT kind, value FROM identities WHERE profile = {} AND rank = 2 ORDER BY kind, value",
            text(0)
        ));
        if names.is_empty() {
            continue;
        }
        let mut person: Vec<String> = names.into_iter().flatten().flatten().collect();
        person.push(text(1));
        let values: serde_json::Map<String, Value> = serde_json::from_str(&text(2)).unwrap();
        let ranks: std::collections::BTreeMap<String, u8> = serde_json::from_str(&text(3)).unwrap();
        let servers = ranks.iter().filter(|(_, rank)| **rank == 2);
        person.extend(servers.map(|(key, _)| format!("{key}={:?}", values.get(key))));
        people.push(person);
    }
    people.sort();
    people
}

fn claims_never_change_servers_statements(make: TestBedFactory<'_>) {
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) }, |(
        case in prop::collection::vec(statement(), 1..30),
    )| {
        let limits = ProfileLimits::new(120, 3, 10);
        let (Some(with), Some(without)) = (make(limits), make(limits)) else { return Ok(()) };
        let updates: Vec<ProfileUpdate> = case.iter().map(update).collect();
        let mut servers = updates.clone();
        servers.retain(|it| it.rank == SenderRank::Server);
        let (first, second) = updates.split_at(updates.len() / 2);
        with.apply(1, first.to_vec());
        with.apply(2, second.to_vec());
        without.apply(1, servers);
        prop_assert_eq!(proven_of(&with), proven_of(&without));
    });
}

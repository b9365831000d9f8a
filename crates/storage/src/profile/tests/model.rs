//! Tests of the rules against a plain model: profiles are the connected components of the graph of all events,
//! whatever their order, if no two users share a device; and the properties that hold if they do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

const LIMITS: ProfileLimits = ProfileLimits::new(10_000, 100, 100);

/// One event, in small numbers. A person has three devices and an e-mail address of their own.
#[derive(Clone, Debug)]
struct IdentityCase {
    person: u8,
    names_user: bool,
    has_email: bool,
    from_server: bool,
    devices: BTreeSet<u8>,
    /// The other person whose user id one of the site's servers states is this one's as well.
    alias: Option<u8>,
    value: u8,
}

fn identity_cases(people: u8) -> impl Strategy<Value = IdentityCase> {
    let devices = prop::collection::btree_set(0..3_u8, 1..3);
    let alias = prop_oneof![5 => Just(None), 1 => (0..people).prop_map(Some)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (0..people, flags, devices, alias, any::<u8>()).prop_map(
        |(person, (names_user, has_email, from_server), devices, alias, value)| IdentityCase {
            person,
            names_user,
            has_email,
            from_server,
            devices,
            alias,
            value,
        },
    )
}

/// Returns events at different times, so far apart that each is written.
fn updates(cases: &[IdentityCase], device: impl Fn(u8, u8) -> Identity) -> Vec<ProfileUpdate> {
    let times = (1_i64..).map(|n| Timestamp::from_millisecond(n * LAST_SEEN_LAG_MS).unwrap());
    let update = |(at, cases): (Timestamp, &IdentityCase)| {
        let user = |person: u8| Identity { kind: IdentityKind::User, value: format!("u{person}") };
        let previous = cases.alias.filter(|other| *other != cases.person).map(user);
        // Person 0 never signs in.
        let names_user = (cases.names_user && cases.person > 0) || previous.is_some();
        let email = Identity::of_email(&format!("{}@people.example", cases.person));
        let devices = cases.devices.iter().map(|n| device(cases.person, *n));
        let key = (cases.value % 3).to_string();
        let value = if cases.value > 200 { json!(null) } else { json!(cases.value) };
        ProfileUpdate {
            at,
            rank: if cases.from_server || previous.is_some() {
                SenderRank::Server
            } else {
                SenderRank::Claimed
            },
            user: names_user.then(|| user(cases.person)),
            previous,
            email: email.filter(|_| cases.has_email),
            devices: devices.map(|identity| DeviceIdentity { identity, client: None }).collect(),
            traits: json!({ key: value }).as_object().unwrap().clone(),
            activity: None,
        }
    };
    times.zip(cases).map(update).collect()
}

fn names(update: &ProfileUpdate) -> Vec<Identity> {
    let ProfileUpdate { user, previous, email, devices, .. } = update;
    let devices = devices.iter().map(|device| &device.identity);
    user.iter().chain(previous).chain(email).chain(devices).cloned().collect()
}

/// The identities and traits of one person.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct ModelPerson {
    names: BTreeSet<Identity>,
    user: Option<String>,
    first_seen: i64,
    last_seen: i64,
    traits: BTreeMap<String, String>,
}

/// Returns the connected components of the graph.
fn model(updates: &[ProfileUpdate]) -> BTreeSet<ModelPerson> {
    let mut parts: Vec<(BTreeSet<Identity>, Vec<&ProfileUpdate>)> = Vec::new();
    for update in updates {
        let mut whole = (names(update).into_iter().collect::<BTreeSet<_>>(), vec![update]);
        let (joined, rest) = parts.into_iter().partition(|(names, _)| !names.is_disjoint(&whole.0));
        parts = rest;
        let joined: Vec<_> = joined;
        for (names, updates) in joined {
            whole.0.extend(names);
            whole.1.extend(updates);
        }
        parts.push(whole);
    }
    let person = |(names, mut updates): (BTreeSet<Identity>, Vec<&ProfileUpdate>)| {
        updates.sort_by_key(|update| update.at);
        let alias = updates.iter().rev().find(|update| update.previous.is_some());
        let named = alias.or_else(|| updates.iter().find(|update| update.user.is_some()));
        let mut traits = BTreeMap::new();
        for (key, value) in updates.iter().flat_map(|update| &update.traits) {
            if value.is_null() {
                traits.remove(key);
            } else {
                traits.insert(key.clone(), value.to_string());
            }
        }
        ModelPerson {
            names,
            user: named.and_then(|update| update.user.as_ref()).map(|user| user.value.clone()),
            first_seen: updates.first().unwrap().at.as_millisecond(),
            last_seen: updates.last().unwrap().at.as_millisecond(),
            traits,
        }
    };
    parts.into_iter().map(person).collect()
}

/// Applies the updates as one transaction.
fn apply(bed: &ProfileTestBed, updates: &[ProfileUpdate]) -> ProfileChanges {
    bed.apply(1, updates.to_vec())
}

/// Applies the updates without remembered statements.
fn apply_anew(bed: &ProfileTestBed, updates: &[ProfileUpdate]) -> ProfileChanges {
    bed.forget();
    bed.apply(1, updates.to_vec())
}

fn people(bed: &ProfileTestBed) -> BTreeSet<ModelPerson> {
    let mut people = BTreeMap::new();
    for row in bed.rows("SELECT id, user_id, first_seen, last_seen, traits FROM profiles") {
        let text = |n: usize| row[n].clone().unwrap();
        let traits: tagway_core::event::JsonObject = serde_json::from_str(&text(4)).unwrap();
        let person = ModelPerson {
            names: BTreeSet::new(),
            user: row[1].clone(),
            first_seen: text(2).parse().unwrap(),
            last_seen: text(3).parse().unwrap(),
            traits: traits.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
        };
        people.insert(text(0), person);
    }
    for row in bed.rows("SELECT profile, kind, value FROM identities") {
        let text = |n: usize| row[n].clone().unwrap();
        let kind = IdentityKind::from_name(&text(1)).unwrap();
        let person = people.get_mut(&text(0)).expect("the profile is there");
        person.names.insert(Identity { kind, value: text(2) });
    }
    people.into_values().collect()
}

/// The content of a cache: the profile of each name, and the data of each profile.
type CacheContents = (BTreeMap<Identity, ProfileId>, BTreeMap<ProfileId, (Option<String>, String)>);

fn cached(bed: &ProfileTestBed) -> CacheContents {
    let id = |text: &Option<String>| ProfileId(text.as_ref().unwrap().parse().unwrap());
    let names = bed.rows("SELECT kind, value, profile FROM identities");
    let names = names.into_iter().map(|row| {
        let kind = IdentityKind::from_name(row[0].as_ref().unwrap()).unwrap();
        (Identity { kind, value: row[1].clone().unwrap() }, id(&row[2]))
    });
    let views = bed.rows("SELECT id, user_id, traits FROM profiles");
    let views =
        views.into_iter().map(|row| (id(&row[0]), (row[1].clone(), row[2].clone().unwrap())));
    (names.collect(), views.collect())
}

/// Returns all stored rows, times included. Profiles are numbered by their order, since their numbers
/// may have gaps.
fn kept(bed: &ProfileTestBed) -> Vec<Vec<Option<String>>> {
    let place = |number: &str| format!("(SELECT count(*) FROM profiles q WHERE q.id <= {number})");
    let mut rows = bed.rows(&format!(
        "SELECT {}, user_id, named_at, first_seen, last_seen, traits, trait_times, touches, device,
             place, consent, group_id, stated FROM profiles ORDER BY id",
        place("profiles.id")
    ));
    rows.extend(bed.rows(&format!(
        "SELECT kind, value, {}, since, claimed, seen, client FROM identities ORDER BY kind, value",
        place("profile")
    )));
    rows
}

/// Returns a device that only this person has.
fn own(person: u8, n: u8) -> Identity {
    let kinds = [IdentityKind::Anonymous, IdentityKind::Visitor, IdentityKind::Ga];
    Identity { kind: kinds[usize::from(n)], value: format!("d{person}") }
}

/// Returns a device that every person has.
fn shared(_person: u8, n: u8) -> Identity {
    own(0, n)
}

in_every_backend!(
    without_shared_devices_neither_order_nor_repetition_matters,
    two_user_ids_join_only_by_a_servers_alias,
    browser_address_reads_and_changes_nothing_of_a_user,
    remembered_statements_change_no_result,
);

fn without_shared_devices_neither_order_nor_repetition_matters(make: TestBedFactory<'_>) {
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) }, |(
        cases in prop::collection::vec(identity_cases(5), 1..25),
        order in prop::collection::vec(any::<u16>(), 25),
        is_servers in any::<bool>(),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    )| {
        let mut updates = updates(&cases, own);
        // The owner of an address that no server states depends on who was known when it was stated.
        // Nor does one rank join profiles that another keeps apart.
        for update in &mut updates {
            if is_servers {
                update.rank = SenderRank::Server;
            } else {
                *update =
                    ProfileUpdate { rank: SenderRank::Claimed, email: None, previous: None, ..update.clone() };
            }
        }
        let expected = model(&updates);
        let mut shuffled: Vec<_> = order.into_iter().zip(updates).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let mut shuffled: Vec<_> = shuffled.into_iter().map(|(_, update)| update).collect();
        shuffled.extend(again.iter().map(|index| index.get(&shuffled).clone()).collect::<Vec<_>>());
        let Some(bed) = make(LIMITS) else { return Ok(()) };
        let (first, second) = shuffled.split_at(shuffled.len() / 2);
        apply(&bed, first);
        apply(&bed, second);
        prop_assert_eq!(people(&bed), expected);
        for again in [apply(&bed, &shuffled), apply_anew(&bed, &shuffled)] {
            prop_assert_eq!(again, ProfileChanges::default(), "all of it is known");
        }
    });
}

fn two_user_ids_join_only_by_a_servers_alias(make: TestBedFactory<'_>) {
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) }, |(
        cases in prop::collection::vec(identity_cases(4), 1..30),
        order in prop::collection::vec(any::<u16>(), 30),
    )| {
        let mut shuffled: Vec<_> = order.into_iter().zip(updates(&cases, shared)).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(_, update)| update).collect();
        let (Some(bed), Some(other)) = (make(LIMITS), make(LIMITS)) else {
            return Ok(());
        };
        let mut before = cached(&bed);
        for update in &shuffled {
            let changes = apply(&bed, std::slice::from_ref(update));
            let after = cached(&bed);
            for name in before.0.keys().chain(after.0.keys()) {
                let is_same = before.0.get(name) == after.0.get(name);
                prop_assert!(is_same || changes.identities.contains(name), "{:?}", name);
            }
            for (profile, known) in &before.1 {
                let is_same = after.1.get(profile) == Some(known);
                prop_assert!(is_same || changes.profiles.contains(profile), "{:?}", profile);
            }
            before = after;
            let said_again = apply_anew(&bed, std::slice::from_ref(update));
            prop_assert_eq!(said_again.identities, BTreeSet::new(), "said again it is nothing new");
        }
        apply_anew(&other, &shuffled);
        let found = people(&bed);
        prop_assert_eq!(&people(&other), &found, "the same events make the same people");
        // The expected groups of users by aliases alone.
        let aliases: Vec<ProfileUpdate> = shuffled
            .iter()
            .filter(|update| update.user.is_some())
            .map(|update| ProfileUpdate { email: None, devices: Vec::new(), ..update.clone() })
            .collect();
        let users = |person: &ModelPerson| -> BTreeSet<Identity> {
            let is_user = |name: &&Identity| name.kind == IdentityKind::User;
            person.names.iter().filter(is_user).cloned().collect()
        };
        let expected: BTreeSet<_> = model(&aliases).iter().map(users).collect();
        let found: BTreeSet<_> = found.iter().map(users).filter(|u| !u.is_empty()).collect();
        prop_assert_eq!(found, expected);
    });
}

fn browser_address_reads_and_changes_nothing_of_a_user(make: TestBedFactory<'_>) {
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) }, |(
        cases in prop::collection::vec(identity_cases(4), 1..20),
        order in prop::collection::vec(any::<u16>(), 20),
        last in 0..4_u8,
        is_named in any::<bool>(),
    )| {
        let updates = updates(&cases, own);
        let mut shuffled: Vec<_> = order.into_iter().zip(updates).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        let mut before: Vec<_> = shuffled.into_iter().map(|(_, update)| update).collect();
        let Some(last_said) = before.pop() else { return Ok(()) };
        let with = ProfileUpdate {
            rank: SenderRank::Claimed,
            previous: None,
            user: last_said.user.filter(|_| is_named),
            email: Identity::of_email(&format!("{last}@people.example")),
            ..last_said
        };
        let without = ProfileUpdate { email: None, ..with.clone() };
        let users = |last: &ProfileUpdate| {
            let bed = make(LIMITS)?;
            apply(&bed, &before);
            apply(&bed, std::slice::from_ref(last));
            let mut users = people(&bed);
            users.retain(|person| person.user.is_some());
            let plain = |mut person: ModelPerson| {
                // An address that no profile had may become theirs.
                person.names.retain(|name| name.kind != IdentityKind::Email);
                person
            };
            Some(users.into_iter().map(plain).collect::<BTreeSet<_>>())
        };
        prop_assert_eq!(users(&with), users(&without));
    });
}

fn remembered_statements_change_no_result(make: TestBedFactory<'_>) {
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) }, |(
        cases in prop::collection::vec(identity_cases(3), 2..8),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0..5_i64), 1..40),
    )| {
        // A few statements, repeated a quarter of an hour apart or so.
        let cases = updates(&cases, shared);
        let mut minutes = 0;
        let stream: Vec<ProfileUpdate> = order
            .iter()
            .map(|(index, quarters)| {
                minutes += quarters * 15 - 10;
                let at = Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap();
                ProfileUpdate { at, ..index.get(&cases).clone() }
            })
            .collect();
        let (Some(with), Some(without)) = (make(LIMITS), make(LIMITS)) else { return Ok(()) };
        for updates in stream.chunks(3) {
            apply(&with, updates);
            for update in updates {
                apply_anew(&without, std::slice::from_ref(update));
            }
            prop_assert_eq!(kept(&with), kept(&without));
        }
    });
}

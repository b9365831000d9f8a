//! Rules as people write them, and whom they select.

mod equality;
mod language;
mod runs;
mod speed;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::*;
use crate::event::Object;
use crate::profile;

/// The moment of all tests.
const NOW: &str = "2026-11-25T18:37:55.123Z";

fn now_ms() -> i64 {
    NOW.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

/// Adds a person with this number to the profiles' tables.
fn add(c: &Connection, id: i64, site: i64, person: &Person, group: Option<&str>) {
    let text = |object: &Object| serde_json::to_string(object).unwrap();
    c.prepare_cached(
        "INSERT INTO profiles (id, site, user_id, traits, first_seen, last_seen, touches, device,
         place, consent, group_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .unwrap()
    .execute((
        id,
        site,
        format!("u{id}"),
        text(&person.traits),
        person.first_seen,
        person.last_seen,
        text(&person.touches),
        text(&person.device),
        text(&person.place),
        text(&person.consent),
        group,
    ))
    .unwrap();
    for kind in &person.identities {
        c.prepare_cached("INSERT INTO identities (site, kind, value, profile) VALUES (?, ?, ?, ?)")
            .unwrap()
            .execute((site, kind, format!("{kind}{id}"), id))
            .unwrap();
    }
    for (name, days) in &person.activity {
        let named = "INSERT INTO event_names (site, name) VALUES (?, ?) ON CONFLICT DO NOTHING";
        c.prepare_cached(named).unwrap().execute((site, name)).unwrap();
        let number = "SELECT id FROM event_names WHERE site = ? AND name = ?";
        let number: i64 =
            c.prepare_cached(number).unwrap().query_row((site, name), |r| r.get(0)).unwrap();
        for (day, tally) in days {
            c.prepare_cached("INSERT INTO activity VALUES (?, ?, ?, ?, ?, ?, ?)")
                .unwrap()
                .execute((id, number, day, tally.count, tally.first, tally.last, tally.sum))
                .unwrap();
        }
    }
}

fn rule(value: Value) -> Rule {
    Rule::parse(&value).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn mistakes(value: Value) -> Vec<String> {
    Rule::parse(&value).unwrap_err().iter().map(ToString::to_string).collect()
}

/// A person who did these things so many days ago, at noon.
fn doer(done: &[(&str, i64)]) -> Person {
    let mut person = Person { traits: object(json!({ "plan": "pro" })), ..Person::default() };
    for (name, days_ago) in done {
        let day = now_ms().div_euclid(86_400_000) - days_ago;
        let noon = day * 86_400_000 + 43_200_000;
        let tally = Tally { count: 1, first: noon, last: noon, sum: 2.5 };
        person.activity.entry((*name).to_owned()).or_default().insert(day, tally);
    }
    person
}

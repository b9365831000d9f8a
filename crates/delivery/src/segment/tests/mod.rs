//! Tests of rules and the people they select.

mod equality;
mod language;
mod poison;
mod pushes;
mod runs;
mod speed;
mod synced_rows;

pub(in crate::segment) use runs::segment;

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::*;
use tagway_core::event::JsonObject;
use tagway_storage::postgres::{PostgresDatabase, searchable};
use tagway_storage::profile;
use tagway_storage::store::{CommitSyncMode, SqliteStore};

/// The moment of all tests.
pub(in crate::segment) const NOW: &str = "2026-11-25T18:37:55.123Z";

fn now_ms() -> i64 {
    NOW.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn object(value: Value) -> JsonObject {
    value.as_object().cloned().unwrap_or_default()
}

/// Adds a person with this number to the profiles' tables.
pub(in crate::segment) fn add(
    c: &Connection,
    id: i64,
    site: i64,
    person: &RuleProfile,
    group: Option<&str>,
) {
    let text = |object: &JsonObject| serde_json::to_string(object).unwrap();
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

/// Returns the same as statements for PostgreSQL.
fn added(id: i64, site: i64, person: &RuleProfile, group: Option<&str>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let text = |object: &JsonObject| quoted(&serde_json::to_string(object).unwrap());
    let number = |number: Option<i64>| number.map_or("NULL".to_owned(), |it| it.to_string());
    let parts = [
        ("traits", &person.traits),
        ("touches", &person.touches),
        ("device", &person.device),
        ("place", &person.place),
        ("consent", &person.consent),
    ];
    let columns: String = parts.iter().map(|(name, _)| format!(", {name}, {name}_json")).collect();
    let values: String = parts
        .iter()
        .map(|(_, it)| format!(", {}, {}", text(it), quoted(&searchable(it))))
        .collect();
    let mut statements = format!(
        "INSERT INTO profiles (id, site, user_id, first_seen, last_seen, group_id{columns})
         VALUES ({id}, {site}, 'u{id}', {}, {}, {}{values});",
        number(person.first_seen),
        number(person.last_seen),
        group.map_or("NULL".to_owned(), quoted),
    );
    for kind in &person.identities {
        statements += &format!(
            "INSERT INTO identities (site, kind, value, profile)
             VALUES ({site}, '{kind}', '{kind}{id}', {id});"
        );
    }
    for (name, days) in &person.activity {
        let name = quoted(name);
        statements += &format!(
            "INSERT INTO event_names (site, name) VALUES ({site}, {name}) ON CONFLICT DO NOTHING;"
        );
        for (day, tally) in days {
            let DailyTally { count, first, last, sum } = tally;
            statements += &format!(
                "INSERT INTO activity SELECT {id}, id, {day}, {count}, {first}, {last}, {sum}
                 FROM event_names WHERE site = {site} AND name = {name};"
            );
        }
    }
    statements
}

/// Makes a file's tests run in every backend. Without PostgreSQL its tests are skipped silently.
macro_rules! in_every_backend {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() {
                super::$name(crate::segment::tests::SegmentTestBed::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() {
                if let Some(bed) = crate::segment::tests::SegmentTestBed::postgres().await {
                    super::$name(bed).await;
                }
            })*
        }
    };
}
use in_every_backend;

/// A segment store in one backend, next to profiles.
struct SegmentTestBed {
    segments: Arc<dyn SegmentStore>,
    sync_store: Arc<dyn sync::SyncStore>,
    people: TestPeopleStore,
}

enum TestPeopleStore {
    Sqlite(
        Arc<SqliteStore>,
        #[expect(dead_code, reason = "it ends with the bed")] tempfile::TempDir,
    ),
    Postgres(Arc<PostgresDatabase>, i64),
}

impl SegmentTestBed {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let schemas = [profile::MIGRATIONS, MIGRATIONS];
        let store =
            SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, Arc::default()).unwrap();
        let store = Arc::new(store);
        let segments = Arc::new(SqliteSegmentStore::new(store.clone(), Duration::from_secs(60)));
        Self {
            segments: segments.clone(),
            sync_store: segments,
            people: TestPeopleStore::Sqlite(store, folder),
        }
    }

    async fn postgres() -> Option<Self> {
        let database = PostgresDatabase::of_test(&[profile::SCHEMA, SCHEMA])?;
        database.name_site(7, "shop");
        let client = database.client().await.unwrap();
        let site = database.site(&client, 7).await.unwrap();
        let segments = PostgresSegmentStore::new(database.clone(), Duration::from_secs(60));
        let segments = Arc::new(segments);
        let people = TestPeopleStore::Postgres(database, site);
        Some(Self { segments: segments.clone(), sync_store: segments, people })
    }

    async fn add(&self, id: i64, person: RuleProfile) {
        match &self.people {
            TestPeopleStore::Sqlite(store, _) => {
                let added = store.write(move |c| {
                    add(c, id, 7, &person, None);
                    Ok(())
                });
                added.await.unwrap();
            }
            TestPeopleStore::Postgres(database, site) => {
                let client = database.client().await.unwrap();
                client.batch_execute(&added(id, *site, &person, None)).await.unwrap();
            }
        }
    }

    async fn execute(&self, statement: &'static str) {
        match &self.people {
            TestPeopleStore::Sqlite(store, _) => {
                store.write(move |c| c.execute(statement, [])).await.unwrap();
            }
            TestPeopleStore::Postgres(database, _) => {
                let client = database.client().await.unwrap();
                client.batch_execute(statement).await.unwrap();
                // As the profiles' code does.
                let again = "UPDATE profiles SET traits_json = '{}' WHERE traits = '{}'";
                client.batch_execute(again).await.unwrap();
            }
        }
    }
}

fn rule(value: Value) -> SegmentRule {
    SegmentRule::parse(&value).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn mistakes(value: Value) -> Vec<String> {
    SegmentRule::parse(&value).unwrap_err().iter().map(ToString::to_string).collect()
}

/// Builds a person with these events, each at noon some days ago.
fn person_with_events(done: &[(&str, i64)]) -> RuleProfile {
    let mut person =
        RuleProfile { traits: object(json!({ "plan": "pro" })), ..RuleProfile::default() };
    for (name, days_ago) in done {
        let day = now_ms().div_euclid(86_400_000) - days_ago;
        let noon = day * 86_400_000 + 43_200_000;
        let tally = DailyTally { count: 1, first: noon, last: noon, sum: 2.5 };
        person.activity.entry((*name).to_owned()).or_default().insert(day, tally);
    }
    person
}

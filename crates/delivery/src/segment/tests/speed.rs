//! A measurement of rules over a million people. Prints times; asserts nothing about the results.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::segment::sql::compile;
use crate::segment::sqlite::dialect::SqliteDialect;
use tagway_storage::store::{CommitSyncMode, SqliteStore};

const PEOPLE: i64 = 1_000_000;

fn person(id: i64) -> RuleProfile {
    let plan = ["free", "pro", "team"][usize::try_from(id % 3).unwrap()];
    let mut done = vec![("page", id % 30)];
    if id % 4 == 0 {
        done.push(("Product Added", id % 11));
    }
    if id % 9 == 0 {
        done.push(("Order Completed", id % 13));
    }
    let mut person = person_with_events(&done);
    person.traits = object(json!({
        "plan": plan, "email": format!("person{id}@shop.example"), "age": id % 90,
        "address": { "city": "Bern", "country": "CH" }, "name": "Somebody Ordinary",
    }));
    person.device = object(json!({ "type": "mobile", "os": "iOS", "browser": "Safari" }));
    person.consent = object(json!({ "marketing": id % 2 == 0, "analytics": true }));
    person.last_seen = Some(now_ms() - (id % 40) * 86_400_000);
    person.first_seen = Some(now_ms() - (id % 400) * 86_400_000);
    person.identities = ["anonymous", "user"].map(str::to_owned).into();
    if id % 5 == 0 {
        person.identities.insert("email".to_owned());
    }
    person
}

#[tokio::test]
#[ignore = "minutes of filling a database; run it alone, for the figures it prints"]
async fn a_million_people() {
    let folder = tempfile::tempdir().unwrap();
    let schemas = [profile::MIGRATIONS, MIGRATIONS];
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, Arc::default()).unwrap();
    let store = Arc::new(store);
    for start in (1..=PEOPLE).step_by(10_000) {
        store
            .write(move |c| {
                (start..start + 10_000).for_each(|id| add(c, id, 7, &person(id), None));
                Ok(())
            })
            .await
            .unwrap();
    }
    let segments = SqliteSegmentStore::new(store.clone(), Duration::from_secs(600));
    let rules = [
        (
            "cart",
            json!({ "all": [
            { "event": "Product Added", "within": "7d" },
            { "not": { "event": "Order Completed", "within": "7d" } },
            { "consent": "marketing" },
        ] }),
        ),
        (
            "counts",
            json!({ "all": [
            { "event": "page", "count": ">= 1", "within": "30d" },
            { "event": "Order Completed", "sum": "> 2" },
            { "identity": "email" },
        ] }),
        ),
        (
            "traits",
            json!({ "all": [
            { "trait": "plan", "in": ["pro", "team"] },
            { "trait": "age", ">=": 18 },
            { "seen": "last", "after": "30d" },
        ] }),
        ),
        (
            "any",
            json!({ "any": [
            { "trait": "plan", "=": "team" },
            { "event": "Product Added", "count": ">= 2" },
            { "identity": "email" },
        ] }),
        ),
    ];
    for (name, written) in rules {
        let rule = Arc::new(rule(written));
        let (unit, now_ms) = (MembershipUnit::User, now_ms());
        let evaluation = RuleEvaluation { rule, unit, now_ms, only: None };
        let statement = compile(&evaluation, 7, &SqliteDialect);
        let plan = store.read(move |c| {
            let mut plan = c.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.text))?;
            let parameters = rusqlite::params_from_iter(&statement.parameters);
            let lines = plan.query_map(parameters, |row| row.get::<_, String>(3))?;
            lines.collect::<rusqlite::Result<Vec<_>>>()
        });
        println!("{name}: {:#?}", plan.await.unwrap());
        for _ in 0..3 {
            let began = Instant::now();
            let found = segments.evaluate(SiteId(7), evaluation.clone()).await.unwrap();
            println!("{name}: {} members in {:?}", found.len(), began.elapsed());
        }
    }
}

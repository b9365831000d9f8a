//! What the embedded profiles keep, and what they forget.

mod activity;
mod model;
mod stitching;

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::metrics::Metrics;
use crate::profile::{Device, IdentityKind};
use crate::store::Sync;

const SITE: SiteId = SiteId(1);

fn open(folder: &std::path::Path) -> SqliteProfiles {
    let metrics = Arc::new(Metrics::new());
    let store = Store::open(folder, Sync::Os, &[MIGRATIONS], metrics).unwrap();
    SqliteProfiles::new(
        Arc::new(store),
        Limits { traits_bytes: 100, identities: 3, event_names: 3 },
    )
}

/// A database of its own, in memory, after the first `steps` of the schema.
fn database(steps: usize) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    for step in MIGRATIONS.steps.iter().take(steps) {
        connection.execute_batch(step).unwrap();
    }
    connection
}

fn anonymous(value: &str) -> Identity {
    Identity { kind: IdentityKind::Anonymous, value: value.into() }
}

fn user(value: &str) -> Identity {
    Identity { kind: IdentityKind::User, value: value.into() }
}

fn weak(identity: Identity) -> Device {
    Device { identity, client: None }
}

fn said(user: Option<&str>, device: &str, traits: serde_json::Value) -> Update {
    let traits = traits.as_object().unwrap().clone();
    let user = user.map(self::user);
    Update { user, devices: vec![weak(anonymous(device))], traits, ..Update::default() }
}

async fn view(store: &SqliteProfiles, identity: Identity) -> Option<(Option<String>, String)> {
    let (_, view) = store.find(SITE, vec![identity]).await.unwrap().remove(0)?;
    Some((view.user_id, serde_json::Value::Object(view.traits).to_string()))
}

#[tokio::test]
async fn an_anonymous_profile_becomes_the_users_and_traits_merge() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let updates = vec![
        said(None, "a", json!({"plan": "free", "town": "Bern"})),
        said(Some("u"), "a", json!({"plan": "pro", "town": null})),
        said(Some("u"), "b", json!({})),
    ];
    let changed = store.apply(SITE, 3, updates).await.unwrap().identities;
    assert!([user("u"), anonymous("a"), anonymous("b")].iter().all(|i| changed.contains(i)));
    let expected = Some((Some("u".to_owned()), r#"{"plan":"pro"}"#.to_owned()));
    for identity in [user("u"), anonymous("a"), anonymous("b")] {
        assert_eq!(view(&store, identity).await, expected);
    }
    assert_eq!(view(&store, anonymous("c")).await, None);
    assert_eq!(store.projected(SITE).await.unwrap(), 3);
}

#[tokio::test]
async fn two_users_of_one_device_stay_two_people() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let updates = vec![
        said(Some("u"), "a", json!({"name": "U"})),
        said(Some("v"), "a", json!({"name": "V"})),
    ];
    store.apply(SITE, 2, updates).await.unwrap();
    assert_eq!(view(&store, user("u")).await.unwrap().1, r#"{"name":"U"}"#);
    assert_eq!(view(&store, user("v")).await.unwrap().1, r#"{"name":"V"}"#);
    assert_eq!(view(&store, anonymous("a")).await.unwrap().0.as_deref(), Some("v"));
}

#[tokio::test]
async fn an_event_that_says_nothing_makes_no_profile() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.apply(SITE, 1, vec![said(None, "a", json!({}))]).await.unwrap();
    assert_eq!(view(&store, anonymous("a")).await, None);
}

#[tokio::test]
async fn what_was_known_of_a_device_lies_beneath_what_its_user_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let updates = vec![
        said(Some("u"), "a", json!({"plan": "pro"})),
        said(None, "b", json!({"plan": "free", "town": "Bern"})),
    ];
    store.apply(SITE, 2, updates).await.unwrap();
    let changes = store.apply(SITE, 3, vec![said(Some("u"), "b", json!({}))]).await.unwrap();
    let expected = Some((Some("u".to_owned()), r#"{"plan":"pro","town":"Bern"}"#.to_owned()));
    for identity in [user("u"), anonymous("a"), anonymous("b")] {
        assert_eq!(view(&store, identity).await, expected);
    }
    assert_eq!(changes.identities, [anonymous("b")].into());
    assert_eq!(changes.profiles.len(), 2, "the one that went and the one it went into");
}

#[tokio::test]
async fn what_changes_nothing_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let update = said(Some("u"), "a", json!({"plan": "pro", "town": null}));
    assert_eq!(store.apply(SITE, 1, vec![update.clone()]).await.unwrap().profiles.len(), 1);
    assert_eq!(store.apply(SITE, 2, vec![update]).await.unwrap(), Changes::default());
    let device = said(Some("u"), "b", json!({}));
    let changes = store.apply(SITE, 3, vec![device]).await.unwrap();
    assert!(changes.profiles.is_empty(), "another device says nothing new of the person");
    assert_eq!(changes.identities, [anonymous("b")].into());
}

#[tokio::test]
async fn a_profile_takes_only_so_many_devices() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let updates = ["a", "b", "c", "d", "a"].map(|device| said(Some("u"), device, json!({})));
    let changes = store.apply(SITE, 5, updates.into()).await.unwrap();
    assert_eq!(changes.identities_refused, 1);
    assert!(view(&store, anonymous("c")).await.is_some());
    assert_eq!(view(&store, anonymous("d")).await, None);
    let other = vec![said(None, "e", json!({"x": 1})), said(Some("u"), "e", json!({}))];
    let changes = store.apply(SITE, 7, other).await.unwrap();
    assert_eq!(view(&store, anonymous("e")).await, None);
    assert_eq!(view(&store, user("u")).await.unwrap().1, r#"{"x":1}"#);
    assert!(changes.identities.contains(&anonymous("e")));
}

#[tokio::test]
async fn a_profile_takes_only_so_many_traits_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let long = "x".repeat(60);
    let updates = vec![
        said(Some("u"), "a", json!({"long": long, "town": "Bern"})),
        said(Some("u"), "a", json!({"other": long})),
        said(Some("u"), "a", json!({"town": "x".repeat(61), "plan": "pro"})),
    ];
    let changes = store.apply(SITE, 3, updates).await.unwrap();
    assert_eq!(changes.traits_refused, 2);
    let (_, traits) = view(&store, user("u")).await.unwrap();
    assert_eq!(traits, json!({"long": long, "town": "Bern", "plan": "pro"}).to_string());
    let shorter = said(Some("u"), "a", json!({"long": null, "other": long}));
    assert_eq!(store.apply(SITE, 4, vec![shorter]).await.unwrap().traits_refused, 0);
}

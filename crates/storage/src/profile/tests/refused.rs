//! Tests of values that the database refuses.

use serde_json::json;

use super::{LIMITS, ProfileTestBed, TestBackend, anonymous, update_with_traits, user, view};

/// Returns a text that does not compress: longer than an index of PostgreSQL takes.
fn long_id() -> String {
    use std::fmt::Write as _;
    let mut random = fastrand::Rng::with_seed(7);
    (0..6000).fold(String::new(), |mut text, _| {
        let _infallible = write!(text, "{}", random.alphanumeric());
        text
    })
}

#[test]
fn value_refused_by_postgresql_blocks_no_other_update() {
    let Some(store) = ProfileTestBed::new(TestBackend::Postgres, LIMITS) else { return };
    let long = long_id();
    let mut updates = Vec::new();
    for n in 0..7 {
        updates.push(update_with_traits(
            Some(&format!("u{n}")),
            &format!("d{n}"),
            json!({ "n": n }),
        ));
    }
    updates.insert(3, update_with_traits(Some(&long), "d", json!({ "plan": "pro" })));
    updates.push(update_with_traits(Some("u0"), "d0", json!({ "n": "last" })));
    store.apply(9, updates);
    assert_eq!(store.projected(), 9);
    assert_eq!(view(&store, user("u0")).unwrap().1, r#"{"n":"last"}"#, "in their order");
    for n in 1..7 {
        assert_eq!(view(&store, anonymous(&format!("d{n}"))).unwrap().1, format!(r#"{{"n":{n}}}"#));
    }
    assert_eq!(view(&store, anonymous("d")), None);
    // Alone in its batch the update is skipped as well.
    store.apply(10, vec![update_with_traits(Some(&long), "d", json!({}))]);
    assert_eq!(store.projected(), 10);
}

//! Tests of the syntax of rules, its errors, and its meaning.

use super::*;
use crate::segment::rule::{MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES};

#[test]
fn rule_finds_people_with_abandoned_carts() {
    let rule = rule(json!({ "all": [
        { "event": "Product Added", "count": ">= 1", "within": "7d" },
        { "not": { "event": "Order Completed", "within": "7d" } },
    ] }));
    let holds = |done: &[(&str, i64)]| rule.holds(&person_with_events(done), now_ms());
    assert!(holds(&[("Product Added", 1)]));
    assert!(
        holds(&[("Product Added", 7)]),
        "the day of the moment seven days ago counts as a whole"
    );
    assert!(!holds(&[("Product Added", 8)]));
    assert!(!holds(&[("Product Added", 1), ("Order Completed", 0)]));
    assert!(holds(&[("Product Added", 1), ("Order Completed", 30)]));
}

#[test]
fn parse_reports_every_error_with_its_path_and_the_nearest_name() {
    let found = mistakes(json!({ "all": [
        { "trait": "plan", "equals": "pro" },
        { "evnt": "X" },
        { "event": "X", "count": "many", "within": "12h", "sum": "> 5" },
        { "identity": "emial" },
        { "any": [] },
        { "seen": "last", "after": "soon" },
        { "device": "osx", "=": "iOS" },
        { "trait": "a..b", "in": [] },
        { "trait": "a", "event": "b" },
        { "event": "X", "where": { "price": { "after": "3d" }, "b": [] } },
        { "event": "X", "never": true, "count": 3 },
        "plan",
    ] }));
    let expected = [
        "where.all[0].equals: unknown key",
        "where.all[1].evnt: unknown condition; did you mean \"event\"?",
        "where.all[2].count: \"many\" is not a comparison with a whole number, such as \">= 2\"",
        "where.all[2].within: must be whole days, such as \"7d\": counts are kept by the day",
        "where.all[3].identity: \"emial\" is not one of user, email, anonymous, visitor, ga, fbp, \
         device:VENDOR; did you mean \"email\"?",
        "where.all[4].any: must not be empty",
        "where.all[5].after: \"soon\" must be a time",
        "where.all[6].device: \"osx\" is not one of type, os, os_version, browser, \
         browser_version; did you mean \"os\"?",
        "where.all[7].trait: \"a..b\" is not a path",
        "where.all[7].in: must not be empty",
        "where.all[8]: has both \"trait\" and \"event\"",
        "where.all[9].where.price.after: must be a date",
        "where.all[9].where.b: expected a text",
        "where.all[10].never: must not be combined with",
        "where.all[11]: expected a table, found a string",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn parse_bounds_the_depth_and_size_of_a_rule() {
    let leaf = json!({ "trait": "a" });
    let deep = |depth| (1..depth).fold(leaf.clone(), |rule, _| json!({ "not": rule }));
    assert!(SegmentRule::parse(&deep(MAX_DEPTH)).is_ok());
    assert!(SegmentRule::parse(&deep(MAX_DEPTH + 1)).is_err());
    let wide = |width: usize| json!({ "any": vec![leaf.clone(); width] });
    assert!(SegmentRule::parse(&wide(MAX_CONDITIONS)).is_ok());
    assert_eq!(mistakes(wide(MAX_CONDITIONS * 2)).len(), 1, "said once");
    let long = |length: usize| json!({ "trait": "a", "in": vec![1; length] });
    assert!(SegmentRule::parse(&long(MAX_VALUES)).is_ok());
    assert_eq!(mistakes(long(MAX_VALUES * 2)).len(), 1, "said once");
    assert!(SegmentRule::parse(&json!({ "trait": "a", "=": "x".repeat(1001) })).is_err());
}

#[test]
fn missing_value_fails_every_test_and_not_inverts_that() {
    let nobody = RuleProfile::default();
    for test in [
        json!({ "trait": "a" }),
        json!({ "trait": "a", "!=": 1 }),
        json!({ "consent": "marketing" }),
        json!({ "seen": "first", "before": "1d" }),
        json!({ "event": "X", "first": { "before": "1d" } }),
        json!({ "event": "X", "count": "> 0" }),
    ] {
        assert!(!rule(test.clone()).holds(&nobody, now_ms()), "{test}");
        assert!(rule(json!({ "not": test })).holds(&nobody, now_ms()));
    }
    for test in [
        json!({ "trait": "a", "exists": false }),
        json!({ "event": "X", "never": true }),
        json!({ "event": "X", "count": "< 3" }),
        json!({ "event": "X", "sum": "= 0" }),
        json!({ "identity": "email", "exists": false }),
    ] {
        assert!(rule(test.clone()).holds(&nobody, now_ms()), "{test}");
    }
}

#[test]
fn parse_refuses_a_path_that_begins_with_a_part_of_an_event() {
    let mistakes = |rule: Value| SegmentRule::parse(&rule).err().unwrap_or_default();
    for path in ["properties.revenue", "propertis.revenue", "traits.plan", "context.page.url"] {
        let found = mistakes(json!({ "event": "X", "where": { path: 1 } }));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].message.contains("must be a property of the event: write"), "{found:?}");
    }
    for path in ["traits.plan", "trait.plan", "profile.traits"] {
        let found = mistakes(json!({ "trait": path, "=": "pro" }));
        assert_eq!((found.len(), found[0].suggestion.is_some()), (1, true), "{path}: {found:?}");
    }
    for path in ["cart.value", "property.price", "revenue"] {
        assert!(mistakes(json!({ "event": "X", "where": { path: 1 } })).is_empty(), "{path}");
    }
    assert!(mistakes(json!({ "trait": "address.city", "=": "x" })).is_empty());
}

#[test]
fn key_is_equal_for_equal_filters_in_every_version() {
    let key = |filter: Value| {
        let mut keys = Vec::new();
        rule(json!({ "event": "X", "where": filter }))
            .each_event(&mut |event| keys.push(event.key()));
        keys.pop().unwrap()
    };
    let one = key(json!({ "a": 1, "b.c": { ">": 2, "<": 9 } }));
    assert_eq!(one, key(json!({ "b.c": { "<": 9, ">": 2 }, "a": { "=": 1 } })));
    assert_ne!(one, key(json!({ "a": 1 })));
    // Counters of running gateways have this name.
    assert_eq!(key(json!({ "a": 1 })), "X\u{1f}caee96c87bccccb773de7b115896c764");
}

#[test]
fn counters_return_the_keys_of_passing_filters() {
    let filtered = rule(json!({ "event": "Order", "where": { "cart.value": { ">=": 100 } } }));
    let mut key = String::new();
    filtered.each_event(&mut |event| key = event.key());
    let segment = runs::segment("a", filtered);
    let counters = SegmentCounterSet::of(&[Arc::new(segment)], []);
    let names = |name: &str, properties: Value| {
        let event = json!({
            "type": "track", "event": name, "messageId": "m", "timestamp": NOW,
            "receivedAt": NOW, "properties": properties,
        });
        let mut names = Vec::new();
        profile::EventCounterSet::keys(
            &counters,
            &serde_json::from_value(event).unwrap(),
            &mut names,
        );
        names
    };
    assert_eq!(names("Order", json!({ "cart": { "value": 100 } })), [key]);
    assert_eq!(names("Order", json!({ "cart": { "value": "100" } })), [""; 0]);
    assert_eq!(names("Other", json!({ "cart": { "value": 100 } })), [""; 0]);
    let used = SegmentCounterSet::of(&[], ["Refund".to_owned()]);
    let reserves = |of: &SegmentCounterSet| {
        ["Order", "Refund", "Other"].map(|name| profile::EventCounterSet::reserves(of, name))
    };
    assert_eq!(
        [reserves(&counters), reserves(&used)],
        [[true, false, false], [false, true, false]]
    );
}

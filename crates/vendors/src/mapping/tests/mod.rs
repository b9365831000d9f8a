//! Tests of mapped events.

use serde_json::{Value, json};

use super::*;
use crate::test_support;

mod bounds;

/// The bounds of these tests, ahead of each test's own settings.
const BOUNDS: &str = "template_steps = 50_000\n";

fn mapping(text: &str) -> EventMapping {
    test_support::settings(&format!("{BOUNDS}{text}"), EventMapping::read)
}

fn mistakes(text: &str) -> Vec<String> {
    test_support::read(&format!("{BOUNDS}{text}"), EventMapping::read).1
}

fn order() -> EnrichedEvent {
    let fields = json!({
        "event": "Order Completed", "userId": "u1",
        "properties": { "order_id": "1", "price": "9.50", "quantity": 2, "internal_note": "x",
            "when": "2026-11-23T12:00:00Z", "products": [{ "sku": "a", "cost": 1 }, { "sku": "b" }] },
        "context": { "traits": { "email": " Mary@X.example " } },
    });
    test_support::known(fields, Some("u1"), json!({ "plan": "pro", "email": "old@x.example" }))
}

/// Returns the mapped event and the person's traits as JSON.
fn mapped(text: &str, event: EnrichedEvent) -> (Value, Value) {
    let mapped = mapping(text).apply(event).unwrap();
    let event = serde_json::to_value(&*mapped.event).unwrap();
    (event, Value::Object(mapped.profile.traits.clone()))
}

fn rule(text: &str) -> String {
    format!("[[mapping.rules]]\n{text}")
}

#[test]
fn apply_returns_the_same_event_without_a_mapping() {
    let event = order();
    let mapped = mapping("").apply(event.clone()).unwrap();
    assert!(Arc::ptr_eq(&event.event, &mapped.event), "not even copied");
}

#[test]
fn conditions_see_properties_and_the_person() {
    let passes =
        |condition: &str| mapping(&format!("where = {condition:?}")).apply(order()).is_ok();
    assert!(passes("properties.quantity >= 2 and traits.plan == 'pro'"));
    assert!(passes("'Order' in event and not properties.missing.deep"));
    assert!(!passes("properties.quantity > 2"));
    assert!(!passes("traits.plan == 'free'"));
    let odd = mapping("where = \"properties.quantity > 'text' and 1 / 0\"").apply(order());
    assert!(odd.is_err());
    assert_eq!(
        mapping("types = [\"page\"]").apply(order()).unwrap_err(),
        WithheldReason::NotSelected
    );
}

#[test]
fn conditions_and_templates_see_computed_attributes() {
    use tagway_core::event::{ComputedAttributes, EventTally};
    let tally = EventTally { count: 3, first: 1000, last: 60_000, sum: 42.5 };
    let touch = json!({ "first": { "at": 1000, "campaign": { "source": "news" } } });
    let computed = ComputedAttributes {
        first_seen: Some(1000),
        touches: touch.as_object().unwrap().clone(),
        activity: [("Order Completed".to_owned(), tally)].into(),
        ..ComputedAttributes::default()
    };
    let computed = Some(Arc::new(computed));
    let passes = |condition: &str| {
        let mapping = mapping(&format!("where = {condition:?}"));
        assert!(mapping.needs_computed_attributes(), "{condition}");
        mapping.apply(order().with_computed(computed.clone())).is_ok()
    };
    assert!(passes("profile.activity['Order Completed'].count == 3"));
    assert!(passes("profile.activity['Never Done'].count == 0"));
    assert!(passes("profile.touches.first.campaign.source == 'news' and profile.traits.plan"));
    assert!(!passes("profile.device.os == 'iOS'"));
    let text = rule(
        "set = { \"properties.last\" = \"{{ profile.activity['Order Completed'].last }}\", \
         \"properties.sum\" = \"{{ profile.activity['Order Completed'].sum }}\", \
         \"properties.none\" = \"{{ profile.activity['Never Done'].last }}\", \
         \"properties.since\" = \"{{ profile.first_seen }}\" }",
    );
    let (event, _) = mapped(&text, order().with_computed(computed));
    let properties = &event["properties"];
    assert_eq!(properties["last"], "1970-01-01T00:01:00Z");
    assert_eq!(properties["sum"], 42.5);
    assert_eq!(properties.get("none"), None);
    assert_eq!(properties["since"], "1970-01-01T00:00:01Z");
}

#[test]
fn wants_computed_only_if_a_template_uses_computed_attributes() {
    for (condition, wants) in [
        ("properties.x", false),
        ("traits.profile", false),
        ("profile.traits.plan == 'pro'", false),
        ("profile.user_id", false),
        ("profile.traits_of", true),
        ("profile['activity']", true),
        ("profile.activity.Order.count", true),
    ] {
        let mapping = mapping(&format!("where = {condition:?}"));
        assert_eq!(mapping.needs_computed_attributes(), wants, "{condition}");
    }
}

#[test]
fn templates_keep_the_type_of_a_single_value() {
    let text = rule(
        "set = { \"properties.label\" = \"{{ properties.price }} EUR\", \
         \"properties.sum\" = \"{{ properties.price | float * properties.quantity }}\", \
         \"properties.none\" = \"{{ properties.missing }}\", \"properties.fixed\" = 3, \
         \"context.app.name\" = \"shop\" }",
    );
    let (event, _) = mapped(&text, order());
    let properties = &event["properties"];
    assert_eq!(properties["label"], "9.50 EUR");
    assert_eq!(properties["sum"], 19.0);
    assert_eq!(properties.get("none"), None, "what is not there is not set");
    assert_eq!(properties["fixed"], 3);
    assert_eq!(event["context"]["app"]["name"], "shop");
}

#[test]
fn a_rule_renames_moves_converts_hashes_and_drops() {
    let text = rule(
        "events = [\"Order *\"]\nrename = \"Purchase\"\n\
         move = { \"properties.order_id\" = \"properties.id\" }\n\
         convert = { properties = { price = \"number\", quantity = \"text\", when = \"unix\" } }\n\
         hash = [\"traits.email\"]\n\
         drop = [\"properties.internal_note\", \"properties.products.*.cost\"]",
    );
    let (event, traits) = mapped(&text, order());
    assert_eq!(event["event"], "Purchase");
    let expected = json!({ "id": "1", "price": 9.5, "quantity": "2", "when": 1_795_435_200,
        "products": [{ "sku": "a" }, { "sku": "b" }] });
    let sorted = |value: &Value| -> std::collections::BTreeMap<String, Value> {
        serde_json::from_value(value.clone()).unwrap()
    };
    assert_eq!(sorted(&event["properties"]), sorted(&expected));
    let digest = crate::digest::sha256("mary@x.example").unwrap();
    assert_eq!(event["context"]["traits"]["email"], digest);
    assert_ne!(traits["email"], "old@x.example", "wherever it is said");
}

#[test]
fn rule_applies_to_its_events_and_sees_changes_of_earlier_rules() {
    let text = rule("events = [\"Clicked\"]\nrename = \"Never\"\n")
        + &rule("set = { \"properties.step\" = 1 }\n")
        + &rule(
            "where = \"properties.step == 1\"\nset = { \"properties.step\" = \"{{ properties.step + 1 }}\" }\n",
        );
    let (event, _) = mapped(&text, order());
    assert_eq!(
        (&event["event"], &event["properties"]["step"]),
        (&json!("Order Completed"), &json!(2))
    );
}

#[test]
fn lists_filter_properties_and_traits_at_every_place() {
    let text = "[mapping]\nproperties = [\"*\", \"!internal_*\"]\ntraits = [\"plan\"]";
    let (event, traits) = mapped(text, order());
    assert_eq!(event["properties"].get("internal_note"), None);
    assert_eq!(event["properties"]["order_id"], "1");
    assert_eq!(event["context"]["traits"], json!({}));
    assert_eq!(traits, json!({ "plan": "pro" }));
}

#[test]
fn defaults_fill_missing_currency_and_country() {
    let text = "[mapping]\ncurrency = \"eur\"\ncountry = \"ch\"";
    let (event, traits) = mapped(text, order());
    assert_eq!(
        (&event["properties"]["currency"], &traits["country"]),
        (&json!("EUR"), &json!("CH"))
    );
    let named = test_support::known(
        json!({ "properties": { "value": 1, "currency": "usd" }, "context": { "traits":
            { "address": { "country": "DE" } } } }),
        None,
        json!({}),
    );
    let (event, traits) = mapped(text, named);
    assert_eq!((&event["properties"]["currency"], traits.get("country")), (&json!("usd"), None));
    let (event, _) =
        mapped(text, test_support::event(json!({ "properties": { "colour": "red" } })));
    assert_eq!(event["properties"].get("currency"), None, "nothing to price");
}

#[test]
fn invalid_settings_report_the_nearest_name() {
    for (text, expected) in [
        ("where = \"properties.x >\"".to_owned(), "where: "),
        ("types = [\"trak\"]".to_owned(), "did you mean \"track\"?"),
        (rule("drop = [\"propertys.x\"]"), "did you mean \"properties\"?"),
        (rule("hash = [\"traits\"]"), "lacks a key"),
        (rule("set = { \"event.x\" = 1 }"), "a member of a text"),
        (rule("set = { \"properties.x\" = \"{{ a + }}\" }"), "set: "),
        (rule("convert = { \"properties.x\" = \"numbr\" }"), "did you mean \"number\"?"),
        (rule("dorp = [\"properties.x\"]"), "did you mean \"drop\"?"),
        ("[mapping]\ncountry = \"Switzerland\"".to_owned(), "ISO 3166"),
        ("[mapping]\ncurrency = \"euros\"".to_owned(), "ISO 4217"),
        ("where = \"propertis.x > 1\"".to_owned(), "did you mean \"properties\"?"),
        ("where = \"user_id == 'x'\"".to_owned(), "did you mean \"userId\"?"),
        ("where = \"properties.x is odf\"".to_owned(), "no test \"odf\"; did you mean \"odd\"?"),
        (rule("where = \"proprties.x\""), "did you mean \"properties\"?"),
        (rule("set = { \"properties.x\" = \"{{ properties.x | nofilter }}\" }"), "no filter"),
        (rule("set = { \"properties.x\" = \"{{ properties.x | uper }}\" }"), "mean \"upper\"?"),
        (rule("set = { \"properties.x\" = \"{{ properties.x.upper() }}\" }"), "| upper"),
        (rule("set = { \"properties.x\" = \"{{ rnage(3) }} x\" }"), "did you mean \"range\"?"),
        (rule("set = { \"properties.x\" = \"{{ [1] | map('uper') | list }}\" }"), "\"upper\"?"),
    ] {
        let mistakes = mistakes(&text);
        let [mistake] = mistakes.as_slice() else { panic!("{text}: {mistakes:?}") };
        assert!(mistake.contains(expected), "{text}: {mistake}");
    }
}

#[test]
fn template_without_end_sets_nothing() {
    let endless =
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}";
    let text = rule(&format!("set = {{ \"properties.x\" = {endless:?} }}"));
    let (event, _) = mapped(&text, order());
    assert_eq!(event["properties"].get("x"), None);
    let long = "{% for a in range(9000) %}xxxxxxxxxx{% endfor %}";
    let text = rule(&format!("set = {{ \"properties.x\" = {long:?} }}"));
    let (event, _) = mapped(&text, order());
    assert_eq!(event["properties"].get("x"), None);
}

#[test]
fn failures_are_counted_by_rule_and_listed_as_missing() {
    let text = rule("set = { \"properties.a\" = \"{{ properties.none * 2 }}\" }\n")
        + &rule("set = { \"properties.b\" = \"{{ properties.none }}\" }\n")
        + &rule("set = { \"properties.c\" = \"{{ properties.quantity / 0 }} EUR\" }\n")
        + &rule("where = \"properties.price < 3\"\nset = { \"properties.d\" = 1 }\n");
    let mapping = mapping(&text);
    assert_eq!(mapping.take_failures(), None);
    mapping.apply(order()).unwrap();
    mapping.apply(order()).unwrap();
    let (counts, is_news) = mapping.take_failures().unwrap();
    let counts: Vec<(&str, u64)> = counts.iter().map(|(rule, n)| (rule.as_str(), *n)).collect();
    assert_eq!((&counts[..2], is_news), (&[("rules[0]", 2), ("rules[2]", 2)][..], true));
    assert_eq!(mapping.take_failures(), None, "what was asked for is not counted again");
    let missing = mapping.missing(order());
    let places: Vec<&str> = missing.iter().map(|it| it.place.as_str()).collect();
    let expected = ["set \"properties.a\"", "set \"properties.b\"", "set \"properties.c\""];
    for ((place, rule), expected) in places.iter().zip(0..).zip(expected) {
        assert_eq!(*place, format!("rules[{rule}].{expected}"));
    }
    assert_eq!(missing[1].problem, "has no value for this event");
    assert!(!missing[0].problem.is_empty() && missing[0].problem != missing[1].problem);
}

#[test]
fn infinite_number_is_a_failure_without_a_value() {
    for template in ["{{ 1e308 * 10 }}", "{{ 1e308 * 10 }} EUR"] {
        let text = rule(&format!("set = {{ \"properties.x\" = {template:?} }}"));
        let mapping = mapping(&text);
        let mapped = mapping.apply(order()).unwrap();
        assert_eq!(mapped.event.properties.as_ref().unwrap().get("x"), None, "{template}");
        assert!(mapping.take_failures().is_some(), "{template}");
    }
}

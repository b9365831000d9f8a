//! The destination against the simulated project: a repeated event counts once, and every record is valid.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::direct::DirectDestination;
use super::super::{MIXPANEL_ACCOUNT, SimulatorKind};
use tagway_vendors::test_support::{self, event};

fn project(settings: &str) -> DirectDestination {
    DirectDestination::new("mixpanel", settings, SimulatorKind::Mixpanel)
}

fn original(settings: &str) -> DirectDestination {
    let (user, secret, project_id) = MIXPANEL_ACCOUNT;
    project(&format!(
        "id_merge = \"original\"\nservice_account = \"{user}\"\nservice_secret = \"{secret}\"\nproject_id = \"{project_id}\"\n{settings}"
    ))
}

#[tokio::test]
async fn the_simulated_project_takes_a_repeated_event_once() {
    let project = project("");
    let clicked =
        |id: &str| event(json!({ "event": "Clicked", "anonymousId": "a", "messageId": id }));
    for _ in 0..2 {
        for id in ["m1", "m2"] {
            assert_eq!(project.deliver(clicked(id)).await, "delivered");
        }
    }
    let once = BTreeMap::from([("m1".to_owned(), 1), ("m2".to_owned(), 1)]);
    assert_eq!(project.tally().events.into_iter().collect::<BTreeMap<_, _>>(), once);
}

fn any_object() -> impl Strategy<Value = Value> {
    const KNOWN: &str = "products product_id name category price revenue views tags first_seen \
        time distinct_id $insert_id ip token bucket $bucket $ignore $device_id $user_id \
        $browser $os url page referrer title campaign source os device library version screen \
        width density active traits groupId company email createdAt created address city \
        country plan locale app network";
    test_support::any_object(KNOWN, prop_oneof![Just(json!("12.50")), Just(json!(""))])
}

fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("507f191e-810c-4197-9de8-60ea00000001".to_owned()),
        proptest::sample::select(&["anon", "null", "0", "{}", " ", ""][..]).prop_map(str::to_owned),
        ".{0,300}",
    ]
}

proptest! {
    #[test]
    fn sent_records_pass_the_simulators_own_checks(
        kind in proptest::sample::select(&["track", "page", "screen", "identify", "group", "alias"][..]),
        name in prop_oneof![
            proptest::sample::select(&["Order Completed", "Order Refunded", "$identify", "$merge"][..])
                .prop_map(str::to_owned),
            ".{0,300}",
        ],
        (user, device, id) in (any_id(), any_id(), any_id()),
        (properties, traits, context) in (any_object(), any_object(), any_object()),
        wide in 0_usize..400,
        is_original in any::<bool>(),
    ) {
        let settings = "group_keys = [\"company\", \"plan\"]\nproduct_events = true\ntransactions = true\n\
            increments = [\"views\", \"price\"]\nset_once = [\"first_seen\"]\nunion = [\"tags\"]";
        let project = if is_original { original(settings) } else { project(settings) };
        let mut properties = properties;
        for n in 0..wide {
            properties[format!("p{n}")] = json!(n);
        }
        let event = event(json!({
            "type": kind, "event": name, "name": name, "groupId": id, "previousId": id,
            "userId": user, "anonymousId": device, "messageId": id,
            "properties": properties, "traits": traits, "context": context,
        }));
        let outcome = project.deliver(event).now_or_never().unwrap();
        prop_assert_eq!(project.tally().objections, Vec::<String>::new());
        let is_admitted = !outcome.starts_with("dead") && !outcome.starts_with("skipped");
        prop_assert!(!is_admitted || outcome == "delivered", "{outcome}");
    }
}

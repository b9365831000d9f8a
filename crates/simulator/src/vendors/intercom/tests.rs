//! The destination against the simulated workspace: contacts are found, made and merged, and every request
//! is valid.

use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use serde_json::json;

use super::IntercomWorkspace;
use crate::vendors::SimulatorKind;
use crate::vendors::direct::{DirectDestination, any_event};
use tagway_core::event::EnrichedEvent;
use tagway_vendors::test_support;

const LEADS: &str = "leads = true\nlead_attribute = \"visitor\"";

fn workspace(settings: &str, workspace: IntercomWorkspace) -> DirectDestination {
    DirectDestination::new("intercom", settings, SimulatorKind::Intercom(workspace))
}

fn clicked(fields: serde_json::Value) -> EnrichedEvent {
    let mut event = json!({ "event": "Clicked" });
    event.as_object_mut().unwrap().extend(test_support::object(fields));
    test_support::event(event)
}

fn identify(fields: serde_json::Value) -> EnrichedEvent {
    let mut event = json!({ "type": "identify" });
    event.as_object_mut().unwrap().extend(test_support::object(fields));
    test_support::event(event)
}

/// The contacts that a search for this address finds, as roles and external ids.
async fn at(direct: &DirectDestination, email: &str) -> Vec<(String, String)> {
    let query = json!({ "query": { "field": "email", "operator": "=", "value": email } });
    let found = direct.request(Method::POST, "/contacts/search", query).await;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |one: &serde_json::Value| (text(&one["role"]), text(&one["external_id"]));
    found["data"].as_array().unwrap().iter().map(shown).collect()
}

#[tokio::test]
async fn unknown_user_is_made_and_the_event_sent_once() {
    let direct = workspace("", IntercomWorkspace::default());
    let event = || clicked(json!({ "userId": "u 1/ä" }));
    assert_eq!(direct.deliver(event()).await, "delivered");
    assert_eq!(
        direct.calls(),
        [
            "POST /events 404",
            "GET /contacts/find_by_external_id/u%201%2F%C3%A4 404",
            "POST /contacts 200",
            "POST /events 202",
        ]
    );
    assert_eq!(direct.deliver(event()).await, "delivered");
    assert_eq!(direct.calls(), ["POST /events 202"]);
    let tally = direct.tally();
    assert_eq!(
        tally.events.into_iter().collect::<Vec<_>>(),
        [("u 1/ä:clicked:1795435200".to_owned(), 1)]
    );
    assert!(tally.objections.is_empty(), "{:?}", tally.objections);
}

#[tokio::test]
async fn contact_missing_from_the_search_is_found_by_the_conflict() {
    let lag =
        IntercomWorkspace { search_lag: Duration::from_secs(120), ..IntercomWorkspace::default() };
    let mut direct = workspace("leads = true", lag);
    // A user of this address without an id is made elsewhere.
    let made = json!({ "role": "user", "email": "jo@x.example" });
    direct.request(Method::POST, "/contacts", made).await;
    let jo = || identify(json!({ "userId": "u1", "traits": { "email": "jo@x.example" } }));
    assert_eq!(direct.deliver(jo()).await, "delivered");
    let calls = direct.calls();
    assert_eq!(
        calls[1..4],
        [
            "POST /contacts/search 200",
            "POST /contacts 409",
            "PUT /contacts/c00000000000000000000001 200"
        ]
    );
    direct.wait(200);
    assert_eq!(at(&direct, "jo@x.example").await, [("user".to_owned(), "u1".to_owned())]);
    direct.restart("intercom", "leads = true");
    assert_eq!(direct.deliver(jo()).await, "delivered");
    assert_eq!(at(&direct, "jo@x.example").await.len(), 1);
}

#[tokio::test]
async fn conflict_without_a_contact_waits_for_the_search() {
    let terms = IntercomWorkspace {
        search_lag: Duration::from_secs(60),
        hides_conflicts: true,
        ..IntercomWorkspace::default()
    };
    let direct = workspace("", terms);
    let made = json!({ "role": "user", "email": "jo@x.example" });
    direct.request(Method::POST, "/contacts", made).await;
    let jo = || identify(json!({ "userId": "u1", "traits": { "email": "jo@x.example" } }));
    assert_eq!(direct.deliver(jo()).await, "retry contact_exists");
    direct.wait(61);
    assert_eq!(direct.deliver(jo()).await, "delivered");
    assert_eq!(at(&direct, "jo@x.example").await, [("user".to_owned(), "u1".to_owned())]);
}

#[tokio::test]
async fn visitor_becomes_a_lead_and_then_a_user() {
    let mut direct = workspace(LEADS, IntercomWorkspace::default());
    assert_eq!(direct.deliver(clicked(json!({}))).await, "delivered");
    direct.restart("intercom", LEADS);
    let asks = json!({ "event": "Lead Generated", "properties": { "email": "jo@x.example" } });
    assert_eq!(direct.deliver(test_support::event(asks)).await, "delivered");
    assert_eq!(at(&direct, "jo@x.example").await.len(), 1, "the lead of the device has an address");
    direct.restart("intercom", LEADS);
    let signs_up = identify(json!({ "userId": "u1", "traits": { "email": "Jo@x.example" } }));
    assert_eq!(direct.deliver(signs_up).await, "delivered");
    assert_eq!(at(&direct, "jo@x.example").await, [("user".to_owned(), "u1".to_owned())]);
    // The next person at this device is another user.
    let other = identify(json!({ "userId": "u2", "traits": { "email": "al@x.example" } }));
    assert_eq!(direct.deliver(other).await, "delivered");
    assert_eq!(at(&direct, "jo@x.example").await, [("user".to_owned(), "u1".to_owned())]);
    assert_eq!(at(&direct, "al@x.example").await, [("user".to_owned(), "u2".to_owned())]);
    assert!(direct.tally().objections.is_empty(), "{:?}", direct.tally().objections);
}

#[tokio::test]
async fn leads_of_a_known_user_are_merged() {
    for restarts in [false, true] {
        let mut direct = workspace(LEADS, IntercomWorkspace::default());
        let elsewhere = identify(json!({ "userId": "u1", "anonymousId": "a2" }));
        assert_eq!(direct.deliver(elsewhere).await, "delivered");
        assert_eq!(direct.deliver(clicked(json!({}))).await, "delivered");
        if restarts {
            direct.restart("intercom", LEADS);
        }
        direct.calls();
        let signs_in = || identify(json!({ "userId": "u1" }));
        assert_eq!(direct.deliver(signs_in()).await, "delivered");
        let calls = direct.calls();
        assert!(calls.contains(&"POST /contacts/merge 200".to_owned()), "{calls:?}");
        assert_eq!(direct.deliver(signs_in()).await, "delivered");
        assert_eq!(direct.calls().len(), 1, "nothing is left to merge");
        assert!(direct.tally().objections.is_empty(), "{:?}", direct.tally().objections);
    }
}

#[tokio::test]
async fn alias_merges_the_named_lead() {
    let direct = workspace(LEADS, IntercomWorkspace::default());
    let alias =
        || test_support::event(json!({ "type": "alias", "userId": "u1", "previousId": "a1" }));
    assert_eq!(direct.deliver(alias()).await, "skipped no_lead");
    assert_eq!(direct.deliver(clicked(json!({}))).await, "delivered");
    direct.calls();
    assert_eq!(direct.deliver(alias()).await, "delivered");
    let user = direct.request(Method::GET, "/contacts/find_by_external_id/u1", json!({})).await;
    assert_eq!(user["custom_attributes"]["visitor"], "a1", "the lead became the user");
}

#[tokio::test]
async fn lead_merged_elsewhere_is_followed() {
    let direct = workspace("leads = true", IntercomWorkspace::default());
    let lead = clicked(json!({ "properties": { "email": "jo@x.example" } }));
    assert_eq!(direct.deliver(lead).await, "delivered");
    // The lead is merged in Intercom itself.
    let user = json!({ "role": "user", "external_id": "u1", "email": "jo@x.example" });
    let user = direct.request(Method::POST, "/contacts", user).await;
    let merge = json!({ "from": "c00000000000000000000001", "into": user["id"] });
    direct.request(Method::POST, "/contacts/merge", merge).await;
    direct.calls();
    let says = identify(json!({ "traits": { "email": "jo@x.example" } }));
    assert_eq!(direct.deliver(says).await, "delivered");
    assert_eq!(
        direct.calls(),
        [
            "PUT /contacts/c00000000000000000000001 410",
            "PUT /contacts/c00000000000000000000002 200"
        ]
    );
}

#[tokio::test]
async fn users_with_one_address_and_two_ids_are_separate() {
    let direct = workspace("", IntercomWorkspace::default());
    for user_id in ["u1", "u2"] {
        let traits = json!({ "email": "home@x.example" });
        let event = identify(json!({ "userId": user_id, "traits": traits }));
        assert_eq!(direct.deliver(event).await, "delivered");
    }
    let ids: Vec<String> =
        at(&direct, "home@x.example").await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["u1", "u2"]);
    let nobody = identify(json!({ "traits": { "email": "home@x.example" } }));
    assert_eq!(direct.deliver(nobody).await, "dead email_not_unique");
}

#[tokio::test]
async fn company_is_joined_and_left() {
    let direct = workspace("", IntercomWorkspace::default());
    let joins = test_support::event(json!({
        "type": "group", "userId": "u1", "groupId": "g1", "traits": { "name": "Lumen" },
    }));
    assert_eq!(direct.deliver(joins).await, "delivered");
    let leaves = |id: &str| {
        let traits = json!({ "company": { "id": id, "remove": true } });
        identify(json!({ "userId": "u1", "traits": traits }))
    };
    direct.calls();
    assert_eq!(direct.deliver(leaves("g1")).await, "delivered");
    let calls = direct.calls();
    assert!(calls.last().unwrap().starts_with("DELETE"), "{calls:?}");
    assert_eq!(direct.deliver(leaves("g1")).await, "delivered", "it has left already");
    assert_eq!(direct.deliver(leaves("g2")).await, "delivered", "there is no such company");
    assert!(direct.tally().objections.is_empty(), "{:?}", direct.tally().objections);
}

#[tokio::test]
async fn exhausted_window_is_waited_for_without_a_call() {
    let limited = IntercomWorkspace { calls_per_window: Some(3), ..IntercomWorkspace::default() };
    let direct = workspace("", limited);
    // Making a contact takes three calls, and the event is the fourth.
    let event = || clicked(json!({ "userId": "u1" }));
    assert_eq!(direct.deliver(event()).await, "retry rate_limited after 10 s");
    assert_eq!(direct.calls().len(), 3);
    direct.wait(9);
    assert_eq!(direct.deliver(event()).await, "retry rate_limited after 1 s");
    assert!(direct.calls().is_empty(), "it was not asked at all");
    direct.wait(1);
    assert_eq!(direct.deliver(event()).await, "delivered");
    assert_eq!(direct.tally().events.values().copied().collect::<Vec<_>>(), [1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn requests_are_always_valid(events in proptest::collection::vec(any_event(), 1..6)) {
        let settings = format!(
            "{LEADS}\npages = true\ncurrency = \"EUR\"\nmetadata_priority = [\"order_id\"]\n\
             attributes = [\"plan\", \"address.city\", \"renewal_at\"]\n\
             company_attributes = [\"plan\"]"
        );
        let direct = workspace(&settings, IntercomWorkspace::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for event in events {
            let ended = runtime.block_on(direct.deliver(event));
            // Two visitors with one address are distinguished only by their ids.
            let is_right = ended == "delivered"
                || ended.starts_with("skipped ")
                || ["dead invalid_name", "dead missing_group_id", "dead email_not_unique"]
                    .contains(&ended.as_str());
            let tally = direct.tally();
            prop_assert!(is_right && tally.objections.is_empty(), "{} {:?}", ended, tally.objections);
        }
    }
}

//! The destination against the simulated organisation: contacts are found and made, and every request is
//! valid.

use http::Method;
use proptest::prelude::*;
use serde_json::json;

use crate::vendors::SimulatorKind;
use crate::vendors::direct::{DirectDestination, any_event};
use tagway_core::event::EnrichedEvent;
use tagway_vendors::test_support;

fn drift(settings: &str) -> DirectDestination {
    DirectDestination::new("drift", settings, SimulatorKind::Drift)
}

fn clicked(user_id: Option<&str>, email: Option<&str>) -> EnrichedEvent {
    let traits = email.map_or(json!({}), |email| json!({ "email": email }));
    test_support::known(json!({ "event": "Clicked" }), user_id, traits)
}

#[tokio::test]
async fn contact_is_found_or_made_before_its_events() {
    let mut direct = drift("");
    let event = || clicked(Some("u 1"), Some("jo@x.example"));
    assert_eq!(direct.deliver(event()).await, "delivered");
    assert_eq!(
        direct.calls(),
        [
            "GET /contacts?idType=external&id=u+1 404",
            "GET /contacts?email=jo%40x.example 200",
            "POST /contacts 200",
            "POST /contacts/timeline 200",
        ]
    );
    assert_eq!(direct.deliver(event()).await, "delivered");
    assert_eq!(direct.calls(), ["POST /contacts/timeline 200"]);
    direct.restart("drift", "");
    assert_eq!(direct.deliver(event()).await, "delivered");
    assert_eq!(
        direct.calls(),
        ["GET /contacts?idType=external&id=u+1 200", "POST /contacts/timeline 200"]
    );
    assert!(direct.tally().objections.is_empty(), "{:?}", direct.tally().objections);
}

#[tokio::test]
async fn person_without_an_id_is_sent_by_the_vendors_id() {
    let direct = drift("");
    assert_eq!(direct.deliver(clicked(None, Some("jo@x.example"))).await, "delivered");
    let stored = direct.tally().events;
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["9007199254740993:Clicked:1795435200000"]);
    // The same contact gets the id once it is known; no second contact is made.
    assert_eq!(direct.deliver(clicked(Some("u1"), Some("jo@x.example"))).await, "delivered");
    let found = direct.request(Method::GET, "/contacts?email=jo@x.example", json!({})).await;
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(found["data"][0]["attributes"]["externalId"], "u1");
}

#[tokio::test]
async fn contacts_with_one_address_and_two_ids_are_separate() {
    let direct = drift("");
    for user_id in ["u1", "u2"] {
        let ended = direct.deliver(clicked(Some(user_id), Some("home@x.example"))).await;
        assert_eq!(ended, "delivered");
    }
    let nobody = direct.deliver(clicked(None, Some("home@x.example"))).await;
    assert_eq!(nobody, "dead email_not_unique");
}

#[tokio::test]
async fn contact_without_an_address_is_skipped() {
    let direct = drift("");
    assert_eq!(direct.deliver(clicked(Some("u1"), None)).await, "skipped unknown_contact");
    assert_eq!(direct.deliver(clicked(None, None)).await, "skipped anonymous");
}

#[tokio::test]
async fn account_is_made_once_and_then_changed() {
    let direct = drift("org_id = 123458\naccount_owner_id = 21995");
    let group = |name: &str| {
        test_support::known(
            json!({ "type": "group", "groupId": "g1",
                "traits": { "name": name, "website": "https://www.lumen.example/about" } }),
            Some("u1"),
            json!({ "email": "jo@x.example" }),
        )
    };
    assert_eq!(direct.deliver(group("Lumen")).await, "delivered");
    assert_eq!(direct.calls()[0], "POST /accounts/create 200");
    assert_eq!(direct.deliver(group("Lumen AG")).await, "delivered");
    assert_eq!(direct.calls()[..2], ["POST /accounts/create 400", "PATCH /accounts/update 200"]);
    let found = direct.request(Method::GET, "/contacts?idType=external&id=u1", json!({})).await;
    assert_eq!(found["data"][0]["attributes"]["company"], "Lumen AG");
    assert!(direct.tally().objections.is_empty(), "{:?}", direct.tally().objections);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn requests_are_always_valid(events in proptest::collection::vec(any_event(), 1..6)) {
        let direct = drift(
            "pages = true\norg_id = 123458\naccount_owner_id = 7\n\
             attributes = [\"plan\", \"address.city\"]\nevent_attributes = [\"order_id\", \"total\"]",
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for event in events {
            let ended = runtime.block_on(direct.deliver(event));
            let is_right = ended == "delivered"
                || ended.starts_with("skipped ")
                || ["dead invalid_name", "dead missing_group_id", "dead email_not_unique"]
                    .contains(&ended.as_str());
            let tally = direct.tally();
            prop_assert!(is_right && tally.objections.is_empty(), "{} {:?}", ended, tally.objections);
        }
    }
}

//! Subject rights through the operators' routes.

use super::*;

#[tokio::test]
async fn person_is_forgotten_restored_and_exported_with_the_token() {
    let running = TestAdminServer::start().await;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let ask = async |path: &str, body: Value| {
        let line = format!("POST /api/v1/{path}");
        let (status, answer) = running.ask(&line, &bearer, &body.to_string()).await;
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let erased = json!({ "profiles": 1, "events": 4, "parked": 5, "dead": 6 });
    let person = json!({ "site": "shop", "id": "ann" });
    let expected = json!({ "site": "shop", "suppressed": 3, "erased": erased });
    assert_eq!(ask("forget", person.clone()).await, (200, expected));
    let undo = json!({ "site": "shop", "id": "ann", "undo": true });
    assert_eq!(ask("forget", undo).await, (200, json!({ "site": "shop", "lifted": 3 })));
    let page = json!({ "held": [{ "kind": "profile" }], "next": { "dead": 7 } });
    assert_eq!(ask("export", person).await, (200, page));
    let on = json!({ "site": "shop", "id": "ann", "from": { "dead": 7 } });
    assert_eq!(ask("export", on).await.0, 200);
    assert_eq!(
        *running.asked.lock(),
        ["forget ann", "lift ann", "export ann None", "export ann Some(Dead(7))"]
    );
    assert_eq!(ask("forget", json!({ "site": "other", "id": "ann" })).await.0, 404);
    assert_eq!(ask("forget", json!({ "site": "shop", "id": " " })).await.0, 400);
    let without = running.ask("POST /api/v1/forget", "", "{}").await.0;
    assert_eq!(without, 401);
}

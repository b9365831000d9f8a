//! The OpenAPI document: it has every route, and describes the answers.

use std::collections::BTreeSet;

use super::*;

/// A route that is posted to without a body.
const RESET_PATH: &str = "/api/v1/accounts/{id}/link";

/// The OpenAPI document of the listener.
pub(super) async fn document(running: &TestAdminServer) -> Value {
    let (status, document) = running.ask_json("GET /api/v1/openapi.json", &Value::Null).await;
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    document
}

/// Returns each operation: the path, the method in capitals, and its description.
pub(super) fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&'_ String, &'_ Value)| {
        let item = item.as_object().unwrap();
        item.keys().map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
    };
    let names: Vec<_> = paths.flat_map(of_path).collect();
    let found = |(path, method): (String, String)| {
        let (path, item) = document["paths"].as_object().unwrap().get_key_value(&path).unwrap();
        (path.as_str(), method.to_uppercase(), &item[method])
    };
    names.into_iter().map(found).collect()
}

/// A path of the document with values for its parameters.
pub(super) fn filled(path: &str) -> String {
    path.replace("{site}", "shop")
        .replace("{segment}", "pros")
        .replace("{destination}", "ga4")
        .replace("{seq}", "12")
        .replace("{id}", "7")
        .replace("{name}", "ops")
}

/// The schema of the answer with status 200.
fn answer_schema<'d>(document: &'d Value, method: &str, path: &str) -> &'d Value {
    let operation = &document["paths"][path][method.to_lowercase()];
    &operation["responses"]["200"]["content"]["application/json"]["schema"]
}

/// Follows a reference.
fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{schema}")),
        None => schema,
    }
}

/// Collects the required members and the schemas of all members of an object.
fn members<'d>(document: &'d Value, schema: &'d Value, into: &mut Vec<(&'d str, bool, &'d Value)>) {
    let schema = resolve(document, schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        members(document, part, into);
    }
    let required: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        into.push((name, required.contains(name.as_str()), member));
    }
}

/// Compares an answer with its schema: required members are there, and all members are described.
fn compare(document: &Value, schema: &Value, answer: &Value) -> Result<(), String> {
    let schema = resolve(document, schema);
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let choices: Vec<_> = choices.map(|choice| compare(document, choice, answer)).collect();
    if !choices.is_empty() {
        let is_any = choices.iter().any(Result::is_ok);
        return if is_any { Ok(()) } else { Err(format!("{choices:?}")) };
    }
    let kind = match answer {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        kinds => kinds.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    if !kinds.is_empty() && !kinds.contains(&kind) {
        return Err(format!("{answer} is not {kinds:?}"));
    }
    for item in answer.as_array().into_iter().flatten() {
        compare(document, &schema["items"], item)?;
    }
    let Some(object) = answer.as_object() else { return Ok(()) };
    let mut described = Vec::new();
    members(document, schema, &mut described);
    for (name, is_required, member) in &described {
        match object.get(*name) {
            Some(value) => {
                compare(document, member, value).map_err(|it| format!("{name}: {it}"))?
            }
            None if *is_required => return Err(format!("{name} is missing in {answer}")),
            None => {}
        }
    }
    let is_described = |name: &String| described.iter().any(|(known, ..)| known == name);
    match object.keys().find(|name| !described.is_empty() && !is_described(name)) {
        Some(name) => Err(format!("{name} is not described")),
        None => Ok(()),
    }
}

#[tokio::test]
async fn document_has_every_route_of_the_router() {
    let running = TestAdminServer::start().await;
    let document = document(&running).await;
    let TestContext { context, folder: _folder, .. } = TestContext::new(running.address).await;
    let routers = router::AdminRouters::new(context, CancellationToken::new());
    // The router shows its paths to the debugger only.
    let routes = format!("{:?}", routers.complete);
    let routes: BTreeSet<&str> = routes.split('"').filter(|it| it.starts_with("/api/")).collect();
    let documented: BTreeSet<&str> =
        operations(&document).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(routes, documented);
    assert!(routes.len() > 20, "{routes:?}");
}

#[tokio::test]
async fn document_describes_methods_parameters_and_the_token() {
    let running = TestAdminServer::start().await;
    let document = document(&running).await;
    let (mut ids, mut documented) = (BTreeSet::new(), Vec::new());
    for (path, method, operation) in operations(&document) {
        let line = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].to_string()), "{line} shares its id");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{line}");
        let has_body = matches!(method.as_str(), "POST" | "PATCH") && path != RESET_PATH;
        assert_eq!(operation["requestBody"].is_object(), has_body, "{line}");
        assert!(operation["x-tagway-role"].is_string(), "{line}");
        let answer = &operation["responses"]["200"];
        assert!(!answer["description"].as_str().unwrap().is_empty(), "{line}");
        assert!(answer["content"].is_object(), "{line}");
        assert!(operation["responses"]["default"].is_object(), "{line}");
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        assert_eq!(of_path.count(), path.matches('{').count(), "{line}");
        let line = format!("{method} {}", filled(path));
        let status = running.ask(&line, "", "{}").await.0;
        let is_login = operation["x-tagway-audit"] == "session.begin";
        let expected = match operation["security"].is_array() {
            true => 401,
            false if is_login => 415,
            false => 200,
        };
        assert_eq!(status, expected, "{line}");
        documented.push((path.to_owned(), method));
    }
    for (path, _) in &documented {
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"] {
            let is_documented = documented.contains(&(path.clone(), method.to_owned()));
            if !is_documented {
                let (status, _) = running.ask(&format!("{method} {}", filled(path)), "", "").await;
                assert_eq!(status, 405, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn answers_match_the_document() {
    let running = TestAdminServer::start().await;
    let document = document(&running).await;
    let destination = json!({ "site": "shop", "destination": "ga4" });
    let person = json!({ "site": "shop", "id": "ann" });
    let window = json!({ "site": "shop", "destination": "ga4", "plan": true,
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z" });
    let segment = json!({ "site": "shop", "segment": "pros" });
    let rule = json!({ "site": "shop", "where": { "trait": "plan" } });
    let diff = "?site=shop&vendor=ga4&script=/gtag/js?id=G-1";
    let cases = [
        ("GET", "/api/v1/version", "", Value::Null),
        ("GET", "/api/v1/sites", "", Value::Null),
        ("GET", "/api/v1/ledger", "", Value::Null),
        ("GET", "/api/v1/dead", "", Value::Null),
        ("GET", "/api/v1/dead/{id}", "", Value::Null),
        ("GET", "/api/v1/dead/groups", "", Value::Null),
        ("GET", "/api/v1/events/{site}", "?limit=2", Value::Null),
        ("POST", "/api/v1/rehearse", "", json!({ "site": "shop", "seq": 12 })),
        ("POST", "/api/v1/traces", "", json!({ "site": "shop" })),
        ("GET", "/api/v1/traces", "", Value::Null),
        ("GET", "/api/v1/events/{site}/{seq}", "", Value::Null),
        ("GET", "/api/v1/events/{site}", "?message_id=m%201", Value::Null),
        ("GET", "/api/v1/scripts", "", Value::Null),
        ("GET", "/api/v1/scripts/diff", diff, Value::Null),
        ("POST", "/api/v1/segments/run", "", segment),
        ("POST", "/api/v1/segments/preview", "", rule),
        ("GET", "/api/v1/sites/{site}/series", "?measure=delivered&range=1h", Value::Null),
        ("GET", "/api/v1/sites/{site}/outcomes", "?range=1h", Value::Null),
        ("GET", "/api/v1/alerts", "", Value::Null),
        ("GET", "/api/v1/alerts/rules", "", Value::Null),
        ("GET", "/api/v1/alerts/{id}", "", Value::Null),
        ("POST", "/api/v1/alerts/{id}/acknowledge", "", json!({ "note": "seen" })),
        ("POST", "/api/v1/alerts/channels/{name}/test", "", json!({})),
        ("GET", "/api/v1/segments", "", Value::Null),
        ("GET", "/api/v1/segments/{site}/{segment}", "", Value::Null),
        ("POST", "/api/v1/dead/retry", "", destination.clone()),
        ("POST", "/api/v1/destinations/pause", "", destination),
        ("POST", "/api/v1/replay", "", window),
        ("POST", "/api/v1/send", "", json!({ "site": "shop", "event": {} })),
        ("POST", "/api/v1/forget", "", person.clone()),
        ("POST", "/api/v1/export", "", person.clone()),
        ("POST", "/api/v1/profiles", "", person),
    ];
    for (method, path, query, body) in cases {
        let line = format!("{method} {}{query}", filled(path));
        let (status, answer) = running.ask_json(&line, &body).await;
        assert_eq!(status, 200, "{line}: {answer}");
        let schema = answer_schema(&document, method, path);
        assert!(schema.is_object(), "{line}");
        compare(&document, schema, &answer).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let (_, problem) = running.ask_json("GET /api/v1/dead?limit=x", &Value::Null).await;
    let schema = &document["components"]["schemas"]["AdminProblem"];
    compare(&document, schema, &problem).unwrap();
    let error = compare(&document, schema, &json!({ "status": 400 })).unwrap_err();
    assert!(error.contains("is missing"), "{error}");
}

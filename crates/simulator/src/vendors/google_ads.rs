//! Google's Data Manager API for audience members (`contracts/destinations.md` 7.2 B), and its access
//! tokens. Lists are made by hand: any number is valid. Fields that the reference does not name are
//! rejected, as Google's JSON parser does.

use std::collections::{BTreeMap, BTreeSet};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, answer, digest_objection, parse,
};

/// The most members and destinations in one request, and identifiers of one member.
const MAX_MEMBERS: usize = 10_000;
const MAX_DESTINATIONS: usize = 10;
const MAX_IDENTIFIERS: usize = 10;

const ACCOUNT_TYPES: [&str; 7] = [
    "GOOGLE_ADS",
    "GOOGLE_ANALYTICS_PROPERTY",
    "FLOODLIGHT_CONFIG",
    "DISPLAY_VIDEO_ADVERTISER",
    "DISPLAY_VIDEO_PARTNER",
    "DATA_PARTNER",
    "GOOGLE_AD_MANAGER_AUDIENCE_LINK",
];

/// The fields of each request: a removal has neither terms nor consent.
const OF_INGEST: [&str; 6] =
    ["destinations", "audienceMembers", "encoding", "validateOnly", "termsOfService", "consent"];
const OF_REMOVE: [&str; 4] = ["destinations", "audienceMembers", "encoding", "validateOnly"];

/// The state of the simulated API: the issued tokens, and the members of each list by identifier.
#[derive(Default)]
pub(super) struct GoogleAdsSimulator {
    tokens: u64,
    lists: BTreeMap<String, BTreeSet<String>>,
}

impl VendorApi for GoogleAdsSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let result = match (asked.method, asked.target.path()) {
            (&Method::POST, "/token") => self.token(asked),
            (&Method::POST, "/v1/audienceMembers:ingest") => self.change(asked, true),
            (&Method::POST, "/v1/audienceMembers:remove") => self.change(asked, false),
            (method, path) => {
                Err(error(StatusCode::NOT_FOUND, "NOT_FOUND", &format!("no {method} {path}")))
            }
        };
        match result {
            Ok(error_body) => SimulatorOutcome {
                reply: answer(StatusCode::OK, error_body.to_string()),
                accepted: Vec::new(),
                objections: Vec::new(),
            },
            Err((status, error_body, objection)) => SimulatorOutcome {
                reply: answer(status, error_body.to_string()),
                accepted: Vec::new(),
                objections: vec![objection],
            },
        }
    }

    fn lists(&self) -> MemberLists {
        self.lists.clone()
    }
}

/// A status, a body and the objection.
type GoogleAdsRefusal = (StatusCode, Value, String);

fn error(status: StatusCode, name: &str, why: &str) -> GoogleAdsRefusal {
    let error_body =
        json!({ "error": { "code": status.as_u16(), "status": name, "message": why } });
    (status, error_body, why.to_owned())
}

fn bad(why: impl AsRef<str>) -> GoogleAdsRefusal {
    error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", why.as_ref())
}

impl GoogleAdsSimulator {
    fn token(&mut self, asked: &SimulatorRequest<'_>) -> Result<Value, GoogleAdsRefusal> {
        let refused = |why: &str| {
            (StatusCode::BAD_REQUEST, json!({ "error": "invalid_grant" }), why.to_owned())
        };
        if asked
            .headers
            .get(CONTENT_TYPE)
            .is_none_or(|it| it != "application/x-www-form-urlencoded")
        {
            return Err(refused("the content type is no form's"));
        }
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(asked.body).collect();
        let text = |key: &str| form.get(key).map(AsRef::as_ref).unwrap_or_default();
        if text("grant_type") != "refresh_token" {
            return Err(refused("the grant is no refresh token"));
        }
        if ["client_id", "client_secret", "refresh_token"].iter().any(|key| text(key).is_empty()) {
            return Err(refused("a credential is missing"));
        }
        self.tokens += 1;
        Ok(json!({ "access_token": format!("ya29.{}", self.tokens), "expires_in": 3599,
            "token_type": "Bearer", "scope": "https://www.googleapis.com/auth/datamanager" }))
    }

    fn change(
        &mut self,
        asked: &SimulatorRequest<'_>,
        adds: bool,
    ) -> Result<Value, GoogleAdsRefusal> {
        let bearer = asked.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|bearer| bearer.strip_prefix("Bearer ya29.")?.parse().ok());
        if token.is_none_or(|token: u64| token == 0 || token > self.tokens) {
            let why = "Request had invalid authentication credentials";
            return Err(error(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", why));
        }
        if asked.headers.contains_key("developer-token") {
            return Err(bad("there is no developer token here"));
        }
        if asked.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
            return Err(bad("the content type is not application/json"));
        }
        let body = parse(asked.body).map_err(bad)?;
        let known: &[&str] = if adds { &OF_INGEST } else { &OF_REMOVE };
        let fields = body.as_object().ok_or_else(|| bad("the body is no object"))?;
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(bad(format!("Unknown name \"{name}\": Cannot find field.")));
        }
        if adds {
            terms(&body).map_err(bad)?;
        }
        if body.get("encoding").and_then(Value::as_str) != Some("HEX") {
            return Err(bad("encoding is not HEX"));
        }
        let lists = destinations(&body).map_err(bad)?;
        let members = body.get("audienceMembers").and_then(Value::as_array);
        let members = members.filter(|members| (1..=MAX_MEMBERS).contains(&members.len()));
        let members = members.ok_or_else(|| bad("audienceMembers are missing, or too many"))?;
        let rows: Result<Vec<Vec<String>>, String> = members.iter().map(member).collect();
        let identifiers: Vec<String> = rows.map_err(bad)?.into_iter().flatten().collect();
        for list in lists {
            let members = self.lists.entry(list).or_default();
            for identifier in &identifiers {
                match adds {
                    true => members.insert(identifier.clone()),
                    false => members.remove(identifier),
                };
            }
        }
        Ok(json!({ "requestId": "r1" }))
    }
}

fn terms(body: &Value) -> Result<(), String> {
    let terms = body.pointer("/termsOfService/customerMatchTermsOfServiceStatus");
    if terms.and_then(Value::as_str) != Some("ACCEPTED") {
        return Err("the terms of service are not accepted".to_owned());
    }
    let consent = body.get("consent").and_then(Value::as_object);
    for (name, error_body) in consent.into_iter().flatten() {
        let is_known = matches!(name.as_str(), "adUserData" | "adPersonalization");
        let error_body = error_body.as_str().unwrap_or_default();
        if !is_known || !matches!(error_body, "CONSENT_GRANTED" | "CONSENT_DENIED") {
            return Err(format!("consent {name} is bad"));
        }
    }
    Ok(())
}

/// The numbers of the lists in a request.
fn destinations(body: &Value) -> Result<Vec<String>, String> {
    let all = body.get("destinations").and_then(Value::as_array);
    let all = all.filter(|all| (1..=MAX_DESTINATIONS).contains(&all.len()));
    let all = all.ok_or("destinations are missing, or too many")?;
    let digits = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str).unwrap_or_default();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.to_owned())
    };
    let list = |destination: &Value| {
        for account in ["operatingAccount", "loginAccount"] {
            let Some(account) = destination.get(account) else {
                if account == "operatingAccount" {
                    return Err("operatingAccount is required".to_owned());
                }
                continue;
            };
            let kind = account.get("accountType").and_then(Value::as_str).unwrap_or_default();
            if !ACCOUNT_TYPES.contains(&kind) || digits(account.get("accountId")).is_none() {
                return Err("an account is bad".to_owned());
            }
        }
        digits(destination.get("productDestinationId")).ok_or("no list".to_owned())
    };
    all.iter().map(list).collect()
}

/// A member's identifiers; an address is represented by the digests of its names.
fn member(member: &Value) -> Result<Vec<String>, String> {
    let all = member.pointer("/userData/userIdentifiers").and_then(Value::as_array);
    let all = all.filter(|all| (1..=MAX_IDENTIFIERS).contains(&all.len()));
    all.ok_or("userIdentifiers are missing, or too many")?.iter().map(identifier).collect()
}

fn identifier(identifier: &Value) -> Result<String, String> {
    let fields = identifier.as_object().filter(|fields| fields.len() == 1);
    let (kind, value) = fields.and_then(|it| it.iter().next()).ok_or("not one identifier")?;
    let digest = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str).ok_or("an identifier is no text")?;
        digest_objection(text).map_or(Ok(text.to_owned()), Err)
    };
    match kind.as_str() {
        "emailAddress" | "phoneNumber" => digest(Some(value)),
        "address" => {
            let names = [digest(value.get("givenName"))?, digest(value.get("familyName"))?];
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            let region = text("regionCode");
            if region.len() != 2 || !region.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(format!("regionCode {region} is bad"));
            }
            if text("postalCode").trim().is_empty() {
                return Err("postalCode is required".to_owned());
            }
            Ok(format!("{} {region} {}", names.join(" "), text("postalCode")))
        }
        other => Err(format!("Unknown name \"{other}\": Cannot find field.")),
    }
}

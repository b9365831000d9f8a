//! Meta's Conversions API (`contracts/destinations.md` 2.1 to 2.6): one bad event fails its whole request,
//! and the same event is counted once within two days. And its lists.

mod audiences;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::audiences::SimulatedAudiences;
use super::{
    MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, age_seconds, answer, parse,
};

/// The most events in one request.
const MAX_EVENTS: usize = 1000;

/// The most characters of an event's name.
const MAX_NAME_CHARS: usize = 50;

/// The greatest age of an event, and of one in a physical store.
const MAX_AGE_SECONDS: i64 = 7 * 86_400;
const MAX_AGE_IN_STORE_SECONDS: i64 = 62 * 86_400;

/// The most that the sender's clock may be ahead.
const MAX_AHEAD_SECONDS: i64 = 60;

/// The time in which a repeated event is recognised.
const DEDUPE_SECONDS: i64 = 48 * 3600;

const ACTION_SOURCES: [&str; 9] = [
    "email",
    "website",
    "app",
    "phone_call",
    "chat",
    "physical_store",
    "system_generated",
    "business_messaging",
    "other",
];

/// Fields of an event.
const EVENT_FIELDS: [&str; 15] = [
    "event_name",
    "event_time",
    "event_id",
    "action_source",
    "event_source_url",
    "referrer_url",
    "opt_out",
    "user_data",
    "custom_data",
    "app_data",
    "data_processing_options",
    "data_processing_options_country",
    "data_processing_options_state",
    "messaging_channel",
    "original_event_data",
];

/// Fields of the person that must be digests.
const DIGESTS: [&str; 10] = ["em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country"];

/// Fields of the person that are not digests.
const PLAIN: [&str; 10] = [
    "external_id",
    "client_ip_address",
    "client_user_agent",
    "fbc",
    "fbp",
    "subscription_id",
    "fb_login_id",
    "lead_id",
    "anon_id",
    "madid",
];

/// The digest of an empty text.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The state of the simulated Meta.
#[derive(Default)]
pub(super) struct MetaSimulator {
    /// The time at which each event was first received, by its name and id.
    seen: HashMap<(String, String), Timestamp>,
    audiences: SimulatedAudiences,
}

/// An error in the format of the Graph API.
struct MetaRefusal {
    status: StatusCode,
    code: i64,
    subcode: i64,
    message: String,
}

impl MetaRefusal {
    fn new(code: i64, subcode: i64, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, subcode, message: message.into() }
    }

    fn body(&self) -> String {
        json!({ "error": {
            "message": self.message, "type": "OAuthException", "code": self.code,
            "error_subcode": self.subcode, "is_transient": false, "fbtrace_id": "Asimulated",
        } })
        .to_string()
    }
}

impl VendorApi for MetaSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let response = check(asked).and_then(|body| match self.audiences.answer(asked, &body) {
            Some(response) => response.map(MetaRequestBody::Listed),
            None => events(asked, body).map(MetaRequestBody::Happened),
        });
        match response {
            Ok(MetaRequestBody::Listed(response)) => SimulatorOutcome {
                reply: answer(StatusCode::OK, response.to_string()),
                accepted: Vec::new(),
                objections: Vec::new(),
            },
            Ok(MetaRequestBody::Happened(body)) => {
                let events = body.get("data").and_then(Value::as_array);
                let received = events.map_or(0, Vec::len);
                let accepted = events.into_iter().flatten().filter_map(|event| {
                    let text = |key: &str| event.get(key).and_then(Value::as_str);
                    let (name, id) = (text("event_name").unwrap_or_default(), text("event_id"));
                    self.is_new(name, id, asked.now).then(|| id.map(str::to_owned))
                });
                let accepted = accepted.collect();
                let response = json!({
                    "events_received": received, "messages": [], "fbtrace_id": "Asimulated",
                });
                let reply = answer(StatusCode::OK, response.to_string());
                SimulatorOutcome { reply, accepted, objections: Vec::new() }
            }
            Err(refusal) => SimulatorOutcome {
                reply: answer(refusal.status, refusal.body()),
                accepted: Vec::new(),
                objections: vec![refusal.message],
            },
        }
    }

    fn lists(&self) -> MemberLists {
        self.audiences.lists()
    }
}

/// The content of a valid request.
enum MetaRequestBody {
    /// A request of events: its body.
    Happened(Value),
    /// A request of lists: the reply.
    Listed(Value),
}

impl MetaSimulator {
    /// Returns true if the event is counted: none with the same name and id came before it.
    fn is_new(&mut self, name: &str, id: Option<&str>, now: Timestamp) -> bool {
        let Some(id) = id else { return true };
        let key = (name.to_owned(), id.to_owned());
        let is_known = |first: &Timestamp| age_seconds(first.as_second(), now) <= DEDUPE_SECONDS;
        if self.seen.get(&key).is_some_and(is_known) {
            return false;
        }
        self.seen.insert(key, now);
        true
    }
}

/// The body of an authorised request.
fn check(asked: &SimulatorRequest<'_>) -> Result<Value, MetaRefusal> {
    let version = asked.target.path().split('/').nth(1);
    let is_version = |text: &str| {
        let numbers = text.strip_prefix('v').and_then(|numbers| numbers.split_once('.'));
        numbers.is_some_and(|(major, minor)| is_number(major) && is_number(minor))
    };
    if !version.is_some_and(is_version) {
        return Err(MetaRefusal::new(2500, 0, "Unknown path components"));
    }
    if !is_authorised(asked) {
        let status = StatusCode::UNAUTHORIZED;
        let refusal =
            MetaRefusal::new(190, 0, "Invalid OAuth access token - Cannot parse access token");
        return Err(MetaRefusal { status, ..refusal });
    }
    let kind = asked.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return Err(MetaRefusal::new(100, 0, "the content type is not application/json"));
    }
    parse(asked.body).map_err(|objection| MetaRefusal::new(100, 0, objection))
}

/// The body of a valid request about events.
fn events(asked: &SimulatorRequest<'_>, body: Value) -> Result<Value, MetaRefusal> {
    let mut path = asked.target.path().split('/').skip(2);
    let (pixel, edge) = (path.next(), path.next());
    if edge != Some("events") || path.next().is_some() {
        return Err(MetaRefusal::new(2500, 0, "Unknown path components"));
    }
    if !pixel.is_some_and(is_number) {
        let message = "Unsupported post request. The object does not exist, or you lack permission";
        return Err(MetaRefusal::new(100, 33, message));
    }
    if asked.method != Method::POST {
        return Err(MetaRefusal::new(100, 0, format!("{} is not POST", asked.method)));
    }
    match objections(&body, asked.now).into_iter().next() {
        Some((subcode, objection)) => Err(MetaRefusal::new(100, subcode, objection)),
        None => Ok(body),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true if there is a token; any token is valid.
fn is_authorised(asked: &SimulatorRequest<'_>) -> bool {
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let field = asked.headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
    let bearer = field.and_then(|field| field.strip_prefix("Bearer "));
    let query = asked.target.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    bearer.is_some_and(is_token)
        || pairs.any(|(name, value)| name == "access_token" && is_token(&value))
}

/// All objections to a body: Meta's subcode, and the problem.
fn objections(body: &Value, now: Timestamp) -> Vec<(i64, String)> {
    let mut found = MetaObjections { found: Vec::new(), now };
    for (name, value) in body.as_object().into_iter().flatten() {
        let is_known = matches!(name.as_str(), "data" | "test_event_code" | "partner_agent");
        if !is_known || (name != "data" && !is_text(value)) {
            found.add(0, format!("{name} is unknown or no text"));
        }
    }
    match body.get("data").and_then(Value::as_array) {
        Some(events) if (1..=MAX_EVENTS).contains(&events.len()) => {
            for (index, event) in events.iter().enumerate() {
                found.event(&format!("data[{index}]"), event);
            }
        }
        _ => found.add(0, "data must be a list of 1 to 1000 events".to_owned()),
    }
    found.found
}

struct MetaObjections {
    found: Vec<(i64, String)>,
    now: Timestamp,
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

impl MetaObjections {
    fn add(&mut self, subcode: i64, objection: String) {
        self.found.push((subcode, objection));
    }

    /// Adds the objection unless the condition holds.
    fn must(&mut self, holds: bool, objection: impl FnOnce() -> String) {
        if !holds {
            self.add(0, objection());
        }
    }

    fn event(&mut self, at: &str, event: &Value) {
        let Some(fields) = event.as_object() else {
            return self.add(0, format!("{at} is no object"));
        };
        for (name, value) in fields {
            self.must(EVENT_FIELDS.contains(&name.as_str()), || format!("{at}.{name} is unknown"));
            self.must(!value.is_null() && value.as_str() != Some(""), || {
                format!("{at}.{name} is empty")
            });
        }
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let chars = text("event_name").chars().count();
        self.must((1..=MAX_NAME_CHARS).contains(&chars), || format!("{at}.event_name is bad"));
        self.must(event.get("event_id").is_none_or(is_text), || format!("{at}.event_id is bad"));
        let source = text("action_source");
        self.must(ACTION_SOURCES.contains(&source), || format!("{at}.action_source is bad"));
        self.time(at, event, source);
        self.source(at, event, source);
        self.user(at, event.get("user_data"));
        self.custom(at, event.get("custom_data"), text("event_name"));
        self.processing(at, event);
    }

    fn time(&mut self, at: &str, event: &Value, source: &str) {
        let Some(time) = event.get("event_time").and_then(Value::as_i64) else {
            return self.add(0, format!("{at}.event_time is no whole number of seconds"));
        };
        let age = age_seconds(time, self.now);
        let is_in_store = source == "physical_store";
        let max = if is_in_store { MAX_AGE_IN_STORE_SECONDS } else { MAX_AGE_SECONDS };
        if age > max {
            self.add(2_804_003, format!("{at}.event_time is too old: {age} s"));
        }
        self.must(age >= -MAX_AHEAD_SECONDS, || format!("{at}.event_time is in the future"));
    }

    fn source(&mut self, at: &str, event: &Value, source: &str) {
        let is_url = |value: &Value| {
            let url = value.as_str().and_then(|text| url::Url::parse(text).ok());
            url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        for name in ["event_source_url", "referrer_url"] {
            self.must(event.get(name).is_none_or(is_url), || format!("{at}.{name} is no URL"));
        }
        if source == "website" {
            let has_agent = event.pointer("/user_data/client_user_agent").is_some_and(is_text);
            let has_url = event.get("event_source_url").is_some();
            self.must(has_agent && has_url, || format!("{at} is of a website without its facts"));
        }
        if source == "app" {
            let flag = |name: &str| {
                let value = event.get("app_data").and_then(|data| data.get(name));
                value.and_then(Value::as_u64).is_some_and(|flag| flag <= 1)
            };
            let flags = flag("advertiser_tracking_enabled") && flag("application_tracking_enabled");
            self.must(flags, || format!("{at}.app_data lacks its flags"));
            let info = event.pointer("/app_data/extinfo").and_then(Value::as_array);
            let info: Vec<_> = info.into_iter().flatten().filter_map(Value::as_str).collect();
            let system = info.first().is_some_and(|system| matches!(*system, "i2" | "a2"));
            let version = info.get(4).is_some_and(|version| !version.is_empty());
            let is_whole = info.len() == 16 && system && version;
            self.must(is_whole, || format!("{at}.app_data.extinfo is bad"));
        }
    }

    fn user(&mut self, at: &str, user: Option<&Value>) {
        let Some(user) = user.and_then(Value::as_object) else {
            return self.add(0, format!("{at}.user_data is missing"));
        };
        let at = format!("{at}.user_data");
        for (name, value) in user {
            let is_digest = DIGESTS.contains(&name.as_str());
            let is_known = is_digest || PLAIN.contains(&name.as_str());
            self.must(is_known, || format!("{at}.{name} is unknown"));
            let values = match value {
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            let is_valid = |value: &Value| {
                let text = value.as_str().unwrap_or_default();
                !text.is_empty() && text != EMPTY_SHA256 && (!is_digest || is_digest_text(text))
            };
            let is_right = !values.is_empty() && values.iter().all(is_valid);
            self.must(is_right, || format!("{at}.{name} is {value}"));
        }
        let text = |name: &str| user.get(name).and_then(Value::as_str);
        let address = text("client_ip_address").map(str::parse::<IpAddr>);
        let is_public = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_private() && !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unique_local(),
        };
        let is_right = address.is_none_or(|address| address.is_ok_and(|ip| is_public(&ip)));
        self.must(is_right, || format!("{at}.client_ip_address is not a visitor's"));
        for name in ["fbc", "fbp"] {
            self.must(text(name).is_none_or(is_cookie), || format!("{at}.{name} is malformed"));
        }
        let has = |name: &str| user.contains_key(name);
        let is_found = ["em", "ph", "fbc", "fbp", "madid", "lead_id"].into_iter().any(has)
            || (has("client_ip_address") && has("client_user_agent"));
        if !is_found {
            self.add(2_804_050, format!("{at} is not enough to find anybody"));
        }
    }

    fn custom(&mut self, at: &str, custom: Option<&Value>, name: &str) {
        let empty = serde_json::Map::new();
        let custom = match custom {
            Some(Value::Object(custom)) => custom,
            Some(_) => return self.add(0, format!("{at}.custom_data is no object")),
            None => &empty,
        };
        let at = format!("{at}.custom_data");
        for (name, value) in custom {
            self.must(!value.is_null() && value.as_str() != Some(""), || {
                format!("{at}.{name} is empty")
            });
            let is_address = value.as_str().is_some_and(|text| {
                let (name, domain) = text.split_once('@').unwrap_or_default();
                let is_domain = domain.contains('.') && !domain.starts_with('.');
                let is_word = |c: char| !c.is_whitespace() && c != '@';
                !name.is_empty() && is_domain && name.chars().chain(domain.chars()).all(is_word)
            });
            self.must(!is_address, || format!("{at}.{name} is somebody's address"));
            self.must(is_custom(name, value), || format!("{at}.{name} is {value}"));
        }
        let has = |name: &str| custom.contains_key(name);
        if has("value") && !has("currency") {
            self.add(2_804_008, format!("{at}.value is of no currency"));
        }
        if name == "Purchase" && !(has("value") && has("currency")) {
            self.add(2_804_009, format!("{at} lacks the purchase's value or currency"));
        }
    }

    fn processing(&mut self, at: &str, event: &Value) {
        let options = event.get("data_processing_options").map(|options| options.to_string());
        let number = |name: &str| event.get(format!("data_processing_options_{name}"));
        let is_right = match options.as_deref() {
            None | Some("[]") => number("country").is_none() && number("state").is_none(),
            Some("[\"LDU\"]") => {
                let country = number("country").and_then(Value::as_u64);
                let state = number("state").and_then(Value::as_u64);
                country.is_some_and(|country| country <= 1)
                    && state.is_some_and(|state| state == 0 || (1000..=1010).contains(&state))
            }
            Some(_) => false,
        };
        self.must(is_right, || format!("{at}.data_processing_options are bad"));
    }
}

/// Returns true for SHA-256 or MD5, in lower case.
fn is_digest_text(text: &str) -> bool {
    matches!(text.len(), 32 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns true for `fb.1.1596403881668.1116446470`, perhaps with one more part.
fn is_cookie(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [fb, index, millis, payload] | [fb, index, millis, payload, _] => {
            *fb == "fb" && is_number(index) && is_number(millis) && !payload.is_empty()
        }
        _ => false,
    }
}

/// Returns true if a field of the custom data has its type.
fn is_custom(name: &str, value: &Value) -> bool {
    let is_positive = |value: &Value| value.as_f64().is_some_and(|number| number >= 0.0);
    match name {
        "value" => is_positive(value),
        "predicted_ltv" | "net_revenue" => value.is_number(),
        "currency" => value.as_str().is_some_and(|code| {
            code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
        }),
        "content_ids" => {
            value.as_array().is_some_and(|ids| !ids.is_empty() && ids.iter().all(is_text))
        }
        "contents" => value.as_array().is_some_and(|contents| contents.iter().all(is_content)),
        "content_type" => matches!(value.as_str(), Some("product" | "product_group")),
        "num_items" => value.is_u64(),
        "delivery_category" => is_delivery(value),
        "content_name" | "content_category" | "order_id" | "search_string" | "item_number" => {
            is_text(value)
        }
        _ => !value.is_object() && !value.is_array(),
    }
}

fn is_content(content: &Value) -> bool {
    let has_id = content.get("id").is_some_and(is_text);
    let quantity = content.get("quantity").and_then(Value::as_u64);
    let price = content.get("item_price");
    let is_priced = price.is_none_or(|price| price.as_f64().is_some_and(|price| price >= 0.0));
    let is_delivered = content.get("delivery_category").is_none_or(is_delivery);
    has_id && quantity.is_some_and(|quantity| quantity > 0) && is_priced && is_delivered
}

fn is_delivery(value: &Value) -> bool {
    matches!(value.as_str(), Some("in_store" | "curbside" | "home_delivery"))
}

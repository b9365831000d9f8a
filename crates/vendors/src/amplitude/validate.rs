//! Amplitude's checks of an upload (`docs/contracts/destinations.md` 4.2 and 4.5), as a pure function: for tests
//! of the mapping, and for a local stand-in. Written from the contract, and on purpose without the mapping's
//! own tables.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use tagway_core::event::JsonObject;

/// The indices of bad events, by the bad field.
pub type AmplitudeFieldFaults = BTreeMap<&'static str, Vec<usize>>;

/// All faults of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmplitudeFindings {
    /// Fields of another type or value than Amplitude takes: it refuses the request.
    pub invalid: AmplitudeFieldFaults,
    /// Fields that are missing: it refuses the request.
    pub missing: AmplitudeFieldFaults,
    /// Ids that are too short or refused: it refuses the request.
    pub id_lengths: AmplitudeFieldFaults,
    /// Values that it would cut, ignore or misread silently.
    pub remarks: Vec<String>,
}

/// The fields whose values are texts.
const TEXTS: &[&str] = &[
    "app_version",
    "platform",
    "os_name",
    "os_version",
    "device_brand",
    "device_manufacturer",
    "device_model",
    "carrier",
    "country",
    "region",
    "city",
    "dma",
    "language",
    "user_agent",
    "productId",
    "revenueType",
    "currency",
    "ip",
    "idfa",
    "idfv",
    "adid",
    "android_id",
    "insert_id",
    "library",
];

/// The fields with ids of devices, which must not be all zeros.
const DEVICE_IDS: &[&str] = &["idfa", "idfv", "adid", "android_id"];

/// The fields whose values are not texts; Amplitude has no field outside both lists.
const OTHERS: &[&str] = &[
    "user_id",
    "device_id",
    "event_type",
    "time",
    "event_properties",
    "user_properties",
    "groups",
    "session_id",
    "price",
    "quantity",
    "revenue",
    "location_lat",
    "location_lng",
];

const BAD_IDS: &str = "|anonymous|nil|none|null|n/a|na|undefined|unknown|\
    00000000-0000-0000-0000-000000000000|{}|lmy47d|0|-1|";

/// The names of the operations on a person's properties.
const OPERATIONS: &[&str] = &[
    "$set",
    "$setOnce",
    "$add",
    "$append",
    "$prepend",
    "$unset",
    "$preInsert",
    "$postInsert",
    "$remove",
];

/// Checks the events of an upload.
pub fn validate(body: &Value) -> AmplitudeFindings {
    let mut findings = AmplitudeFindings::default();
    let min = body.pointer("/options/min_id_length").and_then(Value::as_u64).unwrap_or(5);
    let events = body.get("events").and_then(Value::as_array);
    for (index, event) in events.into_iter().flatten().enumerate() {
        match event.as_object() {
            Some(event) => AmplitudeValidator { index, event, min, findings: &mut findings }.all(),
            None => findings.invalid.entry("event").or_default().push(index),
        }
    }
    findings
}

impl AmplitudeFindings {
    /// Returns true if Amplitude takes the request.
    pub fn is_taken(&self) -> bool {
        self.invalid.is_empty() && self.missing.is_empty() && self.id_lengths.is_empty()
    }
}

struct AmplitudeValidator<'c> {
    index: usize,
    event: &'c JsonObject,
    min: u64,
    findings: &'c mut AmplitudeFindings,
}

impl AmplitudeValidator<'_> {
    fn all(mut self) {
        self.ids();
        self.event_type();
        self.times();
        self.texts();
        self.properties();
        self.groups();
        self.money();
        self.place();
        for (key, value) in self.event {
            if !TEXTS.contains(&key.as_str()) && !OTHERS.contains(&key.as_str()) {
                self.remark(&format!("{key} is no field"));
            }
            self.check_content(key, value);
        }
    }

    fn invalid(&mut self, field: &'static str) {
        self.findings.invalid.entry(field).or_default().push(self.index);
    }

    fn remark(&mut self, text: &str) {
        self.findings.remarks.push(format!("event {}: {text}", self.index));
    }

    fn ids(&mut self) {
        let mut any = false;
        for field in ["user_id", "device_id"] {
            match self.event.get(field) {
                None => {}
                Some(Value::String(id)) => {
                    any = true;
                    let is_bad = BAD_IDS.contains(&format!("|{}|", id.to_lowercase()));
                    if id.is_empty() || is_bad || (id.chars().count() as u64) < self.min {
                        self.findings.id_lengths.entry(field).or_default().push(self.index);
                    }
                }
                Some(_) => self.invalid(field),
            }
        }
        if !any {
            self.findings.missing.entry("user_id").or_default().push(self.index);
        }
    }

    fn event_type(&mut self) {
        match self.event.get("event_type") {
            Some(Value::String(name)) if !name.is_empty() => {
                let own = name.strip_prefix("[Amplitude] ").unwrap_or_default();
                let is_own = own.starts_with("Revenue")
                    || matches!(own, "Start Session" | "End Session" | "Merged User");
                if is_own || name == "$groupidentify" {
                    self.invalid("event_type");
                }
            }
            Some(_) => self.invalid("event_type"),
            None => self.findings.missing.entry("event_type").or_default().push(self.index),
        }
    }

    fn times(&mut self) {
        for field in ["time", "session_id"] {
            let Some(value) = self.event.get(field) else { continue };
            match value.as_i64() {
                None => self.invalid(field),
                Some(-1) if field == "session_id" => {}
                Some(at) if at < 100_000_000_000 => self.remark(&format!("{field} is in seconds")),
                Some(_) => {}
            }
        }
    }

    fn texts(&mut self) {
        for field in TEXTS {
            if self.event.get(*field).is_some_and(|value| !value.is_string()) {
                self.invalid(field);
            }
        }
        for field in DEVICE_IDS {
            let id = self.event.get(*field).and_then(Value::as_str).unwrap_or("1");
            if id.chars().all(|c| c == '0' || c == '-') {
                self.invalid(field);
            }
        }
        if self.event.contains_key("user_agent") && self.event.contains_key("os_name") {
            self.remark("the system is said twice");
        }
    }

    fn properties(&mut self) {
        for field in ["event_properties", "user_properties"] {
            match self.event.get(field) {
                None => {}
                Some(value @ Value::Object(_)) if depth(value) <= 40 => {}
                Some(_) => self.invalid(field),
            }
        }
        let Some(person) = self.event.get("user_properties").and_then(Value::as_object) else {
            return;
        };
        let is_identify = self.event.get("event_type").is_some_and(|name| name == "$identify");
        let operations = person.keys().filter(|key| key.starts_with('$')).count();
        if operations > 0 && operations < person.len() {
            self.remark("operations stand among properties");
        }
        if is_identify && operations < person.len() {
            self.remark("an identify without operations");
        }
        if person.keys().any(|key| key.starts_with('$') && !OPERATIONS.contains(&key.as_str())) {
            self.invalid("user_properties");
        }
    }

    fn groups(&mut self) {
        let Some(groups) = self.event.get("groups") else { return };
        let Some(groups) = groups.as_object() else { return self.invalid("groups") };
        let mut names = 0;
        for value in groups.values() {
            match value {
                Value::String(_) => names += 1,
                Value::Array(items) if items.iter().all(Value::is_string) => names += items.len(),
                _ => return self.invalid("groups"),
            }
        }
        if groups.len() > 5 || names > 10 {
            self.remark("more than 5 group types or 10 groups");
        }
    }

    fn money(&mut self) {
        let has = |field: &str| self.event.contains_key(field);
        let is_sale = has("revenue") || (has("price") && has("quantity"));
        let is_orphan = !is_sale && ["productId", "revenueType", "currency"].into_iter().any(has);
        let is_double = has("revenue") && has("price") && has("quantity");
        for field in ["price", "revenue"] {
            if self.event.get(field).is_some_and(|value| !value.is_number()) {
                self.invalid(field);
            }
        }
        if self.event.get("quantity").is_some_and(|value| !value.is_i64()) {
            self.invalid("quantity");
        }
        let currency = self.event.get("currency").and_then(Value::as_str).unwrap_or("EUR");
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.invalid("currency");
        }
        if is_orphan {
            self.remark("a product or a currency without revenue");
        }
        if is_double {
            self.remark("price times quantity is counted over revenue");
        }
    }

    fn place(&mut self) {
        for field in ["location_lat", "location_lng"] {
            if self.event.get(field).is_some_and(|value| !value.is_number()) {
                self.invalid(field);
            }
        }
        let ip = self.event.get("ip").and_then(Value::as_str).unwrap_or("::");
        if ip.parse::<IpAddr>().is_err() {
            self.remark("ip is no address: the gateway's own would be taken");
        }
    }

    /// Checks that a value is neither null nor empty nor too long, at any depth.
    fn check_content(&mut self, key: &str, value: &Value) {
        match value {
            Value::Null => self.remark(&format!("{key} is null")),
            Value::String(text) if text.is_empty() => self.remark(&format!("{key} is empty")),
            Value::String(text) if text.chars().count() > 1024 => {
                self.remark(&format!("{key} is longer than 1024 characters"));
            }
            Value::Array(items) => items.iter().for_each(|item| self.check_content(key, item)),
            Value::Object(object) => {
                object.iter().for_each(|(key, value)| self.check_content(key, value));
            }
            _ => {}
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

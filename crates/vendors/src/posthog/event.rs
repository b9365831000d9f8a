//! The mapping of one event (`docs/contracts/beacons.md` 8.4). The library puts all it knows among the
//! properties: some move to the context, those about the library itself are dropped, and the rest are
//! the site's own.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::beacon::BeaconRequest;
use crate::beacon_format::{self, CanonicalMessage, put};
use tagway_core::event::{EventKind, JsonObject};

/// Events with no information about the visitor that a site asked for; they are dropped.
const DROPPED: [&str; 5] =
    ["$autocapture", "$$heatmap", "$snapshot", "$feature_flag_called", "$web_vitals"];

/// The library's own events and their canonical names.
const NAMES: [(&str, &str); 4] = [
    ("$pageleave", "Page Left"),
    ("$rageclick", "Rage Click"),
    ("$dead_click", "Dead Click"),
    ("$exception", "Exception Raised"),
];

/// Click ids among the properties.
const CLICK_IDS: [&str; 22] = [
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "fbclid",
    "msclkid",
    "twclid",
    "igshid",
    "ttclid",
    "rdt_cid",
    "epik",
    "qclid",
    "sccid",
    "li_fat_id",
    "mc_cid",
    "gad_source",
    "irclid",
    "_kx",
    "oppref",
    "bfcid",
    "ScCid",
];

/// Properties of the library itself.
const LIBRARY_PROPERTIES: [&str; 27] = [
    "token",
    "distinct_id",
    "$time",
    "$set",
    "$set_once",
    "$host",
    "$pathname",
    "$referring_domain",
    "$browser_language_prefix",
    "$browser_type",
    "$raw_user_agent",
    "$is_identified",
    "$process_person_profile",
    "$insert_id",
    "$user_id",
    "$device_id",
    "$anon_distinct_id",
    "$had_persisted_distinct_id",
    "$initialization_time",
    "$sdk_dist_channel",
    "$config_defaults",
    "$configured_session_timeout_ms",
    "$recording_status",
    "$timezone_offset",
    "$geoip_disable",
    "$cookieless_mode",
    "$transformations",
];

/// Prefixes of the names of further such properties.
const LIBRARY_PREFIXES: [&str; 8] = [
    "$sdk_debug_",
    "$session_entry_",
    "$initial_",
    "$lib_rate_limit",
    "$viewport_",
    "$replay_",
    "$session_recording_",
    "$debug_",
];

/// Libraries of servers, as `$lib` names them.
const SERVERS: [&str; 11] = [
    "posthog-python",
    "posthog-node",
    "posthog-php",
    "posthog-ruby",
    "posthog-go",
    "posthog-java",
    "posthog-server",
    "posthog-dotnet",
    "posthog-rs",
    "posthog-elixir",
    "posthog-edge",
];

/// Returns true if a server's library made the event.
fn is_of_server(sent: &JsonObject) -> bool {
    let library = sent.get("$lib").and_then(Value::as_str).unwrap_or_default();
    sent.get("$is_server") == Some(&Value::Bool(true)) || SERVERS.contains(&library)
}

/// Removes properties that describe the server: neither its system nor the address it sends from is the
/// visitor's.
fn forget_server(sent: &mut JsonObject) {
    sent.retain(|name, _| {
        let of_server = |name: &str| {
            name.starts_with("os") || name.ends_with("_version") || name.ends_with("_runtime")
        };
        let name = name.strip_prefix('$').unwrap_or_default();
        name == "lib_version" || name != "is_server" && !of_server(name)
    });
    sent.entry("$ip").or_insert_with(|| UNKNOWN_ADDRESS.into());
}

/// The address for an unknown visitor.
const UNKNOWN_ADDRESS: &str = "0.0.0.0";

/// Returns the message of an event; `None` for one that is dropped or has no name.
pub(super) fn message(
    mut event: JsonObject,
    sent_at: Option<Timestamp>,
    inbound: &BeaconRequest<'_>,
) -> Option<CanonicalMessage> {
    let name = text(event.remove("event"))?;
    if name.is_empty() || DROPPED.contains(&name.as_str()) {
        return None;
    }
    let mut sent = object(event.remove("properties"));
    let once = [sent.get("$set_once"), event.get("$set_once")];
    let once = once.into_iter().flatten().find(|once| once.is_object()).cloned();
    let set = traits(&mut event, &mut sent);
    let is_of_server = is_of_server(&sent);
    if is_of_server {
        forget_server(&mut sent);
    }
    let who = PostHogIdentity::of(&event, &mut sent, is_of_server);
    let mut groups = object(sent.remove("$groups"));
    let (message, theirs) = match name.as_str() {
        "$identify" | "$set" | "$set_once" => {
            (CanonicalMessage::new(EventKind::Identify).with_traits(set), None)
        }
        "$create_alias" => {
            let alias = text(sent.remove("alias"))?;
            let previous = who.distinct_id.as_deref()?;
            let message = CanonicalMessage::new(EventKind::Alias).with_previous_id(Some(previous));
            let message = message.with_ids(Some(&alias), None);
            (message, Some((JsonObject::new(), false)))
        }
        "$groupidentify" => {
            let key = text(sent.remove("$group_key"))?;
            let kind = text(sent.remove("$group_type")).unwrap_or_default();
            let message = CanonicalMessage::new(EventKind::Group).with_group_id(Some(&key));
            groups = JsonObject::new();
            if !kind.is_empty() {
                put(&mut groups, &kind, Some(key));
            }
            (message.with_traits(object(sent.remove("$group_set"))), None)
        }
        "$pageview" => (CanonicalMessage::new(EventKind::Page), Some((set, true))),
        "$screen" => {
            let screen = text(sent.remove("$screen_name"));
            (CanonicalMessage::new(EventKind::Screen).with_name(screen), Some((set, true)))
        }
        other => (CanonicalMessage::track(canonical_name(other)), Some((set, true))),
    };
    let is_alias = name == "$create_alias";
    let (mut context, properties) = context(sent, name == "$pageview");
    let ids = who.raw(&mut context);
    put(&mut context, "clientIds", ids);
    put_groups(&mut context, groups);
    let mut source = object(context.remove("source"));
    put(&mut source, "endpoint", Some(inbound.path.trim_end_matches('/')));
    put(&mut source, "event", Some(name));
    if is_of_server && let Some(once) = once {
        put(&mut source, "operations", Some(json!({ "$set_once": once })));
    }
    put(&mut context, "source", Some(source));
    let mut message = message.with_message_id(who.message_id);
    if let Some((traits, has_properties)) = theirs {
        put(&mut context, "traits", Some(traits));
        if has_properties {
            message = message.with_properties(properties);
        }
    }
    if !is_alias {
        message = message.with_ids(who.user_id.as_deref(), who.anonymous_id.as_deref());
    }
    let offset = event.get("offset").and_then(Value::as_f64).and_then(|offset| {
        let before = SignedDuration::try_from_secs_f64(offset / 1000.0).ok()?;
        inbound.received_at.checked_sub(before).ok()
    });
    message = match offset {
        Some(at) => message.at(Some(at)),
        None => message.when(who.timestamp.as_ref()).sent_at(sent_at),
    };
    Some(message.with_context(context))
}

/// Converts a message of the shim, with the event's name and properties as the page gave them, to the
/// spec's names.
pub(super) fn to_canonical(message: &mut JsonObject) {
    let is_page = message.get("type").is_some_and(|kind| kind == "page");
    let name = if is_page { Some("$pageview".into()) } else { message.get("event").cloned() };
    let Some(name) = text(name) else { return };
    let mut sent = beacon_format::take(message, "properties");
    let set = traits(&mut JsonObject::new(), &mut sent);
    let groups = object(sent.remove("$groups"));
    // The page in the context is the one that the shim's script saw.
    let (found, properties) = context(sent, false);
    let mut own = beacon_format::take(message, "context");
    for (member, value) in found {
        own.entry(member).or_insert(value);
    }
    put(&mut own, "traits", Some(set));
    put_groups(&mut own, groups);
    beacon_format::note_source(&mut own, "posthog", Some(&name));
    put(message, "context", Some(own));
    put(message, "properties", Some(properties));
    if is_page {
        message.shift_remove("name");
    } else {
        put(message, "event", Some(canonical_name(&name)));
    }
}

/// Returns the canonical name of an event.
fn canonical_name(name: &str) -> &str {
    NAMES.iter().find(|(known, _)| *known == name).map_or(name, |(_, canonical)| canonical)
}

/// Members of an `/engage` entry that identify the person; events have them among the properties.
const OF_PERSON: [&str; 4] = ["$user_id", "$device_id", "$anon_distinct_id", "$is_identified"];

/// Returns the identify message of an `/engage` entry. It has a user id only if the entry says that the
/// person is identified.
pub(super) fn profile(
    mut event: JsonObject,
    inbound: &BeaconRequest<'_>,
) -> Option<CanonicalMessage> {
    let id = text(event.remove("$distinct_id"))?;
    let mut sent = object(event.remove("properties"));
    for name in OF_PERSON {
        put(&mut sent, name, event.remove(name));
    }
    put(&mut sent, "distinct_id", Some(id));
    let set = traits(&mut event, &mut sent);
    let who = PostHogIdentity::of(&event, &mut sent, false);
    if set.is_empty() {
        return None;
    }
    let endpoint = inbound.path.trim_end_matches('/');
    let source = json!({ "client": "posthog", "endpoint": endpoint, "event": "$set" });
    let message = CanonicalMessage::new(EventKind::Identify)
        .with_ids(who.user_id.as_deref(), who.anonymous_id.as_deref());
    let message = message
        .with_traits(set)
        .with_context(JsonObject::from_iter([("source".to_owned(), source)]));
    Some(message)
}

/// The ids of the visitor and of the event, and its time.
struct PostHogIdentity {
    distinct_id: Option<String>,
    device_id: Option<String>,
    user_id: Option<String>,
    anonymous_id: Option<String>,
    message_id: Option<String>,
    timestamp: Option<Value>,
}

impl PostHogIdentity {
    fn of(event: &JsonObject, sent: &mut JsonObject, is_of_server: bool) -> Self {
        let has_profile = sent.get("$process_person_profile") != Some(&Value::Bool(false));
        let mut taken = |name: &str| text(sent.remove(name));
        let distinct_id = taken("distinct_id").or_else(|| text(event.get("distinct_id").cloned()));
        let device_id = taken("$device_id");
        let named = taken("$user_id");
        let before = taken("$anon_distinct_id");
        let insert_id = taken("$insert_id");
        // A server sends its users' ids; an id that it generated comes with the profile turned off.
        let is_identify =
            event_is_identified(sent) || before.is_some() || is_of_server && has_profile;
        let user_id = named.or_else(|| distinct_id.clone().filter(|_| is_identify));
        let anonymous_id = device_id.clone().or(before);
        let anonymous_id = match &user_id {
            None => anonymous_id.or_else(|| distinct_id.clone()),
            Some(_) => anonymous_id,
        };
        let seconds = sent.remove("$time").as_ref().and_then(beacon_format::moment);
        let timestamp = text(event.get("timestamp").cloned());
        let timestamp = timestamp.or_else(|| seconds.map(|time| time.to_string())).map(Value::from);
        let message_id = text(event.get("uuid").cloned()).or(insert_id);
        let anonymous_id = anonymous_id.map(|id| match id.strip_prefix("$device:") {
            Some(bare) => bare.to_owned(),
            None => id,
        });
        Self { distinct_id, device_id, user_id, anonymous_id, message_id, timestamp }
    }

    /// Returns the library's own ids as sent, with the session's ids that are in the context.
    fn raw(&self, context: &mut JsonObject) -> Option<Value> {
        let mut ids = object(context.remove("clientIds"));
        put(&mut ids, "distinct_id", self.distinct_id.clone());
        put(&mut ids, "device_id", self.device_id.clone());
        (!ids.is_empty()).then(|| json!({ "posthog": ids }))
    }
}

fn event_is_identified(sent: &JsonObject) -> bool {
    sent.get("$is_identified").and_then(Value::as_bool) == Some(true)
}

/// Takes the traits that are set, on the event or among its properties. Traits that the library records
/// of the first page are left out; an event without a profile has none.
fn traits(event: &mut JsonObject, sent: &mut JsonObject) -> JsonObject {
    let mut traits = JsonObject::new();
    for name in ["$set_once", "$set"] {
        traits.extend(object(sent.remove(name)));
        traits.extend(object(event.remove(name)));
    }
    if sent.get("$process_person_profile").and_then(Value::as_bool) == Some(false) {
        return JsonObject::new();
    }
    traits.retain(|name, value| {
        !value.is_null()
            && !name.starts_with('$')
            && beacon_format::campaign_member(name).is_none()
            && !CLICK_IDS.contains(&name.as_str())
    });
    traits
}

/// Adds the visitor's groups by type; the company, else the first, is the canonical group.
fn put_groups(context: &mut JsonObject, groups: JsonObject) {
    let key = groups.get("company").or_else(|| groups.values().next());
    let key = key.cloned().and_then(|key| text(Some(key)));
    put(context, "groupId", key);
    put(context, "groups", Some(groups));
}

/// Splits an event's properties into the context and the remaining properties.
fn context(sent: JsonObject, is_page: bool) -> (JsonObject, JsonObject) {
    let (mut context, mut properties) = (JsonObject::new(), JsonObject::new());
    let (mut url, mut title, mut referrer) = (None, None, None);
    let mut parts: [(&str, JsonObject); 9] = [
        ("library", JsonObject::new()),
        ("os", JsonObject::new()),
        ("browser", JsonObject::new()),
        ("device", JsonObject::new()),
        ("screen", JsonObject::new()),
        ("campaign", JsonObject::new()),
        ("clickIds", JsonObject::new()),
        ("clientIds", JsonObject::new()),
        ("source", JsonObject::new()),
    ];
    let mut place = |part: &str, member: &str, value: Value| {
        if let Some((_, object)) = parts.iter_mut().find(|(name, _)| *name == part) {
            put(object, member, Some(value));
        }
    };
    place("source", "client", "posthog".into());
    for (name, value) in sent {
        match name.as_str() {
            "$current_url" => url = text(Some(value)),
            "title" if is_page => title = text(Some(value)),
            "$referrer" => referrer = text(Some(value)),
            "$lib" => place("library", "name", library(printed(&value)).into()),
            "$lib_version" => {
                place("library", "version", value.clone());
                place("source", "version", value);
            }
            "$os" => place("os", "name", value),
            "$os_version" => place("os", "version", value),
            "$browser" => place("browser", "name", value),
            "$browser_version" => place("browser", "version", value),
            "$device_type" => place("device", "type", value),
            "$screen_width" => place("screen", "width", value),
            "$screen_height" => place("screen", "height", value),
            "$session_id" => {
                put(&mut context, "sessionId", Some(value.clone()));
                place("clientIds", "session_id", value);
            }
            "$window_id" => place("clientIds", "window_id", value),
            "$pageview_id" => place("clientIds", "pageview_id", value),
            "$browser_language" => put(&mut context, "locale", Some(value)),
            "$timezone" => put(&mut context, "timezone", Some(value)),
            "$ip" => put(&mut context, "ip", Some(value)),
            other if LIBRARY_PROPERTIES.contains(&other) => {}
            other if LIBRARY_PREFIXES.iter().any(|start| other.starts_with(start)) => {}
            other if other.ends_with("_enabled_server_side") => {}
            other if other.ends_with("_disabled_server_side") => {}
            other => match beacon_format::campaign_member(other) {
                Some(member) => place("campaign", member, value),
                None if CLICK_IDS.contains(&other) => place("clickIds", other, value),
                None => put(&mut properties, &name, Some(value)),
            },
        }
    }
    let page = beacon_format::page(url.as_deref(), title.as_deref(), referrer.as_deref());
    if is_page {
        let own = std::mem::replace(&mut properties, page.clone());
        properties.extend(own);
    }
    put(&mut context, "page", Some(page));
    for (name, part) in parts {
        put(&mut context, name, Some(part));
    }
    (context, properties)
}

/// Returns the full name of a library: the browser's calls itself `web`.
fn library(own: &str) -> String {
    if own.starts_with("posthog-") { own.to_owned() } else { format!("posthog-{own}") }
}

/// Reads a text, which may have been written as a number. `None` if it is empty.
fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn printed(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn object(value: Option<Value>) -> JsonObject {
    match value {
        Some(Value::Object(object)) => object,
        _ => JsonObject::new(),
    }
}

//! What a person is known by, and where events say it.
//!
//! An identity is a kind and a value, unique within a site. The values are normalised here, so that
//! one id that several clients write differently is one identity, and what sloppy tags send when they
//! know nobody names nobody. An e-mail address is kept as its digest only.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Event, EventKind, names_somebody};
use crate::values::{email, unicode};

/// The longest id of a vendor that is kept: Google's and Meta's have about 30 characters, the rest are
/// UUIDs.
const MAX_DEVICE_BYTES: usize = 128;

/// Addresses that forms are tried out with.
const NOBODYS_EMAILS: [&str; 3] = ["test@example.com", "test@test.com", "email@example.com"];

/// Vendors by whose device ids a person is known, as `context.clientIds` names them. Others are not
/// looked at: anybody can make up names.
const DEVICES: [&str; 14] = [
    "amplitude",
    "drift",
    "heap",
    "hubspot",
    "intercom",
    "matomo",
    "mixpanel",
    "pinterest",
    "posthog",
    "reddit",
    "rudderstack",
    "snowplow",
    "tiktok",
    "twitter",
];

/// The cookies that hold a device id of their own, and whose.
const DEVICE_COOKIES: [(&str, &str); 2] = [("_ttp", "tiktok"), ("_rdt_uuid", "reddit")];

/// Where a vendor's entry in `context.clientIds` is an object, the members that may hold the id.
const MEMBERS: [&str; 7] =
    ["clientId", "client_id", "deviceId", "device_id", "distinct_id", "anonymousId", "id"];

/// The formats whose clients make a new anonymous id when they are told to forget their user.
const RESETTING: [&str; 8] =
    ["sdk", "segment", "rudderstack", "jitsu", "mixpanel", "posthog", "amplitude", "heap"];

/// The formats whose clients send no id, so that their anonymous id is made for a day, and must not be
/// linked to another day's.
const DAILY: [&str; 5] = ["plausible", "umami", "fathom", "goatcounter", "simpleanalytics"];

/// The cookies that hold identities.
pub const COOKIES: [&str; 5] = [AJS, "_ga", "_fbp", DEVICE_COOKIES[0].0, DEVICE_COOKIES[1].0];

/// The cookie in which analytics.js keeps its anonymous id.
const AJS: &str = "ajs_anonymous_id";

/// The device id of an app's installation, and the one for advertisements.
const APP: &str = "app";
const ADVERTISING: &str = "advertising";

/// What an identity is. The order is that of trust: of an event's identities, a smaller kind says
/// more surely who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    /// The id the site knows the person by.
    User,
    /// A client's device id.
    Anonymous,
    /// The id in the gateway's own cookie.
    Visitor,
    /// Google's client id: the two numbers of `_ga`.
    Ga,
    /// Meta's browser id: the time and the number of `_fbp`.
    Fbp,
    /// The device id of another vendor.
    Device(&'static str),
    /// The SHA-256 digest of the e-mail address, trimmed and in lower case, in hexadecimal digits.
    /// Last, because it says less than a device on which somebody signed in.
    Email,
}

impl IdentityKind {
    /// The stored name: `user`, `anonymous`, `visitor`, `ga`, `fbp`, `device:<vendor>`, `email`.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::User => "user",
            Self::Anonymous => "anonymous",
            Self::Visitor => "visitor",
            Self::Ga => "ga",
            Self::Fbp => "fbp",
            Self::Email => "email",
            Self::Device(vendor) => return Cow::Owned(format!("device:{vendor}")),
        })
    }

    /// The kind of this stored name. `None` for one of a vendor that is no longer known.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "user" => Self::User,
            "anonymous" => Self::Anonymous,
            "visitor" => Self::Visitor,
            "ga" => Self::Ga,
            "fbp" => Self::Fbp,
            "email" => Self::Email,
            _ => return device(name.strip_prefix("device:")?),
        })
    }

    /// Whether it names a person, not a device that people may share.
    pub const fn is_strong(self) -> bool {
        matches!(self, Self::User | Self::Email)
    }
}

fn device(vendor: &str) -> Option<IdentityKind> {
    let mut known = DEVICES.into_iter().chain([APP, ADVERTISING]);
    known.find(|known| *known == vendor).map(IdentityKind::Device)
}

/// One name of a person, unique within a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// What it is.
    pub kind: IdentityKind,
    /// The id itself.
    pub value: String,
}

impl Identity {
    /// An identity, if the value names anybody.
    pub fn of(kind: IdentityKind, value: Option<&str>) -> Option<Self> {
        let value = value?.trim();
        names_somebody(value).then(|| Self { kind, value: unicode::composed(value).into_owned() })
    }

    /// The identity of an e-mail address, or of the digest of one.
    pub fn of_email(address: &str) -> Option<Self> {
        let digest = address.trim();
        if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let value = digest.to_ascii_lowercase();
            return Some(Self { kind: IdentityKind::Email, value });
        }
        let address = email::identity(address)?;
        if NOBODYS_EMAILS.contains(&address.as_str()) {
            return None;
        }
        Some(Self::of_address(&address))
    }

    /// The identities of people who may go by this name: of a user, and of an e-mail address, also as
    /// versions stored them that did not compose what clients write.
    pub fn named(name: &str) -> Vec<Self> {
        let name = name.trim();
        let mut all: Vec<Self> = Self::of_email(name).into_iter().collect();
        for spelling in unicode::spellings(name).into_iter().filter(|name| names_somebody(name)) {
            if spelling.contains('@') && !spelling.is_ascii() {
                all.push(Self::of_address(&spelling.to_lowercase()));
            }
            all.push(Self { kind: IdentityKind::User, value: spelling.into_owned() });
        }
        all
    }

    fn of_address(address: &str) -> Self {
        let mut value = String::with_capacity(64);
        for byte in Sha256::digest(address.as_bytes()) {
            // Writing to a String cannot fail.
            let _infallible = write!(value, "{byte:02x}");
        }
        Self { kind: IdentityKind::Email, value }
    }

    fn of_device(kind: IdentityKind, value: &str) -> Option<Self> {
        if value.len() > MAX_DEVICE_BYTES { None } else { Self::of(kind, Some(value)) }
    }
}

/// A weak identity as an event shows it: it names a device, and with it whoever uses that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The identity.
    pub identity: Identity,
    /// For the id of a client that can be told to forget its user: which client of the browser or app
    /// it is (`segment@shop.example`).
    pub client: Option<String>,
}

/// The identities by which an event's visitor is looked up, the surest first. An address is among
/// them only if one of the site's servers names it: in a browser anybody can name anybody's.
pub fn identities(event: &Event) -> Vec<Identity> {
    let mut found: Vec<Identity> =
        Identity::of(IdentityKind::User, event.user_id.as_deref()).into_iter().collect();
    found.extend(devices(event).into_iter().map(|device| device.identity));
    found.extend(email(event).filter(|_| event.facts.from_server));
    found
}

/// The e-mail address that the event says is the person's.
pub fn email(event: &Event) -> Option<Identity> {
    Identity::of_email(raw_email(event)?)
}

/// The same as it is said, whatever that is.
pub fn raw_email(event: &Event) -> Option<&str> {
    let own = match event.kind {
        // The traits of a group event are the group's.
        EventKind::Identify => event.traits.as_ref().and_then(|traits| traits.get("email")),
        _ => None,
    };
    own.or_else(|| context(event, &["traits", "email"]))?.as_str()
}

/// The devices that an event shows, each once, the surest first.
pub fn devices(event: &Event) -> Vec<DeviceIdentity> {
    let mut found: Vec<DeviceIdentity> = Vec::with_capacity(4);
    let mut add = |identity: Option<Identity>, client: Option<String>| {
        let Some(identity) = identity else { return };
        if found.iter().all(|device| device.identity != identity) {
            found.push(DeviceIdentity { identity, client });
        }
    };
    let facts = &event.facts;
    let is_lasting = !DAILY.contains(&facts.format.as_str());
    let anonymous = event.anonymous_id.as_deref().filter(|_| is_lasting);
    let anonymous = Identity::of(IdentityKind::Anonymous, anonymous);
    add(anonymous, client(event, &facts.format));
    if let Some(cookie) = facts.cookies.get(AJS) {
        let text = percent_decode_str(cookie).decode_utf8_lossy();
        let identity = Identity::of_device(IdentityKind::Anonymous, text.trim_matches('"'));
        add(identity, client(event, "segment"));
    }
    let visitor = facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
    add(Identity::of(IdentityKind::Visitor, visitor), None);
    let ids = context(event, &["clientIds"]);
    let said = |name: &str| ids.and_then(|ids| ids.get(name)).and_then(client_id);
    let written = |name: &str| facts.cookies.get(name).map(String::as_str);
    for google in [written("_ga"), said("ga4"), said("ga")].into_iter().flatten() {
        add(ga(google), None);
    }
    for meta in [written("_fbp"), said("fbp")].into_iter().flatten() {
        add(fbp(meta), None);
    }
    let said = DEVICES.into_iter().filter_map(|vendor| Some((vendor, said(vendor)?)));
    let written = DEVICE_COOKIES.into_iter().filter_map(|(name, of)| Some((of, written(name)?)));
    let app = [(APP, "id"), (ADVERTISING, "advertisingId")];
    let app = app.into_iter().filter_map(|(vendor, key)| {
        Some((vendor, context(event, &["device", key]).and_then(Value::as_str)?))
    });
    for (vendor, id) in written.chain(said).chain(app) {
        add(Identity::of_device(IdentityKind::Device(vendor), id), None);
    }
    found.sort_by_key(|device| device.identity.kind);
    found
}

/// Adds the browsers that a message of a server names: its anonymous ids, where they are such as
/// the gateway's cookie holds. With the user id in it such a message binds the browser to the user.
pub fn add_browsers(event: &Event, devices: &mut Vec<DeviceIdentity>) {
    if !event.facts.from_server || event.user_id.is_none() {
        return;
    }
    let previous = event.previous_id.as_deref().filter(|_| event.kind == EventKind::Alias);
    for id in event.anonymous_id.as_deref().into_iter().chain(previous) {
        // The ids in cookies are UUIDs, written as the gateway writes them.
        if Uuid::try_parse(id).is_ok_and(|uuid| uuid.to_string() == id) {
            let identity = Identity { kind: IdentityKind::Visitor, value: id.to_owned() };
            devices.push(DeviceIdentity { identity, client: None });
        }
    }
    devices.sort_by_key(|device| device.identity.kind);
}

/// The client of a browser or app that the anonymous id is of, if it can be told to forget its user.
fn client(event: &Event, format: &str) -> Option<String> {
    if !RESETTING.contains(&format) {
        return None;
    }
    let url = context(event, &["page", "url"]).and_then(Value::as_str);
    let host = url.and_then(|url| url.split_once("://")?.1.split(['/', '?', '#']).next());
    let app = || context(event, &["app", "namespace"]).and_then(Value::as_str);
    let place = host.or_else(app).filter(|place| !place.is_empty())?;
    (place.len() <= MAX_DEVICE_BYTES).then(|| format!("{format}@{}", place.to_ascii_lowercase()))
}

/// The id in an entry of `context.clientIds`: the entry itself, or one of its members.
fn client_id(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| MEMBERS.iter().find_map(|name| entry.get(*name)?.as_str()))
}

/// Google's client id: the last two numbers of `GA1.<n>.X.Y`, or `X.Y` itself.
fn ga(text: &str) -> Option<Identity> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.rsplit('.');
    let (second, first) = (parts.next()?, parts.next()?);
    let is_pair = is_number(first) && is_number(second);
    if !is_pair || !(parts.next().is_none() || text.starts_with("GA1.")) {
        return None;
    }
    Identity::of_device(IdentityKind::Ga, &format!("{first}.{second}"))
}

/// Meta's browser id without the depth of the domain it is kept for, which sub-domains differ in.
fn fbp(text: &str) -> Option<Identity> {
    let mut parts = text.strip_prefix("fb.")?.split('.').skip(1);
    let (time, number) = (parts.next()?, parts.next()?);
    Identity::of_device(IdentityKind::Fbp, &format!("{time}.{number}"))
}

fn context<'e>(event: &'e Event, path: &[&str]) -> Option<&'e Value> {
    let (first, rest) = path.split_first()?;
    let start = event.context.as_ref()?.get(*first)?;
    rest.iter().try_fold(start, |value, key| value.get(*key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(members: Value) -> Event {
        let mut event = json!({
            "type": "track", "messageId": "m", "timestamp": "2026-11-23T10:00:00Z",
            "receivedAt": "2026-11-23T10:00:00Z",
        });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    fn names(event: &Event) -> Vec<String> {
        identities(event).iter().map(|i| format!("{}={}", i.kind.name(), i.value)).collect()
    }

    #[test]
    fn everything_that_names_the_visitor_is_found_surest_first() {
        let event = event(json!({
            "userId": "u", "anonymousId": "a",
            "context": {
                "traits": { "email": " Jo@X.example " },
                "device": { "id": "d-1", "advertisingId": "00000000-0000-0000-0000-000000000000" },
                "clientIds": {
                    "ga4": { "client_id": "5.6" }, "fbp": "fb.2.7.8", "fbc": "fb.1.1.Click",
                    "mixpanel": "m-1", "posthog": { "distinct_id": "p-1" }, "made_up": "x",
                },
            },
            "facts": {
                "fromServer": true,
                "visitor": { "id": "v", "since": "2026-11-23T10:00:00Z" },
                "cookies": {
                    "_ga": "GA1.2.5.6", "_fbp": "fb.1.7.8.AQ", "ajs_anonymous_id": "%22b%22",
                    "_ttp": "t-1", "_ga_ABC": "GS1.1.3",
                },
            },
        }));
        let jo = "email=".to_owned() + &Identity::of_email("jo@x.example").unwrap().value;
        let expected = [
            "user=u",
            "anonymous=a",
            "anonymous=b",
            "visitor=v",
            "ga=5.6",
            "fbp=7.8",
            "device:app=d-1",
            "device:mixpanel=m-1",
            "device:posthog=p-1",
            "device:tiktok=t-1",
            jo.as_str(),
        ];
        assert_eq!(names(&event), expected);
        for identity in identities(&event) {
            let name = identity.kind.name();
            assert_eq!(IdentityKind::from_name(&name), Some(identity.kind), "{name}");
        }
    }

    #[test]
    fn an_address_is_known_by_its_digest_however_it_is_written() {
        let digest = "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b";
        let found = |text: &str| Identity::of_email(text).map(|identity| identity.value);
        for text in [digest, &digest.to_uppercase()] {
            assert_eq!(found(text).as_deref(), Some(digest), "it is one already");
        }
        assert_eq!(found(" Jo@X.Example\n"), found("jo@x.example"));
        assert_eq!(found("jo@x.example").unwrap().len(), 64);
        for nobody in ["", "jo", "@x.example", "jo@x", "a@b@c.d", "TEST@test.com", "jo @x.example"]
        {
            assert_eq!(found(nobody), None, "{nobody}");
        }
        assert_eq!(found(&format!("{}@x.example", "x".repeat(250))), None);
    }

    #[test]
    fn what_sloppy_tags_send_names_nobody() {
        let more = ["none", "Anonymous", "guest", "unknown", "NaN", "[object Object]", "true"];
        let all = ["", " ", "0", "-1", "null", "NULL", "undefined", "false"];
        for nobody in all.into_iter().chain(more) {
            let ids = json!({ "ga4": nobody, "fbp": nobody, "mixpanel": nobody });
            let event = event(json!({
                "userId": nobody, "anonymousId": nobody, "context": { "clientIds": ids },
                "facts": { "cookies": { "_ga": nobody, "_fbp": "fb.1", "_ttp": nobody } },
            }));
            assert_eq!(names(&event), [""; 0], "{nobody:?}");
        }
        let long = "x".repeat(MAX_DEVICE_BYTES + 1);
        let event = event(json!({ "context": { "clientIds": { "mixpanel": long } } }));
        assert_eq!(names(&event), [""; 0]);
    }

    #[test]
    fn an_id_for_a_day_names_nobody_beyond_it() {
        let event = event(json!({
            "anonymousId": "today's",
            "facts": {
                "format": "plausible",
                "visitor": { "id": "v", "since": "2026-11-23T10:00:00Z" },
            },
        }));
        assert_eq!(names(&event), ["visitor=v"]);
    }

    #[test]
    fn a_client_is_told_from_others_by_its_format_and_where_it_runs() {
        let of = |format: &str, context: Value| {
            let event = event(json!({
                "anonymousId": "a", "context": context, "facts": { "format": format },
            }));
            devices(&event).pop().and_then(|device| device.client)
        };
        let page = json!({ "page": { "url": "https://Shop.example/x?y=z" } });
        assert_eq!(of("segment", page.clone()).as_deref(), Some("segment@shop.example"));
        assert_eq!(of("plausible", page), None, "its id changes by the day");
        let app = json!({ "app": { "namespace": "example.app" } });
        assert_eq!(of("segment", app).as_deref(), Some("segment@example.app"));
        assert_eq!(of("segment", json!({})), None);
    }
}

//! The identities of a person, and the fields of an event that contain them.
//!
//! An identity is a kind and a value, unique within a site. The values are normalised here, so that
//! one id that several clients write differently is one identity, and the placeholders that sloppy tags
//! send for unknown visitors are no identity. Of an e-mail address only the digest is stored.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Event, EventKind, is_identifying_id};
use crate::values::{email, unicode};

/// The longest id of a vendor that is stored: Google's and Meta's have about 30 characters, the rest
/// are UUIDs.
const MAX_DEVICE_BYTES: usize = 128;

/// Addresses that people use to try out forms.
const PLACEHOLDER_EMAILS: [&str; 3] = ["test@example.com", "test@test.com", "email@example.com"];

/// Vendors whose device ids identify a person, as `context.clientIds` names them. Others are ignored:
/// any client can make up names.
const DEVICE_ID_VENDORS: [&str; 14] = [
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

/// The cookies that contain a device id of their own, with its vendor.
const DEVICE_COOKIES: [(&str, &str); 2] = [("_ttp", "tiktok"), ("_rdt_uuid", "reddit")];

/// The members that may contain the id, where a vendor's entry in `context.clientIds` is an object.
const DEVICE_ID_MEMBERS: [&str; 7] =
    ["clientId", "client_id", "deviceId", "device_id", "distinct_id", "anonymousId", "id"];

/// The formats whose clients make a new anonymous id at a reset.
const RESETTING_FORMATS: [&str; 8] =
    ["sdk", "segment", "rudderstack", "jitsu", "mixpanel", "posthog", "amplitude", "heap"];

/// The formats whose clients send no id: their anonymous id is made for a day, and must not be linked to
/// another day's.
const DAILY_ID_FORMATS: [&str; 5] =
    ["plausible", "umami", "fathom", "goatcounter", "simpleanalytics"];

/// The cookies that contain identities.
pub const COOKIES: [&str; 5] = [AJS, "_ga", "_fbp", DEVICE_COOKIES[0].0, DEVICE_COOKIES[1].0];

/// The cookie in which analytics.js stores its anonymous id.
const AJS: &str = "ajs_anonymous_id";

/// The device id of an app's installation, and the one for advertisements.
const APP: &str = "app";
const ADVERTISING: &str = "advertising";

/// The kind of an identity. The order is that of trust: of an event's identities, a smaller kind
/// identifies the person more reliably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    /// The id by which the site knows the person.
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
    /// Last, because it is less reliable than a device on which a user signed in.
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

    /// Returns the kind with this stored name. `None` if it names a vendor that is no longer supported.
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

    /// Returns true if the kind identifies a person, not a device that people may share.
    pub const fn is_strong(self) -> bool {
        matches!(self, Self::User | Self::Email)
    }
}

fn device(vendor: &str) -> Option<IdentityKind> {
    let mut known = DEVICE_ID_VENDORS.into_iter().chain([APP, ADVERTISING]);
    known.find(|known| *known == vendor).map(IdentityKind::Device)
}

/// One identity of a person, unique within a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The kind of the value.
    pub kind: IdentityKind,
    /// The id in its normalised form.
    pub value: String,
}

impl Identity {
    /// Builds an identity; `None` if the value identifies no person or device.
    pub fn of(kind: IdentityKind, value: Option<&str>) -> Option<Self> {
        let value = value?.trim();
        is_identifying_id(value)
            .then(|| Self { kind, value: unicode::composed(value).into_owned() })
    }

    /// Returns the identity of an e-mail address, or of the digest of one.
    pub fn of_email(address: &str) -> Option<Self> {
        let digest = address.trim();
        if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let value = digest.to_ascii_lowercase();
            return Some(Self { kind: IdentityKind::Email, value });
        }
        let address = email::identity(address)?;
        if PLACEHOLDER_EMAILS.contains(&address.as_str()) {
            return None;
        }
        Some(Self::of_address(&address))
    }

    /// Returns the identities that a name may stand for: a user id, and an e-mail address, also in the form
    /// in which versions stored them that did not compose what clients write.
    pub fn candidates_for_name(name: &str) -> Vec<Self> {
        let name = name.trim();
        let mut all: Vec<Self> = Self::of_email(name).into_iter().collect();
        for spelling in unicode::spellings(name).into_iter().filter(|name| is_identifying_id(name))
        {
            if spelling.contains('@') && !spelling.is_ascii() {
                all.push(Self::of_address(&spelling.to_lowercase()));
            }
            all.push(Self { kind: IdentityKind::User, value: spelling.into_owned() });
        }
        all
    }

    fn of_address(address: &str) -> Self {
        Self { kind: IdentityKind::Email, value: hex::encode(Sha256::digest(address)) }
    }

    fn of_device(kind: IdentityKind, value: &str) -> Option<Self> {
        if value.len() > MAX_DEVICE_BYTES { None } else { Self::of(kind, Some(value)) }
    }
}

/// A weak identity in an event: it identifies a device, and with it the person who uses that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The weak identity itself.
    pub identity: Identity,
    /// For the id of a client that can be reset: the client of the browser or app
    /// (`segment@shop.example`).
    pub client: Option<String>,
}

/// Returns the identities by which an event's visitor is looked up, the most reliable first. An address
/// is among them only if one of the site's servers names it: a browser can name any address.
pub fn identities(event: &Event) -> Vec<Identity> {
    let mut found: Vec<Identity> =
        Identity::of(IdentityKind::User, event.user_id.as_deref()).into_iter().collect();
    found.extend(devices(event).into_iter().map(|device| device.identity));
    found.extend(email(event).filter(|_| event.facts.from_server));
    found
}

/// Returns the person's e-mail address according to the event.
pub fn email(event: &Event) -> Option<Identity> {
    Identity::of_email(raw_email(event)?)
}

/// Returns the same text as it was sent, valid or not.
pub fn raw_email(event: &Event) -> Option<&str> {
    let own = match event.kind {
        // The traits of a group event are the group's.
        EventKind::Identify => event.traits.as_ref().and_then(|traits| traits.get("email")),
        _ => None,
    };
    own.or_else(|| context(event, &["traits", "email"]))?.as_str()
}

/// Returns the devices in an event, each once, the most reliable first.
pub fn devices(event: &Event) -> Vec<DeviceIdentity> {
    let mut found: Vec<DeviceIdentity> = Vec::with_capacity(4);
    let mut add = |identity: Option<Identity>, client: Option<String>| {
        let Some(identity) = identity else { return };
        if found.iter().all(|device| device.identity != identity) {
            found.push(DeviceIdentity { identity, client });
        }
    };
    let facts = &event.facts;
    let is_lasting = !DAILY_ID_FORMATS.contains(&facts.format.as_str());
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
    let stated = |name: &str| ids.and_then(|ids| ids.get(name)).and_then(client_id);
    let written = |name: &str| facts.cookies.get(name).map(String::as_str);
    for google in [written("_ga"), stated("ga4"), stated("ga")].into_iter().flatten() {
        add(ga(google), None);
    }
    for meta in [written("_fbp"), stated("fbp")].into_iter().flatten() {
        add(fbp(meta), None);
    }
    let stated = DEVICE_ID_VENDORS.into_iter().filter_map(|vendor| Some((vendor, stated(vendor)?)));
    let written = DEVICE_COOKIES.into_iter().filter_map(|(name, of)| Some((of, written(name)?)));
    let app = [(APP, "id"), (ADVERTISING, "advertisingId")];
    let app = app.into_iter().filter_map(|(vendor, key)| {
        Some((vendor, context(event, &["device", key]).and_then(Value::as_str)?))
    });
    for (vendor, id) in written.chain(stated).chain(app) {
        add(Identity::of_device(IdentityKind::Device(vendor), id), None);
    }
    found.sort_by_key(|device| device.identity.kind);
    found
}

/// Adds the browsers in a message of a server: its anonymous ids, where they have the form of those in
/// the gateway's cookie. With the user id in it such a message binds the browser to the user.
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

/// Returns the client of the browser or app that made the anonymous id, if it can be reset.
fn client(event: &Event, format: &str) -> Option<String> {
    if !RESETTING_FORMATS.contains(&format) {
        return None;
    }
    let url = context(event, &["page", "url"]).and_then(Value::as_str);
    let host = url.and_then(|url| url.split_once("://")?.1.split(['/', '?', '#']).next());
    let app = || context(event, &["app", "namespace"]).and_then(Value::as_str);
    let place = host.or_else(app).filter(|place| !place.is_empty())?;
    (place.len() <= MAX_DEVICE_BYTES).then(|| format!("{format}@{}", place.to_ascii_lowercase()))
}

/// Returns the id in an entry of `context.clientIds`: the entry itself, or one of its members.
fn client_id(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| DEVICE_ID_MEMBERS.iter().find_map(|name| entry.get(*name)?.as_str()))
}

/// Reads Google's client id: the last two numbers of `GA1.<n>.X.Y`, or `X.Y` itself.
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

/// Reads Meta's browser id without the depth of its cookie's domain, in which sub-domains differ.
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
    fn identities_list_every_id_of_the_visitor_most_reliable_first() {
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
    fn email_identity_is_the_same_digest_in_every_spelling() {
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
    fn identities_skip_placeholders_of_sloppy_tags() {
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
    fn identities_skip_anonymous_ids_made_for_a_day() {
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
    fn device_client_is_its_format_and_host() {
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

//! Events of `/track` (`contracts/beacons.md` 5.3).
//!
//! A group's key is a property whose value is a list, as any list is: it stays among the properties,
//! where the destination finds it again.

use serde_json::Value;

use super::identity::{Ids, bare, is_device};
use super::{CLIENT, Read, Sending};
use crate::event::{Kind, Object};
use crate::values::address::read_visitor_address;
use crate::vendors::wire::{self, Arrival, Message, put};

/// Which of an object's members in the context a default property is.
const SURROUNDINGS: &[(&str, &str, &str)] = &[
    ("$os", "os", "name"),
    ("$os_version", "os", "version"),
    ("$browser", "browser", "name"),
    ("$browser_version", "browser", "version"),
    ("$device", "device", "name"),
    ("$screen_width", "screen", "width"),
    ("$screen_height", "screen", "height"),
    ("mp_lib", "library", "name"),
    ("$lib_version", "library", "version"),
];

/// Properties that say again what others say.
const REPEATED: [&str; 7] = [
    "token",
    "mp_sent_by_lib_version",
    "current_domain",
    "current_url_path",
    "current_url_search",
    "current_url_protocol",
    "$referring_domain",
];

/// What an event's properties say, by what it is.
#[derive(Default)]
struct Said {
    ids: Ids,
    insert_id: Option<String>,
    time: Option<Value>,
    url: Option<Value>,
    title: Option<Value>,
    referrer: Option<Value>,
    arrival: Arrival,
    context: Object,
    /// What is the site's own.
    properties: Object,
}

/// The message of an event. `None` if it is none.
pub(super) fn message(record: Object, sending: &Sending) -> Option<Read> {
    let (mut name, mut properties) = (None, Object::new());
    for (member, value) in record {
        match (member.as_str(), value) {
            ("event", Value::String(text)) => name = Some(text),
            ("properties", Value::Object(said)) => properties = said,
            _ => {}
        }
    }
    let name = name.filter(|name| !name.trim().is_empty())?;
    // One is about the visitor's choice, the other said that the library had loaded.
    if matches!(name.as_str(), "$opt_in" | "mp_loaded") {
        return Some(Read::Nothing);
    }
    Some(said(properties).into_read(&name, sending))
}

fn said(properties: Object) -> Said {
    let mut said = Said::default();
    for (name, value) in properties {
        let Some(value) = said.ids.take(&name, value) else { continue };
        match name.as_str() {
            "$insert_id" => said.insert_id = wire::id(value),
            "time" => said.time = Some(value),
            // A server's word for where its visitor is.
            "ip" | "$ip" => match value.as_str().and_then(read_visitor_address) {
                Some(address) => put(&mut said.context, "ip", Some(address.to_string())),
                None => put(&mut said.properties, &name, Some(value)),
            },
            "$current_url" | "mp_page" => said.url = Some(value),
            "current_page_title" => said.title = Some(value),
            "$referrer" | "mp_referrer" => said.referrer = Some(value),
            // The word that there was no page before is no property.
            "$initial_referrer" | "$initial_referring_domain" if value == "$direct" => {}
            repeated if REPEATED.contains(&repeated) => {}
            _ => {
                let Some(value) = surround(&mut said.context, &name, value) else { continue };
                if let Some((name, value)) = said.arrival.take(name, value) {
                    said.properties.insert(name, value);
                }
            }
        }
    }
    said
}

/// Puts a default property into the context; any other is given back.
pub(super) fn surround(context: &mut Object, name: &str, value: Value) -> Option<Value> {
    let known = SURROUNDINGS.iter().find(|(property, _, _)| *property == name);
    let Some((_, object, member)) = known else { return Some(value) };
    let object = context.entry(*object).or_insert_with(|| Value::Object(Object::new()));
    if let Value::Object(object) = object {
        put(object, member, Some(value));
    }
    None
}

impl Said {
    fn into_read(mut self, name: &str, sending: &Sending) -> Read {
        let message = match name {
            "$identify" => self.identify(),
            "$create_alias" => {
                let previous = self.ids.distinct().map(str::to_owned);
                let ids = (previous, self.take_id("alias"));
                self.alias(ids)
            }
            "$merge" => {
                let ids = self.merged();
                self.alias(ids)
            }
            _ => Some(self.event(name)),
        };
        let Some(message) = message else { return Read::Nothing };
        let message = message
            .with("messageId", self.insert_id.take())
            .when("timestamp", self.time.as_ref())
            .at("sentAt", sending.at)
            .with("context", Some(self.into_context(name, sending)));
        Read::Message(message.finish())
    }

    /// A page view or a track event.
    fn event(&mut self, name: &str) -> Message {
        let properties = std::mem::take(&mut self.properties);
        let message = match name {
            "$mp_web_page_view" | "mp_page_view" => {
                let mut all = self.page();
                all.extend(properties);
                Message::new(Kind::Page).with("properties", Some(all))
            }
            _ => Message::track(name).with("properties", Some(properties)),
        };
        self.ids.write(message)
    }

    /// A visitor who is now known: by the user's id, or by the two ids of server libraries.
    fn identify(&mut self) -> Option<Message> {
        let (known, before) = (self.take_id("$identified_id"), self.take_id("$anon_id"));
        let anonymous = self.take_id("$anon_distinct_id").filter(|id| is_device(id)).or(before);
        let user = self.ids.user().or(known.as_deref())?;
        let device = self.ids.device().or(anonymous.as_deref().map(bare));
        let message = Message::new(Kind::Identify);
        Some(message.with_id("userId", Some(user)).with_id("anonymousId", device))
    }

    /// Two ids of one person: the earlier and the later.
    fn alias(&self, (previous, user): (Option<String>, Option<String>)) -> Option<Message> {
        let (previous, user) = (previous?, user?);
        if bare(&previous) == bare(&user) {
            return None;
        }
        let message = Message::new(Kind::Alias)
            .with_id("previousId", Some(bare(&previous)))
            .with_id("userId", Some(bare(&user)))
            .with_id("anonymousId", self.ids.device());
        message.has("previousId").then_some(())?;
        message.has("userId").then_some(message)
    }

    /// The ids of a merge, in which a device is the earlier one wherever it stands.
    fn merged(&mut self) -> (Option<String>, Option<String>) {
        let Some(Value::Array(ids)) = self.properties.remove("$distinct_ids") else {
            return (None, None);
        };
        let mut ids = ids.into_iter().filter_map(wire::id);
        match (ids.next(), ids.next()) {
            (Some(first), Some(second)) if is_device(&second) => (Some(second), Some(first)),
            ids => ids,
        }
    }

    fn take_id(&mut self, name: &str) -> Option<String> {
        wire::id(self.properties.remove(name)?)
    }

    fn page(&self) -> Object {
        fn text(value: &Option<Value>) -> Option<&str> {
            value.as_ref().and_then(Value::as_str)
        }
        wire::page(text(&self.url), text(&self.title), text(&self.referrer))
    }

    fn into_context(self, name: &str, sending: &Sending) -> Object {
        let mut context = wire::roomy();
        put(&mut context, "page", Some(self.page()));
        self.arrival.finish(&mut context);
        let version = self.context.get("library").and_then(|library| library.get("version"));
        let version = version.and_then(Value::as_str);
        let source = wire::source(CLIENT, version, sending.endpoint, Some(name));
        context.extend(self.context);
        self.ids.finish(&mut context);
        put(&mut context, "source", Some(source));
        context
    }
}

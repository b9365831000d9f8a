//! The paths of values in an event: `properties.products.*.price`, `traits.email`, `event`.

use serde_json::Value;

use super::names::LookupPath;
use tagway_core::event::{EnrichedEvent, Event, JsonObject, ProfileView};

/// The texts of an event that have names of their own, and its objects.
const TEXTS: [(&str, TextMember); 7] = [
    ("event", TextMember::Event),
    ("name", TextMember::Name),
    ("category", TextMember::Category),
    ("userId", TextMember::UserId),
    ("anonymousId", TextMember::AnonymousId),
    ("groupId", TextMember::GroupId),
    ("previousId", TextMember::PreviousId),
];
const OBJECTS: [(&str, ObjectMember); 4] = [
    ("properties", ObjectMember::Properties),
    ("traits", ObjectMember::Traits),
    ("context", ObjectMember::Context),
    ("integrations", ObjectMember::Integrations),
];

/// The most nested keys of a path: deeper JSON does not reach the journal.
const MAX_STEPS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextMember {
    Event,
    Name,
    Category,
    UserId,
    AnonymousId,
    GroupId,
    PreviousId,
}

/// `traits` are the person's, wherever they stand: in the event, in its context, in the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ObjectMember {
    Properties,
    Traits,
    Context,
    Integrations,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EventPathRoot {
    Text(TextMember),
    Tree(ObjectMember),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EventPathStep {
    Key(String),
    /// Every element of a list, every value of an object.
    Each,
}

/// The path of a value in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventPath {
    root: EventPathRoot,
    steps: Vec<EventPathStep>,
}

/// The reason why a text is no path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EventPathError {
    /// There is no such part of an event.
    Root(String),
    /// A text contains no other values; an object is not a value.
    Form(&'static str),
}

/// Returns the names that a path may start with.
pub(super) fn roots() -> Vec<&'static str> {
    let objects = OBJECTS.iter().map(|(name, _)| *name);
    objects.chain(TEXTS.iter().map(|(name, _)| *name)).collect()
}

impl EventPath {
    pub(super) fn parse(text: &str) -> Result<Self, EventPathError> {
        let mut parts = text.split('.');
        let first = parts.next().unwrap_or_default();
        let steps: Vec<EventPathStep> = parts
            .map(|part| {
                if part == "*" { EventPathStep::Each } else { EventPathStep::Key(part.to_owned()) }
            })
            .collect();
        if steps.contains(&EventPathStep::Key(String::new())) || steps.len() > MAX_STEPS {
            return Err(EventPathError::Form("has an empty part or too many parts"));
        }
        if let Some((_, text)) = TEXTS.iter().find(|(name, _)| *name == first) {
            return match steps.as_slice() {
                [] => Ok(Self { root: EventPathRoot::Text(*text), steps }),
                _ => Err(EventPathError::Form("names a member of a text")),
            };
        }
        match OBJECTS.iter().find(|(name, _)| *name == first) {
            None => Err(EventPathError::Root(first.to_owned())),
            Some(_) if steps.is_empty() => {
                Err(EventPathError::Form("lacks a key, such as \".name\""))
            }
            Some((_, tree)) => Ok(Self { root: EventPathRoot::Tree(*tree), steps }),
        }
    }

    /// Returns its names, from the outermost, without places in lists.
    pub(super) fn lookup(&self) -> LookupPath {
        let root = match self.root {
            EventPathRoot::Text(text) => {
                TEXTS.iter().find(|(_, it)| *it == text).map(|(name, _)| *name)
            }
            EventPathRoot::Tree(tree) => {
                OBJECTS.iter().find(|(_, it)| *it == tree).map(|(name, _)| *name)
            }
        };
        let keys = self.steps.iter().filter_map(|step| match step {
            EventPathStep::Key(key) => {
                Some(key.as_str()).filter(|key| key.parse::<usize>().is_err())
            }
            EventPathStep::Each => None,
        });
        root.into_iter().chain(keys).map(str::to_owned).collect()
    }
}

/// An event and its profile while they are mapped.
#[derive(Clone, Debug)]
pub(super) struct MappingDraft {
    pub(super) event: Event,
    pub(super) profile: ProfileView,
    /// The number of places left unchanged because no more may be put into the event.
    pub(super) refused: u64,
    room: usize,
}

impl MappingDraft {
    /// Copies the event, which may grow by `room` bytes.
    pub(super) fn of(event: &EnrichedEvent, room: usize) -> Self {
        let (event, profile) = ((*event.event).clone(), (*event.profile).clone());
        Self { event, profile, refused: 0, room }
    }

    /// Puts a value at the path, making the objects on the way. Text members accept only text and numbers.
    pub(super) fn put(&mut self, path: &EventPath, value: &Value) {
        let mut filler = EventPathWriter { value, size: size(value), room: self.room, refused: 0 };
        match path.root {
            EventPathRoot::Text(text) => {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return,
                };
                if filler.take_room(0) {
                    *self.text(text) = Some(value).filter(|value| !value.is_empty());
                }
            }
            EventPathRoot::Tree(ObjectMember::Traits) => {
                // These traits take precedence over others in the event.
                for object in self.own_traits_mut() {
                    filler.put_in(object, &path.steps);
                }
                filler.put_in(&mut self.profile.traits, &path.steps);
            }
            EventPathRoot::Tree(tree) => {
                if let Some(object) = self.made(tree) {
                    filler.put_in(object, &path.steps);
                }
            }
        }
        (self.room, self.refused) = (filler.room, self.refused + filler.refused);
    }

    /// Removes the first value at the path and returns it.
    pub(super) fn take(&mut self, path: &EventPath) -> Option<Value> {
        let mut taken = None;
        self.drop_at(path, &mut |value| {
            taken.get_or_insert(value);
        });
        taken
    }

    /// Removes every value at the path.
    pub(super) fn remove(&mut self, path: &EventPath) {
        self.drop_at(path, &mut drop);
    }

    fn drop_at(&mut self, path: &EventPath, taken: &mut dyn FnMut(Value)) {
        match path.root {
            EventPathRoot::Text(text) => {
                if let Some(text) = self.text(text).take() {
                    taken(Value::String(text));
                }
            }
            EventPathRoot::Tree(tree) => {
                for object in self.objects(tree) {
                    remove_from(object, &path.steps, taken);
                }
            }
        }
    }

    /// Changes every value at the path.
    pub(super) fn change(&mut self, path: &EventPath, change: &dyn Fn(&Value) -> Option<Value>) {
        match path.root {
            EventPathRoot::Text(text) => {
                let text = self.text(text);
                let changed = text.clone().and_then(|text| change(&Value::String(text)));
                if let Some(Value::String(changed)) = changed {
                    *text = Some(changed);
                }
            }
            EventPathRoot::Tree(tree) => {
                for object in self.objects(tree) {
                    change_in(object, &path.steps, change);
                }
            }
        }
    }

    /// Removes the top-level keys that are not let through.
    pub(super) fn keep_properties(&mut self, keeps: impl Fn(&str) -> bool) {
        if let Some(properties) = &mut self.event.properties {
            properties.retain(|key, _| keeps(key));
        }
    }

    /// Removes the traits that are not let through, wherever they stand.
    pub(super) fn keep_traits(&mut self, keeps: impl Fn(&str) -> bool) {
        for object in self.objects(ObjectMember::Traits) {
            object.retain(|key, _| keeps(key));
        }
    }

    fn text(&mut self, text: TextMember) -> &mut Option<String> {
        let event = &mut self.event;
        match text {
            TextMember::Event => &mut event.event,
            TextMember::Name => &mut event.name,
            TextMember::Category => &mut event.category,
            TextMember::UserId => &mut event.user_id,
            TextMember::AnonymousId => &mut event.anonymous_id,
            TextMember::GroupId => &mut event.group_id,
            TextMember::PreviousId => &mut event.previous_id,
        }
    }

    fn made(&mut self, tree: ObjectMember) -> Option<&mut JsonObject> {
        let object = match tree {
            ObjectMember::Properties => &mut self.event.properties,
            ObjectMember::Context => &mut self.event.context,
            ObjectMember::Integrations => &mut self.event.integrations,
            ObjectMember::Traits => return None,
        };
        Some(object.get_or_insert_with(JsonObject::new))
    }

    /// Returns the existing objects of this name, the most reliable first.
    fn objects(&mut self, tree: ObjectMember) -> Vec<&mut JsonObject> {
        match tree {
            ObjectMember::Properties => self.event.properties.iter_mut().collect(),
            ObjectMember::Context => self.event.context.iter_mut().collect(),
            ObjectMember::Integrations => self.event.integrations.iter_mut().collect(),
            ObjectMember::Traits => {
                let Self { event, profile, .. } = self;
                let mut objects = own_traits_mut(event);
                objects.push(&mut profile.traits);
                objects
            }
        }
    }

    fn own_traits_mut(&mut self) -> Vec<&mut JsonObject> {
        own_traits_mut(&mut self.event)
    }
}

fn own_traits_mut(event: &mut Event) -> Vec<&mut JsonObject> {
    let context = event.context.as_mut().and_then(|context| context.get_mut("traits"));
    let context = context.and_then(Value::as_object_mut);
    event.traits.iter_mut().chain(context).collect()
}

/// A value to be copied to every place of a path.
struct EventPathWriter<'v> {
    value: &'v Value,
    size: usize,
    room: usize,
    refused: u64,
}

impl EventPathWriter<'_> {
    /// Takes the room of another copy, under a key of this length; returns false if there is too little.
    fn take_room(&mut self, key: usize) -> bool {
        let room = self.room.checked_sub(self.size.saturating_add(key));
        self.refused += u64::from(room.is_none());
        self.room = room.unwrap_or(self.room);
        room.is_some()
    }

    fn put_in(&mut self, object: &mut JsonObject, steps: &[EventPathStep]) {
        match steps {
            [] => {}
            [EventPathStep::Key(key)] => {
                if self.take_room(key.len()) {
                    object.insert(key.clone(), self.value.clone());
                }
            }
            [EventPathStep::Each, rest @ ..] => {
                for inner in object.values_mut() {
                    self.put_within(inner, rest);
                }
            }
            [EventPathStep::Key(key), rest @ ..] => {
                let inner = object.entry(key).or_insert_with(|| Value::Object(JsonObject::new()));
                self.put_within(inner, rest);
            }
        }
    }

    fn put_within(&mut self, place: &mut Value, steps: &[EventPathStep]) {
        match (place, steps) {
            (place, []) if self.take_room(0) => *place = self.value.clone(),
            (_, []) => {}
            (Value::Object(object), steps) => self.put_in(object, steps),
            (Value::Array(items), [EventPathStep::Each, rest @ ..]) => {
                for item in items {
                    self.put_within(item, rest);
                }
            }
            // Another kind of value stands there: nested values do not overwrite it.
            _ => {}
        }
    }
}

/// Estimates the bytes that a copy of a value takes in memory.
fn size(value: &Value) -> usize {
    /// The bytes of a value's own place, in a list or an object.
    const VALUE_SLOT_BYTES: usize = 32;
    VALUE_SLOT_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(object) => {
                object.iter().map(|(key, value)| VALUE_SLOT_BYTES + key.len() + size(value)).sum()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

fn remove_from(object: &mut JsonObject, steps: &[EventPathStep], taken: &mut dyn FnMut(Value)) {
    match steps {
        [] => {}
        [EventPathStep::Key(key)] => object.shift_remove(key).into_iter().for_each(taken),
        [EventPathStep::Each] => {
            std::mem::take(object).into_iter().for_each(|(_, value)| taken(value))
        }
        [EventPathStep::Each, rest @ ..] => {
            for inner in object.values_mut() {
                remove_within(inner, rest, taken);
            }
        }
        [EventPathStep::Key(key), rest @ ..] => {
            if let Some(inner) = object.get_mut(key) {
                remove_within(inner, rest, taken);
            }
        }
    }
}

fn remove_within(place: &mut Value, steps: &[EventPathStep], taken: &mut dyn FnMut(Value)) {
    match (place, steps) {
        (Value::Object(object), steps) => remove_from(object, steps, taken),
        (Value::Array(items), [EventPathStep::Each]) => {
            std::mem::take(items).into_iter().for_each(taken)
        }
        (Value::Array(items), [EventPathStep::Each, rest @ ..]) => {
            for item in items {
                remove_within(item, rest, taken);
            }
        }
        _ => {}
    }
}

fn change_in(
    object: &mut JsonObject,
    steps: &[EventPathStep],
    change: &dyn Fn(&Value) -> Option<Value>,
) {
    match steps {
        [] => {}
        [EventPathStep::Each, rest @ ..] => {
            for inner in object.values_mut() {
                change_within(inner, rest, change);
            }
        }
        [EventPathStep::Key(key), rest @ ..] => {
            if let Some(inner) = object.get_mut(key) {
                change_within(inner, rest, change);
            }
        }
    }
}

fn change_within(
    place: &mut Value,
    steps: &[EventPathStep],
    change: &dyn Fn(&Value) -> Option<Value>,
) {
    match (place, steps) {
        (place, []) => {
            if let Some(changed) = change(place) {
                *place = changed;
            }
        }
        (Value::Object(object), steps) => change_in(object, steps, change),
        (Value::Array(items), [EventPathStep::Each, rest @ ..]) => {
            for item in items {
                change_within(item, rest, change);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_paths_that_start_with_a_part_of_an_event() {
        assert_eq!(
            EventPath::parse("propertys.x"),
            Err(EventPathError::Root("propertys".to_owned()))
        );
        assert!(matches!(EventPath::parse("properties"), Err(EventPathError::Form(_))));
        assert!(matches!(EventPath::parse("event.x"), Err(EventPathError::Form(_))));
        assert!(matches!(EventPath::parse("traits..x"), Err(EventPathError::Form(_))));
        for good in ["event", "traits.email", "properties.products.*.price", "context.page.url"] {
            assert!(EventPath::parse(good).is_ok(), "{good}");
        }
    }
}

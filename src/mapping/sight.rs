//! What conditions and templates see of an event and its person.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use minijinja::value::{Enumerator, Object, Serde};
use serde_json::{Value, json};

use crate::event::{Computed, Enriched, Event, ProfileView, Tally};
use crate::vendors::person::Person;

/// What is seen of a profile without a look at what is computed.
const KNOWN: [&str; 2] = ["profile.traits", "profile.user_id"];

/// What the templates of a mapping look at, besides the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looks {
    /// The person's profile.
    pub(super) profile: bool,
    /// What is computed of the person's events.
    pub(super) computed: bool,
}

impl Looks {
    /// By the variables that the templates name, with what they name in them.
    pub(super) fn of(names: &HashSet<String>) -> Self {
        let within = |name: &&String| *name == "profile" || name.starts_with("profile.");
        let is_known = |name: &String| {
            let rest = KNOWN.iter().find_map(|known| name.strip_prefix(known));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Self {
            profile: names.iter().any(|name| within(&name)),
            computed: names.iter().filter(within).any(|name| !is_known(name)),
        }
    }
}

/// The event, and of its profile what `looks` says.
pub(super) fn sight(
    looks: Looks,
    event: &Event,
    profile: &ProfileView,
    computed: Option<&Arc<Computed>>,
) -> minijinja::Value {
    let event_json = serde_json::to_value(event).unwrap_or_default();
    let mut seen: BTreeMap<String, minijinja::Value> = BTreeMap::new();
    for (key, value) in event_json.as_object().into_iter().flatten() {
        seen.insert(key.clone(), Serde(value).into());
    }
    let enriched = Enriched::new(0, Arc::new(event.clone()), Arc::new(profile.clone()));
    let traits = Value::Object(Person::of(&enriched).traits());
    seen.insert("traits".to_owned(), Serde(&traits).into());
    if looks.profile {
        let mut known: BTreeMap<String, minijinja::Value> = BTreeMap::new();
        known.insert("user_id".to_owned(), Serde(&profile.user_id).into());
        known.insert("traits".to_owned(), Serde(&profile.traits).into());
        if looks.computed {
            let computed = computed.cloned().unwrap_or_default();
            let members = json!({
                "first_seen": time(computed.first_seen),
                "last_seen": time(computed.last_seen),
                "touches": touches(&computed),
                "device": computed.device,
                "place": computed.place,
                "consent": computed.consent,
                "group_id": computed.group_id,
            });
            for (key, value) in members.as_object().into_iter().flatten() {
                known.insert(key.clone(), Serde(value).into());
            }
            let activity = minijinja::Value::from_object(Activity(computed));
            known.insert("activity".to_owned(), activity);
        }
        seen.insert("profile".to_owned(), known.into());
    }
    seen.into()
}

/// A time as events write theirs.
fn time(ms: Option<i64>) -> Option<String> {
    Some(Timestamp::from_millisecond(ms?).ok()?.to_string())
}

fn touches(computed: &Computed) -> Value {
    let mut touches = computed.touches.clone();
    for touch in touches.values_mut().filter_map(Value::as_object_mut) {
        if let Some(at) = touch.get_mut("at") {
            *at = time(at.as_i64()).into();
        }
    }
    Value::Object(touches)
}

/// A person's events by name. What they never did they did no times.
#[derive(Debug)]
struct Activity(Arc<Computed>);

impl Object for Activity {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let tally = self.0.activity.get(key.as_str()?);
        let seen = match tally {
            None => json!({ "count": 0, "sum": 0 }),
            Some(Tally { count, first, last, sum }) => json!({
                "count": count, "sum": sum, "first": time(Some(*first)), "last": time(Some(*last)),
            }),
        };
        Some(Serde(&seen).into())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.activity.keys();
        Enumerator::Values(names.map(|name| minijinja::Value::from(name.as_str())).collect())
    }
}

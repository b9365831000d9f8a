//! What conditions and templates see of an event and its person.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Serde};
use serde_json::{Value, json};

use crate::event::{ComputedAttributes, EnrichedEvent, Event, EventTally, ProfileView};
use crate::vendors::person::EventPerson;

/// What is seen of a profile without a look at what is computed.
const KNOWN: [&str; 2] = ["profile.traits", "profile.user_id"];

/// What the templates of a mapping look at: the rest is not made for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ContextNeeds {
    /// The event's own members.
    pub(super) event: bool,
    /// The person's traits, wherever they are said.
    pub(super) traits: bool,
    /// The person's profile.
    pub(super) profile: bool,
    /// What is computed of the person's events.
    pub(super) computed: bool,
}

impl ContextNeeds {
    /// By the variables that the templates name, with what they name in them.
    pub(super) fn of(names: &HashSet<String>) -> Self {
        let roots = || names.iter().filter_map(|name| name.split('.').next());
        let within = |name: &&String| *name == "profile" || name.starts_with("profile.");
        let is_known = |name: &String| {
            let rest = KNOWN.iter().find_map(|known| name.strip_prefix(known));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Self {
            event: roots().any(|root| !matches!(root, "profile" | "traits")),
            traits: roots().any(|root| root == "traits"),
            profile: names.iter().any(|name| within(&name)),
            computed: names.iter().filter(within).any(|name| !is_known(name)),
        }
    }
}

/// The names of events that a template's source looks up in `activity`: `activity.Order`,
/// `activity['Order Completed']`.
pub(super) fn counted(source: &str) -> Vec<String> {
    let name = |rest: &str| {
        // It may itself stand in brackets and quotes.
        let rest = rest.trim_start_matches(['\'', '"']).trim_start().trim_start_matches(']');
        let rest = rest.trim_start();
        if let Some(word) = rest.strip_prefix('.') {
            let word = word.trim_start();
            let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
            return word.get(..end).map(str::to_owned);
        }
        let quoted = rest.strip_prefix('[')?.trim_start();
        let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (name, _) = quoted.strip_prefix(quote)?.split_once(quote)?;
        Some(name.to_owned())
    };
    source.split("activity").skip(1).filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// Of the event and its profile what `looks` says.
pub(super) fn template_context(
    looks: ContextNeeds,
    event: &Event,
    profile: &ProfileView,
    computed: Option<&Arc<ComputedAttributes>>,
) -> minijinja::Value {
    let mut seen: BTreeMap<String, minijinja::Value> = BTreeMap::new();
    if looks.event {
        let event_json = serde_json::to_value(event).unwrap_or_default();
        for (key, value) in event_json.as_object().into_iter().flatten() {
            seen.insert(key.clone(), Serde(value).into());
        }
    }
    if looks.traits {
        let enriched = EnrichedEvent::new(0, Arc::new(event.clone()), Arc::new(profile.clone()));
        let traits = Value::Object(EventPerson::of(&enriched).traits());
        seen.insert("traits".to_owned(), Serde(&traits).into());
    }
    if looks.profile {
        let mut known: BTreeMap<String, minijinja::Value> = BTreeMap::new();
        known.insert("user_id".to_owned(), Serde(&profile.user_id).into());
        known.insert("traits".to_owned(), Serde(&profile.traits).into());
        if looks.computed {
            let computed = computed.cloned().unwrap_or_default();
            for (key, value) in computed.members() {
                known.insert(key, Serde(&value).into());
            }
            let activity = minijinja::Value::from_object(TemplateActivity(computed));
            known.insert("activity".to_owned(), activity);
        }
        seen.insert("profile".to_owned(), known.into());
    }
    seen.into()
}

/// A person's events by name. What they never did they did no times.
#[derive(Debug)]
struct TemplateActivity(Arc<ComputedAttributes>);

impl Object for TemplateActivity {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let tally = self.0.activity.get(key.as_str()?);
        let seen = tally.map_or_else(|| json!({ "count": 0, "sum": 0 }), EventTally::members);
        Some(Serde(&seen).into())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.activity.keys();
        Enumerator::Values(names.map(|name| minijinja::Value::from(name.as_str())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_whose_counts_a_template_looks_up_are_known_by_name() {
        let source = "profile.activity['Order Completed'].count > profile.activity.Refund.sum \
            and profile[\"activity\"] [ \"Cart \u{e9}\" ].count or activity or activity[name]";
        assert_eq!(counted(source), ["Order Completed", "Refund", "Cart \u{e9}"]);
        assert_eq!(counted("properties.activity_level and activity."), [""; 0]);
    }
}

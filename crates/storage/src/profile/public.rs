//! The parts of a profile that a site's pages may know of their own visitor.

use serde_json::Value;

use tagway_core::event::{ComputedAttributes, JsonObject, ProfileView};
use tagway_settings::SettingsSection;

/// The members of a profile with which paths begin.
const ROOTS: [&str; 10] = [
    "traits",
    "activity",
    "touches",
    "device",
    "place",
    "consent",
    "user_id",
    "group_id",
    "first_seen",
    "last_seen",
];

/// The most keys of a path: deeper JSON does not reach the journal.
const MAX_STEPS: usize = 64;

/// Paths in a profile: `traits.plan`, `activity["Order Completed"].count`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicProfilePaths(Vec<Vec<String>>);

impl PublicProfilePaths {
    /// Reads the setting `public`.
    pub(super) fn read(section: &mut SettingsSection<'_>) -> Self {
        let mut paths = Vec::new();
        for text in section.strings("public") {
            match parse(&text) {
                None => section.error_about("public", &text, "is no path in a profile", None),
                Some(path) => match path.first() {
                    Some(root) if !ROOTS.contains(&root.as_str()) => {
                        section.unknown_name("public", root, "part of a profile", &ROOTS);
                    }
                    _ => paths.push(path),
                },
            }
        }
        Self(paths)
    }

    /// Returns true if nothing is public.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if a public part is computed of the visitor's events.
    pub fn wants_computed(&self) -> bool {
        let is_known = |root: &String| root == "traits" || root == "user_id";
        self.0.iter().filter_map(|path| path.first()).any(|root| !is_known(root))
    }

    /// Returns the names of events whose counts are public.
    pub fn counted_events(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|path| match path.as_slice() {
            [root, name, ..] if root == "activity" => Some(name.as_str()),
            _ => None,
        })
    }

    /// Returns the public part of a visitor's profile, in the form of the whole.
    pub fn of(&self, view: &ProfileView, computed: Option<&ComputedAttributes>) -> JsonObject {
        let mut whole = computed.map(ComputedAttributes::members).unwrap_or_default();
        whole.insert("traits".to_owned(), Value::Object(view.traits.clone()));
        whole.insert("user_id".to_owned(), view.user_id.clone().into());
        let mut public = JsonObject::new();
        for path in &self.0 {
            copy(&whole, &mut public, path);
        }
        public
    }
}

fn copy(from: &JsonObject, into: &mut JsonObject, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    let Some(value) = from.get(key).filter(|value| !value.is_null()) else { return };
    if rest.is_empty() {
        into.insert(key.clone(), value.clone());
        return;
    }
    let Some(value) = value.as_object() else { return };
    let inner = into.entry(key.clone()).or_insert_with(|| Value::Object(JsonObject::new()));
    if let Some(inner) = inner.as_object_mut() {
        copy(value, inner, rest);
        if inner.is_empty() {
            into.remove(key);
        }
    }
}

/// Parses a path: keys with dots between them, or in brackets and quotes.
fn parse(text: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while steps.len() < MAX_STEPS {
        if let Some(quoted) = rest.strip_prefix("[\"").filter(|_| !steps.is_empty()) {
            let (key, after) = quoted.split_once("\"]")?;
            steps.push(key.to_owned());
            rest = after;
        } else {
            let key = if steps.is_empty() { rest } else { rest.strip_prefix('.')? };
            let end = key.find(['.', '[']).unwrap_or(key.len());
            let (key, after) = key.split_at_checked(end)?;
            if key.is_empty() {
                return None;
            }
            steps.push(key.to_owned());
            rest = after;
        }
        if rest.is_empty() {
            return Some(steps);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use tagway_core::event::EventTally;

    #[test]
    fn paths_are_keys_with_dots_or_in_brackets() {
        let parsed = |text: &str| parse(text).map(|steps| steps.join("|"));
        assert_eq!(parsed("traits.plan").as_deref(), Some("traits|plan"));
        let order = parsed("activity[\"Order v1.2\"].count");
        assert_eq!(order.as_deref(), Some("activity|Order v1.2|count"));
        for bad in ["", ".", "a.", "a..b", "a[b]", "[\"a\"]", "a[\"b\"", "a[\"b\"]c"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn public_part_has_only_public_paths() {
        let paths =
            ["traits.plan", "traits.address.city", "activity[\"Order\"].count", "device.os"];
        let public = PublicProfilePaths(paths.iter().map(|path| parse(path).unwrap()).collect());
        let traits =
            json!({ "plan": "pro", "email": "jo@x.example", "address": { "street": "1" } });
        let traits = traits.as_object().unwrap().clone();
        let activity = [("Order".to_owned(), EventTally::single(5, 7.0))].into();
        let view = ProfileView { user_id: Some("u".into()), traits };
        let computed = ComputedAttributes { activity, ..ComputedAttributes::default() };
        let expected =
            json!({ "traits": { "plan": "pro" }, "activity": { "Order": { "count": 1 } } });
        assert_eq!(Value::Object(public.of(&view, Some(&computed))), expected);
        assert!(public.wants_computed());
        assert_eq!(PublicProfilePaths::default().of(&view, Some(&computed)), JsonObject::new());
    }
}

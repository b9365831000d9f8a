//! Properties within Amplitude's limits (`docs/contracts/destinations.md` 4.2): empty values are left out, texts
//! are cut, and an object or a list too deep is dropped.

use serde_json::Value;

use tagway_core::event::{DroppedFields, FieldDropReason, JsonObject};

/// The most characters of a text at any place.
pub(super) const MAX_TEXT_CHARS: usize = 1024;

/// The most nested objects and lists, the outermost included.
pub(super) const MAX_DEPTH: usize = 40;

/// Returns the properties as Amplitude takes them, within `room` more levels. Dropped and cut values are
/// recorded.
pub(super) fn properties(
    object: &JsonObject,
    room: usize,
    dropped: &mut DroppedFields,
) -> JsonObject {
    members(object, |key, value| value_within(key, value, room.saturating_sub(1), dropped))
}

fn members(object: &JsonObject, mut fit: impl FnMut(&str, &Value) -> Option<Value>) -> JsonObject {
    let mut kept = JsonObject::with_capacity(object.len());
    for (key, value) in object.iter().filter(|(key, _)| !key.is_empty()) {
        if let Some(value) = fit(key, value) {
            kept.insert(key.clone(), value);
        }
    }
    kept
}

/// Returns the same without keys that Amplitude reads as operations: it takes either these or properties.
pub(super) fn plain_properties(
    object: &JsonObject,
    room: usize,
    dropped: &mut DroppedFields,
) -> JsonObject {
    let mut kept = properties(object, room, dropped);
    kept.retain(|key, _| {
        let is_plain = !key.starts_with('$');
        if !is_plain {
            dropped.add(key, FieldDropReason::NameNotAllowed);
        }
        is_plain
    });
    kept
}

/// Returns the value of this key within `room` more levels; `None` if it is empty.
pub(super) fn value_within(
    key: &str,
    value: &Value,
    room: usize,
    dropped: &mut DroppedFields,
) -> Option<Value> {
    let mut loss = None;
    let fit = fit(value, room, &mut loss);
    if let Some(reason) = loss {
        dropped.add(key, reason);
    }
    fit
}

fn fit(value: &Value, room: usize, loss: &mut Option<FieldDropReason>) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) => Some(value.clone()),
        Value::String(text) => {
            let cut = cut(text);
            if cut.len() < text.len() {
                *loss = Some(FieldDropReason::TooLong);
            }
            (!cut.is_empty()).then(|| Value::String(cut.to_owned()))
        }
        Value::Array(_) | Value::Object(_) if room == 0 => {
            *loss = Some(FieldDropReason::Nested);
            None
        }
        Value::Array(items) => {
            let items = items.iter().filter_map(|item| fit(item, room - 1, loss));
            let items: Vec<Value> = items.collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(object) => {
            let object = members(object, |_, value| fit(value, room - 1, loss));
            (!object.is_empty()).then_some(Value::Object(object))
        }
    }
}

/// Returns the text's first [`MAX_TEXT_CHARS`] characters.
pub(super) fn cut(text: &str) -> &str {
    if text.len() <= MAX_TEXT_CHARS {
        return text;
    }
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Adds a text that is not blank.
pub(super) fn put_text(object: &mut JsonObject, key: &str, text: Option<&str>) {
    if let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) {
        object.insert(key.to_owned(), cut(text).into());
    }
}

/// Adds an object that is not empty.
pub(super) fn put_object(object: &mut JsonObject, key: &str, inner: JsonObject) {
    if !inner.is_empty() {
        object.insert(key.to_owned(), Value::Object(inner));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::object;

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!({ "leaf": 1 }), |inner, _| json!({ "in": inner, "side": 2 }))
    }

    fn kept(object: &JsonObject) -> JsonObject {
        properties(object, MAX_DEPTH, &mut DroppedFields::default())
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn forty_levels_are_kept_and_the_next_is_dropped() {
        let fits = object(nested(MAX_DEPTH));
        assert_eq!(kept(&fits), fits);
        let mut dropped = DroppedFields::default();
        let deeper = properties(&object(nested(MAX_DEPTH + 1)), MAX_DEPTH, &mut dropped);
        assert_eq!(dropped.counts(), [(FieldDropReason::Nested, 1)]);
        assert_eq!(depth(&Value::Object(deeper)), MAX_DEPTH);
        let lists = (0..60).fold(json!(1), |inner, _| json!([inner, 2]));
        let lists = kept(&object(json!({ "list": lists })));
        assert_eq!(depth(&Value::Object(lists)), MAX_DEPTH);
    }

    #[test]
    fn empty_values_are_left_out_at_any_depth() {
        let given = json!({ "a": null, "b": "", "c": [null, "", "x"], "d": { "e": null }, "f": [],
            "": 1, "g": 0, "h": false });
        let expected = json!({ "c": ["x"], "g": 0, "h": false });
        assert_eq!(kept(&object(given)), object(expected));
        let mixed = object(json!({ "$set": { "a": 1 }, "plan": "gold" }));
        let mut dropped = DroppedFields::default();
        let plain = plain_properties(&mixed, MAX_DEPTH, &mut dropped);
        assert_eq!(plain, object(json!({ "plan": "gold" })));
        assert_eq!(dropped.counts(), [(FieldDropReason::NameNotAllowed, 1)]);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "ä".repeat(MAX_TEXT_CHARS + 1);
        assert_eq!(cut(&long).chars().count(), MAX_TEXT_CHARS);
        let fits = "ä".repeat(MAX_TEXT_CHARS);
        assert_eq!(cut(&fits), fits);
    }
}

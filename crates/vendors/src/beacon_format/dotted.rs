//! Objects that are written as fields with dotted names, as in the queries of pixels.

use serde_json::Value;

use tagway_core::event::JsonObject;

/// The most dots in one name: no member of the Segment spec has more than three.
const MAX_DOTS: usize = 8;

/// Puts `a.b=value` into `{"a":{"b":value}}`. A name that contradicts an earlier one, or is too deep, is left
/// out.
pub fn insert_dotted(object: &mut JsonObject, name: &str, value: &str) {
    if name.bytes().filter(|byte| *byte == b'.').count() <= MAX_DOTS {
        place_within(object, name, value);
    }
}

fn place_within(object: &mut JsonObject, name: &str, value: &str) {
    match name.split_once('.') {
        None => {
            object.insert(name.to_owned(), Value::String(value.to_owned()));
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Value::Object(JsonObject::new()));
            let Value::Object(inner) = inner else { return };
            // Numbers and booleans are typed within properties and the like; at the top level every field is
            // text.
            match (rest.contains('.'), scalar(value)) {
                (false, Some(scalar)) => {
                    inner.insert(rest.to_owned(), scalar);
                }
                _ => place_within(inner, rest, value),
            }
        }
    }
}

fn scalar(value: &str) -> Option<Value> {
    match serde_json::from_str(value).ok()? {
        // Digits with leading zeros, signs or too many of them are ids, not numbers.
        Value::Number(number) if number.to_string() == value => Some(Value::Number(number)),
        Value::Bool(value) => Some(Value::Bool(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dotted_names_nest_and_contradictions_are_left_out() {
        let mut object = JsonObject::new();
        for (name, value) in [
            ("a.b.c", "7"),
            ("a.b", "x"),
            ("a.b.d", "y"),
            ("e", "7"),
            ("e.f", "8"),
            ("1.2.3.4.5.6.7.8.9.0", "deep"),
        ] {
            insert_dotted(&mut object, name, value);
        }
        assert_eq!(Value::Object(object), json!({ "a": { "b": "x" }, "e": "7" }));
    }
}

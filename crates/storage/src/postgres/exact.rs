//! JSON in the form that segment rules query. Stored values keep the sender's spelling; next to them stands a `jsonb`
//! of the same, in which every number is written out exactly and texts are encoded by `text.rs`: PostgreSQL takes
//! `0.1` for the decimal number, which is not the binary one that it stands for.

use std::fmt::Write as _;

use serde_json::{Number, Value};

use super::encoded;
use tagway_core::event::JsonObject;

/// Returns an object as the text of a `jsonb`.
pub fn searchable(object: &JsonObject) -> String {
    let mut text = String::with_capacity(64);
    write_object(object, &mut text);
    text
}

/// Returns all decimal digits of a number.
pub fn exact(number: f64) -> String {
    // The smallest binary fraction has 1074 places.
    let text = format!("{number:.1074}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(is_true) => text.push_str(if *is_true { "true" } else { "false" }),
        Value::Number(number) => write_number(number, text),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(object) => write_object(object, text),
    }
}

fn write_object(object: &JsonObject, text: &mut String) {
    text.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(key, text);
        text.push(':');
        write(value, text);
    }
    text.push('}');
}

fn write_string(string: &str, text: &mut String) {
    // serde_json escapes a text as JSON requires.
    text.push_str(&Value::from(encoded(string)).to_string());
}

/// Writes signed 64-bit integers as they are, and all other numbers as binary fractions, as everywhere.
fn write_number(number: &Number, text: &mut String) {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{whole}");
        }
        (None, Some(real)) => text.push_str(&exact(real)),
        (None, None) => text.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_with_all_their_digits() {
        let value = json!({
            "a": 0.1, "b": [1.0, -0.0, 9_007_199_254_740_993_i64], "c": { "d\u{0}": 1e22 }, "e": u64::MAX,
        });
        let expected = concat!(
            r#"{"a":0.1000000000000000055511151231257827021181583404541015625,"#,
            r#""b":[1,0,9007199254740993],"c":{"d\u0001\u0002\u0002":10000000000000000000000},"#,
            r#""e":18446744073709551616}"#
        );
        assert_eq!(searchable(value.as_object().unwrap()), expected);
    }
}

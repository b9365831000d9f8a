//! Single values as browsers' libraries write them.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use tagway_core::values::time;

/// Reads a time that a browser's library wrote.
pub fn moment(value: &Value) -> Option<Timestamp> {
    moment_of(&scalar_text(value)?)
}

/// Reads the same from a text.
pub fn moment_of(text: &str) -> Option<Timestamp> {
    time::read_event_time(text)
}

/// Returns the text of a text, a number or a boolean.
pub fn scalar_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns an id: a text, or a number that the site uses for one.
pub fn id(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_in_their_usual_units() {
        for (written, read) in [
            (json!(1_795_434_250.817), Some("2026-11-23T11:44:10.817Z")),
            (json!(1_795_434_250), Some("2026-11-23T11:44:10Z")),
            (json!(1_795_434_250_817_i64), Some("2026-11-23T11:44:10.817Z")),
            (json!("1795434250817"), Some("2026-11-23T11:44:10.817Z")),
            (json!("2026-11-23T11:47:39.398Z"), Some("2026-11-23T11:47:39.398Z")),
            (json!(0), None),
            (json!(-5), None),
            (json!(1e300), None),
            (json!("NaN"), None),
            (json!("soon"), None),
            (json!(true), None),
        ] {
            assert_eq!(moment(&written).map(|at| at.to_string()).as_deref(), read, "{written}");
        }
        assert_eq!(id(json!(42)).as_deref(), Some("42"));
        assert_eq!(
            (id(json!("a")).as_deref(), id(json!(null)), id(json!([]))),
            (Some("a"), None, None)
        );
    }

    proptest! {
        #[test]
        fn moment_is_none_or_after_the_epoch_for_any_number(number: f64, text in ".*") {
            prop_assert!(moment(&json!(number)).is_none_or(|at| at > Timestamp::UNIX_EPOCH));
            let _ = moment_of(&text);
        }
    }
}

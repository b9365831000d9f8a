//! Single values as browsers' libraries write them.

use jiff::Timestamp;
use serde_json::Value;

/// Numbers above this are milliseconds since 1970, others are seconds (`contracts/beacons.md` 1.6).
const MAX_SECONDS: f64 = 1e11;

/// A moment: seconds or milliseconds since 1970, as a number or its text, or an ISO 8601 text.
pub fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => since_1970(number.as_f64()?),
        Value::String(text) => moment_of(text),
        _ => None,
    }
}

/// The same, out of a text.
pub fn moment_of(text: &str) -> Option<Timestamp> {
    match text.parse::<f64>() {
        Ok(number) => since_1970(number),
        Err(_) => text.parse().ok(),
    }
}

fn since_1970(number: f64) -> Option<Timestamp> {
    let milliseconds = if number.abs() > MAX_SECONDS { number } else { number * 1000.0 };
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and is then out of range")]
    let whole = milliseconds.round() as i64;
    let at = Timestamp::from_millisecond(whole).ok()?;
    // Nothing of a browser's happened before; these are counters, or broken clocks.
    (whole > 0).then_some(at)
}

/// An id: a text, or a number that the site uses for one.
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
    fn moments_are_read_in_their_usual_units() {
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
        fn any_number_is_a_moment_or_none(number: f64, text in ".*") {
            prop_assert!(moment(&json!(number)).is_none_or(|at| at > Timestamp::UNIX_EPOCH));
            let _ = moment_of(&text);
        }
    }
}

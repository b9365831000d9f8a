//! Moments as sites write them: ISO 8601 in its many lengths, seconds or milliseconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::products;

/// Whole numbers from here on are milliseconds: as seconds they lie beyond the year 5000.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// A moment written as text: a date, or a date and a time. Without a zone it is UTC.
pub fn iso(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    // A date without hyphens may as well be an order's number.
    let bytes = text.as_bytes();
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let zoned = text.parse::<Timestamp>().ok();
    zoned.or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })
}

/// A moment in any of the forms, where it is known that there is one.
pub fn read(value: &Value) -> Option<Timestamp> {
    if let Some(at) = value.as_str().and_then(iso) {
        return Some(at);
    }
    let number = products::whole_number(value)?;
    if number >= MILLISECONDS_FROM {
        Timestamp::from_millisecond(number).ok()
    } else {
        Timestamp::from_second(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        for (written, second) in [
            (json!("2026-11-23T10:00:00Z"), 1_795_428_000),
            (json!(" 2026-11-23T11:00:00.750+01:00 "), 1_795_428_000),
            (json!("2026-11-23T10:00:00"), 1_795_428_000),
            (json!("2026-11-23 10:00"), 1_795_428_000),
            (json!("2026-11-23"), 1_795_392_000),
            (json!(1_795_428_000), 1_795_428_000),
            (json!("1795428000"), 1_795_428_000),
            (json!(1_795_428_000_750_i64), 1_795_428_000),
        ] {
            assert_eq!(read(&written).map(Timestamp::as_second), Some(second), "{written}");
        }
        for other in [json!("20261123-1"), json!("soon"), json!("2026-13-01"), json!(true)] {
            assert_eq!(read(&other), None, "{other}");
        }
        assert_eq!(iso("20261123"), None, "it may be an order's number");
    }
}

//! Reader of points in time as clients write them: ISO 8601 and RFC 3339 with their usual mistakes, RFC 2822
//! and the dates of HTTP, the prints of Go, Ruby, Java and JavaScript, and numbers since 1970.
//!
//! A time without a zone is UTC. Numeric days and months are read where the year stands first: `11/12/2026`
//! is one day in some countries and another elsewhere, so it is refused.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, ISOWeekDate, Time, Weekday};
use jiff::tz::{Offset, TimeZone};
use serde_json::Value;

/// The longest text that is read: no known form has more than 80 bytes.
const MAX_BYTES: usize = 128;

/// Numbers below are seconds since 1970: as seconds they reach the year 5138, as milliseconds 1973.
const MILLISECONDS_FROM: u128 = 100_000_000_000;

/// Numbers from here on are microseconds: as milliseconds they lie beyond the year 5138.
const MICROSECONDS_FROM: u128 = MILLISECONDS_FROM * 1000;

/// Numbers from here on are nanoseconds.
const NANOSECONDS_FROM: u128 = MICROSECONDS_FROM * 1000;

/// Reads a time in any supported form.
pub fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_matches(['"', '\'']).trim();
    if text.is_empty() || text.len() > MAX_BYTES {
        return None;
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if is_number(text) {
        return compact(text).or_else(|| parse_unix_time(text));
    }
    if let Some(number) = dotnet(text) {
        return parse_unix_time(number);
    }
    year_first(text).or_else(|| month_by_name(text)).or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })
}

/// Reads a time that is a JSON number or text.
pub fn read_value(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => read(text),
        Value::Number(number) => read(&number.to_string()),
        _ => None,
    }
}

/// Reads the time of a client's action. No action happened before 1970: such numbers are counters, or
/// clocks that were never set.
pub fn read_event_time(text: &str) -> Option<Timestamp> {
    read(text).filter(|time| *time > Timestamp::UNIX_EPOCH)
}

/// Reads a text whose form shows that it is a time: it begins with a year, a month and a day that hyphens
/// separate. Digits alone may as well be an order's number.
pub fn read_date_text(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let is_date = bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    is_date.then(|| read(text)).flatten()
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b',');
    (is_plain && digits.starts_with(|c: char| c.is_ascii_digit()))
        || (digits.contains(['e', 'E']) && digits.parse::<f64>().is_ok())
}

/// Reads a date, perhaps with a time, in digits only: `20261130`, `20261130113024`. As numbers they would
/// lie in the year 1970, or after 2572.
fn compact(text: &str) -> Option<Timestamp> {
    if !matches!(text.len(), 8 | 14) || !text.starts_with("19") && !text.starts_with("20") {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let date = Date::new(text.get(..4)?.parse().ok()?, number(4, 6)?, number(6, 8)?).ok()?;
    let time = match text.len() {
        14 => Time::new(number(8, 10)?, number(10, 12)?, number(12, 14)?, 0).ok()?,
        _ => Time::midnight(),
    };
    TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()
}

/// Reads seconds, milliseconds, microseconds or nanoseconds since 1970, whole or with a fraction, to the nanosecond.
fn parse_unix_time(text: &str) -> Option<Timestamp> {
    if text.contains(['e', 'E']) {
        let number: f64 = text.parse().ok()?;
        // Numbers beyond a double's precision have no fraction anyway.
        return (number.abs() < 1e19).then(|| parse_unix_time(&format!("{number:.6}"))).flatten();
    }
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once(['.', ',']).unwrap_or((digits, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u128 = whole.parse().ok()?;
    let places: u32 = match number {
        NANOSECONDS_FROM.. => 0,
        MICROSECONDS_FROM.. => 3,
        MILLISECONDS_FROM.. => 6,
        _ => 9,
    };
    let kept = usize::try_from(places).ok()?;
    let fraction = format!("{fraction:0<9}");
    let below: u128 = match fraction.get(..kept) {
        None | Some("") => 0,
        Some(digits) => digits.parse().ok()?,
    };
    let nanoseconds = number.checked_mul(10_u128.pow(places))?.checked_add(below)?;
    let nanoseconds = i128::try_from(nanoseconds).ok()?;
    Timestamp::from_nanosecond(if is_negative { -nanoseconds } else { nanoseconds }).ok()
}

/// Returns the milliseconds in `/Date(1796038224000+0100)/`, whose zone is only that of its writer.
fn dotnet(text: &str) -> Option<&str> {
    let inner = text.trim_matches('/').strip_prefix("Date(")?.strip_suffix(')')?;
    let end = inner.bytes().skip(1).position(|byte| byte == b'+' || byte == b'-');
    inner.get(..end.map_or(inner.len(), |end| end + 1))
}

/// A text that is read from left to right.
struct TimeTextReader<'t>(&'t str);

impl<'t> TimeTextReader<'t> {
    /// Skips these characters; returns true if there was one.
    fn skip(&mut self, chars: &[char]) -> bool {
        let rest = self.0.trim_start_matches(chars);
        let is_found = rest.len() < self.0.len();
        self.0 = rest;
        is_found
    }

    /// Takes the leading characters that are parts.
    fn take(&mut self, is_part: impl Fn(char) -> bool) -> &'t str {
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn digits(&mut self) -> &'t str {
        self.take(|c| c.is_ascii_digit())
    }

    fn word(&mut self) -> &'t str {
        self.take(|c| c.is_ascii_alphabetic())
    }

    /// Reads a number of one or two digits.
    fn small(&mut self) -> Option<i8> {
        let digits = self.digits();
        (digits.len() <= 2).then(|| digits.parse().ok()).flatten()
    }

    /// Reads a time of day: `11:30`, `9:05:00.25`, `11:30:24 pm`. `24:00` is the next day's midnight; the days
    /// to add come first.
    fn time_of_day(&mut self) -> Option<(i8, Time)> {
        let mut hour = self.small()?;
        if !self.skip(&[':']) {
            return None;
        }
        let minute = self.small()?;
        let (mut second, mut nanosecond) = (0, 0);
        if self.0.starts_with(':') {
            self.skip(&[':']);
            second = self.small()?;
            // A colon may stand before the fraction, or before the zone.
            if self.0.starts_with(['.', ',', ':']) {
                self.skip(&['.', ',', ':']);
                let fraction = format!("{:0<9}", self.digits());
                nanosecond = fraction.get(..9)?.parse().ok()?;
                self.skip(&[':']);
            }
        }
        hour = self.of_half_day(hour)?;
        // A leap second.
        second = if second == 60 { 59 } else { second };
        let is_next = hour == 24 && (minute, second, nanosecond) == (0, 0, 0);
        let hour = if is_next { 0 } else { hour };
        Some((i8::from(is_next), Time::new(hour, minute, second, nanosecond).ok()?))
    }

    /// Returns the hour of the day; `am` or `pm` may follow.
    fn of_half_day(&mut self, hour: i8) -> Option<i8> {
        let rest = self.0.trim_start();
        let half = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        let is_word = !rest.get(2..).is_some_and(|rest| rest.starts_with(char::is_alphabetic));
        let add = match half.as_str() {
            "am" if is_word => 0,
            "pm" if is_word => 12,
            _ => return Some(hour),
        };
        self.0 = rest.get(2..)?;
        (1..=12).contains(&hour).then_some(hour % 12 + add)
    }

    /// Reads the zone at the end, UTC if there is none. Names and remarks behind an offset are skipped.
    fn zone(&mut self) -> Option<Offset> {
        self.skip(&[' ', '\t']);
        let name = self.word();
        let offset = match (name, self.0.chars().next()) {
            ("", None | Some('(' | '[')) => Offset::UTC,
            ("" | "GMT" | "UTC" | "Z", Some('+' | '-' | '\u{2212}')) => self.offset()?,
            ("m", Some('=')) => Offset::UTC,
            (name, _) => named_zone(name)?,
        };
        let rest = self.0.trim_start();
        // `UTC`, `+0100 CET`, `m=+0.01`, `(Central European Time)`, `[Europe/Berlin]`.
        let is_remark = rest.is_empty() || rest.starts_with(['(', '[', 'm']) || {
            let word = rest.split_whitespace().next().unwrap_or_default();
            word.bytes()
                .all(|b| b.is_ascii_uppercase() || b == b'+' || b == b'-' || b.is_ascii_digit())
        };
        is_remark.then_some(offset)
    }

    /// Reads `+01:00`, `-0330`, `+1`.
    fn offset(&mut self) -> Option<Offset> {
        let sign = if self.0.starts_with('+') { 1 } else { -1 };
        self.skip(&['+', '-', '\u{2212}']);
        let digits = self.digits();
        let (hours, minutes) = match digits.len() {
            1 | 2 => {
                let minutes = if self.skip(&[':']) { self.digits() } else { "0" };
                (digits, minutes)
            }
            3 => digits.split_at(1),
            4 => digits.split_at(2),
            _ => return None,
        };
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (minutes < 60).then(|| Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok())?
    }
}

/// Returns the offset of a zone's letters. RFC 2822 names those of North America; of others only those that
/// mean one zone everywhere are supported.
fn named_zone(name: &str) -> Option<Offset> {
    let hours = match name.to_ascii_uppercase().as_str() {
        "Z" | "UTC" | "GMT" | "UT" | "WET" => 0,
        "CET" | "WEST" => 1,
        "CEST" | "EET" => 2,
        "EEST" | "MSK" => 3,
        "JST" | "KST" => 9,
        "AEST" => 10,
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => return None,
    };
    Offset::from_hours(hours).ok()
}

fn stamp(date: Date, (days, time): (i8, Time), offset: Offset) -> Option<Timestamp> {
    let date = if days > 0 { date.tomorrow().ok()? } else { date };
    offset.to_timestamp(date.to_datetime(time)).ok()
}

/// Reads ISO 8601 and its variants: `2026-11-30 11:30:24.029:Z`, `2026/11/30 9:05 PM +1`,
/// `2026-W49-1T11:30`, `2026-334`.
fn year_first(text: &str) -> Option<Timestamp> {
    let mut reader = TimeTextReader(text);
    let year = reader.digits();
    let year: i16 = (year.len() == 4).then(|| year.parse().ok())??;
    let date = if reader.0.starts_with("-W") || reader.0.starts_with('W') {
        reader.skip(&['-', 'W']);
        let digits = reader.digits();
        let (week, day) = if digits.len() == 3 { digits.split_at(2) } else { (digits, "") };
        let day = match (day, reader.0.starts_with('-')) {
            ("", true) => {
                reader.skip(&['-']);
                reader.small()?
            }
            ("", false) => 1,
            (day, _) => day.parse().ok()?,
        };
        let day = Weekday::from_monday_one_offset(day).ok()?;
        ISOWeekDate::new(year, week.parse().ok()?, day).ok()?.date()
    } else {
        if !reader.skip(&['-', '/', '.']) {
            return None;
        }
        let digits = reader.digits();
        if digits.len() == 3 {
            Date::new(year, 1, 1).ok()?.with().day_of_year(digits.parse().ok()?).build().ok()?
        } else {
            let month = (digits.len() <= 2).then(|| digits.parse().ok())??;
            let day = if reader.skip(&['-', '/', '.']) { reader.small()? } else { 1 };
            Date::new(year, month, day).ok()?
        }
    };
    // A zone may follow a date, as in XML.
    let is_parted = reader.skip(&['T', 't', ' ', '_', ',']);
    if is_parted && reader.0.starts_with(|c: char| c.is_ascii_digit()) {
        let time = reader.time_of_day()?;
        return stamp(date, time, reader.zone()?);
    }
    stamp(date, (0, Time::midnight()), reader.zone()?)
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Reads dates that name their month, in any order: RFC 2822, `Mon Nov 30 2026 11:30:24 GMT+0100 (CET)`,
/// `Monday, 30-Nov-26 11:30:24 GMT`, `Mon Nov 30 11:30:24 UTC 2026`, `Nov 30, 2026 11:30 PM`.
fn month_by_name(text: &str) -> Option<Timestamp> {
    let mut reader = TimeTextReader(text);
    let (mut year, mut month, mut day, mut time, mut zone) = (None, None, None, None, None);
    loop {
        reader.skip(&[' ', ',', '\t']);
        // The hyphens of `30-Nov-26`; before the time, none is a sign of an offset.
        if time.is_none() {
            reader.skip(&['-']);
        }
        let Some(first) = reader.0.chars().next() else { break };
        if first.is_ascii_digit() {
            let is_time =
                reader.0.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(':');
            if is_time {
                time = Some(reader.time_of_day()?);
                continue;
            }
            let digits = reader.digits();
            match digits.len() {
                4 => year = Some(digits.parse::<i16>().ok()?),
                1 | 2 if day.is_none() => day = Some(digits.parse::<i8>().ok()?),
                // RFC 850; RFC 2822 defines the century of such years.
                2 if year.is_none() => {
                    let short: i16 = digits.parse().ok()?;
                    year = Some(if short < 50 { 2000 + short } else { 1900 + short });
                }
                _ => return None,
            }
            // The ending of `30th`.
            if day.is_some() && reader.0.starts_with(['s', 'n', 'r', 't']) {
                reader.word();
            }
            continue;
        }
        if first.is_ascii_alphabetic() && (time.is_none() || month.is_none()) {
            let word = reader.word().to_ascii_lowercase();
            let is_month = |known: &&str| word.len() >= 3 && known.starts_with(&word);
            let found = MONTHS.iter().position(is_month);
            if let Some(found) = found.filter(|_| month.is_none()) {
                month = Some(i8::try_from(found + 1).ok()?);
            }
            reader.skip(&['.']);
            continue;
        }
        if year.is_some() {
            zone = Some(reader.zone()?);
            break;
        }
        // The zone stands before the year.
        let end = reader.0.rfind(' ')?;
        let (before, behind) = reader.0.split_at(end);
        zone = Some(TimeTextReader(before).zone()?);
        reader.0 = behind;
    }
    let date = Date::new(year?, month?, day?).ok()?;
    stamp(date, time.unwrap_or((0, Time::midnight())), zone.unwrap_or(Offset::UTC))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_clients_send() {
        for text in [
            "2026-11-30T11:30:24Z",
            "2026-11-30T11:30:24.000Z",
            "2026-11-30T11:30:24,000Z",
            "2026-11-30t11:30:24z",
            "2026-11-30 11:30:24",
            "2026-11-30T11:30:24",
            "2026-11-30T11:30:24.000:Z",
            "2026-11-30T11:30:24:000Z",
            "2026-11-30T11:30:24 Z",
            "2026-11-30T12:30:24+0100",
            "2026-11-30T12:30:24+01",
            "2026-11-30T12:30:24 +1:00",
            "2026-11-30T12:30:24+01:00[Europe/Berlin]",
            "2026-11-30T11:30:24.0000000000000Z",
            "2026/11/30 11:30:24",
            "20261130T113024Z",
            "20261130113024",
            "2026-W49-1T11:30:24Z",
            "2026-334T11:30:24Z",
            "\"2026-11-30T11:30:24Z\"",
            "2026-11-30 11:30:24 AM",
            "2026-11-30 11:30:24 UTC",
            "2026-11-30 11:30:24 +0000",
            "2026-11-30 12:30:24 +0100",
            "2026-11-30 11:30:24 +0000 UTC",
            "2026-11-30 11:30:24.000000000 +0000 UTC m=+0.012345678",
            "2026-11-30 12:30:24 +0100 CET m=-3.5",
            "2026-11-30 14:30:24 +0300 +03",
            "Mon, 30 Nov 2026 11:30:24 +0000",
            "Mon, 30 Nov 2026 11:30:24 GMT",
            "30 Nov 2026 06:30:24 EST",
            "Monday, 30-Nov-26 11:30:24 GMT",
            "Mon Nov 30 11:30:24 2026",
            "Mon Nov 30 11:30:24 UTC 2026",
            "Mon Nov 30 12:30:24 +0100 2026",
            "Mon Nov 30 12:30:24 CET 2026",
            "Mon Nov 30 2026 12:30:24 GMT+0100 (Central European Standard Time)",
            "Mon Nov 30 2026 11:30:24 GMT+0000",
            "Nov 30, 2026 11:30:24 AM",
            "November 30th, 2026 at 11:30:24",
            "/Date(1796038224000)/",
            "/Date(1796038224000+0100)/",
            "1796038224",
            "1796038224.0",
            "1796038224,0",
            "1.796038224E9",
            "1796038224000",
            "1796038224000.0",
            "1796038224000000",
            "1796038224000000000",
            " 1796038224 ",
        ] {
            let found = read(text).map(|at| at.to_string());
            assert_eq!(found.as_deref(), Some("2026-11-30T11:30:24Z"), "{text}");
        }
    }

    #[test]
    fn shorter_and_finer_times_are_read() {
        for (text, expected) in [
            ("2026-11-30", "2026-11-30T00:00:00Z"),
            ("2026-11-30Z", "2026-11-30T00:00:00Z"),
            ("20261130", "2026-11-30T00:00:00Z"),
            ("2026-11", "2026-11-01T00:00:00Z"),
            ("2026-11-30T11:30", "2026-11-30T11:30:00Z"),
            ("2026-11-30T11:30Z", "2026-11-30T11:30:00Z"),
            ("2026-11-30T24:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-11-30 9:05 PM", "2026-11-30T21:05:00Z"),
            ("2026-11-30 12:05 am", "2026-11-30T00:05:00Z"),
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59Z"),
            ("2026-11-30T11:30:24.029:Z", "2026-11-30T11:30:24.029Z"),
            ("2026-11-30 11:30:24.123456789 +0000 UTC", "2026-11-30T11:30:24.123456789Z"),
            ("1796038224.25", "2026-11-30T11:30:24.25Z"),
            ("1796038224000.5", "2026-11-30T11:30:24.0005Z"),
            ("1796038224123456", "2026-11-30T11:30:24.123456Z"),
            ("1796038224123456789", "2026-11-30T11:30:24.123456789Z"),
            ("-86400", "1969-12-31T00:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("30 Nov 2026", "2026-11-30T00:00:00Z"),
        ] {
            let found = read(text).map(|at| at.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        assert_eq!(read_value(&json!(1_796_038_224.25)), read("1796038224.25"));
        assert_eq!(read_value(&json!(true)), None);
        assert_eq!(read_event_time("0"), None);
        assert_eq!(read_event_time("-5"), None);
        assert_eq!(read_date_text("20261123"), None, "it may be an order's number");
        assert_eq!(read_date_text("2026-11-30"), read("2026-11-30"));
    }

    #[test]
    fn read_refuses_other_texts() {
        for text in [
            "",
            " ",
            "soon",
            "NaN",
            "true",
            "1e300",
            "99999999999999999999999999",
            "-9223372036854775808000",
            "2026-13-01T00:00:00Z",
            "2026-02-30",
            "2026-11-30T25:00:00Z",
            "2026-11-30T11:30:24+99:99",
            "2026-11-30 later",
            "11/12/2026",
            "11:30:24",
            "Nov 2026",
            "20261123-1",
            "1.2.3",
            "Marathon 30 2026",
            &"2".repeat(200),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    /// Forms of a time to the second, in UTC.
    const FORMS: [&str; 16] = [
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dt%H:%M:%Sz",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y-%m-%d %H:%M:%S +0000",
        "%Y-%m-%d %H:%M:%S.000 +0000 UTC m=+0.01",
        "%Y-%m-%dT%H:%M:%S.000:Z",
        "%Y-%m-%dT%H:%M:%S,000+0000",
        "%Y/%m/%d %H:%M:%S",
        "%Y%m%dT%H%M%SZ",
        "%G-W%V-%uT%H:%M:%SZ",
        "%Y-%jT%H:%M:%SZ",
        "%a, %d %b %Y %H:%M:%S GMT",
        "%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)",
        "%a %b %e %H:%M:%S UTC %Y",
        "%A, %d-%b-%y %H:%M:%S GMT",
    ];

    proptest! {
        #[test]
        fn read_reads_every_form_of_a_time(second in 1_000_000_000_i64..2_500_000_000, zone in -14_i32..=14) {
            let at = Timestamp::from_second(second).unwrap();
            for form in FORMS {
                let text = at.strftime(form).to_string();
                prop_assert_eq!(read(&text), Some(at), "{}", text);
            }
            let there = Offset::from_hours(i8::try_from(zone).unwrap()).unwrap().to_datetime(at);
            for form in ["%Y-%m-%dT%H:%M:%S", "%a, %d %b %Y %H:%M:%S ", "%a %b %d %Y %H:%M:%S GMT"] {
                let text = format!("{}{:+03}00", there.strftime(form), zone);
                prop_assert_eq!(read(&text), Some(at), "{}", text);
            }
            for zeros in [0, 3, 6, 9] {
                let text = format!("{second}{}", "0".repeat(zeros));
                prop_assert_eq!(read(&text), Some(at), "{}", text);
                prop_assert_eq!(read(&format!("{text}.0")), Some(at));
            }
        }

        #[test]
        fn read_accepts_any_text_without_panic(text in ".{0,140}", likely in "[0-9A-Za-z:+., /()-]{0,40}") {
            let _ = (read(&text), read(&likely), read_event_time(&likely), read_date_text(&likely));
        }
    }
}

//! The due times of segments: derived only from a plan and the last run, so a restart changes nothing.

use std::str::FromStr;
use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use sha2::{Digest, Sha256};

use super::rule::milliseconds;

/// The plan by which a segment is evaluated.
#[derive(Clone, Debug)]
pub enum SegmentSchedule {
    /// This long after the start of the last run.
    Every(Duration),
    /// By a cron expression.
    Cron(CronSchedule),
    /// As membership changes.
    Realtime,
    /// Once for each rule.
    Once,
}

/// A cron expression: `minute hour day-of-month month day-of-week`, and perhaps a time zone; UTC without one.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    table: Crontab,
    written: String,
}

impl FromStr for CronSchedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let table = cronexpr::parse_crontab_with(text, options).map_err(|error| {
            // The library marks the place of the error, on several lines.
            let message = error.to_string();
            let line = message.lines().last().unwrap_or_default();
            line.trim_matches(|c: char| c == '^' || c.is_whitespace()).to_owned()
        })?;
        Ok(Self { table, written: text.to_owned() })
    }
}

impl CronSchedule {
    /// Returns the next time after this one, both in milliseconds since 1970. `None` if there is none within four
    /// years.
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        let after = MakeTimestamp::from_millisecond(after_ms).ok()?;
        self.table.find_next(after).ok().map(|next| next.timestamp().as_millisecond())
    }
}

impl SegmentSchedule {
    /// Returns the due time after a run that began at `ran_ms`; `realtime` is the interval in real time.
    pub fn next(&self, ran_ms: i64, realtime: Duration) -> Option<i64> {
        match self {
            Self::Every(time) => Some(ran_ms.saturating_add(milliseconds(*time))),
            Self::Cron(cron) => cron.next(ran_ms),
            Self::Realtime => Some(ran_ms.saturating_add(milliseconds(realtime))),
            Self::Once => None,
        }
    }

    /// Returns the plan as a text for operators.
    pub fn describe(&self) -> String {
        match self {
            Self::Every(time) => format!("every {}", spelled(*time)),
            Self::Cron(cron) => format!("cron {}", cron.written),
            Self::Realtime => "realtime".to_owned(),
            Self::Once => "once".to_owned(),
        }
    }
}

/// Returns the delay of a segment behind its plan: always the same share of `jitter`, so that segments of
/// one plan do not all start at once.
pub(super) fn delay_ms(site: &str, segment: &str, jitter: Duration) -> i64 {
    let digest =
        Sha256::new().chain_update(site).chain_update("/").chain_update(segment).finalize();
    let share = digest.iter().take(4).fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    milliseconds(jitter).saturating_mul(share) >> 32
}

/// Formats the time in its largest whole unit.
fn spelled(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn next_follows_from_the_plan_and_the_last_run() {
        let ran = ms("2026-11-25T18:30:10Z");
        let next = |schedule: &SegmentSchedule| schedule.next(ran, Duration::from_secs(60));
        assert_eq!(next(&SegmentSchedule::Every(Duration::from_secs(3600))), Some(ran + 3_600_000));
        assert_eq!(next(&SegmentSchedule::Realtime), Some(ran + 60_000));
        assert_eq!(next(&SegmentSchedule::Once), None);
        let cron = |text: &str| SegmentSchedule::Cron(text.parse().unwrap());
        assert_eq!(next(&cron("0 3 * * *")), Some(ms("2026-11-26T03:00:00Z")));
        assert_eq!(next(&cron("0 3 * * * Europe/Zurich")), Some(ms("2026-11-26T02:00:00Z")));
    }

    #[test]
    fn invalid_cron_reports_its_error_on_one_line() {
        let error = "61 3 * * *".parse::<CronSchedule>().unwrap_err();
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
    }

    #[test]
    fn delay_is_a_fixed_share_of_the_jitter() {
        let hour = Duration::from_secs(3600);
        let delay = delay_ms("shop", "a", hour);
        assert_eq!(delay, delay_ms("shop", "a", hour));
        assert_ne!(delay, delay_ms("shop", "b", hour));
        assert!((0..3_600_000).contains(&delay), "{delay}");
        assert_eq!(delay_ms("shop", "a", Duration::ZERO), 0);
    }
}

//! The measurement of all rules: each window is read once, whatever number of rules it has.

use std::collections::BTreeMap;
use std::time::Duration;

use super::condition::{self, AlertCondition, RuleWindows};
use super::kind::AlertKind;
use super::service::{AlertError, AlertService};
use super::settings::{AlertRule, AlertSettings};
use crate::ConsoleStoreError;
use crate::reading::{ConfigName, GatewayReading};
use crate::series::{SeriesMeasure, WindowTotals};

/// The days before now of which the same time of day is compared.
const DAYS: i64 = 7;

/// The windows before now that are compared while there is no day before.
const WINDOWS_BEFORE: i64 = 6;

/// The share of a window in which the gateway must have been read, to compare with it.
const MIN_COVERAGE: f64 = 0.8;

/// The seconds of a day.
const DAY: i64 = 86_400;

impl AlertService {
    /// Measures all rules that are on. `None` where a rule's subject cannot be read now.
    pub(super) async fn measure(
        &self,
        settings: &AlertSettings,
        reading: &GatewayReading,
    ) -> Result<Vec<(AlertRule, Option<Vec<AlertCondition>>)>, AlertError> {
        let mut windows: BTreeMap<(Duration, bool), RuleWindows> = BTreeMap::new();
        let mut measured = Vec::new();
        let is_on = |rule: &&AlertRule| settings.enabled && rule.enabled;
        let rules: Vec<&AlertRule> = settings.rules.iter().filter(is_on).collect();
        for rule in &rules {
            let key = (rule.window, rule.kind == AlertKind::NoTraffic);
            if !windows.contains_key(&key) && needs_window(rule.kind) {
                let read = self.read_windows(key.0, key.1, reading).await?;
                windows.insert(key, read);
            }
            let empty = RuleWindows::default();
            let conditions = condition::measure(rule, reading, windows.get(&key).unwrap_or(&empty));
            // The rule with more names takes the place of others of its kind.
            let conditions = conditions.map(|conditions| {
                let own = conditions.into_iter().filter(|it| {
                    !rules.iter().any(|other| {
                        other.kind == rule.kind
                            && other.specificity() > rule.specificity()
                            && other.covers(it.target.site.as_deref(), it.target.object.as_deref())
                    })
                });
                own.collect()
            });
            measured.push(((*rule).clone(), conditions));
        }
        Ok(measured)
    }

    /// Reads the sums of a window, and for sites the usual numbers.
    async fn read_windows(
        &self,
        window: Duration,
        needs_usual: bool,
        reading: &GatewayReading,
    ) -> Result<RuleWindows, AlertError> {
        let now = reading.at.as_second();
        let seconds = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        let sums = async |from: i64, to: i64| {
            self.series.sums((from, to), now).await.map_err(ConsoleStoreError::from)
        };
        let mut windows =
            RuleWindows { window: sums(now - seconds, now).await?, usual: BTreeMap::new() };
        if !needs_usual {
            return Ok(windows);
        }
        // A window within longer buckets is measured by all of these, as its share of them.
        let mut compared: Vec<(WindowTotals, f64)> = Vec::new();
        for day in 1..=DAYS {
            let around = seconds.max(7200);
            let middle = now - day * DAY - seconds / 2;
            let totals = sums(middle - around / 2, middle + around / 2).await?;
            if totals.coverage >= MIN_COVERAGE {
                #[expect(clippy::cast_precision_loss, reason = "seconds of a week")]
                let share = seconds as f64 / (around as f64 + 7200.0);
                compared.push((totals, share));
            }
        }
        if compared.is_empty() {
            for before in 1..=WINDOWS_BEFORE {
                let to = now - before * seconds;
                compared.push((sums(to - seconds, to).await?, 1.0));
            }
        }
        for site in &reading.sites {
            let counts =
                compared.iter().map(|(totals, share)| accepted(totals, &site.site) * share);
            let least = counts.fold(f64::INFINITY, f64::min);
            windows.usual.insert(site.site.clone(), if least.is_finite() { least } else { 0.0 });
        }
        Ok(windows)
    }
}

fn needs_window(kind: AlertKind) -> bool {
    matches!(
        kind,
        AlertKind::NoTraffic
            | AlertKind::DeliveryRate
            | AlertKind::DeadLetters
            | AlertKind::ConsentSkips
    )
}

/// The events that a site accepted in a window.
fn accepted(totals: &WindowTotals, site: &ConfigName) -> f64 {
    let own = totals
        .sums
        .iter()
        .filter(|(key, _)| key.measure == SeriesMeasure::Accepted && key.site == *site);
    #[expect(clippy::cast_precision_loss, reason = "a number to compare with")]
    let count = own.map(|(_, sum)| *sum).sum::<u64>() as f64;
    count
}

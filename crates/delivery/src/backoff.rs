//! Waits between tries, and the circuit breaker. Pure: randomness and time are passed in.

use std::time::Duration;

use tokio::time::Instant;

use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[destination_defaults.retry]`.
pub const RETRY_SETTINGS: &[Setting] = &[
    Setting::duration("min_wait")
        .default("500ms")
        .doc("ceiling of the first wait (full jitter); doubles with each attempt"),
    Setting::duration("max_wait")
        .default("5m")
        .doc("ceiling of any wait that the vendor did not specify"),
    Setting::duration("max_retry_after")
        .default("1h")
        .doc("ceiling of a wait from a vendor's Retry-After"),
    Setting::integer("tries_before_parking", 1, 1000)
        .default("6")
        .doc("attempts after which a failing event is parked, if other events succeed"),
    Setting::integer("parked_max", 1, 10_000_000)
        .default("100_000")
        .doc("limit of parked events, about 200 bytes each"),
];

/// The described settings of `[destination_defaults.breaker]`.
pub const BREAKER_SETTINGS: &[Setting] = &[
    Setting::integer("failures", 1, 1_000_000)
        .default("10")
        .doc("consecutive failed calls that open the circuit breaker"),
    Setting::duration("min_open")
        .default("1s")
        .doc("the time for which it stays open; doubles with each failed probe"),
    Setting::duration("max_open").default("1m").doc("the ceiling of that time"),
];

/// The settings of retries: `[destination_defaults.retry]`, or a destination's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// The ceiling of the first wait; it doubles with each try.
    pub min_wait: Duration,
    /// The ceiling of any wait that the vendor did not name.
    pub max_wait: Duration,
    /// The longest wait that a vendor's `Retry-After` can impose.
    pub max_retry_after: Duration,
    /// The tries after which events that keep failing, while the destination accepts others, are parked.
    pub tries_before_parking: u32,
    /// The most parked events; beyond, failing events stay in the queue instead.
    pub parked_max: usize,
}

impl RetrySettings {
    /// Reads the settings from their table.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(RETRY_SETTINGS);
        Self {
            min_wait: section.duration("min_wait"),
            max_wait: section.duration("max_wait"),
            max_retry_after: section.duration("max_retry_after"),
            tries_before_parking: section.integer("tries_before_parking"),
            parked_max: section.integer("parked_max"),
        }
    }

    /// Returns the wait before try number `attempt` (1 is the first retry): full jitter below a ceiling that
    /// doubles, and never sooner than the vendor asked. `random` is in `0.0..1.0`.
    pub fn wait(&self, attempt: u32, asked: Option<Duration>, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = self.min_wait.saturating_mul(1 << doublings).min(self.max_wait);
        let wait = ceiling.mul_f64(random.clamp(0.0, 1.0));
        // A vendor's date may lie in the past; the jitter still spreads the tries then.
        wait.max(asked.unwrap_or_default().min(self.max_retry_after))
    }
}

/// The settings of the circuit breaker: `[destination_defaults.breaker]`, or a destination's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// The number of failures in a row that open the breaker.
    pub failures: u32,
    /// The time for which it stays open at first; it doubles with each failed probe.
    pub min_open: Duration,
    /// The longest time for which it stays open.
    pub max_open: Duration,
}

impl BreakerSettings {
    /// Reads the settings from their table.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(BREAKER_SETTINGS);
        Self {
            failures: section.integer("failures"),
            min_open: section.duration("min_open"),
            max_open: section.duration("max_open"),
        }
    }
}

/// Stops calls to a destination that fails every call, and probes it with one.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    settings: BreakerSettings,
    failures: u32,
    openings: u32,
    state: BreakerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    Closed,
    Open { until: Instant },
    Probing,
}

impl CircuitBreaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, failures: 0, openings: 0, state: BreakerState::Closed }
    }

    /// Returns true if a batch may go now. When the pause is over, one may: the probe.
    pub(super) fn permits(&mut self, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open { until } if now >= until => {
                self.state = BreakerState::Probing;
                true
            }
            BreakerState::Open { .. } | BreakerState::Probing => false,
        }
    }

    /// Returns the time when the next batch may go, if the breaker blocks it.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match self.state {
            BreakerState::Open { until } => Some(until),
            BreakerState::Closed | BreakerState::Probing => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.openings = 0;
        self.state = BreakerState::Closed;
    }

    /// Records a failed batch, which may have been the probe.
    pub(super) fn failed(&mut self, was_probe: bool, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            BreakerState::Closed => self.failures >= self.settings.failures,
            BreakerState::Probing => was_probe,
            // A batch that was running when the breaker opened proves nothing new.
            BreakerState::Open { .. } => false,
        };
        if opens {
            let pause = self.settings.min_open.saturating_mul(1 << self.openings.min(31));
            self.openings = self.openings.saturating_add(1);
            self.state = BreakerState::Open { until: now + pause.min(self.settings.max_open) };
        }
    }

    /// Records that the probe ended without a result for the destination.
    pub(super) fn probe_lapsed(&mut self, now: Instant) {
        if self.state == BreakerState::Probing {
            self.state = BreakerState::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retry() -> RetrySettings {
        RetrySettings {
            min_wait: Duration::from_millis(500),
            max_wait: Duration::from_secs(60),
            max_retry_after: Duration::from_secs(3600),
            tries_before_parking: 5,
            parked_max: 10,
        }
    }

    #[test]
    fn waits_double_up_to_the_ceiling() {
        let ceiling = |attempt| retry().wait(attempt, None, 1.0).as_millis();
        assert_eq!(
            [1, 2, 3, 8, 99, u32::MAX].map(ceiling),
            [500, 1000, 2000, 60_000, 60_000, 60_000]
        );
        assert_eq!(retry().wait(3, None, 0.0), Duration::ZERO, "full jitter");
    }

    #[test]
    fn wait_honours_retry_after_up_to_its_cap() {
        let asked = |seconds| retry().wait(1, Some(Duration::from_secs(seconds)), 0.5).as_secs();
        assert_eq!(asked(7), 7);
        assert_eq!(asked(1_000_000), 3600);
    }

    proptest! {
        #[test]
        fn wait_is_always_bounded(attempt: u32, asked: Option<u64>, random in 0.0..1.0) {
            let wait = retry().wait(attempt, asked.map(Duration::from_secs), random);
            prop_assert!(wait <= Duration::from_secs(3600));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_probes_and_closes() {
        let settings = BreakerSettings {
            failures: 2,
            min_open: Duration::from_secs(1),
            max_open: Duration::from_secs(3),
        };
        let mut breaker = CircuitBreaker::new(settings);
        breaker.failed(true, Instant::now());
        assert!(breaker.permits(Instant::now()), "one failure is not two");
        breaker.failed(true, Instant::now());
        for pause in [1, 2, 3, 3] {
            assert!(!breaker.permits(Instant::now()));
            tokio::time::advance(Duration::from_secs(pause) - Duration::from_millis(1)).await;
            assert!(!breaker.permits(Instant::now()), "{pause} s are not over");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(breaker.permits(Instant::now()), "the probe");
            assert!(!breaker.permits(Instant::now()), "only one");
            breaker.failed(true, Instant::now());
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(breaker.permits(Instant::now()));
        breaker.succeeded();
        assert!(breaker.is_closed() && breaker.permits(Instant::now()));
        breaker.failed(true, Instant::now());
        assert!(breaker.is_closed(), "the count started anew");
    }
}

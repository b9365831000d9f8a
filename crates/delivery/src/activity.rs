//! The latest activity of one destination, for operators: latencies, the last failure, refused credentials, and
//! the reasons of skipped events. It is in memory only, bounded, and outlives the restarts of the worker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use tagway_storage::journal::LastVendorCall;
use tagway_vendors::OutcomeReason;

/// The number of calls whose latencies are kept: enough for a 99th percentile, in 4 KiB.
const LATENCY_CALLS: usize = 512;

/// The vendor's treatment of the destination's credentials, as its replies show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialState {
    /// No reply has shown it since the start of the process.
    #[default]
    Unknown,
    /// The vendor accepted an event with them.
    Accepted,
    /// The vendor refuses them.
    Refused,
}

impl CredentialState {
    /// Returns the name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Accepted => "ok",
            Self::Refused => "refused",
        }
    }
}

/// The last failure of a destination's call, or the last event that its vendor refused.
#[derive(Clone, Debug)]
pub struct DestinationFailure {
    /// The time of the outcome.
    pub at: Timestamp,
    /// The reason of the outcome.
    pub reason: OutcomeReason,
    /// The last call about the event, if there was one.
    pub call: Option<Arc<LastVendorCall>>,
}

/// The latencies of a destination's latest calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// The number of calls that it is made of, at most 512.
    pub calls: usize,
    /// Half of the calls took no longer.
    pub median: Duration,
    /// 99 of 100 calls took no longer.
    pub p99: Duration,
}

/// A destination's activity at one moment.
#[derive(Clone, Debug)]
pub struct ActivitySnapshot {
    /// The time from which events and calls are counted.
    pub since: Timestamp,
    /// The latencies of the latest calls; none before the first.
    pub latency: Option<LatencySummary>,
    /// The newest failure of a call, or refusal of an event.
    pub last_failure: Option<DestinationFailure>,
    /// The state of the credentials.
    pub credentials: CredentialState,
    /// The number of skipped events by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// The time until which the vendor asked for no calls.
    pub waits_until: Option<Timestamp>,
}

/// Records the activity of one destination.
pub(super) struct DestinationActivity(Mutex<RecordedActivity>);

struct RecordedActivity {
    since: Timestamp,
    latencies: VecDeque<Duration>,
    last_failure: Option<DestinationFailure>,
    credentials: CredentialState,
    /// Its keys are codes from the source, a closed set.
    skipped: BTreeMap<&'static str, u64>,
    waits_until: Option<Timestamp>,
}

impl DestinationActivity {
    /// Creates a record that begins at this time.
    pub(super) fn new(since: Timestamp) -> Self {
        Self(Mutex::new(RecordedActivity {
            since,
            latencies: VecDeque::new(),
            last_failure: None,
            credentials: CredentialState::default(),
            skipped: BTreeMap::new(),
            waits_until: None,
        }))
    }

    /// Records the latency of a call.
    pub(super) fn record_call(&self, elapsed: Duration) {
        let latencies = &mut self.0.lock().latencies;
        if latencies.len() >= LATENCY_CALLS {
            latencies.pop_front();
        }
        latencies.push_back(elapsed);
    }

    /// Records a failure.
    pub(super) fn record_failure(&self, failure: DestinationFailure) {
        self.0.lock().last_failure = Some(failure);
    }

    /// Records the vendor's treatment of the credentials.
    pub(super) fn record_credentials(&self, state: CredentialState) {
        self.0.lock().credentials = state;
    }

    /// Counts a skipped event.
    pub(super) fn count_skipped(&self, code: &'static str) {
        *self.0.lock().skipped.entry(code).or_default() += 1;
    }

    /// Records the time until which the vendor asked for no calls.
    pub(super) fn record_wait(&self, until: Timestamp) {
        let mut recorded = self.0.lock();
        recorded.waits_until = recorded.waits_until.max(Some(until));
    }

    /// Returns the activity at this time.
    pub(super) fn snapshot(&self, now: Timestamp) -> ActivitySnapshot {
        let recorded = self.0.lock();
        ActivitySnapshot {
            since: recorded.since,
            latency: summary(recorded.latencies.iter().copied().collect()),
            last_failure: recorded.last_failure.clone(),
            credentials: recorded.credentials,
            skipped: recorded.skipped.clone(),
            waits_until: recorded.waits_until.filter(|until| *until > now),
        }
    }
}

/// Summarises latencies by the nearest rank.
fn summary(mut latencies: Vec<Duration>) -> Option<LatencySummary> {
    latencies.sort_unstable();
    let calls = latencies.len();
    let rank = |percent: usize| (calls * percent).div_ceil(100).saturating_sub(1);
    let at = |percent| latencies.get(rank(percent)).copied();
    Some(LatencySummary { calls, median: at(50)?, p99: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_of_the_latest_calls() {
        let activity = DestinationActivity::new(Timestamp::UNIX_EPOCH);
        assert_eq!(activity.snapshot(Timestamp::UNIX_EPOCH).latency, None);
        let ms = Duration::from_millis;
        (1..=100).for_each(|time| activity.record_call(ms(time)));
        let expected = LatencySummary { calls: 100, median: ms(50), p99: ms(99) };
        assert_eq!(activity.snapshot(Timestamp::UNIX_EPOCH).latency, Some(expected));
        (0..LATENCY_CALLS).for_each(|_| activity.record_call(ms(7)));
        let expected = LatencySummary { calls: LATENCY_CALLS, median: ms(7), p99: ms(7) };
        assert_eq!(activity.snapshot(Timestamp::UNIX_EPOCH).latency, Some(expected));
    }

    #[test]
    fn wait_is_shown_until_it_is_over() {
        let activity = DestinationActivity::new(Timestamp::UNIX_EPOCH);
        let at = |second| Timestamp::from_second(second).unwrap();
        activity.record_wait(at(20));
        activity.record_wait(at(10));
        assert_eq!(activity.snapshot(at(19)).waits_until, Some(at(20)));
        assert_eq!(activity.snapshot(at(20)).waits_until, None);
    }
}

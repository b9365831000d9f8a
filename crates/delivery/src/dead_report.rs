//! The log's report of new dead letters: the first at once, later ones at intervals.

use std::time::Duration;

use tokio::time::Instant;

use tagway_core::metrics::DestinationLabels;
use tagway_storage::journal::OutcomeCause;

/// The dead letters since the last report.
#[derive(Debug)]
pub(super) struct DeadLetterReport {
    every: Duration,
    count: u64,
    /// The reason of the newest dead letter.
    reason: &'static str,
    reported_at: Option<Instant>,
    is_over: bool,
}

impl DeadLetterReport {
    /// Builds a report that is logged once per `every` at most; zero for never.
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, count: 0, reason: "", reported_at: None, is_over: false }
    }

    /// Counts events that ended as dead letters.
    pub(super) fn add<'c>(&mut self, causes: impl Iterator<Item = &'c OutcomeCause>) {
        for cause in causes {
            self.count += 1;
            self.reason = cause.code;
        }
    }

    /// Returns the time of the next report, if there are new dead letters.
    pub(super) fn due_at(&self, now: Instant) -> Option<Instant> {
        let has_news = self.count > 0 && !self.every.is_zero();
        let last = self.reported_at.filter(|_| !self.is_over);
        has_news.then(|| last.map_or(now, |at| at + self.every))
    }

    /// Makes the remaining report due now.
    pub(super) const fn end(&mut self) {
        self.is_over = true;
    }

    /// Logs the new dead letters, if a report is due.
    pub(super) fn log(&mut self, labels: &DestinationLabels, now: Instant) {
        let Some((count, reason)) = self.take(now) else { return };
        tracing::warn!(
            site = %labels.site, destination = %labels.destination, count, reason,
            "events became dead letters since the last report; the newest has this reason; list them \
             with `tagway dead ls`"
        );
    }

    /// Returns the count and the newest reason, if a report is due.
    fn take(&mut self, now: Instant) -> Option<(u64, &'static str)> {
        self.due_at(now).filter(|at| *at <= now)?;
        self.reported_at = Some(now);
        Some((std::mem::take(&mut self.count), self.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dead_letters_are_reported_at_once_and_then_at_intervals() {
        let every = Duration::from_secs(300);
        let mut report = DeadLetterReport::new(every);
        let now = Instant::now;
        assert_eq!((report.due_at(now()), report.take(now())), (None, None));
        let (refused, old) = (OutcomeCause::new("refused"), OutcomeCause::new("too_old"));
        report.add([&old, &refused].into_iter());
        // The worker checks with the moment at which its turn began.
        let turn = now();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(report.take(turn), Some((2, "refused")));
        report.add([&old].into_iter());
        assert_eq!(report.take(Instant::now()), None);
        assert_eq!(report.due_at(now()), Some(turn + every));
        tokio::time::advance(every).await;
        assert_eq!(report.take(Instant::now()), Some((1, "too_old")));
        assert_eq!(report.due_at(now()), None);
        report.add([&old].into_iter());
        report.end();
        assert_eq!(
            report.take(Instant::now()),
            Some((1, "too_old")),
            "none is kept back at the end"
        );
        let mut never = DeadLetterReport::new(Duration::ZERO);
        never.add([&old].into_iter());
        assert_eq!(never.take(Instant::now()), None);
    }
}

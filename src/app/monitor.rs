//! The monitor: reads the running gateway for the console's time series and alerts, twice a minute by default. Nothing of
//! it is on the path of a request.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::TagwayApp;
use crate::config::TagwaySettings;
use tagway_console::ConsoleStoreError;
use tagway_console::alert::{AlertEgress, AlertService};
use tagway_console::reading::{
    CertificateReading, DestinationReading, DiskReading, GatewayReading, ReasonCount,
    SegmentReading, SiteReading,
};
use tagway_console::series::{SeriesRecorder, SeriesStore};
use tagway_core::clock::SharedClock;
use tagway_core::metrics::{Metrics, OutcomeLabels, SharedName};
use tagway_delivery::segment::SegmentPlan;
use tagway_delivery::{DestinationStatus, EgressClient, EgressSettings, RunningDestination};
use tagway_storage::journal::{Journal, JournalError, ReaderAccount};
use tagway_storage::store::SqliteStore;

/// The longest wait for a reading: while a disk hangs, the next one tries again.
const READING_TIME: Duration = Duration::from_secs(20);

/// The longest wait for the accounts: settlements stand still meanwhile.
const ACCOUNTS_TIME: Duration = Duration::from_secs(3);

/// The longest wait at the stop: a little more than for a notification under way.
const STOP_TIME: Duration = Duration::from_secs(12);

/// The counts of settled events by site and destination.
type ReasonCounts = HashMap<(SharedName, SharedName), Vec<ReasonCount>>;

/// The console's series and alerts in a running gateway, with their tasks.
pub(super) struct ConsoleMonitor {
    pub(super) series: Arc<SeriesStore>,
    pub(super) alerts: Arc<AlertService>,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl ConsoleMonitor {
    /// Creates the monitor without tasks.
    pub(super) fn new(
        store: Arc<SqliteStore>,
        settings: &TagwaySettings,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let series = Arc::new(SeriesStore::new(store.clone()));
        let setup = (settings.alerts.clone(), GuardedAlertEgress::build(&settings.egress)?);
        let alerts = AlertService::new(store, series.clone(), setup, (clock, metrics));
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        Ok(Self { series, alerts: Arc::new(alerts), end, tasks })
    }

    /// Starts reading the gateway, and sending notifications.
    pub(super) fn start(&self, app: Arc<TagwayApp>, runtime: &Handle) {
        self.tasks.spawn_on(app.run_monitor(), runtime);
        let (alerts, end) = (self.alerts.clone(), self.end.clone());
        self.tasks.spawn_on(async move { alerts.notify_until_stopped(end).await }, runtime);
    }

    /// Applies new settings.
    pub(super) fn apply(&self, settings: &TagwaySettings) -> anyhow::Result<()> {
        let egress = GuardedAlertEgress::build(&settings.egress)?;
        self.alerts.apply(settings.alerts.clone(), egress);
        Ok(())
    }

    /// Ends the tasks. The open minute is stored, unless the disk hangs.
    pub(super) async fn stop(&self) {
        self.end.cancel();
        self.tasks.close();
        if timeout(STOP_TIME, self.tasks.wait()).await.is_err() {
            tracing::warn!("the monitor of series and alerts does not end in time");
        }
    }
}

impl TagwayApp {
    /// Reads the gateway until stopped, records the series and evaluates the alerts.
    async fn run_monitor(self: Arc<Self>) {
        let mut recorder = None;
        loop {
            tokio::select! {
                biased;
                () = self.monitor.end.cancelled() => break,
                reading = timeout(READING_TIME, self.read_gateway()) => match reading {
                    // Not cancelled at the stop: an evaluation is stored as a whole before the next.
                    Ok(Ok(Some(reading))) => self.use_reading(&mut recorder, &reading).await,
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "the accounts cannot be read for series and alerts, and are read again later");
                    }
                    Ok(Ok(None)) | Err(_) => tracing::warn!("the database does not answer the monitor of series and alerts"),
                },
            }
            tokio::select! {
                () = sleep(self.monitor.alerts.evaluate_every()) => {}
                () = self.monitor.end.cancelled() => break,
            }
        }
        let last = recorder.as_mut().and_then(SeriesRecorder::close);
        if let Some(minute) = last
            && let Err(error) = self.monitor.series.write(minute).await
        {
            tracing::warn!(%error, "the last minute of the time series is not stored");
        }
    }

    async fn use_reading(&self, recorder: &mut Option<SeriesRecorder>, reading: &GatewayReading) {
        if let Err(error) = self.record(recorder, reading).await {
            tracing::warn!(%error, "a minute of the time series is not stored");
        }
        if let Err(error) = self.monitor.alerts.evaluate(reading).await {
            tracing::warn!(%error, "the alerts are evaluated again later");
        }
    }

    async fn record(
        &self,
        recorder: &mut Option<SeriesRecorder>,
        reading: &GatewayReading,
    ) -> Result<(), ConsoleStoreError> {
        let recorder = match recorder {
            Some(recorder) => recorder,
            None => recorder.insert(SeriesRecorder::new(self.monitor.series.load().await?)),
        };
        if let Some(minute) = recorder.record(reading) {
            self.monitor.series.write(minute).await?;
        }
        Ok(())
    }

    /// Reads everything; `None` if the database does not answer in time.
    async fn read_gateway(&self) -> Result<Option<GatewayReading>, JournalError> {
        let look = |accounts| (accounts, self.metrics.deliveries.counts());
        let read = timeout(ACCOUNTS_TIME, self.dispatcher.read_accounts(look)).await;
        let Ok(read) = read else { return Ok(None) };
        let (accounts, counts) = read?;
        let mut reasons = reason_counts(counts);
        let destinations = accounts.into_iter().map(|account| destination(account, &mut reasons));
        let destinations = destinations.collect();
        let sites = self.sites.lock().await.ids();
        let sites = sites
            .into_iter()
            .map(|(site, id)| SiteReading { site, accepted: self.journal.head(id).borrow().seq });
        let segments = match self.segments.plans().await {
            Ok(plans) => Some(plans.into_iter().map(segment).collect()),
            Err(error) => {
                tracing::debug!(%error, "the plans of segments cannot be read");
                None
            }
        };
        let certificates = self.certificates.expiries().into_iter();
        let certificates = certificates
            .map(|(name, expires_at)| CertificateReading { name, expires_at })
            .collect();
        let disk = self.read_disk().await;
        Ok(Some(GatewayReading {
            at: self.clock.now(),
            sites: sites.collect(),
            destinations,
            segments,
            certificates,
            disk,
        }))
    }

    async fn read_disk(&self) -> Option<DiskReading> {
        let folder = self.started.data_dir.clone();
        // A mount that hangs must not hold a thread of the runtime.
        let found = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder)).await.ok()?;
        let found = found.inspect_err(|error| tracing::debug!(%error, "the disk cannot be read"));
        let disk = found.ok()?;
        Some(DiskReading {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            is_writable: *self.journal.writable().borrow(),
            has_room: *self.journal.has_room().borrow(),
        })
    }
}

fn reason_counts(counts: Vec<(OutcomeLabels, u64)>) -> ReasonCounts {
    let mut reasons = ReasonCounts::new();
    for (labels, count) in counts {
        let OutcomeLabels { site, destination, outcome, reason } = labels;
        let of = reasons.entry((site, destination)).or_default();
        of.push(ReasonCount { outcome, reason, count });
    }
    reasons
}

fn destination(
    (running, account): (RunningDestination, ReaderAccount),
    reasons: &mut ReasonCounts,
) -> DestinationReading {
    let (site, destination) = (running.site, running.destination);
    let reasons = reasons.remove(&(site.clone(), destination.clone())).unwrap_or_default();
    DestinationReading {
        site,
        destination,
        delivered: account.ledger.delivered,
        skipped: account.ledger.skipped,
        dead: account.ledger.dead,
        pending: account.ledger.pending,
        held: account.ledger.held,
        oldest_pending: account.oldest_pending,
        is_paused: matches!(running.status, DestinationStatus::Paused(_)),
        reasons,
    }
}

fn segment(plan: SegmentPlan) -> SegmentReading {
    let time = |ms| Timestamp::from_millisecond(ms).ok();
    SegmentReading {
        site: plan.site,
        segment: plan.name,
        due_at: plan.planned_ms.and_then(time),
        last_run_at: plan.ran_ms.and_then(time),
    }
}

/// The way of notifications to their channels: the client of destinations, with its guard.
struct GuardedAlertEgress {
    client: EgressClient,
    allow_private: bool,
}

impl GuardedAlertEgress {
    /// Builds the client.
    fn build(settings: &EgressSettings) -> anyhow::Result<Arc<dyn AlertEgress>> {
        let (client, allow_private) = (EgressClient::new(settings)?, settings.allow_private);
        Ok(Arc::new(Self { client, allow_private }))
    }
}

#[async_trait]
impl AlertEgress for GuardedAlertEgress {
    async fn post(&self, request: Request<Bytes>, timeout: Duration) -> Result<StatusCode, String> {
        let reply = self.client.send(request, timeout).await;
        reply.map(|reply| reply.status).map_err(|error| {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            text
        })
    }

    fn allows_private(&self) -> bool {
        self.allow_private
    }
}

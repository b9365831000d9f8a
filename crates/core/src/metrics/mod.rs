//! Every metric name, type and label, in one place.
//!
//! Names follow Prometheus: prefix `tagway_`, base units, counters end in `_total`. Labels come
//! from closed sets: configuration names, routes, and codes from the source.

mod catalogue;
mod entries;
mod labels;
mod outcome_counters;

pub use catalogue::MetricEntry;
pub use labels::{
    AlertChannelLabels, AlertSeverityLabels, AttemptLabels, CertificateLabels, DestinationLabels,
    EventDropLabels, FieldDropLabels, FormatLabels, IntegrationLabels, LedgerLabels,
    LoginProofLabels, MappingRuleLabels, OutcomeLabels, PageSkipLabels, PoisonLabels,
    RateLimitLabels, ReasonLabels, RequestLabels, ResultLabels, RouteLabels, ScriptRequestLabels,
    SegmentLabels, SegmentRunLabels, SegmentSyncLabels, SenderRankLabels, SiteLabels,
    SiteVendorLabels, SyncChangeLabels, TraitSourceLabels,
};

pub use outcome_counters::OutcomeCounters;

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use self::catalogue::MetricCatalogue;

/// A text label. Shared, so that counting a request does not copy names.
pub type SharedName = std::sync::Arc<str>;

/// Seconds from 50 us to 13 s, each bucket twice the last: request and append times.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

/// All metrics of one gateway. Cheap to share: every metric is a handle.
pub struct Metrics {
    catalogue: MetricCatalogue,
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// The time from a request's head to its response's head.
    pub request_duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Events durably accepted.
    pub events_accepted: Family<FormatLabels, Counter>,
    /// Events refused or dropped before the journal.
    pub events_dropped: Family<EventDropLabels, Counter>,
    /// Unreadable members of messages that were left out, while their events were accepted.
    pub values_unread: Family<EventDropLabels, Counter>,
    /// Events answered as accepted because the same message id was accepted before.
    pub events_duplicate: Family<SiteLabels, Counter>,
    /// Login proofs in messages of browsers, by what they proved.
    pub login_proofs: Family<LoginProofLabels, Counter>,
    /// Requests refused by a rate limit.
    pub rate_limited: Family<RateLimitLabels, Counter>,
    /// Connections open.
    pub connections: Gauge,
    /// Connections accepted since the start, of all listeners.
    pub connections_accepted: Counter,
    /// Connections closed by the gateway before their time.
    pub connections_refused: Family<ReasonLabels, Counter>,
    /// Requests under way.
    pub requests_in_flight: Gauge,
    /// The time from an append's start to its durability.
    pub journal_append: Histogram,
    /// The time of one group's write and sync.
    pub journal_commit: Histogram,
    /// Bytes of the database in use.
    pub journal_bytes: Gauge<u64, AtomicU64>,
    /// Bytes of the database's files.
    pub journal_disk_bytes: Gauge<u64, AtomicU64>,
    /// Events in the journal.
    pub journal_events: Gauge<u64, AtomicU64>,
    /// Unsettled events that were evicted at `journal.max_bytes`.
    pub journal_evicted: Family<SenderRankLabels, Counter>,
    /// Events refused because the journal was full.
    pub journal_refused: Family<SenderRankLabels, Counter>,
    /// Dead letters that were evicted at `journal.max_bytes`.
    pub dead_evicted: Counter,
    /// 1 while the journal can be written.
    pub journal_writable: Gauge,
    /// Events of the journal still to be read for new counters.
    pub filling_events: Family<SiteLabels, Gauge>,
    /// Events ended at a destination.
    pub deliveries: OutcomeCounters,
    /// Values that a destination's mapping left out, by the setting whose limit they exceeded.
    pub left_out: Family<AttemptLabels, Counter>,
    /// Fields of events that a destination dropped.
    pub fields_dropped: Family<FieldDropLabels, Counter>,
    /// Conditions and templates of a destination's mapping that failed, by rule.
    pub mapping_failures: Family<MappingRuleLabels, Counter>,
    /// Records, events and people set aside after being under way at three aborted starts in a row.
    pub poisoned: Family<PoisonLabels, Counter>,
    /// Calls to a vendor.
    pub delivery_attempts: Family<AttemptLabels, Counter>,
    /// Events that had waited for their visitor's identity: `known`, `expired`, or `crowded` out.
    pub identity_holds: Family<AttemptLabels, Counter>,
    /// The time of one call to a vendor.
    pub delivery_seconds: Family<DestinationLabels, Histogram, fn() -> Histogram>,
    /// Events not ended yet.
    pub pending_events: Family<DestinationLabels, Gauge<u64, AtomicU64>>,
    /// Events that wait for their visitor: for a choice of consent, or to become known.
    pub held_events: Family<DestinationLabels, Gauge<u64, AtomicU64>>,
    /// The account of a destination, all columns of one moment.
    pub ledger_events: Family<LedgerLabels, Gauge<u64, AtomicU64>>,
    /// Age of the oldest event not ended yet.
    pub pending_oldest_seconds: Family<DestinationLabels, Gauge<f64, AtomicU64>>,
    /// 1 while the destination delivers, 0 while it is paused or its breaker is open.
    pub destination_up: Family<DestinationLabels, Gauge>,
    /// 1 while the destination is paused by the configuration or by an operator.
    pub destination_paused: Family<DestinationLabels, Gauge>,
    /// The expiry time of a certificate, in seconds since 1970.
    pub certificate_expires: Family<CertificateLabels, Gauge<i64, AtomicI64>>,
    /// Profile lookups by cache result.
    pub profile_lookups: Family<ResultLabels, Counter>,
    /// Lookups of people at sites' trait sources.
    pub profile_source_lookups: Family<TraitSourceLabels, Counter>,
    /// Events delivered without the stored data of their visitors.
    pub events_unenriched: Counter,
    /// Profiles made by claims alone that were evicted because there were too many.
    pub profiles_evicted: Counter,
    /// Traits and identities that a full profile did not accept.
    pub profile_refused: Family<ReasonLabels, Counter>,
    /// Events that the profile projection has not processed yet.
    pub projection_lag_events: Family<SiteLabels, Gauge>,
    /// Requests of scripts.
    pub script_requests: Family<ScriptRequestLabels, Counter>,
    /// New versions of pinned scripts.
    pub script_changes: Family<SiteVendorLabels, Counter>,
    /// Pinned scripts with a new version that waits for approval.
    pub scripts_pending: Family<SiteVendorLabels, Gauge>,
    /// Failures of a site's integrations that its pages reported.
    pub integration_errors: Family<IntegrationLabels, Counter>,
    /// Pages of an origin that did not get the gateway's script, by the reason.
    pub pages_left_alone: Family<PageSkipLabels, Counter>,
    /// Members of a segment, as of its last run.
    pub segment_members: Family<SegmentLabels, Gauge<u64, AtomicU64>>,
    /// Runs of segments.
    pub segment_runs: Family<SegmentRunLabels, Counter>,
    /// The start time of a segment's last run, in seconds since 1970.
    pub segment_run_timestamp_seconds: Family<SegmentLabels, Gauge<u64, AtomicU64>>,
    /// Event names in its rule under which nothing was counted.
    pub segment_names_uncounted: Family<SegmentLabels, Gauge<u64, AtomicU64>>,
    /// Members of a segment that a destination has certainly received.
    pub segment_synced_members: Family<SegmentSyncLabels, Gauge<u64, AtomicU64>>,
    /// People that were sent to a destination which is no longer configured.
    pub segment_abandoned_members: Family<SegmentSyncLabels, Gauge<u64, AtomicU64>>,
    /// The start time of the run that a destination has received, in seconds since 1970.
    pub segment_synced_timestamp_seconds: Family<SegmentSyncLabels, Gauge<u64, AtomicU64>>,
    /// Changes of members that were sent to destinations.
    pub segment_sync_changes: Family<SyncChangeLabels, Counter>,
    /// Alerts that fire now.
    pub alerts_firing: Family<AlertSeverityLabels, Gauge>,
    /// Notifications of alerts, by the result of each attempt.
    pub alert_notifications: Family<AlertChannelLabels, Counter>,
    /// 1 if the last reload of the configuration succeeded.
    pub config_reload_success: Gauge,
}

impl Metrics {
    /// Creates a fresh set, all at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            catalogue: MetricCatalogue::new("tagway"),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(seconds),
            events_accepted: Family::default(),
            events_dropped: Family::default(),
            values_unread: Family::default(),
            events_duplicate: Family::default(),
            login_proofs: Family::default(),
            rate_limited: Family::default(),
            connections: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Family::default(),
            requests_in_flight: Gauge::default(),
            journal_append: seconds(),
            journal_commit: seconds(),
            journal_bytes: Gauge::default(),
            journal_disk_bytes: Gauge::default(),
            journal_events: Gauge::default(),
            journal_evicted: Family::default(),
            journal_refused: Family::default(),
            dead_evicted: Counter::default(),
            journal_writable: Gauge::default(),
            filling_events: Family::default(),
            deliveries: OutcomeCounters::default(),
            left_out: Family::default(),
            fields_dropped: Family::default(),
            mapping_failures: Family::default(),
            poisoned: Family::default(),
            delivery_attempts: Family::default(),
            identity_holds: Family::default(),
            delivery_seconds: Family::new_with_constructor(seconds),
            pending_events: Family::default(),
            held_events: Family::default(),
            ledger_events: Family::default(),
            pending_oldest_seconds: Family::default(),
            destination_up: Family::default(),
            destination_paused: Family::default(),
            certificate_expires: Family::default(),
            profile_lookups: Family::default(),
            profile_source_lookups: Family::default(),
            events_unenriched: Counter::default(),
            profiles_evicted: Counter::default(),
            profile_refused: Family::default(),
            projection_lag_events: Family::default(),
            script_requests: Family::default(),
            script_changes: Family::default(),
            scripts_pending: Family::default(),
            integration_errors: Family::default(),
            pages_left_alone: Family::default(),
            segment_members: Family::default(),
            segment_runs: Family::default(),
            segment_run_timestamp_seconds: Family::default(),
            segment_names_uncounted: Family::default(),
            segment_synced_members: Family::default(),
            segment_abandoned_members: Family::default(),
            segment_synced_timestamp_seconds: Family::default(),
            segment_sync_changes: Family::default(),
            alerts_firing: Family::default(),
            alert_notifications: Family::default(),
            config_reload_success: Gauge::default(),
        };
        metrics.catalogue_requests();
        metrics.catalogue_journal();
        metrics.catalogue_delivery();
        metrics.catalogue_profiles();
        metrics.catalogue_pages();
        metrics.catalogue_segments();
        metrics.catalogue_alerts();
        metrics
    }

    /// All metrics, in the order of their subjects.
    pub fn reference(&self) -> &[MetricEntry] {
        self.catalogue.entries()
    }

    /// The exposition in the OpenMetrics text format, which Prometheus reads as well.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail.
        if text::encode(&mut out, self.catalogue.registry()).is_err() {
            out.clear();
        }
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_exposes_the_contracts_names() {
        let metrics = Metrics::new();
        metrics
            .requests
            .get_or_create(&RequestLabels { site: "s".into(), route: "e", code: 204 })
            .inc();
        let text = metrics.render();
        assert!(
            text.contains("tagway_requests_total{site=\"s\",route=\"e\",code=\"204\"} 1"),
            "{text}"
        );
        assert!(text.contains("tagway_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let distinct: std::collections::BTreeSet<&str> = types.iter().copied().collect();
        assert_eq!(distinct.len(), types.len(), "a metric is registered twice");
    }

    #[test]
    fn reference_has_each_metric_with_its_labels() {
        let metrics = Metrics::new();
        let reference = metrics.reference();
        let of = |name: &str| reference.iter().find(|entry| entry.name == name).unwrap();
        let requests = of("tagway_requests_total");
        assert_eq!(
            (requests.kind, &*requests.labels),
            ("counter", &["site", "route", "code"].map(str::to_owned)[..])
        );
        assert_eq!(
            (of("tagway_connections").kind, of("tagway_connections").labels.len()),
            ("gauge", 0)
        );
        assert_eq!(of("tagway_build_info").kind, "info");
        assert!(reference.iter().all(|entry| entry.help.ends_with('.')));
    }
}

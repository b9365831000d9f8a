//! Every metric name, type and label, in one place.
//!
//! Names follow Prometheus: prefix `tagway_`, base units, counters end in `_total`. Labels come
//! from closed sets: configuration names, routes, and codes from the source.

mod labels;

pub use labels::{
    AttemptLabels, DestinationLabels, DropLabels, FormatLabels, IntegrationLabels, OutcomeLabels,
    PageLabels, PoisonLabels, PolicyLabels, ProofLabels, RankLabels, ReasonLabels, RequestLabels,
    ResultLabels, RouteLabels, ScriptLabels, SegmentLabels, SegmentRunLabels, SiteLabels,
    SourceLabels, SyncChangeLabels, SyncLabels, VendorLabels,
};

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// A text label. Shared, so that counting a request does not copy names.
pub type Name = std::sync::Arc<str>;

/// Seconds from 50 us to 13 s, each bucket twice the last: request and append times.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

/// All metrics of one gateway. Cheap to share: every metric is a handle.
pub struct Metrics {
    registry: Registry,
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// From the request's head to its answer's head.
    pub request_duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Events durably accepted.
    pub events_accepted: Family<FormatLabels, Counter>,
    /// Events refused or dropped before the journal.
    pub events_dropped: Family<DropLabels, Counter>,
    /// Events answered as accepted because the same message id was accepted before.
    pub events_duplicate: Family<SiteLabels, Counter>,
    /// Login proofs in messages of browsers, by what they proved.
    pub login_proofs: Family<ProofLabels, Counter>,
    /// Requests refused by a rate limit.
    pub rate_limited: Family<PolicyLabels, Counter>,
    /// Connections open.
    pub connections: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections closed by the gateway before their time.
    pub connections_refused: Family<ReasonLabels, Counter>,
    /// Requests under way.
    pub requests_in_flight: Gauge,
    /// From an append's start to its durability.
    pub journal_append: Histogram,
    /// One group's write and sync.
    pub journal_commit: Histogram,
    /// Bytes of the database in use.
    pub journal_bytes: Gauge<u64, AtomicU64>,
    /// Bytes of the database's files.
    pub journal_disk_bytes: Gauge<u64, AtomicU64>,
    /// Events held.
    pub journal_events: Gauge<u64, AtomicU64>,
    /// Unsettled events that `journal.max_bytes` forced out.
    pub journal_evicted: Family<RankLabels, Counter>,
    /// Events refused because the journal was full.
    pub journal_refused: Family<RankLabels, Counter>,
    /// Dead letters that `journal.max_bytes` forced out.
    pub dead_evicted: Counter,
    /// 1 while the journal can be written.
    pub journal_writable: Gauge,
    /// Events of the journal still to be looked at for counters that are new.
    pub filling_events: Family<SiteLabels, Gauge>,
    /// Events ended at a destination.
    pub deliveries: Family<OutcomeLabels, Counter>,
    /// Values that a destination's mapping left out, by the setting whose bound they met.
    pub left_out: Family<AttemptLabels, Counter>,
    /// What was set aside since it was under way at three aborted starts in a row.
    pub poisoned: Family<PoisonLabels, Counter>,
    /// Calls to a vendor.
    pub delivery_attempts: Family<AttemptLabels, Counter>,
    /// Events that had waited for who their visitor is: `known`, `expired`, or `crowded` out.
    pub identity_holds: Family<AttemptLabels, Counter>,
    /// One call to a vendor.
    pub delivery_seconds: Family<DestinationLabels, Histogram, fn() -> Histogram>,
    /// Events not ended yet.
    pub pending_events: Family<DestinationLabels, Gauge>,
    /// Age of the oldest event not ended yet.
    pub pending_oldest_seconds: Family<DestinationLabels, Gauge<f64, AtomicU64>>,
    /// 1 while the destination delivers, 0 while it is paused or its breaker is open.
    pub destination_up: Family<DestinationLabels, Gauge>,
    /// Profile lookups by cache result.
    pub profile_lookups: Family<ResultLabels, Counter>,
    /// People looked up at sites' sources of traits.
    pub profile_source_lookups: Family<SourceLabels, Counter>,
    /// Events that were delivered without what is known of their visitors.
    pub events_unenriched: Counter,
    /// Profiles that claims alone made and that were too many.
    pub profiles_evicted: Counter,
    /// Traits and identities that a full profile did not take.
    pub profile_refused: Family<ReasonLabels, Counter>,
    /// Events the profile projection has yet to see.
    pub projection_lag_events: Family<SiteLabels, Gauge>,
    /// Scripts asked for.
    pub script_requests: Family<ScriptLabels, Counter>,
    /// New versions of pinned scripts.
    pub script_changes: Family<VendorLabels, Counter>,
    /// Pinned scripts of which a new version waits to be approved.
    pub scripts_pending: Family<VendorLabels, Gauge>,
    /// Failures of a site's integrations that its pages told of.
    pub integration_errors: Family<IntegrationLabels, Counter>,
    /// Pages of an origin that did not get the gateway's script, by the reason.
    pub pages_left_alone: Family<PageLabels, Counter>,
    /// Members of a segment, as of its last run.
    pub segment_members: Family<SegmentLabels, Gauge<u64, AtomicU64>>,
    /// Runs of segments.
    pub segment_runs: Family<SegmentRunLabels, Counter>,
    /// When a segment's last run began, in seconds since 1970.
    pub segment_run_timestamp_seconds: Family<SegmentLabels, Gauge<u64, AtomicU64>>,
    /// Names of events that its rule asks for and under which nothing was counted.
    pub segment_names_uncounted: Family<SegmentLabels, Gauge<u64, AtomicU64>>,
    /// Members of a segment that a destination was surely told of.
    pub segment_synced_members: Family<SyncLabels, Gauge<u64, AtomicU64>>,
    /// People of whom a destination was told that is no more.
    pub segment_abandoned_members: Family<SyncLabels, Gauge<u64, AtomicU64>>,
    /// When the run of a segment began that a destination has heard of, in seconds since 1970.
    pub segment_synced_timestamp_seconds: Family<SyncLabels, Gauge<u64, AtomicU64>>,
    /// Changes of members that destinations were told of.
    pub segment_sync_changes: Family<SyncChangeLabels, Counter>,
    /// 1 if the last reload of the configuration succeeded.
    pub config_reload_success: Gauge,
}

impl Metrics {
    /// A fresh set, all at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tagway"),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(seconds),
            events_accepted: Family::default(),
            events_dropped: Family::default(),
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
            deliveries: Family::default(),
            left_out: Family::default(),
            poisoned: Family::default(),
            delivery_attempts: Family::default(),
            identity_holds: Family::default(),
            delivery_seconds: Family::new_with_constructor(seconds),
            pending_events: Family::default(),
            pending_oldest_seconds: Family::default(),
            destination_up: Family::default(),
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
            config_reload_success: Gauge::default(),
        };
        metrics.register();
        metrics.register_profiles();
        metrics.register_others();
        metrics
    }

    fn register_profiles(&mut self) {
        let r = &mut self.registry;
        r.register("login_proofs", "Login proofs checked", self.login_proofs.clone());
        r.register("profile_lookups", "Profile lookups", self.profile_lookups.clone());
        r.register(
            "profile_source_lookups",
            "People looked up at a site's source of traits",
            self.profile_source_lookups.clone(),
        );
        r.register("events_unenriched", "Delivered unenriched", self.events_unenriched.clone());
        r.register("profile_refused", "Said of full profiles", self.profile_refused.clone());
        r.register(
            "profiles_evicted",
            "Profiles that claims alone made, removed because there were too many",
            self.profiles_evicted.clone(),
        );
        r.register(
            "segment_names_uncounted",
            "Names of events in the rule under which nothing was counted",
            self.segment_names_uncounted.clone(),
        );
        r.register(
            "projection_lag_events",
            "Events the profiles have yet to see",
            self.projection_lag_events.clone(),
        );
    }

    // The names of the outside contract. prometheus-client appends `_total` to counters.
    fn register(&mut self) {
        let r = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "What is running", build);
        r.register("requests", "Requests answered", self.requests.clone());
        r.register(
            "request_duration_seconds",
            "From a request's head to its answer's head",
            self.request_duration.clone(),
        );
        r.register("events_accepted", "Events durably accepted", self.events_accepted.clone());
        r.register("events_dropped", "Events refused", self.events_dropped.clone());
        r.register("events_duplicate", "Events accepted before", self.events_duplicate.clone());
        r.register("rate_limited", "Requests over a rate limit", self.rate_limited.clone());
        r.register("connections", "Connections open", self.connections.clone());
        r.register(
            "connections_accepted",
            "Connections accepted",
            self.connections_accepted.clone(),
        );
        r.register("connections_refused", "Connections cut", self.connections_refused.clone());
        r.register("requests_in_flight", "Requests under way", self.requests_in_flight.clone());
        r.register("journal_append_seconds", "Append to durable", self.journal_append.clone());
        r.register("journal_commit_seconds", "One group commit", self.journal_commit.clone());
        r.register("journal_bytes", "Bytes in use", self.journal_bytes.clone());
        r.register("journal_disk_bytes", "Bytes of the files", self.journal_disk_bytes.clone());
        r.register("journal_events", "Events held", self.journal_events.clone());
        r.register("journal_evicted", "Unsettled events forced out", self.journal_evicted.clone());
        r.register("journal_refused", "Events refused, journal full", self.journal_refused.clone());
        r.register("dead_evicted", "Dead letters forced out", self.dead_evicted.clone());
        r.register("journal_writable", "1 while writable", self.journal_writable.clone());
        r.register("deliveries", "Events ended at a destination", self.deliveries.clone());
        r.register("mapping_values_left_out", "Values that met a bound", self.left_out.clone());
        r.register("poisoned", "Records and segments set aside", self.poisoned.clone());
        r.register("delivery_attempts", "Calls to a vendor", self.delivery_attempts.clone());
        r.register("delivery_seconds", "One call to a vendor", self.delivery_seconds.clone());
        r.register("pending_events", "Events not ended yet", self.pending_events.clone());
        r.register(
            "pending_oldest_seconds",
            "Age of the oldest event not ended yet",
            self.pending_oldest_seconds.clone(),
        );
        r.register("destination_up", "0 while paused or broken", self.destination_up.clone());
        r.register("script_requests", "Scripts asked for", self.script_requests.clone());
        r.register("script_changes", "New versions of pinned", self.script_changes.clone());
        r.register("scripts_pending", "Pinned, and changed", self.scripts_pending.clone());
        r.register(
            "integration_errors",
            "Failures of integrations that pages told of",
            self.integration_errors.clone(),
        );
        r.register("segment_members", "Members as of the last run", self.segment_members.clone());
        r.register("segment_runs", "Runs of segments", self.segment_runs.clone());
        r.register(
            "segment_run_timestamp_seconds",
            "When the last run began",
            self.segment_run_timestamp_seconds.clone(),
        );
        r.register(
            "segment_synced_members",
            "Members that a destination was told of",
            self.segment_synced_members.clone(),
        );
        r.register(
            "segment_abandoned_members",
            "People of whom a destination was told that is no more",
            self.segment_abandoned_members.clone(),
        );
        r.register(
            "segment_synced_timestamp_seconds",
            "When the run began that a destination has heard of",
            self.segment_synced_timestamp_seconds.clone(),
        );
        r.register(
            "segment_sync_changes",
            "Changes of members that destinations were told of",
            self.segment_sync_changes.clone(),
        );
    }

    fn register_others(&mut self) {
        let r = &mut self.registry;
        r.register(
            "config_reload_success",
            "1 if the last reload succeeded",
            self.config_reload_success.clone(),
        );
        r.register(
            "filling_events",
            "Events still to be looked at for new counters",
            self.filling_events.clone(),
        );
        r.register(
            "identity_holds",
            "Events that had waited for who their visitor is",
            self.identity_holds.clone(),
        );
        r.register(
            "pages_left_alone",
            "Pages of an origin that did not get the gateway's script",
            self.pages_left_alone.clone(),
        );
    }

    /// The exposition in the OpenMetrics text format, which Prometheus reads as well.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail.
        if text::encode(&mut out, &self.registry).is_err() {
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
    fn the_contracts_names_are_exposed() {
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
}

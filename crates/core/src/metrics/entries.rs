//! Every metric's name and meaning.

use prometheus_client::metrics::info::Info;

use super::Metrics;

impl Metrics {
    // The names of the outside contract. prometheus-client appends `_total` to counters.
    pub(super) fn catalogue_requests(&mut self) {
        let c = &mut self.catalogue;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        c.add("build", "The version that is running.", build);
        c.family(
            "requests",
            "HTTP requests answered, by site, route and status code.",
            &self.requests,
        );
        c.family(
            "request_duration_seconds",
            "Time from a request's head to its response's head, by route.",
            &self.request_duration,
        );
        c.family(
            "events_accepted",
            "Events stored in the journal, by the wire format in which they arrived.",
            &self.events_accepted,
        );
        c.family(
            "events_dropped",
            "Events rejected or dropped before the journal, by reason.",
            &self.events_dropped,
        );
        c.family(
            "values_unread",
            "JSON members of events left out: `wrong_type` or `unreadable_time`; the events are accepted.",
            &self.values_unread,
        );
        c.family(
            "events_duplicate",
            "Events with a message id that was accepted before: answered as accepted, not stored again.",
            &self.events_duplicate,
        );
        c.family(
            "rate_limited",
            "Requests refused by a rate limit, by quota: `client`, `network`, `person`, `site` (requests), `*_events`, `*_bytes`, `unproven`.",
            &self.rate_limited,
        );
        c.family(
            "login_proofs",
            "Login proofs in requests, by result: `valid`, `invalid` or `expired`.",
            &self.login_proofs,
        );
        c.add("connections", "Open connections.", self.connections.clone());
        c.add("connections_accepted", "Connections accepted.", self.connections_accepted.clone());
        c.family(
            "connections_refused",
            "Connections refused or cut, by the exceeded setting, such as `header_time`, or the failure.",
            &self.connections_refused,
        );
        c.add("requests_in_flight", "Requests in progress.", self.requests_in_flight.clone());
        c.family(
            "certificate_expires_timestamp_seconds",
            "Expiry time of a certificate, in seconds since 1970. Alert some days before it.",
            &self.certificate_expires,
        );
        c.add(
            "config_reload_success",
            "1 if the last configuration reload succeeded, 0 if it failed and the previous settings stay.",
            self.config_reload_success.clone(),
        );
    }

    pub(super) fn catalogue_journal(&mut self) {
        let c = &mut self.catalogue;
        c.add(
            "journal_append_seconds",
            "Time of an append, from its start until its events are durable.",
            self.journal_append.clone(),
        );
        c.add(
            "journal_commit_seconds",
            "Time to write and sync one group of events.",
            self.journal_commit.clone(),
        );
        c.add(
            "journal_bytes",
            "Bytes of the database in use, profiles included.",
            self.journal_bytes.clone(),
        );
        c.add(
            "journal_disk_bytes",
            "Size of the database's files in bytes, the write-ahead log included.",
            self.journal_disk_bytes.clone(),
        );
        c.add("journal_events", "Events in the journal.", self.journal_events.clone());
        c.family(
            "journal_evicted",
            "Deliveries lost because a full journal evicted unsettled events, by rank: raise `journal.max_bytes`.",
            &self.journal_evicted,
        );
        c.family(
            "journal_refused",
            "Events answered with 503 because the journal was full, by rank: `claimed`, `proven` or `server`.",
            &self.journal_refused,
        );
        c.add(
            "dead_evicted",
            "Dead letters evicted by `journal.max_bytes` before `journal.retain_dead` was over.",
            self.dead_evicted.clone(),
        );
        c.add(
            "journal_writable",
            "1 while the journal can be written; at 0 no events are accepted.",
            self.journal_writable.clone(),
        );
    }

    pub(super) fn catalogue_delivery(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "ledger_events",
            "Events of a destination by state, read at one moment: `accepted` is the sum of the other columns.",
            &self.ledger_events,
        );
        c.family(
            "deliveries",
            "Events settled at a destination since the start of the process, by outcome and reason.",
            self.deliveries.family(),
        );
        c.family(
            "delivery_attempts",
            "Calls to a vendor, by the status class of the reply or the kind of failure.",
            &self.delivery_attempts,
        );
        c.family("delivery_seconds", "Duration of one call to a vendor.", &self.delivery_seconds);
        c.family(
            "pending_events",
            "Events that a destination has neither settled nor held: its backlog.",
            &self.pending_events,
        );
        c.family(
            "pending_oldest_seconds",
            "Age of the oldest pending event: the destination's delay.",
            &self.pending_oldest_seconds,
        );
        c.family(
            "held_events",
            "Events that wait for the visitor's consent choice or identity; they do not count as backlog.",
            &self.held_events,
        );
        c.family(
            "destination_up",
            "1 while the destination is called; 0 while paused, with an open breaker or with refused credentials.",
            &self.destination_up,
        );
        c.family(
            "destination_paused",
            "1 while the configuration or an operator pauses the destination.",
            &self.destination_paused,
        );
        c.family(
            "mapping_values_left_out",
            "Values that a destination's mapping left out above a limit; `result` is the limit's setting.",
            &self.left_out,
        );
        c.family(
            "mapping_failures",
            "Conditions and templates of a destination's mapping that failed for an event, by rule.",
            &self.mapping_failures,
        );
        c.family(
            "fields_dropped",
            "Fields of events that a destination did not send, by reason.",
            &self.fields_dropped,
        );
        c.family(
            "identity_hold_results",
            "Events that waited for an identity: `known`, `expired`, or `crowded` (above `retry.parked_max`).",
            &self.identity_holds,
        );
        c.family(
            "identity_holds",
            "Former name of `tagway_identity_hold_results_total`; the next release removes it.",
            &self.identity_holds,
        );
        c.family(
            "poisoned",
            "Events and segments set aside after repeated crashes while they were processed: report them.",
            &self.poisoned,
        );
    }

    pub(super) fn catalogue_profiles(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "profile_lookups",
            "Profile lookups: `hit` in memory or `miss`; failed reads of the store count as `timeout` or `error`.",
            &self.profile_lookups,
        );
        c.family(
            "profile_source_lookups",
            "Lookups of people's traits at their source: `hit`, `miss`, `refresh` (early), `refused`, `timeout`, `error`.",
            &self.profile_source_lookups,
        );
        c.add(
            "events_unenriched",
            "Events delivered without profile data because the profile store or the trait source did not answer.",
            self.events_unenriched.clone(),
        );
        c.family(
            "profile_refused",
            "Values not stored because a limit of `[profiles]` was reached: `traits`, `identities`, `event_names`.",
            &self.profile_refused,
        );
        c.add(
            "profiles_evicted",
            "Profiles without data of a server or proven visitor, removed above `profiles.claimed_max`.",
            self.profiles_evicted.clone(),
        );
        c.family(
            "projection_lag_events",
            "Events not yet applied to the profiles; deliveries wait for them.",
            &self.projection_lag_events,
        );
        c.family(
            "counter_backfill_pending_events",
            "Journal events that are not yet read for a new rule's counters.",
            &self.filling_events,
        );
        c.family(
            "filling_events",
            "Former name of `tagway_counter_backfill_pending_events`; the next release removes it.",
            &self.filling_events,
        );
    }

    pub(super) fn catalogue_pages(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "script_requests",
            "Requests for scripts: `served`, `shim`, `unchanged`; of vendors `hit`, `stale`, `miss`, `error`, `unapproved`, `absent` (404 there).",
            &self.script_requests,
        );
        c.family(
            "script_changes",
            "New versions of pinned scripts that vendors published.",
            &self.script_changes,
        );
        c.family(
            "scripts_pending",
            "Pinned scripts with a newer version that waits for `tagway scripts approve`.",
            &self.scripts_pending,
        );
        c.family(
            "integration_errors",
            "Failures of a site's integrations, as reported by its pages.",
            &self.integration_errors,
        );
        c.family(
            "pages_left_alone",
            "Pages in which the gateway's script is missing or blocked, by reason; see `tagway check-page`.",
            &self.pages_left_alone,
        );
    }

    pub(super) fn catalogue_segments(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "segment_members",
            "Members of a segment after its last run.",
            &self.segment_members,
        );
        c.family(
            "segment_runs",
            "Segment runs: `ok`, `slow` (above `segments.evaluation_timeout`) or `failed`.",
            &self.segment_runs,
        );
        c.family(
            "segment_run_timestamp_seconds",
            "Start time of a segment's last run, in seconds since 1970.",
            &self.segment_run_timestamp_seconds,
        );
        c.family(
            "segment_names_uncounted",
            "Event names in a segment's rule that no event has had yet: check their spelling.",
            &self.segment_names_uncounted,
        );
        c.family(
            "segment_synced_members",
            "Members of a segment that were synced to a destination.",
            &self.segment_synced_members,
        );
        c.family(
            "segment_orphaned_members",
            "Members still in a removed destination's list; `tagway segments forget` deletes their record.",
            &self.segment_abandoned_members,
        );
        c.family(
            "segment_abandoned_members",
            "Former name of `tagway_segment_orphaned_members`; the next release removes it.",
            &self.segment_abandoned_members,
        );
        c.family(
            "segment_synced_timestamp_seconds",
            "Start time of the last run that was fully synced to the destination, in seconds since 1970.",
            &self.segment_synced_timestamp_seconds,
        );
        c.family(
            "segment_sync_changes",
            "Membership changes of a sync: `added`, `removed`, or not made: `left_out`, `not_removed`.",
            &self.segment_sync_changes,
        );
    }

    pub(super) fn catalogue_alerts(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "alerts_firing",
            "Alerts of the gateway's own rules that fire now, by severity: `page` or `ticket`.",
            &self.alerts_firing,
        );
        c.family(
            "alert_notifications",
            "Attempts to notify a channel of alerts, by result: `sent`, `retried` or `failed`.",
            &self.alert_notifications,
        );
    }
}

//! Every metric's name and meaning.

use prometheus_client::metrics::info::Info;

use super::Metrics;

impl Metrics {
    // The names of the outside contract. prometheus-client appends `_total` to counters.
    pub(super) fn catalogue_requests(&mut self) {
        let c = &mut self.catalogue;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        c.add("build", "The version that is running.", build);
        c.family("requests", "Requests answered.", &self.requests);
        c.family(
            "request_duration_seconds",
            "From a request's head to its answer's head.",
            &self.request_duration,
        );
        c.family(
            "events_accepted",
            "Events durably accepted, by the wire format they came in.",
            &self.events_accepted,
        );
        c.family(
            "events_dropped",
            "Events refused or dropped before the journal, by reason.",
            &self.events_dropped,
        );
        c.family(
            "values_unread",
            "Members of accepted events left out because they could not be read, by reason.",
            &self.values_unread,
        );
        c.family(
            "events_duplicate",
            "Events answered as accepted whose message id was accepted before; they are not taken twice.",
            &self.events_duplicate,
        );
        c.family(
            "rate_limited",
            "Requests refused by a rate limit, by the quota that was used up.",
            &self.rate_limited,
        );
        c.family(
            "login_proofs",
            "Login proofs that browsers brought, by what they proved.",
            &self.login_proofs,
        );
        c.add("connections", "Connections open.", self.connections.clone());
        c.add("connections_accepted", "Connections accepted.", self.connections_accepted.clone());
        c.family(
            "connections_refused",
            "Connections that the gateway closed before their time, by reason.",
            &self.connections_refused,
        );
        c.add("requests_in_flight", "Requests under way.", self.requests_in_flight.clone());
        c.family(
            "certificate_expires_timestamp_seconds",
            "When a certificate expires, in seconds since 1970. Alert on it some days ahead.",
            &self.certificate_expires,
        );
        c.add(
            "config_reload_success",
            "1 if the last reload of the configuration succeeded, 0 if the settings before it stayed.",
            self.config_reload_success.clone(),
        );
    }

    pub(super) fn catalogue_journal(&mut self) {
        let c = &mut self.catalogue;
        c.add(
            "journal_append_seconds",
            "From the start of an append to its durability.",
            self.journal_append.clone(),
        );
        c.add("journal_commit_seconds", "One group's write and sync.", self.journal_commit.clone());
        c.add(
            "journal_bytes",
            "Bytes of the database in use, profiles included.",
            self.journal_bytes.clone(),
        );
        c.add(
            "journal_disk_bytes",
            "Bytes of the database's files, the write-ahead log included.",
            self.journal_disk_bytes.clone(),
        );
        c.add("journal_events", "Events held.", self.journal_events.clone());
        c.family(
            "journal_evicted",
            "Deliveries that will not happen, since `journal.max_bytes` forced out their unsettled events.",
            &self.journal_evicted,
        );
        c.family(
            "journal_refused",
            "Events answered 503 because the journal was full.",
            &self.journal_refused,
        );
        c.add(
            "dead_evicted",
            "Dead letters that `journal.max_bytes` forced out before anybody looked at them.",
            self.dead_evicted.clone(),
        );
        c.add(
            "journal_writable",
            "1 while the journal can be written. At 0 nothing is accepted.",
            self.journal_writable.clone(),
        );
    }

    pub(super) fn catalogue_delivery(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "ledger_events",
            "The account of a destination, all of one moment: in each scrape `accepted` is the sum of the other columns.",
            &self.ledger_events,
        );
        c.family(
            "deliveries",
            "Events that ended at a destination, by outcome and reason, since the start of the process.",
            &self.deliveries,
        );
        c.family(
            "delivery_attempts",
            "Calls to a vendor, by the class of their replies.",
            &self.delivery_attempts,
        );
        c.family("delivery_seconds", "One call to a vendor.", &self.delivery_seconds);
        c.family(
            "pending_events",
            "Events that have not ended at a destination and are not held: its backlog.",
            &self.pending_events,
        );
        c.family(
            "pending_oldest_seconds",
            "The age of the oldest pending event: how far the destination is behind.",
            &self.pending_oldest_seconds,
        );
        c.family(
            "held_events",
            "Events that wait for their visitor, for a choice of consent or to become known; they are no backlog.",
            &self.held_events,
        );
        c.family(
            "destination_up",
            "1 while the destination is called, 0 while it is paused, its breaker is open or it refuses the credentials.",
            &self.destination_up,
        );
        c.family(
            "destination_paused",
            "1 while the destination is paused by the configuration or by an operator.",
            &self.destination_paused,
        );
        c.family(
            "mapping_values_left_out",
            "Values that a destination's mapping left out, by the setting whose bound they met.",
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
            "Events that had waited for who their visitor is, by how the wait ended: `known`, `expired` or `crowded`.",
            &self.identity_holds,
        );
        c.family(
            "identity_holds",
            "Former name of `tagway_identity_hold_results_total`, which the next release has alone.",
            &self.identity_holds,
        );
        c.family(
            "poisoned",
            "Records and segments set aside since the process died over them again and again.",
            &self.poisoned,
        );
    }

    pub(super) fn catalogue_profiles(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "profile_lookups",
            "Profile lookups, by whether memory had the profile.",
            &self.profile_lookups,
        );
        c.family(
            "profile_source_lookups",
            "People looked up at a site's source of traits, by result.",
            &self.profile_source_lookups,
        );
        c.add(
            "events_unenriched",
            "Events delivered without what is known of their visitors, since the store was too slow.",
            self.events_unenriched.clone(),
        );
        c.family(
            "profile_refused",
            "Traits and identities that a full profile did not take, by the bound that was met.",
            &self.profile_refused,
        );
        c.add(
            "profiles_evicted",
            "Profiles that claims alone made, removed because there were too many.",
            self.profiles_evicted.clone(),
        );
        c.family(
            "projection_lag_events",
            "Events that the profiles have yet to see; deliveries wait for them.",
            &self.projection_lag_events,
        );
        c.family(
            "counter_backfill_pending_events",
            "Events of the journal still to be looked at for counters of a new rule.",
            &self.filling_events,
        );
        c.family(
            "filling_events",
            "Former name of `tagway_counter_backfill_pending_events`, which the next release has alone.",
            &self.filling_events,
        );
    }

    pub(super) fn catalogue_pages(&mut self) {
        let c = &mut self.catalogue;
        c.family("script_requests", "Browser scripts asked for, by result.", &self.script_requests);
        c.family(
            "script_changes",
            "New versions of pinned scripts that vendors published.",
            &self.script_changes,
        );
        c.family(
            "scripts_pending",
            "Pinned scripts of which a newer version waits to be approved.",
            &self.scripts_pending,
        );
        c.family(
            "integration_errors",
            "Failures of a site's integrations that its pages reported.",
            &self.integration_errors,
        );
        c.family(
            "pages_left_alone",
            "Pages of an origin that did not get the gateway's script, by reason.",
            &self.pages_left_alone,
        );
    }

    pub(super) fn catalogue_segments(&mut self) {
        let c = &mut self.catalogue;
        c.family(
            "segment_members",
            "Members of a segment as of its last run.",
            &self.segment_members,
        );
        c.family("segment_runs", "Runs of segments, by result.", &self.segment_runs);
        c.family(
            "segment_run_timestamp_seconds",
            "When the last run of a segment began, in seconds since 1970.",
            &self.segment_run_timestamp_seconds,
        );
        c.family(
            "segment_names_uncounted",
            "Names of events in the rule under which nothing was ever counted: perhaps misspelt.",
            &self.segment_names_uncounted,
        );
        c.family(
            "segment_synced_members",
            "Members of a segment that a destination has.",
            &self.segment_synced_members,
        );
        c.family(
            "segment_orphaned_members",
            "Members that a destination still has although it was removed from the configuration.",
            &self.segment_abandoned_members,
        );
        c.family(
            "segment_abandoned_members",
            "Former name of `tagway_segment_orphaned_members`, which the next release has alone.",
            &self.segment_abandoned_members,
        );
        c.family(
            "segment_synced_timestamp_seconds",
            "When the run began whose members a destination has, in seconds since 1970.",
            &self.segment_synced_timestamp_seconds,
        );
        c.family(
            "segment_sync_changes",
            "Changes of members sent to a destination, by result.",
            &self.segment_sync_changes,
        );
    }
}

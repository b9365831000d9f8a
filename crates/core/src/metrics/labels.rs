//! The label sets of the metrics. Values come from closed sets: configuration names, routes, and codes
//! from the source.

use prometheus_client::encoding::EncodeLabelSet;

use super::SharedName;

/// `site, route, code` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The site's name, or empty when no site matched.
    pub site: SharedName,
    /// The route's name.
    pub route: &'static str,
    /// The status code.
    pub code: u16,
}

/// The label `route`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's name.
    pub route: &'static str,
}

/// The label `site`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SiteLabels {
    /// The site's name.
    pub site: SharedName,
}

/// `site, format`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FormatLabels {
    /// The site's name.
    pub site: SharedName,
    /// The beacon's wire format.
    pub format: &'static str,
}

/// `site, reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventDropLabels {
    /// The site's name.
    pub site: SharedName,
    /// The reason's code.
    pub reason: &'static str,
}

/// `site, reason` of a page that was passed on unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PageSkipLabels {
    /// The site's name.
    pub site: SharedName,
    /// The reason's code.
    pub reason: &'static str,
}

/// `site, result`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoginProofLabels {
    /// The site's name.
    pub site: SharedName,
    /// `valid`, `invalid` or `expired`.
    pub result: &'static str,
}

/// The label `reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// The reason's code.
    pub reason: &'static str,
}

/// `rank` of the sender of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SenderRankLabels {
    /// `claimed`, `proven` or `server`.
    pub rank: &'static str,
}

/// `site, policy` of a rate limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RateLimitLabels {
    /// The site's name.
    pub site: SharedName,
    /// The exhausted quota.
    pub policy: &'static str,
}

/// `site, destination`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DestinationLabels {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
}

/// `site, destination, reason` of a field that a destination drops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FieldDropLabels {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// The reason's code.
    pub reason: &'static str,
}

/// `site, destination, column` of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LedgerLabels {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// `accepted`, which is the sum of the others: `delivered`, `skipped`, `dead`, `pending`, `held`.
    pub column: &'static str,
}

/// `name` of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// The first host name of the certificate; empty if it has none.
    pub name: SharedName,
}

/// `site, destination, outcome, reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// `delivered`, `skipped` or `dead`.
    pub outcome: &'static str,
    /// The reason's code, empty for delivered.
    pub reason: &'static str,
}

/// `site, reader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoisonLabels {
    /// The site's name.
    pub site: SharedName,
    /// `delivery`, `profiles`, `counters` or `segment`.
    pub reader: &'static str,
}

/// `site, destination, result`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptLabels {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// The status class (`2xx`, ...) or the kind of failure.
    pub result: &'static str,
}

/// `site, destination, rule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MappingRuleLabels {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// The rule's position in the mapping: `rules[0]`.
    pub rule: String,
}

/// `severity` of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AlertSeverityLabels {
    /// `page` or `ticket`.
    pub severity: &'static str,
}

/// `channel, result` of a notification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AlertChannelLabels {
    /// The channel's name in the configuration.
    pub channel: SharedName,
    /// `sent`, `retried` or `failed`.
    pub result: &'static str,
}

/// The label `result` of a profile lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// `hit` or `miss`.
    pub result: &'static str,
}

/// `site, result` of a lookup of a person at a site's trait source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraitSourceLabels {
    /// The site's name.
    pub site: SharedName,
    /// `hit` or `miss` for each lookup in memory. `refresh` for an early renewal. `refused`, `timeout` or
    /// `error` for a call without an answer.
    pub result: &'static str,
}

/// `site, integration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IntegrationLabels {
    /// The site's name.
    pub site: SharedName,
    /// The integration's name.
    pub integration: SharedName,
}

/// `site, segment`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SegmentLabels {
    /// The site's name.
    pub site: SharedName,
    /// The segment's name.
    pub segment: SharedName,
}

/// `site, segment, result` of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SegmentRunLabels {
    /// The site's name.
    pub site: SharedName,
    /// The segment's name.
    pub segment: SharedName,
    /// `ok`, `slow` if the rule exceeded `segments.evaluation_timeout`, or `failed`.
    pub result: &'static str,
}

/// `site, segment, destination`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SegmentSyncLabels {
    /// The site's name.
    pub site: SharedName,
    /// The segment's name.
    pub segment: SharedName,
    /// The destination's name.
    pub destination: SharedName,
}

/// `site, segment, destination, result` of a change of members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SyncChangeLabels {
    /// The site's name.
    pub site: SharedName,
    /// The segment's name.
    pub segment: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// `added`, `removed`, or a change that was not made: `left_out`, `not_removed`.
    pub result: &'static str,
}

/// `vendor, result` of a script's request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ScriptRequestLabels {
    /// The script's owner: a vendor's name, or `tagway`.
    pub vendor: &'static str,
    /// `unchanged` if the browser had the script. Otherwise `served` for Tagway's own script, `shim` for
    /// the replacement of a vendor's script, and for a vendor's script `hit`, `stale`, `miss`, `absent`,
    /// `error`, or `unapproved` if it is pinned and no version is approved.
    pub result: &'static str,
}

/// `site, vendor` of a pinned script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SiteVendorLabels {
    /// The site's name.
    pub site: SharedName,
    /// The vendor's name.
    pub vendor: &'static str,
}

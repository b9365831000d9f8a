//! Routes that show destinations: state, ledger, latency, last failure, credentials, skip reasons and match quality.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::masking::mask_text;
use super::request::{PathParams, QueryParams, optional};
use super::router::{ApiResult, SharedApi};
use super::{AdminContext, AdminRequestError, DestinationSummary};
use tagway_delivery::{DestinationFailure, LatencySummary, MatchQuality};
use tagway_storage::journal::{ReaderAccount, ReaderLedger, ReaderPause};
use tagway_vendors::REASONS;

/// The share of events with a vendor's dedupe key from which no advice is given.
const GOOD_SHARE: f64 = 0.95;

/// The name of a destination.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DestinationSelector {
    /// The site's name.
    site: String,
    /// The destination's name.
    destination: String,
}

/// All destinations.
#[derive(Serialize, ToSchema)]
pub(super) struct DestinationsAnswer {
    rows: Vec<DestinationRow>,
}

/// A destination.
#[derive(Serialize, ToSchema)]
pub(super) struct DestinationRow {
    #[schema(value_type = String)]
    site: Arc<str>,
    #[schema(value_type = String)]
    destination: Arc<str>,
    vendor: &'static str,
    /// The sender of its events: `server` or `both`.
    mode: &'static str,
    /// `running`, `retrying`, `paused` and others.
    state: &'static str,
    /// The reason that it is not running.
    reason: Option<String>,
    /// The operator's pause, if there is one.
    paused: Option<PauseRow>,
    ledger: LedgerCounts,
    /// The receive time of its oldest unsettled event.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// The time from which this vendor refuses that event.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_expires_at: Option<Timestamp>,
    /// The latencies of its latest calls, at most 512; null before the first.
    latency: Option<LatencyRow>,
    last_error: Option<FailureRow>,
    /// `ok`, `refused`, or `unknown` before the first reply.
    credentials: &'static str,
    /// The limits of its calls, if there are any.
    throttle: Option<ThrottleRow>,
    /// The reasons of skipped events since `counted_since`, the most frequent first.
    skip_reasons: Vec<SkipReasonRow>,
    /// The start of the process, or of the destination.
    #[schema(value_type = String, format = DateTime)]
    counted_since: Timestamp,
    /// Events older than this are refused by the vendor or by the settings.
    age_limit_seconds: Option<u64>,
    /// True if the configuration changes or withholds its events.
    mapping: bool,
    /// The categories that visitors must have granted.
    consent: Vec<String>,
    /// The end of a sentence about the vendor: if it recognises a repeated event.
    repeats: &'static str,
}

/// A destination with its settings.
#[derive(Serialize, ToSchema)]
pub(super) struct DestinationAnswer {
    #[serde(flatten)]
    row: DestinationRow,
    /// Its table in the configuration file, secrets as `set`; null if it is not in a file.
    toml: Option<String>,
}

/// An operator's pause. Members are null for a pause of an earlier version.
#[derive(Serialize, ToSchema)]
pub(super) struct PauseRow {
    by: String,
    why: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// The counts of a destination's events at one moment.
#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub(super) struct LedgerCounts {
    /// The sum of the five counts below.
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) skipped: u64,
    pub(super) dead: u64,
    pub(super) pending: u64,
    pub(super) held: u64,
}

/// Latencies of calls, in milliseconds.
#[derive(Serialize, ToSchema)]
pub(super) struct LatencyRow {
    p50_ms: u64,
    p99_ms: u64,
    /// The number of calls.
    count: usize,
}

/// The last failed call, or refused event.
#[derive(Serialize, ToSchema)]
pub(super) struct FailureRow {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The status of the reply; null if there was none.
    status: Option<u16>,
    /// The reply, without secrets; else the particulars of the reason.
    reply: String,
    /// The reason's code.
    reason: &'static str,
    /// The meaning of the reason.
    text: &'static str,
}

/// The limits of calls.
#[derive(Serialize, ToSchema)]
pub(super) struct ThrottleRow {
    /// The limit in the settings, or the vendor's.
    calls_per_second: Option<u32>,
    /// The time until which the vendor asked for no calls.
    #[schema(value_type = Option<String>, format = DateTime)]
    waits_until: Option<Timestamp>,
}

/// The number of events that were skipped for a reason.
#[derive(Serialize, ToSchema)]
pub(super) struct SkipReasonRow {
    /// The reason's code.
    reason: &'static str,
    count: u64,
    /// The meaning of the reason.
    text: &'static str,
}

/// The share of a destination's recent events with each of its vendor's identifiers.
#[derive(Serialize, ToSchema)]
pub(super) struct MatchQualityAnswer {
    /// The days that the sample reaches back at most.
    days: u32,
    /// The number of events in the sample: the newest that the destination gets.
    events: u64,
    /// The same.
    sampled: u64,
    #[schema(value_type = String, format = DateTime)]
    measured_at: Timestamp,
    keys: Vec<MatchKeyRow>,
    dedupe: DedupeRow,
    consent: ConsentRow,
    /// The weighted share of all identifiers, from 0 to 10; null without events.
    score: Option<f64>,
    score_text: &'static str,
}

/// An identifier of a vendor.
#[derive(Serialize, ToSchema)]
pub(super) struct MatchKeyRow {
    key: &'static str,
    label: &'static str,
    /// The share of the events with it, from 0 to 1.
    share: f64,
    /// The number of events with it.
    events: u64,
    /// `high`, `medium` or `low`.
    weight: &'static str,
    /// A sentence that says how more events get it; null if almost all have it.
    raise: Option<String>,
}

/// The share of events that the vendor recognises if a page reports them as well.
#[derive(Serialize, ToSchema)]
pub(super) struct DedupeRow {
    /// From 0 to 1; null if the vendor recognises none, or there are none that it would have to.
    share: Option<f64>,
    raise: Option<String>,
}

/// The visitors' choices about the destination's categories, by event.
#[derive(Serialize, ToSchema)]
pub(super) struct ConsentRow {
    granted: u64,
    denied: u64,
    unknown: u64,
}

impl From<&ReaderPause> for PauseRow {
    fn from(pause: &ReaderPause) -> Self {
        let ReaderPause { by, why, at, until } = pause.clone();
        Self { by, why, at, until }
    }
}

impl From<ReaderLedger> for LedgerCounts {
    fn from(ledger: ReaderLedger) -> Self {
        let ReaderLedger { accepted, delivered, skipped, dead, pending, held } = ledger;
        Self { accepted, delivered, skipped, dead, pending, held }
    }
}

impl From<LatencySummary> for LatencyRow {
    fn from(latency: LatencySummary) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { p50_ms: ms(latency.median), p99_ms: ms(latency.p99), count: latency.calls }
    }
}

impl From<&DestinationFailure> for FailureRow {
    fn from(failure: &DestinationFailure) -> Self {
        let DestinationFailure { at, reason, call } = failure;
        let reply = call.as_ref().map(|call| call.reply.clone()).filter(|reply| !reply.is_empty());
        let detail = || reason.detail.as_deref().unwrap_or_default().to_owned();
        Self {
            at: *at,
            status: call.as_ref().and_then(|call| call.status),
            reply: reply.unwrap_or_else(detail),
            reason: reason.code,
            text: meaning(reason.code),
        }
    }
}

impl DestinationRow {
    fn new(summary: DestinationSummary, account: ReaderAccount) -> Self {
        let DestinationSummary { reader, vendor, mode, pause, activity, .. } = summary;
        let expires = |at: Timestamp| at.checked_add(summary.age_limit?).ok();
        let has_throttle = summary.calls_per_second.is_some() || activity.waits_until.is_some();
        let mut skip_reasons: Vec<SkipReasonRow> = activity
            .skipped
            .iter()
            .map(|(reason, count)| SkipReasonRow { reason, count: *count, text: meaning(reason) })
            .collect();
        skip_reasons.sort_by_key(|row| std::cmp::Reverse(row.count));
        Self {
            site: reader.site,
            destination: reader.destination,
            vendor,
            mode,
            state: reader.state,
            reason: reader.reason,
            paused: pause.as_ref().map(PauseRow::from),
            ledger: account.ledger.into(),
            oldest_pending_at: account.oldest_pending,
            oldest_expires_at: account.oldest_pending.and_then(expires),
            latency: activity.latency.map(LatencyRow::from),
            last_error: activity.last_failure.as_ref().map(FailureRow::from),
            credentials: activity.credentials.name(),
            throttle: has_throttle.then_some(ThrottleRow {
                calls_per_second: summary.calls_per_second,
                waits_until: activity.waits_until,
            }),
            skip_reasons,
            counted_since: activity.since,
            age_limit_seconds: summary.age_limit.map(|limit| limit.as_secs()),
            mapping: summary.has_mapping,
            consent: summary.consent,
            repeats: reader.repeats,
        }
    }
}

impl MatchQualityAnswer {
    fn new(quality: &MatchQuality, repeats: &str) -> Self {
        let keys = quality.keys.iter().map(|it| MatchKeyRow {
            key: it.key.key,
            label: it.key.label,
            share: rounded(it.share),
            events: it.events,
            weight: it.key.weight.name(),
            raise: it.raise.clone(),
        });
        let is_low = quality.deduplicated.is_some_and(|share| share < GOOD_SHARE);
        let raise = is_low.then(|| {
            format!(
                "The vendor {repeats}: send that with every event that the page reports as well"
            )
        });
        let consent = quality.consent;
        Self {
            days: quality.days,
            events: quality.sampled,
            sampled: quality.sampled,
            measured_at: quality.measured_at,
            keys: keys.collect(),
            dedupe: DedupeRow { share: quality.deduplicated.map(rounded), raise },
            consent: ConsentRow {
                granted: consent.granted,
                denied: consent.denied,
                unknown: consent.unknown,
            },
            score: quality.score.map(|score| (score * 10.0).round() / 10.0),
            score_text: score_text(quality.score),
        }
    }
}

/// Rounds a share to four digits: a sample has 2,000 events.
fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

/// Returns the score in words.
fn score_text(score: Option<f64>) -> &'static str {
    match score {
        None => "The destination got no events in the last 7 days",
        Some(7.0..) => "Good: the vendor can match most events",
        Some(4.0..) => "Fair: the vendor misses some people",
        Some(_) => "Poor: the vendor can match few events",
    }
}

/// Returns the meaning of a reason.
fn meaning(code: &str) -> &'static str {
    let found = REASONS.iter().find(|(known, _)| *known == code);
    found.map(|(_, text)| *text).unwrap_or_default()
}

/// The filter of a list of destinations.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DestinationsQuery {
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
}

/// Lists the destinations that the gateway delivers to.
#[utoipa::path(get, path = "/api/v1/destinations", params(DestinationsQuery),
    responses((status = 200, body = DestinationsAnswer)))]
pub(super) async fn list_destinations(
    State(api): State<SharedApi>,
    caller: Caller,
    QueryParams(DestinationsQuery { site }): QueryParams<DestinationsQuery>,
) -> ApiResult<DestinationsAnswer> {
    let mut summaries = api.context.control.destinations();
    let is_wanted = |name: &str| site.as_deref().is_none_or(|site| site == name);
    summaries.retain(|it| caller.may_see(&it.reader.site) && is_wanted(&it.reader.site));
    Ok(Json(DestinationsAnswer { rows: rows(&api.context, &caller, summaries).await? }))
}

/// Returns one destination with its settings.
#[utoipa::path(get, path = "/api/v1/destinations/{site}/{destination}",
    params(DestinationSelector), responses((status = 200, body = DestinationAnswer)))]
pub(super) async fn get_destination(
    State(api): State<SharedApi>,
    caller: Caller,
    PathParams(DestinationSelector { site, destination }): PathParams<DestinationSelector>,
) -> ApiResult<DestinationAnswer> {
    let summary = find(&api.context, &site, &destination)?;
    let row = rows(&api.context, &caller, vec![summary]).await?.pop();
    let row = row.ok_or(AdminRequestError::NotFound)?;
    let toml = api.context.control.destination_table(&site, &destination);
    Ok(Json(DestinationAnswer { row, toml }))
}

/// Measures which identifiers the newest events of a destination carry.
///
/// The measurement is kept for ten minutes.
#[utoipa::path(get, path = "/api/v1/destinations/{site}/{destination}/match-quality",
    params(DestinationSelector), responses((status = 200, body = MatchQualityAnswer)))]
pub(super) async fn get_match_quality(
    State(api): State<SharedApi>,
    PathParams(DestinationSelector { site, destination }): PathParams<DestinationSelector>,
) -> ApiResult<MatchQualityAnswer> {
    let summary = find(&api.context, &site, &destination)?;
    let quality = api.context.control.match_quality(&site, &destination).await?;
    let quality = quality.ok_or(AdminRequestError::NotFound)?;
    Ok(Json(MatchQualityAnswer::new(&quality, summary.reader.repeats)))
}

fn find(
    context: &AdminContext,
    site: &str,
    destination: &str,
) -> Result<DestinationSummary, AdminRequestError> {
    let is_named = |it: &DestinationSummary| {
        *it.reader.site == *site && *it.reader.destination == *destination
    };
    context.control.destinations().into_iter().find(is_named).ok_or(AdminRequestError::NotFound)
}

/// Returns the rows of destinations, with their accounts of one moment.
async fn rows(
    context: &AdminContext,
    caller: &Caller,
    summaries: Vec<DestinationSummary>,
) -> Result<Vec<DestinationRow>, AdminRequestError> {
    let ids = summaries.iter().map(|it| it.reader.reader).collect();
    let accounts = context.journal.accounts(ids).await?;
    let rows = summaries.into_iter().zip(accounts).map(|(summary, account)| {
        let mut row = DestinationRow::new(summary, account);
        if let Some(error) = row.last_error.as_mut().filter(|_| !caller.shows_personal) {
            // Vendors quote what they refuse.
            error.reply = mask_text(&error.reply);
        }
        row
    });
    Ok(rows.collect())
}

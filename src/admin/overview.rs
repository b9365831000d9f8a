//! The route of a site's home: its balance, its destinations, segments and scripts, and what needs a look.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::alerts::{self, AlertRow};
use super::caller::CallerScope;
use super::destination_details::LedgerCounts;
use super::request::PathParams;
use super::router::{ApiResult, SharedApi};
use super::{AdminContext, AdminRequestError, DestinationSummary};
use tagway_storage::journal::{JournalError, JournalReadLimits, ReaderAccount, SiteId};

/// The time over which the rate of events is measured.
const RATE_MINUTES: i64 = 5;

/// The lag from which a segment counts as late: a large one takes some minutes.
const LATE_MS: i64 = 5 * 60_000;

/// A site's home.
#[derive(Serialize, ToSchema)]
pub(super) struct SiteOverview {
    site: String,
    hosts: Vec<String>,
    /// The sums over all destinations.
    #[serde(flatten)]
    ledger: LedgerCounts,
    /// True if each destination's accepted events are the sum of its other counts.
    balanced: bool,
    /// The receive time of the oldest event that a destination has not settled.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// The number of events that the site has accepted so far.
    events: u64,
    /// Events a minute, over the last five minutes.
    events_per_minute: f64,
    destinations: Vec<DestinationState>,
    segments: Vec<SegmentState>,
    /// The number of pinned scripts with a version that waits for approval.
    scripts_waiting: usize,
    /// The reasons that the gateway is not ready for traffic.
    #[schema(value_type = Vec<String>)]
    readiness: Vec<&'static str>,
    /// The warnings about the site's settings.
    warnings: Vec<String>,
    /// The firing alerts.
    alerts: Vec<AlertRow>,
    /// True if the site has ever accepted an event.
    has_events: bool,
    /// The inline script that its pages load the SDK with.
    snippet: String,
}

/// A destination of a site's home.
#[derive(Serialize, ToSchema)]
pub(super) struct DestinationState {
    #[schema(value_type = String)]
    destination: Arc<str>,
    vendor: &'static str,
    state: &'static str,
    reason: Option<String>,
    pending: u64,
    dead: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
}

/// A segment of a site's home.
#[derive(Serialize, ToSchema)]
pub(super) struct SegmentState {
    segment: String,
    /// True if a run is due for more than five minutes.
    late: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_run_at: Option<Timestamp>,
    /// The number of members.
    size: u64,
}

/// Returns what a site's home shows.
#[utoipa::path(get, path = "/api/v1/sites/{site}/overview", params(("site" = String, Path)),
    responses((status = 200, body = SiteOverview)))]
pub(super) async fn get_overview(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    PathParams(site): PathParams<String>,
) -> ApiResult<SiteOverview> {
    let context = &api.context;
    let alerts = context.alerts.list(None, 1).await?.into_iter();
    let alerts = alerts
        .filter(|it| it.resolved_at.is_none() && alerts::is_visible(it, &scope))
        .filter(|it| it.site.as_deref().is_none_or(|own| own == site));
    let summary = context.control.site(&site).ok_or(AdminRequestError::NotFound)?;
    let mut destinations = context.control.destinations();
    destinations.retain(|it| *it.reader.site == *site);
    let ids = destinations.iter().map(|it| it.reader.reader).collect();
    let accounts = context.journal.accounts(ids).await?;
    let events = context.journal.head(summary.id).borrow().seq;
    let now = context.control.now();
    let scripts = context.control.scripts();
    let is_waiting = scripts
        .iter()
        .filter(|it| it.site.as_deref() == Some(&*site) && it.pending.is_some())
        .count();
    Ok(Json(SiteOverview {
        hosts: summary.hosts,
        ledger: sum(&accounts),
        balanced: accounts.iter().all(is_balanced),
        oldest_pending_at: accounts.iter().filter_map(|it| it.oldest_pending).min(),
        events,
        events_per_minute: rate(context, summary.id, events, now).await?,
        destinations: destinations.into_iter().zip(&accounts).map(state_of).collect(),
        segments: segments(context, &site, now).await?,
        scripts_waiting: is_waiting,
        readiness: context.readiness.reasons(),
        warnings: summary.warnings.into_iter().map(|it| it.text).collect(),
        alerts: alerts.map(alerts::row).collect(),
        has_events: events > 0,
        snippet: summary.snippet,
        site,
    }))
}

fn state_of((it, account): (DestinationSummary, &ReaderAccount)) -> DestinationState {
    DestinationState {
        destination: it.reader.destination,
        vendor: it.vendor,
        state: it.reader.state,
        reason: it.reader.reason,
        pending: account.ledger.pending,
        dead: account.ledger.dead,
        oldest_pending_at: account.oldest_pending,
    }
}

fn sum(accounts: &[ReaderAccount]) -> LedgerCounts {
    accounts.iter().fold(LedgerCounts::default(), |sum, account| {
        let ledger = LedgerCounts::from(account.ledger);
        LedgerCounts {
            accepted: sum.accepted + ledger.accepted,
            delivered: sum.delivered + ledger.delivered,
            skipped: sum.skipped + ledger.skipped,
            dead: sum.dead + ledger.dead,
            pending: sum.pending + ledger.pending,
            held: sum.held + ledger.held,
        }
    })
}

fn is_balanced(account: &ReaderAccount) -> bool {
    let ledger = account.ledger;
    let ended = ledger.delivered + ledger.skipped + ledger.dead;
    ledger.accepted == ended + ledger.pending + ledger.held
}

async fn segments(
    context: &AdminContext,
    site: &str,
    now: Timestamp,
) -> Result<Vec<SegmentState>, AdminRequestError> {
    let now = now.as_millisecond();
    let listed = context.segments.list(Some(site)).await?.into_iter();
    let states = listed.map(|it| SegmentState {
        late: it.due_ms.is_some_and(|due| due.saturating_add(LATE_MS) < now),
        last_run_at: it.ran.and_then(|ran| Timestamp::from_millisecond(ran.at_ms).ok()),
        size: it.members,
        segment: it.name.to_string(),
    });
    Ok(states.collect())
}

/// Returns the rate of events a minute: finds the first event of the last minutes by halves, in some twenty reads
/// of one event.
async fn rate(
    context: &AdminContext,
    site: SiteId,
    head: u64,
    now: Timestamp,
) -> Result<f64, JournalError> {
    let since = now - SignedDuration::from_mins(RATE_MINUTES);
    let one = JournalReadLimits { events: 1, bytes: 1 };
    // All events up to `before` are older; the first event behind `after` is not.
    let (mut before, mut after) = (0, head);
    while before < after {
        let middle = before + (after - before) / 2;
        let first = context.journal.read(site, middle, head, one).await?;
        match first.first() {
            Some(first) if first.received_at < since => before = first.seq,
            _ => after = middle,
        }
    }
    Ok((head - before.min(head)) as f64 / RATE_MINUTES as f64)
}

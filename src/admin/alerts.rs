//! Routes of alerts: the alerts, the rules, a test of a channel.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit_draft::AuditDraft;
use super::caller::{Caller, CallerScope};
use super::request::{JsonBody, NoParams, PathParams, QueryParams, optional};
use super::router::{ApiResult, SharedApi};
use tagway_console::access::SiteScope;
use tagway_console::alert::{AlertError, AlertOverview};

/// The ended alerts in a page, by default and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;

/// The longest note in characters.
const NOTE_CHARS: usize = 500;

/// The page of alerts.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertsParams {
    /// The `next` of the page before: only alerts that ended, with lower numbers.
    #[serde(deserialize_with = "optional")]
    before: Option<i64>,
    /// The ended alerts in the page, by default 100, at most 500.
    #[serde(deserialize_with = "optional")]
    limit: Option<usize>,
}

/// The number of an alert.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Path)]
pub(super) struct AlertSelector {
    /// The alert's number.
    id: i64,
}

/// The name of a channel.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Path)]
pub(super) struct ChannelSelector {
    /// The channel's name.
    name: String,
}

/// An acknowledgement.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcknowledgeRequest {
    /// A note for others, at most 500 characters.
    #[serde(default)]
    note: Option<String>,
}

/// All alerts that fire, and some that have ended.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertPage {
    rows: Vec<AlertRow>,
    /// The cursor of the next page; null at the end.
    next: Option<i64>,
}

/// An alert.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertRow {
    id: i64,
    /// The rule's name.
    rule: String,
    /// The rule's kind.
    kind: &'static str,
    site: Option<String>,
    destination: Option<String>,
    /// `firing` or `resolved`.
    state: &'static str,
    /// `page` or `ticket`.
    severity: &'static str,
    title: String,
    /// The cause with its numbers, and the next step.
    text: String,
    /// The console's screen that explains it: `#/...`.
    link: String,
    #[schema(value_type = String)]
    since: Timestamp,
    #[schema(value_type = Option<String>)]
    resolved_at: Option<Timestamp>,
    /// The last value, in the unit of the rule's kind.
    value: f64,
    /// The rule's limit.
    limit: f64,
    acknowledged: Option<AcknowledgementRow>,
    /// The last notification of each channel.
    notified: Vec<NotifiedRow>,
}

/// The person who has seen an alert.
#[derive(Serialize, ToSchema)]
pub(super) struct AcknowledgementRow {
    by: String,
    #[schema(value_type = String)]
    at: Timestamp,
    note: Option<String>,
}

/// The last notification of a channel.
#[derive(Serialize, ToSchema)]
pub(super) struct NotifiedRow {
    channel: String,
    #[schema(value_type = String)]
    at: Timestamp,
    /// The reason why it was not sent.
    error: Option<String>,
}

/// The rules and channels in use.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertRulePage {
    rows: Vec<AlertRuleRow>,
    /// The names of all channels.
    channels: Vec<String>,
}

/// A rule.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertRuleRow {
    name: String,
    kind: &'static str,
    site: Option<String>,
    destination: Option<String>,
    limit: f64,
    window_seconds: u64,
    /// The time for which the limit must be exceeded, or kept again.
    for_seconds: u64,
    severity: &'static str,
    channels: Vec<String>,
    enabled: bool,
    /// `default` or `file`.
    source: &'static str,
}

/// The result of a test.
#[derive(Serialize, ToSchema)]
pub(super) struct ChannelTestAnswer {
    sent: bool,
    /// The reason why it was not sent.
    error: Option<String>,
}

/// Lists the alerts that fire, and then some that have ended, the newest first.
#[utoipa::path(get, path = "/api/v1/alerts", params(AlertsParams),
    responses((status = 200, body = AlertPage)))]
pub(super) async fn list_alerts(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(AlertsParams { before, limit }): QueryParams<AlertsParams>,
) -> ApiResult<AlertPage> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let alerts = api.context.alerts.list(before, limit).await?;
    let mut ended = alerts.iter().filter(|alert| alert.resolved_at.is_some());
    let next = (ended.clone().count() == limit).then(|| ended.next_back().map(|alert| alert.id));
    let rows = alerts.into_iter().filter(|alert| is_visible(alert, &scope)).map(row).collect();
    Ok(Json(AlertPage { rows, next: next.flatten() }))
}

/// Returns one alert.
#[utoipa::path(get, path = "/api/v1/alerts/{id}", params(AlertSelector),
    responses((status = 200, body = AlertRow)))]
pub(super) async fn get_alert(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    PathParams(AlertSelector { id }): PathParams<AlertSelector>,
) -> ApiResult<AlertRow> {
    let alert = api.context.alerts.get(id).await?;
    if !is_visible(&alert, &scope) {
        return Err(AlertError::Unknown.into());
    }
    Ok(Json(row(alert)))
}

/// Lists the rules of alerts, and the channels.
#[utoipa::path(get, path = "/api/v1/alerts/rules", responses((status = 200, body = AlertRulePage)))]
pub(super) async fn list_alert_rules(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> ApiResult<AlertRulePage> {
    let alerts = &api.context.alerts;
    let rules = alerts.rules().into_iter();
    let rules = rules.filter(|rule| rule.site.as_deref().is_none_or(|site| scope.may_see(site)));
    let rows = rules.map(|rule| AlertRuleRow {
        channels: alerts.channels_of(&rule),
        kind: rule.kind.name(),
        limit: rule.limit,
        window_seconds: rule.window.as_secs(),
        for_seconds: rule.hold.as_secs(),
        severity: rule.severity.name(),
        enabled: rule.enabled,
        source: rule.source.name(),
        name: rule.name,
        site: rule.site,
        destination: rule.object,
    });
    Ok(Json(AlertRulePage { rows: rows.collect(), channels: alerts.channel_names() }))
}

/// Sends a test to a channel, and waits until it has arrived or failed.
#[utoipa::path(post, path = "/api/v1/alerts/channels/{name}/test", params(ChannelSelector),
    request_body = Object, responses((status = 200, body = ChannelTestAnswer)))]
pub(super) async fn test_alert_channel(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    PathParams(ChannelSelector { name }): PathParams<ChannelSelector>,
    JsonBody(NoParams {}): JsonBody<NoParams>,
) -> ApiResult<ChannelTestAnswer> {
    audit.set_object(name.as_str());
    let error = api.context.alerts.test_channel(&name).await?.error;
    audit.add_detail(if error.is_some() { "failed" } else { "sent" });
    Ok(Json(ChannelTestAnswer { sent: error.is_none(), error }))
}

/// Records that a person has seen an alert: no reminder of it follows.
#[utoipa::path(post, path = "/api/v1/alerts/{id}/acknowledge", params(AlertSelector),
    request_body = AcknowledgeRequest, responses((status = 200, body = AlertRow)))]
pub(super) async fn acknowledge_alert(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    PathParams(AlertSelector { id }): PathParams<AlertSelector>,
    JsonBody(AcknowledgeRequest { note }): JsonBody<AcknowledgeRequest>,
) -> ApiResult<AlertRow> {
    let alerts = &api.context.alerts;
    let alert = alerts.get(id).await?;
    if !is_visible(&alert, &caller.sites) {
        return Err(AlertError::Unknown.into());
    }
    if note.as_ref().is_some_and(|note| note.chars().count() > NOTE_CHARS) {
        return Err(super::request::invalid_field("note", "note must be at most 500 characters"));
    }
    if let Some(site) = &alert.site {
        audit.set_site(site);
    }
    audit.set_object(format!("{id} {}", alert.rule));
    let by = caller.name.to_string();
    Ok(Json(row(alerts.acknowledge(id, by, note).await?)))
}

/// Returns true if the caller may see the alert. Those of the whole gateway are for callers of all sites.
/// Returns true if a caller with these sites may see the alert.
pub(super) fn is_visible(alert: &AlertOverview, scope: &SiteScope) -> bool {
    match alert.site.as_deref() {
        Some(site) => scope.may_see(site),
        None => scope.is_all(),
    }
}

pub(super) fn row(alert: AlertOverview) -> AlertRow {
    let note = alert.note;
    let notified = alert.notified.into_iter().map(|it| NotifiedRow {
        channel: it.channel,
        at: it.at,
        error: it.error,
    });
    AlertRow {
        id: alert.id,
        rule: alert.rule,
        kind: alert.kind.name(),
        site: alert.site,
        destination: alert.destination,
        state: alert.state.name(),
        severity: alert.severity.name(),
        title: alert.title,
        text: alert.text,
        link: alert.link,
        since: alert.since,
        resolved_at: alert.resolved_at,
        value: alert.value,
        limit: alert.limit,
        acknowledged: alert.acknowledged.map(|(by, at)| AcknowledgementRow { by, at, note }),
        notified: notified.collect(),
    }
}

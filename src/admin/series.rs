//! Routes of the time series: points of a measure, and sums by outcome and reason.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AdminRequestError;
use super::request::{PathParams, QueryParams, invalid_field, optional};
use super::router::{ApiResult, ApiState, SharedApi};
use tagway_console::series::{
    OTHER_REASON, SeriesMeasure, SeriesQuery, SeriesQueryError, SeriesRange,
};

/// The range without another one.
const DEFAULT_RANGE: &str = "24h";

/// A site.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Path)]
pub(super) struct SeriesSite {
    /// The site's name.
    site: String,
}

/// The selection of points.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesParams {
    /// `accepted`, `delivered`, `skipped`, `dead`, `held` or `pending`.
    measure: String,
    /// One destination; by default all of the site, each with a series.
    #[serde(default, deserialize_with = "optional")]
    destination: Option<String>,
    /// The start, in RFC 3339, instead of `range`.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// The end; by default now.
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// The seconds of a point; by default those of the stored buckets. Rounded up to these.
    #[serde(default, deserialize_with = "optional")]
    step: Option<i64>,
    /// `1h`, `6h`, `24h`, `7d` or `30d`, until now; by default `24h`.
    #[serde(default, deserialize_with = "optional")]
    range: Option<String>,
}

/// The range of sums.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OutcomesParams {
    /// `1h`, `6h`, `24h`, `7d` or `30d`, until now; by default `24h`.
    #[serde(deserialize_with = "optional")]
    range: Option<String>,
}

/// Points of several series.
#[derive(Serialize, ToSchema)]
pub(super) struct SeriesPage {
    /// The seconds of a point.
    step_seconds: i64,
    /// The start of the first point.
    #[schema(value_type = String)]
    from: Timestamp,
    series: Vec<SeriesRow>,
}

/// The points of one series.
#[derive(Serialize, ToSchema)]
pub(super) struct SeriesRow {
    /// The destination's name; null for the site's series.
    destination: Option<String>,
    /// The events of each step; for `held` and `pending` the most. Null where the gateway did not run.
    points: Vec<Option<u64>>,
}

/// Sums by outcome and reason.
#[derive(Serialize, ToSchema)]
pub(super) struct OutcomesPage {
    rows: Vec<OutcomeRow>,
}

/// The events of a destination that ended in one way.
#[derive(Serialize, ToSchema)]
pub(super) struct OutcomeRow {
    destination: String,
    /// `delivered`, `skipped` or `dead`.
    outcome: &'static str,
    /// The reason's code; null for delivered.
    reason: Option<String>,
    /// The reason in words.
    text: Option<&'static str>,
    count: u64,
}

/// Returns the points of a measure, for a range that ends now or from a time to another.
#[utoipa::path(get, path = "/api/v1/sites/{site}/series", params(SeriesSite, SeriesParams),
    responses((status = 200, body = SeriesPage)))]
pub(super) async fn get_series(
    State(api): State<SharedApi>,
    PathParams(SeriesSite { site }): PathParams<SeriesSite>,
    QueryParams(params): QueryParams<SeriesParams>,
) -> ApiResult<SeriesPage> {
    check_site(&api, &site)?;
    let now = api.context.control.now().as_second();
    let Some(measure) = SeriesMeasure::from_name(&params.measure) else {
        let names = SeriesMeasure::ALL.map(|(name, _)| name).join(", ");
        return Err(invalid_field("measure", format!("measure must be one of {names}")));
    };
    let (from, step) = match (params.from, params.range.as_deref()) {
        (Some(_), Some(_)) => {
            return Err(invalid_field("range", "range and from exclude each other"));
        }
        (Some(from), None) => (from.as_second(), params.step),
        (None, range) => {
            let range = find_range(range)?;
            (now - range.seconds, params.step.or(Some(range.step)))
        }
    };
    let to = params.to.map_or(now + 1, |to| to.as_second());
    let destination = params.destination;
    let query = SeriesQuery { site, measure, destination, from, to, step };
    let answer = api.context.series.points(query, now).await?;
    let rows = answer.series.into_iter();
    let rows = rows.map(|it| SeriesRow { destination: it.destination, points: it.points });
    Ok(Json(SeriesPage {
        step_seconds: answer.step_seconds,
        from: Timestamp::from_second(answer.from).unwrap_or(Timestamp::UNIX_EPOCH),
        series: rows.collect(),
    }))
}

/// Returns the numbers of events that ended in a range, by destination, outcome and reason.
#[utoipa::path(get, path = "/api/v1/sites/{site}/outcomes", params(SeriesSite, OutcomesParams),
    responses((status = 200, body = OutcomesPage)))]
pub(super) async fn get_outcomes(
    State(api): State<SharedApi>,
    PathParams(SeriesSite { site }): PathParams<SeriesSite>,
    QueryParams(OutcomesParams { range }): QueryParams<OutcomesParams>,
) -> ApiResult<OutcomesPage> {
    check_site(&api, &site)?;
    let range = find_range(range.as_deref())?;
    let now = api.context.control.now().as_second();
    let counts = api.context.series.outcomes(&site, now, range.seconds).await;
    let counts = counts.map_err(SeriesQueryError::from)?;
    let rows = counts.into_iter().map(|it| OutcomeRow {
        destination: it.destination,
        outcome: it.outcome,
        text: reason_text(&it.reason),
        reason: Some(it.reason).filter(|reason| !reason.is_empty()),
        count: it.count,
    });
    Ok(Json(OutcomesPage { rows: rows.collect() }))
}

fn check_site(api: &ApiState, site: &str) -> Result<(), AdminRequestError> {
    let is_known = api.context.control.sites().iter().any(|name| **name == *site);
    if is_known { Ok(()) } else { Err(AdminRequestError::NotFound) }
}

fn find_range(name: Option<&str>) -> Result<SeriesRange, AdminRequestError> {
    SeriesRange::from_name(name.unwrap_or(DEFAULT_RANGE)).ok_or_else(|| {
        let names = SeriesRange::ALL.map(|range| range.name).join(", ");
        invalid_field("range", format!("range must be one of {names}"))
    })
}

/// The meaning of a reason.
fn reason_text(reason: &str) -> Option<&'static str> {
    if reason == OTHER_REASON {
        return Some(
            "Rarer reasons, evicted events, and events that ended just before an aborted process.",
        );
    }
    tagway_vendors::REASONS.iter().find(|(code, _)| *code == reason).map(|(_, text)| *text)
}

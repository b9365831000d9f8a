//! The segments' routes: members, rules and changes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::AdminRequestError;
use super::audit_draft::AuditDraft;
use super::caller::CallerScope;
use super::reply;
use super::request::{JsonBody, PathParams, QueryParams, invalid_field, optional};
use super::router::{ApiResult, ApiState, SharedApi};
use tagway_delivery::segment::{
    MembershipUnit, SegmentError, SegmentOverview, SegmentPreview, SegmentRule, SegmentRunSummary,
};
use tagway_storage::profile::ProfileId;

/// The people in a preview's sample, by default and at most.
const DEFAULT_SAMPLE_SIZE: usize = 10;
const SAMPLE_LIMIT: usize = 100;

/// The people read for one chunk of a stream.
const PAGE: usize = 500;

/// The filter of a list of segments.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SegmentsQuery {
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
}

/// The name of a segment.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Path)]
pub(super) struct SegmentSelector {
    /// The site's name.
    site: String,
    /// The segment's name.
    segment: String,
}

/// A rule, or the name of a segment.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentPreviewRequest {
    site: String,
    segment: Option<String>,
    /// The rule as in the configuration.
    #[serde(rename = "where")]
    #[schema(value_type = Option<Object>)]
    rule: Option<Value>,
    /// `user` or `group`.
    by: Option<String>,
    /// The number of people in the sample, by default 10, at most 100.
    sample: Option<usize>,
}

/// A removed sync of a segment.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentForgetRequest {
    site: String,
    segment: String,
    destination: String,
}

/// The number of people whose record was deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct SegmentForgetAnswer {
    people: u64,
}

/// Lists the segments of a site, or of all.
#[utoipa::path(get, path = "/api/v1/segments", params(SegmentsQuery),
    responses((status = 200, body = Vec<SegmentOverview>)))]
pub(super) async fn list_segments(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(SegmentsQuery { site }): QueryParams<SegmentsQuery>,
) -> ApiResult<Vec<SegmentOverview>> {
    let mut listed = api.context.segments.list(site.as_deref()).await?;
    listed.retain(|segment| scope.may_see(&segment.site));
    Ok(Json(listed))
}

/// Returns one segment.
#[utoipa::path(get, path = "/api/v1/segments/{site}/{segment}", params(SegmentSelector),
    responses((status = 200, body = SegmentOverview)))]
pub(super) async fn get_segment(
    State(api): State<SharedApi>,
    PathParams(SegmentSelector { site, segment }): PathParams<SegmentSelector>,
) -> ApiResult<SegmentOverview> {
    let listed = api.context.segments.list(Some(&site)).await?;
    let found = listed.into_iter().find(|it| *it.name == *segment);
    Ok(Json(found.ok_or(SegmentError::Unknown)?))
}

/// Streams the members of a segment, one a line.
///
/// After an error, the last line has a member `error`.
#[utoipa::path(get, path = "/api/v1/segments/{site}/{segment}/members", params(SegmentSelector),
    responses((status = 200, body = Object, content_type = "application/x-ndjson")))]
pub(super) async fn stream_members(
    State(api): State<SharedApi>,
    PathParams(path): PathParams<SegmentSelector>,
) -> Result<Response, AdminRequestError> {
    people(&api, path, false)
}

/// Streams the people who joined or left at the last run, one a line.
///
/// After an error, the last line has a member `error`.
#[utoipa::path(get, path = "/api/v1/segments/{site}/{segment}/diff", params(SegmentSelector),
    responses((status = 200, body = Object, content_type = "application/x-ndjson")))]
pub(super) async fn stream_changes(
    State(api): State<SharedApi>,
    PathParams(path): PathParams<SegmentSelector>,
) -> Result<Response, AdminRequestError> {
    people(&api, path, true)
}

/// Evaluates a rule, or a segment's rule, without storing the result.
#[utoipa::path(post, path = "/api/v1/segments/preview", request_body = SegmentPreviewRequest,
    responses((status = 200, body = SegmentPreview)))]
pub(super) async fn preview_segment(
    State(api): State<SharedApi>,
    JsonBody(request): JsonBody<SegmentPreviewRequest>,
) -> ApiResult<SegmentPreview> {
    let segments = &api.context.segments;
    let (rule, by) = match (&request.segment, &request.rule) {
        (Some(segment), None) => segments.rule(&request.site, segment)?,
        (None, Some(rule)) => (Arc::new(parse_rule(rule)?), MembershipUnit::default()),
        _ => return Err(AdminRequestError::Malformed("give either segment or where".to_owned())),
    };
    let by = match request.by.as_deref() {
        None => by,
        Some(name) => MembershipUnit::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, by)| by)
            .ok_or_else(|| invalid_field("by", "by must be user or group"))?,
    };
    let sample = request.sample.unwrap_or(DEFAULT_SAMPLE_SIZE).min(SAMPLE_LIMIT);
    Ok(Json(segments.preview(&request.site, rule, by, sample).await?))
}

/// Evaluates a segment now.
#[utoipa::path(post, path = "/api/v1/segments/run", request_body = SegmentSelector,
    responses((status = 200, body = SegmentRunSummary)))]
pub(super) async fn run_segment(
    State(api): State<SharedApi>,
    JsonBody(SegmentSelector { site, segment }): JsonBody<SegmentSelector>,
) -> ApiResult<SegmentRunSummary> {
    Ok(Json(api.context.segments.run(&site, &segment).await?))
}

/// Deletes the record of a removed sync's members.
#[utoipa::path(post, path = "/api/v1/segments/forget", request_body = SegmentForgetRequest,
    responses((status = 200, body = SegmentForgetAnswer)))]
pub(super) async fn forget_sync(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    JsonBody(request): JsonBody<SegmentForgetRequest>,
) -> ApiResult<SegmentForgetAnswer> {
    let SegmentForgetRequest { site, segment, destination } = request;
    let people = api.context.segments.forget(&site, &segment, &destination).await?;
    audit.add_detail(&format!("{people} people"));
    Ok(Json(SegmentForgetAnswer { people }))
}

fn parse_rule(rule: &Value) -> Result<SegmentRule, AdminRequestError> {
    SegmentRule::parse(rule).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        invalid_field("where", lines.join("\n"))
    })
}

/// Streams a line for each person as far as the caller reads, with one page from the store at a time. After
/// an error, the last line says so.
fn people(
    api: &ApiState,
    SegmentSelector { site, segment }: SegmentSelector,
    changed: bool,
) -> Result<Response, AdminRequestError> {
    let segments = api.context.segments.clone();
    // Unknown segments are rejected before the stream begins.
    segments.rule(&site, &segment)?;
    let pages = stream::unfold(Some(ProfileId(i64::MIN)), move |after| {
        let (segments, site, segment) = (segments.clone(), site.clone(), segment.clone());
        async move {
            let page = segments.page(&site, &segment, changed, after?, PAGE).await;
            let (text, next) = match page {
                Ok(page) => {
                    let next = page.last().filter(|_| page.len() == PAGE).map(|(it, _)| it.profile);
                    let lines =
                        page.into_iter().map(|(it, person)| format!("{}\n", it.to_json(person)));
                    (lines.collect::<String>(), next)
                }
                Err(error) => (format!("{}\n", json!({ "error": error.to_string() })), None),
            };
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), next))
        }
    });
    Ok(reply::json_lines(pages))
}

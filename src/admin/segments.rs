//! The segments' routes: members, rules and changes.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{self, AdminResponse};
use super::routes::{QueryString, parse};
use super::{AdminContext, AdminRequestError};
use tagway_delivery::segment::{MembershipUnit, SegmentError, SegmentRule, SegmentScheduler};
use tagway_storage::profile::ProfileId;

/// The people in a preview's sample, by default and at most.
const DEFAULT_SAMPLE_SIZE: usize = 10;
const SAMPLE_LIMIT: usize = 100;

/// The people read for one chunk of a stream.
const PAGE: usize = 500;

/// Answers `GET /api/v1/segments/...`; `path` is the rest.
pub(super) async fn get(
    context: &AdminContext,
    path: &[&str],
    query: &QueryString<'_>,
) -> Result<AdminResponse, AdminRequestError> {
    match path {
        [] => {
            query.allow(&["site"])?;
            let site = query.get("site");
            let listed = context.segments.list(site.as_deref()).await?;
            Ok(reply::json(StatusCode::OK, &json!(listed)))
        }
        [site, segment] => {
            let listed = context.segments.list(Some(site)).await?;
            let found = listed.into_iter().find(|it| *it.name == **segment);
            let found = found.ok_or(SegmentError::Unknown)?;
            Ok(reply::json(StatusCode::OK, &json!(found)))
        }
        [site, segment, what @ ("members" | "diff")] => {
            // Unknown segments are rejected before the stream begins.
            context.segments.rule(site, segment)?;
            Ok(lines(context.segments.clone(), (*site, *segment), *what == "diff"))
        }
        _ => Err(AdminRequestError::NotFound),
    }
}

/// A rule, or the name of a segment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SegmentPreviewRequest {
    site: String,
    segment: Option<String>,
    #[serde(rename = "where")]
    rule: Option<Value>,
    by: Option<String>,
    sample: Option<usize>,
}

/// Answers `POST /api/v1/segments/preview`.
pub(super) async fn preview(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    let asked: SegmentPreviewRequest = parse(body)?;
    let (rule, by) = match (&asked.segment, &asked.rule) {
        (Some(segment), None) => context.segments.rule(&asked.site, segment)?,
        (None, Some(rule)) => (Arc::new(read(rule)?), MembershipUnit::default()),
        _ => return Err(AdminRequestError::Malformed("give either segment or where".to_owned())),
    };
    let by = match asked.by.as_deref() {
        None => by,
        Some(name) => MembershipUnit::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, by)| by)
            .ok_or_else(|| AdminRequestError::Malformed("by must be user or group".to_owned()))?,
    };
    let sample = asked.sample.unwrap_or(DEFAULT_SAMPLE_SIZE).min(SAMPLE_LIMIT);
    let preview = context.segments.preview(&asked.site, rule, by, sample).await?;
    Ok(reply::json(StatusCode::OK, &json!(preview)))
}

/// Answers `POST /api/v1/segments/run`.
pub(super) async fn run(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SegmentRunRequest {
        site: String,
        segment: String,
    }
    let asked: SegmentRunRequest = parse(body)?;
    let ran = context.segments.run(&asked.site, &asked.segment).await?;
    Ok(reply::json(StatusCode::OK, &json!(ran)))
}

/// Answers `POST /api/v1/segments/forget`: deletes the record of a removed sync's members.
pub(super) async fn forget(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SegmentForgetRequest {
        site: String,
        segment: String,
        destination: String,
    }
    let SegmentForgetRequest { site, segment, destination } = parse(body)?;
    let people = context.segments.forget((&site, &segment), &destination).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "people": people })))
}

fn read(rule: &Value) -> Result<SegmentRule, AdminRequestError> {
    SegmentRule::parse(rule).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        AdminRequestError::Malformed(lines.join("\n"))
    })
}

/// Streams a line for each person as far as the caller reads, with one page from the store at a time. After
/// an error, the last line says so.
fn lines(
    segments: Arc<SegmentScheduler>,
    (site, segment): (&str, &str),
    changed: bool,
) -> AdminResponse {
    let (site, segment) = (site.to_owned(), segment.to_owned());
    let pages = stream::unfold(Some(ProfileId(i64::MIN)), move |after| {
        let (segments, site, segment) = (segments.clone(), site.clone(), segment.clone());
        async move {
            let page = segments.page((&site, &segment), changed, after?, PAGE).await;
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
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(pages)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

//! The segments' routes: who is selected, by which rule, and what changed.

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

use super::reply::{self, Answer};
use super::routes::{Query, parse};
use super::{Context, RequestError};
use crate::profile::ProfileId;
use crate::segment::{By, Rule, SegmentError, Segments};

/// People in a preview's sample, when the caller does not say, and at most.
const SAMPLE_UNSAID: usize = 10;
const SAMPLE_LIMIT: usize = 100;

/// People looked up for one piece of a stream.
const PAGE: usize = 500;

/// Answers `GET /api/v1/segments/...`; `path` is what follows.
pub(super) async fn get(
    context: &Context,
    path: &[&str],
    query: &Query<'_>,
) -> Result<Answer, RequestError> {
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
            // Unknown segments are told of before the stream begins.
            context.segments.rule(site, segment)?;
            Ok(lines(context.segments.clone(), (*site, *segment), *what == "diff"))
        }
        _ => Err(RequestError::NotFound),
    }
}

/// A rule, or the name of a segment whose rule it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewAsked {
    site: String,
    segment: Option<String>,
    #[serde(rename = "where")]
    rule: Option<Value>,
    by: Option<String>,
    sample: Option<usize>,
}

/// `POST /api/v1/segments/preview`.
pub(super) async fn preview(context: &Context, body: &[u8]) -> Result<Answer, RequestError> {
    let asked: PreviewAsked = parse(body)?;
    let (rule, by) = match (&asked.segment, &asked.rule) {
        (Some(segment), None) => context.segments.rule(&asked.site, segment)?,
        (None, Some(rule)) => (Arc::new(read(rule)?), By::default()),
        _ => return Err(RequestError::Malformed("give either segment or where".to_owned())),
    };
    let by = match asked.by.as_deref() {
        None => by,
        Some(name) => By::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, by)| by)
            .ok_or_else(|| RequestError::Malformed("by is user or group".to_owned()))?,
    };
    let sample = asked.sample.unwrap_or(SAMPLE_UNSAID).min(SAMPLE_LIMIT);
    let preview = context.segments.preview(&asked.site, rule, by, sample).await?;
    Ok(reply::json(StatusCode::OK, &json!(preview)))
}

/// `POST /api/v1/segments/run`.
pub(super) async fn run(context: &Context, body: &[u8]) -> Result<Answer, RequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        site: String,
        segment: String,
    }
    let asked: Asked = parse(body)?;
    let ran = context.segments.run(&asked.site, &asked.segment).await?;
    Ok(reply::json(StatusCode::OK, &json!(ran)))
}

/// `POST /api/v1/segments/forget`: what a destination was told that is no more.
pub(super) async fn forget(context: &Context, body: &[u8]) -> Result<Answer, RequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        site: String,
        segment: String,
        destination: String,
    }
    let Asked { site, segment, destination } = parse(body)?;
    let people = context.segments.forget((&site, &segment), &destination).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "people": people })))
}

fn read(rule: &Value) -> Result<Rule, RequestError> {
    Rule::parse(rule).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        RequestError::Malformed(lines.join("\n"))
    })
}

/// A line for each person, as far as the caller reads; the store is asked for a page at a time. What
/// breaks off says so in its last line.
fn lines(segments: Arc<Segments>, (site, segment): (&str, &str), changed: bool) -> Answer {
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

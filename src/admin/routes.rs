//! The routes and their responses.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::reply::{self, AdminResponse};
use super::{
    AdminContext, AdminRequestError, ReaderSummary, destinations, events, exposition, guard,
    scripts, segments, subject, tail,
};
use tagway_core::values::digits::keep_long_integers;
use tagway_storage::journal::{DeadLetterRecord, DeadLetterSelection, LastVendorCall, ReaderId};

/// The most dead letters in one response, and the default.
const DEAD_LIMIT: usize = 1000;
const DEFAULT_DEAD_LIMIT: usize = 100;

/// The most dead letters named in one request.
const IDS_LIMIT: usize = 10_000;

const INDEX: &str = "Tagway's operators' listener.\n
GET  /livez /readyz /metrics
GET  /api/v1/version
GET  /api/v1/sites
GET  /api/v1/ledger
GET  /api/v1/tail?site=&destination=            (token)
GET  /api/v1/events/SITE/SEQ                    (token)
GET  /api/v1/events/SITE?message_id=            (token)
GET  /api/v1/dead?site=&destination=&before=&limit=  (token)
GET  /api/v1/dead/ID                            (token)
POST /api/v1/dead/retry /api/v1/dead/drop       (token)
POST /api/v1/replay /api/v1/send                (token)
POST /api/v1/destinations/pause /api/v1/destinations/resume  (token)
POST /api/v1/forget /api/v1/export /api/v1/profiles (token)
GET  /api/v1/scripts                            (token)
GET  /api/v1/scripts/diff?site=&vendor=&script= (token)
POST /api/v1/scripts/approve                    (token)
GET  /api/v1/segments?site= /api/v1/segments/SITE/NAME         (token)
GET  /api/v1/segments/SITE/NAME/members /api/v1/segments/SITE/NAME/diff  (token)
POST /api/v1/segments/preview /api/v1/segments/run /api/v1/segments/forget (token)

The token is in data_dir/admin.token: Authorization: Bearer TOKEN
";

/// Returns true for the paths of health and metrics, which are answered with any number of connections.
pub(super) fn is_health(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// Answers one request.
pub(super) async fn answer(
    request: Request<Incoming>,
    context: &AdminContext,
    drain: CancellationToken,
) -> Result<AdminResponse, AdminRequestError> {
    guard::check_source(request.headers(), &context.settings.names)?;
    let (head, body) = request.into_parts();
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let query = QueryString(head.uri.query().unwrap_or_default());
    let token = || guard::check_token(&head.headers, &context.token);
    match (&head.method, path.as_slice()) {
        (&Method::GET | &Method::HEAD, path) => match path {
            [""] => Ok(reply::text(StatusCode::OK, "text/plain; charset=utf-8", INDEX)),
            ["livez"] => Ok(reply::text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")),
            ["readyz"] => Ok(readyz(context)),
            ["metrics"] => Ok(metrics(context, &head.headers).await),
            ["api", "v1", "version"] => {
                let version = json!({ "version": env!("CARGO_PKG_VERSION") });
                Ok(reply::json(StatusCode::OK, &version))
            }
            ["api", "v1", "sites"] => Ok(sites(context)),
            ["api", "v1", "ledger"] => ledger(context).await,
            ["api", "v1", "tail"] => {
                token()?;
                tail(context, &query, drain)
            }
            ["api", "v1", "dead"] => {
                token()?;
                dead_list(context, &query).await
            }
            ["api", "v1", "dead", id] => {
                token()?;
                dead_letter(context, id).await
            }
            ["api", "v1", "events", site, seq] => {
                token()?;
                events::by_number(context, site, seq).await
            }
            ["api", "v1", "events", site] => {
                token()?;
                events::by_message(context, site, &query).await
            }
            ["api", "v1", "scripts"] => {
                token()?;
                scripts::list(context, &query)
            }
            ["api", "v1", "scripts", "diff"] => {
                token()?;
                scripts::diff(context, &query).await
            }
            ["api", "v1", "replay" | "send" | "forget" | "export" | "profiles"]
            | ["api", "v1", "scripts", "approve"]
            | ["api", "v1", "segments", "preview" | "run" | "forget"]
            | ["api", "v1", "destinations", "pause" | "resume"] => Err(AdminRequestError::Method),
            ["api", "v1", "segments", rest @ ..] => {
                token()?;
                segments::get(context, rest, &query).await
            }
            _ => Err(AdminRequestError::NotFound),
        },
        (&Method::POST, ["api", "v1", rest @ ..]) => {
            token()?;
            let body = collect(body, context).await?;
            match rest {
                ["dead", "retry"] => dead_retry(context, &body).await,
                ["dead", "drop"] => dead_drop(context, &body).await,
                ["destinations", "pause"] => destinations::pause(context, &body, true).await,
                ["destinations", "resume"] => destinations::pause(context, &body, false).await,
                ["replay"] => replay(context, &body).await,
                ["send"] => send(context, &body).await,
                ["forget"] => subject::forget(context, &body).await,
                ["profiles"] => subject::profiles(context, &body).await,
                ["export"] => subject::export(context, &body).await,
                ["scripts", "approve"] => scripts::approve(context, &body).await,
                ["segments", "preview"] => segments::preview(context, &body).await,
                ["segments", "forget"] => segments::forget(context, &body).await,
                ["segments", "run"] => segments::run(context, &body).await,
                _ => Err(AdminRequestError::NotFound),
            }
        }
        (&Method::POST, _) => Err(AdminRequestError::NotFound),
        _ => Err(AdminRequestError::Method),
    }
}

fn readyz(context: &AdminContext) -> AdminResponse {
    let reasons = context.readiness.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, &json!({ "ready": ready, "reasons": reasons }))
}

async fn metrics(context: &AdminContext, headers: &HeaderMap) -> AdminResponse {
    let text = context.control.scrape().await;
    let mut accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepts.any(exposition::wants_openmetrics) {
        reply::text(StatusCode::OK, exposition::OPENMETRICS, text)
    } else {
        reply::text(StatusCode::OK, exposition::CLASSIC, exposition::classic(&text))
    }
}

fn sites(context: &AdminContext) -> AdminResponse {
    let names = context.control.sites().into_iter().map(|name| Value::from(&*name));
    reply::json(StatusCode::OK, &names.collect())
}

async fn ledger(context: &AdminContext) -> Result<AdminResponse, AdminRequestError> {
    let readers = context.control.readers();
    let ids = readers.iter().map(|reader| reader.reader).collect();
    let accounts = context.journal.accounts(ids).await?;
    let mut rows = Vec::new();
    for (reader, account) in readers.iter().zip(accounts) {
        let ledger = account.ledger;
        rows.push(json!({
            "site": &*reader.site,
            "destination": &*reader.destination,
            "accepted": ledger.accepted,
            "delivered": ledger.delivered,
            "skipped": ledger.skipped,
            "dead": ledger.dead,
            "pending": ledger.pending,
            "held": ledger.held,
            "state": reader.state,
            "reason": reader.reason,
        }));
    }
    Ok(reply::json(StatusCode::OK, &Value::Array(rows)))
}

fn tail(
    context: &AdminContext,
    query: &QueryString<'_>,
    drain: CancellationToken,
) -> Result<AdminResponse, AdminRequestError> {
    query.allow(&["site", "destination"])?;
    let filter =
        tail::TailFilter { site: query.get("site"), destination: query.get("destination") };
    let lines = tail::lines(&context.feed, filter, context.settings.heartbeat, drain);
    let body = BodyExt::boxed_unsync(StreamBody::new(Box::pin(lines)));
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

async fn dead_list(
    context: &AdminContext,
    query: &QueryString<'_>,
) -> Result<AdminResponse, AdminRequestError> {
    query.allow(&["site", "destination", "before", "limit"])?;
    let readers = context.control.readers();
    let reader = match (query.get("site"), query.get("destination")) {
        (None, None) => None,
        (Some(site), Some(destination)) => Some(find(&readers, &site, &destination)?),
        _ => return Err(malformed("site and destination go together")),
    };
    let before = query.number("before")?;
    let limit = query.number("limit")?.unwrap_or(DEFAULT_DEAD_LIMIT).clamp(1, DEAD_LIMIT);
    let records = context.journal.list_dead_letters(reader, before, limit).await?;
    let rows: Vec<Value> = records.iter().map(|record| dead_row(record, &readers)).collect();
    Ok(reply::json(StatusCode::OK, &Value::Array(rows)))
}

async fn dead_letter(context: &AdminContext, id: &str) -> Result<AdminResponse, AdminRequestError> {
    let id = id.parse().or(Err(AdminRequestError::NotFound))?;
    let record = context.journal.dead_letter(id).await?.ok_or(AdminRequestError::NotFound)?;
    let mut row = dead_row(&record, &context.control.readers());
    if let Value::Object(row) = &mut row {
        row.insert("last_call".to_owned(), last_call(record.last_call.as_ref()));
        row.insert("body".to_owned(), tree(&record.body));
    }
    Ok(reply::json(StatusCode::OK, &row))
}

/// A dead letter without its event. If its destination is no longer configured, the row has no site and
/// destination names.
fn dead_row(record: &DeadLetterRecord, readers: &[ReaderSummary]) -> Value {
    /// The members of the event that a list shows.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DeadLetterEvent {
        #[serde(rename = "type")]
        kind: String,
        event: Option<String>,
        message_id: String,
    }
    let reader = readers.iter().find(|reader| reader.reader == record.reader);
    let glance = serde_json::from_slice::<DeadLetterEvent>(&record.body).ok();
    json!({
        "id": record.id,
        "site": reader.map(|reader| &*reader.site),
        "destination": reader.map(|reader| &*reader.destination),
        "at": record.at,
        "seq": record.seq,
        "event": glance.as_ref().map(|glance| glance.event.as_ref().unwrap_or(&glance.kind)),
        "message_id": glance.as_ref().map(|glance| &glance.message_id),
        "reason": record.reason,
        "detail": record.detail,
        "attempts": record.attempts,
    })
}

/// The last call for an event; null if there was none.
pub(super) fn last_call(call: Option<&LastVendorCall>) -> Value {
    call.map_or(Value::Null, |call| {
        json!({
            "at": call.at,
            "request": call.request,
            "status": call.status,
            "reply": call.reply,
        })
    })
}

/// `{"ids": [..]}`, or `{"site": .., "destination": ..}` for all of one reader.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum DeadLettersRequest {
    Ids { ids: Vec<i64> },
    Reader { site: String, destination: String },
}

impl DeadLettersRequest {
    fn resolve(self, readers: &[ReaderSummary]) -> Result<DeadLetterSelection, AdminRequestError> {
        match self {
            Self::Ids { ids } if ids.len() > IDS_LIMIT => Err(malformed("too many ids")),
            Self::Ids { ids } => Ok(DeadLetterSelection::Ids(ids)),
            Self::Reader { site, destination } => {
                find(readers, &site, &destination).map(DeadLetterSelection::Reader)
            }
        }
    }
}

async fn dead_retry(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    let readers = context.control.readers();
    let selection = parse::<DeadLettersRequest>(body)?.resolve(&readers)?;
    let count = context.journal.retry_dead(selection).await?;
    // Ids may belong to any reader; one without due events goes back to sleep.
    for reader in &readers {
        context.control.wake(reader.reader);
    }
    Ok(reply::json(StatusCode::OK, &json!({ "count": count })))
}

async fn dead_drop(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    let selection = parse::<DeadLettersRequest>(body)?.resolve(&context.control.readers())?;
    let count = context.journal.drop_dead(selection).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "count": count })))
}

async fn replay(context: &AdminContext, body: &[u8]) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ReplayRequest {
        site: String,
        destination: String,
        from: Timestamp,
        to: Timestamp,
        /// Only returns the plan of the replay.
        #[serde(default)]
        plan: bool,
    }
    let asked: ReplayRequest = parse(body)?;
    if asked.from >= asked.to {
        return Err(malformed("from must be before to"));
    }
    let readers = context.control.readers();
    let reader = find(&readers, &asked.site, &asked.destination)?;
    if asked.plan {
        let plan = context.journal.replay_plan(reader, asked.from, asked.to).await?;
        let repeats = readers.iter().find(|it| it.reader == reader).map(|it| it.repeats);
        let plan = json!({
            "count": plan.count, "dead": plan.dead, "pending": plan.pending, "repeats": repeats,
        });
        return Ok(reply::json(StatusCode::OK, &plan));
    }
    let count = context.journal.replay(reader, asked.from, asked.to).await?;
    context.control.wake(reader);
    Ok(reply::json(StatusCode::OK, &json!({ "count": count })))
}

async fn send(context: &AdminContext, body: &[u8]) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SendEventRequest {
        site: String,
        event: Value,
    }
    let asked: SendEventRequest = parse(&keep_long_integers(body))?;
    let sent = context.control.send(&asked.site, asked.event).await?;
    let sent = json!({ "seq": sent.seq, "message_id": sent.message_id });
    Ok(reply::json(StatusCode::OK, &sent))
}

async fn collect(body: Incoming, context: &AdminContext) -> Result<Bytes, AdminRequestError> {
    let read = Limited::new(body, context.settings.body_bytes).collect();
    let read = tokio::time::timeout(context.settings.body_time, read).await;
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(AdminRequestError::TooLarge),
        Ok(Err(_)) => Err(malformed("the body ended early")),
        Err(_) => Err(AdminRequestError::TooSlow),
    }
}

pub(super) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, AdminRequestError> {
    serde_json::from_slice(body).map_err(|error| AdminRequestError::Malformed(error.to_string()))
}

/// Parses the record; one that cannot be parsed is returned as text, so that operators can find the
/// cause.
pub(super) fn tree(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_invalid| Value::String(String::from_utf8_lossy(body).into_owned()))
}

fn find(
    readers: &[ReaderSummary],
    site: &str,
    destination: &str,
) -> Result<ReaderId, AdminRequestError> {
    readers
        .iter()
        .find(|reader| &*reader.site == site && &*reader.destination == destination)
        .map(|reader| reader.reader)
        .ok_or_else(|| malformed("the configuration has no such destination"))
}

pub(super) fn malformed(what: &str) -> AdminRequestError {
    AdminRequestError::Malformed(what.to_owned())
}

/// The query string of a request.
pub(super) struct QueryString<'q>(&'q str);

impl QueryString<'_> {
    pub(super) fn get(&self, key: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.0.as_bytes());
        let (_, value) = pairs.find(|(name, value)| name == key && !value.is_empty())?;
        Some(value.into_owned())
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, AdminRequestError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let number = text.parse().map(Some);
        number.map_err(|_not_one| malformed(&format!("{key} must be a number")))
    }

    /// Rejects unknown names: a misspelt filter must not show everything.
    pub(super) fn allow(&self, names: &[&str]) -> Result<(), AdminRequestError> {
        let mut pairs = url::form_urlencoded::parse(self.0.as_bytes());
        match pairs.find(|(name, _)| !names.contains(&&**name)) {
            Some(_) => Err(malformed(&format!("the query may have {}", names.join(", ")))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_returns_unparsable_records_as_text() {
        assert_eq!(tree(b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(tree(b"{\"a\":1e999}"), "{\"a\":1e999}");
        assert_eq!(tree(b"\xff"), "\u{fffd}");
    }
}

//! Routes for one event and its outcome at each destination.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::reply::{self, AdminResponse};
use super::routes::{QueryString, last_call, malformed, tree};
use super::{AdminContext, AdminRequestError, ReaderSummary};
use tagway_storage::journal::{EventAtReader, EventHistory, ReaderEventState};

/// Answers with the event of this sequence number in its site.
pub(super) async fn by_number(
    context: &AdminContext,
    site: &str,
    seq: &str,
) -> Result<AdminResponse, AdminRequestError> {
    let seq: u64 = seq.parse().or(Err(AdminRequestError::NotFound))?;
    show(context, check_site(context, site)?, seq).await
}

/// Answers with the newest event that has the query's message id.
pub(super) async fn by_message(
    context: &AdminContext,
    site: &str,
    query: &QueryString<'_>,
) -> Result<AdminResponse, AdminRequestError> {
    query.allow(&["message_id"])?;
    let id = query.get("message_id").ok_or_else(|| malformed("name a message_id"))?;
    let site = check_site(context, site)?;
    let number = context.journal.site(site).await?;
    let seq =
        context.journal.find_message(number, &id).await?.ok_or(AdminRequestError::NotFound)?;
    show(context, site, seq).await
}

/// Checks that the site is configured: the journal would give a number to an unknown one.
fn check_site<'s>(context: &AdminContext, site: &'s str) -> Result<&'s str, AdminRequestError> {
    let is_known = context.control.sites().iter().any(|name| &**name == site);
    if is_known { Ok(site) } else { Err(AdminRequestError::NotFound) }
}

async fn show(
    context: &AdminContext,
    site: &str,
    seq: u64,
) -> Result<AdminResponse, AdminRequestError> {
    let readers: Vec<ReaderSummary> =
        context.control.readers().into_iter().filter(|reader| &*reader.site == site).collect();
    let ids = readers.iter().map(|reader| reader.reader).collect();
    let number = context.journal.site(site).await?;
    let event =
        context.journal.event(number, seq, ids).await?.ok_or(AdminRequestError::NotFound)?;
    let EventHistory { seq, received_at, body, readers: at } = event;
    let destinations: Vec<Value> =
        readers.iter().zip(&at).map(|(reader, at)| row(context, reader, at, seq)).collect();
    let answer = json!({
        "site": site,
        "seq": seq,
        "received_at": received_at,
        "event": tree(&body),
        "destinations": destinations,
    });
    Ok(reply::json(StatusCode::OK, &answer))
}

/// The event at one destination. While it waits, its last attempt is in the destination's memory; after a
/// restart there is none until the next attempt.
fn row(context: &AdminContext, reader: &ReaderSummary, at: &EventAtReader, seq: u64) -> Value {
    let mut row = json!({
        "destination": &*reader.destination,
        "outcome": at.name(context.control.now()),
        "state": reader.state,
        "state_reason": reader.reason,
    });
    let Value::Object(fields) = &mut row else { return row };
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    match at.state {
        ReaderEventState::Settled => {
            if let Some(kept) = &at.outcome {
                put("reason", kept.reason.as_str().into());
                put("detail", kept.detail.as_str().into());
                put("attempts", kept.attempts.into());
                put("at", json!(kept.at));
            }
            if let Some(letter) = &at.letter {
                put("detail", letter.detail.as_str().into());
                put("dead_letter", letter.id.into());
                put("last_call", last_call(letter.last_call.as_ref()));
            }
        }
        ReaderEventState::Unsettled | ReaderEventState::Parked { .. } => {
            let failure = context.control.last_failure(reader.reader, seq);
            let mut attempts = 0;
            if let ReaderEventState::Parked { due_at, attempt } = at.state {
                put("due_at", json!(due_at));
                attempts = attempt;
            }
            if let Some(failure) = failure {
                attempts = attempts.max(failure.attempts);
                put("reason", failure.reason.code.into());
                put("detail", failure.reason.detail.as_deref().unwrap_or_default().into());
                put("last_call", last_call(failure.call.as_deref()));
            }
            put("attempts", attempts.into());
            if let Some(kept) = &at.outcome {
                let before =
                    json!({ "outcome": kept.outcome, "reason": kept.reason, "at": kept.at });
                put("before", before);
            }
        }
        ReaderEventState::BeforeReader => {}
    }
    row
}

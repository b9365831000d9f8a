//! One event and what became of it at each destination.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::reply::{self, Answer};
use super::routes::{Query, last_call, malformed, tree};
use super::{Context, ReaderState, RequestError};
use crate::journal::{EventAtReader, EventRecord, Standing};

/// The event with this number in its site's sequence.
pub(super) async fn by_number(
    context: &Context,
    site: &str,
    seq: &str,
) -> Result<Answer, RequestError> {
    let seq: u64 = seq.parse().or(Err(RequestError::NotFound))?;
    show(context, check_site(context, site)?, seq).await
}

/// The newest event with the message id that the query names.
pub(super) async fn by_message(
    context: &Context,
    site: &str,
    query: &Query<'_>,
) -> Result<Answer, RequestError> {
    query.allow(&["message_id"])?;
    let id = query.get("message_id").ok_or_else(|| malformed("name a message_id"))?;
    let site = check_site(context, site)?;
    let number = context.journal.site(site).await?;
    let seq = context.journal.find_message(number, &id).await?.ok_or(RequestError::NotFound)?;
    show(context, site, seq).await
}

/// The journal would number a site it does not know: only configured ones are asked for.
fn check_site<'s>(context: &Context, site: &'s str) -> Result<&'s str, RequestError> {
    let is_known = context.control.sites().iter().any(|name| &**name == site);
    if is_known { Ok(site) } else { Err(RequestError::NotFound) }
}

async fn show(context: &Context, site: &str, seq: u64) -> Result<Answer, RequestError> {
    let readers: Vec<ReaderState> =
        context.control.readers().into_iter().filter(|reader| &*reader.site == site).collect();
    let ids = readers.iter().map(|reader| reader.reader).collect();
    let number = context.journal.site(site).await?;
    let event = context.journal.event(number, seq, ids).await?.ok_or(RequestError::NotFound)?;
    let EventRecord { seq, received_at, body, readers: at } = event;
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

/// The event at one destination. While it waits, its last try is in the memory of the destination, and
/// after a restart there is none until the next.
fn row(context: &Context, reader: &ReaderState, at: &EventAtReader, seq: u64) -> Value {
    let mut row = json!({
        "destination": &*reader.destination,
        "outcome": at.name(context.control.now()),
        "state": reader.state,
        "state_reason": reader.reason,
    });
    let Value::Object(fields) = &mut row else { return row };
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    match at.standing {
        Standing::Settled => {
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
        Standing::Unsettled | Standing::Parked { .. } => {
            let failure = context.control.failure(reader.reader, seq);
            let mut attempts = 0;
            if let Standing::Parked { due_at, attempt } = at.standing {
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
        Standing::BeforeReader => {}
    }
    row
}

//! The results of Mixpanel's replies for the records of a call (`docs/contracts/destinations.md` 3.6).
//!
//! `/import` names the records that it refuses, by their index; the others are stored. The other
//! paths reply 200 to any request; the body says whether they took it.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::plan::MixpanelEndpoint;
use crate::{Outcome, OutcomeReason, VendorCallError, VendorReply, classify_reply};

/// The most characters of the vendor's message in a reason.
const MAX_DETAIL_CHARS: usize = 300;

/// The result of a call for its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MixpanelCallOutcome {
    /// All were taken but these, by their index among the records.
    Taken(Vec<(usize, OutcomeReason)>),
    /// None was taken, because at least one of them is bad.
    Refused(OutcomeReason),
    /// None was taken, for a reason outside the records: further calls of this path would fail too.
    Closed(Outcome),
}

/// Reads a reply to a call with records of these `$insert_id`s.
pub(super) fn read(
    path: MixpanelEndpoint,
    result: &Result<VendorReply, VendorCallError>,
    now: Timestamp,
    insert_ids: &[Option<&str>],
) -> MixpanelCallOutcome {
    let body = result.as_ref().ok().and_then(VendorReply::json);
    match classify_reply(result, now) {
        Outcome::Delivered => match body.as_ref().and_then(error_in_body) {
            Some(objection) => {
                MixpanelCallOutcome::Refused(OutcomeReason::detailed("rejected", objection))
            }
            None => MixpanelCallOutcome::Taken(Vec::new()),
        },
        Outcome::Refused(reason) => {
            let status = result.as_ref().map_or(StatusCode::OK, |reply| reply.status);
            if path == MixpanelEndpoint::Import && status == StatusCode::BAD_REQUEST {
                let failed = body.as_ref().map(|body| failed_records(body, insert_ids));
                if let Some(failed) = failed.filter(|failed| !failed.is_empty()) {
                    return MixpanelCallOutcome::Taken(failed);
                }
            }
            let code =
                if status == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { reason.code };
            let message = body.as_ref().and_then(error_text);
            MixpanelCallOutcome::Refused(with_message(code, reason.detail, message))
        }
        Outcome::Unauthorised(reason) => {
            let message = body.as_ref().and_then(error_text);
            MixpanelCallOutcome::Closed(Outcome::Unauthorised(with_message(
                reason.code,
                reason.detail,
                message,
            )))
        }
        outcome => MixpanelCallOutcome::Closed(outcome),
    }
}

/// Returns the objection in the body of a 200: `0`, `{"status": 0}`, or any `error`.
fn error_in_body(body: &Value) -> Option<String> {
    let status = if body.is_object() { body.get("status") } else { Some(body) };
    let is_refused = match status {
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(Value::String(text)) => text == "error" || text == "0",
        Some(Value::Bool(is_taken)) => !is_taken,
        _ => false,
    };
    let message = error_text(body);
    (is_refused || message.is_some()).then(|| match message {
        Some(text) => shortened(text),
        None => "the body says 0".to_owned(),
    })
}

/// Returns the records that a partial refusal names, with the reasons. It names them by index, else by
/// id, which is called `$insert_id` on one of Mixpanel's pages and `insert_id` on another.
fn failed_records(body: &Value, insert_ids: &[Option<&str>]) -> Vec<(usize, OutcomeReason)> {
    let listed = body.get("failed_records").and_then(Value::as_array).into_iter().flatten();
    let failed = listed.filter_map(|record| {
        let index = record.get("index").and_then(Value::as_u64).and_then(|at| at.try_into().ok());
        let by_id = || {
            let id = record.get("$insert_id").or_else(|| record.get("insert_id"))?.as_str()?;
            insert_ids.iter().position(|known| *known == Some(id))
        };
        let index = index.filter(|index| *index < insert_ids.len()).or_else(by_id)?;
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
        let detail = format!("{}: {}", text("field"), text("message"));
        Some((index, OutcomeReason::detailed("invalid_record", shortened(&detail))))
    });
    failed.collect()
}

fn error_text(body: &Value) -> Option<&str> {
    body.get("error").and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn with_message(
    code: &'static str,
    detail: Option<Box<str>>,
    message: Option<&str>,
) -> OutcomeReason {
    let detail = detail.unwrap_or_default();
    match message {
        Some(message) => OutcomeReason::detailed(code, format!("{detail}: {}", shortened(message))),
        None => OutcomeReason { code, detail: Some(detail) },
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_DETAIL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn message(path: MixpanelEndpoint, status: u16, body: &str) -> MixpanelCallOutcome {
        let status = StatusCode::from_u16(status).unwrap();
        let reply = VendorReply { status, headers: HeaderMap::new(), body: body.to_owned().into() };
        read(path, &Ok(reply), Timestamp::UNIX_EPOCH, &[Some("a"), Some("b"), None])
    }

    #[test]
    fn a_200_counts_only_if_its_body_agrees() {
        let taken = MixpanelCallOutcome::Taken(Vec::new());
        for body in [
            "1",
            "",
            "{\"status\":1}",
            "{\"status\":1,\"error\":null}",
            "{\"status\":1,\"error\":\"\"}",
            "{\"code\":200,\"num_records_imported\":3,\"status\":\"OK\"}",
        ] {
            assert_eq!(message(MixpanelEndpoint::Engage, 200, body), taken, "{body}");
        }
        for body in [
            "0",
            "{\"status\":0}",
            "{\"status\":0,\"error\":\"data, missing or empty\"}",
            "{\"error\":\"bad\",\"status\":\"error\"}",
            "{\"error\":\"bad\"}",
        ] {
            let answer = message(MixpanelEndpoint::Groups, 200, body);
            assert!(matches!(answer, MixpanelCallOutcome::Refused(_)), "{body}: {answer:?}");
        }
    }

    #[test]
    fn failed_records_are_found_by_index_or_either_name_of_the_id() {
        let failed = |records: Value| {
            let body = json!({ "code": 400, "failed_records": records, "status": "Bad Request" });
            match message(MixpanelEndpoint::Import, 400, &body.to_string()) {
                MixpanelCallOutcome::Taken(failed) => {
                    failed.into_iter().map(|(index, _)| index).collect()
                }
                MixpanelCallOutcome::Refused(_) => Vec::new(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failed(json!([{ "index": 2 }, { "index": 0, "$insert_id": "b" }])), [2, 0]);
        assert_eq!(failed(json!([{ "$insert_id": "b" }, { "insert_id": "a" }])), [1, 0]);
        assert_eq!(failed(json!([{ "index": 9, "insert_id": "b" }])), [1]);
        // A list with none of the sent records is useless: the whole call is in doubt.
        assert!(failed(json!([{ "index": 9 }])).is_empty());
        assert!(failed(json!([])).is_empty());
    }

    #[test]
    fn vendor_message_in_a_reason_is_cut() {
        let long = json!({ "error": "x".repeat(5000), "status": 0 }).to_string();
        let MixpanelCallOutcome::Refused(reason) = message(MixpanelEndpoint::Engage, 200, &long)
        else {
            panic!()
        };
        assert_eq!(reason.detail.unwrap().len(), MAX_DETAIL_CHARS);
    }
}

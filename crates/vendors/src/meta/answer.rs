//! The outcomes of Meta's replies (`docs/contracts/destinations.md` 2.6). The body's error code decides, not
//! the status: rate limits and refused credentials come as 400 too. There is no partial success.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::audience::LIST_GONE;
use crate::{Outcome, OutcomeReason, VendorCallError, VendorReply, classify_reply};

/// The most characters of Meta's message in a reason.
const DETAIL_CHARS: usize = 300;

/// The header field with the used share of a business's quota.
const USAGE: &str = "x-business-use-case-usage";

/// The subcode of an event that is too old.
const TOO_OLD: i64 = 2_804_003;

/// The reason code for a number that Graph does not know, or does not show to this token.
pub(super) const UNKNOWN: &str = "unknown_pixel";

/// The subcode of a list that Meta's reviewers stopped.
const FLAGGED: i64 = 1_713_230;

/// The error in Graph's reply to a request that it refused.
struct MetaGraphError<'r> {
    code: i64,
    subcode: i64,
    is_transient: bool,
    error: &'r Value,
}

/// Returns the outcome of all events of a request.
pub(super) fn outcome(result: &Result<VendorReply, VendorCallError>, now: Timestamp) -> Outcome {
    let judged = classify_reply(result, now);
    let Ok(reply) = result else { return judged };
    if is_html(reply) {
        // The reply is from a gateway before Graph, whatever the status.
        let status = reply.status.as_u16();
        let reason =
            OutcomeReason::detailed("vendor_error", format!("HTTP {status}, a page of HTML"));
        return Outcome::Retry { reason, after: reply.retry_after(now) };
    }
    let body = reply.json();
    match body.as_ref().and_then(MetaGraphError::read) {
        Some(error) => error.outcome(reply, judged, now),
        None => judged,
    }
}

fn is_html(reply: &VendorReply) -> bool {
    reply.body.trim_ascii_start().first() == Some(&b'<')
}

impl<'r> MetaGraphError<'r> {
    fn read(body: &'r Value) -> Option<Self> {
        let error = body.get("error").filter(|error| error.is_object())?;
        let number = |key: &str| error.get(key).and_then(Value::as_i64).unwrap_or_default();
        Some(Self {
            code: number("code"),
            subcode: number("error_subcode"),
            is_transient: error.get("is_transient").and_then(Value::as_bool).unwrap_or(false),
            error,
        })
    }

    /// Returns the outcome of this error; `judged` is the outcome by the status alone.
    fn outcome(&self, reply: &VendorReply, judged: Outcome, now: Timestamp) -> Outcome {
        let after = reply.retry_after(now);
        let retry = |code, after| Outcome::Retry { reason: self.reason(code), after };
        match (self.code, self.subcode) {
            (4 | 17 | 32 | 341 | 613 | 80_000..=80_014, _) => {
                retry("rate_limited", after.or_else(|| regain_access(reply)))
            }
            _ if self.is_transient => retry("vendor_error", after),
            (1 | 2 | 368 | 5000 | 21_009, _) => retry("vendor_error", after),
            (10 | 102 | 190 | 200..=299, _) => Outcome::Unauthorised(self.reason("unauthorised")),
            (100, 33) => Outcome::Unauthorised(self.reason(UNKNOWN)),
            // Every call is refused until the operator sets a newer version.
            (2635, _) => Outcome::Unauthorised(self.reason("api_version_deprecated")),
            // A list that was deleted, or flagged so that it cannot be used.
            (1_487_301 | 1_487_366, _) | (_, 1_487_301 | 1_487_366) => {
                Outcome::Dead(self.reason(LIST_GONE))
            }
            (100, FLAGGED) => Outcome::Unauthorised(self.reason("list_flagged")),
            // A person must accept the terms of Custom Audiences.
            (2655, _) => Outcome::Unauthorised(self.reason("terms_not_accepted")),
            (100, TOO_OLD) => Outcome::Refused(self.reason("too_old")),
            (100, _) => Outcome::Refused(self.reason("invalid_event")),
            _ => match judged {
                Outcome::Retry { reason, after } => retry(reason.code, after),
                Outcome::Unauthorised(reason) => Outcome::Unauthorised(self.reason(reason.code)),
                Outcome::Refused(reason) => Outcome::Refused(self.reason(reason.code)),
                // An error under a status that means success.
                _ => Outcome::Refused(self.reason("refused")),
            },
        }
    }

    fn reason(&self, code: &'static str) -> OutcomeReason {
        let text = |key: &str| self.error.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut detail = format!("{}/{} {}", self.code, self.subcode, text("message"));
        for more in ["error_user_title", "error_user_msg"].map(text) {
            if !more.is_empty() && !detail.contains(more) {
                detail.push_str("; ");
                detail.push_str(more);
            }
        }
        OutcomeReason::detailed(code, detail.chars().take(DETAIL_CHARS).collect::<String>())
    }
}

/// Returns the longest wait in the usage field, which has whole minutes:
/// `{"123":[{"type":"...","estimated_time_to_regain_access":5}]}`.
fn regain_access(reply: &VendorReply) -> Option<Duration> {
    let usage: Value = serde_json::from_slice(reply.headers.get(USAGE)?.as_bytes()).ok()?;
    let limits = usage.as_object()?.values().filter_map(Value::as_array).flatten();
    let minutes = limits.filter_map(|limit| limit.get("estimated_time_to_regain_access")?.as_u64());
    let minutes = minutes.max().filter(|minutes| *minutes > 0)?;
    Some(Duration::from_secs(minutes.saturating_mul(60)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::test_support::now;

    fn reply(status: u16, body: impl Into<Bytes>) -> VendorReply {
        let status = StatusCode::from_u16(status).unwrap();
        VendorReply { status, headers: HeaderMap::new(), body: body.into() }
    }

    /// Returns the outcome's kind and its reason's code.
    fn read(status: u16, body: &str) -> (&'static str, &'static str) {
        kind(&outcome(&Ok(reply(status, body.to_owned())), now()))
    }

    fn kind(outcome: &Outcome) -> (&'static str, &'static str) {
        match outcome {
            Outcome::Delivered => ("delivered", ""),
            Outcome::Skipped(reason) => ("skipped", reason.code),
            Outcome::Dead(reason) => ("dead", reason.code),
            Outcome::Refused(reason) => ("refused", reason.code),
            Outcome::Retry { reason, .. } | Outcome::Throttled { reason, .. } => {
                ("retry", reason.code)
            }
            Outcome::Unauthorised(reason) => ("unauthorised", reason.code),
        }
    }

    fn error(code: i64, subcode: i64) -> String {
        json!({ "error": { "message": "m", "code": code, "error_subcode": subcode } }).to_string()
    }

    #[test]
    fn outcome_follows_graph_code_over_status() {
        for status in [400, 403, 500] {
            for code in [4, 17, 341, 613, 80_003, 80_004] {
                let expected = ("retry", "rate_limited");
                assert_eq!(read(status, &error(code, 0)), expected, "{status} {code}");
            }
            for code in [1, 2, 368, 5000] {
                let expected = ("retry", "vendor_error");
                assert_eq!(read(status, &error(code, 0)), expected, "{status} {code}");
            }
            for code in [10, 102, 190, 200, 294, 299] {
                let expected = ("unauthorised", "unauthorised");
                assert_eq!(read(status, &error(code, 463)), expected, "{status} {code}");
            }
            assert_eq!(read(status, &error(100, 33)), ("unauthorised", "unknown_pixel"));
        }
        assert_eq!(read(400, &error(100, 2_804_003)), ("refused", "too_old"));
        for subcode in [0, 2_804_001, 2_804_007, 2_804_016, 2_804_017, 2_804_019, 2_804_048] {
            assert_eq!(read(400, &error(100, subcode)), ("refused", "invalid_event"), "{subcode}");
        }
        assert_eq!(read(400, &error(2635, 0)), ("unauthorised", "api_version_deprecated"));
        assert_eq!(read(400, &error(100, 1_713_230)), ("unauthorised", "list_flagged"));
        assert_eq!(read(400, &error(2655, 0)), ("unauthorised", "terms_not_accepted"));
        assert_eq!(read(400, &error(1_487_366, 0)), ("dead", LIST_GONE));
        assert_eq!(read(400, &error(100, 1_487_366)), ("dead", LIST_GONE));
    }

    #[test]
    fn transient_error_is_retried_whatever_its_code() {
        let body = json!({ "error": { "code": 100, "is_transient": true } }).to_string();
        assert_eq!(read(400, &body), ("retry", "vendor_error"));
    }

    #[test]
    fn outcome_follows_status_without_a_known_code() {
        for (status, body, expected) in [
            (200, r#"{"events_received":1}"#.to_owned(), ("delivered", "")),
            (200, String::new(), ("delivered", "")),
            (200, error(7, 0), ("refused", "refused")),
            (400, error(7, 0), ("refused", "refused")),
            (400, "{}".to_owned(), ("refused", "refused")),
            (401, String::new(), ("unauthorised", "unauthorised")),
            (413, String::new(), ("refused", "refused")),
            (429, error(7, 0), ("retry", "rate_limited")),
            (500, error(7, 0), ("retry", "vendor_error")),
            (503, String::new(), ("retry", "vendor_error")),
            (400, " <!DOCTYPE html>".to_owned(), ("retry", "vendor_error")),
            (200, "<html>".to_owned(), ("retry", "vendor_error")),
        ] {
            assert_eq!(read(status, &body), expected, "{status} {body}");
        }
        let timeout = Err(VendorCallError::Timeout(Duration::from_secs(1)));
        assert_eq!(kind(&outcome(&timeout, now())), ("retry", "timeout"));
    }

    #[test]
    fn rate_limit_wait_is_read_from_usage_field() {
        let mut limited = reply(400, error(80_004, 0));
        let usage = r#"{"1":[{"estimated_time_to_regain_access":0}],"2":[{"type":"x"},{"estimated_time_to_regain_access":3}]}"#;
        limited.headers.insert(USAGE, usage.parse().unwrap());
        let Outcome::Retry { after, .. } = outcome(&Ok(limited), now()) else { panic!() };
        assert_eq!(after, Some(Duration::from_secs(180)));
    }

    #[test]
    fn reason_detail_has_metas_message_cut_to_the_limit() {
        let body = json!({ "error": { "code": 100, "error_subcode": 2_804_003, "message": "Invalid",
            "error_user_title": "Too old", "error_user_msg": "x".repeat(1000) } });
        let Outcome::Refused(reason) = outcome(&Ok(reply(400, body.to_string())), now()) else {
            panic!()
        };
        let detail = reason.detail.unwrap();
        assert!(detail.starts_with("100/2804003 Invalid; Too old; xxx"), "{detail}");
        assert_eq!(detail.chars().count(), DETAIL_CHARS);
    }
}

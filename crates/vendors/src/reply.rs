//! A vendor's reply, and its reading that most vendors share (`docs/contracts/destinations.md` 0.3: the retry
//! classes).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;

use super::{Outcome, OutcomeReason, VendorCallError};

/// A vendor's reply to one call.
#[derive(Clone, Debug)]
pub struct VendorReply {
    /// The status line's code.
    pub status: StatusCode,
    /// The reply's headers.
    pub headers: HeaderMap,
    /// The body, up to `egress.reply_bytes`: the rest of a longer one is not read.
    pub body: Bytes,
}

/// Returns the outcome of every event of a call, by its reply as most vendors mean it: 2xx is delivered; no reply, 408, 425, 429 and 5xx are worth
/// another try; 401 and 403 concern the credentials; any other status refuses the call for ever.
pub fn classify_reply(result: &Result<VendorReply, VendorCallError>, now: Timestamp) -> Outcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(error) => return Outcome::Retry { reason: call_reason(error), after: None },
    };
    match reply.status.as_u16() {
        200..=299 => Outcome::Delivered,
        401 | 403 => Outcome::Unauthorised(status_reason("unauthorised", reply)),
        429 => Outcome::Retry {
            reason: status_reason("rate_limited", reply),
            after: reply.retry_after(now),
        },
        408 | 425 | 500..=599 => Outcome::Retry {
            reason: status_reason("vendor_error", reply),
            after: reply.retry_after(now),
        },
        300..=399 => Outcome::Refused(status_reason("redirected", reply)),
        _ => Outcome::Refused(status_reason("refused", reply)),
    }
}

fn call_reason(error: &VendorCallError) -> OutcomeReason {
    let code = match error {
        VendorCallError::Timeout(_) => "timeout",
        VendorCallError::Unreachable(_) => "unreachable",
        VendorCallError::Cut(_) => "cut",
        VendorCallError::Forbidden => "forbidden_address",
        VendorCallError::Stopping => "stopping",
    };
    OutcomeReason::detailed(code, error.to_string())
}

fn status_reason(code: &'static str, reply: &VendorReply) -> OutcomeReason {
    OutcomeReason::detailed(code, format!("HTTP {}", reply.status.as_u16()))
}

impl VendorReply {
    /// Returns the body, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Returns the wait that a `Retry-After` header asks for: seconds, or a date (RFC 9110 section 10.2.3).
    /// Not capped here: the caller's `retry.max_retry_after` is the cap.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let at = httpdate::parse_http_date(text).ok()?;
        let at = Timestamp::try_from(at).ok()?;
        Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>) -> Result<VendorReply, VendorCallError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        Ok(VendorReply {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::new(),
        })
    }

    fn wait(retry_after: &str) -> Option<Duration> {
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        match classify_reply(&reply(429, Some(retry_after)), now) {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Mon, 23 Nov 2026 10:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Mon, 23 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
    }

    #[test]
    fn statuses_fall_into_the_contracts_classes() {
        let now = Timestamp::UNIX_EPOCH;
        for status in [200, 201, 202, 204] {
            assert_eq!(classify_reply(&reply(status, None), now), Outcome::Delivered);
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(
                matches!(classify_reply(&reply(status, None), now), Outcome::Retry { .. }),
                "{status}"
            );
        }
        for status in [401, 403] {
            assert!(matches!(classify_reply(&reply(status, None), now), Outcome::Unauthorised(_)));
        }
        for status in [301, 302, 400, 404, 413, 422] {
            assert!(
                matches!(classify_reply(&reply(status, None), now), Outcome::Refused(_)),
                "{status}"
            );
        }
        let timeout = Err(VendorCallError::Timeout(Duration::from_secs(1)));
        assert!(matches!(classify_reply(&timeout, now), Outcome::Retry { .. }));
    }
}

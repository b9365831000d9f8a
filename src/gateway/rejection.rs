//! The reasons for refusing a request, and the responses: `application/problem+json` (RFC 9457). The only place
//! that chooses status codes.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use tagway_core::answer::ResponseBody;
use tagway_vendors::beacon::{BeaconDecodeError, BeaconOutcome};
use tagway_vendors::beacon_format::RejectedMessage;

/// The reason for refusing a request.
#[derive(Debug)]
pub(super) enum RequestRejection {
    /// No site has this host.
    UnknownHost,
    /// No route has this path.
    UnknownRoute,
    /// The route does not accept the method.
    Method {
        /// The methods that the route accepts.
        allow: &'static str,
    },
    /// The page is not one of the site's.
    ForeignOrigin,
    /// The write key or the server token is missing or wrong.
    BadKey,
    /// A quota of requests, events or bytes is used up.
    RateLimited(RateLimitExceeded),
    /// The body is longer than `limits.body_bytes`, or than `limits.inflated_bytes` decompressed.
    TooLarge,
    /// The body took longer than `limits.body_time`.
    TooSlow,
    /// The body ended early.
    Broken,
    /// A `Content-Encoding` is unknown, or there are too many of them.
    UnknownEncoding,
    /// The body is not what its `Content-Encoding` says.
    BadEncoding,
    /// The body is not JSON of the expected form.
    Malformed(&'static str),
    /// The body has more than `limits.batch_events` messages.
    TooMany,
    /// None of the messages can be accepted.
    NothingValid(Vec<RejectedMessage>),
    /// The limit of active requests or bodies is reached.
    Overloaded,
    /// The queue for the disk is full.
    Busy,
    /// The journal has reached its disk limit.
    Full,
    /// The journal cannot be written now.
    Unwritable,
    /// A visitor's profile cannot be read now.
    Unread,
    /// The gateway is shutting down.
    Closing,
}

/// The exceeded limit, and the time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateLimitExceeded {
    /// The exceeded quota: `client`, `network` or `site` of requests, `client_events`, ...
    pub(super) policy: &'static str,
    /// The quota: this many requests, events or bytes at once ...
    pub(super) burst: u32,
    /// ... which recover in this time.
    pub(super) window: Duration,
    /// The time until the next request is accepted.
    pub(super) wait: Duration,
}

/// The seconds for a client to wait when there is no capacity, or the disk is slow or unavailable.
const WAIT_SECONDS: u64 = 1;

#[derive(Serialize)]
struct ProblemDetails<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    /// The detail again, where clients of the Segment API read it: without it some take the response for a network
    /// error and try ten times.
    message: &'a str,
    /// The detail again, where clients of Mixpanel, Umami and Jitsu read it.
    error: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rejected: &'a [RejectedMessage],
}

impl RequestRejection {
    /// Returns the code in the response's body and, for events that are lost by it, in `events_dropped_total`.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown_host",
            Self::UnknownRoute => "unknown_route",
            Self::Method { .. } => "method",
            Self::ForeignOrigin => "foreign_origin",
            Self::BadKey => "bad_write_key",
            Self::RateLimited(_) => "rate_limited",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Broken => "broken_body",
            Self::UnknownEncoding => "unknown_encoding",
            Self::BadEncoding => "bad_encoding",
            Self::Malformed(_) => "malformed",
            Self::TooMany => "too_many_events",
            Self::NothingValid(_) => "invalid",
            Self::Overloaded => "overloaded",
            Self::Busy => "busy",
            Self::Full => "journal_full",
            Self::Unwritable => "unwritable",
            Self::Unread => "unread",
            Self::Closing => "closing",
        }
    }

    /// Returns true if a size limit was exceeded.
    pub(super) const fn is_of_size(&self) -> bool {
        matches!(self, Self::TooLarge | Self::TooMany)
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::UnknownRoute => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::BadKey => StatusCode::UNAUTHORIZED,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge | Self::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Broken | Self::BadEncoding | Self::Malformed(_) | Self::NothingValid(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Overloaded
            | Self::Busy
            | Self::Full
            | Self::Unwritable
            | Self::Unread
            | Self::Closing => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn detail(&self) -> &'static str {
        match self {
            Self::UnknownHost => "no site is configured for this host",
            Self::UnknownRoute => "this path does not exist",
            Self::Method { .. } => "this path does not accept this method",
            Self::ForeignOrigin => "this origin is not one of the site's",
            Self::BadKey => "the write key is missing or wrong",
            Self::RateLimited(_) => "too many requests",
            Self::TooLarge => "the body is too long",
            Self::TooSlow => "the body took too long",
            Self::Broken => "the body ended early",
            Self::UnknownEncoding => "the Content-Encoding must be gzip, deflate, br or zstd",
            Self::BadEncoding => "the body does not match its Content-Encoding",
            Self::Malformed(what) => what,
            Self::TooMany => "too many messages in one request",
            Self::NothingValid(_) => "no message could be accepted",
            Self::Overloaded => "too many requests are in progress",
            Self::Busy => "too many events wait for the disk",
            Self::Full => "the journal is full until earlier events are delivered",
            Self::Unwritable => "events cannot be stored now",
            Self::Unread => "profiles cannot be read now",
            Self::Closing => "the gateway is shutting down",
        }
    }

    /// Returns the response with the problem's details.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let status = self.status();
        let rejected = match &self {
            Self::NothingValid(rejected) => rejected.as_slice(),
            _ => &[],
        };
        let problem = ProblemDetails {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code(),
            detail: self.detail(),
            message: self.detail(),
            error: self.detail(),
            rejected,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(ResponseBody::new(Bytes::from(body)));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match &self {
            Self::Method { allow } => {
                fields.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::BadKey => {
                let scheme =
                    HeaderValue::from_static("Basic realm=\"write key\", charset=\"UTF-8\"");
                fields.insert(http::header::WWW_AUTHENTICATE, scheme);
            }
            _ => self.announce(fields),
        }
        response
    }

    /// Adds the time to retry, where that may help.
    pub(super) fn announce(&self, fields: &mut http::HeaderMap) {
        match self {
            Self::RateLimited(limited) => limited.announce(fields),
            Self::Overloaded
            | Self::Busy
            | Self::Full
            | Self::Unwritable
            | Self::Unread
            | Self::Closing => {
                fields.insert(RETRY_AFTER, HeaderValue::from(WAIT_SECONDS));
            }
            _ => {}
        }
    }

    /// Returns the outcome from which a vendor's library gets its response.
    pub(super) const fn verdict(&self) -> BeaconOutcome {
        match self {
            Self::RateLimited(_) => BeaconOutcome::RetryLater { limited: true },
            Self::Overloaded
            | Self::Busy
            | Self::Full
            | Self::Unwritable
            | Self::Unread
            | Self::Closing => BeaconOutcome::RetryLater { limited: false },
            // Some libraries then send it in parts.
            Self::TooLarge | Self::TooMany => BeaconOutcome::TooLarge,
            _ => BeaconOutcome::Ignored,
        }
    }
}

impl RateLimitExceeded {
    /// Adds `Retry-After` (RFC 9110), and `RateLimit-Policy` and `RateLimit` as in
    /// draft-ietf-httpapi-ratelimit-headers-10.
    fn announce(&self, fields: &mut http::HeaderMap) {
        let whole = |time: Duration| time.as_secs_f64().ceil().max(1.0);
        let (wait, window) = (whole(self.wait), whole(self.window));
        let texts = [
            (RETRY_AFTER, format!("{wait}")),
            (
                HeaderName::from_static("ratelimit-policy"),
                format!("\"{}\";q={};w={window}", self.policy, self.burst),
            ),
            (HeaderName::from_static("ratelimit"), format!("\"{}\";r=0;t={wait}", self.policy)),
        ];
        for (name, text) in texts {
            if let Ok(value) = HeaderValue::try_from(text) {
                fields.insert(name, value);
            }
        }
    }
}

impl From<BeaconDecodeError> for RequestRejection {
    fn from(error: BeaconDecodeError) -> Self {
        match error {
            BeaconDecodeError::Malformed(why) => Self::Malformed(why),
            BeaconDecodeError::TooMany => Self::TooMany,
            BeaconDecodeError::TooLarge => Self::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limit_response_names_the_time_to_retry() {
        let limited = RateLimitExceeded {
            policy: "client",
            burst: 200,
            window: Duration::from_secs(4),
            wait: Duration::from_millis(20),
        };
        let response = RequestRejection::RateLimited(limited).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["ratelimit-policy"], "\"client\";q=200;w=4");
        assert_eq!(response.headers()["ratelimit"], "\"client\";r=0;t=1");
    }

    #[test]
    fn only_a_lack_of_capacity_or_disk_has_a_retry_after() {
        let lacks = [
            RequestRejection::Overloaded,
            RequestRejection::Busy,
            RequestRejection::Full,
            RequestRejection::Unwritable,
            RequestRejection::Closing,
        ];
        for rejection in lacks {
            let response = rejection.into_response();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "1");
        }
        let response = RequestRejection::Malformed("x").into_response();
        assert_eq!(response.status(), 400);
        assert!(!response.headers().contains_key("retry-after"));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

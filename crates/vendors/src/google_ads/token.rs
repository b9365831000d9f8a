//! Google's access tokens: valid for an hour each, obtained for a refresh token (OAuth 2.0, RFC 6749 section
//! 6).

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::{ConfidentialReply, Outcome, OutcomeReason, VendorCall, classify_reply};
use tagway_settings::{SecretString, SettingsSection};

/// The time before its end at which a token is replaced: longer than a call takes.
const MARGIN: Duration = Duration::from_secs(120);

/// The lifetime of a token whose reply states none.
const LIFETIME_SECONDS: i64 = 3600;

/// The credentials for Google, and the current token.
pub(super) struct GoogleAdsTokens {
    uri: Uri,
    client_id: String,
    client_secret: SecretString,
    refresh_token: SecretString,
    /// The last token and its end.
    last: Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl GoogleAdsTokens {
    /// Reads the credentials; `uri` is the token endpoint.
    pub(super) fn read(section: &mut SettingsSection<'_>, uri: Uri) -> Self {
        section.describe(super::SETTINGS);
        let client_id = section.string("client_id");
        let client_secret = section.secret("client_secret");
        let refresh_token = section.secret("refresh_token");
        Self { uri, client_id, client_secret, refresh_token, last: Mutex::default() }
    }

    /// Returns the secrets that must not be shown.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        vec![self.client_secret.clone(), self.refresh_token.clone()]
    }

    /// Returns the `Authorization` header of a call.
    pub(super) async fn bearer(&self, call: &dyn VendorCall) -> Result<HeaderValue, Outcome> {
        let now = call.now();
        let last = self.last.lock().clone();
        if let Some((bearer, _)) = last.filter(|(_, ends)| now + MARGIN < *ends) {
            return Ok(bearer);
        }
        let result = call.call(self.request()).await;
        let body = result.as_ref().ok().and_then(|reply| reply.json()).unwrap_or_default();
        match classify_reply(&result, now) {
            Outcome::Delivered => {}
            // `invalid_grant` and the like: a person must sign in again.
            Outcome::Refused(_) => {
                let message = body.get("error").and_then(Value::as_str).unwrap_or("refused");
                let message: String = message.chars().take(100).collect();
                return Err(Outcome::Unauthorised(OutcomeReason::detailed(
                    "unauthorised",
                    message,
                )));
            }
            other => return Err(other),
        }
        let token = body.get("access_token").and_then(Value::as_str);
        if let Some(token) = token {
            call.register_secret(&SecretString::new(token));
        }
        let bearer = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let Some(mut bearer) = bearer else {
            let reason = OutcomeReason::new("unreadable_reply");
            return Err(Outcome::Retry { reason, after: None });
        };
        bearer.set_sensitive(true);
        let seconds = body.get("expires_in").and_then(Value::as_i64).unwrap_or(LIFETIME_SECONDS);
        let ends = now + Duration::from_secs(seconds.clamp(0, LIFETIME_SECONDS).unsigned_abs());
        let kept = Some((bearer.clone(), ends));
        *self.last.lock() = kept;
        Ok(bearer)
    }

    /// Discards the last token, which Google refused.
    pub(super) fn forget(&self) {
        *self.last.lock() = None;
    }

    fn request(&self) -> Request<Bytes> {
        let form = Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.expose())
            .append_pair("refresh_token", self.refresh_token.expose())
            .finish();
        let mut request = Request::new(Bytes::from(form));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        request.extensions_mut().insert(ConfidentialReply);
        request
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{self, CannedReplies};

    fn tokens() -> GoogleAdsTokens {
        let text = "client_id = \"c\"\nclient_secret = \"hush\"\nrefresh_token = \"1//hush\"";
        let uri = Uri::from_static("http://127.0.0.1/token");
        test_support::settings(text, |section| GoogleAdsTokens::read(section, uri))
    }

    #[tokio::test]
    async fn token_is_replaced_shortly_before_its_end() {
        let tokens = tokens();
        let line = CannedReplies::default()
            .then(200, json!({ "access_token": "one", "expires_in": 3599 }))
            .then(200, json!({ "access_token": "two", "expires_in": 100 }))
            .then(200, json!({ "access_token": "three" }));
        for _ in 0..3 {
            assert_eq!(tokens.bearer(&line).await.unwrap(), "Bearer one");
        }
        tokens.forget();
        assert_eq!(tokens.bearer(&line).await.unwrap(), "Bearer two");
        assert_eq!(tokens.bearer(&line).await.unwrap(), "Bearer three", "two ends too soon");
        assert!(tokens.bearer(&line).await.unwrap().is_sensitive());
        assert_eq!(line.requests().len(), 3);
    }
}

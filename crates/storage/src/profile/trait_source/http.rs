//! The client of a profile API over HTTP: one GET for each person.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use super::settings::HttpTraitSettings;
use super::{TraitClient, TraitReply, TraitSourceError, TraitSourceSetupError};
use tagway_core::address::{EgressResolver, PrivateAddressError, literal_is_public};

/// A trait source over HTTP.
pub(super) struct HttpTraitClient {
    client: reqwest::Client,
    headers: HeaderMap,
    path: String,
    allow_private: bool,
    reply_bytes: usize,
}

impl HttpTraitClient {
    pub(super) fn new(
        settings: &HttpTraitSettings,
        timeout: Duration,
        reply_bytes: usize,
        allow_private: bool,
    ) -> Result<Self, TraitSourceSetupError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tagway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(EgressResolver::new(allow_private)))
            .build()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            let mut value = HeaderValue::from_str(value.expose())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { client, headers, path: settings.path.clone(), allow_private, reply_bytes })
    }

    async fn call(&self, url: &str) -> Result<TraitReply, TraitSourceError> {
        // The text was a URL when the template was filled.
        let Ok(url) = Url::parse(url) else { return Ok(TraitReply::Refused) };
        if !self.allow_private && !literal_is_public(&url) {
            return Err(TraitSourceError::Forbidden);
        }
        let request = self.client.get(url).headers(self.headers.clone());
        let mut response = request.send().await.map_err(call_error)?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Ok(TraitReply::Unknown);
            }
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                return Err(TraitSourceError::Status(status.as_u16()));
            }
            status if status.is_server_error() => {
                return Err(TraitSourceError::Status(status.as_u16()));
            }
            status if !status.is_success() => return Ok(TraitReply::Refused),
            _ => {}
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(call_error)? {
            if body.len() + chunk.len() > self.reply_bytes {
                // The connection is closed, not drained.
                return Ok(TraitReply::Refused);
            }
            body.extend_from_slice(&chunk);
        }
        let Ok(mut reply) = serde_json::from_slice::<Value>(&body) else {
            return Ok(TraitReply::Refused);
        };
        Ok(match reply.pointer_mut(&self.path).map(Value::take) {
            None | Some(Value::Null) => TraitReply::Unknown,
            Some(Value::Object(traits)) => TraitReply::Known(traits),
            Some(_) => TraitReply::Refused,
        })
    }
}

#[async_trait]
impl TraitClient for HttpTraitClient {
    fn max_batch_keys(&self) -> usize {
        1
    }

    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<TraitReply>, TraitSourceError> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.call(key).await?);
        }
        Ok(answers)
    }
}

fn call_error(error: reqwest::Error) -> TraitSourceError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.is::<PrivateAddressError>() {
            return TraitSourceError::Forbidden;
        }
        source = cause.source();
    }
    // Without the URL, which names the person and may hold a secret.
    TraitSourceError::Unreachable(Arc::new(error.without_url()))
}

//! A profile API: one GET for each person.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use super::settings::HttpSettings;
use super::{Answer, Source, SourceError, SourceSetupError};
use crate::address::{Guarded, Resolver, literal_is_public};

/// What answers over HTTP.
pub(super) struct Http {
    client: reqwest::Client,
    headers: HeaderMap,
    path: String,
    allow_private: bool,
    reply_bytes: usize,
}

impl Http {
    pub(super) fn new(
        settings: &HttpSettings,
        timeout: Duration,
        reply_bytes: usize,
        allow_private: bool,
    ) -> Result<Self, SourceSetupError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tagway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(Resolver::new(allow_private)))
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

    async fn ask(&self, url: &str) -> Result<Answer, SourceError> {
        // It was one when the template was filled.
        let Ok(url) = Url::parse(url) else { return Ok(Answer::Refused) };
        if !self.allow_private && !literal_is_public(&url) {
            return Err(SourceError::Forbidden);
        }
        let request = self.client.get(url).headers(self.headers.clone());
        let mut response = request.send().await.map_err(call_error)?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Ok(Answer::Unknown);
            }
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                return Err(SourceError::Status(status.as_u16()));
            }
            status if status.is_server_error() => {
                return Err(SourceError::Status(status.as_u16()));
            }
            status if !status.is_success() => return Ok(Answer::Refused),
            _ => {}
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(call_error)? {
            if body.len() + chunk.len() > self.reply_bytes {
                // The connection is closed, not drained.
                return Ok(Answer::Refused);
            }
            body.extend_from_slice(&chunk);
        }
        let Ok(mut reply) = serde_json::from_slice::<Value>(&body) else {
            return Ok(Answer::Refused);
        };
        Ok(match reply.pointer_mut(&self.path).map(Value::take) {
            None | Some(Value::Null) => Answer::Unknown,
            Some(Value::Object(traits)) => Answer::Known(traits),
            Some(_) => Answer::Refused,
        })
    }
}

#[async_trait]
impl Source for Http {
    fn most(&self) -> usize {
        1
    }

    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<Answer>, SourceError> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.ask(key).await?);
        }
        Ok(answers)
    }
}

fn call_error(error: reqwest::Error) -> SourceError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.is::<Guarded>() {
            return SourceError::Forbidden;
        }
        source = cause.source();
    }
    // Without the URL, which names the person and may hold a secret.
    SourceError::Unreachable(Arc::new(error.without_url()))
}

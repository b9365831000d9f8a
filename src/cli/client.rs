//! The client commands' access to the admin API: HTTP/1.1 without TLS, meant for loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, redirect};
use serde_json::Value;

use super::{AdminArgs, CommandError, admin_endpoint, render};
use crate::admin;
use crate::config::ConfigSource;
use tagway_settings::SecretString;

/// The longest wait for the gateway to accept a connection, or to respond.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The longest wait for commands that scan the whole journal: minutes for the 20 GiB that it stores by
/// default.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3600);

/// The longest silence of a stream: heartbeats come far more often.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest response, or line of a stream, in bytes.
const ANSWER_BYTES: usize = 32 << 20;

/// The environment variable of the token.
const TOKEN_VARIABLE: &str = "TAGWAY_ADMIN_TOKEN";

/// The characters of a text that are escaped in a path or a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A client of one gateway's admin API.
#[derive(Debug)]
pub(super) struct AdminClient {
    client: Client,
    address: String,
    /// The host name for requests, if not the address.
    host: Option<String>,
    token: SecretString,
    answer_time: Duration,
}

/// The response of a site's host.
#[derive(Debug)]
pub(super) struct SiteResponse {
    pub(super) status: StatusCode,
    /// The wait before the next attempt.
    pub(super) wait: Duration,
    pub(super) body: Value,
}

impl AdminClient {
    /// Creates a client for the gateway that the options or the configuration name.
    pub(super) fn new(origin: &ConfigSource, reach: &AdminArgs) -> Result<Self, CommandError> {
        let variable = origin.variables.get(TOKEN_VARIABLE).filter(|token| !token.is_empty());
        let said =
            reach.token.clone().or_else(|| variable.map(|token| SecretString::new(token.as_str())));
        if let (Some(address), Some(token)) = (&reach.admin, &said) {
            origin.redaction.add(token);
            let (address, token) = (address.clone(), token.clone());
            return Ok(Self::of(address, None, token)?);
        }
        let whereabouts = admin_endpoint(origin)?;
        let address = match &reach.admin {
            Some(address) => address.clone(),
            None if whereabouts.admin.port() == 0 => {
                let message =
                    "listen.admin has port 0, a free port: name the actual port with --admin";
                return Err(CommandError::Usage(message.to_owned()));
            }
            None => callable(whereabouts.admin).to_string(),
        };
        let kept = || admin::read_token(&whereabouts.data_dir);
        let token = said.map_or_else(kept, Ok).context(
            "no admin token: the gateway creates data_dir/admin.token at its first start; on another \
             machine set --token or TAGWAY_ADMIN_TOKEN",
        )?;
        origin.redaction.add(&token);
        Ok(Self::of(address, None, token)?)
    }

    fn of(address: String, host: Option<String>, token: SecretString) -> anyhow::Result<Self> {
        // Each request has a connection of its own: the gateway closes idle ones for others.
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()
            .context("the HTTP client cannot start")?;
        Ok(Self { client, address, host, token, answer_time: ANSWER_TIME })
    }

    /// Sets the long timeout, for commands that scan all of the gateway's data.
    pub(super) fn with_long_timeout(self) -> Self {
        Self { answer_time: SEARCH_TIMEOUT, ..self }
    }

    /// Creates a client for a site's own host, as one of its servers.
    pub(super) fn of_site(
        address: String,
        host: Option<String>,
        token: SecretString,
    ) -> anyhow::Result<Self> {
        Self::of(address, host, token)
    }

    #[cfg(test)]
    pub(super) fn at(address: SocketAddr, token: SecretString) -> Self {
        Self::of(address.to_string(), None, token).unwrap()
    }

    /// Gets a JSON response.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.in_time(async {
            json(accepted(self.send(Method::GET, path, None).await?).await?).await
        })
        .await
    }

    /// Posts JSON and gets a JSON response.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let exchange =
            async { json(accepted(self.send(Method::POST, path, Some(body)).await?).await?).await };
        self.in_time(exchange).await
    }

    /// Posts JSON and gets any response.
    pub(super) async fn post_unchecked(
        &self,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<SiteResponse> {
        let exchange = async {
            let response = self.send(Method::POST, path, Some(body)).await?;
            let status = response.status();
            let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
            let wait = wait.and_then(|wait| wait.trim().parse().ok()).unwrap_or(1);
            let body = serde_json::from_slice(&collect(response).await?).unwrap_or_default();
            Ok(SiteResponse { status, wait: Duration::from_secs(wait), body })
        };
        self.in_time(exchange).await
    }

    /// Gets a JSON response; `None` if the resource does not exist.
    pub(super) async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let exchange = async {
            let response = self.send(Method::GET, path, None).await?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            json(accepted(response).await?).await.map(Some)
        };
        self.in_time(exchange).await
    }

    /// Opens a stream of lines. On return, the gateway is watching.
    pub(super) async fn lines(&self, path: &str) -> anyhow::Result<JsonLineStream> {
        let response = self.in_time(self.send(Method::GET, path, None)).await?;
        Ok(JsonLineStream { response: accepted(response).await?, pending: Vec::new() })
    }

    async fn in_time<T>(
        &self,
        exchange: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::time::timeout(self.answer_time, exchange)
            .await
            .context("the gateway did not answer in time")?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let address = &self.address;
        let request = self
            .client
            .request(method, format!("http://{address}{path}"))
            .header(HOST, self.host.as_ref().unwrap_or(address))
            .bearer_auth(self.token.expose())
            .header(CONTENT_TYPE, "application/json")
            .body(body.map(Value::to_string).unwrap_or_default());
        request.send().await.map_err(|error| {
            let is_unreachable = error.is_connect();
            let error = anyhow::Error::from(error.without_url());
            if is_unreachable {
                error.context(format!("no gateway answers at {address}: start it or set --admin"))
            } else {
                error
            }
        })
    }
}

/// The lines of a stream.
#[derive(Debug)]
pub(super) struct JsonLineStream {
    response: Response,
    pending: Vec<u8>,
}

impl JsonLineStream {
    /// Returns the next happening; `None` when the gateway ended the stream. Cancel safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.pending) {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                if !line.trim_ascii().is_empty() {
                    let value = serde_json::from_slice(&line);
                    return value.map(Some).context("the gateway's stream is not JSON");
                }
            }
            if self.pending.len() > ANSWER_BYTES {
                bail!("the gateway's stream has a line that is too long");
            }
            let chunk = tokio::time::timeout(STREAM_IDLE_TIMEOUT, self.response.chunk());
            let chunk = chunk.await.context("the gateway sent no data for 60 s")?;
            match chunk.map_err(reqwest::Error::without_url) {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => self.pending.extend_from_slice(&bytes),
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    return Err(error.context("the connection to the gateway was cut"));
                }
            }
        }
    }
}

/// Encodes a text as part of a path or a query.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Returns an address to connect to: a listener on every interface is called on loopback.
fn callable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Reads the whole body of a response, within [`ANSWER_BYTES`].
async fn collect(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let incomplete = "the gateway's answer is incomplete";
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(reqwest::Error::without_url).context(incomplete)?
    {
        if body.len() + chunk.len() > ANSWER_BYTES {
            bail!("the gateway's answer is longer than {} MiB", ANSWER_BYTES >> 20);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn json(response: Response) -> anyhow::Result<Value> {
    serde_json::from_slice(&collect(response).await?).context("the gateway's answer is not JSON")
}

/// Returns the response if it is a success; fails with the gateway's reason for the rejection, for people.
async fn accepted(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem: Value = serde_json::from_slice(&collect(response).await?).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
    bail!("the gateway refused ({}): {}", status.as_u16(), render::escape(detail, 500))
}

//! The client commands' access to the admin API: HTTP/1.1 without TLS, meant for loopback.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

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

/// A client of one gateway's admin API.
#[derive(Debug)]
pub(super) struct AdminClient {
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
            return Ok(Self { address, host: None, token, answer_time: ANSWER_TIME });
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
        Ok(Self { address, host: None, token, answer_time: ANSWER_TIME })
    }

    /// Sets the long timeout, for commands that scan all of the gateway's data.
    pub(super) fn with_long_timeout(self) -> Self {
        Self { answer_time: SEARCH_TIMEOUT, ..self }
    }

    /// Creates a client for a site's own host, as one of its servers.
    pub(super) fn of_site(address: String, host: Option<String>, token: SecretString) -> Self {
        Self { address, host, token, answer_time: ANSWER_TIME }
    }

    #[cfg(test)]
    pub(super) fn at(address: SocketAddr, token: SecretString) -> Self {
        Self { address: address.to_string(), host: None, token, answer_time: ANSWER_TIME }
    }

    /// Gets a JSON response.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    /// Posts JSON and gets a JSON response.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.exchange(Method::POST, path, Bytes::from(body.to_string())).await
    }

    /// Posts JSON and gets any response.
    pub(super) async fn post_unchecked(
        &self,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<SiteResponse> {
        let mut connection = JoinSet::new();
        let exchange = async {
            let body = Bytes::from(body.to_string());
            let response = self.request(Method::POST, path, body, &mut connection).await?;
            let status = response.status();
            let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
            let wait = wait.and_then(|wait| wait.trim().parse().ok()).unwrap_or(1);
            let body = collect(response.into_body()).await?;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            anyhow::Ok(SiteResponse { status, wait: Duration::from_secs(wait), body })
        };
        tokio::time::timeout(self.answer_time, exchange)
            .await
            .context("the gateway did not answer in time")?
    }

    /// Gets a JSON response; `None` if the resource does not exist.
    pub(super) async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let mut connection = JoinSet::new();
        let exchange = async {
            let response = self.request(Method::GET, path, Bytes::new(), &mut connection).await?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            if !response.status().is_success() {
                bail!(refusal(response).await?);
            }
            let body = collect(response.into_body()).await?;
            serde_json::from_slice(&body).map(Some).context("the gateway's answer is not JSON")
        };
        tokio::time::timeout(self.answer_time, exchange)
            .await
            .context("the gateway did not answer in time")?
    }

    /// Opens a stream of lines. On return, the gateway is watching.
    pub(super) async fn lines(&self, path: &str) -> anyhow::Result<JsonLineStream> {
        let mut connection = JoinSet::new();
        let response = self.request(Method::GET, path, Bytes::new(), &mut connection).await?;
        if !response.status().is_success() {
            bail!(refusal(response).await?);
        }
        Ok(JsonLineStream {
            body: response.into_body(),
            pending: Vec::new(),
            _connection: connection,
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        let mut connection = JoinSet::new();
        let exchange = async {
            let response = self.request(method, path, body, &mut connection).await?;
            if !response.status().is_success() {
                bail!(refusal(response).await?);
            }
            let body = collect(response.into_body()).await?;
            serde_json::from_slice(&body).context("the gateway's answer is not JSON")
        };
        tokio::time::timeout(self.answer_time, exchange)
            .await
            .context("the gateway did not answer in time")?
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        connections: &mut JoinSet<()>,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.host.as_ref().unwrap_or(&self.address))
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .context("the request cannot be built")?;
        let address = &self.address;
        let connecting = async {
            let stream = TcpStream::connect(address).await.with_context(|| {
                format!("no gateway answers at {address}: start it or set --admin")
            })?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            connections.spawn(async move {
                // Errors of the connection show in the exchange that uses it.
                drop(connection.await);
            });
            anyhow::Ok(sender.send_request(request).await?)
        };
        tokio::time::timeout(self.answer_time, connecting)
            .await
            .context("the gateway did not answer in time")?
    }
}

/// The lines of a stream.
#[derive(Debug)]
pub(super) struct JsonLineStream {
    body: Incoming,
    pending: Vec<u8>,
    // Dropping the set stops the connection.
    _connection: JoinSet<()>,
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
            let frame = tokio::time::timeout(STREAM_IDLE_TIMEOUT, self.body.frame());
            match frame.await.context("the gateway sent no data for 60 s")? {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.context("the connection to the gateway was cut")?;
                    self.pending.extend(frame.data_ref().into_iter().flatten());
                }
            }
        }
    }
}

/// Encodes a text as part of a path or a query.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
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

async fn collect(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(anyhow::Error::from_boxed);
    Ok(body.context("the gateway's answer is incomplete")?.to_bytes())
}

/// The gateway's reason for a rejection, for people.
async fn refusal(response: Response<Incoming>) -> anyhow::Result<String> {
    let status = response.status();
    let body = collect(response.into_body()).await?;
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
    Ok(format!("the gateway refused ({}): {}", status.as_u16(), render::escape(detail, 500)))
}

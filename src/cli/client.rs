//! The client commands' access to the admin API: HTTP/1.1, over TLS beyond this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, redirect};
use serde_json::Value;

use super::admin_url::AdminUrl;
use super::{
    AdminArgs, CommandError, admin_endpoint, exchange_error, print_error, server_certificate,
};
use crate::admin;
use crate::config::{AdminEndpoint, ConfigSource};
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

/// The error without a token.
const NO_TOKEN: &str = "no admin token: the gateway creates data_dir/admin.token at its first start; on another \
    machine set --token or TAGWAY_ADMIN_TOKEN";

/// The characters of a text that are escaped in a path or a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A client of one gateway's admin API.
#[derive(Debug)]
pub(super) struct AdminClient {
    client: Client,
    base: AdminUrl,
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
        // The configuration is read only where an option is missing.
        let endpoint = match (&reach.admin, &said) {
            (Some(_), Some(_)) => None,
            _ => Some(admin_endpoint(origin)?),
        };
        let base = find_base(reach.admin.as_deref(), endpoint.as_ref())?;
        let token = match &endpoint {
            Some(endpoint) if said.is_none() => Some(admin::read_token(&endpoint.data_dir)),
            _ => None,
        };
        let token = token.transpose().context(NO_TOKEN)?.or(said).unwrap_or_default();
        origin.redaction.add(&token);
        if reach.admin.is_some() && !base.is_tls() && !base.is_loopback() {
            let at = base.host_and_port();
            print_error(&format!(
                "warning: the token travels unencrypted to {at}: set --admin https://.."
            ));
        }
        let is_own = reach.admin.is_none() || base.is_loopback();
        let own = endpoint.filter(|_| is_own).map(|endpoint| endpoint.certificates);
        let trust = match (&reach.admin_ca, own) {
            (Some(file), _) => Some(server_certificate::trust_authorities(file)?),
            (None, Some(own)) if !own.is_empty() => Some(server_certificate::trust_own(&own)?),
            (None, _) => None,
        };
        Ok(Self::of(base, trust, None, token)?)
    }

    fn of(
        base: AdminUrl,
        trust: Option<rustls::ClientConfig>,
        host: Option<String>,
        token: SecretString,
    ) -> anyhow::Result<Self> {
        // Each request has a connection of its own: the gateway closes idle ones for others.
        let builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .http1_only()
            .pool_max_idle_per_host(0);
        let builder = match trust {
            Some(trust) => builder.tls_backend_preconfigured(trust),
            None => builder,
        };
        let client = builder.build().context("the HTTP client cannot start")?;
        Ok(Self { client, base, host, token, answer_time: ANSWER_TIME })
    }

    /// Sets the long timeout, for commands that scan all of the gateway's data.
    pub(super) fn with_long_timeout(self) -> Self {
        Self { answer_time: SEARCH_TIMEOUT, ..self }
    }

    /// Creates a client for a site's own host, as one of its servers.
    pub(super) fn of_site(
        address: &str,
        host: Option<String>,
        token: SecretString,
    ) -> Result<Self, CommandError> {
        let base = AdminUrl::parse(&format!("http://{address}"), false);
        Ok(Self::of(base.map_err(CommandError::Usage)?, None, host, token)?)
    }

    #[cfg(test)]
    pub(super) fn at(address: SocketAddr, token: SecretString) -> Self {
        Self::of_site(&address.to_string(), None, token).unwrap()
    }

    /// Gets a JSON response.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.in_time(async {
            json(self.accepted(self.send(Method::GET, path, None).await?).await?).await
        })
        .await
    }

    /// Posts JSON and gets a JSON response.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let exchange = async {
            json(self.accepted(self.send(Method::POST, path, Some(body)).await?).await?).await
        };
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
            json(self.accepted(response).await?).await.map(Some)
        };
        self.in_time(exchange).await
    }

    /// Opens a stream of lines. On return, the gateway is watching.
    pub(super) async fn lines(&self, path: &str) -> anyhow::Result<JsonLineStream> {
        let response = self.in_time(self.send(Method::GET, path, None)).await?;
        Ok(JsonLineStream { response: self.accepted(response).await?, pending: Vec::new() })
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
        let mut request = self
            .client
            .request(method, self.base.join(path))
            .bearer_auth(self.token.expose())
            .header(CONTENT_TYPE, "application/json")
            .body(body.map(Value::to_string).unwrap_or_default());
        if let Some(host) = &self.host {
            request = request.header(HOST, host);
        }
        request.send().await.map_err(|error| exchange_error::without_answer(error, &self.base))
    }

    /// Returns the response if it is a success; fails with the reason for the rejection, for people.
    async fn accepted(&self, response: Response) -> anyhow::Result<Response> {
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, fields) = (response.status(), response.headers().clone());
        let body = collect(response).await?;
        Err(exchange_error::rejected(status, &fields, &body, &self.base))
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

/// Finds the address of the admin API: the named one, or that of the configuration.
fn find_base(
    named: Option<&str>,
    endpoint: Option<&AdminEndpoint>,
) -> Result<AdminUrl, CommandError> {
    let is_local_tls = endpoint.is_some_and(|endpoint| !endpoint.certificates.is_empty());
    let address = match (named, endpoint) {
        (Some(named), _) => named.to_owned(),
        (None, Some(endpoint)) if endpoint.admin.port() != 0 => {
            let scheme = if is_local_tls { "https" } else { "http" };
            format!("{scheme}://{}", callable(endpoint.admin))
        }
        (None, _) => {
            let message = "listen.admin has port 0, a free port: name the actual port with --admin";
            return Err(CommandError::Usage(message.to_owned()));
        }
    };
    AdminUrl::parse(&address, is_local_tls).map_err(CommandError::Usage)
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

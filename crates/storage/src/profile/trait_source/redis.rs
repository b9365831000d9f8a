//! The client of Redis or a compatible server (Valkey): a hash for each person, read for all of a batch at once.
//!
//! Only the operator sets its address, like the database's, and it is mostly a private one: the guard
//! of outbound addresses is not applied.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisError, Value};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::replies::{BoundedReplyStream, TOO_LARGE_CODE};
use super::settings::RedisTraitSettings;
use super::{TraitClient, TraitReply, TraitSourceError, TraitSourceSetupError};
use tagway_core::event::JsonObject;

/// The most people in one batch: the events that a destination reads from the journal in one step.
const MAX_BATCH_KEYS: usize = 256;

/// A reply has lengths and line ends besides a person's traits.
const BYTES_PER_TRAIT_BYTE: usize = 8;
const BYTES_BESIDES: usize = 1024;

/// A trait source on a Redis server.
pub(super) struct RedisTraitClient {
    client: Client,
    tls: Option<TlsConnector>,
    connection: Mutex<Option<RedisConnection>>,
    timeout: Duration,
    reply_bytes: usize,
}

/// A connection, and the task that moves its requests and replies; the task ends with the last clone.
#[derive(Clone)]
struct RedisConnection {
    requests: MultiplexedConnection,
    driver: Arc<AbortOnDropHandle<()>>,
    /// Set if a request was not answered: the next reply cannot be attributed.
    is_broken: Arc<AtomicBool>,
}

/// A request without an answer yet. If it is dropped so, by an error or because its waiter gave up, the
/// connection takes no further request.
struct UnansweredRequest(Arc<AtomicBool>);

impl UnansweredRequest {
    /// Marks the request as answered.
    fn end(mut self) {
        self.0 = Arc::default();
    }
}

impl Drop for UnansweredRequest {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

trait RedisStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> RedisStream for S {}

impl RedisTraitClient {
    /// Creates the client. It connects with the first batch, and again whenever the connection is lost.
    pub(super) fn new(
        settings: &RedisTraitSettings,
        timeout: Duration,
        reply_bytes: usize,
    ) -> Result<Self, TraitSourceSetupError> {
        let client = Client::open(settings.url.expose())?;
        let is_tls = matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. });
        let tls = if is_tls { Some(connector()?) } else { None };
        Ok(Self { client, tls, connection: Mutex::default(), timeout, reply_bytes })
    }

    /// Returns the connection; opens a new one if it is broken.
    async fn connection(&self) -> Result<RedisConnection, RedisError> {
        let mut connection = self.connection.lock().await;
        let is_usable = |open: &&RedisConnection| {
            !open.driver.is_finished() && !open.is_broken.load(Ordering::Relaxed)
        };
        if let Some(open) = connection.as_ref().filter(is_usable) {
            return Ok(open.clone());
        }
        let made = tokio::time::timeout(self.timeout, self.connect()).await;
        let made =
            made.map_err(|_elapsed| RedisError::from(io::Error::from(io::ErrorKind::TimedOut)))??;
        Ok(connection.insert(made).clone())
    }

    async fn connect(&self) -> Result<RedisConnection, RedisError> {
        let info = self.client.get_connection_info();
        let tcp = async |host: &str, port: u16| {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        let stream: Box<dyn RedisStream> = match (info.addr(), &self.tls) {
            (ConnectionAddr::Tcp(host, port), _) => Box::new(tcp(host, *port).await?),
            (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                Box::new(tls.connect(name, tcp(host, *port).await?).await?)
            }
            (ConnectionAddr::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let max =
            self.reply_bytes.saturating_mul(BYTES_PER_TRAIT_BYTE).saturating_add(BYTES_BESIDES);
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.timeout));
        let stream = BoundedReplyStream::new(stream, max);
        let making =
            MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await;
        let (requests, driver) = making?;
        // The task ends with the connection.
        let driver = AbortOnDropHandle::new(TaskTracker::new().spawn(driver));
        Ok(RedisConnection { requests, driver: Arc::new(driver), is_broken: Arc::default() })
    }

    fn answer(&self, value: Value) -> Result<TraitReply, TraitSourceError> {
        if let Value::ServerError(error) = &value {
            return match error.code() {
                // These errors concern this key alone.
                "WRONGTYPE" | "NOPERM" | TOO_LARGE_CODE => Ok(TraitReply::Refused),
                _ => Err(TraitSourceError::Unreachable(Arc::new(redis::RedisError::from(
                    error.clone(),
                )))),
            };
        }
        let Ok(pairs) = redis::from_redis_value::<Vec<(Vec<u8>, Vec<u8>)>>(value) else {
            return Ok(TraitReply::Refused);
        };
        if pairs.is_empty() {
            return Ok(TraitReply::Unknown);
        }
        let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > self.reply_bytes {
            return Ok(TraitReply::Refused);
        }
        let pair = |(name, value): (Vec<u8>, Vec<u8>)| {
            let text = || String::from_utf8_lossy(&value).into_owned().into();
            let value = serde_json::from_slice(&value).unwrap_or_else(|_text| text());
            (String::from_utf8_lossy(&name).into_owned(), value)
        };
        Ok(TraitReply::Known(pairs.into_iter().map(pair).collect::<JsonObject>()))
    }
}

#[async_trait]
impl TraitClient for RedisTraitClient {
    fn max_batch_keys(&self) -> usize {
        MAX_BATCH_KEYS
    }

    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<TraitReply>, TraitSourceError> {
        let mut batch = redis::pipe();
        batch.ignore_errors();
        for key in keys {
            batch.cmd("HGETALL").arg(key.as_bytes());
        }
        let unreachable = |error: RedisError| {
            if error.is_timeout() {
                return TraitSourceError::Timeout;
            }
            TraitSourceError::Unreachable(Arc::new(error))
        };
        let mut connection = self.connection().await.map_err(unreachable)?;
        let unanswered = UnansweredRequest(connection.is_broken.clone());
        let values: Vec<Value> =
            batch.query_async(&mut connection.requests).await.map_err(unreachable)?;
        if values.len() != keys.len() {
            let error = io::Error::other("Redis answers to another question");
            return Err(TraitSourceError::Unreachable(Arc::new(error)));
        }
        unanswered.end();
        values.into_iter().map(|value| self.answer(value)).collect()
    }
}

/// Returns a TLS connector with the system's roots.
fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

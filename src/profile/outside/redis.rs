//! Redis, or what speaks like it (Valkey): a hash for each person, read for all of a batch at once.
//!
//! Its address is the operator's alone, as that of the database is, and mostly a private one: the guard
//! of what goes out is not asked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Value};

use super::settings::RedisSettings;
use super::{Answer, Source, SourceError, SourceSetupError};
use crate::event::Object;

/// People asked for in one batch: what is read of a destination's journal in one step.
const MOST: usize = 256;

/// What speaks Redis.
pub(super) struct Redis {
    connection: ConnectionManager,
    reply_bytes: usize,
}

impl Redis {
    /// Connects with the first batch, and again whenever the connection is lost. To be called on the
    /// runtime that the connection is to live on.
    pub(super) fn new(
        settings: &RedisSettings,
        timeout: Duration,
        reply_bytes: usize,
    ) -> Result<Self, SourceSetupError> {
        let client = Client::open(settings.url.expose())?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_max_delay(timeout);
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        Ok(Self { connection, reply_bytes })
    }

    fn answer(&self, value: Value) -> Result<Answer, SourceError> {
        if let Value::ServerError(error) = &value {
            return match error.code() {
                // Of this key alone.
                "WRONGTYPE" | "NOPERM" => Ok(Answer::Refused),
                _ => {
                    Err(SourceError::Unreachable(Arc::new(redis::RedisError::from(error.clone()))))
                }
            };
        }
        let Ok(pairs) = redis::from_redis_value::<Vec<(Vec<u8>, Vec<u8>)>>(value) else {
            return Ok(Answer::Refused);
        };
        if pairs.is_empty() {
            return Ok(Answer::Unknown);
        }
        let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > self.reply_bytes {
            return Ok(Answer::Refused);
        }
        let pair = |(name, value): (Vec<u8>, Vec<u8>)| {
            let text = || String::from_utf8_lossy(&value).into_owned().into();
            let value = serde_json::from_slice(&value).unwrap_or_else(|_text| text());
            (String::from_utf8_lossy(&name).into_owned(), value)
        };
        Ok(Answer::Known(pairs.into_iter().map(pair).collect::<Object>()))
    }
}

#[async_trait]
impl Source for Redis {
    fn most(&self) -> usize {
        MOST
    }

    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<Answer>, SourceError> {
        let mut batch = redis::pipe();
        batch.ignore_errors();
        for key in keys {
            batch.cmd("HGETALL").arg(key.as_bytes());
        }
        let mut connection = self.connection.clone();
        let read = batch.query_async::<Vec<Value>>(&mut connection).await;
        let values = read.map_err(|error| {
            if error.is_timeout() {
                return SourceError::Timeout;
            }
            SourceError::Unreachable(Arc::new(error))
        })?;
        values.into_iter().map(|value| self.answer(value)).collect()
    }
}

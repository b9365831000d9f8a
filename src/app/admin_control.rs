//! What the operators' listener asks of the running gateway.

use std::sync::Arc;

use async_trait::async_trait;

use crate::admin::{Control, ReaderState, SendError, Sent};
use crate::delivery::Dispatcher;
use crate::gateway::{self, Gateway};
use crate::journal::{Appended, ReaderId};

/// The running gateway, for its operators.
pub(super) struct AppControl {
    gateway: Arc<Gateway>,
    dispatcher: Arc<Dispatcher>,
}

impl AppControl {
    pub(super) fn new(gateway: Arc<Gateway>, dispatcher: Arc<Dispatcher>) -> Self {
        Self { gateway, dispatcher }
    }
}

#[async_trait]
impl Control for AppControl {
    fn sites(&self) -> Vec<Arc<str>> {
        self.gateway.sites()
    }

    fn readers(&self) -> Vec<ReaderState> {
        let readers = self.dispatcher.readers().into_iter();
        let state = readers.map(|reader| ReaderState {
            site: reader.site,
            destination: reader.destination,
            reader: reader.reader,
            state: reader.status.name(),
            reason: reader.status.reason().map(str::to_owned),
        });
        state.collect()
    }

    async fn send(&self, site: &str, event: serde_json::Value) -> Result<Sent, SendError> {
        let message = event.to_string();
        let sent =
            self.gateway.send(site, message.as_bytes()).await.map_err(|error| match error {
                gateway::SendError::UnknownSite => SendError::UnknownSite,
                gateway::SendError::Invalid(code) => SendError::Invalid(code.to_owned()),
                gateway::SendError::Append(error) => SendError::Unavailable(Box::new(error)),
            })?;
        match sent.appended {
            Appended::New { seq } => Ok(Sent { seq, message_id: sent.message_id }),
            Appended::Duplicate => Err(SendError::Duplicate),
        }
    }

    fn wake(&self, reader: ReaderId) {
        self.dispatcher.wake(reader);
    }
}

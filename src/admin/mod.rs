//! The operators' listener: health, metrics and the API behind the client commands.
//!
//! It is meant for loopback or a private network. Even there it trusts nobody: what changes
//! something or shows personal data needs the token of `data_dir/admin.token`; names that are not
//! its own (DNS rebinding) and pages of other origins are refused.

mod destinations;
mod events;
mod exposition;
mod guard;
mod idle_connections;
mod readiness;
mod reply;
mod routes;
mod scripts;
mod segments;
mod server;
mod subject;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod token;

pub use readiness::ReadinessState;
pub use server::AdminServer;
pub use subject::{ExportPage, ForgetReport, SubjectError};
pub use token::{AdminTokenError, load_token, read_token};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::delivery::{DestinationStatus, FailedAttempt, PauseError};
use crate::feed::LiveFeed;
use crate::journal::{Journal, JournalError, ReaderId, SubjectCursor};
use crate::script::proxy::{ScriptDiff, ScriptPinError, ScriptSummary};
use crate::segment::{SegmentError, SegmentScheduler};
use crate::settings::{SecretRedactor, SecretString, SettingsSection};

/// `listen.admin` and `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where to listen; port 0 asks for a free one.
    pub address: SocketAddr,
    /// Host names it answers to, lower case, besides addresses and `localhost`.
    pub names: Vec<String>,
    /// Connections at once; beyond, who has been idle longest makes room.
    pub connections: usize,
    /// Connections besides, for health and metrics alone.
    pub reserve: usize,
    /// The largest request body.
    pub body_bytes: usize,
    /// For a request's head, and for the next request of a connection.
    pub header_time: Duration,
    /// For a request's body.
    pub body_time: Duration,
    /// How often a watcher of the feed is sent an empty line.
    pub heartbeat: Duration,
    /// For the answers under way when the listener is told to stop.
    pub drain_time: Duration,
}

impl AdminSettings {
    /// Reads `listen.admin` and `[admin]`.
    pub fn read(listen: &mut SettingsSection<'_>, admin: &mut SettingsSection<'_>) -> Self {
        let names = admin.strings("names").into_iter().map(|name| name.to_ascii_lowercase());
        Self {
            address: listen.parsed("admin", SocketAddr::from(([127, 0, 0, 1], 0))),
            names: names.collect(),
            connections: admin.integer("connections", 1..=10_000),
            reserve: admin.integer("reserve", 1..=1_000),
            body_bytes: admin.byte_count("body_bytes"),
            header_time: admin.positive_duration("header_time"),
            body_time: admin.positive_duration("body_time"),
            heartbeat: admin.positive_duration("heartbeat"),
            drain_time: admin.duration("drain_time"),
        }
    }
}

/// What the listener shows and steers.
pub struct AdminContext {
    /// Its settings.
    pub settings: AdminSettings,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// What happens right now.
    pub feed: LiveFeed,
    /// The running gateway.
    pub control: Arc<dyn AdminControl>,
    /// The segments of all sites.
    pub segments: Arc<SegmentScheduler>,
    /// Whether the gateway takes traffic.
    pub readiness: Arc<ReadinessState>,
    /// Knows what no answer shows.
    pub redaction: SecretRedactor,
    /// What a caller must present ([`load_token`]).
    pub token: SecretString,
}

/// What the listener asks of the running gateway.
#[async_trait]
pub trait AdminControl: Send + Sync {
    /// The names of all sites, in the order of the configuration.
    fn sites(&self) -> Vec<Arc<str>>;

    /// Every destination's reader, in the order of the configuration.
    fn readers(&self) -> Vec<ReaderSummary>;

    /// Accepts a canonical message for the site as if a server had sent it, and returns once it is
    /// durable. The message needs no id and no timestamp.
    async fn send(
        &self,
        site: &str,
        event: serde_json::Value,
    ) -> Result<AdminSendReceipt, AdminSendError>;

    /// Suppresses the person who has this name and erases what is held of them.
    async fn forget(&self, site: &str, id: &str) -> Result<ForgetReport, SubjectError>;

    /// Lifts the suppression of the person who has this name; returns of how many names.
    async fn lift(&self, site: &str, id: &str) -> Result<u64, SubjectError>;

    /// Some of what is held of the person, from the beginning or from where the last page ended.
    async fn export(
        &self,
        site: &str,
        id: &str,
        from: Option<SubjectCursor>,
    ) -> Result<ExportPage, SubjectError>;

    /// The vendors' scripts that are pinned, and some of the others.
    fn scripts(&self) -> Vec<ScriptSummary>;

    /// What is new in the version of a pinned script that waits.
    async fn script_diff(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
    ) -> Result<ScriptDiff, ScriptPinError>;

    /// Gives visitors the version of a pinned script that waits, if it has this hash.
    async fn approve_script(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
        hash: &str,
    ) -> Result<(), ScriptPinError>;

    /// The profiles of whoever has this name.
    async fn profiles(&self, site: &str, id: &str) -> Result<Vec<serde_json::Value>, SubjectError>;

    /// The last try of an event that has not ended at a reader, while it is in memory.
    fn failure(&self, reader: ReaderId, seq: u64) -> Option<FailedAttempt>;

    /// Pauses a destination, or lifts the operator's pause. Durable when it returns.
    async fn set_paused(
        &self,
        site: &str,
        destination: &str,
        is_paused: bool,
    ) -> Result<DestinationStatus, PauseError>;

    /// The metrics in the OpenMetrics text format, the accounts in them all of this moment.
    async fn scrape(&self) -> String;

    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Tells the reader that events may be due now that were not before.
    fn wake(&self, reader: ReaderId);
}

/// A destination's reader, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderSummary {
    /// The site's name.
    pub site: Arc<str>,
    /// The destination's name.
    pub destination: Arc<str>,
    /// Its reader.
    pub reader: ReaderId,
    /// `running`, `retrying`, `paused`, ...: a word from the source.
    pub state: &'static str,
    /// Why it is not running. May quote the vendor.
    pub reason: Option<String>,
    /// The end of a sentence about its vendor: if it recognises an event that it is sent again.
    pub repeats: &'static str,
}

/// An event that [`AdminControl::send`] accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdminSendReceipt {
    /// Its place in the site's sequence.
    pub seq: u64,
    /// Its message id.
    pub message_id: String,
}

/// Why [`AdminControl::send`] did not accept an event.
#[derive(Debug, thiserror::Error)]
pub enum AdminSendError {
    /// There is no such site.
    #[error("there is no such site")]
    UnknownSite,
    /// The message is not a canonical one; the text says why.
    #[error("the event is not valid: {0}")]
    Invalid(String),
    /// An event with this message id was accepted before.
    #[error("an event with this message id was accepted before")]
    Duplicate,
    /// The journal does not take events now.
    #[error("the journal does not take events now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a request could not be served.
#[derive(Debug, thiserror::Error)]
enum AdminRequestError {
    #[error("there is no such thing here")]
    NotFound,
    #[error("this path does not take this method")]
    Method,
    #[error("this needs the token of data_dir/admin.token as a bearer token")]
    Unauthorised,
    #[error(
        "this listener does not answer to the host name of this request: add the name to admin.names, or \
         call it by its address"
    )]
    Misdirected,
    #[error("pages of other origins are not served")]
    ForeignOrigin,
    #[error("{0}")]
    Malformed(String),
    #[error("all admin.connections are busy: only health and metrics are answered")]
    Full,
    #[error("the body is longer than admin.body_bytes")]
    TooLarge,
    #[error("the body took longer than admin.body_time")]
    TooSlow,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Send(#[from] AdminSendError),
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error(transparent)]
    Pin(#[from] ScriptPinError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Pause(#[from] PauseError),
}

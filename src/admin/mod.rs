//! The operators' listener: health, metrics and the API behind the client commands.
//!
//! It is meant for loopback or a private network. Even there it trusts no caller: each route has its access, a role
//! and more, in one table (`router`); foreign host names (DNS rebinding) and pages of other origins are rejected.
//! Each act leaves a row in the audit log before its answer.

mod access;
mod alerts;
mod audit_draft;
mod caller;
mod dead_letters;
mod destinations;
mod events;
mod exposition;
mod guard;
mod idle_connections;
mod readiness;
mod reply;
mod request;
mod router;
mod scripts;
mod segments;
mod sending;
mod series;
mod server;
mod status;
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
use utoipa::ToSchema;

use tagway_console::access::{Role, SiteScope};
use tagway_console::alert::{AlertError, AlertService, ChannelTestError};
use tagway_console::audit::AuditLog;
use tagway_console::series::{SeriesQueryError, SeriesStore};
use tagway_core::feed::LiveFeed;
use tagway_delivery::segment::{SegmentError, SegmentScheduler};
use tagway_delivery::{DestinationStatus, FailedAttempt, PauseError};
use tagway_pages::script::proxy::{ScriptDiff, ScriptPinError, ScriptSummary};
use tagway_settings::{SecretRedactor, SecretString, Setting, SettingsSection};
use tagway_storage::journal::{Journal, JournalError, ReaderId, SubjectCursor};

/// The described settings of `[listen]`, for the admin listener.
pub const ADMIN_ADDRESS_SETTINGS: &[Setting] =
    &[Setting::form("admin", "an IP address with a port")
        .default("127.0.0.1:9090")
        .doc("health, metrics and API; never expose it to the internet")];

/// The described settings of `[admin]`.
pub const ADMIN_SETTINGS: &[Setting] = &[
    Setting::texts("names").default("[]").doc(
        "accepted host names besides addresses and \"localhost\": each name by which \
             Prometheus, or the command line on another machine, calls the listener",
    ),
    Setting::integer("connections", 1, 10_000).default("64").doc(
        "limit of connections; each \"tail\" uses one. Above it, the connection that has \
             been idle longest is closed",
    ),
    Setting::size("body_bytes")
        .default("1MiB")
        .doc("limit of a request's body: a test event, a list of dead letters"),
    Setting::duration("drain_time").default("5s").doc("at the stop, for responses in progress"),
];

/// `listen.admin` and `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address to listen on; port 0 takes a free port.
    pub address: SocketAddr,
    /// Host names that it answers to, in lower case, besides IP addresses and `localhost`.
    pub names: Vec<String>,
    /// The most connections; beyond, the one idle longest is closed.
    pub connections: usize,
    /// Additional connections for health and metrics only.
    pub reserve: usize,
    /// The largest request body, in bytes.
    pub body_bytes: usize,
    /// The time limit for a request's head, and for the next request of a connection.
    pub header_time: Duration,
    /// The time limit for a request's body.
    pub body_time: Duration,
    /// The time between empty lines to a watcher of the feed.
    pub heartbeat: Duration,
    /// The time limit for responses under way when the listener stops.
    pub drain_time: Duration,
}

impl AdminSettings {
    /// Reads `listen.admin` and `[admin]`.
    pub fn read(listen: &mut SettingsSection<'_>, admin: &mut SettingsSection<'_>) -> Self {
        listen.describe(ADMIN_ADDRESS_SETTINGS);
        admin.describe(ADMIN_SETTINGS);
        let names = admin.strings("names").into_iter().map(|name| name.to_ascii_lowercase());
        Self {
            address: listen.parsed("admin", SocketAddr::from(([127, 0, 0, 1], 0))),
            names: names.collect(),
            connections: admin.integer("connections"),
            reserve: RESERVE,
            body_bytes: admin.byte_count("body_bytes"),
            header_time: HEADER_TIME,
            body_time: BODY_TIME,
            heartbeat: HEARTBEAT,
            drain_time: admin.duration("drain_time"),
        }
    }
}

/// Connections for `/livez`, `/readyz` and `/metrics` beyond the others, when none of these is idle: one for each of
/// the usual probes and scrapers.
const RESERVE: usize = 8;

/// The time for a request's head, and for the next request of a connection.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// The time for a request's body, of one MiB at most by default.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The interval of empty lines to a watcher of the feed, so that both ends detect a lost connection.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The dependencies of the listener.
pub struct AdminContext {
    /// The settings of the listener.
    pub settings: AdminSettings,
    /// Holds the events, their outcomes and the dead letters that the API shows.
    pub journal: Arc<dyn Journal>,
    /// The live feed of happenings.
    pub feed: LiveFeed,
    /// The running gateway.
    pub control: Arc<dyn AdminControl>,
    /// The segment scheduler of all sites.
    pub segments: Arc<SegmentScheduler>,
    /// The gateway's readiness for traffic.
    pub readiness: Arc<ReadinessState>,
    /// The time series.
    pub series: Arc<SeriesStore>,
    /// The alerts of the console.
    pub alerts: Arc<AlertService>,
    /// Redacts the secrets in every response.
    pub redaction: SecretRedactor,
    /// The token of the command line ([`load_token`]).
    pub token: SecretString,
    /// The audit log, for a row of each act.
    pub audit: Arc<AuditLog>,
}

/// The interface of the running gateway for the listener.
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

    /// Suppresses the person with this name and erases their stored data.
    async fn forget(&self, site: &str, id: &str) -> Result<ForgetReport, SubjectError>;

    /// Lifts the suppression of the person with this name; returns the number of names.
    async fn lift_suppression(&self, site: &str, id: &str) -> Result<u64, SubjectError>;

    /// Some of the person's stored data, from the beginning or from the end of the last page.
    async fn export(
        &self,
        site: &str,
        id: &str,
        from: Option<SubjectCursor>,
    ) -> Result<ExportPage, SubjectError>;

    /// The pinned vendors' scripts, and some of the others.
    fn scripts(&self) -> Vec<ScriptSummary>;

    /// Compares the waiting version of a pinned script with the approved one.
    async fn script_diff(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
    ) -> Result<ScriptDiff, ScriptPinError>;

    /// Approves the waiting version of a pinned script, if it has this hash.
    async fn approve_script(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
        hash: &str,
    ) -> Result<(), ScriptPinError>;

    /// The profiles of the person with this name.
    async fn profiles(&self, site: &str, id: &str) -> Result<Vec<serde_json::Value>, SubjectError>;

    /// The last attempt of an event that has not ended at a reader, while it is in memory.
    fn last_failure(&self, reader: ReaderId, seq: u64) -> Option<FailedAttempt>;

    /// Pauses a destination, or lifts the operator's pause. Durable when it returns.
    async fn set_paused(
        &self,
        site: &str,
        destination: &str,
        is_paused: bool,
    ) -> Result<DestinationStatus, PauseError>;

    /// The metrics in the OpenMetrics text format, with all accounts of this moment.
    async fn scrape(&self) -> String;

    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Wakes the reader: events may be due now that were not before.
    fn wake(&self, reader: ReaderId);
}

/// A destination's reader in the operators' list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderSummary {
    /// The site's name.
    pub site: Arc<str>,
    /// The destination's name.
    pub destination: Arc<str>,
    /// The journal's reader of this destination.
    pub reader: ReaderId,
    /// The state, a word from the source: `running`, `retrying`, `paused`, ...
    pub state: &'static str,
    /// The reason that it is not running. May quote the vendor.
    pub reason: Option<String>,
    /// The end of a sentence about its vendor: if it recognises a repeated event.
    pub repeats: &'static str,
}

/// The receipt of an accepted event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AdminSendReceipt {
    /// Its sequence number in the site.
    pub seq: u64,
    /// The id that the client gave the event.
    pub message_id: String,
}

/// The reason that [`AdminControl::send`] rejected an event.
#[derive(Debug, thiserror::Error)]
pub enum AdminSendError {
    /// The site is not configured.
    #[error("the configuration has no such site")]
    UnknownSite,
    /// The message is not canonical; the text says why.
    #[error("the event is not valid: {0}")]
    Invalid(String),
    /// An event with this message id was accepted before.
    #[error("an event with this message id was accepted before")]
    Duplicate,
    /// The journal does not accept events now.
    #[error("the journal does not accept events now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The reason that a request is rejected.
#[derive(Debug, thiserror::Error)]
enum AdminRequestError {
    #[error("there is no such thing here")]
    NotFound,
    #[error("this path does not accept this method")]
    Method,
    #[error("this needs the token of data_dir/admin.token as a bearer token")]
    Unauthorised,
    #[error("this needs the role {}, or a higher one", .0.name())]
    Role(Role),
    #[error("this shows personal data: it needs the right to see personal data")]
    Personal,
    #[error(
        "the audit log cannot be written: the act may be done, but has no row; see the program's log"
    )]
    Unrecorded,
    #[error(
        "this listener does not accept the host name of this request: add the name to admin.names, or \
         use the IP address"
    )]
    Misdirected,
    #[error("pages of other origins are not served")]
    ForeignOrigin,
    #[error("{0}")]
    Malformed(String),
    /// One member of the body or the query is missing or wrong.
    #[error("{detail}")]
    InvalidField { field: String, detail: String },
    #[error("all admin.connections are in use: only health and metrics are served")]
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
    #[error(transparent)]
    Alert(#[from] AlertError),
    #[error(transparent)]
    Channel(#[from] ChannelTestError),
    #[error(transparent)]
    Series(#[from] SeriesQueryError),
}

/// The readers of the sites that a caller may see.
fn readers_of(context: &AdminContext, scope: &SiteScope) -> Vec<ReaderSummary> {
    let mut readers = context.control.readers();
    readers.retain(|reader| scope.may_see(&reader.site));
    readers
}

/// Finds a destination's reader in the list.
fn find_reader<'r>(
    readers: &'r [ReaderSummary],
    site: &str,
    destination: &str,
) -> Result<&'r ReaderSummary, AdminRequestError> {
    readers
        .iter()
        .find(|reader| &*reader.site == site && &*reader.destination == destination)
        .ok_or_else(|| {
            request::invalid_field("destination", "the configuration has no such destination")
        })
}

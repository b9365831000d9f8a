//! The operators' listener: health, metrics, the console, and the API behind it and the client commands.
//!
//! It is meant for loopback or a private network. Even there it trusts no caller: each route has its access, a role
//! and more, in one table (`router`); foreign host names (DNS rebinding) and pages of other origins are rejected.
//! Each act leaves a row in the audit log before its answer.

mod access;
mod accounts;
mod alerts;
mod audit;
mod audit_draft;
mod caller;
mod console_files;
mod dead_groups;
mod dead_letters;
mod destination_details;
mod destinations;
mod effective;
mod encryption;
mod event_pages;
mod events;
mod exposition;
mod feed_filter;
mod guard;
mod idle_connections;
mod masking;
mod overview;
mod profile_search;
mod readiness;
mod rehearsal;
mod reply;
mod request;
mod request_source;
mod router;
mod scripts;
mod segments;
mod sending;
mod series;
mod server;
mod sessions;
mod settings;
mod status;
mod subject;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod traces;

pub use encryption::{ADMIN_TLS_SETTINGS, AdminTls};
pub use readiness::ReadinessState;
pub use rehearsal::{RehearsalError, RehearsedInput};
pub use server::AdminServer;
pub use settings::{ADMIN_ADDRESS_SETTINGS, ADMIN_SETTINGS, AdminSettings};
pub use subject::{ExportPage, ForgetReport, SubjectError};
pub use token::{AdminTokenError, load_token, read_token};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::rehearsal::EventRehearsal;
use tagway_console::ConsoleStoreError;
use tagway_console::access::{Role, SiteScope};
use tagway_console::account::{AccountError, ConsoleAccounts};
use tagway_console::alert::{AlertError, AlertService, ChannelTestError};
use tagway_console::audit::AuditLog;
use tagway_console::series::{SeriesQueryError, SeriesStore};
use tagway_core::feed::{LiveFeed, TooManyTraces};
use tagway_delivery::segment::{SegmentError, SegmentScheduler};
use tagway_delivery::{
    ActivitySnapshot, DestinationStatus, FailedAttempt, MatchQuality, MatchQualityError, PauseError,
};
use tagway_pages::script::proxy::{ScriptDiff, ScriptPinError, ScriptSummary};
use tagway_settings::{EffectiveSetting, SecretRedactor, SecretString};
use tagway_storage::journal::{
    Journal, JournalError, JournalSearch, ReaderId, ReaderPause, SiteId, SubjectCursor,
};
use tagway_storage::profile::{ProfilePage, ProfileSearch};

/// The dependencies of the listener.
pub struct AdminContext {
    /// The settings of the listener.
    pub settings: AdminSettings,
    /// Holds the events, their outcomes and the dead letters that the API shows.
    pub journal: Arc<dyn Journal>,
    /// Searches of the same journal.
    pub search: Arc<dyn JournalSearch>,
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
    /// The accounts, with their sessions, tokens and links.
    pub accounts: Arc<ConsoleAccounts>,
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

    /// Rehearses an event at the named destinations of a site, or at all of them: the first of these, in the order of
    /// their names. Nothing is stored or sent.
    async fn rehearse(
        &self,
        site: &str,
        input: RehearsedInput,
        destinations: &[String],
    ) -> Result<Vec<EventRehearsal>, RehearsalError>;

    /// The link that puts a browser under a trace; `None` if the site has no address for one.
    fn trace_link(&self, site: &str, trace: &str, until: Timestamp) -> Option<String>;

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

    /// Searches the site's profiles, a page at a time.
    async fn search_profiles(
        &self,
        site: &str,
        search: ProfileSearch,
    ) -> Result<ProfilePage, SubjectError>;

    /// Pauses a destination. Durable when it returns.
    async fn pause(
        &self,
        site: &str,
        destination: &str,
        pause: ReaderPause,
    ) -> Result<DestinationStatus, PauseError>;

    /// Lifts the operator's pause of a destination. Durable when it returns.
    async fn resume(&self, site: &str, destination: &str) -> Result<DestinationStatus, PauseError>;

    /// Every destination that the gateway delivers to, in the order of the configuration.
    fn destinations(&self) -> Vec<DestinationSummary>;

    /// The match quality of a destination; `None` if the gateway does not deliver to it.
    async fn match_quality(
        &self,
        site: &str,
        destination: &str,
    ) -> Result<Option<Arc<MatchQuality>>, MatchQualityError>;

    /// Accepts a message for one destination of the site alone, as [`AdminControl::send`] does. `None` sends a
    /// message that the gateway makes for it.
    async fn send_test(
        &self,
        site: &str,
        destination: &str,
        event: Option<serde_json::Value>,
    ) -> Result<AdminSendReceipt, TestEventError>;

    /// A site's facts for its overview; `None` for an unknown one.
    fn site(&self, site: &str) -> Option<SiteSummary>;

    /// The effective value of each setting.
    fn effective_settings(&self) -> Vec<EffectiveSetting>;

    /// Returns true if a change of the setting at this path takes effect at the next start only.
    fn needs_restart(&self, path: &str) -> bool;

    /// A destination's table in the user's file, without secrets; `None` if it is not in a file.
    fn destination_table(&self, site: &str, destination: &str) -> Option<String>;

    /// The warnings about valid settings that are probably not intended.
    async fn warnings(&self) -> Vec<SettingsWarning>;

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

/// A destination as its screen shows it.
#[derive(Clone, Debug)]
pub struct DestinationSummary {
    /// Its names, state and reader in the journal.
    pub reader: ReaderSummary,
    /// The vendor's name.
    pub vendor: &'static str,
    /// The sender of its events: `server` or `both`.
    pub mode: &'static str,
    /// The operator's pause, if there is one.
    pub pause: Option<ReaderPause>,
    /// Its latest activity.
    pub activity: ActivitySnapshot,
    /// The age from which the vendor, or the destination's settings, refuse events.
    pub age_limit: Option<Duration>,
    /// The limit of calls per second, if there is one.
    pub calls_per_second: Option<u32>,
    /// True if the configuration changes or withholds its events.
    pub has_mapping: bool,
    /// The categories that visitors must have granted.
    pub consent: Vec<String>,
}

/// A site as its overview shows it.
#[derive(Clone, Debug)]
pub struct SiteSummary {
    /// Its number in the journal.
    pub id: SiteId,
    /// The host names that it answers to; `*` for any.
    pub hosts: Vec<String>,
    /// The inline script that its pages load the SDK with.
    pub snippet: String,
    /// The warnings about its settings.
    pub warnings: Vec<SettingsWarning>,
}

/// A warning about valid settings that are probably not intended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettingsWarning {
    /// The site, or the setting.
    pub place: String,
    /// The name of the site that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The warning.
    pub text: String,
}

/// The reason that a test event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum TestEventError {
    /// The gateway delivers to no such destination.
    #[error("the configuration has no such destination")]
    Unknown,
    /// The destination is paused: the event would wait.
    #[error("the destination is paused: resume it first")]
    Paused,
    /// The destination's settings do not select the event.
    #[error(
        "the destination's events, types or where do not select the event: name one that they select"
    )]
    NotSelected,
    /// The event was rejected.
    #[error(transparent)]
    Send(#[from] AdminSendError),
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
    #[error("no route or object has this path")]
    NotFound,
    #[error("this path does not accept this method")]
    Method,
    #[error(
        "this needs credentials: a login, or a bearer token, such as that of data_dir/admin.token"
    )]
    Unauthorised,
    #[error("no account exists yet: run `tagway console login` on the gateway's machine")]
    NoAccounts,
    #[error("wrong name or password")]
    WrongLogin,
    #[error("this link is used, has expired, or is not complete: ask for a new one")]
    WrongLink,
    #[error(
        "logins need an encrypted connection: use https, an SSH tunnel to localhost, or a proxy of \
         admin.trusted_proxies that sets X-Forwarded-Proto"
    )]
    Plaintext,
    #[error("set a password first")]
    SetPassword,
    #[error("prove first with your password that you are at the browser")]
    Proof,
    #[error("this needs the token of data_dir/admin.token")]
    FileOnly,
    #[error("this is about all sites, and you may see some of them only")]
    AllSites,
    #[error("the body must be application/json")]
    ContentType,
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
    Account(#[from] AccountError),
    #[error("the database of the console does not answer")]
    Console(#[from] ConsoleStoreError),
    #[error(transparent)]
    MatchQuality(#[from] MatchQualityError),
    #[error(transparent)]
    Test(#[from] TestEventError),
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    #[error(transparent)]
    Traces(#[from] TooManyTraces),
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

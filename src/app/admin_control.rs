//! The running gateway's side of the admin listener.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::running_settings::RunningSettings;
use super::subjects::SubjectService;
use super::test_event::TestEvent;
use crate::admin::{
    AdminControl, AdminSendError, AdminSendReceipt, DestinationSummary, ExportPage, ForgetReport,
    ReaderSummary, RehearsalError, RehearsedInput, SettingsWarning, SiteSummary, SubjectError,
    TestEventError,
};
use crate::config::{expiry_warning, gateway_warnings, needs_restart, site_warnings};
use crate::gateway::{self, Gateway, OperatorSendError, OperatorSendReceipt};
use crate::rehearsal::{self, EventRehearsal};
use tagway_core::clock::SharedClock;
use tagway_core::event::Event;
use tagway_core::feed::remove_trace_parameter;
use tagway_core::metrics::Metrics;
use tagway_delivery::{
    DeliveryDispatcher, DestinationInspection, DestinationStatus, FailedAttempt, MatchQuality,
    MatchQualityError, PauseError, RunningDestination,
};
use tagway_pages::script::compose::snippet;
use tagway_pages::script::proxy::{ScriptDiff, ScriptPinError, ScriptProxy, ScriptSummary};
use tagway_settings::{EffectiveSetting, SecretRedactor};
use tagway_storage::journal::{AppendOutcome, ReaderId, ReaderPause, SubjectCursor};
use tagway_storage::profile::{ProfilePage, ProfileSearch};

/// The admin listener's access to the running gateway.
pub(super) struct AppAdminControl {
    gateway: Arc<Gateway>,
    dispatcher: Arc<DeliveryDispatcher>,
    subjects: Arc<SubjectService>,
    scripts: ScriptProxy,
    settings: RunningSettings,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    redaction: SecretRedactor,
    /// The rehearsals at once.
    rehearsals: Semaphore,
}

/// The most rehearsals at once: vendors' code and templates may take some milliseconds each.
const REHEARSALS: usize = 2;

/// The longest wait of a scrape for the accounts: while a disk hangs, the metrics show those of the
/// last scrape.
const ACCOUNTS_TIME: Duration = Duration::from_secs(3);

impl AppAdminControl {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        dispatcher: Arc<DeliveryDispatcher>,
        subjects: Arc<SubjectService>,
        (scripts, settings): (ScriptProxy, RunningSettings),
        (metrics, clock, redaction): (Arc<Metrics>, SharedClock, SecretRedactor),
    ) -> Self {
        let rehearsals = Semaphore::new(REHEARSALS);
        Self {
            gateway,
            dispatcher,
            subjects,
            scripts,
            settings,
            metrics,
            clock,
            redaction,
            rehearsals,
        }
    }

    /// Checks that the site is configured: the journal would give a number to an unknown one.
    fn check_site(&self, site: &str) -> Result<(), SubjectError> {
        let is_known = self.gateway.sites().iter().any(|name| &**name == site);
        if is_known { Ok(()) } else { Err(SubjectError::UnknownSite) }
    }
}

#[async_trait]
impl AdminControl for AppAdminControl {
    fn sites(&self) -> Vec<Arc<str>> {
        self.gateway.sites()
    }

    fn readers(&self) -> Vec<ReaderSummary> {
        self.dispatcher.running_destinations().into_iter().map(reader_summary).collect()
    }

    async fn send(
        &self,
        site: &str,
        event: serde_json::Value,
    ) -> Result<AdminSendReceipt, AdminSendError> {
        let message = event.to_string();
        send_receipt(self.gateway.send(site, message.as_bytes()).await)
    }

    async fn rehearse(
        &self,
        site: &str,
        input: RehearsedInput,
        destinations: &[String],
    ) -> Result<Vec<EventRehearsal>, RehearsalError> {
        // The semaphore is never closed; callers wait within the limit of connections.
        let _turn = self.rehearsals.acquire().await.ok();
        let invalid = |text: &str| RehearsalError::Invalid(text.to_owned());
        let (seq, event) = match input {
            RehearsedInput::Record { seq, body } => {
                let event = serde_json::from_slice(&body);
                (seq, event.map_err(|_damaged| invalid("its record is not readable"))?)
            }
            RehearsedInput::Message(message) => {
                let event = self.gateway.dry_run(site, message.to_string().as_bytes());
                let event = event.map_err(|error| match error {
                    gateway::OperatorSendError::UnknownSite => RehearsalError::Unknown,
                    other => RehearsalError::Invalid(other.to_string()),
                })?;
                (0, event.event)
            }
        };
        let mut rehearsals = Vec::new();
        for settings in self.dispatcher.settings_of(site) {
            if !destinations.iter().any(|name| **name == *settings.name) {
                continue;
            }
            let mut event: Event = event.clone();
            settings.privacy.protect(&mut event);
            remove_trace_parameter(&mut event);
            let enriched = self.subjects.enrich(site, seq, event).await?;
            let now = self.clock.now();
            rehearsals.push(rehearsal::rehearse(&settings, enriched, now, &self.redaction).await);
        }
        Ok(rehearsals)
    }

    fn trace_link(&self, site: &str, trace: &str, until: Timestamp) -> Option<String> {
        self.gateway.trace_link(site, trace, until)
    }

    async fn forget(&self, site: &str, id: &str) -> Result<ForgetReport, SubjectError> {
        self.check_site(site)?;
        self.subjects.forget(site, &[id.to_owned()]).await
    }

    async fn lift_suppression(&self, site: &str, id: &str) -> Result<u64, SubjectError> {
        self.check_site(site)?;
        self.subjects.lift_suppression(site, id).await
    }

    async fn export(
        &self,
        site: &str,
        id: &str,
        from: Option<SubjectCursor>,
    ) -> Result<ExportPage, SubjectError> {
        self.check_site(site)?;
        let (readers, now) = (self.readers(), self.clock.now());
        self.subjects.export((site, id), from, &readers, now).await
    }

    fn scripts(&self) -> Vec<ScriptSummary> {
        self.scripts.list()
    }

    async fn script_diff(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
    ) -> Result<ScriptDiff, ScriptPinError> {
        self.scripts.diff(site, vendor, script).await
    }

    async fn approve_script(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
        hash: &str,
    ) -> Result<(), ScriptPinError> {
        self.scripts.approve((site, vendor, script), hash).await
    }

    async fn profiles(&self, site: &str, id: &str) -> Result<Vec<serde_json::Value>, SubjectError> {
        self.check_site(site)?;
        self.subjects.profiles(site, id).await
    }

    fn last_failure(&self, reader: ReaderId, seq: u64) -> Option<FailedAttempt> {
        self.dispatcher.failure(reader, seq)
    }

    async fn search_profiles(
        &self,
        site: &str,
        search: ProfileSearch,
    ) -> Result<ProfilePage, SubjectError> {
        self.check_site(site)?;
        self.subjects.search(site, search).await
    }

    async fn pause(
        &self,
        site: &str,
        destination: &str,
        pause: ReaderPause,
    ) -> Result<DestinationStatus, PauseError> {
        self.dispatcher.pause(site, destination, pause).await
    }

    async fn resume(&self, site: &str, destination: &str) -> Result<DestinationStatus, PauseError> {
        self.dispatcher.resume(site, destination).await
    }

    fn destinations(&self) -> Vec<DestinationSummary> {
        self.dispatcher.inspect_destinations().into_iter().map(destination_summary).collect()
    }

    async fn match_quality(
        &self,
        site: &str,
        destination: &str,
    ) -> Result<Option<Arc<MatchQuality>>, MatchQualityError> {
        self.dispatcher.match_quality(site, destination).await
    }

    async fn send_test(
        &self,
        site: &str,
        destination: &str,
        event: Option<serde_json::Value>,
    ) -> Result<AdminSendReceipt, TestEventError> {
        let inspected = self.dispatcher.inspect_destinations().into_iter();
        let mut inspected = inspected
            .filter(|it| *it.running.site == *site && *it.running.destination == *destination);
        let inspected = inspected.next().ok_or(TestEventError::Unknown)?;
        if matches!(inspected.running.status, DestinationStatus::Paused(_)) {
            return Err(TestEventError::Paused);
        }
        let message = {
            let running = self.settings.current();
            let found = running.sites.iter().find(|it| *it.name == *site);
            let site = found.ok_or(TestEventError::Unknown)?;
            TestEvent { limits: &running.limits, site, destination: &inspected.settings }
                .message(event, self.clock.now())?
        };
        let sent = self.gateway.send_test(site, message.to_string().as_bytes(), destination).await;
        Ok(send_receipt(sent)?)
    }

    fn site(&self, site: &str) -> Option<SiteSummary> {
        let settings = self.settings.current();
        let known = settings.sites.iter().find(|it| *it.name == *site)?;
        let id = self.settings.site_id(site)?;
        let host = known.gateway.hosts.iter().find(|host| **host != "*");
        let script = host.map_or("/tw.js".to_owned(), |host| format!("https://{host}/tw.js"));
        Some(SiteSummary {
            id,
            hosts: known.gateway.hosts.clone(),
            snippet: format!("<script>{}</script>", snippet(&script)),
            warnings: site_warnings(known),
        })
    }

    fn effective_settings(&self) -> Vec<EffectiveSetting> {
        self.settings.current().effective(&self.settings.origin)
    }

    fn needs_restart(&self, path: &str) -> bool {
        needs_restart(path)
    }

    fn destination_table(&self, site: &str, destination: &str) -> Option<String> {
        self.settings.current().destination_table(site, destination)
    }

    async fn warnings(&self) -> Vec<SettingsWarning> {
        let settings = self.settings.current();
        let mut warnings = gateway_warnings(&settings);
        warnings.extend(settings.sites.iter().flat_map(site_warnings));
        // Certificates that cannot be read fail the reload, and are reported by it.
        let expiries = tagway_edge::check(&settings.edge).await.unwrap_or_default();
        let now = self.clock.now();
        warnings.extend(expiries.iter().filter_map(|it| expiry_warning(&settings, it, now)));
        warnings
    }

    async fn scrape(&self) -> String {
        let shown = self.dispatcher.observe(|| self.metrics.render());
        match tokio::time::timeout(ACCOUNTS_TIME, shown).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the metrics of destinations are outdated: the database cannot be read");
                self.metrics.render()
            }
            Err(_) => {
                tracing::warn!(
                    "the metrics of destinations are outdated: the database does not answer"
                );
                self.metrics.render()
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn wake(&self, reader: ReaderId) {
        self.dispatcher.wake(reader);
    }
}

fn reader_summary(reader: RunningDestination) -> ReaderSummary {
    ReaderSummary {
        site: reader.site,
        destination: reader.destination,
        reader: reader.reader,
        state: reader.status.name(),
        reason: reader.status.reason().map(str::to_owned),
        repeats: tagway_vendors::find(reader.vendor).map_or("", |vendor| vendor.deduplication),
    }
}

fn destination_summary(inspected: DestinationInspection) -> DestinationSummary {
    let DestinationInspection { running, settings, pause, activity } = inspected;
    let age_limit = settings.limits.max_age.min(settings.destination.max_event_age());
    DestinationSummary {
        vendor: running.vendor,
        mode: settings.mode.name(),
        pause,
        activity,
        age_limit: Some(age_limit).filter(|limit| *limit != Duration::MAX),
        calls_per_second: settings.limits.calls_per_second.map(NonZeroU32::get),
        has_mapping: settings.mapping.is_configured(),
        consent: settings.filter.consent.clone(),
        reader: reader_summary(running),
    }
}

fn send_receipt(
    sent: Result<OperatorSendReceipt, OperatorSendError>,
) -> Result<AdminSendReceipt, AdminSendError> {
    let sent = sent.map_err(|error| match error {
        OperatorSendError::UnknownSite => AdminSendError::UnknownSite,
        OperatorSendError::Invalid(code) => AdminSendError::Invalid(code.to_owned()),
        OperatorSendError::Append(error) => AdminSendError::Unavailable(Box::new(error)),
    })?;
    match sent.appended {
        AppendOutcome::New { seq } => Ok(AdminSendReceipt { seq, message_id: sent.message_id }),
        AppendOutcome::Duplicate => Err(AdminSendError::Duplicate),
    }
}

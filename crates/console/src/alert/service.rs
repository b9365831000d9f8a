//! The evaluation of all rules, and the operators' view of alerts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::condition::{AlertCondition, AlertTarget};
use super::kind::{AlertKind, AlertSeverity};
use super::message::{AlertEgress, AlertNotice};
use super::overview::AlertOverview;
use super::settings::{AlertRule, AlertSettings};
use super::state::{ActiveAlert, AlertChange, AlertState, AlertStep};
use super::store::{AlertChanges, AlertStore, ChangedAlert};
use crate::ConsoleStoreError;
use crate::reading::GatewayReading;
use crate::series::SeriesStore;
use tagway_core::clock::SharedClock;
use tagway_core::metrics::{AlertSeverityLabels, Metrics};
use tagway_storage::store::SqliteStore;

/// The most alerts that have not ended: five for each of a hundred destinations.
const MAX_ACTIVE: usize = 500;

/// The longest sleep of the notifier: the clock may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The wait of the notifier after the database failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// The time for attempts under way at the stop: as long as one takes at most by default.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The settings in use.
pub(super) struct AlertSetup {
    pub(super) alerts: AlertSettings,
    pub(super) egress: Arc<dyn AlertEgress>,
}

/// Evaluates rules, keeps the states of alerts, and notifies channels.
pub struct AlertService {
    pub(super) store: AlertStore,
    pub(super) settings: ArcSwap<AlertSetup>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) series: Arc<SeriesStore>,
    /// The alerts that have not ended; `None` before they are loaded.
    active: Mutex<Option<Vec<ActiveAlert>>>,
    /// Wakes the notifier.
    changed: Notify,
    /// True after an alert about the disk was sent that could not be stored.
    has_sent_unstored: parking_lot::Mutex<bool>,
}

/// The reason why alerts could not be evaluated or read.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// There is no alert with this number.
    #[error("there is no such alert")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] ConsoleStoreError),
}

impl AlertService {
    /// Creates a service over the embedded database.
    pub fn new(
        store: Arc<SqliteStore>,
        series: Arc<SeriesStore>,
        (settings, egress): (AlertSettings, Arc<dyn AlertEgress>),
        (clock, metrics): (SharedClock, Arc<Metrics>),
    ) -> Self {
        Self {
            store: AlertStore(store),
            settings: ArcSwap::from_pointee(AlertSetup { alerts: settings, egress }),
            clock,
            metrics,
            series,
            active: Mutex::new(None),
            changed: Notify::new(),
            has_sent_unstored: parking_lot::Mutex::new(false),
        }
    }

    /// Replaces the settings. Alerts of rules that are gone end with the next evaluation.
    pub fn apply(&self, settings: AlertSettings, egress: Arc<dyn AlertEgress>) {
        self.settings.store(Arc::new(AlertSetup { alerts: settings, egress }));
    }

    /// The time between two evaluations.
    pub fn evaluate_every(&self) -> Duration {
        self.settings.load().alerts.evaluate_every
    }

    /// The rules, in the order of their kinds.
    pub fn rules(&self) -> Vec<AlertRule> {
        self.settings.load().alerts.rules.clone()
    }

    /// The names of all channels.
    pub fn channel_names(&self) -> Vec<String> {
        self.settings.load().alerts.channels.iter().map(|it| it.name.clone()).collect()
    }

    /// The names of the channels that a rule notifies.
    pub fn channels_of(&self, rule: &AlertRule) -> Vec<String> {
        self.settings.load().alerts.channels_of(rule).map(str::to_owned).collect()
    }

    /// Evaluates all rules over a reading.
    ///
    /// # Errors
    ///
    /// Fails if the database does; the next evaluation tries again.
    pub async fn evaluate(&self, reading: &GatewayReading) -> Result<(), AlertError> {
        let mut guard = self.active.lock().await;
        let active = match &*guard {
            Some(active) => active.clone(),
            None => self.store.load().await.map_err(ConsoleStoreError::from)?,
        };
        let after = self.advance(active, reading).await?;
        self.publish(&after);
        *guard = Some(after);
        Ok(())
    }

    /// Evaluates all rules; returns the alerts that have not ended afterwards.
    async fn advance(
        &self,
        active: Vec<ActiveAlert>,
        reading: &GatewayReading,
    ) -> Result<Vec<ActiveAlert>, AlertError> {
        let setup = self.settings.load_full();
        let measured = self.measure(&setup.alerts, reading).await?;
        let mut evaluation = RuleEvaluationPass {
            setup: &setup.alerts,
            now: reading.at,
            changes: AlertChanges::default(),
        };
        let mut kept = Vec::new();
        let mut known: BTreeMap<(String, AlertTarget), ActiveAlert> =
            active.into_iter().map(|it| ((it.rule.clone(), it.target.clone()), it)).collect();
        for (rule, conditions) in &measured {
            let Some(conditions) = conditions else {
                // What cannot be measured stays as it was.
                kept.extend(take_rule(&mut known, &rule.name));
                continue;
            };
            for condition in conditions {
                let key = (rule.name.clone(), condition.target.clone());
                match known.remove(&key) {
                    Some(alert) => kept.extend(evaluation.advance(alert, rule, condition)),
                    None if kept.len() + known.len() < MAX_ACTIVE => {
                        kept.extend(evaluation.begin(rule, condition));
                    }
                    None => {}
                }
            }
        }
        for alert in known.into_values() {
            evaluation.end(alert);
        }
        self.commit(evaluation.changes, kept).await
    }

    /// Stores the changes, and gives new alerts their numbers.
    async fn commit(
        &self,
        changes: AlertChanges,
        mut kept: Vec<ActiveAlert>,
    ) -> Result<Vec<ActiveAlert>, AlertError> {
        if changes.changed.is_empty() && changes.dropped.is_empty() {
            return Ok(kept);
        }
        let keys: Vec<(String, AlertTarget)> = changes
            .changed
            .iter()
            .map(|it| (it.alert.rule.clone(), it.alert.target.clone()))
            .collect();
        for ChangedAlert { alert, notified } in &changes.changed {
            if let Some((change, _)) = notified {
                let (rule, title) = (&alert.rule, &alert.words.title);
                tracing::warn!(%rule, change = change.name(), "alert: {title}");
            }
        }
        let urgent = urgent_notices(&changes);
        let stored = self.store.apply(changes, self.clock.now()).await;
        match &stored {
            Ok(_) => *self.has_sent_unstored.lock() = false,
            Err(_) => self.send_unstored(urgent).await,
        }
        let ids = stored.map_err(ConsoleStoreError::from)?;
        for (key, id) in keys.into_iter().zip(ids) {
            let found = kept.iter_mut().find(|it| it.rule == key.0 && it.target == key.1);
            if let Some(alert) = found {
                alert.id = id;
            }
        }
        self.changed.notify_one();
        Ok(kept)
    }

    /// Sends alerts about the disk that cannot be stored, because of the disk: once, without repetitions.
    async fn send_unstored(&self, urgent: Vec<(String, AlertNotice)>) {
        if urgent.is_empty() || std::mem::replace(&mut *self.has_sent_unstored.lock(), true) {
            return;
        }
        let settings = self.settings.load_full();
        let id = format!("tagway-disk-{}", self.clock.now().as_millisecond());
        for (name, notice) in urgent {
            let Some(channel) = settings.alerts.channel(&name) else { continue };
            let sent = self.send_message(channel, id.clone(), vec![notice]).await;
            self.count_attempt(&name, if sent.is_ok() { "sent" } else { "failed" });
            if let Err(error) = sent {
                tracing::error!(channel = %name, %error, "people are not notified of the disk");
            }
        }
    }

    fn publish(&self, active: &[ActiveAlert]) {
        for (name, severity) in AlertSeverity::ALL {
            let is_firing =
                |it: &&ActiveAlert| it.state == AlertState::Firing && it.severity == severity;
            let count = active.iter().filter(is_firing).count();
            let labels = AlertSeverityLabels { severity: name };
            let gauge = self.metrics.alerts_firing.get_or_create(&labels);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sends notifications until stopped.
    pub async fn notify_until_stopped(&self, stop: CancellationToken) {
        while let Err(error) = self.store.end_interrupted().await {
            tracing::warn!(%error, "notifications of alerts wait");
            tokio::select! {
                () = tokio::time::sleep(FAILURE_PAUSE) => {}
                () = stop.cancelled() => return,
            }
        }
        let is_late = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::pin!(is_late);
        loop {
            let sleep = tokio::select! {
                sleep = self.send_and_wait() => sleep,
                () = &mut is_late => return,
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.changed.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn send_and_wait(&self) -> Duration {
        match self.send_due().await {
            Ok(None) => MAX_SLEEP,
            Ok(Some(next)) => {
                let wait = next.duration_since(self.clock.now());
                Duration::try_from(wait).unwrap_or_default().min(MAX_SLEEP)
            }
            Err(error) => {
                tracing::warn!(%error, "notifications of alerts wait");
                FAILURE_PAUSE
            }
        }
    }

    /// Lists all alerts that fire, and some that have ended: with `before`, only those with lower numbers.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn list(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AlertOverview>, AlertError> {
        Ok(self.store.list(before, limit).await.map_err(ConsoleStoreError::from)?)
    }

    /// Returns one alert.
    ///
    /// # Errors
    ///
    /// Fails if there is no such alert, or if the database cannot be read.
    pub async fn get(&self, id: i64) -> Result<AlertOverview, AlertError> {
        self.store.get(id).await.map_err(ConsoleStoreError::from)?.ok_or(AlertError::Unknown)
    }

    /// Records that a person has seen an alert: no reminder of it follows.
    ///
    /// # Errors
    ///
    /// Fails if there is no such alert, or if the database cannot be written.
    pub async fn acknowledge(
        &self,
        id: i64,
        by: String,
        note: Option<String>,
    ) -> Result<AlertOverview, AlertError> {
        {
            // An evaluation that is under way must not overwrite it in memory.
            let mut guard = self.active.lock().await;
            let now = self.clock.now();
            let stored = self.store.acknowledge(id, by, note, now).await;
            if !stored.map_err(ConsoleStoreError::from)? {
                return Err(AlertError::Unknown);
            }
            for alert in guard.iter_mut().flatten().filter(|alert| alert.id == id) {
                alert.is_acknowledged = true;
            }
        }
        self.get(id).await
    }
}

/// One pass over the alerts, with the changes to store.
struct RuleEvaluationPass<'s> {
    setup: &'s AlertSettings,
    now: Timestamp,
    changes: AlertChanges,
}

impl RuleEvaluationPass<'_> {
    fn begin(&mut self, rule: &AlertRule, condition: &AlertCondition) -> Option<ActiveAlert> {
        let (alert, step) = ActiveAlert::begin(rule, condition, self.now)?;
        self.record(&alert, step, true);
        Some(alert)
    }

    fn advance(
        &mut self,
        mut alert: ActiveAlert,
        rule: &AlertRule,
        condition: &AlertCondition,
    ) -> Option<ActiveAlert> {
        let before = alert.clone();
        let step = alert.advance(rule, condition, self.setup.repeat_after, self.now);
        self.record(&alert, step, alert != before);
        (step != AlertStep::Drop && alert.state != AlertState::Resolved).then_some(alert)
    }

    fn end(&mut self, mut alert: ActiveAlert) {
        let step = alert.end(self.now);
        self.record(&alert, step, true);
    }

    fn record(&mut self, alert: &ActiveAlert, step: AlertStep, is_changed: bool) {
        let notified = match step {
            AlertStep::Drop => return self.changes.dropped.push(alert.id),
            AlertStep::Keep if !is_changed => return,
            AlertStep::Keep => None,
            AlertStep::Notify(change) => {
                let rule = self.setup.rules.iter().find(|rule| rule.name == alert.rule);
                let channels: Vec<String> = match rule {
                    Some(rule) => self.setup.channels_of(rule).map(str::to_owned).collect(),
                    // The rule is gone: whoever was told the beginning is told the end.
                    None => self.setup.channels.iter().map(|it| it.name.clone()).collect(),
                };
                Some((change, channels))
            }
        };
        self.changes.changed.push(ChangedAlert { alert: alert.clone(), notified });
    }
}

/// The notices about the disk that begin with these changes, by channel.
fn urgent_notices(changes: &AlertChanges) -> Vec<(String, AlertNotice)> {
    let mut urgent = Vec::new();
    for ChangedAlert { alert, notified } in &changes.changed {
        let Some((change @ AlertChange::Firing, channels)) = notified else { continue };
        if alert.kind == AlertKind::Disk {
            let notice = || AlertNotice { change: Some(*change), alert: alert.overview() };
            urgent.extend(channels.iter().map(|channel| (channel.clone(), notice())));
        }
    }
    urgent
}

fn take_rule(
    known: &mut BTreeMap<(String, AlertTarget), ActiveAlert>,
    rule: &str,
) -> Vec<ActiveAlert> {
    let keys: Vec<_> = known.keys().filter(|(name, _)| name == rule).cloned().collect();
    keys.iter().filter_map(|key| known.remove(key)).collect()
}

//! Alerts over a real database, with a clock of their own and a channel that records what it is sent.

mod parts;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use super::condition::ConditionLevel;
use super::state::{ActiveAlert, AlertChange, AlertStep};
use super::*;
use crate::reading::*;
use crate::series::{self, SeriesRecorder, SeriesStore};
use tagway_core::clock::{Clock, ManualClock};
use tagway_core::metrics::Metrics;
use tagway_settings::test_support;
use tagway_storage::store::{CommitSyncMode, SqliteStore};

const START: &str = "2026-12-01T10:00:00Z";

/// A channel that records its calls, and answers with the scripted statuses, then with 200.
#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<(http::request::Parts, Value)>>,
    statuses: Mutex<Vec<u16>>,
}

#[async_trait]
impl AlertEgress for Recorder {
    async fn post(&self, request: Request<Bytes>, _: Duration) -> Result<StatusCode, String> {
        let (parts, body) = request.into_parts();
        self.calls.lock().push((parts, serde_json::from_slice(&body).unwrap()));
        let status = self.statuses.lock().pop().unwrap_or(200);
        Ok(StatusCode::from_u16(status).unwrap())
    }

    fn allows_private(&self) -> bool {
        false
    }
}

const CHANNEL: &str = "[channels.ops]\nkind = \"webhook\"\nurl = \"https://ops.example/in\"\n\
    token = \"t0ken\"\nsecret = \"hush\"\n";

/// A backlog of more than 100 s for a minute.
const RULE: &str = "console_url = \"https://ops.example/tagway\"\nrepeat_after = \"4h\"\n\
    [[rules]]\nname = \"backlog-age\"\nlimit = 100\nfor = \"1m\"\n";

fn settings(text: &str) -> AlertSettings {
    test_support::settings(text, AlertSettings::read)
}

struct Trial {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    channel: Arc<Recorder>,
    metrics: Arc<Metrics>,
    store: Arc<SqliteStore>,
    series: Arc<SeriesStore>,
    service: AlertService,
    settings: AlertSettings,
}

impl Trial {
    fn new(text: &str) -> Self {
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        Self::open(folder, clock, Arc::default(), settings(text))
    }

    fn open(
        folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
        channel: Arc<Recorder>,
        settings: AlertSettings,
    ) -> Self {
        let (schemas, metrics) = ([MIGRATIONS, series::MIGRATIONS], Arc::new(Metrics::new()));
        let store = SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone());
        let store = Arc::new(store.unwrap());
        let series = Arc::new(SeriesStore::new(store.clone()));
        let setup = (settings.clone(), channel.clone() as Arc<dyn AlertEgress>);
        let shared = (clock.clone() as _, metrics.clone());
        let service = AlertService::new(store.clone(), series.clone(), setup, shared);
        Self { folder, clock, channel, metrics, store, series, service, settings }
    }

    /// Ends the process without a last word, and starts the next.
    async fn restart(self) -> Self {
        let Self { folder, clock, channel, store, series, service, settings, .. } = self;
        store.close().await;
        drop((service, series, store));
        let next = Self::open(folder, clock, channel, settings);
        next.service.store.end_interrupted().await.unwrap();
        next
    }

    /// Evaluates after `seconds`, with a backlog of this age at each of these destinations, and sends what is due.
    async fn pass(&self, seconds: i64, age: i64, destinations: &[&'static str]) {
        self.evaluate(seconds, age, destinations).await;
        self.service.send_due().await.unwrap();
    }

    async fn evaluate(&self, seconds: i64, age: i64, destinations: &[&'static str]) {
        self.clock.advance(seconds * 1000);
        let mut reading = reading(self.clock.now());
        let oldest = reading.at.checked_sub(SignedDuration::from_secs(age)).unwrap();
        reading.destinations =
            destinations.iter().map(|name| destination(name, 7, Some(oldest))).collect();
        self.service.evaluate(&reading).await.unwrap();
    }

    /// Change and title of each alert that the channel was sent, by call.
    fn sent(&self) -> Vec<Vec<String>> {
        let calls = self.channel.calls.lock();
        let of_call = |body: &Value| {
            let alerts = body["alerts"].as_array().unwrap().iter();
            let line = |it: &Value| {
                format!("{} {}", it["change"].as_str().unwrap(), it["title"].as_str().unwrap())
            };
            alerts.map(line).collect()
        };
        calls.iter().map(|(_, body)| of_call(body)).collect()
    }
}

fn reading(at: Timestamp) -> GatewayReading {
    GatewayReading {
        at,
        sites: vec![SiteReading { site: "shop".into(), accepted: 0 }],
        destinations: Vec::new(),
        segments: Some(Vec::new()),
        certificates: Vec::new(),
        disk: None,
    }
}

fn destination(name: &str, pending: u64, oldest_pending: Option<Timestamp>) -> DestinationReading {
    DestinationReading {
        site: "shop".into(),
        destination: name.into(),
        delivered: 0,
        skipped: 0,
        dead: 0,
        pending,
        held: 0,
        oldest_pending,
        is_paused: false,
        reasons: Vec::new(),
    }
}

const META: &[&str] = &["meta"];
const FIRES: &str = "firing shop/meta: events wait";
const ENDS: &str = "resolved shop/meta: events wait";

#[tokio::test]
async fn alert_fires_after_its_time_and_ends_beyond_the_margin() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, META).await;
    trial.pass(30, 180, META).await;
    assert_eq!(trial.sent().len(), 0, "pending");
    trial.pass(30, 210, META).await;
    assert_eq!(trial.sent(), [[FIRES]]);
    // Near the limit, and short returns below it, change nothing.
    for age in [95, 99, 101, 95, 80, 150, 60, 101] {
        trial.pass(50, age, META).await;
    }
    assert_eq!(trial.sent().len(), 1);
    trial.pass(30, 10, META).await;
    trial.pass(59, 10, META).await;
    assert_eq!(trial.sent().len(), 1);
    trial.pass(1, 10, META).await;
    assert_eq!(trial.sent(), [[FIRES], [ENDS]]);
    let alerts = trial.service.list(None, 10).await.unwrap();
    assert_eq!((alerts.len(), alerts[0].state), (1, AlertState::Resolved));
    assert!(alerts[0].resolved_at.unwrap() > alerts[0].since);
    // A short backlog is dropped without a trace.
    trial.pass(10, 150, META).await;
    trial.pass(10, 10, META).await;
    assert_eq!((trial.sent().len(), trial.service.list(None, 10).await.unwrap().len()), (2, 1));
}

#[tokio::test]
async fn notification_has_words_link_and_signature() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, &["me/ta"]).await;
    trial.pass(60, 3790, &["me/ta"]).await;
    let (parts, body) = trial.channel.calls.lock()[0].clone();
    let alert = &body["alerts"][0];
    assert_eq!(alert["link"], "https://ops.example/tagway/#/destinations/shop/me%2Fta");
    let text = alert["text"].as_str().unwrap();
    assert!(text.contains("oldest of 7 events") && text.contains("1 h 3 min old"), "{text}");
    assert_eq!((&alert["value"], &alert["limit"]), (&3790.0.into(), &100.0.into()));
    assert_eq!(parts.uri, "https://ops.example/in");
    assert_eq!(parts.headers["authorization"], "Bearer t0ken");
    let signature = parts.headers["webhook-signature"].to_str().unwrap();
    assert!(signature.starts_with("v1,"), "{signature}");
    assert_eq!(parts.headers["webhook-id"], body["id"].as_str().unwrap());
    let shown = format!("{:?}", trial.settings);
    assert!(!shown.contains("t0ken") && !shown.contains("hush"), "{shown}");
    let labels = tagway_core::metrics::AlertSeverityLabels { severity: "page" };
    assert_eq!(trial.metrics.alerts_firing.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn restart_neither_repeats_nor_forgets() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, META).await;
    // The pending time goes on over a restart.
    let trial = trial.restart().await;
    trial.pass(60, 210, META).await;
    assert_eq!(trial.sent(), [[FIRES]]);
    let trial = trial.restart().await;
    trial.pass(30, 240, META).await;
    assert_eq!(trial.sent().len(), 1);
    trial.pass(30, 1, META).await;
    let trial = trial.restart().await;
    trial.pass(60, 1, META).await;
    assert_eq!(trial.sent(), [[FIRES], [ENDS]]);
    let trial = trial.restart().await;
    trial.pass(60, 1, META).await;
    assert_eq!(trial.sent().len(), 2);
}

#[tokio::test]
async fn notification_that_was_stored_but_not_sent_is_sent_after_a_restart() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, META).await;
    trial.evaluate(60, 210, META).await;
    let trial = trial.restart().await;
    trial.service.send_due().await.unwrap();
    assert_eq!(trial.sent(), [[FIRES]]);
}

#[tokio::test]
async fn attempt_under_way_at_a_crash_is_not_repeated() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, META).await;
    trial.evaluate(60, 210, META).await;
    // The process dies between the first byte and the result.
    assert_eq!(trial.service.store.take_due(trial.clock.now(), 10).await.unwrap().len(), 1);
    let trial = trial.restart().await;
    trial.pass(30, 240, META).await;
    assert_eq!(trial.sent().len(), 0);
    let alert = trial.service.list(None, 10).await.unwrap().remove(0);
    assert!(alert.notified[0].error.as_ref().unwrap().contains("ended during"), "{alert:?}");
    // The channel may have the beginning, so it gets the end.
    trial.pass(30, 1, META).await;
    trial.pass(60, 1, META).await;
    assert_eq!(trial.sent(), [[ENDS]]);
}

#[tokio::test]
async fn failed_attempts_are_repeated_with_longer_waits_for_an_hour() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    *trial.channel.statuses.lock() = vec![500; 1000];
    trial.pass(0, 150, META).await;
    trial.pass(60, 210, META).await;
    let began = trial.clock.now();
    let mut times = Vec::new();
    while let Some(next) = trial.service.send_due().await.unwrap() {
        times.push(next.duration_since(began).as_secs());
        trial.clock.advance(next.as_millisecond() - trial.clock.now().as_millisecond());
    }
    assert_eq!(times, [10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030]);
    assert_eq!(trial.channel.calls.lock().len(), times.len() + 1);
    let alert = trial.service.list(None, 10).await.unwrap().remove(0);
    assert!(alert.notified[0].error.as_ref().unwrap().contains("500"), "{alert:?}");
    let ids: Vec<_> = trial.channel.calls.lock().iter().map(|it| it.1["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "each attempt has the same id: {ids:?}");
}

#[tokio::test]
async fn end_supersedes_a_beginning_that_was_never_sent() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    *trial.channel.statuses.lock() = vec![500];
    trial.pass(0, 150, META).await;
    trial.pass(60, 210, META).await;
    trial.evaluate(5, 1, META).await;
    trial.evaluate(60, 1, META).await;
    trial.service.send_due().await.unwrap();
    assert_eq!(trial.sent(), [[FIRES]], "the failed attempt only");
}

#[tokio::test]
async fn alerts_of_one_moment_are_one_message() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, &["meta", "ga4"]).await;
    trial.pass(60, 210, &["meta", "ga4"]).await;
    let sent = trial.sent();
    assert_eq!((sent.len(), sent[0].len()), (1, 2), "{sent:?}");
}

#[tokio::test]
async fn reminder_follows_unless_acknowledged() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, META).await;
    trial.pass(60, 210, META).await;
    trial.pass(4 * 3600, 9000, META).await;
    assert_eq!(trial.sent()[1], ["reminder shop/meta: events wait"]);
    let id = trial.service.list(None, 1).await.unwrap()[0].id;
    let by = "ana".to_owned();
    let seen = trial.service.acknowledge(id, by, Some("calling them".to_owned())).await.unwrap();
    assert_eq!(seen.acknowledged.unwrap().0, "ana");
    let trial = trial.restart().await;
    trial.pass(5 * 3600, 9000, META).await;
    assert_eq!(trial.sent().len(), 2);
    let unknown = trial.service.acknowledge(id + 1, "ana".to_owned(), None).await;
    assert!(matches!(unknown, Err(AlertError::Unknown)));
}

#[tokio::test]
async fn alert_ends_with_its_rule_and_with_its_target() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    trial.pass(0, 150, &["meta", "ga4"]).await;
    trial.pass(60, 210, &["meta", "ga4"]).await;
    trial.pass(30, 240, META).await;
    assert_eq!(trial.sent()[1], ["resolved shop/ga4: events wait"]);
    let off = format!("[[rules]]\nname = \"backlog-age\"\nenabled = false\n{CHANNEL}");
    trial.service.apply(settings(&off), trial.channel.clone());
    trial.pass(30, 270, META).await;
    assert_eq!(trial.sent()[2], [ENDS]);
}

#[tokio::test]
async fn rule_of_a_destination_takes_the_place_of_the_general_one() {
    let own = "[[rules]]\nname = \"meta-backlog\"\nkind = \"backlog_age\"\ndestination = \"meta\"\n\
        limit = 10000\n";
    let trial = Trial::new(&format!("{RULE}{own}{CHANNEL}"));
    trial.pass(0, 150, &["meta", "ga4"]).await;
    trial.pass(60, 210, &["meta", "ga4"]).await;
    assert_eq!(trial.sent(), [["firing shop/ga4: events wait"]]);
}

#[tokio::test]
async fn paused_destination_is_no_alert() {
    let trial = Trial::new(&format!("{RULE}{CHANNEL}"));
    let mut reading = reading(trial.clock.now());
    let mut paused = destination("meta", 7, Some("2026-11-01T00:00:00Z".parse().unwrap()));
    paused.is_paused = true;
    reading.destinations = vec![paused];
    trial.service.evaluate(&reading).await.unwrap();
    trial.clock.advance(600_000);
    reading.at = trial.clock.now();
    trial.service.evaluate(&reading).await.unwrap();
    assert_eq!(trial.service.send_due().await.unwrap(), None);
    assert_eq!(trial.sent().len(), 0);
}

/// Runs a site minute by minute, with the events of each from `events`, and evaluates.
async fn run_site(trial: &Trial, minutes: i64, accepted: &mut u64, events: u64) {
    let mut recorder = SeriesRecorder::new(trial.series.load().await.unwrap());
    for _ in 0..minutes {
        trial.clock.advance(60_000);
        *accepted += events;
        let mut reading = reading(trial.clock.now());
        reading.sites[0].accepted = *accepted;
        if let Some(minute) = recorder.record(&reading) {
            trial.series.write(minute).await.unwrap();
        }
        trial.service.evaluate(&reading).await.unwrap();
        trial.service.send_due().await.unwrap();
    }
    if let Some(minute) = recorder.close() {
        trial.series.write(minute).await.unwrap();
    }
}

#[tokio::test]
async fn no_traffic_needs_traffic_before_and_ends_with_the_first_event() {
    let trial = Trial::new(&format!("{CHANNEL}[[rules]]\nname = \"no-traffic\"\nlimit = 60\n"));
    let mut accepted = 0;
    run_site(&trial, 300, &mut accepted, 0).await;
    assert_eq!(trial.sent().len(), 0, "a site without traffic yet");
    run_site(&trial, 240, &mut accepted, 3).await;
    run_site(&trial, 25, &mut accepted, 0).await;
    assert_eq!(trial.sent().len(), 0);
    run_site(&trial, 10, &mut accepted, 0).await;
    assert_eq!(trial.sent(), [["firing shop: no events"]]);
    let text = trial.channel.calls.lock()[0].1["alerts"][0]["text"].to_string();
    assert!(text.contains("no event for 30 min") && text.contains("at least 9"), "{text}");
    run_site(&trial, 3, &mut accepted, 1).await;
    assert_eq!(trial.sent()[1], ["resolved shop: no events"]);
}

#[tokio::test]
async fn alert_about_a_disk_that_refuses_writes_is_sent_once_without_being_stored() {
    let trial = Trial::new(&format!("{CHANNEL}[[rules]]\nname = \"disk\"\nfor = \"0s\"\n"));
    let refuse =
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON alerts BEGIN SELECT raise(ABORT, 'disk'); END";
    trial.store.write(|c| c.execute_batch(refuse)).await.unwrap();
    for _ in 0..3 {
        trial.clock.advance(30_000);
        let mut reading = reading(trial.clock.now());
        let disk =
            DiskReading { free_bytes: 50, total_bytes: 100, is_writable: false, has_room: true };
        reading.disk = Some(disk);
        assert!(trial.service.evaluate(&reading).await.is_err());
    }
    assert_eq!(trial.sent(), [["firing The disk refuses writes"]]);
}

#[test]
fn pending_alert_of_an_immediate_rule_fires_at_once() {
    let rule = AlertRule { hold: Duration::ZERO, ..AlertRule::default_of(AlertKind::Disk) };
    let now: Timestamp = START.parse().unwrap();
    let disk = |free_bytes, has_room| {
        let mut reading = reading(now);
        let disk = DiskReading { free_bytes, total_bytes: 100, is_writable: true, has_room };
        reading.disk = Some(disk);
        condition::measure(&rule, &reading, &Default::default()).unwrap().remove(0)
    };
    assert_eq!(disk(50, true).level, ConditionLevel::Clear);
    assert_eq!(disk(50, false).level, ConditionLevel::Breached);
    let full = disk(3, true);
    let (mut alert, step) = ActiveAlert::begin(&rule, &full, now).unwrap();
    assert_eq!(step, AlertStep::Notify(AlertChange::Firing));
    assert!(alert.words.text.contains("3.0 %"), "{:?}", alert.words);
    let step = alert.advance(&rule, &disk(50, true), Duration::ZERO, now);
    assert_eq!(step, AlertStep::Notify(AlertChange::Resolved));
}

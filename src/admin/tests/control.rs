//! A fake gateway that records its calls.

use super::*;
use crate::rehearsal::{RehearsedEnding, RehearsedRequest};
use tagway_core::event::DroppedFields;
use tagway_delivery::{
    ConsentShares, CredentialState, DestinationFailure, LatencySummary, MatchKeyShare,
    PauseInitiator,
};
use tagway_pages::script::proxy::ScriptVersion;
use tagway_settings::SettingSource;
use tagway_storage::profile::{FoundProfile, Identity, IdentityKind, ProfileId, SearchPosition};
use tagway_vendors::{Outcome, OutcomeReason};
use tokio::sync::Notify;

/// A gateway with the destination `shop/ga4`, which delivers every sent event at once, and the site
/// `bare` without one.
pub(super) struct FakeControl {
    pub(super) feed: LiveFeed,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    /// Holds back the erasure of the person `held` until it is notified.
    pub(super) gate: Arc<Notify>,
}

#[async_trait]
impl AdminControl for FakeControl {
    fn sites(&self) -> Vec<Arc<str>> {
        vec!["shop".into(), "bare".into()]
    }

    fn readers(&self) -> Vec<ReaderSummary> {
        vec![ReaderSummary {
            site: "shop".into(),
            destination: "ga4".into(),
            reader: ReaderId(3),
            state: "running",
            reason: None,
            repeats: "recognises orders",
        }]
    }

    async fn send(&self, site: &str, event: Value) -> Result<AdminSendReceipt, AdminSendError> {
        if site != "shop" {
            return Err(AdminSendError::UnknownSite);
        }
        let outcome = if event["event"] == "Bad" { "dead" } else { "delivered" };
        publish(&self.feed, settled("ga4", outcome));
        Ok(AdminSendReceipt { seq: 12, message_id: "m1".to_owned() })
    }

    async fn rehearse(
        &self,
        site: &str,
        input: RehearsedInput,
        destinations: &[String],
    ) -> Result<Vec<EventRehearsal>, RehearsalError> {
        if let RehearsedInput::Message(event) = &input
            && event["event"] == "Bad"
        {
            return Err(RehearsalError::Invalid("no_name".to_owned()));
        }
        self.asked.lock().push(format!("rehearse {site} {destinations:?}"));
        let event = json!({"type": "track", "event": "e", "messageId": "m1", "userId": "alice@shop.example",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z"});
        let request = RehearsedRequest {
            method: "POST".to_owned(),
            url: "https://vendor.example/in".to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: "{\"em\":\"alice@shop.example\"}".to_owned(),
        };
        let rehearsal = EventRehearsal {
            destination: "ga4".into(),
            ending: RehearsedEnding::Ended(Some(Outcome::Delivered)),
            mapped: Some(Arc::new(serde_json::from_value(event).unwrap())),
            requests: vec![request],
            dropped: DroppedFields::default(),
            problems: Vec::new(),
        };
        Ok(vec![rehearsal])
    }

    fn trace_link(&self, site: &str, trace: &str, _until: Timestamp) -> Option<String> {
        (site == "shop").then(|| format!("https://shop.example/?tw_trace={trace}"))
    }

    async fn forget(&self, site: &str, id: &str) -> Result<ForgetReport, SubjectError> {
        if site != "shop" {
            return Err(SubjectError::UnknownSite);
        }
        self.asked.lock().push(format!("forget {id}"));
        if id == "held" {
            self.gate.notified().await;
        }
        Ok(ForgetReport { names: 3, profiles: 1, events: 4, parked: 5, dead: 6 })
    }

    async fn lift_suppression(&self, _site: &str, id: &str) -> Result<u64, SubjectError> {
        self.asked.lock().push(format!("lift {id}"));
        Ok(3)
    }

    async fn export(
        &self,
        _site: &str,
        id: &str,
        from: Option<SubjectCursor>,
    ) -> Result<ExportPage, SubjectError> {
        self.asked.lock().push(format!("export {id} {from:?}"));
        Ok(ExportPage {
            held: vec![json!({ "kind": "profile" })],
            next: Some(SubjectCursor::Dead(7)),
        })
    }

    fn scripts(&self) -> Vec<ScriptSummary> {
        let version = |letter: &str| ScriptVersion {
            hash: format!("sha256-{}=", letter.repeat(43)),
            bytes: 7,
            age_seconds: 90_000,
        };
        let state = |site: &str, state| ScriptSummary {
            site: Some(site.into()),
            vendor: "ga4",
            script: "/gtag/js?id=G-1".to_owned(),
            state,
            served: Some(version("A")),
            pending: Some(version("B")),
        };
        vec![state("shop", "pending"), state("other", "pending")]
    }

    async fn script_diff(
        &self,
        site: &str,
        _vendor: &str,
        script: &str,
    ) -> Result<ScriptDiff, ScriptPinError> {
        let known = self.scripts().into_iter().find(|it| it.site.as_deref() == Some(site));
        let state = known.filter(|it| it.script == script).ok_or(ScriptPinError::Unknown)?;
        let diff = "@@ -1 +1 @@\n-a\n+b\u{1b}[2J\n".to_owned();
        Ok(ScriptDiff { served: state.served, pending: state.pending.unwrap(), diff, cut: false })
    }

    async fn approve_script(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
        hash: &str,
    ) -> Result<(), ScriptPinError> {
        if self.scripts()[0].pending.as_ref().unwrap().hash != hash {
            return Err(ScriptPinError::Changed);
        }
        self.asked.lock().push(format!("approve {site} {vendor} {script}"));
        Ok(())
    }

    async fn profiles(
        &self,
        _site: &str,
        id: &str,
    ) -> Result<Vec<serde_json::Value>, SubjectError> {
        self.asked.lock().push(format!("profiles {id}"));
        Ok(vec![json!({ "kind": "profile", "user_id": id })])
    }

    fn last_failure(&self, _reader: ReaderId, _seq: u64) -> Option<FailedAttempt> {
        None
    }

    async fn search_profiles(
        &self,
        site: &str,
        search: ProfileSearch,
    ) -> Result<ProfilePage, SubjectError> {
        if site != "shop" {
            return Err(SubjectError::UnknownSite);
        }
        self.asked.lock().push(format!("search {:?} {}", search.text, search.limit));
        let found = FoundProfile {
            profile: ProfileId(7),
            user_id: Some("ana".to_owned()),
            traits: json!({ "email": "ana@shop.example" }).as_object().unwrap().clone(),
            identities: vec![Identity::of(IdentityKind::Anonymous, Some("d1")).unwrap()],
            last_seen: Some(1000),
            events: 3,
        };
        let next = SearchPosition { kind: "user".to_owned(), profile: ProfileId(7) };
        Ok(ProfilePage { profiles: vec![found], next: Some(next) })
    }

    async fn pause(
        &self,
        _site: &str,
        destination: &str,
        pause: ReaderPause,
    ) -> Result<DestinationStatus, PauseError> {
        match destination {
            "ga4" if pause.is_over(self.now()) => Err(PauseError::Past),
            "ga4" => {
                self.asked.lock().push(format!("pause {} {:?}", pause.why, pause.until));
                Ok(DestinationStatus::Paused(PauseInitiator::Operator))
            }
            _ => Err(PauseError::Unknown),
        }
    }

    async fn resume(
        &self,
        _site: &str,
        destination: &str,
    ) -> Result<DestinationStatus, PauseError> {
        Err(if destination == "ga4" { PauseError::Configured } else { PauseError::Unknown })
    }

    fn destinations(&self) -> Vec<DestinationSummary> {
        let failure = DestinationFailure {
            at: Timestamp::UNIX_EPOCH,
            reason: OutcomeReason::detailed("refused", "HTTP 400"),
            call: None,
        };
        let activity = ActivitySnapshot {
            since: Timestamp::UNIX_EPOCH,
            latency: Some(LatencySummary {
                calls: 5,
                median: Duration::from_millis(20),
                p99: Duration::from_millis(90),
            }),
            last_failure: Some(failure),
            credentials: CredentialState::Accepted,
            skipped: [("consent_denied", 4), ("not_selected", 9)].into(),
            waits_until: None,
        };
        let of = |reader| DestinationSummary {
            reader,
            vendor: "ga4",
            mode: "server",
            pause: Some(ReaderPause::new("ana", "broken tag", self.now(), None)),
            activity: activity.clone(),
            age_limit: Some(Duration::from_secs(72 * 3600)),
            calls_per_second: Some(9),
            has_mapping: true,
            consent: vec!["analytics".to_owned()],
        };
        self.readers().into_iter().map(of).collect()
    }

    async fn match_quality(
        &self,
        _site: &str,
        _destination: &str,
    ) -> Result<Option<Arc<MatchQuality>>, MatchQualityError> {
        let key = &tagway_vendors::find("ga4").unwrap().match_keys[0];
        let share = MatchKeyShare { key, events: 1, share: 1.0 / 3.0, raise: Some("Send".into()) };
        Ok(Some(Arc::new(MatchQuality {
            measured_at: self.now(),
            days: 7,
            read: 5,
            sampled: 3,
            keys: vec![share],
            deduplicated: Some(0.5),
            consent: ConsentShares { granted: 3, denied: 1, unknown: 0 },
            score: Some(3.333),
        })))
    }

    async fn send_test(
        &self,
        _site: &str,
        destination: &str,
        event: Option<Value>,
    ) -> Result<AdminSendReceipt, TestEventError> {
        match (destination, event) {
            ("ga4", Some(_)) => Err(TestEventError::NotSelected),
            ("ga4", None) => Ok(AdminSendReceipt { seq: 12, message_id: "m1".to_owned() }),
            _ => Err(TestEventError::Unknown),
        }
    }

    fn site(&self, site: &str) -> Option<SiteSummary> {
        let warning = SettingsWarning {
            place: "site shop".to_owned(),
            site: Some("shop".to_owned()),
            text: "a slip".to_owned(),
        };
        (site == "shop").then(|| SiteSummary {
            id: SiteId(1),
            hosts: vec!["t.shop.example".to_owned()],
            snippet: "<script></script>".to_owned(),
            warnings: vec![warning],
        })
    }

    fn effective_settings(&self) -> Vec<EffectiveSetting> {
        let of = |path: &str, value: Value, source| EffectiveSetting {
            path: path.to_owned(),
            value,
            source,
            file: Some("tagway.toml".to_owned()),
            line: Some(3),
            variable: None,
            is_secret: false,
            doc: "a setting",
        };
        vec![
            of("journal.retain", "7d".into(), SettingSource::File),
            of("sites[0].name", "shop".into(), SettingSource::File),
        ]
    }

    fn needs_restart(&self, path: &str) -> bool {
        path.starts_with("journal")
    }

    fn destination_table(&self, _site: &str, _destination: &str) -> Option<String> {
        Some("vendor = \"ga4\"".to_owned())
    }

    async fn warnings(&self) -> Vec<SettingsWarning> {
        vec![SettingsWarning {
            place: "listen.admin".to_owned(),
            site: None,
            text: "beyond".to_owned(),
        }]
    }

    async fn scrape(&self) -> String {
        tagway_core::metrics::Metrics::new().render()
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn wake(&self, reader: ReaderId) {
        self.asked.lock().push(format!("wake {reader:?}"));
    }
}

//! A fake gateway that records its calls.

use super::*;
use crate::rehearsal::{RehearsedEnding, RehearsedRequest};
use tagway_core::event::DroppedFields;
use tagway_delivery::PauseInitiator;
use tagway_pages::script::proxy::ScriptVersion;
use tagway_vendors::Outcome;

/// A gateway with the destination `shop/ga4`, which delivers every sent event at once, and the site
/// `bare` without one.
pub(super) struct FakeControl {
    pub(super) feed: LiveFeed,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
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

    async fn set_paused(
        &self,
        _site: &str,
        destination: &str,
        is_paused: bool,
    ) -> Result<DestinationStatus, PauseError> {
        match (destination, is_paused) {
            ("ga4", true) => Ok(DestinationStatus::Paused(PauseInitiator::Operator)),
            ("ga4", false) => Err(PauseError::Configured),
            _ => Err(PauseError::Unknown),
        }
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

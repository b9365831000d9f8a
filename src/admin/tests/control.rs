//! A gateway that only remembers.

use super::*;

/// A gateway with the destination `shop/ga4`, which delivers what it is sent at once, and the site
/// `bare` with none.
pub(super) struct FakeControl {
    pub(super) feed: Feed,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Control for FakeControl {
    fn sites(&self) -> Vec<Arc<str>> {
        vec!["shop".into(), "bare".into()]
    }

    fn readers(&self) -> Vec<ReaderState> {
        vec![ReaderState {
            site: "shop".into(),
            destination: "ga4".into(),
            reader: ReaderId(3),
            state: "running",
            reason: None,
        }]
    }

    async fn send(&self, site: &str, event: Value) -> Result<Sent, SendError> {
        if site != "shop" {
            return Err(SendError::UnknownSite);
        }
        let outcome = if event["event"] == "Bad" { "dead" } else { "delivered" };
        self.feed.tell(|| settled("ga4", outcome));
        Ok(Sent { seq: 12, message_id: "m1".to_owned() })
    }

    async fn forget(&self, site: &str, id: &str) -> Result<ForgetReport, SubjectError> {
        if site != "shop" {
            return Err(SubjectError::UnknownSite);
        }
        self.asked.lock().unwrap().push(format!("forget {id}"));
        Ok(ForgetReport { names: 3, profiles: 1, events: 4, parked: 5, dead: 6 })
    }

    async fn lift(&self, _site: &str, id: &str) -> Result<u64, SubjectError> {
        self.asked.lock().unwrap().push(format!("lift {id}"));
        Ok(3)
    }

    async fn export(
        &self,
        _site: &str,
        id: &str,
        from: Option<HeldAt>,
    ) -> Result<ExportPage, SubjectError> {
        self.asked.lock().unwrap().push(format!("export {id} {from:?}"));
        Ok(ExportPage { held: vec![json!({ "kind": "profile" })], next: Some(HeldAt::Dead(7)) })
    }

    async fn profiles(
        &self,
        _site: &str,
        id: &str,
    ) -> Result<Vec<serde_json::Value>, SubjectError> {
        self.asked.lock().unwrap().push(format!("profiles {id}"));
        Ok(vec![json!({ "kind": "profile", "user_id": id })])
    }

    fn wake(&self, reader: ReaderId) {
        self.asked.lock().unwrap().push(format!("wake {reader:?}"));
    }
}

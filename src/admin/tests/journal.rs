//! A fake journal that records its calls.

use bytes::Bytes;

use super::*;

/// A journal with one dead letter and one event, which records its calls.
pub(super) struct FakeJournal {
    pub(super) writable: watch::Sender<bool>,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl FakeJournal {
    fn note<T>(&self, what: String, value: T) -> Result<T, JournalError> {
        self.asked.lock().push(what);
        Ok(value)
    }
}

fn body() -> Bytes {
    Bytes::from_static(br#"{"type":"track","event":"Order Completed","messageId":"m1","userId":"alice@shop.example"}"#)
}

fn letter() -> DeadLetterRecord {
    DeadLetterRecord {
        id: 7,
        reader: ReaderId(3),
        at: Timestamp::UNIX_EPOCH,
        seq: 12,
        reason: "refused".into(),
        detail: "HTTP 400".into(),
        attempts: 2,
        last_call: Some(LastVendorCall {
            at: Timestamp::UNIX_EPOCH,
            request: "POST https://vendor.example/in".into(),
            status: Some(400),
            reply: "no such field".into(),
        }),
        body: body(),
    }
}

#[async_trait]
impl Journal for FakeJournal {
    async fn site(&self, _name: &str) -> Result<SiteId, JournalError> {
        Ok(SiteId(1))
    }
    async fn reader(&self, _site: SiteId, _name: &str) -> Result<ReaderId, JournalError> {
        Err(JournalError::Closed)
    }
    async fn append_counted(
        &self,
        _records: Vec<NewJournalRecord>,
        _count: AppendCallback,
    ) -> Result<Vec<AppendOutcome>, AppendError> {
        Err(AppendError::Closed)
    }
    fn guard(&self) -> Arc<PoisonGuard> {
        Arc::default()
    }
    fn head(&self, _site: SiteId) -> watch::Receiver<JournalHead> {
        watch::channel(JournalHead::default()).1
    }
    async fn read(
        &self,
        _site: SiteId,
        _after: u64,
        _upto: u64,
        _limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn position(&self, _reader: ReaderId) -> Result<ReaderPosition, JournalError> {
        Err(JournalError::Closed)
    }
    async fn settle(&self, _reader: ReaderId, _done: ReaderSettlement) -> Result<(), JournalError> {
        Err(JournalError::Closed)
    }
    async fn due(
        &self,
        _reader: ReaderId,
        _now: Timestamp,
        _limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn parked(
        &self,
        _reader: ReaderId,
        _after: u64,
        _limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn next_due(
        &self,
        _reader: ReaderId,
        _now: Timestamp,
    ) -> Result<Option<Timestamp>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn retire(&self, _keep: Vec<ReaderId>) -> Result<(), JournalError> {
        Err(JournalError::Closed)
    }
    async fn read_identifying(
        &self,
        _site: SiteId,
        _after: u64,
        _upto: u64,
        _limit: usize,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn replay(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<u64, JournalError> {
        self.note(format!("replay {reader:?} {from} {to}"), 5)
    }
    async fn replay_plan(
        &self,
        reader: ReaderId,
        _from: Timestamp,
        _to: Timestamp,
    ) -> Result<ReplayPlan, JournalError> {
        self.note(format!("plan {reader:?}"), ReplayPlan { count: 5, dead: 2, pending: 1 })
    }
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetterRecord>, JournalError> {
        Ok((id == 7).then(letter))
    }
    async fn retry_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError> {
        self.note(format!("retry {which:?}"), 1)
    }
    async fn drop_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError> {
        self.note(format!("drop {which:?}"), 2)
    }
    async fn accounts(&self, readers: Vec<ReaderId>) -> Result<Vec<ReaderAccount>, JournalError> {
        let ledger =
            ReaderLedger { accepted: 12, delivered: 6, skipped: 2, dead: 1, pending: 1, held: 2 };
        let account = |reader| ReaderAccount { reader, ledger, oldest_pending: None };
        Ok(readers.into_iter().map(account).collect())
    }
    async fn event(
        &self,
        _site: SiteId,
        seq: u64,
        readers: Vec<ReaderId>,
    ) -> Result<Option<EventHistory>, JournalError> {
        let outcome = StoredOutcome {
            outcome: "dead",
            reason: "refused".into(),
            detail: "HTTP 400".into(),
            attempts: 2,
            at: Timestamp::UNIX_EPOCH,
        };
        let at = |reader| EventAtReader {
            reader,
            state: ReaderEventState::Settled,
            outcome: Some(outcome.clone()),
            letter: Some(letter()),
        };
        let readers = readers.into_iter().map(at).collect();
        let received_at = Timestamp::UNIX_EPOCH;
        Ok((seq == 12).then(|| EventHistory { seq, received_at, body: body(), readers }))
    }
    async fn find_message(
        &self,
        _site: SiteId,
        message_id: &str,
    ) -> Result<Option<u64>, JournalError> {
        Ok((message_id == "m 1").then_some(12))
    }
    fn letter_chars(&self) -> usize {
        0
    }
    async fn pause(&self, _reader: ReaderId) -> Result<Option<ReaderPause>, JournalError> {
        Ok(None)
    }
    async fn set_pause(
        &self,
        _reader: ReaderId,
        _pause: Option<ReaderPause>,
    ) -> Result<(), JournalError> {
        Ok(())
    }
    async fn retain(&self, _now: Timestamp) -> Result<u64, JournalError> {
        Err(JournalError::Closed)
    }
    async fn usage(&self) -> Result<JournalUsage, JournalError> {
        Err(JournalError::Closed)
    }
    fn suppression_list(&self) -> Arc<SuppressionList> {
        Arc::default()
    }
    fn writable(&self) -> watch::Receiver<bool> {
        self.writable.subscribe()
    }
    async fn close(&self) {}
}

#[async_trait]
impl JournalSearch for FakeJournal {
    async fn events_before(
        &self,
        _site: SiteId,
        before: Option<u64>,
        _limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        let all = [(12, "Order Completed"), (11, "Clicked"), (10, "Order Completed")];
        let record = |(seq, name): (u64, &str)| {
            let body = json!({
                "type": "track", "event": name, "messageId": format!("m{seq}"), "anonymousId": "visitor-1",
                "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
                "facts": {"format": if seq == 11 { "segment" } else { "sdk" }},
                "context": {"page": {"url": "https://shop.example/u/alice@shop.example?x=1"}},
            });
            JournalRecord {
                seq,
                received_at: Timestamp::UNIX_EPOCH,
                identifies: false,
                body: body.to_string().into(),
            }
        };
        let earlier = all.into_iter().filter(|(seq, _)| before.is_none_or(|before| *seq < before));
        Ok(earlier.map(record).collect())
    }
    async fn list_dead_letters(
        &self,
        filter: DeadLetterFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, JournalError> {
        let letters = vec![letter()].into_iter();
        let is_selected = |it: &DeadLetterRecord| {
            filter.readers.as_ref().is_none_or(|readers| readers.contains(&it.reader))
        };
        let letters = letters.filter(is_selected).collect();
        self.note(format!("dead {filter:?} {before:?} {limit}"), letters)
    }
    async fn dead_letter_groups(
        &self,
        filter: DeadLetterFilter,
        limit: usize,
    ) -> Result<DeadLetterGroups, JournalError> {
        let at = Timestamp::UNIX_EPOCH;
        let group = DeadLetterGroup {
            reader: ReaderId(3),
            reason: "refused".into(),
            failure: "no such field".into(),
            status: Some(400),
            count: 3,
            first_at: at,
            last_at: at,
            last_id: 7,
        };
        let groups = DeadLetterGroups { groups: vec![group], total: 3, is_bounded: false };
        self.note(format!("groups {filter:?} {limit}"), groups)
    }
    async fn count_dead_letters(&self, which: DeadLetterSelection) -> Result<u64, JournalError> {
        self.note(format!("count {which:?}"), 3)
    }
}

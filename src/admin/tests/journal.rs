//! A journal that only remembers.

use bytes::Bytes;

use super::*;

/// A journal with one dead letter and one event, which remembers what it was asked to do.
pub(super) struct FakeJournal {
    pub(super) writable: watch::Sender<bool>,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl FakeJournal {
    fn note<T>(&self, what: String, value: T) -> Result<T, JournalError> {
        self.asked.lock().unwrap().push(what);
        Ok(value)
    }
}

fn body() -> Bytes {
    Bytes::from_static(br#"{"type":"track","event":"Order Completed","messageId":"m1"}"#)
}

fn letter() -> DeadRecord {
    DeadRecord {
        id: 7,
        reader: ReaderId(3),
        at: Timestamp::UNIX_EPOCH,
        seq: 12,
        reason: "refused".into(),
        detail: "HTTP 400".into(),
        attempts: 2,
        last_call: Some(LastCall {
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
    async fn append(&self, _records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        Err(AppendError::Closed)
    }
    fn guard(&self) -> Arc<Guard> {
        Arc::default()
    }
    fn head(&self, _site: SiteId) -> watch::Receiver<Head> {
        watch::channel(Head::default()).1
    }
    async fn read(
        &self,
        _site: SiteId,
        _after: u64,
        _upto: u64,
        _limit: ReadLimit,
    ) -> Result<Vec<Record>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn position(&self, _reader: ReaderId) -> Result<Position, JournalError> {
        Err(JournalError::Closed)
    }
    async fn settle(&self, _reader: ReaderId, _done: Settlement) -> Result<(), JournalError> {
        Err(JournalError::Closed)
    }
    async fn due(
        &self,
        _reader: ReaderId,
        _now: Timestamp,
        _limit: usize,
    ) -> Result<Vec<Due>, JournalError> {
        Err(JournalError::Closed)
    }
    async fn parked(
        &self,
        _reader: ReaderId,
        _after: u64,
        _limit: usize,
    ) -> Result<Vec<Due>, JournalError> {
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
    ) -> Result<Vec<Record>, JournalError> {
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
    async fn dead(
        &self,
        reader: Option<ReaderId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadRecord>, JournalError> {
        self.note(format!("dead {reader:?} {before:?} {limit}"), vec![letter()])
    }
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadRecord>, JournalError> {
        Ok((id == 7).then(letter))
    }
    async fn retry_dead(&self, which: DeadSelection) -> Result<u64, JournalError> {
        self.note(format!("retry {which:?}"), 1)
    }
    async fn drop_dead(&self, which: DeadSelection) -> Result<u64, JournalError> {
        self.note(format!("drop {which:?}"), 2)
    }
    async fn accounts(&self, readers: Vec<ReaderId>) -> Result<Vec<Account>, JournalError> {
        let ledger =
            Ledger { accepted: 12, delivered: 6, skipped: 2, dead: 1, pending: 1, held: 2 };
        let account = |reader| Account { reader, ledger, oldest_pending: None };
        Ok(readers.into_iter().map(account).collect())
    }
    async fn event(
        &self,
        _site: SiteId,
        seq: u64,
        readers: Vec<ReaderId>,
    ) -> Result<Option<EventRecord>, JournalError> {
        let outcome = KeptOutcome {
            outcome: "dead",
            reason: "refused".into(),
            detail: "HTTP 400".into(),
            attempts: 2,
            at: Timestamp::UNIX_EPOCH,
        };
        let at = |reader| EventAtReader {
            reader,
            standing: Standing::Settled,
            outcome: Some(outcome.clone()),
            letter: Some(letter()),
        };
        let readers = readers.into_iter().map(at).collect();
        let received_at = Timestamp::UNIX_EPOCH;
        Ok((seq == 12).then(|| EventRecord { seq, received_at, body: body(), readers }))
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
    async fn is_paused(&self, _reader: ReaderId) -> Result<bool, JournalError> {
        Ok(false)
    }
    async fn set_paused(&self, _reader: ReaderId, _is_paused: bool) -> Result<(), JournalError> {
        Ok(())
    }
    async fn retain(&self, _now: Timestamp) -> Result<u64, JournalError> {
        Err(JournalError::Closed)
    }
    async fn usage(&self) -> Result<Usage, JournalError> {
        Err(JournalError::Closed)
    }
    fn forgotten(&self) -> Arc<Forgotten> {
        Arc::default()
    }
    fn writable(&self) -> watch::Receiver<bool> {
        self.writable.subscribe()
    }
    async fn close(&self) {}
}

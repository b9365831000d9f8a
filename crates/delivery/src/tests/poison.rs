//! Tests of a process that dies over one event, repeatedly: its disk at that moment is copied, and another
//! process starts from the copy.

use std::path::Path;

use parking_lot::Condvar;

use super::*;
use tagway_core::event::JsonObject;
use tagway_storage::profile::{EmptyCounterSet, EventCounterSet};

/// The point where the process dies: a task that gets here with the deadly event blocks until the test has seen it.
#[derive(Default)]
struct CrashTrap {
    is_harmless: Mutex<bool>,
    released: Condvar,
    reached: Notify,
}

/// The name of the deadly event.
const DEADLY: &str = "deadly";

impl CrashTrap {
    /// Simulates the abort, in code without an await.
    fn spring(&self, event: &Event) {
        if event.label() == DEADLY && !*self.is_harmless.lock() {
            self.reached.notify_one();
            tokio::task::block_in_place(|| {
                let mut is_harmless = self.is_harmless.lock();
                self.released.wait_while(&mut is_harmless, |is_harmless| !*is_harmless);
            });
        }
    }

    fn release(&self) {
        *self.is_harmless.lock() = true;
        self.released.notify_all();
    }
}

/// A vendor's code that dies in rendering, or in screening, which is also the place of mapping.
struct FatalDestination {
    trap: Arc<CrashTrap>,
    screens: bool,
    inner: Arc<ScriptedDestination>,
}

#[async_trait]
impl Destination for FatalDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        self.inner.delivery_limits()
    }

    fn admit_event(&self, event: &EnrichedEvent, now: jiff::Timestamp) -> Result<(), Outcome> {
        if self.screens {
            self.trap.spring(&event.event);
        }
        self.inner.admit_event(event, now)
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        if !self.screens {
            batch.iter().for_each(|event| self.trap.spring(&event.event));
        }
        self.inner.deliver(batch, call).await
    }
}

/// A counter set of the projection that dies.
struct FatalCounterSet(Arc<CrashTrap>);

impl EventCounterSet for FatalCounterSet {
    fn keys(&self, event: &Event, _out: &mut Vec<String>) {
        self.0.spring(event);
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn reserves(&self, _name: &str) -> bool {
        false
    }
}

impl DeliveryTestBench {
    /// Appends one event with these properties.
    async fn append_calling(&self, properties: tagway_core::event::JsonObject) {
        let received_at = tagway_core::clock::Clock::now(&SystemClock);
        let event = serde_json::json!({
            "type": "track", "event": "x", "messageId": "m", "anonymousId": "a",
            "properties": properties, "timestamp": received_at, "receivedAt": received_at,
        });
        let record = NewJournalRecord {
            site: self.site.id,
            message: MessageKey::new("shop", "m"),
            rank: tagway_core::event::SenderRank::Server,
            received_at,
            identifies: false,
            body: serde_json::to_vec(&event).unwrap(),
        };
        self.journal.append(vec![record]).await.unwrap();
    }
}

/// Copies the files that a process that dies now leaves.
fn left_behind(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Builds the parts of a test's process that may be deadly.
type FatalFactory = Box<
    dyn Fn(Arc<CrashTrap>) -> (watch::Receiver<Arc<dyn EventCounterSet>>, Arc<dyn Destination>),
>;

/// Starts until one start outlives its events. Returns the number of those that did not, and the last
/// with its trap.
async fn starts_until_it_lives(
    fatality: FatalFactory,
) -> (usize, DeliveryTestBench, Arc<CrashTrap>) {
    let mut folder = tempfile::tempdir().unwrap();
    for aborted in 0..10 {
        let trap = Arc::new(CrashTrap::default());
        let (counters, destination) = fatality(trap.clone());
        let bench = DeliveryTestBench::at(folder, counters).await;
        let settings = DestinationSettings::for_tests("crm", destination);
        bench.apply(vec![Arc::new(settings)]).await;
        if aborted == 0 {
            let visitor = |n: u64| one_of(&["a", "b", "c"], n);
            let name = |n: u64| if n == 70 { DEADLY } else { "x" };
            bench.append((0..200).map(|n| (n, visitor(n), name(n)))).await;
        }
        tokio::select! {
            _ = bench.settled("crm") => return (aborted, bench, trap),
            () = trap.reached.notified() => {}
        }
        folder = left_behind(bench.folder.path());
        trap.release();
        bench.end().await;
    }
    panic!("it dies and dies");
}

fn poisoned(bench: &DeliveryTestBench, reader: &'static str) -> u64 {
    let labels = tagway_core::metrics::PoisonLabels { site: "shop".into(), reader };
    bench.metrics.poisoned.get_or_create(&labels).get()
}

async fn dies_for_its_reader_alone(screens: bool) {
    let taken = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    let inner = taken.clone();
    let fatality = move |trap| {
        let fatal = FatalDestination { trap, screens, inner: inner.clone() };
        let fatal: Arc<dyn Destination> = Arc::new(fatal);
        (EmptyCounterSet::watched(), fatal)
    };
    let (aborted, bench, trap) = starts_until_it_lives(Box::new(fatality)).await;
    assert_eq!(aborted, 4, "unseen, among others, and alone twice");
    let ledger = bench.ledger("crm").await;
    assert_eq!((ledger.delivered, ledger.dead, ledger.pending), (199, 1, 0));
    let reader = bench.reader("crm").reader;
    let letters =
        bench.journal.list_dead_letters(DeadLetterFilter::of(reader), None, 10).await.unwrap();
    assert_eq!((letters[0].seq, letters[0].reason.as_str()), (71, "poison"));
    assert!(!letters[0].body.is_empty(), "it can be looked at");
    assert_eq!(poisoned(&bench, "delivery"), 1);
    // The vendor's code is repaired, and the event arrives.
    trap.release();
    bench.journal.retry_dead(DeadLetterSelection::Reader(reader)).await.unwrap();
    bench.dispatcher.wake(reader);
    let ledger = bench.settled("crm").await;
    assert_eq!((ledger.delivered, ledger.dead), (200, 0));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn event_that_aborts_in_a_vendor_is_dead_for_that_destination_alone() {
    dies_for_its_reader_alone(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn event_that_aborts_in_mapping_is_dead_for_that_destination_alone() {
    dies_for_its_reader_alone(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn event_that_aborts_the_projection_is_left_out_and_delivered() {
    let taken = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    let inner = taken.clone();
    let fatality = move |trap| {
        let counters: Arc<dyn EventCounterSet> = Arc::new(FatalCounterSet(trap));
        let destination: Arc<dyn Destination> = inner.clone();
        (watch::channel(counters).1, destination)
    };
    let (aborted, bench, _) = starts_until_it_lives(Box::new(fatality)).await;
    assert_eq!(aborted, 4);
    let ledger = bench.ledger("crm").await;
    assert_eq!((ledger.delivered, ledger.dead), (200, 0));
    assert_eq!(poisoned(&bench, "profiles"), 1);
    bench.end().await;
}

/// Counters that panic.
struct PanickingCounterSet;

impl EventCounterSet for PanickingCounterSet {
    fn keys(&self, event: &Event, _out: &mut Vec<String>) {
        assert_ne!(event.label(), DEADLY);
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn reserves(&self, _name: &str) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_that_panics_the_projection_is_left_out_and_delivered() {
    let counters: Arc<dyn EventCounterSet> = Arc::new(PanickingCounterSet);
    let bench =
        DeliveryTestBench::at(tempfile::tempdir().unwrap(), watch::channel(counters).1).await;
    let taken = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    bench.run(&[("crm", taken.clone())]).await;
    bench.append([(1, "a", "x"), (2, "b", DEADLY), (3, "c", "x")]).await;
    let ledger = bench.settled("crm").await;
    assert_eq!((ledger.delivered, ledger.dead), (3, 0));
    assert_eq!(poisoned(&bench, "profiles"), 1);
    bench.end().await;
}

/// A vendor that calls the address in the event.
struct SlowDestination {
    inner: Arc<ScriptedDestination>,
}

#[async_trait]
impl Destination for SlowDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        self.inner.delivery_limits()
    }

    fn admit_event(&self, event: &EnrichedEvent, now: jiff::Timestamp) -> Result<(), Outcome> {
        self.inner.admit_event(event, now)
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let address = batch[0].event.properties.as_ref().and_then(|it| it.get("address")?.as_str());
        let request = http::Request::get(address.unwrap()).body(bytes::Bytes::new()).unwrap();
        call.call(request).await.ok();
        self.inner.deliver(batch, call).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn event_waiting_for_its_vendor_is_not_blamed_for_a_kill() {
    // It accepts connections, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", silent.local_addr().unwrap());
    let mut folder = tempfile::tempdir().unwrap();
    for start in 0..6 {
        let inner = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
        let slow: Arc<dyn Destination> = Arc::new(SlowDestination { inner });
        let bench = DeliveryTestBench::at(folder, EmptyCounterSet::watched()).await;
        bench.apply(vec![Arc::new(DestinationSettings::for_tests("crm", slow))]).await;
        if start == 0 {
            let mut properties = JsonObject::new();
            properties.insert("address".to_owned(), address.clone().into());
            bench.append_calling(properties).await;
        }
        let connection = silent.accept().await.unwrap();
        folder = left_behind(bench.folder.path());
        assert_eq!(bench.ledger("crm").await.pending, 1, "start {start}");
        drop(connection);
        bench.end().await;
    }
}

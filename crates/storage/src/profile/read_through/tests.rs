//! Tests of the read-through cache with a source that the test controls, on a paused clock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The time that a read takes.
const READ_TIME: Duration = Duration::from_millis(100);

/// The value of a key, with the number of its read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TestValue {
    Plain(u32),
    /// A value that refers to the key [`LINKED`].
    Link(u32),
    Absent,
}
use TestValue::{Absent, Link, Plain};

const LINKED: u32 = 50;
const PANICKING: u32 = 666;

/// A source with links for the keys below 10, nothing for those above 100, and plain values between.
struct CountingSource {
    reads: AtomicU32,
    reading: AtomicUsize,
    most_reading: AtomicUsize,
    is_failing: AtomicBool,
    counts: Mutex<HashMap<&'static str, usize>>,
}

#[async_trait]
impl ReadSource<u32, TestValue, &'static str> for CountingSource {
    async fn read(&self, keys: &[u32]) -> Result<HashMap<u32, TestValue>, &'static str> {
        let number = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        let reading = self.reading.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_reading.fetch_max(reading, Ordering::Relaxed);
        sleep(READ_TIME).await;
        self.reading.fetch_sub(1, Ordering::Relaxed);
        assert!(!keys.contains(&PANICKING), "the test's panic");
        if self.is_failing.load(Ordering::Relaxed) {
            return Err("down");
        }
        let value = |key: &u32| match key {
            ..10 => Link(number),
            10..=100 => Plain(number),
            _ => Absent,
        };
        let values = keys.iter().map(|key| (*key, value(key)));
        Ok(values.chain([(LINKED, Plain(number))]).collect())
    }

    fn weight(&self, key: &u32, _value: &TestValue) -> usize {
        *key as usize
    }

    fn max_batch_keys(&self) -> usize {
        3
    }

    fn is_negative(&self, value: &TestValue) -> bool {
        *value == Absent
    }

    fn linked_key(&self, value: &TestValue) -> Option<u32> {
        matches!(value, Link(_)).then_some(LINKED)
    }

    fn count(&self, result: &'static str, keys: usize) {
        *self.counts.lock().entry(result).or_default() += keys;
    }
}

/// A cache and its source.
struct CacheTestBed {
    source: Arc<CountingSource>,
    tasks: ReadTasks,
    cache: Arc<ReadThrough<u32, TestValue, &'static str>>,
}

impl CacheTestBed {
    fn new(set: impl FnOnce(&mut ReadThroughPolicy)) -> Self {
        let source = Arc::new(CountingSource {
            reads: AtomicU32::new(0),
            reading: AtomicUsize::new(0),
            most_reading: AtomicUsize::new(0),
            is_failing: AtomicBool::new(false),
            counts: Mutex::default(),
        });
        let mut policy = ReadThroughPolicy {
            capacity_bytes: 1 << 20,
            ttl: 100 * SECOND,
            negative_ttl: 10 * SECOND,
            idle: None,
            refresh_after: 80 * SECOND,
            stale: Some(StalePolicy { max_age: 1000 * SECOND, retry: 5 * SECOND }),
            max_concurrent_reads: 2,
        };
        set(&mut policy);
        let tasks = ReadTasks::new(Handle::current());
        let cache = ReadThrough::new(source.clone(), policy, tasks.clone());
        Self { source, tasks, cache }
    }

    fn without_stale_values() -> Self {
        Self::new(|policy| policy.stale = None)
    }

    async fn look_up_within(
        &self,
        keys: &[u32],
        time: Duration,
    ) -> ReadOutcome<u32, TestValue, &'static str> {
        self.cache.look_up(keys.iter().copied(), Instant::now() + time).await
    }

    /// Returns the key's value, without an error.
    async fn value(&self, key: u32) -> TestValue {
        let outcome = self.look_up_within(&[key], 60 * SECOND).await;
        assert!(outcome.error.is_none(), "{outcome:?}");
        outcome.values[&key]
    }

    fn reads(&self) -> u32 {
        self.source.reads.load(Ordering::Relaxed)
    }

    fn set_failing(&self, is_failing: bool) {
        self.source.is_failing.store(is_failing, Ordering::Relaxed);
    }

    fn counted(&self, result: &str) -> usize {
        self.source.counts.lock().get(result).copied().unwrap_or_default()
    }

    /// Publishes a change of a key in the middle of a read that begins now.
    async fn change_during_a_read(&self, key: u32) {
        sleep(READ_TIME / 2).await;
        self.cache.begin_change().invalidate(&key);
    }
}

#[tokio::test(start_paused = true)]
async fn values_are_fresh_for_their_ttl_and_negative_ones_for_less() {
    let bed = CacheTestBed::without_stale_values();
    assert_eq!((bed.value(20).await, bed.value(200).await), (Plain(1), Absent));
    sleep(9 * SECOND).await;
    assert_eq!((bed.value(20).await, bed.value(200).await, bed.reads()), (Plain(1), Absent, 2));
    sleep(2 * SECOND).await;
    assert_eq!((bed.value(200).await, bed.reads()), (Absent, 3));
    assert_eq!(bed.cache.peek(&20), Some(Plain(1)));
    sleep(90 * SECOND).await;
    assert_eq!(bed.cache.peek(&20), None);
    assert_eq!(bed.value(20).await, Plain(4));
    assert_eq!((bed.counted("hit"), bed.counted("miss")), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_of_the_same_keys_share_their_reads() {
    let bed = CacheTestBed::new(|policy| policy.max_concurrent_reads = 4);
    let keys: Vec<u32> = (20..32).collect();
    let (one, other) =
        tokio::join!(bed.look_up_within(&keys, SECOND), bed.look_up_within(&keys[3..], SECOND));
    assert_eq!((one.values.len(), other.values.len(), bed.reads()), (12, 9, 4));
}

#[tokio::test(start_paused = true)]
async fn concurrent_reads_are_bounded() {
    let bed = CacheTestBed::new(|_| ());
    let keys: Vec<u32> = (20..32).collect();
    let began = Instant::now();
    assert_eq!(bed.look_up_within(&keys, SECOND).await.values.len(), 12);
    assert_eq!((bed.reads(), began.elapsed()), (4, 2 * READ_TIME), "batches of three keys");
    assert_eq!(bed.source.most_reading.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn value_in_use_is_refreshed_in_the_background_as_far_as_reads_are_free() {
    let bed = CacheTestBed::new(|_| ());
    let keys: Vec<u32> = (20..32).collect();
    bed.look_up_within(&keys, SECOND).await;
    sleep(79 * SECOND).await;
    assert_eq!((bed.value(20).await, bed.counted("refresh")), (Plain(1), 0));
    sleep(2 * SECOND).await;
    let began = Instant::now();
    for _ in 0..2 {
        let outcome = bed.look_up_within(&keys, SECOND).await;
        assert_eq!((outcome.values.len(), began.elapsed()), (12, Duration::ZERO), "none waits");
    }
    sleep(SECOND).await;
    assert_eq!((bed.reads(), bed.counted("refresh")), (6, 6), "two batches of four");
    assert_ne!(bed.cache.peek(&20), Some(Plain(1)));
}

#[tokio::test(start_paused = true)]
async fn stale_values_are_used_while_the_source_fails() {
    let bed = CacheTestBed::new(|_| ());
    assert_eq!((bed.value(20).await, bed.value(200).await), (Plain(1), Absent));
    bed.set_failing(true);
    sleep(200 * SECOND).await;
    let outcome = bed.look_up_within(&[20, 200], SECOND).await;
    assert_eq!(outcome.values, HashMap::from([(20, Plain(1))]), "no negative ones");
    assert!(matches!(outcome.error, Some(ReadThroughError::Source("down"))));
    assert_eq!((bed.value(20).await, bed.reads()), (Plain(1), 3), "the source rests");
    sleep(6 * SECOND).await;
    assert_eq!((bed.value(20).await, bed.reads()), (Plain(1), 4));
    sleep(800 * SECOND).await;
    let outcome = bed.look_up_within(&[20], SECOND).await;
    assert!(outcome.values.is_empty() && outcome.error.is_some(), "it is too old");
    bed.set_failing(false);
    assert_eq!(bed.value(20).await, Plain(6));
}

#[tokio::test(start_paused = true)]
async fn lookup_without_stale_values_ends_with_the_first_error() {
    let bed = CacheTestBed::without_stale_values();
    bed.set_failing(true);
    let slow = async {
        sleep(READ_TIME / 2).await;
        bed.look_up_within(&[21], SECOND).await
    };
    let both = async {
        sleep(READ_TIME * 3 / 4).await;
        let began = Instant::now();
        let outcome = bed.cache.read(vec![20, 21], began + SECOND).await;
        assert!(matches!(outcome.error, Some(ReadThroughError::Source(_))));
        assert_eq!(began.elapsed(), READ_TIME / 4, "it does not wait for the other key");
    };
    tokio::join!(bed.look_up_within(&[20], SECOND), slow, both);
    assert_eq!(bed.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn lookup_gets_what_there_is_at_its_deadline() {
    let bed = CacheTestBed::new(|policy| policy.max_concurrent_reads = 1);
    assert_eq!(bed.value(20).await, Plain(1));
    sleep(200 * SECOND).await;
    let began = Instant::now();
    let outcome = bed.look_up_within(&[30, 31, 32, 20, 33], READ_TIME * 3 / 2).await;
    assert_eq!(began.elapsed(), READ_TIME * 3 / 2);
    assert!(matches!(outcome.error, Some(ReadThroughError::Timeout)));
    let mut values: Vec<_> = outcome.values.into_iter().collect();
    values.sort_by_key(|(key, _)| *key);
    let expected = [(20, Plain(1)), (30, Plain(2)), (31, Plain(2)), (32, Plain(2))];
    assert_eq!(values, expected, "the older value of one, and those that were read");
    sleep(READ_TIME).await;
    assert_eq!(bed.cache.peek(&20), Some(Plain(3)), "the read continued");
}

#[tokio::test(start_paused = true)]
async fn value_read_before_a_change_is_neither_cached_nor_shared_after_it() {
    let bed = CacheTestBed::new(|_| ());
    let later = async {
        bed.change_during_a_read(20).await;
        bed.value(20).await
    };
    let (before, after) = tokio::join!(bed.look_up_within(&[20, 21], SECOND), later);
    assert_eq!((before.values[&20], after), (Plain(1), Plain(2)));
    assert_eq!((bed.cache.peek(&20), bed.cache.peek(&21)), (Some(Plain(2)), Some(Plain(1))));
    let all = async {
        sleep(READ_TIME / 2).await;
        bed.cache.begin_change().invalidate_all();
    };
    assert_eq!(tokio::join!(bed.value(30), all).0, Plain(3));
    assert_eq!((bed.cache.peek(&30), bed.cache.peek(&20)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn stale_value_is_not_used_after_its_change() {
    let bed = CacheTestBed::new(|_| ());
    assert_eq!(bed.value(20).await, Plain(1));
    bed.set_failing(true);
    sleep(200 * SECOND).await;
    let (outcome, ()) =
        tokio::join!(bed.look_up_within(&[20], SECOND), bed.change_during_a_read(20));
    assert!(outcome.values.is_empty() && outcome.error.is_some());
}

#[tokio::test(start_paused = true)]
async fn update_changes_a_cached_value_only() {
    let bed = CacheTestBed::new(|_| ());
    let next = |value| Some(if let Plain(number) = value { Plain(number + 100) } else { value });
    bed.cache.begin_change().update(20, next);
    assert_eq!(bed.cache.peek(&20), None);
    assert_eq!(bed.value(20).await, Plain(1));
    bed.cache.begin_change().update(20, next);
    assert_eq!(bed.value(20).await, Plain(101));
    bed.cache.begin_change().update(20, |_| None);
    assert_eq!(bed.value(20).await, Plain(101));
    let update = async {
        sleep(READ_TIME / 2).await;
        bed.cache.begin_change().update(30, next);
    };
    assert_eq!(tokio::join!(bed.value(30), update).0, Plain(2));
    assert_eq!(bed.cache.peek(&30), None, "it was read before the change");
}

#[tokio::test(start_paused = true)]
async fn joined_read_is_repeated_if_a_linked_value_changed_before() {
    let bed = CacheTestBed::new(|_| ());
    let joins = async {
        bed.change_during_a_read(LINKED).await;
        bed.look_up_within(&[1], SECOND).await
    };
    let (own, joined) = tokio::join!(bed.look_up_within(&[1], SECOND), joins);
    assert_eq!(own.values, HashMap::from([(1, Link(1)), (LINKED, Plain(1))]), "it began before");
    assert_eq!(joined.values, HashMap::from([(1, Link(2)), (LINKED, Plain(2))]));
    assert_eq!((bed.cache.peek(&1), bed.cache.peek(&LINKED)), (Some(Link(2)), Some(Plain(2))));
}

#[tokio::test(start_paused = true)]
async fn read_continues_after_its_waiters_gave_up() {
    let bed = CacheTestBed::new(|_| ());
    let waits = tokio::time::timeout(READ_TIME / 2, bed.value(20));
    assert!(waits.await.is_err());
    assert_eq!((bed.value(20).await, bed.reads()), (Plain(1), 1), "another lookup joins it");
}

#[tokio::test(start_paused = true)]
async fn cancelled_and_panicking_reads_end_their_waiters() {
    let bed = CacheTestBed::new(|_| ());
    for _ in 0..2 {
        let outcome = bed.look_up_within(&[PANICKING], SECOND).await;
        assert!(matches!(outcome.error, Some(ReadThroughError::Ended)));
    }
    assert_eq!(bed.reads(), 2, "the first is not in the way of the second");
    let stop = async {
        sleep(READ_TIME / 2).await;
        bed.tasks.stop().await;
    };
    let (outcome, ()) = tokio::join!(bed.look_up_within(&[20], SECOND), stop);
    assert!(matches!(outcome.error, Some(ReadThroughError::Ended)));
    let outcome = bed.look_up_within(&[20], SECOND).await;
    assert!(matches!(outcome.error, Some(ReadThroughError::Ended)));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let capacity = 50 * (ENTRY_BYTES as u64 + 100);
    let bed = CacheTestBed::new(|policy| policy.capacity_bytes = capacity);
    let keys: Vec<u32> = (1000..1200).collect();
    bed.look_up_within(&keys, 60 * SECOND).await;
    bed.cache.entries.run_pending_tasks();
    let (bytes, entries) = (bed.cache.entries.weighted_size(), bed.cache.entries.entry_count());
    assert!(bytes <= capacity && (1..50).contains(&entries), "{bytes} of {capacity}: {entries}");
}

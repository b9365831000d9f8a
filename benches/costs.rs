//! The costs of one event: `cargo bench --bench costs`.
//!
//! Figures depend on the machine; compare runs on one machine only. The event is an order with three
//! products. The benchmarks:
//! - `decode`: from a body's bytes to a judged message; `beacon`: from a vendor's request to canonical messages;
//! - `project`: from a journal record to its statements about the person; `stitch`: from there to the profile;
//! - `count`: from the records of a thousand events to the counters of a million unknown visitors;
//! - `profile`: the cached profiles of the visitors of 256 events;
//! - `map`: from the event to a vendor's finished request;
//! - `feed`: a settled event for the live feed: while nobody watches, while somebody does, while another visitor is traced;
//! - `append`: a group of 64 concurrent appends, as by 64 connections, without and with the wait for the disk.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to say")]

mod destinations;
#[path = "../tests/it/recorded.rs"]
mod recorded;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use recorded::Recorded;
use tagway::config;
use tagway::gateway::decode::{self, DecodeContext};
use tagway_core::clock::{Clock, SystemClock};
use tagway_core::event::{EnrichedEvent, Event, ProfileView, VisitorIdentity};
use tagway_core::feed::{EventSubject, FeedEvent, LiveFeed};
use tagway_core::metrics::Metrics;
use tagway_settings::ConfigEnvironment;
use tagway_storage::journal::{
    AppendDurability, Journal, JournalSettings, MIGRATIONS, MessageKey, NewJournalRecord, SiteId,
    SqliteJournal,
};
use tagway_storage::profile::{self, ProfileStore as _, update_of};
use tagway_storage::store::{CommitSyncMode, SqliteStore};
use tagway_vendors::beacon::{BeaconLimits, BeaconRequest};
use tagway_vendors::{Outcome, VendorCall, VendorCallError, VendorReply, find};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An order with three products and its buyer's data, as stored in the journal.
const ORDER: &str = include_str!("order.json");

/// People whose identities are looked up: more than fit the database's own page cache.
const PEOPLE: usize = 20_000;

/// Visitors whose events are counted, each equally likely: the hardest case, since most real
/// visitors were active a moment ago.
const VISITORS: u64 = 1_000_000;

/// The number of visitors for a run without measurement: `cargo test`.
const FEW_VISITORS: u64 = 10_000;

/// Concurrent appends in one group.
const GROUP: u64 = 64;

async fn journal(folder: &std::path::Path, sync: CommitSyncMode) -> Arc<SqliteJournal> {
    let settings = JournalSettings {
        durability: AppendDurability::Disk,
        retain: Duration::from_secs(3600),
        max_bytes: u64::MAX,
        spare_bytes: 1 << 30,
        retain_dead: Duration::from_secs(3600),
        dedupe_window: Duration::from_secs(3600),
        dedupe_entries: 1_000_000,
        poison_starts: 3,
        letter_chars: 4000,
        detail_chars: 200,
        queue_bytes: 1 << 26,
    };
    let metrics = Arc::new(Metrics::new());
    let store = Arc::new(SqliteStore::open(folder, sync, &[MIGRATIONS], metrics.clone()).unwrap());
    Arc::new(SqliteJournal::open(store, settings, Arc::new(SystemClock), metrics).await.unwrap())
}

fn record(site: SiteId, id: u64) -> NewJournalRecord {
    NewJournalRecord {
        site,
        message: MessageKey::new("shop", &id.to_string()),
        rank: tagway_core::event::SenderRank::Server,
        received_at: SystemClock.now(),
        identifies: false,
        body: ORDER.as_bytes().to_vec(),
    }
}

fn append(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(GROUP));
    for (name, sync) in [("os", CommitSyncMode::Os), ("disk", CommitSyncMode::Disk)] {
        // In the build folder, which is on a disk; a temporary folder may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let journal = runtime.block_on(journal(folder.path(), sync));
        let site = runtime.block_on(journal.site("shop")).unwrap();
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let appends = (next..next + GROUP).map(|id| {
                    let (journal, record) = (journal.clone(), record(site, id));
                    runtime.spawn(async move { journal.append(vec![record]).await.unwrap() })
                });
                let appends: Vec<_> = appends.collect();
                next += GROUP;
                runtime.block_on(async {
                    for append in appends {
                        append.await.unwrap();
                    }
                });
            });
        });
        runtime.block_on(journal.close());
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let settings = config::load(&[], &ConfigEnvironment::default()).unwrap();
    let terms = DecodeContext {
        limits: &settings.limits,
        kind: None,
        placeholder_ids: &[],
        anonymizes_ip: false,
        received_at: SystemClock.now(),
    };
    criterion.bench_function("decode", |bencher| {
        bencher.iter(|| decode::read(black_box(ORDER.as_bytes()), &terms).unwrap());
    });
}

/// One typical beacon of each vendor: its library's message for a visit or an order.
const BEACONS: &[(&str, &str)] = &[
    ("ga4", "purchase"),
    ("ga4", "batch"),
    ("meta", "purchase"),
    ("mixpanel", "base64_event"),
    ("mixpanel", "batch_of_a_visit"),
    ("amplitude", "visit"),
    ("segment", "track"),
    ("rudderstack", "track"),
    ("jitsu", "track"),
    ("posthog", "pageview"),
    ("snowplow", "page_view"),
    ("matomo", "page_view"),
    ("plausible", "goal_with_revenue"),
    ("umami", "event_with_token"),
];

fn beacons(criterion: &mut Criterion) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vendors");
    let mut group = criterion.benchmark_group("beacon");
    for (vendor, case) in BEACONS {
        let Recorded { method, path, query, headers, body } =
            Recorded::read(&root.join(vendor).join("beacon").join(case));
        let inbound = BeaconRequest {
            method: &method,
            path: &path,
            query: &query,
            headers: &headers,
            body: &body,
            received_at: "2026-11-23T12:00:00Z".parse().unwrap(),
            secure: true,
            authority: "t.shop.example",
            mount: "/x",
            daily_id: "daily1",
            bounds: BeaconLimits {
                unpacked_bytes: 1 << 20,
                messages_bytes: 8 << 20,
                events: 2500,
                least_event_bytes: 32,
                event_bytes: 32 << 10,
                made_bytes: 1 << 20,
                json_depth: 64,
            },
        };
        let beacon = find(vendor).unwrap().beacon.unwrap();
        group.throughput(Throughput::Bytes((query.len() + body.len()) as u64));
        group.bench_function(format!("{vendor}/{case}"), |bencher| {
            bencher.iter(|| beacon.decode(black_box(&inbound)).unwrap());
        });
    }
    group.finish();
}

fn project(criterion: &mut Criterion) {
    criterion.bench_function("project", |bencher| {
        bencher.iter(|| {
            let event: Event = serde_json::from_str(black_box(ORDER)).unwrap();
            update_of(&event)
        });
    });
}

/// Messages of people who are known already: nearly every event of a known person.
fn stitch(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let schemas = [profile::MIGRATIONS];
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, Arc::new(Metrics::new()))
            .unwrap();
    let limits = profile::ProfileLimits::new(1 << 15, 1000, 1000);
    let profiles = profile::SqliteProfileStore::new(Arc::new(store), limits);
    let updates: Vec<profile::ProfileUpdate> = (0..PEOPLE)
        .map(|person| {
            let mut event: Event = serde_json::from_str(ORDER).unwrap();
            let id = format!("person-{person}");
            event.facts.cookies.insert("_ga".into(), format!("GA1.1.{person}.1"));
            event.facts.cookies.insert("_fbp".into(), format!("fb.1.{person}.1"));
            event.user_id = Some(id.clone());
            event.anonymous_id = Some(id.clone());
            event.facts.visitor =
                Some(VisitorIdentity { id: id.clone(), since: Timestamp::UNIX_EPOCH });
            let mut update = update_of(&event);
            update.email = profile::Identity::of_email(&format!("{id}@x.example"));
            update
        })
        .collect();
    runtime.block_on(profiles.apply(SiteId(1), 1, updates.clone())).unwrap();
    let mut group = criterion.benchmark_group("stitch");
    group.throughput(Throughput::Elements(200));
    let mut next = 0;
    group.bench_function("known", |bencher| {
        bencher.iter(|| {
            let batch = updates.iter().cycle().skip(next).take(200).cloned().collect();
            next = (next + 200) % updates.len();
            runtime.block_on(profiles.apply(SiteId(1), 2, batch)).unwrap()
        });
    });
    group.finish();
}

/// An order of an unknown visitor, as stored in the journal.
fn visit(visitor: u64) -> String {
    let mut event: Event = serde_json::from_str(ORDER).unwrap();
    let id = format!("visitor-{visitor}");
    event.user_id = None;
    event.facts.cookies.clear();
    event.anonymous_id = Some(id.clone());
    event.facts.visitor = Some(VisitorIdentity { id, since: Timestamp::UNIX_EPOCH });
    event.context = None;
    serde_json::to_string(&event).unwrap()
}

/// The projection's work on the records of a batch, all on one core except the reading of the journal.
fn count(criterion: &mut Criterion) {
    const BATCH: u64 = 1000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let schemas = [profile::MIGRATIONS];
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, Arc::new(Metrics::new()))
            .unwrap();
    let limits = profile::ProfileLimits::new(1 << 15, 1000, 1000);
    let profiles = profile::SqliteProfileStore::new(Arc::new(store), limits);
    let agents = profile::UserAgentParser::default();
    let updates = |records: &[String]| -> Vec<profile::ProfileUpdate> {
        let update = |record: &String| {
            let event: Event = serde_json::from_str(record).unwrap();
            let sighting = profile::Activity::of(&event, &profile::EmptyCounterSet, &agents);
            profile::ProfileUpdate { activity: sighting, ..update_of(&event) }
        };
        records.iter().map(update).collect()
    };
    let apply = |upto, records: &[String]| {
        runtime.block_on(profiles.apply(SiteId(1), upto, updates(records))).unwrap()
    };
    // Cargo passes this argument to benchmarks, and not to tests.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let all = if is_measured { VISITORS } else { FEW_VISITORS };
    for from in (0..all).step_by(10_000) {
        let records: Vec<String> = (from..from + 10_000).map(visit).collect();
        apply(from, &records);
    }
    let mut group = criterion.benchmark_group("count");
    group.throughput(Throughput::Elements(BATCH));
    let mut upto = all;
    group.bench_function("million", |bencher| {
        let batch = || -> Vec<String> {
            // By a fixed rule, spread out and without repetition.
            let from = upto;
            let visitors = (0..BATCH).map(|n| ((from + n) * 7_368_787) % all);
            upto += BATCH;
            visitors.map(visit).collect()
        };
        let size = criterion::BatchSize::LargeInput;
        bencher.iter_batched(batch, |records| apply(1, &records), size);
    });
    group.finish();
}

/// The lookup of the visitors of events that are to be delivered, from memory.
fn hit(criterion: &mut Criterion) {
    const BATCH: usize = 256;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (metrics, schemas) = (Arc::new(Metrics::new()), [profile::MIGRATIONS]);
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone()).unwrap();
    let settings = config::load(&[], &ConfigEnvironment::default()).unwrap().profiles;
    let store = Arc::new(profile::SqliteProfileStore::new(Arc::new(store), settings.limits));
    let profiles =
        profile::ProfileService::new(store, &settings, metrics, runtime.handle().clone());
    let events: Vec<Arc<Event>> = (0..BATCH)
        .map(|person| {
            let mut event: Event = serde_json::from_str(ORDER).unwrap();
            event.user_id = Some(format!("person-{person}"));
            event.anonymous_id = Some(format!("device-{person}"));
            Arc::new(event)
        })
        .collect();
    let updates = events.iter().map(|event| update_of(event)).collect();
    runtime.block_on(profiles.apply(SiteId(1), 1, updates)).unwrap();
    let mut group = criterion.benchmark_group("profile");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("hit", |bencher| {
        let look_up = || runtime.block_on(profiles.lookup(SiteId(1), &events, false)).unwrap();
        bencher.iter(look_up);
    });
    group.finish();
}

/// A vendor that accepts everything at once, and always replies the same.
struct Yes(&'static str);

#[async_trait]
impl VendorCall for Yes {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        black_box(request);
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        Ok(VendorReply { status, headers, body: Bytes::from_static(self.0.as_bytes()) })
    }

    fn now(&self) -> Timestamp {
        "2026-11-23T10:00:01Z".parse().unwrap()
    }
}

fn map(criterion: &mut Criterion) {
    let event: Arc<Event> = Arc::new(serde_json::from_str(ORDER).unwrap());
    let mut group = criterion.benchmark_group("map");
    for (vendor, settings, reply) in [
        ("ga4", "measurement_id = 'G-BENCH1'\napi_secret = 'secret'", ""),
        ("mixpanel", "project_token = '0f1e2d3c4b5a69788796a5b4c3d2e1f0'", ""),
        ("meta", "pixel_id = '123'\naccess_token = 'secret'\ndefault_country_code = '41'", ""),
        ("amplitude", "api_key = '0123456789abcdef0123456789abcdef'", ""),
        (
            "webhook",
            "url = 'https://hooks.example/in'\nsecret = 'whsec_dGFnd2F5IGJlbmNobWFyayBzaWduaW5nIGtleQ=='",
            "",
        ),
        ("intercom", "access_token = 'token'", ""),
        (
            "drift",
            "access_token = 'token'\nevent_attributes = ['order_id', 'total']",
            "{\"data\":[{\"id\":9007199254740993,\"attributes\":{\"externalId\":\"user-42\"}}]}",
        ),
    ] {
        let (destination, yes) = (destinations::build(vendor, settings, None), Yes(reply));
        group.bench_function(vendor, |bencher| {
            bencher.iter(|| {
                // New each time: an event caches its rendered form.
                let batch =
                    [EnrichedEvent::new(1, event.clone(), Arc::new(ProfileView::default()))];
                assert_eq!(destination.admit_event(&batch[0], yes.now()), Ok(()));
                let outcomes = destination.deliver(black_box(&batch), &yes).now_or_never();
                assert_eq!(outcomes.unwrap(), [Outcome::Delivered]);
            });
        });
    }
    group.finish();
}

/// The part of the live feed in an event's costs. Without watchers nothing is rendered.
fn feed(criterion: &mut Criterion) {
    let event: Event = serde_json::from_str(ORDER).unwrap();
    let site: Arc<str> = "shop".into();
    let publish = |feed: &LiveFeed| {
        feed.publish(&site, &[1], || FeedEvent::Settled {
            at: Timestamp::UNIX_EPOCH,
            site: site.clone(),
            destination: site.clone(),
            seq: 1,
            subject: EventSubject::of(&event),
            outcome: "delivered",
            reason: "",
            detail: None,
            attempt: 1,
            milliseconds: Some(35),
            dropped: Vec::new(),
        });
    };
    let mut group = criterion.benchmark_group("feed");
    let alone = LiveFeed::default();
    group.bench_function("unwatched", |bencher| bencher.iter(|| publish(black_box(&alone))));
    let watched = LiveFeed::default();
    let _watcher = watched.watch();
    group.bench_function("watched", |bencher| bencher.iter(|| publish(black_box(&watched))));
    let traced = LiveFeed::default();
    traced.traces().start("t1", "shop", None, Timestamp::UNIX_EPOCH).unwrap();
    group.bench_function("other_traced", |bencher| bencher.iter(|| publish(black_box(&traced))));
    group.finish();
}

/// The cost of the facts that an event implies besides its visitor: without a user agent, with one that was
/// parsed before, with a new one.
fn agents(criterion: &mut Criterion) {
    let agents = profile::UserAgentParser::default();
    agents.prepare();
    let mut event: Event = serde_json::from_str(ORDER).unwrap();
    event.context = None;
    let mut with = |agent: Option<String>| {
        event.facts.user_agent = agent;
        event.clone()
    };
    let chrome = |n: u64| {
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        let system = "Windows NT 10.0; Win64; x64";
        Some(format!("Mozilla/5.0 ({system}) {webkit} Chrome/{n}.0.0.0 Safari/537.36"))
    };
    let see = |event: &Event| profile::Activity::of(event, &profile::EmptyCounterSet, &agents);
    let mut group = criterion.benchmark_group("agent");
    let none = with(None);
    group.bench_function("none", |bencher| bencher.iter(|| see(&none)));
    let known = with(chrome(1));
    group.bench_function("known", |bencher| bencher.iter(|| see(&known)));
    let mut n = 1;
    group.bench_function("new", |bencher| {
        let new = || {
            n += 1;
            with(chrome(n))
        };
        bencher.iter_batched(new, |event| see(&event), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, decode, beacons, project, stitch, count, hit, agents, map, feed, append);
criterion_main!(benches);

//! What one event costs: `cargo bench --bench costs`.
//!
//! Figures depend on the machine; compare runs on one machine only. `append` measures a group of
//! 64 concurrent appends, as 64 connections make them, without and with the wait for the disk.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to say")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tagway::clock::{Clock, SystemClock};
use tagway::event::Event;
use tagway::journal::{
    Durability, Journal, MIGRATIONS, MessageKey, NewRecord, Settings, SiteId, SqliteJournal,
};
use tagway::metrics::Metrics;
use tagway::profile::update_of;
use tagway::store::{Store, Sync};

/// An order with three products, as the journal holds it.
const ORDER: &str = include_str!("order.json");

/// Concurrent appends in one group.
const GROUP: u64 = 64;

async fn journal(folder: &std::path::Path, sync: Sync) -> Arc<SqliteJournal> {
    let settings = Settings {
        durability: Durability::Disk,
        retain: Duration::from_secs(3600),
        max_bytes: u64::MAX,
        retain_dead: Duration::from_secs(3600),
        dedupe_window: Duration::from_secs(3600),
        dedupe_entries: 1_000_000,
        queue_bytes: 1 << 26,
    };
    let metrics = Arc::new(Metrics::new());
    let store = Arc::new(Store::open(folder, sync, &[MIGRATIONS], metrics.clone()).unwrap());
    Arc::new(SqliteJournal::open(store, settings, Arc::new(SystemClock), metrics).await.unwrap())
}

fn record(site: SiteId, id: u64) -> NewRecord {
    NewRecord {
        site,
        message: MessageKey::new("shop", &id.to_string()),
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
    for (name, sync) in [("os", Sync::Os), ("disk", Sync::Disk)] {
        // Beside the build, which is on a disk; a temporary folder may be in memory.
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

fn project(criterion: &mut Criterion) {
    criterion.bench_function("read back and project", |bencher| {
        bencher.iter(|| {
            let event: Event = serde_json::from_str(black_box(ORDER)).unwrap();
            update_of(&event)
        });
    });
}

criterion_group!(benches, append, project);
criterion_main!(benches);

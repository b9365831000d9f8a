//! What a gateway keeps, opened: the journal, the profiles and the segments.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::clock::SharedClock;
use crate::config::Settings;
use crate::delivery::{Dispatcher, Shared};
use crate::journal::{self, Durability, SqliteJournal};
use crate::metrics::Metrics;
use crate::postgres::{self, Postgres};
use crate::profile::{
    self, Changed, PostgresProfiles, ProfileStore, Profiles, SqliteProfiles, Watched,
};
use crate::segment::sync::{SyncFooting, SyncStore, Syncs};
use crate::segment::{self, PostgresSegments, SegmentStore, Segments, SqliteSegments};
use crate::store::{Store, Sync};

/// Where everything is kept.
pub(super) struct Opened {
    pub(super) journal: Arc<SqliteJournal>,
    pub(super) profiles: Arc<Profiles>,
    pub(super) store: Arc<Store>,
    /// Who changed, for segments in real time.
    changed: Arc<Changed>,
    /// The database that gateways share, where profiles and segments are in it.
    pub(super) database: Option<Arc<Postgres>>,
}

/// Opens what is on disk, or in the database that gateways share.
pub(super) async fn open(
    settings: &Settings,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
    runtime: &Handle,
) -> anyhow::Result<Opened> {
    let sync = match settings.journal.durability {
        Durability::Disk => Sync::Disk,
        Durability::Os => Sync::Os,
    };
    let (folder, counted) = (settings.data_dir.clone(), metrics.clone());
    let store = tokio::task::spawn_blocking(move || {
        let own = [journal::MIGRATIONS, profile::MIGRATIONS, segment::MIGRATIONS];
        let schemas: Vec<_> = own.into_iter().chain([profile::NODE_MIGRATIONS]).collect();
        Store::open(&folder, sync, &schemas, counted)
    });
    let store = Arc::new(store.await??);
    let journal = SqliteJournal::open(
        store.clone(),
        settings.journal.clone(),
        clock.clone(),
        metrics.clone(),
    );
    let journal = Arc::new(journal.await.context("the journal")?);
    let limits = settings.profiles.limits;
    let (backend, database): (Arc<dyn ProfileStore>, _) = match settings.profiles.store {
        profile::Backend::Sqlite => (Arc::new(SqliteProfiles::new(store.clone(), limits)), None),
        profile::Backend::Postgres => {
            const SCHEMAS: &[postgres::Schema] = &[profile::SCHEMA, segment::SCHEMA];
            let database = Postgres::new(settings.postgres.clone(), SCHEMAS)?;
            let (database, node) = (Arc::new(database), profile::node(&store).await?);
            (Arc::new(PostgresProfiles::new(database.clone(), node, limits)), Some(database))
        }
    };
    let changed = Arc::new(Changed::new(settings.segments.realtime_people));
    let backend = Arc::new(Watched::new(backend, changed.clone()));
    let (settings, metrics) = (&settings.profiles, metrics.clone());
    let profiles = Arc::new(Profiles::new(backend, settings, metrics, runtime.clone()));
    Ok(Opened { journal, profiles, store, changed, database })
}

/// Segments are where the profiles are.
pub(super) fn open_segments(
    opened: &Opened,
    settings: &segment::Settings,
    dispatcher: Arc<Dispatcher>,
    shared: Shared,
) -> Arc<Segments> {
    let time = settings.evaluate_time;
    let (memberships, told): (Arc<dyn SegmentStore>, Arc<dyn SyncStore>) = match &opened.database {
        None => {
            let backend = Arc::new(SqliteSegments::new(opened.store.clone(), time));
            (backend.clone(), backend)
        }
        Some(database) => {
            let backend = Arc::new(PostgresSegments::new(database.clone(), time));
            (backend.clone(), backend)
        }
    };
    let Shared { journal, profiles, clock, metrics, runtime, .. } = shared;
    let guard = journal.guard();
    let syncs = Syncs::new(SyncFooting {
        store: told,
        segments: memberships.clone(),
        journal,
        dispatcher,
        clock: clock.clone(),
        metrics: metrics.clone(),
        recheck: settings.recheck,
        runtime,
        realtime_people: settings.realtime_people,
    });
    let segments = Segments::new(memberships, settings.clone(), clock, metrics);
    let segments = segments.with_syncs(syncs).with_profiles(profiles).with_guard(guard);
    Arc::new(segments.with_changed(opened.changed.clone()))
}

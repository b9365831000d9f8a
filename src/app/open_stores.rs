//! Opens the stores of a gateway: the journal, the profiles and the segments.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::config::TagwaySettings;
use tagway_console::account::ConsoleAccounts;
use tagway_console::audit::AuditLog;
use tagway_core::clock::SharedClock;
use tagway_core::metrics::Metrics;
use tagway_delivery::segment::sync::{SyncDependencies, SyncManager, SyncStore};
use tagway_delivery::segment::{
    self, PostgresSegmentStore, SegmentScheduler, SegmentStore, SqliteSegmentStore,
};
use tagway_delivery::{DeliveryContext, DeliveryDispatcher};
use tagway_storage::journal::{self, AppendDurability, SqliteJournal};
use tagway_storage::postgres::{self, PostgresDatabase};
use tagway_storage::profile::{
    self, ChangedProfiles, PostgresProfileStore, ProfileService, ProfileStore, SqliteProfileStore,
};
use tagway_storage::store::{CommitSyncMode, SqliteStore};

/// The opened journal, profiles and databases of one gateway.
pub(super) struct OpenedStores {
    pub(super) journal: Arc<SqliteJournal>,
    pub(super) profiles: Arc<ProfileService>,
    pub(super) store: Arc<SqliteStore>,
    pub(super) console: ConsoleStores,
    /// Changed profiles, for segments in real time.
    changed: Arc<ChangedProfiles>,
    /// The shared database of several gateways, if profiles and segments are in it.
    pub(super) database: Option<Arc<PostgresDatabase>>,
}

/// The data of the console.
pub(super) struct ConsoleStores {
    pub(super) accounts: Arc<ConsoleAccounts>,
    pub(super) audit: Arc<AuditLog>,
}

/// Opens the files on disk, or the shared database.
pub(super) async fn open(
    settings: &TagwaySettings,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
    runtime: &Handle,
) -> anyhow::Result<OpenedStores> {
    let sync = match settings.journal.durability {
        AppendDurability::Disk => CommitSyncMode::Disk,
        AppendDurability::Os => CommitSyncMode::Os,
    };
    let (folder, counted) = (settings.data_dir.clone(), metrics.clone());
    let store = tokio::task::spawn_blocking(move || {
        let own = [journal::MIGRATIONS, profile::MIGRATIONS, segment::MIGRATIONS];
        let own = own.into_iter().chain([profile::NODE_MIGRATIONS]);
        let schemas: Vec<_> = own.chain(tagway_console::MIGRATIONS.iter().copied()).collect();
        SqliteStore::open(&folder, sync, &schemas, counted)
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
        profile::ProfileBackend::Sqlite => {
            (Arc::new(SqliteProfileStore::new(store.clone(), limits)), None)
        }
        profile::ProfileBackend::Postgres => {
            const SCHEMAS: &[postgres::PostgresMigrations] = &[profile::SCHEMA, segment::SCHEMA];
            let database = PostgresDatabase::new(settings.postgres.clone(), SCHEMAS)?;
            let (database, node) = (Arc::new(database), profile::node(&store).await?);
            (Arc::new(PostgresProfileStore::new(database.clone(), node, limits)), Some(database))
        }
    };
    let sessions = settings.admin.sessions;
    let accounts = Arc::new(ConsoleAccounts::new(store.clone(), clock.clone(), sessions));
    let audit = Arc::new(AuditLog::new(store.clone(), clock.clone()));
    let console = ConsoleStores { accounts, audit };
    let changed = Arc::new(ChangedProfiles::new(settings.segments.realtime_people));
    let (settings, metrics) = (&settings.profiles, metrics.clone());
    let profiles = ProfileService::new(backend, settings, metrics, runtime.clone());
    let profiles = Arc::new(profiles.with_changed(changed.clone()));
    Ok(OpenedStores { journal, profiles, store, console, changed, database })
}

/// Opens the segments in the same database as the profiles.
pub(super) fn open_segments(
    opened: &OpenedStores,
    settings: &segment::SegmentationSettings,
    dispatcher: Arc<DeliveryDispatcher>,
    shared: DeliveryContext,
) -> Arc<SegmentScheduler> {
    let time = settings.evaluation_timeout;
    let (memberships, sync_store): (Arc<dyn SegmentStore>, Arc<dyn SyncStore>) =
        match &opened.database {
            None => {
                let backend = Arc::new(SqliteSegmentStore::new(opened.store.clone(), time));
                (backend.clone(), backend)
            }
            Some(database) => {
                let backend = Arc::new(PostgresSegmentStore::new(database.clone(), time));
                (backend.clone(), backend)
            }
        };
    let DeliveryContext { journal, profiles, clock, metrics, runtime, .. } = shared;
    let guard = journal.guard();
    let syncs = SyncManager::new(SyncDependencies {
        store: sync_store,
        segments: memberships.clone(),
        journal,
        dispatcher,
        clock: clock.clone(),
        metrics: metrics.clone(),
        recheck: settings.recheck,
        runtime,
        realtime_people: settings.realtime_people,
    });
    let segments = SegmentScheduler::new(memberships, settings.clone(), clock, metrics);
    let segments = segments.with_syncs(syncs).with_profiles(profiles).with_guard(guard);
    Arc::new(segments.with_changed(opened.changed.clone()))
}

//! Profiles in the PostgreSQL database that gateways share.
//!
//! # How gateways share it
//!
//! - A change of a site's profiles locks the site's row (`sites`), from the first read to the commit:
//!   gateways take turns, batch by batch.
//! - The position of the projection is stored for each gateway, since each has a journal of its own.
//!   The gateway's id is in its data folder, next to that journal.
//! - The site's row has a version, which every change raises. Remembered statements
//!   ([`UnchangedStatementCache`]) are valid while no other gateway has raised it.
//!
//! # Costs of a batch
//!
//! Some ten round trips, however many events it has: the rows of its identities are read at once (`load.rs`), the
//! rules work on them in memory (`buffered_rows.rs`), and the changes are written table by table (`save.rs`).
//! Statements that were remembered are not looked up; if one is needed after all, because the batch itself changed
//! its person, everything is read and the batch starts again.

mod buffered_rows;
mod load;
mod people;
mod save;
mod schema;
mod search;
mod text;

pub use schema::SCHEMA;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use parking_lot::{Mutex, MutexGuard};
use tokio_postgres::IsolationLevel;

use self::buffered_rows::{PostgresProfileRows, RowNotLoadedError};
use super::batch::{UpdateBatch, UpdateBatchOutcome};
use super::statement_cache::{StatementCacheDelta, UnchangedStatementCache};
use super::{
    ComputedSnapshot, ExpiryOutcome, ExpiryRequest, Identity, PageProfile, ProfileChanges,
    ProfileError, ProfileId, ProfileLimits, ProfilePage, ProfileSearch, ProfileStore,
    ProfileUpdate, SubjectProfile, stitch,
};
use crate::journal::{PersonNameDigest, SiteId};
use crate::postgres::{PostgresClient, PostgresDatabase, PostgresError, encoded};
use tagway_core::event::ProfileView;

/// The store of profiles in the shared database.
pub struct PostgresProfileStore {
    database: Arc<PostgresDatabase>,
    /// The id of this gateway.
    node: String,
    limits: ProfileLimits,
    statement_cache: Arc<VersionedStatementCache>,
}

/// The remembered statements, and the versions of the sites for which they are valid.
#[derive(Default)]
struct VersionedStatementCache {
    statements: UnchangedStatementCache,
    versions: Mutex<BTreeMap<SiteId, i64>>,
}

impl VersionedStatementCache {
    fn versions(&self) -> MutexGuard<'_, BTreeMap<SiteId, i64>> {
        self.versions.lock()
    }

    /// Clears the statements if another gateway has changed the site.
    fn look_at(&self, site: SiteId, version: i64) {
        if self.versions().get(&site) != Some(&version) {
            self.statements.clear();
        }
    }
}

/// The outcome of a batch: the rows to write, the changes, and the statements to remember.
type PostgresBatchOutcome = UpdateBatchOutcome<PostgresProfileRows>;

impl PostgresProfileStore {
    /// Creates the store in a database that has [`SCHEMA`], for the gateway with this id.
    pub fn new(database: Arc<PostgresDatabase>, node: String, limits: ProfileLimits) -> Self {
        Self { database, node, limits, statement_cache: Arc::default() }
    }

    /// Clears the remembered statements.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.statement_cache.statements.clear();
    }

    async fn client(&self, site: SiteId) -> Result<(PostgresClient, i64), PostgresError> {
        let client = self.database.client().await?;
        let number = self.database.site(&client, site.0).await?;
        Ok((client, number))
    }

    /// Applies updates as one transaction. Returns the changes, the statements to remember, and the site's version.
    async fn batch(
        &self,
        site: SiteId,
        upto: u64,
        updates: Arc<Vec<ProfileUpdate>>,
    ) -> Result<(ProfileChanges, StatementCacheDelta, i64), PostgresError> {
        let (mut client, number) = self.client(site).await?;
        let transaction = client.transaction().await?;
        let batch = self.write(&transaction, site, number, upto, updates).await?;
        transaction.commit().await?;
        Ok(batch)
    }

    /// Returns the updates that the database accepts. A refused value must not block later updates: the
    /// batch is tried in halves, and rolled back, until each refused update is alone.
    async fn acceptable(
        &self,
        site: SiteId,
        updates: &[ProfileUpdate],
    ) -> Result<Vec<ProfileUpdate>, PostgresError> {
        let (mut taken, mut parts) = (Vec::with_capacity(updates.len()), vec![updates]);
        while let Some(part) = parts.pop() {
            let trying = async {
                let (mut client, number) = self.client(site).await?;
                let transaction = client.transaction().await?;
                self.write(&transaction, site, number, 0, Arc::new(part.to_vec())).await?;
                transaction.rollback().await?;
                Ok(())
            };
            match self.database.with_timeout(trying).await {
                Ok(()) => taken.extend_from_slice(part),
                Err(error) if !error.is_value_error() => return Err(error),
                Err(error) if part.len() <= 1 => {
                    tracing::error!(%error, "an event's changes of a profile cannot be stored");
                }
                Err(_) => {
                    // The first half is tried first: updates stay in their order.
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(taken)
    }

    /// Writes the updates within a transaction.
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        site: SiteId,
        number: i64,
        upto: u64,
        updates: Arc<Vec<ProfileUpdate>>,
    ) -> Result<(ProfileChanges, StatementCacheDelta, i64), PostgresError> {
        let version = lock(transaction, number).await?;
        self.statement_cache.look_at(site, version);
        let unsaid = |it: &&ProfileUpdate| {
            let statement = self.statement_cache.statements.hash_statement(site, it);
            let holder = self.statement_cache.statements.holder(
                statement,
                stitch::time(it),
                &StatementCacheDelta::default(),
            );
            holder.is_none()
        };
        let looked_up: Vec<&ProfileUpdate> = updates.iter().filter(unsaid).collect();
        let set = load::load(transaction, number, &looked_up, &updates).await?;
        let worked = match self.work(site, set, updates.clone()).await? {
            Ok(worked) => worked,
            Err(RowNotLoadedError) => {
                let all: Vec<&ProfileUpdate> = updates.iter().collect();
                let mut set = load::load(transaction, number, &all, &updates).await?;
                load::more_numbers(transaction, &mut set, updates.len()).await?;
                let worked = self.work(site, set, updates.clone()).await?;
                worked.map_err(|RowNotLoadedError| PostgresError::Incomplete)?
            }
        };
        let UpdateBatchOutcome {
            rows,
            mut changes,
            cache_delta: mut notes,
            claimed_profiles: census,
        } = worked;
        save::save(transaction, number, rows).await?;
        let evicted = people::evict(transaction, number, census, self.limits.claimed_max).await?;
        notes.forget(&evicted.profiles);
        changes.add(evicted);
        let sql = "INSERT INTO projected VALUES ($1, $2, $3)
            ON CONFLICT (site, node) DO UPDATE SET seq = excluded.seq";
        transaction
            .execute(sql, &[&number, &self.node, &i64::try_from(upto).unwrap_or(i64::MAX)])
            .await?;
        let version = move_on(transaction, number).await?;
        Ok((changes, notes, version))
    }

    /// Runs the rules off the asynchronous threads: a batch takes some milliseconds.
    async fn work(
        &self,
        site: SiteId,
        set: PostgresProfileRows,
        updates: Arc<Vec<ProfileUpdate>>,
    ) -> Result<Result<PostgresBatchOutcome, RowNotLoadedError>, PostgresError> {
        let (limits, memory) = (self.limits, self.statement_cache.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut batch = UpdateBatch::new(set, site, limits, &memory.statements);
            for update in updates.iter() {
                batch.apply(update)?;
            }
            batch.finish()
        });
        // The task fails only if the gateway is shutting down.
        work.await.map_err(|_ended| PostgresError::Timeout)
    }
}

#[async_trait]
impl ProfileStore for PostgresProfileStore {
    async fn projected_seq(&self, site: SiteId) -> Result<u64, ProfileError> {
        let reading = async {
            let (client, number) = self.client(site).await?;
            projected(&client, number, &self.node).await
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<ProfileUpdate>,
    ) -> Result<ProfileChanges, ProfileError> {
        let updates = Arc::new(updates);
        let applied =
            match self.database.with_timeout(self.batch(site, upto, updates.clone())).await {
                Err(error) if error.is_value_error() => {
                    let taken = Arc::new(self.acceptable(site, &updates).await?);
                    self.database.with_timeout(self.batch(site, upto, taken)).await
                }
                applied => applied,
            };
        let (changes, notes, version) = applied?;
        self.statement_cache.statements.commit_delta(notes);
        self.statement_cache.versions().insert(site, version);
        Ok(changes)
    }

    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
        let finding = async {
            let (client, number) = self.client(site).await?;
            let kinds: Vec<_> = identities.iter().map(|it| it.kind.name()).collect();
            let values: Vec<_> = identities.iter().map(|it| encoded(&it.value)).collect();
            let sql = "SELECT w.n, p.id, p.user_id, p.traits
                FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS w (kind, value, n)
                JOIN identities i ON i.site = $1 AND i.kind = w.kind AND i.value = w.value
                JOIN profiles p ON p.id = i.profile";
            let statement = client.prepare_cached(sql).await?;
            let mut found = vec![None; identities.len()];
            for row in client.query(&statement, &[&number, &kinds, &values]).await? {
                let view = ProfileView {
                    user_id: text::optional(&row, 2)?,
                    traits: text::object(&row, 3)?,
                };
                let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
                if let Some(found) = found.get_mut(place) {
                    *found = Some((ProfileId(row.try_get(1)?), view));
                }
            }
            Ok(found)
        };
        Ok(self.database.with_timeout(finding).await?)
    }

    async fn find_page_profile(
        &self,
        site: SiteId,
        id: String,
    ) -> Result<Option<PageProfile>, ProfileError> {
        let reading = async {
            let (client, number) = self.client(site).await?;
            people::load_page_profile(&client, number, &id).await
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    async fn computed(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<ComputedSnapshot, ProfileError> {
        let reading = async {
            let (mut client, number) = self.client(site).await?;
            let moment = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .await?;
            let upto = projected(&moment, number, &self.node).await?;
            let numbers: Vec<i64> = profiles.iter().map(|profile| profile.0).collect();
            let mut known = people::computed(&moment, &numbers).await?;
            moment.commit().await?;
            let computed = numbers.iter().map(|profile| known.remove(profile)).collect();
            Ok(ComputedSnapshot { upto, computed })
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    async fn expire(
        &self,
        site: SiteId,
        unseen: ExpiryRequest,
    ) -> Result<ExpiryOutcome, ProfileError> {
        let expiring = async {
            let (mut client, number) = self.client(site).await?;
            let transaction = client.transaction().await?;
            lock(&transaction, number).await?;
            let expired = people::expire(&transaction, number, unseen).await?;
            if !expired.changes.profiles.is_empty() {
                move_on(&transaction, number).await?;
            }
            transaction.commit().await?;
            Ok(expired)
        };
        Ok(self.database.with_timeout(expiring).await?)
    }

    async fn counted_names(
        &self,
        site: SiteId,
        names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError> {
        let reading = async {
            let (client, number) = self.client(site).await?;
            let wanted: Vec<_> = names.iter().map(|name| encoded(name)).collect();
            let statement = client
                .prepare_cached("SELECT name FROM event_names WHERE site = $1 AND name = ANY($2)")
                .await?;
            let rows = client.query(&statement, &[&number, &wanted]).await?;
            rows.iter().map(|row| text::text(row, 0)).collect()
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    async fn forget_names(&self, site: SiteId) -> Result<(), ProfileError> {
        let forgetting = async {
            let (mut client, number) = self.client(site).await?;
            let transaction = client.transaction().await?;
            lock(&transaction, number).await?;
            let sql = "DELETE FROM event_names WHERE site = $1
                AND NOT EXISTS (SELECT 1 FROM activity a WHERE a.event = event_names.id)";
            transaction.execute(sql, &[&number]).await?;
            transaction.commit().await?;
            Ok(())
        };
        Ok(self.database.with_timeout(forgetting).await?)
    }

    async fn subjects(
        &self,
        site: SiteId,
        name: String,
    ) -> Result<Vec<SubjectProfile>, ProfileError> {
        let looking = async {
            let (client, number) = self.client(site).await?;
            people::subjects(&client, number, &name).await
        };
        Ok(self.database.with_timeout(looking).await?)
    }

    async fn search(
        &self,
        site: SiteId,
        search: ProfileSearch,
    ) -> Result<ProfilePage, ProfileError> {
        let searching = async {
            let (client, number) = self.client(site).await?;
            search::search(&client, number, &search).await
        };
        Ok(self.database.with_timeout(searching).await?)
    }

    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ProfileChanges, ProfileError> {
        let (mut client, number) = self.database.with_timeout(self.client(site)).await?;
        // Takes as long as there are identities: each statement has its own timeout.
        let transaction = client.transaction().await.map_err(PostgresError::from)?;
        lock(&transaction, number).await?;
        let changes = people::erase(&transaction, site, number, &names).await?;
        move_on(&transaction, number).await?;
        transaction.commit().await.map_err(PostgresError::from)?;
        Ok(changes)
    }
}

/// Waits until no other gateway changes the site's profiles. Returns their version.
async fn lock(transaction: &Transaction<'_>, site: i64) -> Result<i64, PostgresError> {
    let statement =
        transaction.prepare_cached("SELECT version FROM sites WHERE id = $1 FOR UPDATE").await?;
    Ok(transaction.query_one(&statement, &[&site]).await?.try_get(0)?)
}

/// Raises the version of the site's profiles. Returns the new one.
async fn move_on(transaction: &Transaction<'_>, site: i64) -> Result<i64, PostgresError> {
    let statement = transaction
        .prepare_cached("UPDATE sites SET version = version + 1 WHERE id = $1 RETURNING version")
        .await?;
    Ok(transaction.query_one(&statement, &[&site]).await?.try_get(0)?)
}

async fn projected(
    client: &impl deadpool_postgres::GenericClient,
    site: i64,
    node: &str,
) -> Result<u64, PostgresError> {
    let statement =
        client.prepare_cached("SELECT seq FROM projected WHERE site = $1 AND node = $2").await?;
    let row = client.query_opt(&statement, &[&site, &node]).await?;
    let seq: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    Ok(u64::try_from(seq).unwrap_or(0))
}

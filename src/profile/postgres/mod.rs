//! Profiles in the PostgreSQL database that gateways share.
//!
//! # How gateways share it
//!
//! - Whoever changes the profiles of a site holds the site's row (`sites`), from the first read to the
//!   commit: gateways take turns, batch by batch.
//! - How far the profiles have come is kept for each gateway, since each has a journal of its own.
//!   Which gateway this is stands in its data folder, next to that journal.
//! - The site's row has a version, which every change moves on. What is remembered of statements
//!   ([`Repeats`]) holds while nobody else has moved it.
//!
//! # What a batch costs
//!
//! Some ten round trips, however many events it has: what its identities name is read at once
//! (`load.rs`), the rules work on it in memory (`set.rs`), and what changed is written table by table
//! (`save.rs`). Statements that were said lately are not looked up; should one be after all, because the
//! batch itself changed its person, everything is read and the batch starts again.

mod load;
mod people;
mod save;
mod schema;
mod set;
mod text;

pub use schema::SCHEMA;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::IsolationLevel;

use self::set::{Missing, Set};
use super::batch::{Batch, Finished};
use super::repeats::{Notes, Repeats};
use super::{
    Changes, ComputedAt, Expired, Identity, Limits, ProfileError, ProfileId, ProfileStore,
    Standing, Subject, Unseen, Update, stitch,
};
use crate::event::ProfileView;
use crate::journal::{NameKey, SiteId};
use crate::postgres::{Client, Postgres, PostgresError, encoded};

/// Profiles in the shared database.
pub struct PostgresProfiles {
    database: Arc<Postgres>,
    /// Which gateway this is.
    node: String,
    limits: Limits,
    memory: Arc<Memory>,
}

/// What was said lately, and the versions of the sites that it is of.
#[derive(Default)]
struct Memory {
    repeats: Repeats,
    versions: Mutex<BTreeMap<SiteId, i64>>,
}

impl Memory {
    fn versions(&self) -> MutexGuard<'_, BTreeMap<SiteId, i64>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what may not be so any more, if somebody else has changed the site.
    fn look_at(&self, site: SiteId, version: i64) {
        if self.versions().get(&site) != Some(&version) {
            self.repeats.clear();
        }
    }
}

/// What a batch came to: the rows to write, what changed, and what to remember.
type Worked = Finished<Set>;

impl PostgresProfiles {
    /// Profiles in a database that has [`SCHEMA`], of the gateway with this id.
    pub fn new(database: Arc<Postgres>, node: String, limits: Limits) -> Self {
        Self { database, node, limits, memory: Arc::default() }
    }

    /// Forgets what was said lately.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.memory.repeats.clear();
    }

    async fn client(&self, site: SiteId) -> Result<(Client, i64), PostgresError> {
        let client = self.database.client().await?;
        let number = self.database.site(&client, site.0).await?;
        Ok((client, number))
    }

    /// Applies updates as one transaction; says what changed, what to remember, and the site's version.
    async fn batch(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<Update>,
    ) -> Result<(Changes, Notes, i64), PostgresError> {
        let (mut client, number) = self.client(site).await?;
        let transaction = client.transaction().await?;
        let version = lock(&transaction, number).await?;
        self.memory.look_at(site, version);
        let updates = Arc::new(updates);
        let unsaid = |it: &&Update| {
            let statement = self.memory.repeats.statement(site, it);
            let holder = self.memory.repeats.holder(statement, stitch::time(it), &Notes::default());
            holder.is_none()
        };
        let looked_up: Vec<&Update> = updates.iter().filter(unsaid).collect();
        let set = load::load(&transaction, number, &looked_up, &updates).await?;
        let worked = match self.work(site, set, updates.clone()).await? {
            Ok(worked) => worked,
            Err(Missing) => {
                let all: Vec<&Update> = updates.iter().collect();
                let mut set = load::load(&transaction, number, &all, &updates).await?;
                load::more_numbers(&transaction, &mut set, updates.len()).await?;
                let worked = self.work(site, set, updates.clone()).await?;
                worked.map_err(|Missing| PostgresError::Incomplete)?
            }
        };
        let Finished { rows, mut changes, mut notes, census } = worked;
        save::save(&transaction, number, rows).await?;
        let evicted = people::evict(&transaction, number, census, self.limits.claimed_max).await?;
        notes.forget(&evicted.profiles);
        changes.add(evicted);
        transaction
            .execute(
                "INSERT INTO projected VALUES ($1, $2, $3)
                 ON CONFLICT (site, node) DO UPDATE SET seq = excluded.seq",
                &[&number, &self.node, &i64::try_from(upto).unwrap_or(i64::MAX)],
            )
            .await?;
        let version = move_on(&transaction, number).await?;
        transaction.commit().await?;
        Ok((changes, notes, version))
    }

    /// The rules, off the asynchronous threads: a batch is some milliseconds.
    async fn work(
        &self,
        site: SiteId,
        set: Set,
        updates: Arc<Vec<Update>>,
    ) -> Result<Result<Worked, Missing>, PostgresError> {
        let (limits, memory) = (self.limits, self.memory.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut batch = Batch::new(set, site, limits, &memory.repeats);
            for update in updates.iter() {
                batch.apply(update)?;
            }
            batch.finish()
        });
        // It fails only if the gateway is shutting down.
        work.await.map_err(|_ended| PostgresError::Timeout)
    }
}

#[async_trait]
impl ProfileStore for PostgresProfiles {
    async fn projected(&self, site: SiteId) -> Result<u64, ProfileError> {
        let reading = async {
            let (client, number) = self.client(site).await?;
            projected(&client, number, &self.node).await
        };
        Ok(self.database.within(reading).await?)
    }

    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<Update>,
    ) -> Result<Changes, ProfileError> {
        let applied = self.database.within(self.batch(site, upto, updates)).await;
        let (changes, notes, version) = applied?;
        self.memory.repeats.take(notes);
        self.memory.versions().insert(site, version);
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
            let statement = client
                .prepare_cached(
                    "SELECT w.n, p.id, p.user_id, p.traits
                     FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS w (kind, value, n)
                     JOIN identities i ON i.site = $1 AND i.kind = w.kind AND i.value = w.value
                     JOIN profiles p ON p.id = i.profile",
                )
                .await?;
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
        Ok(self.database.within(finding).await?)
    }

    async fn standing(&self, site: SiteId, id: String) -> Result<Option<Standing>, ProfileError> {
        let reading = async {
            let (client, number) = self.client(site).await?;
            people::standing(&client, number, &id).await
        };
        Ok(self.database.within(reading).await?)
    }

    async fn computed(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<ComputedAt, ProfileError> {
        let reading = async {
            let (mut client, number) = self.client(site).await?;
            let moment = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .await?;
            let at = projected(&moment, number, &self.node).await?;
            let numbers: Vec<i64> = profiles.iter().map(|profile| profile.0).collect();
            let mut known = people::computed(&moment, &numbers).await?;
            moment.commit().await?;
            Ok((at, numbers.iter().map(|profile| known.remove(profile)).collect()))
        };
        Ok(self.database.within(reading).await?)
    }

    async fn expire(&self, site: SiteId, unseen: Unseen) -> Result<Expired, ProfileError> {
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
        Ok(self.database.within(expiring).await?)
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
        Ok(self.database.within(reading).await?)
    }

    async fn forget_names(&self, site: SiteId) -> Result<(), ProfileError> {
        let forgetting = async {
            let (mut client, number) = self.client(site).await?;
            let transaction = client.transaction().await?;
            lock(&transaction, number).await?;
            transaction
                .execute(
                    "DELETE FROM event_names WHERE site = $1
                     AND NOT EXISTS (SELECT 1 FROM activity a WHERE a.event = event_names.id)",
                    &[&number],
                )
                .await?;
            transaction.commit().await?;
            Ok(())
        };
        Ok(self.database.within(forgetting).await?)
    }

    async fn subjects(&self, site: SiteId, name: String) -> Result<Vec<Subject>, ProfileError> {
        let looking = async {
            let (client, number) = self.client(site).await?;
            people::subjects(&client, number, &name).await
        };
        Ok(self.database.within(looking).await?)
    }

    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<NameKey>>,
    ) -> Result<Changes, ProfileError> {
        let (mut client, number) = self.database.within(self.client(site)).await?;
        // As long as there are identities: each statement has its own end.
        let transaction = client.transaction().await.map_err(PostgresError::from)?;
        lock(&transaction, number).await?;
        let changes = people::erase(&transaction, (site, number), &names).await?;
        move_on(&transaction, number).await?;
        transaction.commit().await.map_err(PostgresError::from)?;
        Ok(changes)
    }
}

/// Waits until nobody else changes the site's profiles. Returns their version.
async fn lock(transaction: &Transaction<'_>, site: i64) -> Result<i64, PostgresError> {
    let statement =
        transaction.prepare_cached("SELECT version FROM sites WHERE id = $1 FOR UPDATE").await?;
    Ok(transaction.query_one(&statement, &[&site]).await?.try_get(0)?)
}

/// Says that they have changed. Returns their new version.
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

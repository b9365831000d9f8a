//! Profiles in the embedded database.

mod counters;
mod details;
mod expire;
mod node;
mod rows;
mod search;
mod subject;

pub use node::{MIGRATIONS as NODE_MIGRATIONS, node};

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::RwLock;

use self::rows::SqliteProfileRows;
use super::batch::{UpdateBatch, UpdateBatchOutcome};
use super::statement_cache::UnchangedStatementCache;
use super::{
    ComputedSnapshot, CounterStore, ExpiryOutcome, ExpiryRequest, Identity, PageProfile,
    ProfileChanges, ProfileError, ProfileId, ProfileLimits, ProfilePage, ProfileSearch,
    ProfileStore, ProfileUpdate, SubjectProfile,
};
use crate::journal::{PersonNameDigest, SiteId};
use crate::store::{SqliteMigrations, SqliteStore};
use tagway_core::event::{JsonObject, ProfileView};

/// The migrations of the profiles' tables.
pub const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "profiles",
    steps: &[
        "
    CREATE TABLE profiles (
        id INTEGER PRIMARY KEY,
        site INTEGER NOT NULL,
        user_id TEXT,
        traits TEXT NOT NULL DEFAULT '{}'
    );
    CREATE TABLE identities (
        site INTEGER NOT NULL,
        kind TEXT NOT NULL,
        value TEXT NOT NULL,
        profile INTEGER NOT NULL,
        PRIMARY KEY (site, kind, value)
    ) WITHOUT ROWID;
    CREATE INDEX identities_profile ON identities (profile);
    CREATE TABLE projected (site INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
    ",
        // Times are milliseconds since 1970. Older rows have none: any event is later.
        "
    ALTER TABLE profiles ADD COLUMN named_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE profiles ADD COLUMN first_seen INTEGER;
    ALTER TABLE profiles ADD COLUMN last_seen INTEGER;
    ALTER TABLE profiles ADD COLUMN trait_times TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE identities ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE identities ADD COLUMN claimed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE identities ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE identities ADD COLUMN client TEXT;
    UPDATE identities SET claimed = 1
        WHERE profile IN (SELECT id FROM profiles WHERE user_id IS NOT NULL);
    ",
        // Computed attributes, as JSON or as numbers; `stated` has the time of the newest statement of
        // each of `device`, `place`, `consent` and `group`. `day` is in days since 1970 UTC, `first`
        // and `last` are milliseconds since 1970, `sum` is of the events' values. A profile's number is
        // never reused, so that its removal can be detected.
        "
    ALTER TABLE profiles ADD COLUMN touches TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE profiles ADD COLUMN device TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE profiles ADD COLUMN place TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE profiles ADD COLUMN consent TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE profiles ADD COLUMN group_id TEXT;
    ALTER TABLE profiles ADD COLUMN stated TEXT NOT NULL DEFAULT '{}';
    CREATE INDEX profiles_anonymous ON profiles (site, last_seen) WHERE user_id IS NULL;
    CREATE TABLE profile_numbers (next INTEGER NOT NULL);
    INSERT INTO profile_numbers SELECT coalesce(max(id), 0) + 1 FROM profiles;
    CREATE TABLE event_names (
        id INTEGER PRIMARY KEY,
        site INTEGER NOT NULL,
        name TEXT NOT NULL,
        UNIQUE (site, name)
    );
    CREATE TABLE activity (
        profile INTEGER NOT NULL,
        event INTEGER NOT NULL,
        day INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        sum REAL NOT NULL,
        PRIMARY KEY (profile, event, day)
    ) WITHOUT ROWID;
    CREATE INDEX activity_event ON activity (event, day, profile);
    ",
        // Counters that settings make: the projection counts events after `since`, of the earlier ones
        // those up to `filled` are counted as well; `oldest` was the first that the journal still had,
        // and `oldest_at` is when it was received. Counts of dropped counters are removed in time.
        "
    CREATE TABLE counters (
        site INTEGER NOT NULL,
        name TEXT NOT NULL,
        since INTEGER NOT NULL,
        filled INTEGER NOT NULL DEFAULT 0,
        oldest INTEGER,
        oldest_at INTEGER,
        PRIMARY KEY (site, name)
    ) WITHOUT ROWID;
    CREATE TABLE dropped_counters (event INTEGER PRIMARY KEY, site INTEGER NOT NULL);
    ",
        // Ranks are 0 for claimed, 1 for proven, 2 for a server's; of names of events 2 is for those
        // that settings use. Older rows are unproven, and may be of several people. `claimed` is how
        // many profiles of the site have rank 0.
        "
    ALTER TABLE profiles ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE profiles ADD COLUMN trait_ranks TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE profiles ADD COLUMN is_shared INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE identities ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE event_names ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
    UPDATE profiles SET is_shared = 1;
    CREATE INDEX profiles_claimed ON profiles (site, last_seen, id) WHERE rank = 0;
    CREATE TABLE profile_counts (site INTEGER PRIMARY KEY, claimed INTEGER NOT NULL);
    INSERT INTO profile_counts SELECT site, count(*) FROM profiles GROUP BY site;
    ",
        // For lists of a site's profiles, the newest first.
        "
    CREATE INDEX profiles_site ON profiles (site, id);
    ",
    ],
};

/// The store of profiles in the embedded database.
pub struct SqliteProfileStore {
    store: Arc<SqliteStore>,
    limits: ProfileLimits,
    statement_cache: Arc<UnchangedStatementCache>,
    /// Locked for writing while profiles are removed, for reading while statements are remembered: a
    /// statement of a removed profile must not be remembered after the removal.
    removing: RwLock<()>,
}

impl SqliteProfileStore {
    /// Creates the store in a database that has [`MIGRATIONS`].
    pub fn new(store: Arc<SqliteStore>, limits: ProfileLimits) -> Self {
        Self { store, limits, statement_cache: Arc::default(), removing: RwLock::default() }
    }

    /// Clears the remembered statements.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.statement_cache.clear();
    }
}

#[async_trait]
impl ProfileStore for SqliteProfileStore {
    async fn projected_seq(&self, site: SiteId) -> Result<u64, ProfileError> {
        Ok(self.store.read(move |c| projected(c, site)).await?)
    }

    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<ProfileUpdate>,
    ) -> Result<ProfileChanges, ProfileError> {
        let (limits, repeats) = (self.limits, self.statement_cache.clone());
        let _remembering = self.removing.read().await;
        let applied = self.store.write(move |c| {
            let mut batch =
                UpdateBatch::new(SqliteProfileRows::new(c, site), site, limits, &repeats);
            for update in &updates {
                batch.apply(update)?;
            }
            let sql = "INSERT INTO projected VALUES (?1, ?2)
                ON CONFLICT (site) DO UPDATE SET seq = excluded.seq";
            c.prepare_cached(sql)?.execute((site.0, upto))?;
            let UpdateBatchOutcome { mut changes, mut cache_delta, claimed_profiles, .. } =
                batch.finish()?;
            let evicted = expire::evict(c, site, claimed_profiles, limits.claimed_max)?;
            cache_delta.forget(&evicted.profiles);
            changes.add(evicted);
            Ok((changes, cache_delta))
        });
        let (changes, cache_delta) = applied.await?;
        self.statement_cache.commit_delta(cache_delta);
        Ok(changes)
    }

    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
        let found = self.store.read(move |c| {
            let sql = "SELECT p.id, p.user_id, p.traits
                FROM identities i JOIN profiles p ON p.id = i.profile
                WHERE i.site = ? AND i.kind = ? AND i.value = ?";
            let mut statement = c.prepare_cached(sql)?;
            let find = |identity: &Identity| {
                statement
                    .query_row((site.0, identity.kind.name(), &identity.value), |row| {
                        let traits = parse(row.get_ref(2)?.as_str()?);
                        let view = ProfileView { user_id: row.get(1)?, traits };
                        Ok((ProfileId(row.get(0)?), view))
                    })
                    .optional()
            };
            identities.iter().map(find).collect()
        });
        Ok(found.await?)
    }

    async fn find_page_profile(
        &self,
        site: SiteId,
        id: String,
    ) -> Result<Option<PageProfile>, ProfileError> {
        Ok(self.store.read(move |c| subject::load_page_profile(c, site, &id)).await?)
    }

    async fn computed(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<ComputedSnapshot, ProfileError> {
        let found = self.store.read(move |c| {
            let computed = profiles.iter().map(|profile| details::computed(c, *profile));
            let computed = computed.collect::<Result<_, _>>()?;
            Ok(ComputedSnapshot { upto: projected(c, site)?, computed })
        });
        Ok(found.await?)
    }

    async fn expire(
        &self,
        site: SiteId,
        unseen: ExpiryRequest,
    ) -> Result<ExpiryOutcome, ProfileError> {
        let _removing = self.removing.write().await;
        let expired = self.store.write(move |c| expire::expire(c, site, unseen)).await?;
        self.statement_cache.forget(&expired.changes.profiles);
        Ok(expired)
    }

    async fn counted_names(
        &self,
        site: SiteId,
        names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError> {
        let counted = self.store.read(move |c| {
            let mut known =
                c.prepare_cached("SELECT 1 FROM event_names WHERE site = ? AND name = ?")?;
            let mut counted = Vec::new();
            for name in names {
                if known.exists((site.0, &name))? {
                    counted.push(name);
                }
            }
            Ok(counted)
        });
        Ok(counted.await?)
    }

    async fn forget_names(&self, site: SiteId) -> Result<(), ProfileError> {
        Ok(self.store.write(move |c| expire::forget_names(c, site)).await?)
    }

    async fn subjects(
        &self,
        site: SiteId,
        name: String,
    ) -> Result<Vec<SubjectProfile>, ProfileError> {
        Ok(self.store.read(move |c| subject::subjects(c, site, &name)).await?)
    }

    async fn search(
        &self,
        site: SiteId,
        search: ProfileSearch,
    ) -> Result<ProfilePage, ProfileError> {
        Ok(self.store.read(move |c| search::search(c, site, &search)).await?)
    }

    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ProfileChanges, ProfileError> {
        let _removing = self.removing.write().await;
        let erased = subject::erase(&self.store, site, names).await;
        // No statement of the erased people is known any more.
        self.statement_cache.clear();
        erased
    }

    fn counters(&self) -> Option<&dyn CounterStore> {
        Some(self)
    }
}

fn projected(connection: &Connection, site: SiteId) -> rusqlite::Result<u64> {
    let seq = connection
        .prepare_cached("SELECT seq FROM projected WHERE site = ?")?
        .query_row([site.0], |row| row.get(0))
        .optional()?;
    Ok(seq.unwrap_or(0))
}

/// This program alone writes the table; a damaged value reads as an empty object.
fn parse(text: &str) -> JsonObject {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::profile::IdentityKind;

    #[test]
    fn profiles_from_before_the_time_columns_keep_their_identities() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(MIGRATIONS.steps[0]).unwrap();
        let old = "INSERT INTO profiles VALUES (1, 1, 'u', '{\"plan\":\"free\"}');
            INSERT INTO identities VALUES (1, 'user', 'u', 1), (1, 'visitor', 'v', 1);";
        c.execute_batch(old).unwrap();
        for step in &MIGRATIONS.steps[1..] {
            c.execute_batch(step).unwrap();
        }
        let repeats = UnchangedStatementCache::default();
        let limits = ProfileLimits::new(1000, 10, 10);
        let takes = |minute: i64, user: Option<&str>| {
            let start: jiff::Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
            let at = start + jiff::SignedDuration::from_mins(minute);
            let event = serde_json::from_value(json!({
                "type": "track", "messageId": "m", "timestamp": at, "receivedAt": at,
                "anonymousId": "a", "userId": user,
                "facts": { "visitor": { "id": "v", "since": start } },
            }));
            let mut batch = UpdateBatch::new(
                SqliteProfileRows::new(&c, SiteId(1)),
                SiteId(1),
                limits,
                &repeats,
            );
            batch.apply(&crate::profile::update_of(&event.unwrap())).unwrap();
            repeats.commit_delta(batch.finish().unwrap().cache_delta);
        };
        let whose = |kind: IdentityKind, value: &str| -> Option<String> {
            let query = "SELECT p.user_id FROM identities i JOIN profiles p ON p.id = i.profile
                WHERE i.kind = ? AND i.value = ?";
            c.query_row(query, (kind.name(), value), |row| row.get(0)).unwrap()
        };
        takes(0, None);
        assert_eq!(whose(IdentityKind::Anonymous, "a").as_deref(), Some("u"));
        takes(1, Some("w"));
        assert_eq!(whose(IdentityKind::Anonymous, "a").as_deref(), Some("w"));
        assert_eq!(whose(IdentityKind::User, "u").as_deref(), Some("u"));
    }
}

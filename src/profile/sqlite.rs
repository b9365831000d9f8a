//! Profiles in the embedded database.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::{Identity, IdentityKind, ProfileError, ProfileStore, Update};
use crate::event::{Object, ProfileView};
use crate::journal::SiteId;
use crate::store::{Migrations, Store};

/// The profiles' tables.
pub const MIGRATIONS: Migrations = Migrations {
    name: "profiles",
    steps: &["
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
    "],
};

/// Profiles in the embedded database.
pub struct SqliteProfiles(Arc<Store>);

impl SqliteProfiles {
    /// Profiles in a store that has [`MIGRATIONS`].
    pub fn new(store: Arc<Store>) -> Self {
        Self(store)
    }
}

#[async_trait]
impl ProfileStore for SqliteProfiles {
    async fn projected(&self, site: SiteId) -> Result<u64, ProfileError> {
        let seq = self.0.read(move |c| {
            c.query_row("SELECT seq FROM projected WHERE site = ?", [site.0], |row| row.get(0))
                .optional()
        });
        Ok(seq.await?.unwrap_or(0))
    }

    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<Update>,
    ) -> Result<Vec<Identity>, ProfileError> {
        let changed = self.0.write(move |c| {
            let mut changed = BTreeSet::new();
            for update in &updates {
                apply(c, site, update, &mut changed)?;
            }
            c.prepare_cached(
                "INSERT INTO projected VALUES (?1, ?2)
                 ON CONFLICT (site) DO UPDATE SET seq = excluded.seq",
            )?
            .execute((site.0, upto))?;
            Ok(changed.into_iter().collect())
        });
        Ok(changed.await?)
    }

    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<ProfileView>>, ProfileError> {
        let found = self.0.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT p.user_id, p.traits FROM identities i JOIN profiles p ON p.id = i.profile
                 WHERE i.site = ? AND i.kind = ? AND i.value = ?",
            )?;
            let find = |identity: &Identity| {
                statement
                    .query_row((site.0, identity.kind.name(), &identity.value), |row| {
                        let traits = parse(row.get_ref(1)?.as_str()?);
                        Ok(ProfileView { user_id: row.get(0)?, traits })
                    })
                    .optional()
            };
            identities.iter().map(find).collect()
        });
        Ok(found.await?)
    }
}

/// The table is written by this program alone; should a row be damaged, its traits start anew.
fn parse(text: &str) -> Object {
    serde_json::from_str(text).unwrap_or_default()
}

fn apply(
    connection: &Connection,
    site: SiteId,
    update: &Update,
    changed: &mut BTreeSet<Identity>,
) -> rusqlite::Result<()> {
    let Some(profile) = resolve(connection, site, update)? else { return Ok(()) };
    let mut links = update.devices.clone();
    links.extend(Identity::of(IdentityKind::User, update.user.as_deref()));
    for identity in links {
        connection
            .prepare_cached(
                "INSERT INTO identities VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (site, kind, value) DO UPDATE SET profile = excluded.profile",
            )?
            .execute((site.0, identity.kind.name(), &identity.value, profile))?;
        changed.insert(identity);
    }
    if !update.traits.is_empty() {
        merge_traits(connection, profile, &update.traits)?;
    }
    changed.extend(names_of(connection, profile)?);
    Ok(())
}

/// The profile an update is about; made if there is something to keep.
fn resolve(
    connection: &Connection,
    site: SiteId,
    update: &Update,
) -> rusqlite::Result<Option<i64>> {
    if let Some(user) = &update.user
        && let Some((id, _)) = lookup(connection, site, IdentityKind::User, user)?
    {
        return Ok(Some(id));
    }
    for device in &update.devices {
        let Some((id, owner)) = lookup(connection, site, device.kind, &device.value)? else {
            continue;
        };
        match (&update.user, owner) {
            (Some(user), None) => {
                connection
                    .prepare_cached("UPDATE profiles SET user_id = ? WHERE id = ?")?
                    .execute((user, id))?;
                return Ok(Some(id));
            }
            // Somebody else's device until now: they stay two people.
            (Some(_), Some(_)) => {}
            (None, _) => return Ok(Some(id)),
        }
    }
    if update.user.is_none() && (update.traits.is_empty() || update.devices.is_empty()) {
        return Ok(None);
    }
    connection
        .prepare_cached("INSERT INTO profiles (site, user_id) VALUES (?, ?)")?
        .execute((site.0, &update.user))?;
    Ok(Some(connection.last_insert_rowid()))
}

/// The profile that an identity names, and its user id.
fn lookup(
    connection: &Connection,
    site: SiteId,
    kind: IdentityKind,
    value: &str,
) -> rusqlite::Result<Option<(i64, Option<String>)>> {
    connection
        .prepare_cached(
            "SELECT p.id, p.user_id FROM identities i JOIN profiles p ON p.id = i.profile
             WHERE i.site = ? AND i.kind = ? AND i.value = ?",
        )?
        .query_row((site.0, kind.name(), value), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

fn merge_traits(connection: &Connection, profile: i64, said: &Object) -> rusqlite::Result<()> {
    let mut traits = connection
        .prepare_cached("SELECT traits FROM profiles WHERE id = ?")?
        .query_row([profile], |row| Ok(parse(row.get_ref(0)?.as_str()?)))?;
    for (key, value) in said {
        if value.is_null() {
            traits.shift_remove(key);
        } else {
            traits.insert(key.clone(), value.clone());
        }
    }
    connection
        .prepare_cached("UPDATE profiles SET traits = ? WHERE id = ?")?
        .execute((serde_json::Value::Object(traits).to_string(), profile))
        .map(drop)
}

fn names_of(connection: &Connection, profile: i64) -> rusqlite::Result<Vec<Identity>> {
    let mut statement =
        connection.prepare_cached("SELECT kind, value FROM identities WHERE profile = ?")?;
    let rows = statement.query_map([profile], |row| {
        let kind = match row.get_ref(0)?.as_str()? {
            "user" => IdentityKind::User,
            "anonymous" => IdentityKind::Anonymous,
            _ => IdentityKind::Visitor,
        };
        Ok(Identity { kind, value: row.get(1)? })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::Metrics;
    use crate::store::Sync;

    const SITE: SiteId = SiteId(1);

    fn open(folder: &std::path::Path) -> SqliteProfiles {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(folder, Sync::Os, &[MIGRATIONS], metrics).unwrap();
        SqliteProfiles::new(Arc::new(store))
    }

    fn anonymous(value: &str) -> Identity {
        Identity { kind: IdentityKind::Anonymous, value: value.into() }
    }

    fn user(value: &str) -> Identity {
        Identity { kind: IdentityKind::User, value: value.into() }
    }

    fn said(user: Option<&str>, device: &str, traits: serde_json::Value) -> Update {
        let traits = traits.as_object().unwrap().clone();
        Update { user: user.map(str::to_owned), devices: vec![anonymous(device)], traits }
    }

    async fn view(store: &SqliteProfiles, identity: Identity) -> Option<(Option<String>, String)> {
        let view = store.find(SITE, vec![identity]).await.unwrap().remove(0)?;
        Some((view.user_id, serde_json::Value::Object(view.traits).to_string()))
    }

    #[tokio::test]
    async fn an_anonymous_profile_becomes_the_users_and_traits_merge() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let updates = vec![
            said(None, "a", json!({"plan": "free", "town": "Bern"})),
            said(Some("u"), "a", json!({"plan": "pro", "town": null})),
            said(Some("u"), "b", json!({})),
        ];
        let changed = store.apply(SITE, 3, updates).await.unwrap();
        assert!([user("u"), anonymous("a"), anonymous("b")].iter().all(|i| changed.contains(i)));
        let expected = Some((Some("u".to_owned()), r#"{"plan":"pro"}"#.to_owned()));
        for identity in [user("u"), anonymous("a"), anonymous("b")] {
            assert_eq!(view(&store, identity).await, expected);
        }
        assert_eq!(view(&store, anonymous("c")).await, None);
        assert_eq!(store.projected(SITE).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn two_users_of_one_device_stay_two_people() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let updates = vec![
            said(Some("u"), "a", json!({"name": "U"})),
            said(Some("v"), "a", json!({"name": "V"})),
        ];
        store.apply(SITE, 2, updates).await.unwrap();
        assert_eq!(view(&store, user("u")).await.unwrap().1, r#"{"name":"U"}"#);
        assert_eq!(view(&store, user("v")).await.unwrap().1, r#"{"name":"V"}"#);
        assert_eq!(view(&store, anonymous("a")).await.unwrap().0.as_deref(), Some("v"));
    }

    #[tokio::test]
    async fn an_event_that_says_nothing_makes_no_profile() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.apply(SITE, 1, vec![said(None, "a", json!({}))]).await.unwrap();
        assert_eq!(view(&store, anonymous("a")).await, None);
    }
}

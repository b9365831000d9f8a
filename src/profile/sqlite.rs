//! Profiles in the embedded database.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::{
    Changes, Identity, IdentityKind, Limits, ProfileError, ProfileId, ProfileStore, Subject,
    Update, sqlite_subject,
};
use crate::event::{Object, ProfileView};
use crate::journal::{NameKey, SiteId};
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
pub struct SqliteProfiles {
    store: Arc<Store>,
    limits: Limits,
}

impl SqliteProfiles {
    /// Profiles in a store that has [`MIGRATIONS`].
    pub fn new(store: Arc<Store>, limits: Limits) -> Self {
        Self { store, limits }
    }
}

#[async_trait]
impl ProfileStore for SqliteProfiles {
    async fn projected(&self, site: SiteId) -> Result<u64, ProfileError> {
        let seq = self.store.read(move |c| {
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
    ) -> Result<Changes, ProfileError> {
        let limits = self.limits;
        let changes = self.store.write(move |c| {
            let mut batch = Batch { connection: c, site, limits, changes: Changes::default() };
            for update in &updates {
                batch.apply(update)?;
            }
            c.prepare_cached(
                "INSERT INTO projected VALUES (?1, ?2)
                 ON CONFLICT (site) DO UPDATE SET seq = excluded.seq",
            )?
            .execute((site.0, upto))?;
            Ok(batch.changes)
        });
        Ok(changes.await?)
    }

    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
        let found = self.store.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT p.id, p.user_id, p.traits FROM identities i JOIN profiles p ON p.id = i.profile
                 WHERE i.site = ? AND i.kind = ? AND i.value = ?",
            )?;
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

    async fn subjects(&self, site: SiteId, name: String) -> Result<Vec<Subject>, ProfileError> {
        Ok(self.store.read(move |c| sqlite_subject::subjects(c, site, &name)).await?)
    }

    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<NameKey>>,
    ) -> Result<Changes, ProfileError> {
        sqlite_subject::erase(&self.store, site, names).await
    }
}

/// The table is written by this program alone; should a row be damaged, its traits start anew.
pub(super) fn parse(text: &str) -> Object {
    serde_json::from_str(text).unwrap_or_default()
}

/// Some updates in one transaction, and what they changed.
struct Batch<'c> {
    connection: &'c Connection,
    site: SiteId,
    limits: Limits,
    changes: Changes,
}

impl Batch<'_> {
    fn apply(&mut self, update: &Update) -> rusqlite::Result<()> {
        let Some(profile) = self.resolve(update)? else { return Ok(()) };
        if let Some(user) = Identity::of(IdentityKind::User, update.user.as_deref()) {
            self.link(&user, profile)?;
        }
        for device in &update.devices {
            if let Some((other, None)) = self.named(device)?
                && other != profile
            {
                self.absorb(other, profile)?;
            } else {
                self.link(device, profile)?;
            }
        }
        self.merge_traits(profile, &update.traits)
    }

    /// The profile an update is about; made if there is something to keep.
    fn resolve(&mut self, update: &Update) -> rusqlite::Result<Option<ProfileId>> {
        if let Some(user) = Identity::of(IdentityKind::User, update.user.as_deref())
            && let Some((id, _)) = self.named(&user)?
        {
            return Ok(Some(id));
        }
        for device in &update.devices {
            let Some((id, owner)) = self.named(device)? else { continue };
            match (&update.user, owner) {
                (Some(user), None) => {
                    self.connection
                        .prepare_cached("UPDATE profiles SET user_id = ? WHERE id = ?")?
                        .execute((user, id.0))?;
                    self.changes.profiles.insert(id);
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
        self.connection
            .prepare_cached("INSERT INTO profiles (site, user_id) VALUES (?, ?)")?
            .execute((self.site.0, &update.user))?;
        Ok(Some(ProfileId(self.connection.last_insert_rowid())))
    }

    /// The profile that an identity names, and its user id.
    fn named(&self, identity: &Identity) -> rusqlite::Result<Option<(ProfileId, Option<String>)>> {
        self.connection
            .prepare_cached(
                "SELECT p.id, p.user_id FROM identities i JOIN profiles p ON p.id = i.profile
                 WHERE i.site = ? AND i.kind = ? AND i.value = ?",
            )?
            .query_row((self.site.0, identity.kind.name(), &identity.value), |row| {
                Ok((ProfileId(row.get(0)?), row.get(1)?))
            })
            .optional()
    }

    /// Makes the identity name the profile, if that has room for another device. A profile has one
    /// user id, which always finds room.
    fn link(&mut self, identity: &Identity, profile: ProfileId) -> rusqlite::Result<()> {
        if self.named(identity)?.is_some_and(|(named, _)| named == profile) {
            return Ok(());
        }
        if identity.kind != IdentityKind::User && self.room(profile)? == 0 {
            self.changes.identities_refused += 1;
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "INSERT INTO identities VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (site, kind, value) DO UPDATE SET profile = excluded.profile",
            )?
            .execute((self.site.0, identity.kind.name(), &identity.value, profile.0))?;
        self.changes.identities.insert(identity.clone());
        Ok(())
    }

    /// How many more devices the profile may be known by.
    fn room(&self, profile: ProfileId) -> rusqlite::Result<usize> {
        // One more than the limit, for the user id.
        let limit = self.limits.identities + 1;
        let names: usize = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM identities WHERE profile = ? LIMIT ?)",
            )?
            .query_row((profile.0, limit), |row| row.get(0))?;
        Ok(limit - names)
    }

    /// Puts a profile that has no user id into another: its traits beneath the other's own, and its
    /// devices as far as there is room.
    fn absorb(&mut self, from: ProfileId, into: ProfileId) -> rusqlite::Result<()> {
        let (names, room) = (names_of(self.connection, from)?, self.room(into)?);
        self.changes.identities_refused += names.len().saturating_sub(room) as u64;
        self.connection
            .prepare_cached(
                "UPDATE identities SET profile = ?1 WHERE (site, kind, value) IN
                     (SELECT site, kind, value FROM identities WHERE profile = ?2 LIMIT ?3)",
            )?
            .execute((into.0, from.0, room))?;
        self.connection
            .prepare_cached("DELETE FROM identities WHERE profile = ?")?
            .execute([from.0])?;
        let (own, older) = (self.traits(into)?.0, self.traits(from)?.0);
        self.connection.prepare_cached("DELETE FROM profiles WHERE id = ?")?.execute([from.0])?;
        self.changes.identities.extend(names);
        self.changes.profiles.insert(from);
        let older = older.into_iter().filter(|(key, _)| !own.contains_key(key)).collect();
        self.merge_traits(into, &older)
    }

    /// The profile's traits, and their length as text.
    fn traits(&self, profile: ProfileId) -> rusqlite::Result<(Object, usize)> {
        self.connection.prepare_cached("SELECT traits FROM profiles WHERE id = ?")?.query_row(
            [profile.0],
            |row| {
                let text = row.get_ref(0)?.as_str()?;
                Ok((parse(text), text.len()))
            },
        )
    }

    fn merge_traits(&mut self, profile: ProfileId, said: &Object) -> rusqlite::Result<()> {
        if said.is_empty() {
            return Ok(());
        }
        let (mut traits, bytes) = self.traits(profile)?;
        let merged = merge(&mut traits, bytes, said, self.limits.traits_bytes);
        self.changes.traits_refused += merged.refused;
        if !merged.is_changed {
            return Ok(());
        }
        self.changes.profiles.insert(profile);
        self.connection
            .prepare_cached("UPDATE profiles SET traits = ? WHERE id = ?")?
            .execute((serde_json::Value::Object(traits).to_string(), profile.0))
            .map(drop)
    }
}

#[derive(Default)]
struct Merged {
    is_changed: bool,
    refused: u64,
}

/// Merges what was said into traits that are `bytes` long as text. A value that would make them
/// longer than `limit` is refused; what was known stays.
fn merge(traits: &mut Object, mut bytes: usize, said: &Object, limit: usize) -> Merged {
    let mut merged = Merged::default();
    if bytes > limit {
        // Written when the limit was higher.
        let mut kept = "{}".len();
        traits.retain(|key, value| {
            let longer = kept + text_bytes(key, value);
            let fits = longer <= limit;
            if fits {
                kept = longer;
            }
            fits
        });
        (bytes, merged.is_changed) = (kept, true);
    }
    for (key, value) in said {
        let old = traits.get(key);
        let old_bytes = old.map_or(0, |old| text_bytes(key, old));
        if value.is_null() {
            if traits.remove(key).is_some() {
                bytes = bytes.saturating_sub(old_bytes);
                merged.is_changed = true;
            }
        } else if old != Some(value) {
            let grown = bytes.saturating_sub(old_bytes) + text_bytes(key, value);
            if grown > limit {
                merged.refused += 1;
                continue;
            }
            traits.insert(key.clone(), value.clone());
            bytes = grown;
            merged.is_changed = true;
        }
    }
    merged
}

/// The length of one trait as text: key, value and what is around them.
fn text_bytes(key: &str, value: &serde_json::Value) -> usize {
    serde_json::Value::from(key).to_string().len() + ":,".len() + value.to_string().len()
}

pub(super) fn names_of(
    connection: &Connection,
    profile: ProfileId,
) -> rusqlite::Result<Vec<Identity>> {
    let mut statement =
        connection.prepare_cached("SELECT kind, value FROM identities WHERE profile = ?")?;
    let rows = statement.query_map([profile.0], |row| {
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
        SqliteProfiles::new(Arc::new(store), Limits { traits_bytes: 100, identities: 3 })
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
        let (_, view) = store.find(SITE, vec![identity]).await.unwrap().remove(0)?;
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
        let changed = store.apply(SITE, 3, updates).await.unwrap().identities;
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

    #[tokio::test]
    async fn what_was_known_of_a_device_lies_beneath_what_its_user_said() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let updates = vec![
            said(Some("u"), "a", json!({"plan": "pro"})),
            said(None, "b", json!({"plan": "free", "town": "Bern"})),
        ];
        store.apply(SITE, 2, updates).await.unwrap();
        let changes = store.apply(SITE, 3, vec![said(Some("u"), "b", json!({}))]).await.unwrap();
        let expected = Some((Some("u".to_owned()), r#"{"plan":"pro","town":"Bern"}"#.to_owned()));
        for identity in [user("u"), anonymous("a"), anonymous("b")] {
            assert_eq!(view(&store, identity).await, expected);
        }
        assert_eq!(changes.identities, [anonymous("b")].into());
        assert_eq!(changes.profiles.len(), 2, "the one that went and the one it went into");
    }

    #[tokio::test]
    async fn what_changes_nothing_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let update = said(Some("u"), "a", json!({"plan": "pro", "town": null}));
        assert_eq!(store.apply(SITE, 1, vec![update.clone()]).await.unwrap().profiles.len(), 1);
        assert_eq!(store.apply(SITE, 2, vec![update]).await.unwrap(), Changes::default());
        let device = said(Some("u"), "b", json!({}));
        let changes = store.apply(SITE, 3, vec![device]).await.unwrap();
        assert!(changes.profiles.is_empty(), "another device says nothing new of the person");
        assert_eq!(changes.identities, [anonymous("b")].into());
    }

    #[tokio::test]
    async fn a_profile_takes_only_so_many_devices() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let updates = ["a", "b", "c", "d", "a"].map(|device| said(Some("u"), device, json!({})));
        let changes = store.apply(SITE, 5, updates.into()).await.unwrap();
        assert_eq!(changes.identities_refused, 1);
        assert!(view(&store, anonymous("c")).await.is_some());
        assert_eq!(view(&store, anonymous("d")).await, None);
        let other = vec![said(None, "e", json!({"x": 1})), said(Some("u"), "e", json!({}))];
        let changes = store.apply(SITE, 7, other).await.unwrap();
        assert_eq!(view(&store, anonymous("e")).await, None);
        assert_eq!(view(&store, user("u")).await.unwrap().1, r#"{"x":1}"#);
        assert!(changes.identities.contains(&anonymous("e")));
    }

    #[tokio::test]
    async fn a_profile_takes_only_so_many_traits_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let long = "x".repeat(60);
        let updates = vec![
            said(Some("u"), "a", json!({"long": long, "town": "Bern"})),
            said(Some("u"), "a", json!({"other": long})),
            said(Some("u"), "a", json!({"town": "x".repeat(61), "plan": "pro"})),
        ];
        let changes = store.apply(SITE, 3, updates).await.unwrap();
        assert_eq!(changes.traits_refused, 2);
        let (_, traits) = view(&store, user("u")).await.unwrap();
        assert_eq!(traits, json!({"long": long, "town": "Bern", "plan": "pro"}).to_string());
        let shorter = said(Some("u"), "a", json!({"long": null, "other": long}));
        assert_eq!(store.apply(SITE, 4, vec![shorter]).await.unwrap().traits_refused, 0);
    }

    #[test]
    fn traits_never_grow_beyond_the_limit() {
        let mut traits = Object::new();
        for n in 0..1000 {
            let said = json!({ format!("\"k{}", n % 50): "\u{e9}\n".repeat(n % 9) });
            let bytes = serde_json::to_string(&traits).unwrap().len();
            merge(&mut traits, bytes, said.as_object().unwrap(), 300);
            assert!(serde_json::to_string(&traits).unwrap().len() <= 300);
        }
        assert!(traits.len() > 5);
    }
}

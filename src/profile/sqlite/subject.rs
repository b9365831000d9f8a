//! One person's profiles in the embedded database: finding and erasing them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rusqlite::Connection;

use super::super::{Changes, Identity, IdentityKind, ProfileError, ProfileId, Subject};
use super::parse;
use crate::journal::{NameKey, SiteId};
use crate::store::{Store, overwriting};

/// Identities looked at in one step.
const LOOK_ROWS: usize = 5000;

/// The profiles of whoever has this name: an id of any kind, or an e-mail address. An address may as
/// well stand among the traits alone, which means looking at all of them, a second or so per million.
pub(super) fn subjects(
    connection: &Connection,
    site: SiteId,
    name: &str,
) -> rusqlite::Result<Vec<Subject>> {
    let mut named = connection.prepare_cached(
        "SELECT profile FROM identities
         WHERE site = ? AND value = ?",
    )?;
    let mut profiles: BTreeSet<i64> =
        named.query_map((site.0, name), |row| row.get(0))?.collect::<Result<_, _>>()?;
    if let Some(email) = Identity::of_email(name) {
        let found = named.query_map((site.0, email.value), |row| row.get(0))?;
        for profile in found {
            profiles.insert(profile?);
        }
    }
    if name.contains('@') {
        let mut reached = connection.prepare_cached(
            "SELECT id FROM profiles WHERE site = ?1 AND json_valid(traits)
                 AND lower(trim(json_extract(traits, '$.email'))) = ?2",
        )?;
        let email = name.trim().to_lowercase();
        for profile in reached.query_map((site.0, email), |row| row.get(0))? {
            profiles.insert(profile?);
        }
    }
    let mut known =
        connection.prepare_cached("SELECT user_id, traits FROM profiles WHERE id = ?")?;
    let subject = |profile: i64| {
        known.query_row([profile], |row| {
            Ok(Subject {
                user_id: row.get(0)?,
                identities: names_of(connection, ProfileId(profile))?,
                traits: parse(row.get_ref(1)?.as_str()?),
            })
        })
    };
    profiles.into_iter().map(subject).collect()
}

/// Erases the profiles that one of these names is an identity of. Only digests are known, so all
/// identities of the site are looked at, a step at a time.
pub(super) async fn erase(
    store: &Store,
    site: SiteId,
    names: Arc<HashSet<NameKey>>,
) -> Result<Changes, ProfileError> {
    let mut from = Some((String::new(), String::new()));
    let mut profiles: BTreeSet<ProfileId> = BTreeSet::new();
    while let Some(after) = from {
        let names = names.clone();
        let (found, next) = store.read(move |c| look(c, site, &names, &after)).await?;
        profiles.extend(found);
        from = next;
    }
    if profiles.is_empty() {
        return Ok(Changes::default());
    }
    let erased = store.write(move |c| {
        overwriting(c, || {
            let mut changes = Changes::default();
            for profile in profiles {
                changes.identities.extend(names_of(c, profile)?);
                c.prepare_cached("DELETE FROM identities WHERE profile = ?")?
                    .execute([profile.0])?;
                c.prepare_cached("DELETE FROM profiles WHERE id = ?")?.execute([profile.0])?;
                changes.profiles.insert(profile);
            }
            Ok(changes)
        })
    });
    Ok(erased.await?)
}

fn names_of(connection: &Connection, profile: ProfileId) -> rusqlite::Result<Vec<Identity>> {
    let mut statement =
        connection.prepare_cached("SELECT kind, value FROM identities WHERE profile = ?")?;
    let rows = statement.query_map([profile.0], |row| {
        let kind = IdentityKind::from_name(row.get_ref(0)?.as_str()?);
        Ok(kind.map(|kind| (kind, row.get(1))))
    })?;
    let mut names = Vec::new();
    for row in rows {
        if let Some((kind, value)) = row? {
            names.push(Identity { kind, value: value? });
        }
    }
    Ok(names)
}

type Place = (String, String);

/// The profiles that the next identities name, of those that are to go; and where to go on.
fn look(
    connection: &Connection,
    site: SiteId,
    names: &HashSet<NameKey>,
    (kind, value): &Place,
) -> rusqlite::Result<(BTreeSet<ProfileId>, Option<Place>)> {
    let mut next = connection.prepare_cached(
        "SELECT kind, value, profile FROM identities
         WHERE site = ?1 AND (kind, value) > (?2, ?3) ORDER BY kind, value LIMIT ?4",
    )?;
    let mut rows = next.query((site.0, kind, value, LOOK_ROWS))?;
    let (mut found, mut seen, mut last) = (BTreeSet::new(), 0, None);
    while let Some(row) = rows.next()? {
        seen += 1;
        if names.contains(&NameKey::new(site, row.get_ref(1)?.as_str()?)) {
            found.insert(ProfileId(row.get(2)?));
        }
        if seen == LOOK_ROWS {
            last = Some((row.get(0)?, row.get(1)?));
        }
    }
    Ok((found, last))
}

//! Finding and erasing one person's profiles in the embedded database.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::super::page_profile::{OWN_KINDS, PageProfileRow};
use super::super::subject::{SubjectIdentity, addresses};
use super::super::traits::read_ranks;
use super::super::{
    Identity, IdentityKind, PageProfile, ProfileChanges, ProfileError, ProfileId, SubjectProfile,
};
use super::{details, parse};
use crate::journal::{PersonNameDigest, SiteId};
use crate::store::{SqliteStore, overwriting};
use tagway_core::event::SenderRank;
use tagway_core::values::unicode;

/// Identities read in one step.
const LOOK_ROWS: usize = 5000;

/// Finds the profiles of a name: a user id or an e-mail address or, if it is neither, a device's id. A
/// device may have another person's name: then it is not shown with that person. An address among the
/// traits alone finds only profiles without a user id, which means reading all of them, a second or so
/// per million.
pub(super) fn subjects(
    connection: &Connection,
    site: SiteId,
    name: &str,
) -> rusqlite::Result<Vec<SubjectProfile>> {
    let sql = "SELECT profile FROM identities WHERE site = ?1 AND kind = ?2 AND value = ?3";
    let mut named = connection.prepare_cached(sql)?;
    let mut profiles: BTreeSet<i64> = BTreeSet::new();
    for Identity { kind, value } in Identity::candidates_for_name(name) {
        for profile in named.query_map((site.0, kind.name(), value), |row| row.get(0))? {
            profiles.insert(profile?);
        }
    }
    if name.contains('@') {
        let sql =
            "SELECT id FROM profiles WHERE site = ?1 AND user_id IS NULL AND json_valid(traits)
            AND lower(trim(json_extract(traits, '$.email'))) = ?2";
        let mut reached = connection.prepare_cached(sql)?;
        for email in addresses(name) {
            for profile in reached.query_map((site.0, email), |row| row.get(0))? {
                profiles.insert(profile?);
            }
        }
    }
    if profiles.is_empty() {
        let sql = "SELECT profile FROM identities
            WHERE site = ? AND value = ? AND kind NOT IN ('user', 'email')";
        let mut devices = connection.prepare_cached(sql)?;
        for device in unicode::spellings(name.trim()) {
            for profile in devices.query_map((site.0, device), |row| row.get(0))? {
                profiles.insert(profile?);
            }
        }
    }
    let mut known = connection
        .prepare_cached("SELECT user_id, traits, rank, trait_ranks FROM profiles WHERE id = ?")?;
    let subject = |profile: i64| {
        known.query_row([profile], |row| {
            Ok(SubjectProfile {
                user_id: row.get(0)?,
                rank: SenderRank::from_number(row.get(2)?),
                identities: links_of(connection, ProfileId(profile))?,
                traits: parse(row.get_ref(1)?.as_str()?),
                trait_ranks: read_ranks(row.get_ref(3)?.as_str()?),
                computed: details::computed(connection, ProfileId(profile))?.unwrap_or_default(),
                activity: details::activity(connection, ProfileId(profile))?,
            })
        })
    };
    profiles.into_iter().map(subject).collect()
}

/// Finds the part of a profile that the page of the browser with this cookie id may know.
pub(super) fn load_page_profile(
    connection: &Connection,
    site: SiteId,
    id: &str,
) -> rusqlite::Result<Option<PageProfile>> {
    let sql = "SELECT p.id, i.rank, p.user_id, coalesce(u.rank, 0), p.is_shared, EXISTS (
            SELECT 1 FROM identities o WHERE o.profile = p.id
                AND NOT (o.kind IN (?3, ?4) AND o.value = ?2)), p.traits, p.trait_ranks
        FROM identities i JOIN profiles p ON p.id = i.profile
        LEFT JOIN identities u ON u.site = p.site AND u.kind = 'user' AND u.value = p.user_id
            AND u.profile = p.id
        WHERE i.site = ?1 AND i.kind = ?3 AND i.value = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let [visitor, anonymous] = OWN_KINDS;
    let row = statement
        .query_row((site.0, id, visitor, anonymous), |row| {
            Ok(PageProfileRow {
                profile: ProfileId(row.get(0)?),
                rank: SenderRank::from_number(row.get(1)?),
                user_id: row.get(2)?,
                user_rank: SenderRank::from_number(row.get(3)?),
                is_shared: row.get(4)?,
                has_others: row.get(5)?,
                traits: parse(row.get_ref(6)?.as_str()?),
                ranks: read_ranks(row.get_ref(7)?.as_str()?),
            })
        })
        .optional()?;
    Ok(row.and_then(PageProfileRow::into_page_profile))
}

/// Erases the profiles that one of these names is an identity of, except those of users who are not
/// among the names. Only digests are known, so all identities of the site are read, a step at a time.
pub(super) async fn erase(
    store: &SqliteStore,
    site: SiteId,
    names: Arc<HashSet<PersonNameDigest>>,
) -> Result<ProfileChanges, ProfileError> {
    let mut from = Some((String::new(), String::new()));
    let mut profiles: BTreeSet<ProfileId> = BTreeSet::new();
    while let Some(after) = from {
        let names = names.clone();
        let (found, next) = store.read(move |c| look(c, site, &names, &after)).await?;
        profiles.extend(found);
        from = next;
    }
    if profiles.is_empty() {
        return Ok(ProfileChanges::default());
    }
    let erased = store.write(move |c| {
        overwriting(c, || {
            let mut changes = ProfileChanges::default();
            for profile in profiles {
                details::remove(c, profile, &mut changes)?;
            }
            Ok(changes)
        })
    });
    Ok(erased.await?)
}

/// Reads the names of a profile, each with the rank with which it is linked.
pub(super) fn links_of(
    connection: &Connection,
    profile: ProfileId,
) -> rusqlite::Result<Vec<(Identity, SenderRank)>> {
    let mut statement =
        connection.prepare_cached("SELECT kind, value, rank FROM identities WHERE profile = ?")?;
    let rows = statement.query_map([profile.0], |row| {
        let kind = IdentityKind::from_name(row.get_ref(0)?.as_str()?);
        let rank = SenderRank::from_number(row.get(2)?);
        Ok(kind.map(|kind| (kind, row.get(1), rank)))
    })?;
    let mut names = Vec::new();
    for row in rows {
        if let Some((kind, value, rank)) = row? {
            names.push((Identity { kind, value: value? }, rank));
        }
    }
    Ok(names)
}

type IdentityPosition = (String, String);

/// Reads the next identities. Returns the profiles to erase among those they name, and the position of the next step.
fn look(
    connection: &Connection,
    site: SiteId,
    names: &HashSet<PersonNameDigest>,
    (kind, value): &IdentityPosition,
) -> rusqlite::Result<(BTreeSet<ProfileId>, Option<IdentityPosition>)> {
    let sql = "SELECT i.kind, i.value, i.profile, p.user_id IS NOT NULL,
            CASE WHEN p.user_id IS NULL AND json_valid(p.traits)
                AND json_type(p.traits, '$.email') = 'text'
            THEN json_extract(p.traits, '$.email') END
        FROM identities i JOIN profiles p ON p.id = i.profile
        WHERE i.site = ?1 AND (i.kind, i.value) > (?2, ?3) ORDER BY i.kind, i.value LIMIT ?4";
    let mut next = connection.prepare_cached(sql)?;
    let mut rows = next.query((site.0, kind, value, LOOK_ROWS))?;
    let (mut found, mut seen, mut last) = (BTreeSet::new(), 0, None);
    while let Some(row) = rows.next()? {
        seen += 1;
        let identity = SubjectIdentity {
            kind: row.get_ref(0)?.as_str()?,
            value: row.get_ref(1)?.as_str()?,
            is_known: row.get(3)?,
            email_trait: row.get_ref(4)?.as_str_or_null()?,
        };
        if identity.is_among(names, site) {
            found.insert(ProfileId(row.get(2)?));
        }
        if seen == LOOK_ROWS {
            last = Some((row.get(0)?, row.get(1)?));
        }
    }
    Ok((found, last))
}

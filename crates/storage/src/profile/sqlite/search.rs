//! The search for profiles in the embedded database.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::super::search::{
    ProfileNames, SearchMatch, SearchRange, behind, first_match, page_of, rows_for,
};
use super::super::{FoundProfile, ProfileId, ProfilePage, ProfileSearch, SearchPosition};
use super::{parse, subject};
use crate::journal::SiteId;

/// Searches profiles.
pub(super) fn search(
    connection: &Connection,
    site: SiteId,
    search: &ProfileSearch,
) -> rusqlite::Result<ProfilePage> {
    let (ids, next) = match &search.text {
        Some(text) => by_name(connection, site, text, search)?,
        None => newest(connection, site, search)?,
    };
    let mut profiles = Vec::with_capacity(ids.len());
    for id in ids {
        profiles.extend(load(connection, id)?);
    }
    Ok(ProfilePage { profiles, next })
}

/// Lists all profiles, the newest first.
fn newest(
    connection: &Connection,
    site: SiteId,
    search: &ProfileSearch,
) -> rusqlite::Result<(Vec<ProfileId>, Option<SearchPosition>)> {
    let before = search.after.as_ref().map_or(i64::MAX, |after| after.profile.0);
    let sql = "SELECT id FROM profiles WHERE site = ? AND id < ? ORDER BY id DESC LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let bounds = (site.0, before, search.limit + 1);
    let rows = statement.query_map(bounds, |row| Ok(ProfileId(row.get(0)?)))?;
    let mut ids = rows.collect::<rusqlite::Result<Vec<ProfileId>>>()?;
    let has_more = ids.len() > search.limit;
    ids.truncate(search.limit);
    let next = ids.last().filter(|_| has_more).copied();
    Ok((ids, next.map(|profile| SearchPosition { kind: String::new(), profile })))
}

fn by_name(
    connection: &Connection,
    site: SiteId,
    text: &str,
    search: &ProfileSearch,
) -> rusqlite::Result<(Vec<ProfileId>, Option<SearchPosition>)> {
    let ranges = SearchRange::all_of(text, kinds(connection, site)?);
    let last = match &search.after {
        Some(after) => names_of(connection, after.profile)?,
        None => Vec::new(),
    };
    let wanted = rows_for(search.limit);
    let sql = "SELECT value, profile FROM identities
        WHERE site = ?1 AND kind = ?2 AND value >= ?3 AND value < ?4 ORDER BY value LIMIT ?5";
    let mut statement = connection.prepare_cached(sql)?;
    let (mut matches, mut names) = (Vec::new(), ProfileNames::new());
    for range in behind(&ranges, first_match(&last, &ranges)) {
        let room = wanted.saturating_sub(matches.len());
        let mut rows = statement.query((site.0, &range.kind, &range.from, &range.to, room))?;
        while let Some(row) = rows.next()? {
            let profile = ProfileId(row.get(1)?);
            matches.push(SearchMatch { kind: range.kind.clone(), value: row.get(0)?, profile });
            names.insert(profile, names_of(connection, profile)?);
        }
    }
    Ok(page_of(&matches, &names, &ranges, search.limit))
}

/// Returns the kinds of the site's names: one step through the index for each.
fn kinds(connection: &Connection, site: SiteId) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT min(kind) FROM identities WHERE site = ?1 AND kind > ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let (mut kinds, mut after) = (BTreeSet::new(), String::new());
    while let Some(kind) =
        statement.query_row((site.0, &after), |row| row.get::<_, Option<String>>(0))?
    {
        after.clone_from(&kind);
        kinds.insert(kind);
    }
    Ok(kinds)
}

fn names_of(
    connection: &Connection,
    profile: ProfileId,
) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT kind, value FROM identities WHERE profile = ?";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([profile.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn load(connection: &Connection, id: ProfileId) -> rusqlite::Result<Option<FoundProfile>> {
    let sql = "SELECT user_id, traits, last_seen,
            (SELECT coalesce(sum(count), 0) FROM activity a WHERE a.profile = p.id)
        FROM profiles p WHERE id = ?";
    let identities = subject::links_of(connection, id)?.into_iter().map(|(it, _)| it).collect();
    connection
        .prepare_cached(sql)?
        .query_row([id.0], |row| {
            Ok(FoundProfile {
                profile: id,
                user_id: row.get(0)?,
                traits: parse(row.get_ref(1)?.as_str()?),
                identities,
                last_seen: row.get(2)?,
                events: row.get(3)?,
            })
        })
        .optional()
}

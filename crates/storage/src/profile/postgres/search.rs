//! The search for profiles in the shared database, as `sqlite/search.rs` describes.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::GenericClient;

use super::super::search::{
    ProfileNames, SearchMatch, SearchRange, behind, first_match, page_of, rows_for,
};
use super::super::{
    FoundProfile, Identity, IdentityKind, ProfileId, ProfilePage, ProfileSearch, SearchPosition,
};
use super::text::{object, optional, text};
use crate::postgres::{PostgresError, encoded};

/// Searches profiles.
pub(super) async fn search(
    client: &impl GenericClient,
    site: i64,
    search: &ProfileSearch,
) -> Result<ProfilePage, PostgresError> {
    let (ids, next) = match &search.text {
        Some(text) => by_name(client, site, text, search).await?,
        None => newest(client, site, search).await?,
    };
    Ok(ProfilePage { profiles: load(client, &ids).await?, next })
}

async fn newest(
    client: &impl GenericClient,
    site: i64,
    search: &ProfileSearch,
) -> Result<(Vec<ProfileId>, Option<SearchPosition>), PostgresError> {
    let before = search.after.as_ref().map_or(i64::MAX, |after| after.profile.0);
    let limit = i64::try_from(search.limit + 1).unwrap_or(i64::MAX);
    let sql = "SELECT id FROM profiles WHERE site = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    let statement = client.prepare_cached(sql).await?;
    let mut ids = Vec::new();
    for row in client.query(&statement, &[&site, &before, &limit]).await? {
        ids.push(ProfileId(row.try_get(0)?));
    }
    let has_more = ids.len() > search.limit;
    ids.truncate(search.limit);
    let next = ids.last().filter(|_| has_more).copied();
    Ok((ids, next.map(|profile| SearchPosition { kind: String::new(), profile })))
}

async fn by_name(
    client: &impl GenericClient,
    site: i64,
    text: &str,
    search: &ProfileSearch,
) -> Result<(Vec<ProfileId>, Option<SearchPosition>), PostgresError> {
    let ranges = SearchRange::all_of(text, kinds(client, site).await?);
    let last = match &search.after {
        Some(after) => names_of(client, &[after.profile]).await?.remove(&after.profile),
        None => None,
    };
    let last = last.unwrap_or_default();
    let wanted = rows_for(search.limit);
    let sql = "SELECT value, profile FROM identities
        WHERE site = $1 AND kind = $2 AND value >= $3 AND value < $4 ORDER BY value LIMIT $5";
    let statement = client.prepare_cached(sql).await?;
    let mut matches: Vec<SearchMatch> = Vec::new();
    for range in behind(&ranges, first_match(&last, &ranges)) {
        let room = i64::try_from(wanted.saturating_sub(matches.len())).unwrap_or(i64::MAX);
        let (from, to) = (encoded(&range.from), encoded(&range.to));
        for row in client.query(&statement, &[&site, &range.kind, &from, &to, &room]).await? {
            let (kind, value) = (range.kind.clone(), self::text(&row, 0)?);
            matches.push(SearchMatch { kind, value, profile: ProfileId(row.try_get(1)?) });
        }
    }
    let found: BTreeSet<ProfileId> = matches.iter().map(|it| it.profile).collect();
    let names = names_of(client, &found.into_iter().collect::<Vec<_>>()).await?;
    Ok(page_of(&matches, &names, &ranges, search.limit))
}

/// Returns the kinds of the site's names: one step through the index for each.
async fn kinds(client: &impl GenericClient, site: i64) -> Result<BTreeSet<String>, PostgresError> {
    let sql = "SELECT min(kind) FROM identities WHERE site = $1 AND kind > $2";
    let statement = client.prepare_cached(sql).await?;
    let (mut kinds, mut after) = (BTreeSet::new(), String::new());
    loop {
        let row = client.query_one(&statement, &[&site, &after]).await?;
        let Some(kind) = row.try_get::<_, Option<String>>(0)? else { return Ok(kinds) };
        after.clone_from(&kind);
        kinds.insert(kind);
    }
}

async fn names_of(
    client: &impl GenericClient,
    profiles: &[ProfileId],
) -> Result<ProfileNames, PostgresError> {
    let ids: Vec<i64> = profiles.iter().map(|it| it.0).collect();
    let sql = "SELECT profile, kind, value FROM identities WHERE profile = ANY($1)";
    let statement = client.prepare_cached(sql).await?;
    let mut names = ProfileNames::new();
    for row in client.query(&statement, &[&ids]).await? {
        let name = (row.try_get(1)?, text(&row, 2)?);
        names.entry(ProfileId(row.try_get(0)?)).or_default().push(name);
    }
    Ok(names)
}

/// Loads these profiles, in their order.
async fn load(
    client: &impl GenericClient,
    profiles: &[ProfileId],
) -> Result<Vec<FoundProfile>, PostgresError> {
    let mut names = names_of(client, profiles).await?;
    let ids: Vec<i64> = profiles.iter().map(|it| it.0).collect();
    let sql = "SELECT id, user_id, traits, last_seen,
            (SELECT coalesce(sum(count), 0)::bigint FROM activity a WHERE a.profile = p.id)
        FROM profiles p WHERE id = ANY($1)";
    let statement = client.prepare_cached(sql).await?;
    let mut loaded = BTreeMap::new();
    for row in client.query(&statement, &[&ids]).await? {
        let profile = ProfileId(row.try_get(0)?);
        let identity = |(kind, value): (String, String)| {
            IdentityKind::from_name(&kind).map(|kind| Identity { kind, value })
        };
        let own = names.remove(&profile).unwrap_or_default();
        let found = FoundProfile {
            profile,
            user_id: optional(&row, 1)?,
            traits: object(&row, 2)?,
            identities: own.into_iter().filter_map(identity).collect(),
            last_seen: row.try_get(3)?,
            events: u64::try_from(row.try_get::<_, i64>(4)?).unwrap_or(0),
        };
        loaded.insert(profile, found);
    }
    Ok(profiles.iter().filter_map(|id| loaded.remove(id)).collect())
}

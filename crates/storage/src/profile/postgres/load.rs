//! Reads the rows that a batch may need: the identities of its updates, the profiles these belong to,
//! and all other names of these profiles.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::super::details::ProfileDetails;
use super::super::rows::{EventNameRank, ProfileRow};
use super::super::{Identity, ProfileUpdate};
use super::buffered_rows::{BufferedProfile, IdentityRow, PostgresProfileRows};
use super::text::{object, optional, rank, text};
use crate::postgres::{PostgresError, encoded};

/// The columns of [`details`], in its order.
pub(super) const DETAILS: &str = "touches, device, place, consent, group_id, stated";

/// Reads the rows for these updates, and the events that all of a batch count as.
pub(super) async fn load(
    transaction: &Transaction<'_>,
    site: i64,
    looked_up: &[&ProfileUpdate],
    all: &[ProfileUpdate],
) -> Result<PostgresProfileRows, PostgresError> {
    let mut set = PostgresProfileRows::default();
    let named: BTreeSet<&Identity> = looked_up.iter().flat_map(|it| identities(it)).collect();
    let kinds: Vec<String> = named.iter().map(|it| it.kind.name().into_owned()).collect();
    let values: Vec<_> = named.iter().map(|it| encoded(&it.value)).collect();
    let sql = "SELECT DISTINCT i.profile FROM unnest($2::text[], $3::text[]) AS w (kind, value)
        JOIN identities i ON i.site = $1 AND i.kind = w.kind AND i.value = w.value";
    let find = transaction.prepare_cached(sql).await?;
    let found = transaction.query(&find, &[&site, &kinds, &values]).await?;
    let profiles = found.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    for identity in named {
        let key = (identity.kind.name().into_owned(), identity.value.clone());
        set.names.insert(key, None);
    }
    let (people, names, ()) = tokio::try_join!(
        people(transaction, &profiles),
        names(transaction, &profiles),
        events(transaction, site, all, &mut set.events, &mut set.events_counted),
    )?;
    set.people = people;
    for (key, name) in names {
        if let Some(kept) = set.people.get_mut(&name.profile) {
            kept.names.insert(key.clone());
            set.names.insert(key, Some(name));
        }
    }
    let wanted = new_people(&set, looked_up);
    more_numbers(transaction, &mut set, wanted).await?;
    Ok(set)
}

/// Fetches numbers until there are `count` for new profiles.
pub(super) async fn more_numbers(
    transaction: &Transaction<'_>,
    set: &mut PostgresProfileRows,
    count: usize,
) -> Result<(), PostgresError> {
    let wanted = i64::try_from(count.saturating_sub(set.numbers.len())).unwrap_or(i64::MAX);
    if wanted <= 0 {
        return Ok(());
    }
    let number = transaction
        .prepare_cached("SELECT nextval('profile_numbers') FROM generate_series(1, $1::bigint)")
        .await?;
    for row in transaction.query(&number, &[&wanted]).await? {
        set.numbers.push_back(row.try_get(0)?);
    }
    Ok(())
}

pub(super) fn identities(update: &ProfileUpdate) -> impl Iterator<Item = &Identity> {
    let ProfileUpdate { user, previous, email, devices, .. } = update;
    let devices = devices.iter().map(|device| &device.identity);
    user.iter().chain(previous).chain(email).chain(devices)
}

/// Estimates how many profiles will be created: one for each update whose identities are all unknown
/// and new in the batch. Too few is noticed; too many would leave gaps.
fn new_people(set: &PostgresProfileRows, updates: &[&ProfileUpdate]) -> usize {
    let mut met: BTreeSet<&Identity> = BTreeSet::new();
    let mut count = 0;
    for update in updates {
        let is_placeholder = |identity: &&Identity| {
            let key = (identity.kind.name().into_owned(), identity.value.clone());
            set.names.get(&key).is_none_or(Option::is_none)
        };
        let all: Vec<_> = identities(update).collect();
        let is_new = !all.is_empty()
            && all.iter().all(is_placeholder)
            && !all.iter().any(|identity| met.contains(identity));
        count += usize::from(is_new);
        met.extend(all);
    }
    count
}

async fn people(
    transaction: &Transaction<'_>,
    profiles: &[i64],
) -> Result<HashMap<i64, BufferedProfile>, PostgresError> {
    let query = format!(
        "SELECT {DETAILS}, id, user_id, named_at, first_seen, last_seen, traits, trait_times,
             EXISTS (SELECT 1 FROM activity a WHERE a.profile = p.id), rank, is_shared, trait_ranks
         FROM profiles p WHERE id = ANY($1)"
    );
    let statement = transaction.prepare_cached(&query).await?;
    let rows = transaction.query(&statement, &[&profiles]).await?;
    let kept = |row: &Row| {
        let kept = BufferedProfile {
            person: ProfileRow {
                user_id: optional(row, 7)?,
                named_at: row.try_get(8)?,
                first_seen: row.try_get(9)?,
                last_seen: row.try_get(10)?,
                rank: rank(row, 14)?,
                is_shared: row.try_get(15)?,
            },
            traits: row.try_get(11)?,
            trait_times: row.try_get(12)?,
            trait_ranks: row.try_get(16)?,
            details: details(row)?,
            names: BTreeSet::new(),
            has_activity: row.try_get(13)?,
        };
        Ok((row.try_get(6)?, kept))
    };
    rows.iter().map(kept).collect()
}

async fn names(
    transaction: &Transaction<'_>,
    profiles: &[i64],
) -> Result<Vec<((String, String), IdentityRow)>, PostgresError> {
    let sql = "SELECT kind, value, profile, since, claimed, seen, client, rank FROM identities
        WHERE profile = ANY($1)";
    let statement = transaction.prepare_cached(sql).await?;
    let rows = transaction.query(&statement, &[&profiles]).await?;
    let name = |row: &Row| {
        let name = IdentityRow {
            profile: row.try_get(2)?,
            since: row.try_get(3)?,
            claimed: row.try_get(4)?,
            seen: row.try_get(5)?,
            client: optional(row, 6)?,
            rank: rank(row, 7)?,
        };
        Ok(((row.try_get(0)?, text(row, 1)?), name))
    };
    rows.iter().map(name).collect()
}

async fn events(
    transaction: &Transaction<'_>,
    site: i64,
    updates: &[ProfileUpdate],
    events: &mut HashMap<String, Option<(i64, EventNameRank)>>,
    counted: &mut BTreeMap<i64, usize>,
) -> Result<(), PostgresError> {
    for seen in updates.iter().filter_map(|update| update.activity.as_ref()) {
        for name in std::iter::once(&seen.name).chain(&seen.counters) {
            if !events.contains_key(name) {
                events.insert(name.clone(), None);
            }
        }
    }
    if events.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = events.keys().map(|name| encoded(name).into_owned()).collect();
    let sql = "SELECT name, id, rank::bigint FROM event_names WHERE site = $1 AND name = ANY($2)";
    let known = transaction.prepare_cached(sql).await?;
    for row in transaction.query(&known, &[&site, &wanted]).await? {
        let rank = EventNameRank::from_number(row.try_get(2)?);
        events.insert(text(&row, 0)?, Some((row.try_get(1)?, rank)));
    }
    // Others may come to be counted, or to be counted for a better reason.
    let is_settled = |known: &Option<(i64, EventNameRank)>| {
        known.is_some_and(|(_, rank)| rank == EventNameRank::Reserved)
    };
    if !events.values().all(is_settled) {
        let sql = "SELECT rank::bigint, count(*) FROM event_names WHERE site = $1 GROUP BY rank";
        let all = transaction.prepare_cached(sql).await?;
        for row in transaction.query(&all, &[&site]).await? {
            let count = usize::try_from(row.try_get::<_, i64>(1)?).unwrap_or(usize::MAX);
            counted.insert(row.try_get(0)?, count);
        }
    }
    Ok(())
}

/// Builds the details from the first columns of a row.
pub(super) fn details(row: &Row) -> Result<ProfileDetails, PostgresError> {
    Ok(ProfileDetails {
        touches: object(row, 0)?,
        device: object(row, 1)?,
        place: object(row, 2)?,
        consent: object(row, 3)?,
        group: optional(row, 4)?,
        stated: object(row, 5)?,
    })
}

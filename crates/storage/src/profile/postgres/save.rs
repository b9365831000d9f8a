//! Writes the changes of a batch, one statement per table.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::super::rows::{EventNameRank, PendingTallies};
use super::buffered_rows::{BufferedProfile, PendingRowWrites, PostgresProfileRows};
use super::text::text;
use crate::postgres::{PostgresError, encoded, searchable};
use tagway_core::event::JsonObject;

/// Writes all changes of a batch.
pub(super) async fn save(
    transaction: &Transaction<'_>,
    site: i64,
    set: PostgresProfileRows,
) -> Result<(), PostgresError> {
    let PostgresProfileRows { people, names, changes, .. } = set;
    let PendingRowWrites {
        people: changed,
        removed,
        names: changed_names,
        events,
        raised,
        moves,
        counted,
    } = changes;
    if !removed.is_empty() {
        let removed: Vec<i64> = removed.into_iter().collect();
        let statement =
            transaction.prepare_cached("DELETE FROM profiles WHERE id = ANY($1)").await?;
        transaction.execute(&statement, &[&removed]).await?;
    }
    let changed: Vec<(i64, &BufferedProfile)> =
        changed.iter().filter_map(|id| Some((*id, people.get(id)?))).collect();
    save_people(transaction, site, &changed).await?;
    let (mut bound, mut unbound) = (IdentityColumns::default(), (Vec::new(), Vec::new()));
    for key in &changed_names {
        match names.get(key) {
            Some(Some(name)) => bound.push(key, name),
            _ => {
                unbound.0.push(key.0.as_str());
                unbound.1.push(encoded(&key.1).into_owned());
            }
        }
    }
    if !unbound.0.is_empty() {
        let sql = "DELETE FROM identities i USING unnest($2::text[], $3::text[]) AS w (kind, value)
            WHERE i.site = $1 AND i.kind = w.kind AND i.value = w.value";
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[&site, &unbound.0, &unbound.1]).await?;
    }
    bound.save(transaction, site).await?;
    move_activity(transaction, &moves).await?;
    let numbers = add_events(transaction, site, &events).await?;
    raise_events(transaction, site, &raised).await?;
    count(transaction, &counted, &numbers).await
}

/// Inserts or updates profiles; one array per column.
const SAVE: &str =
    "INSERT INTO profiles (site, id, user_id, named_at, first_seen, last_seen, traits,
         trait_times, touches, device, place, consent, group_id, stated, traits_json,
         touches_json, device_json, place_json, consent_json, rank, is_shared, trait_ranks)
     SELECT $1, id, user_id, named_at, first_seen, last_seen, traits, trait_times, touches,
         device, place, consent, group_id, stated, traits_json::jsonb,
         touches_json::jsonb, device_json::jsonb, place_json::jsonb, consent_json::jsonb,
         rank, is_shared, trait_ranks
     FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
         $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
         $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
         $19::text[], $20::smallint[], $21::boolean[], $22::text[])
         AS w (id, user_id, named_at, first_seen, last_seen, traits, trait_times, touches,
             device, place, consent, group_id, stated, traits_json, touches_json,
             device_json, place_json, consent_json, rank, is_shared, trait_ranks)
     ON CONFLICT (id) DO UPDATE SET
         user_id = excluded.user_id, named_at = excluded.named_at,
         first_seen = excluded.first_seen, last_seen = excluded.last_seen,
         traits = excluded.traits, trait_times = excluded.trait_times,
         touches = excluded.touches, device = excluded.device, place = excluded.place,
         consent = excluded.consent, group_id = excluded.group_id,
         stated = excluded.stated, traits_json = excluded.traits_json,
         touches_json = excluded.touches_json, device_json = excluded.device_json,
         place_json = excluded.place_json, consent_json = excluded.consent_json,
         rank = excluded.rank, is_shared = excluded.is_shared, trait_ranks = excluded.trait_ranks";

async fn save_people(
    transaction: &Transaction<'_>,
    site: i64,
    people: &[(i64, &BufferedProfile)],
) -> Result<(), PostgresError> {
    if people.is_empty() {
        return Ok(());
    }
    let each = |of: fn(&BufferedProfile) -> String| -> Vec<String> {
        people.iter().map(|(_, kept)| of(kept)).collect()
    };
    let written =
        |object: &JsonObject| serde_json::to_string(object).unwrap_or_else(|_| "{}".into());
    let ids: Vec<i64> = people.iter().map(|(id, _)| *id).collect();
    let users: Vec<_> =
        people.iter().map(|(_, it)| it.person.user_id.as_deref().map(encoded)).collect();
    let named: Vec<_> = people.iter().map(|(_, it)| it.person.named_at).collect();
    let first: Vec<_> = people.iter().map(|(_, it)| it.person.first_seen).collect();
    let last: Vec<_> = people.iter().map(|(_, it)| it.person.last_seen).collect();
    let traits: Vec<_> = people.iter().map(|(_, it)| it.traits.as_str()).collect();
    let times: Vec<_> = people.iter().map(|(_, it)| it.trait_times.as_str()).collect();
    let part = |of: fn(&BufferedProfile) -> &JsonObject| -> Vec<String> {
        people.iter().map(|(_, it)| written(of(it))).collect()
    };
    let touches = part(|it| &it.details.touches);
    let device = part(|it| &it.details.device);
    let place = part(|it| &it.details.place);
    let consent = part(|it| &it.details.consent);
    let stated = part(|it| &it.details.stated);
    let groups: Vec<_> =
        people.iter().map(|(_, it)| it.details.group.as_deref().map(encoded)).collect();
    let traits_json = each(|it| searchable(&serde_json::from_str(&it.traits).unwrap_or_default()));
    let touches_json = each(|it| searchable(&it.details.touches));
    let device_json = each(|it| searchable(&it.details.device));
    let place_json = each(|it| searchable(&it.details.place));
    let consent_json = each(|it| searchable(&it.details.consent));
    let ranks: Vec<_> = people.iter().map(|(_, it)| i16::from(it.person.rank.number())).collect();
    let shared: Vec<_> = people.iter().map(|(_, it)| it.person.is_shared).collect();
    let trait_ranks: Vec<_> = people.iter().map(|(_, it)| it.trait_ranks.as_str()).collect();
    let statement = transaction.prepare_cached(SAVE).await?;
    let parameters: [&(dyn ToSql + Sync); 22] = [
        &site,
        &ids,
        &users,
        &named,
        &first,
        &last,
        &traits,
        &times,
        &touches,
        &device,
        &place,
        &consent,
        &groups,
        &stated,
        &traits_json,
        &touches_json,
        &device_json,
        &place_json,
        &consent_json,
        &ranks,
        &shared,
        &trait_ranks,
    ];
    transaction.execute(&statement, &parameters).await?;
    Ok(())
}

/// Rows of identities, as one array per column.
#[derive(Default)]
struct IdentityColumns<'n> {
    kinds: Vec<&'n str>,
    values: Vec<String>,
    profiles: Vec<i64>,
    since: Vec<i64>,
    claimed: Vec<i64>,
    seen: Vec<i64>,
    clients: Vec<Option<String>>,
    ranks: Vec<i16>,
}

impl<'n> IdentityColumns<'n> {
    fn push(
        &mut self,
        (kind, value): &'n super::buffered_rows::IdentityKey,
        name: &super::buffered_rows::IdentityRow,
    ) {
        self.kinds.push(kind);
        self.values.push(encoded(value).into_owned());
        self.profiles.push(name.profile);
        self.since.push(name.since);
        self.claimed.push(name.claimed);
        self.seen.push(name.seen);
        self.clients.push(name.client.as_deref().map(|client| encoded(client).into_owned()));
        self.ranks.push(name.rank.number().into());
    }

    async fn save(&self, transaction: &Transaction<'_>, site: i64) -> Result<(), PostgresError> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO identities
                (site, kind, value, profile, since, claimed, seen, client, rank)
            SELECT $1, w.* FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::bigint[], $8::text[], $9::smallint[]) AS w
            ON CONFLICT (site, kind, value) DO UPDATE SET
                profile = excluded.profile, since = excluded.since,
                claimed = excluded.claimed, seen = excluded.seen, client = excluded.client,
                rank = excluded.rank";
        let statement = transaction.prepare_cached(sql).await?;
        let Self { kinds, values, profiles, since, claimed, seen, clients, ranks } = self;
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&site, kinds, values, profiles, since, claimed, seen, clients, ranks];
        transaction.execute(&statement, &parameters).await?;
        Ok(())
    }
}

/// Moves activity of merged profiles to the profile that the chain of merges ends at.
async fn move_activity(
    transaction: &Transaction<'_>,
    moves: &[(i64, i64)],
) -> Result<(), PostgresError> {
    if moves.is_empty() {
        return Ok(());
    }
    let next: HashMap<i64, i64> = moves.iter().copied().collect();
    let end = |mut profile: i64| {
        // A profile is merged once at most, and never into a removed one.
        while let Some(into) = next.get(&profile) {
            profile = *into;
        }
        profile
    };
    let (from, into): (Vec<i64>, Vec<i64>) =
        moves.iter().map(|(from, into)| (*from, end(*into))).unzip();
    let sql = "WITH moved AS (
            DELETE FROM activity a USING unnest($1::bigint[], $2::bigint[]) AS w (gone, into_id)
            WHERE a.profile = w.gone
            RETURNING w.into_id, a.event, a.day, a.count, a.first, a.last, a.sum)
        INSERT INTO activity AS known (profile, event, day, count, first, last, sum)
        SELECT into_id, event, day, sum(count)::bigint, min(first), max(last), sum(sum)
        FROM moved GROUP BY into_id, event, day
        ON CONFLICT (profile, event, day) DO UPDATE SET
            count = known.count + excluded.count, first = least(known.first, excluded.first),
            last = greatest(known.last, excluded.last), sum = known.sum + excluded.sum";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&from, &into]).await?;
    Ok(())
}

/// Inserts new names. Returns their numbers, by the negative number that each had.
async fn add_events(
    transaction: &Transaction<'_>,
    site: i64,
    events: &[(String, EventNameRank)],
) -> Result<HashMap<i64, i64>, PostgresError> {
    let mut numbers = HashMap::new();
    if events.is_empty() {
        return Ok(numbers);
    }
    let kept: Vec<_> = events.iter().map(|(name, _)| encoded(name)).collect();
    let ranks: Vec<_> = events.iter().map(|(_, rank)| rank.number()).collect();
    let sql = "INSERT INTO event_names (site, name, rank)
        SELECT $1, w.name, w.rank FROM unnest($2::text[], $3::bigint[]) AS w (name, rank)
        RETURNING name, id";
    let statement = transaction.prepare_cached(sql).await?;
    let mut by_name: HashMap<String, i64> = HashMap::new();
    for row in transaction.query(&statement, &[&site, &kept, &ranks]).await? {
        by_name.insert(text(&row, 0)?, row.try_get(1)?);
    }
    for ((name, _), place) in events.iter().zip(1_i64..) {
        numbers.insert(-place, *by_name.get(name).ok_or(PostgresError::Incomplete)?);
    }
    Ok(numbers)
}

/// Records that names are counted for a better reason.
async fn raise_events(
    transaction: &Transaction<'_>,
    site: i64,
    raised: &BTreeMap<String, EventNameRank>,
) -> Result<(), PostgresError> {
    if raised.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = raised.keys().map(|name| encoded(name)).collect();
    let ranks: Vec<_> = raised.values().map(|rank| rank.number()).collect();
    let sql = "UPDATE event_names n SET rank = greatest(n.rank, w.rank)
        FROM unnest($2::text[], $3::bigint[]) AS w (name, rank)
        WHERE n.site = $1 AND n.name = w.name";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&site, &names, &ranks]).await?;
    Ok(())
}

async fn count(
    transaction: &Transaction<'_>,
    counted: &PendingTallies,
    numbers: &HashMap<i64, i64>,
) -> Result<(), PostgresError> {
    if counted.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&(super::super::ProfileId, i64, i64)) -> i64| -> Vec<i64> {
        counted.keys().map(of).collect()
    };
    let (profiles, days) = (column(|key| key.0.0), column(|key| key.2));
    let events: Vec<i64> =
        counted.keys().map(|(_, event, _)| numbers.get(event).copied().unwrap_or(*event)).collect();
    let counts: Vec<i64> =
        counted.values().map(|it| i64::try_from(it.count).unwrap_or(i64::MAX)).collect();
    let first: Vec<i64> = counted.values().map(|it| it.first).collect();
    let last: Vec<i64> = counted.values().map(|it| it.last).collect();
    let sums: Vec<f64> = counted.values().map(|it| it.sum).collect();
    let sql = "INSERT INTO activity AS known (profile, event, day, count, first, last, sum)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
            $5::bigint[], $6::bigint[], $7::double precision[])
        ON CONFLICT (profile, event, day) DO UPDATE SET
            count = known.count + excluded.count, first = least(known.first, excluded.first),
            last = greatest(known.last, excluded.last), sum = known.sum + excluded.sum";
    let statement = transaction.prepare_cached(sql).await?;
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&profiles, &events, &days, &counts, &first, &last, &sums];
    transaction.execute(&statement, &parameters).await?;
    Ok(())
}

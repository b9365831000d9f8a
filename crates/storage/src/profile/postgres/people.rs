//! Operations on single profiles: computed attributes, lookup, removal and erasure.

use std::collections::{BTreeSet, HashMap, HashSet};

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

use super::super::batch::ClaimedProfileDelta;
use super::super::page_profile::{OWN_KINDS, PageProfileRow as Known};
use super::super::subject::{SubjectIdentity, addresses};
use super::super::traits::read_ranks;
use super::super::{
    DailyActivity, ExpiryOutcome, ExpiryPosition, ExpiryRequest, Identity, IdentityKind,
    PageProfile, ProfileChanges, ProfileId, SubjectProfile,
};
use super::load::{DETAILS, details};
use super::text::{object, optional, rank, text};
use crate::journal::{PersonNameDigest, SiteId};
use crate::postgres::{PostgresError, encoded};
use tagway_core::event::{ComputedAttributes, EventTally, SenderRank};
use tagway_core::values::unicode;

/// Profiles read in one step of removing those not seen for long.
const STEP: i64 = 200;

/// Identities read in one step of erasing.
const LOOK_ROWS: i64 = 5000;

/// Reads the computed attributes of these profiles.
pub(super) async fn computed(
    client: &impl GenericClient,
    profiles: &[i64],
) -> Result<HashMap<i64, ComputedAttributes>, PostgresError> {
    let query =
        format!("SELECT {DETAILS}, id, first_seen, last_seen FROM profiles WHERE id = ANY($1)");
    let statement = client.prepare_cached(&query).await?;
    let mut known = HashMap::new();
    for row in client.query(&statement, &[&profiles]).await? {
        let computed = details(&row)?.into_computed(row.try_get(7)?, row.try_get(8)?);
        known.insert(row.try_get(6)?, computed);
    }
    let sql =
        "SELECT a.profile, n.name, sum(a.count)::bigint, min(a.first), max(a.last), sum(a.sum)
        FROM activity a JOIN event_names n ON n.id = a.event
        WHERE a.profile = ANY($1) GROUP BY a.profile, n.name";
    let statement = client.prepare_cached(sql).await?;
    for row in client.query(&statement, &[&profiles]).await? {
        if let Some(of) = known.get_mut(&row.try_get(0)?) {
            of.activity.insert(text(&row, 1)?, tally(&row, 2)?);
        }
    }
    Ok(known)
}

/// Builds a tally from the columns count, first, last and sum.
fn tally(row: &Row, from: usize) -> Result<EventTally, PostgresError> {
    Ok(EventTally {
        count: u64::try_from(row.try_get::<_, i64>(from)?).unwrap_or(0),
        first: row.try_get(from + 1)?,
        last: row.try_get(from + 2)?,
        sum: row.try_get(from + 3)?,
    })
}

/// Reads the activity of these profiles, day by day.
async fn activity(
    client: &impl GenericClient,
    profiles: &[i64],
) -> Result<HashMap<i64, Vec<DailyActivity>>, PostgresError> {
    let sql = "SELECT a.profile, n.name, a.day, a.count, a.first, a.last, a.sum
        FROM activity a JOIN event_names n ON n.id = a.event
        WHERE a.profile = ANY($1) ORDER BY a.day, n.name";
    let rows = client.query(sql, &[&profiles]).await?;
    let mut found: HashMap<i64, Vec<DailyActivity>> = HashMap::new();
    for row in rows {
        let (event, day) = (text(&row, 1)?, row.try_get(2)?);
        let done = DailyActivity { event, day, tally: tally(&row, 3)? };
        found.entry(row.try_get(0)?).or_default().push(done);
    }
    Ok(found)
}

/// Reads the names of these profiles, in order, each with the rank with which it is linked.
async fn names_of(
    client: &impl GenericClient,
    profiles: &[i64],
) -> Result<HashMap<i64, Vec<(Identity, SenderRank)>>, PostgresError> {
    let sql = "SELECT profile, kind, value, rank FROM identities WHERE profile = ANY($1)
        ORDER BY kind, value";
    let rows = client.query(sql, &[&profiles]).await?;
    let mut found: HashMap<i64, Vec<(Identity, SenderRank)>> = HashMap::new();
    for row in rows {
        if let Some(kind) = IdentityKind::from_name(row.try_get(1)?) {
            let identity = Identity { kind, value: text(&row, 2)? };
            found.entry(row.try_get(0)?).or_default().push((identity, rank(&row, 3)?));
        }
    }
    Ok(found)
}

/// Removes profiles and all their rows. The returned identities belong to no profile any more.
async fn remove(
    transaction: &Transaction<'_>,
    site: i64,
    profiles: &[i64],
) -> Result<ProfileChanges, PostgresError> {
    let names = names_of(transaction, profiles).await?;
    for statement in [
        "DELETE FROM identities WHERE profile = ANY($1)",
        "DELETE FROM activity WHERE profile = ANY($1)",
    ] {
        transaction.execute(statement, &[&profiles]).await?;
    }
    let removed = transaction
        .query("DELETE FROM profiles WHERE id = ANY($1) RETURNING rank = 0", &[&profiles])
        .await?;
    let mut claimed = 0;
    for row in removed {
        claimed += i64::from(row.try_get::<_, bool>(0)?);
    }
    count(transaction, site, -claimed).await?;
    Ok(ProfileChanges {
        identities: names.into_values().flatten().map(|(identity, _)| identity).collect(),
        profiles: profiles.iter().copied().map(ProfileId).collect(),
        ..ProfileChanges::default()
    })
}

/// Adds to the number of the site's profiles made by claims alone. Returns the new number.
async fn count(transaction: &Transaction<'_>, site: i64, more: i64) -> Result<i64, PostgresError> {
    let sql = "INSERT INTO profile_counts AS known (site, claimed) VALUES ($1, $2)
        ON CONFLICT (site) DO UPDATE
        SET claimed = greatest(0, known.claimed + excluded.claimed)
        RETURNING claimed";
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.query_one(&statement, &[&site, &more]).await?.try_get(0)?)
}

/// Counts the profiles that a batch created, and removes the excess, as `sqlite/expire.rs` describes.
pub(super) async fn evict(
    transaction: &Transaction<'_>,
    site: i64,
    census: ClaimedProfileDelta,
    max: u64,
) -> Result<ProfileChanges, PostgresError> {
    if census == ClaimedProfileDelta::default() {
        return Ok(ProfileChanges::default());
    }
    let claimed = count(transaction, site, census.more).await?;
    let made = i64::try_from(census.made).unwrap_or(i64::MAX);
    let excess = claimed.saturating_sub(i64::try_from(max).unwrap_or(i64::MAX));
    let excess = excess.min(made.saturating_add(STEP));
    if excess <= 0 {
        return Ok(ProfileChanges::default());
    }
    let sql =
        "SELECT id FROM profiles WHERE site = $1 AND rank = 0 ORDER BY last_seen, id LIMIT $2";
    let oldest = transaction.prepare_cached(sql).await?;
    let rows = transaction.query(&oldest, &[&site, &excess]).await?;
    let gone = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let mut changes = remove(transaction, site, &gone).await?;
    changes.evicted = gone.len() as u64;
    Ok(changes)
}

/// Finds the part of a profile that the page of the browser with this cookie id may know.
pub(super) async fn load_page_profile(
    client: &impl GenericClient,
    site: i64,
    id: &str,
) -> Result<Option<PageProfile>, PostgresError> {
    let sql = "SELECT p.id, i.rank, p.user_id, coalesce(u.rank, 0::smallint), p.is_shared, EXISTS (
            SELECT 1 FROM identities o WHERE o.profile = p.id
                AND NOT (o.kind IN ($3, $4) AND o.value = $2)), p.traits, p.trait_ranks
        FROM identities i JOIN profiles p ON p.id = i.profile
        LEFT JOIN identities u ON u.site = p.site AND u.kind = 'user' AND u.value = p.user_id
            AND u.profile = p.id
        WHERE i.site = $1 AND i.kind = $3 AND i.value = $2";
    let statement = client.prepare_cached(sql).await?;
    let [visitor, anonymous] = OWN_KINDS;
    let row = client.query_opt(&statement, &[&site, &encoded(id), &visitor, &anonymous]).await?;
    let Some(row) = row else { return Ok(None) };
    let known = Known {
        profile: ProfileId(row.try_get(0)?),
        rank: rank(&row, 1)?,
        user_id: optional(&row, 2)?,
        user_rank: rank(&row, 3)?,
        is_shared: row.try_get(4)?,
        has_others: row.try_get(5)?,
        traits: object(&row, 6)?,
        ranks: read_ranks(row.try_get(7)?),
    };
    Ok(known.into_page_profile())
}

/// Removes some of the profiles that have neither a user id nor an e-mail address and were last seen
/// before `unseen.since`, going on where the last step ended.
pub(super) async fn expire(
    transaction: &Transaction<'_>,
    site: i64,
    unseen: ExpiryRequest,
) -> Result<ExpiryOutcome, PostgresError> {
    let ExpiryPosition { last_seen, profile: after } = unseen.after;
    let sql = "SELECT p.id, p.last_seen, EXISTS (
            SELECT 1 FROM identities i WHERE i.profile = p.id AND i.kind = 'email')
        FROM profiles p
        WHERE p.site = $1 AND p.user_id IS NULL AND p.last_seen < $2
            AND (p.last_seen, p.id) > ($3, $4)
        ORDER BY p.last_seen, p.id LIMIT $5";
    let found =
        transaction.query(sql, &[&site, &unseen.since, &last_seen, &after.0, &STEP]).await?;
    let mut gone = Vec::new();
    let mut last = None;
    for row in &found {
        let profile: i64 = row.try_get(0)?;
        let position = ExpiryPosition { last_seen: row.try_get(1)?, profile: ProfileId(profile) };
        last = Some(position);
        if !row.try_get::<_, bool>(2)? {
            gone.push(profile);
        }
    }
    let is_end = i64::try_from(found.len()).is_ok_and(|found| found < STEP);
    let changes = if gone.is_empty() {
        ProfileChanges::default()
    } else {
        remove(transaction, site, &gone).await?
    };
    Ok(ExpiryOutcome { changes, next: last.filter(|_| !is_end) })
}

/// Finds the profiles of a name, as `sqlite/subject.rs` describes.
pub(super) async fn subjects(
    client: &impl GenericClient,
    site: i64,
    name: &str,
) -> Result<Vec<SubjectProfile>, PostgresError> {
    let mut profiles: BTreeSet<i64> = BTreeSet::new();
    for Identity { kind, value } in Identity::candidates_for_name(name) {
        let sql = "SELECT profile FROM identities WHERE site = $1 AND kind = $2 AND value = $3";
        let rows = client.query(sql, &[&site, &kind.name(), &encoded(&value)]).await?;
        take(&rows, &mut profiles)?;
    }
    for email in addresses(name) {
        let sql = "SELECT id FROM profiles WHERE site = $1 AND user_id IS NULL
            AND lower(btrim(traits_json ->> 'email') COLLATE \"C\") = $2";
        let rows = client.query(sql, &[&site, &encoded(&email)]).await?;
        take(&rows, &mut profiles)?;
    }
    if profiles.is_empty() {
        for device in unicode::spellings(name.trim()) {
            let sql = "SELECT profile FROM identities
                WHERE site = $1 AND value = $2 AND kind NOT IN ('user', 'email')";
            let rows = client.query(sql, &[&site, &encoded(&device)]).await?;
            take(&rows, &mut profiles)?;
        }
    }
    let profiles: Vec<i64> = profiles.into_iter().collect();
    let mut names = names_of(client, &profiles).await?;
    let mut computed = computed(client, &profiles).await?;
    let mut activity = activity(client, &profiles).await?;
    let sql = "SELECT id, user_id, traits, rank, trait_ranks FROM profiles WHERE id = ANY($1)
        ORDER BY id";
    let rows = client.query(sql, &[&profiles]).await?;
    let subject = |row: &Row| {
        let profile: i64 = row.try_get(0)?;
        Ok(SubjectProfile {
            user_id: optional(row, 1)?,
            rank: rank(row, 3)?,
            identities: names.remove(&profile).unwrap_or_default(),
            traits: object(row, 2)?,
            trait_ranks: read_ranks(row.try_get(4)?),
            computed: computed.remove(&profile).unwrap_or_default(),
            activity: activity.remove(&profile).unwrap_or_default(),
        })
    };
    rows.iter().map(subject).collect()
}

fn take(rows: &[Row], profiles: &mut BTreeSet<i64>) -> Result<(), PostgresError> {
    for row in rows {
        profiles.insert(row.try_get(0)?);
    }
    Ok(())
}

/// Erases the profiles that one of these names is an identity of, except those of users who are not
/// among the names. Only digests are known, so all identities of the site are read, a step at a time.
pub(super) async fn erase(
    transaction: &Transaction<'_>,
    site: SiteId,
    number: i64,
    names: &HashSet<PersonNameDigest>,
) -> Result<ProfileChanges, PostgresError> {
    let mut profiles: BTreeSet<i64> = BTreeSet::new();
    let mut after = (String::new(), String::new());
    loop {
        let sql = "SELECT i.kind, i.value, i.profile, p.user_id IS NOT NULL,
                CASE WHEN p.user_id IS NULL AND jsonb_typeof(p.traits_json -> 'email') = 'string'
                THEN p.traits_json ->> 'email' END
            FROM identities i JOIN profiles p ON p.id = i.profile
            WHERE i.site = $1 AND (i.kind, i.value) > ($2, $3)
            ORDER BY i.kind, i.value LIMIT $4";
        let rows = transaction.query(sql, &[&number, &after.0, &after.1, &LOOK_ROWS]).await?;
        for row in &rows {
            let (value, email_trait) = (text(row, 1)?, optional(row, 4)?);
            let identity = SubjectIdentity {
                kind: row.try_get(0)?,
                value: &value,
                is_known: row.try_get(3)?,
                email_trait: email_trait.as_deref(),
            };
            if identity.is_among(names, site) {
                profiles.insert(row.try_get(2)?);
            }
        }
        match rows.last() {
            Some(last) if i64::try_from(rows.len()).is_ok_and(|rows| rows >= LOOK_ROWS) => {
                after = (last.try_get(0)?, last.try_get(1)?);
            }
            _ => break,
        }
    }
    if profiles.is_empty() {
        return Ok(ProfileChanges::default());
    }
    let profiles: Vec<i64> = profiles.into_iter().collect();
    remove(transaction, number, &profiles).await
}

//! The statements that both databases share. Parameters are written as SQLite takes them; [`to_postgres_parameters`]
//! writes them as PostgreSQL does.

use std::borrow::Cow;

use super::{MembershipFilter, ProfileSelection};

/// Selects a site's segments.
pub(super) const SELECT_SEGMENTS: &str =
    "SELECT id, name, begun_at, ran_at, took_ms, size, added, removed, fingerprint
     FROM segments WHERE site = ?1 ORDER BY name";

/// Begins a run, or continues one.
pub(super) const BEGIN_RUN: &str = "INSERT INTO segments (site, name, begun_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (site, name)
     DO UPDATE SET begun_at = coalesce(segments.begun_at, excluded.begun_at)
     RETURNING id, begun_at";

/// Selects some memberships, in order; where a state or a time is not null, of that alone.
pub(super) const SELECT_MEMBERSHIPS: &str = "SELECT profile, state, since FROM memberships
     WHERE segment = ?1 AND profile > ?2
     AND (CAST(?3 AS BIGINT) IS NULL OR state = ?3)
     AND (CAST(?4 AS BIGINT) IS NULL OR since = ?4)
     ORDER BY profile LIMIT ?5";

/// Counts all members, new ones, and those who left. PostgreSQL sums whole numbers as decimal ones.
pub(super) const COUNT_CHANGES: &str = "SELECT CAST(coalesce(sum(state), 0) AS BIGINT),
         coalesce(sum(CASE WHEN state = 1 AND since = ?2 THEN 1 ELSE 0 END), 0),
         coalesce(sum(CASE WHEN state = 0 AND since = ?2 THEN 1 ELSE 0 END), 0)
     FROM memberships WHERE segment = ?1";

/// Counts the members.
pub(super) const COUNT_MEMBERS: &str =
    "SELECT CAST(coalesce(sum(state), 0) AS BIGINT) FROM memberships WHERE segment = ?1";

/// Stores the end of a run.
pub(super) const END_RUN: &str =
    "UPDATE segments SET begun_at = NULL, ran_at = ?2, took_ms = ?3, size = ?4,
     added = ?5, removed = ?6, fingerprint = ?7 WHERE id = ?1";

/// Stores the size of a run, for the trend.
pub(super) const INSERT_RUN: &str =
    "INSERT INTO segment_runs (segment, at, size) VALUES (?1, ?2, ?3)
     ON CONFLICT (segment, at) DO UPDATE SET size = excluded.size";

/// Deletes the sizes of runs before the last ones.
pub(super) const DELETE_OLD_RUNS: &str = "DELETE FROM segment_runs WHERE segment = ?1 AND at NOT IN
     (SELECT at FROM segment_runs WHERE segment = ?1 ORDER BY at DESC LIMIT ?2)";

/// Selects the sizes of a segment's last runs, in their order.
pub(super) const SELECT_RUNS: &str =
    "SELECT at, size FROM segment_runs WHERE segment = ?1 ORDER BY at";

/// Deletes the sizes of a deleted segment's runs.
pub(super) const DELETE_RUNS: &str = "DELETE FROM segment_runs WHERE segment = ?1
     AND NOT EXISTS (SELECT 1 FROM segments WHERE id = ?1)";

/// Deletes some memberships of a deleted segment.
pub(super) const DELETE_SOME_MEMBERSHIPS: &str =
    "DELETE FROM memberships WHERE segment = ?1 AND profile IN
     (SELECT profile FROM memberships WHERE segment = ?1 LIMIT ?2)";

/// Deletes its syncs. A sync stays while its destination has members that it has yet to remove.
pub(super) const DELETE_EMPTY_SYNCS: &str = "DELETE FROM syncs WHERE segment = ?1
     AND NOT EXISTS (SELECT 1 FROM told WHERE sync = syncs.id)";

/// Deletes the segment itself, once nothing of it is left.
pub(super) const DELETE_SEGMENT: &str = "DELETE FROM segments WHERE id = ?1
     AND NOT EXISTS (SELECT 1 FROM memberships WHERE segment = ?1)
     AND NOT EXISTS (SELECT 1 FROM syncs WHERE segment = ?1)";

/// Inserts a sync, if it is new.
pub(super) const INSERT_SYNC: &str =
    "INSERT INTO syncs (segment, destination, kind) VALUES (?1, ?2, ?3)
     ON CONFLICT DO NOTHING";

/// Selects the stored state of a sync by its segment and destination.
pub(super) const SELECT_SYNC: &str = "SELECT id, list, synced, checked FROM syncs
     WHERE segment = ?1 AND destination = ?2 AND kind = ?3";

/// Selects the destinations with synced members.
pub(super) const SELECT_SYNCED_DESTINATIONS: &str =
    "SELECT destination, kind FROM syncs WHERE segment = ?1
     AND EXISTS (SELECT 1 FROM told WHERE sync = syncs.id)";

/// Deletes some synced rows of a list.
pub(super) const DELETE_SOME_SYNCED_ROWS: &str = "DELETE FROM told WHERE sync = ?1 AND profile IN
     (SELECT profile FROM told WHERE sync = ?1 LIMIT ?2)";

/// Stores the vendor's name of a list.
pub(super) const UPDATE_LIST: &str = "UPDATE syncs SET list = ?2 WHERE id = ?1";

/// Selects synced rows, with the current data of their profiles.
pub(super) const SELECT_SYNCED_MEMBERS: &str =
    "SELECT t.profile, t.row, t.at, t.is_sure, coalesce(m.state, 0), p.consent,
         p.id IS NOT NULL, p.place
     FROM told t
     LEFT JOIN memberships m ON m.segment = ?2 AND m.profile = t.profile
     LEFT JOIN profiles p ON p.id = t.profile
     WHERE t.sync = ?1 AND t.profile > ?3 ORDER BY t.profile LIMIT ?4";

/// Selects members without a confirmed row; those with a failed removal wait.
pub(super) const SELECT_UNSYNCED_MEMBERS: &str = "SELECT m.profile, t.at FROM memberships m
     LEFT JOIN told t ON t.sync = ?1 AND t.profile = m.profile
     WHERE m.segment = ?2 AND m.profile > ?3 AND m.state = 1
     AND coalesce(t.is_sure, 0) = 0
     ORDER BY m.profile LIMIT ?4";

/// Stores that a row is about to be sent.
pub(super) const INSERT_SYNCED_ROW: &str =
    "INSERT INTO told (sync, profile, row, at, is_sure) VALUES (?1, ?2, ?3, ?4, 0)
     ON CONFLICT (sync, profile) DO UPDATE SET row = excluded.row, at = excluded.at, is_sure = 0";

/// Stores the status of a row.
pub(super) const UPDATE_SYNCED_ROW: &str =
    "UPDATE told SET is_sure = ?3 WHERE sync = ?1 AND profile = ?2";

/// Deletes the row of a person who is not at the destination.
pub(super) const DELETE_SYNCED_ROW: &str = "DELETE FROM told WHERE sync = ?1 AND profile = ?2";

/// Stores that the destination has received a run.
pub(super) const RECORD_SYNCED_RUN: &str =
    "UPDATE syncs SET synced = ?2, checked = coalesce(?3, checked) WHERE id = ?1";

/// Counts the members that a destination surely has, and those with failed removals.
pub(super) const COUNT_SYNCED_MEMBERS: &str =
    "SELECT coalesce(sum(CASE WHEN is_sure = 1 THEN 1 ELSE 0 END), 0),
         coalesce(sum(CASE WHEN is_sure = 2 THEN 1 ELSE 0 END), 0)
     FROM told WHERE sync = ?1";

impl ProfileSelection {
    /// Returns the statement for this selection: its condition on following profiles is restricted to these
    /// alone, where `column` has the profile. Numbers need no parameters. A restricted text is used once, so a
    /// store must not cache it.
    pub(super) fn restrict(&self, statement: &'static str, column: &str) -> Cow<'static, str> {
        let Self::These(profiles) = self else { return Cow::Borrowed(statement) };
        let numbers: Vec<String> = profiles.iter().map(|profile| profile.0.to_string()).collect();
        let these = format!("{column} IN ({}) AND {column} >", numbers.join(", "));
        Cow::Owned(statement.replacen(&format!("{column} >"), &these, 1))
    }

    /// Returns the profile before the first one, for the statement's parameter.
    pub(super) fn after(&self) -> i64 {
        match self {
            Self::After(after, _) => after.0,
            Self::These(_) => i64::MIN,
        }
    }

    /// Returns the limit of rows, for the statement's parameter.
    pub(super) fn limit(&self) -> i64 {
        let limit = match self {
            Self::After(_, limit) => *limit,
            Self::These(profiles) => profiles.len(),
        };
        i64::try_from(limit).unwrap_or(i64::MAX)
    }
}

impl MembershipFilter {
    /// Returns the state and the time of memberships, for the statement's parameters.
    pub(super) fn parameters(self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::All => (None, None),
            Self::Members => (Some(1), None),
            Self::ChangedAt(since) => (None, Some(since)),
        }
    }
}

/// Returns the statement with PostgreSQL's parameters.
pub(super) fn to_postgres_parameters(statement: &str) -> String {
    statement.replace('?', "$")
}

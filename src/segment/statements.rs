//! What both databases are asked in the same words. Parameters are written as SQLite takes them;
//! [`dollars`] writes them as PostgreSQL does.

use crate::profile::ProfileId;

/// What is known of a site's segments.
pub(super) const KNOWN: &str =
    "SELECT id, name, begun_at, ran_at, took_ms, size, added, removed, fingerprint
     FROM segments WHERE site = ?1 ORDER BY name";

/// Begins a run, or goes on with one.
pub(super) const BEGIN: &str = "INSERT INTO segments (site, name, begun_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (site, name)
     DO UPDATE SET begun_at = coalesce(segments.begun_at, excluded.begun_at)
     RETURNING id, begun_at";

/// Some memberships, in order; where a state or a time is not null, of that alone.
pub(super) const PAGE: &str = "SELECT profile, state, since FROM memberships
     WHERE segment = ?1 AND profile > ?2
     AND (CAST(?3 AS BIGINT) IS NULL OR state = ?3)
     AND (CAST(?4 AS BIGINT) IS NULL OR since = ?4)
     ORDER BY profile LIMIT ?5";

/// How many members there are, are new, and left.
pub(super) const COUNTED: &str = "SELECT coalesce(sum(state), 0),
         coalesce(sum(CASE WHEN state = 1 AND since = ?2 THEN 1 ELSE 0 END), 0),
         coalesce(sum(CASE WHEN state = 0 AND since = ?2 THEN 1 ELSE 0 END), 0)
     FROM memberships WHERE segment = ?1";

/// The number of members.
pub(super) const SIZE: &str = "SELECT coalesce(sum(state), 0) FROM memberships WHERE segment = ?1";

/// A run ended.
pub(super) const ENDED: &str =
    "UPDATE segments SET begun_at = NULL, ran_at = ?2, took_ms = ?3, size = ?4,
     added = ?5, removed = ?6, fingerprint = ?7 WHERE id = ?1";

/// Some memberships of a segment that is no more.
pub(super) const FEWER: &str = "DELETE FROM memberships WHERE segment = ?1 AND profile IN
     (SELECT profile FROM memberships WHERE segment = ?1 LIMIT ?2)";

/// Its syncs. While a destination has been told of somebody it must still hear that they left.
pub(super) const HEARD_OUT: &str = "DELETE FROM syncs WHERE segment = ?1
     AND NOT EXISTS (SELECT 1 FROM told WHERE sync = syncs.id)";

/// The segment itself, once nothing of it is left.
pub(super) const GONE: &str = "DELETE FROM segments WHERE id = ?1
     AND NOT EXISTS (SELECT 1 FROM memberships WHERE segment = ?1)
     AND NOT EXISTS (SELECT 1 FROM syncs WHERE segment = ?1)";

/// A sync, if it is new.
pub(super) const NEW_SYNC: &str =
    "INSERT INTO syncs (segment, destination, kind) VALUES (?1, ?2, ?3)
     ON CONFLICT DO NOTHING";

/// A sync.
pub(super) const SYNC: &str = "SELECT id, list, synced, checked FROM syncs
     WHERE segment = ?1 AND destination = ?2 AND kind = ?3";

/// The destinations that were told of somebody.
pub(super) const HEARD: &str = "SELECT destination, kind FROM syncs WHERE segment = ?1
     AND EXISTS (SELECT 1 FROM told WHERE sync = syncs.id)";

/// Some of what a list was told.
pub(super) const FORGOTTEN: &str = "DELETE FROM told WHERE sync = ?1 AND profile IN
     (SELECT profile FROM told WHERE sync = ?1 LIMIT ?2)";

/// The vendor's name of a list.
pub(super) const LISTED: &str = "UPDATE syncs SET list = ?2 WHERE id = ?1";

/// What was told, with what is known of it now.
pub(super) const TOLD: &str =
    "SELECT t.profile, t.row, t.at, t.is_sure, coalesce(m.state, 0), p.consent,
         p.id IS NOT NULL, p.place
     FROM told t
     LEFT JOIN memberships m ON m.segment = ?2 AND m.profile = t.profile
     LEFT JOIN profiles p ON p.id = t.profile
     WHERE t.sync = ?1 AND t.profile > ?3 ORDER BY t.profile LIMIT ?4";

/// Members of whom nothing was told for sure; those whom the destination would not take off wait.
pub(super) const UNTOLD: &str = "SELECT m.profile, t.at FROM memberships m
     LEFT JOIN told t ON t.sync = ?1 AND t.profile = m.profile
     WHERE m.segment = ?2 AND m.profile > ?3 AND m.state = 1
     AND coalesce(t.is_sure, 0) = 0
     ORDER BY m.profile LIMIT ?4";

/// The destination has heard of a run.
pub(super) const FINISHED: &str =
    "UPDATE syncs SET synced = ?2, checked = coalesce(?3, checked) WHERE id = ?1";

/// Of how many people a destination surely heard, and whom it would not take off.
pub(super) const SIZES: &str = "SELECT coalesce(sum(CASE WHEN is_sure = 1 THEN 1 ELSE 0 END), 0),
         coalesce(sum(CASE WHEN is_sure = 2 THEN 1 ELSE 0 END), 0)
     FROM told WHERE sync = ?1";

/// The statement of what comes after a profile, of these alone: in `column` is whose it is. Numbers are
/// no text that anybody wrote.
pub(super) fn of_these(statement: &str, column: &str, profiles: &[ProfileId]) -> String {
    let numbers: Vec<String> = profiles.iter().map(|profile| profile.0.to_string()).collect();
    let these = format!("{column} IN ({}) AND {column} >", numbers.join(", "));
    statement.replacen(&format!("{column} >"), &these, 1)
}

/// The statement with PostgreSQL's parameters.
pub(super) fn dollars(statement: &str) -> String {
    statement.replace('?', "$")
}

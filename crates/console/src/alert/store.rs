//! The alerts and their notifications in the embedded database.
//!
//! ```text
//! alerts              one row for each; a pending one that is dropped leaves none
//! alert_notifications one row for each change and channel: waiting, sending, sent, failed, superseded
//! ```
//!
//! Rows of ended alerts are kept for 30 days, within [`MAX_ENDED`].

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::condition::AlertTarget;
use super::kind::{AlertKind, AlertSeverity};
use super::overview::{AlertOverview, NotifiedChannel};
use super::state::{ActiveAlert, AlertChange, AlertState};
use super::words::AlertWords;
use crate::ConsoleStoreError;
use tagway_storage::store::{SqliteMigrations, SqliteStore, StoreReadError, StoreWriteError};

/// The schema of the alerts.
pub const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "alert",
    steps: &["CREATE TABLE alerts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            rule TEXT NOT NULL, kind TEXT NOT NULL, site TEXT, object TEXT, severity TEXT NOT NULL,
            state TEXT NOT NULL, since INTEGER NOT NULL, clear_since INTEGER, notified_at INTEGER,
            resolved_at INTEGER, value REAL NOT NULL, bound REAL NOT NULL,
            title TEXT NOT NULL, text TEXT NOT NULL, link TEXT NOT NULL,
            acknowledged_at INTEGER, acknowledged_by TEXT, note TEXT
        );
        CREATE INDEX alerts_by_state ON alerts (state, id);
        CREATE TABLE alert_notifications (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            alert INTEGER NOT NULL, change TEXT NOT NULL, channel TEXT NOT NULL, state TEXT NOT NULL,
            created_at INTEGER NOT NULL, due_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
            done_at INTEGER, error TEXT
        );
        CREATE INDEX alert_notifications_by_alert ON alert_notifications (alert);
        CREATE INDEX alert_notifications_waiting ON alert_notifications (due_at) WHERE state = 'waiting';"],
};

/// The time for which ended alerts are kept, in milliseconds: as long as the time series.
const ENDED_MS: i64 = 35 * 86_400_000;

/// The most ended alerts that are kept.
const MAX_ENDED: usize = 5000;

/// The error of an attempt that was under way when the process ended.
const INTERRUPTED: &str = "the gateway ended during the attempt: it may or may not have arrived";

/// Stores alerts and notifications.
pub(super) struct AlertStore(pub(super) Arc<SqliteStore>);

/// The changes of one evaluation.
#[derive(Clone, Debug, Default)]
pub(super) struct AlertChanges {
    /// Alerts as they are now, with the channels that are notified of a change. New ones have no number.
    pub(super) changed: Vec<ChangedAlert>,
    /// Pending alerts that are dropped.
    pub(super) dropped: Vec<i64>,
}

/// An alert that changed.
#[derive(Clone, Debug)]
pub(super) struct ChangedAlert {
    pub(super) alert: ActiveAlert,
    pub(super) notified: Option<(AlertChange, Vec<String>)>,
}

/// A notification that is due.
#[derive(Clone, Debug)]
pub(super) struct DueNotification {
    pub(super) id: i64,
    pub(super) channel: String,
    pub(super) change: AlertChange,
    pub(super) created_at: Timestamp,
    pub(super) attempts: u32,
    pub(super) alert: AlertOverview,
}

/// The result of an attempt.
#[derive(Clone, Debug)]
pub(super) enum AttemptResult {
    Sent,
    Retry(Timestamp, String),
    Failed(String),
}

const COLUMNS: &str =
    "a.id, a.rule, a.kind, a.site, a.object, a.severity, a.state, a.since, a.clear_since,
    a.notified_at, a.resolved_at, a.value, a.bound, a.title, a.text, a.link, a.acknowledged_at,
    a.acknowledged_by, a.note";

impl AlertStore {
    /// Ends the attempts that were under way when the last process ended. To be called before the first attempt.
    pub(super) async fn end_interrupted(&self) -> Result<usize, Arc<StoreWriteError>> {
        let sql =
            "UPDATE alert_notifications SET state = 'failed', error = ? WHERE state = 'sending'";
        self.0.write_durably(|c| c.execute(sql, [INTERRUPTED])).await
    }

    /// Reads the alerts that have not ended.
    pub(super) async fn load(&self) -> Result<Vec<ActiveAlert>, StoreReadError> {
        let sql = format!("SELECT {COLUMNS} FROM alerts a WHERE state <> 'resolved' ORDER BY id");
        let read = move |c: &Connection| {
            let mut statement = c.prepare(&sql)?;
            let rows = statement.query_map([], active)?;
            rows.collect::<rusqlite::Result<Vec<Option<ActiveAlert>>>>()
        };
        Ok(self.0.read(read).await?.into_iter().flatten().collect())
    }

    /// Stores the changes of an evaluation, durably if anybody is notified. Returns the numbers of the changed alerts,
    /// in their order.
    pub(super) async fn apply(
        &self,
        changes: AlertChanges,
        now: Timestamp,
    ) -> Result<Vec<i64>, Arc<StoreWriteError>> {
        let is_notice = changes.changed.iter().any(|changed| changed.notified.is_some());
        let write = move |c: &Connection| {
            for id in &changes.dropped {
                c.prepare_cached("DELETE FROM alerts WHERE id = ? AND state = 'pending'")?
                    .execute([id])?;
            }
            let stored = changes.changed.iter().map(|changed| {
                let id = put_alert(c, &changed.alert, now)?;
                if let Some((change, channels)) = &changed.notified {
                    put_notifications(c, id, *change, channels, now)?;
                }
                Ok(id)
            });
            let ids = stored.collect::<rusqlite::Result<Vec<i64>>>()?;
            trim(c, now)?;
            Ok(ids)
        };
        if is_notice { self.0.write_durably(write).await } else { self.0.write(write).await }
    }

    /// Lists all alerts that fire, and then some that have ended, each the newest first. With `before`, only those that
    /// have ended, with lower numbers.
    pub(super) async fn list(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AlertOverview>, StoreReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM alerts a WHERE state = ? AND id < ? ORDER BY id DESC LIMIT ?"
        );
        let read = move |c: &Connection| {
            let mut alerts = Vec::new();
            let mut statement = c.prepare_cached(&sql)?;
            if before.is_none() {
                let rows = statement.query_map(("firing", i64::MAX, MAX_ENDED), overview)?;
                alerts.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten());
            }
            let rows =
                statement.query_map(("resolved", before.unwrap_or(i64::MAX), limit), overview)?;
            alerts.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten());
            alerts.iter_mut().try_for_each(|alert| read_notified(c, alert))?;
            Ok(alerts)
        };
        self.0.read(read).await
    }

    /// Reads one alert that fires or has ended.
    pub(super) async fn get(&self, id: i64) -> Result<Option<AlertOverview>, StoreReadError> {
        let sql = format!("SELECT {COLUMNS} FROM alerts a WHERE state <> 'pending' AND id = ?");
        let read = move |c: &Connection| {
            let found = c.prepare_cached(&sql)?.query_row([id], overview).optional()?.flatten();
            let Some(mut alert) = found else { return Ok(None) };
            read_notified(c, &mut alert)?;
            Ok(Some(alert))
        };
        self.0.read(read).await
    }

    /// Records that a person has seen an alert. Returns false if there is none with this number.
    pub(super) async fn acknowledge(
        &self,
        id: i64,
        by: String,
        note: Option<String>,
        now: Timestamp,
    ) -> Result<bool, Arc<StoreWriteError>> {
        let sql = "UPDATE alerts SET acknowledged_at = ?, acknowledged_by = ?, note = ?
            WHERE id = ? AND state <> 'pending'";
        let at = now.as_millisecond();
        self.0.write_durably(move |c| Ok(c.execute(sql, (at, by, note, id))? > 0)).await
    }

    /// Takes notifications that are due at `now`, in their order: they are stored as being sent.
    pub(super) async fn take_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueNotification>, ConsoleStoreError> {
        let at = now.as_millisecond();
        let is_due =
            "SELECT 1 FROM alert_notifications WHERE state = 'waiting' AND due_at <= ? LIMIT 1";
        if !self.0.read(move |c| c.prepare_cached(is_due)?.exists([at])).await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {COLUMNS}, n.id, n.channel, n.change, n.created_at, n.attempts
             FROM alert_notifications n JOIN alerts a ON a.id = n.alert
             WHERE n.state = 'waiting' AND n.due_at <= ? ORDER BY n.id LIMIT ?"
        );
        let take = move |c: &Connection| {
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map((at, limit), due_notification)?;
            let due: Vec<DueNotification> =
                rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect();
            let sql = "UPDATE alert_notifications SET state = 'sending', attempts = attempts + 1, done_at = ?
                WHERE id = ?";
            let mut update = c.prepare_cached(sql)?;
            for notification in &due {
                update.execute((at, notification.id))?;
            }
            Ok(due)
        };
        Ok(self.0.write_durably(take).await?)
    }

    /// Stores the result of attempts.
    pub(super) async fn finish(
        &self,
        ids: Vec<i64>,
        result: AttemptResult,
        now: Timestamp,
    ) -> Result<(), Arc<StoreWriteError>> {
        let (state, due, error) = match result {
            AttemptResult::Sent => ("sent", None, None),
            AttemptResult::Retry(due, error) => {
                ("waiting", Some(due.as_millisecond()), Some(error))
            }
            AttemptResult::Failed(error) => ("failed", None, Some(error)),
        };
        let at = now.as_millisecond();
        let sql = "UPDATE alert_notifications SET state = :state, due_at = coalesce(:due, due_at),
                done_at = :at, error = :error
            WHERE id = :id AND state = 'sending'";
        self.0
            .write_durably(move |c| {
                let mut update = c.prepare_cached(sql)?;
                for id in &ids {
                    update.execute(named_params! {
                        ":state": state, ":due": due, ":at": at, ":error": error, ":id": id,
                    })?;
                }
                Ok(())
            })
            .await
    }

    /// Returns the time at which the next notification is due.
    pub(super) async fn next_due(&self) -> Result<Option<Timestamp>, StoreReadError> {
        let sql = "SELECT min(due_at) FROM alert_notifications WHERE state = 'waiting'";
        let read = |c: &Connection| c.prepare_cached(sql)?.query_row([], |row| row.get(0));
        let due: Option<i64> = self.0.read(read).await?;
        Ok(due.map(time))
    }
}

fn put_alert(
    connection: &Connection,
    alert: &ActiveAlert,
    now: Timestamp,
) -> rusqlite::Result<i64> {
    let ms = |at: Timestamp| at.as_millisecond();
    let sql = "INSERT INTO alerts (id, rule, kind, site, object, severity, state, since, clear_since, notified_at,
            resolved_at, value, bound, title, text, link)
        VALUES (:id, :rule, :kind, :site, :object, :severity, :state, :since, :clear_since, :notified_at,
            :resolved_at, :value, :bound, :title, :text, :link)
        ON CONFLICT DO UPDATE SET severity = excluded.severity, state = excluded.state,
            clear_since = excluded.clear_since, notified_at = excluded.notified_at,
            resolved_at = excluded.resolved_at, value = excluded.value, bound = excluded.bound,
            title = excluded.title, text = excluded.text, link = excluded.link
        RETURNING id";
    connection.prepare_cached(sql)?.query_row(
        named_params! {
            ":id": (alert.id > 0).then_some(alert.id),
            ":rule": alert.rule,
            ":kind": alert.kind.name(),
            ":site": alert.target.site,
            ":object": alert.target.object,
            ":severity": alert.severity.name(),
            ":state": alert.state.name(),
            ":since": ms(alert.since),
            ":clear_since": alert.clear_since.map(ms),
            ":notified_at": alert.notified_at.map(ms),
            ":resolved_at": (alert.state == AlertState::Resolved).then(|| ms(now)),
            ":value": alert.value,
            ":bound": alert.limit,
            ":title": alert.words.title,
            ":text": alert.words.text,
            ":link": alert.words.link,
        },
        |row| row.get(0),
    )
}

/// Adds the notifications of a change. Those of earlier changes that have not been sent are superseded; a channel that
/// has received nothing about an alert is not told its end.
fn put_notifications(
    connection: &Connection,
    alert: i64,
    change: AlertChange,
    channels: &[String],
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql =
        "UPDATE alert_notifications SET state = 'superseded' WHERE alert = ? AND state = 'waiting'";
    connection.prepare_cached(sql)?.execute([alert])?;
    let mut told = connection.prepare_cached(
        "SELECT 1 FROM alert_notifications WHERE alert = ? AND channel = ? AND state IN ('sent', 'sending', 'failed')",
    )?;
    let sql = "INSERT INTO alert_notifications (alert, change, channel, state, created_at, due_at, attempts)
        VALUES (?1, ?2, ?3, 'waiting', ?4, ?4, 0)";
    let mut insert = connection.prepare_cached(sql)?;
    for channel in channels {
        if change != AlertChange::Resolved || told.exists((alert, channel))? {
            insert.execute((alert, change.name(), channel, now.as_millisecond()))?;
        }
    }
    Ok(())
}

/// Removes ended alerts that are old or too many, with their notifications.
fn trim(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let sql = "DELETE FROM alerts WHERE state = 'resolved' AND (resolved_at < ?1 OR id <= (
            SELECT id FROM alerts WHERE state = 'resolved' ORDER BY id DESC LIMIT 1 OFFSET ?2))";
    let removed =
        connection.prepare_cached(sql)?.execute((now.as_millisecond() - ENDED_MS, MAX_ENDED))?;
    if removed > 0 {
        let sql = "DELETE FROM alert_notifications WHERE alert NOT IN (SELECT id FROM alerts)";
        connection.prepare_cached(sql)?.execute([])?;
    }
    Ok(())
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(time))
}

fn named<T: Copy>(row: &Row<'_>, column: &str, names: &[(&str, T)]) -> rusqlite::Result<Option<T>> {
    let text: String = row.get(column)?;
    Ok(names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value))
}

/// Reads an alert; `None` if a newer version of the program wrote it in words that this one does not know.
fn active(row: &Row<'_>) -> rusqlite::Result<Option<ActiveAlert>> {
    let kind = named(row, "kind", &AlertKind::ALL)?;
    let severity = named(row, "severity", &AlertSeverity::ALL)?;
    let state = named(row, "state", &AlertState::ALL)?;
    let (Some(kind), Some(severity), Some(state)) = (kind, severity, state) else {
        return Ok(None);
    };
    let name = |column: &str| row.get::<_, Option<String>>(column).map(|text| text.map(Into::into));
    Ok(Some(ActiveAlert {
        id: row.get("id")?,
        rule: row.get("rule")?,
        kind,
        target: AlertTarget { site: name("site")?, object: name("object")? },
        severity,
        state,
        since: time(row.get("since")?),
        clear_since: optional_time(row, "clear_since")?,
        notified_at: optional_time(row, "notified_at")?,
        is_acknowledged: row.get::<_, Option<i64>>("acknowledged_at")?.is_some(),
        value: row.get("value")?,
        limit: row.get("bound")?,
        words: AlertWords {
            title: row.get("title")?,
            text: row.get("text")?,
            link: row.get("link")?,
        },
    }))
}

fn overview(row: &Row<'_>) -> rusqlite::Result<Option<AlertOverview>> {
    let Some(alert) = active(row)? else { return Ok(None) };
    let by: Option<String> = row.get("acknowledged_by")?;
    Ok(Some(AlertOverview {
        resolved_at: optional_time(row, "resolved_at")?,
        acknowledged: by.zip(optional_time(row, "acknowledged_at")?),
        note: row.get("note")?,
        ..alert.overview()
    }))
}

fn due_notification(row: &Row<'_>) -> rusqlite::Result<Option<DueNotification>> {
    let (Some(alert), Some(change)) = (overview(row)?, named(row, "change", &AlertChange::ALL)?)
    else {
        return Ok(None);
    };
    Ok(Some(DueNotification {
        // The alert's number has the same name, and is the first column.
        id: row.get(19)?,
        channel: row.get("channel")?,
        change,
        created_at: time(row.get("created_at")?),
        attempts: row.get("attempts")?,
        alert,
    }))
}

fn read_notified(connection: &Connection, alert: &mut AlertOverview) -> rusqlite::Result<()> {
    let sql =
        "SELECT channel, coalesce(done_at, created_at), error, max(id) FROM alert_notifications
        WHERE alert = ? AND state <> 'superseded' GROUP BY channel ORDER BY channel";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([alert.id], |row| {
        Ok(NotifiedChannel { channel: row.get(0)?, at: time(row.get(1)?), error: row.get(2)? })
    })?;
    alert.notified = rows.collect::<rusqlite::Result<_>>()?;
    Ok(())
}

//! Searches for operators. Dead letters are selected by the index `dead_group` alone, which has all that a filter
//! may name: their rows, with bodies and replies, are read only for those that are returned.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::super::{
    DeadLetterFilter, DeadLetterGroup, DeadLetterGroups, DeadLetterRecord, DeadLetterSelection,
    JournalError, JournalReadLimits, JournalRecord, JournalSearch, ReaderId, SiteId,
};
use super::{IDENTIFIES, MAX_SEQ, SqliteJournal, dead, place, text_bytes, time};

#[async_trait]
impl JournalSearch for SqliteJournal {
    async fn events_before(
        &self,
        site: SiteId,
        before: Option<u64>,
        limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        self.read_db(move |c| events_before(c, site, before, limit)).await
    }

    async fn list_dead_letters(
        &self,
        filter: DeadLetterFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, JournalError> {
        self.read_db(move |c| {
            let (before, limit) =
                (before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
            let ids = select(c, &filter, "id < ?", before, LetterOrder::NewestFirst(limit))?;
            ids.into_iter().filter_map(|id| dead::one(c, id).transpose()).collect()
        })
        .await
    }

    async fn dead_letter_groups(
        &self,
        filter: DeadLetterFilter,
        limit: usize,
    ) -> Result<DeadLetterGroups, JournalError> {
        self.read_db(move |c| groups(c, &filter, limit)).await
    }

    async fn count_dead_letters(&self, which: DeadLetterSelection) -> Result<u64, JournalError> {
        self.read_db(move |c| {
            let ids = matching_ids(c, which)?;
            Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
        })
        .await
    }
}

/// The order of selected letters.
#[derive(Clone, Copy)]
enum LetterOrder {
    OldestFirst,
    /// The newest ones, at most this number.
    NewestFirst(i64),
}

/// Returns the numbers of the letters of a selection, the oldest first. Ids are returned as they are.
pub(super) fn matching_ids(
    connection: &Connection,
    which: DeadLetterSelection,
) -> rusqlite::Result<Vec<i64>> {
    let (filter, until_id) = match which {
        DeadLetterSelection::Ids(ids) => return Ok(ids),
        DeadLetterSelection::Reader(reader) => (DeadLetterFilter::of(reader), i64::MAX),
        DeadLetterSelection::Matching { filter, until_id } => (filter, until_id),
    };
    select(connection, &filter, "id <= ?", until_id, LetterOrder::OldestFirst)
}

fn select(
    connection: &Connection,
    filter: &DeadLetterFilter,
    bound: &str,
    id: i64,
    order: LetterOrder,
) -> rusqlite::Result<Vec<i64>> {
    let (conditions, mut values) = conditions(filter);
    let index = if filter.is_detailed() { "INDEXED BY dead_group" } else { "" };
    values.push(Value::Integer(id));
    let order = match order {
        LetterOrder::OldestFirst => "ORDER BY id",
        LetterOrder::NewestFirst(limit) => {
            values.push(Value::Integer(limit));
            "ORDER BY id DESC LIMIT ?"
        }
    };
    let sql = format!("SELECT id FROM dead {index} WHERE {conditions} AND {bound} {order}");
    let mut ids = connection.prepare_cached(&sql)?;
    ids.query_map(params_from_iter(values), |row| row.get(0))?.collect()
}

fn groups(
    connection: &Connection,
    filter: &DeadLetterFilter,
    limit: usize,
) -> rusqlite::Result<DeadLetterGroups> {
    let (conditions, values) = conditions(filter);
    let sql = format!(
        "SELECT reader, reason, failure, status, count(*), min(at), max(at), max(id)
        FROM dead INDEXED BY dead_group WHERE {conditions}
        GROUP BY reader, reason, failure, status"
    );
    let group = |row: &rusqlite::Row<'_>| {
        Ok(DeadLetterGroup {
            reader: ReaderId(row.get(0)?),
            reason: row.get(1)?,
            failure: row.get(2)?,
            status: row.get(3)?,
            count: row.get(4)?,
            first_at: time(row.get(5)?),
            last_at: time(row.get(6)?),
            last_id: row.get(7)?,
        })
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let groups = statement.query_map(params_from_iter(values), group)?;
    let mut all = DeadLetterGroups::default();
    for group in groups {
        let group = group?;
        all.total += group.count;
        all.groups.push(group);
        // The largest stay, so that the memory is bounded however much the replies differ.
        if all.groups.len() >= limit.saturating_mul(2).max(1) {
            all.is_bounded = true;
            keep_largest(&mut all.groups, limit);
        }
    }
    all.is_bounded |= all.groups.len() > limit;
    keep_largest(&mut all.groups, limit);
    Ok(all)
}

fn keep_largest(groups: &mut Vec<DeadLetterGroup>, limit: usize) {
    groups.sort_by_key(|group| std::cmp::Reverse((group.count, group.last_id)));
    groups.truncate(limit);
}

/// Returns the conditions of a filter, with their values in the order of the question marks.
fn conditions(filter: &DeadLetterFilter) -> (String, Vec<Value>) {
    let DeadLetterFilter { readers, reason, event, text, failure, from, to } = filter;
    let (mut conditions, mut values) = (vec!["1".to_owned()], Vec::new());
    let mut add = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            conditions.push(condition.to_owned());
            values.push(value);
        }
    };
    let text_of = |text: &Option<String>| text.clone().map(Value::Text);
    let time_of = |at: &Option<Timestamp>| at.map(|at| Value::Integer(at.as_millisecond()));
    add("reason = ?", text_of(reason));
    add("event = ?", text_of(event));
    add("failure = ?", text_of(failure));
    add("at >= ?", time_of(from));
    add("at < ?", time_of(to));
    let part = text.as_ref().map(|text| Value::Text(text.to_ascii_lowercase()));
    add("instr(lower(event || ' ' || reason || ' ' || failure), ?) > 0", part);
    if let Some(readers) = readers {
        let marks = vec!["?"; readers.len()].join(", ");
        conditions.push(format!("reader IN ({marks})"));
        values.extend(readers.iter().map(|reader| Value::Integer(reader.0.into())));
    }
    (conditions.join(" AND "), values)
}

fn events_before(
    connection: &Connection,
    site: SiteId,
    before: Option<u64>,
    limit: JournalReadLimits,
) -> rusqlite::Result<Vec<JournalRecord>> {
    let last = before.map_or(MAX_SEQ, |before| before.saturating_sub(1));
    let sql = "SELECT place - ?1, received_at, flags, body FROM events
        WHERE place BETWEEN ?1 AND ?2 AND body <> '' ORDER BY place DESC LIMIT ?3";
    let mut events = connection.prepare_cached(sql)?;
    let mut rows = events.query((place(site, 0), place(site, last), limit.events))?;
    let (mut records, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let body = text_bytes(row, 3)?;
        bytes = bytes.saturating_add(body.len());
        if bytes > limit.bytes && !records.is_empty() {
            break;
        }
        records.push(JournalRecord {
            seq: row.get(0)?,
            received_at: time(row.get(1)?),
            identifies: row.get::<_, i64>(2)? & IDENTIFIES != 0,
            body,
        });
    }
    Ok(records)
}

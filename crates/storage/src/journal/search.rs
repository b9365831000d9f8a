//! Bounded searches of the journal, for operators.

use async_trait::async_trait;

use super::{
    DeadLetterFilter, DeadLetterGroups, DeadLetterRecord, DeadLetterSelection, JournalError,
    JournalReadLimits, JournalRecord, SiteId,
};

/// Searches of the journal that are not on the path of an event. Each method reads what it is asked for and no more.
/// Its methods fail if the database cannot be read, or is closed.
#[async_trait]
pub trait JournalSearch: Send + Sync {
    /// Reads the events of a site before `before`, or its newest, the newest first. Evicted and erased events are
    /// missing.
    async fn events_before(
        &self,
        site: SiteId,
        before: Option<u64>,
        limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError>;

    /// Lists dead letters before `before`, or the newest, the newest first.
    async fn list_dead_letters(
        &self,
        filter: DeadLetterFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, JournalError>;

    /// Groups dead letters; returns at most `limit` groups.
    async fn dead_letter_groups(
        &self,
        filter: DeadLetterFilter,
        limit: usize,
    ) -> Result<DeadLetterGroups, JournalError>;

    /// Counts the dead letters of a selection.
    async fn count_dead_letters(&self, which: DeadLetterSelection) -> Result<u64, JournalError>;
}

//! The states of a sync and of the rows that it sends, with all their transitions.
//!
//! # A row
//!
//! [`SyncedMemberChange::next_status`] makes the transitions; both stores write its result.
//!
//! | status | event | next status |
//! |---|---|---|
//! | any, or none | the row is about to be sent, or is to be known there again | pending |
//! | pending | the destination accepts it | confirmed |
//! | pending | the destination rejects it, and no earlier call can have added it | none |
//! | pending | the destination rejects it otherwise | pending |
//! | any | the destination removes it, or never got it | none |
//! | any | the destination fails to remove it | removal failed |
//! | any | the list is gone, or an operator forgets it | none |
//!
//! A call without a result, such as one that is to be repeated, changes nothing and ends the run.
//!
//! # A sync
//!
//! Its state is that of its settings until its destination is removed. [`SyncState::next`] makes the
//! transitions:
//!
//! | state | event | next state | waits for |
//! |---|---|---|---|
//! | any | the settings have the sync | follows | |
//! | any | the settings no longer have it, and the destination has rows | drains | |
//! | any | its destination is removed | abandoned | another task |
//! | any | its destination does not run at the moment | the same | a moment |
//! | any | a run fails | the same | a pause, doubled with each failure, or an operator's fix |
//! | any | the list of some people is gone | the same | nothing: all are sent to a new list |
//! | follows | everything is sent, or the segment has no rows | follows | the segment's next run, or changed people |
//! | drains | everything is sent, and no removal failed | (ended) | |
//! | drains | everything is sent, and some removals failed | drains | the next recheck |
//! | drains | the segment is deleted | (ended) | |

use std::time::Duration;

use serde::Serialize;

use super::super::SegmentError;
use tagway_vendors::OutcomeReason;
use tagway_vendors::audience::AudienceRow;

/// The pause after a failure that names none, doubled with each failure, and its upper bound.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(900);

/// The pause of a sync that waits for an operator's fix.
const OPERATOR_FIX_PAUSE: Duration = Duration::from_secs(600);

/// The pause where a configured destination is away: a reload removes it for a moment.
const DESTINATION_AWAY_PAUSE: Duration = Duration::from_secs(5);

/// The status of a row that was sent to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStatus {
    /// The call was about to be made, so it may have arrived.
    Pending,
    /// The destination has accepted it.
    Confirmed,
    /// The destination has it, and failed to remove it.
    RemovalFailed,
}

impl SyncStatus {
    /// Returns the status of a stored number.
    pub(super) fn of_number(number: i64) -> Self {
        match number {
            1 => Self::Confirmed,
            2 => Self::RemovalFailed,
            _ => Self::Pending,
        }
    }

    /// Returns the stored number of the status.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Confirmed => 1,
            Self::RemovalFailed => 2,
        }
    }
}

/// An event that changes a row.
#[derive(Clone, Debug)]
pub enum SyncedMemberChange {
    /// The row is about to be sent, for the first time at this moment.
    Pending(AudienceRow, i64),
    /// The destination has accepted it.
    Confirmed,
    /// The destination has rejected it.
    Rejected {
        /// True if an earlier call may have added it.
        is_doubtful: bool,
    },
    /// The destination has removed it, or never got it.
    Removed,
    /// The destination failed to remove it, so they may still be known there.
    RemovalFailed,
}

impl SyncedMemberChange {
    /// Makes the transition: returns the status of the row after this event; `None` for no row.
    pub(super) fn next_status(&self) -> Option<SyncStatus> {
        match self {
            Self::Pending(..) | Self::Rejected { is_doubtful: true } => Some(SyncStatus::Pending),
            Self::Confirmed => Some(SyncStatus::Confirmed),
            Self::RemovalFailed => Some(SyncStatus::RemovalFailed),
            Self::Removed | Self::Rejected { is_doubtful: false } => None,
        }
    }
}

/// The purpose of a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It sends members who join and leave.
    #[default]
    Follows,
    /// It is deleted, and removes all members.
    Drains,
    /// Its destination is deleted, so that no member can be removed.
    Abandoned,
}

/// The reason why a sync run ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncRunError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] SegmentError),
    /// The destination asks for a later try, or an operator must fix something first.
    #[error("the destination stops the sync: {}", .0.code)]
    Destination(OutcomeReason, Option<Duration>),
    /// The destination refuses the credentials.
    #[error("the destination refuses the credentials: {}", .0.code)]
    Unauthorised(OutcomeReason),
    /// The list no longer exists.
    #[error("the destination's list no longer exists")]
    ListGone,
    /// No members can be sent, and a later try will not help.
    #[error("the destination accepts no members: {}", .0.code)]
    Impossible(OutcomeReason),
}

/// The end of one turn of a sync.
pub(super) enum SyncEvent {
    /// Everything is sent.
    Synced {
        /// The number of people whom the destination failed to remove.
        failed_removals: u64,
    },
    /// The segment is not stored.
    SegmentGone,
    /// The destination is removed.
    DestinationRemoved,
    /// The destination does not run at the moment.
    DestinationAway,
    /// The list to which some people were to be sent no longer exists.
    ListGone,
    /// The run failed.
    Failed(SyncRunError),
}

/// The trigger that a sync waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SyncTrigger {
    /// Its segment's next run, or changed people.
    Run,
    /// Nothing in this task: another task takes over.
    NewTask,
    /// The end of this pause.
    Pause(Duration),
    /// Nothing more: the sync has ended.
    Ended,
}

impl SyncState {
    /// Makes the transition at the end of a turn: returns the next state, and the trigger of the next turn.
    /// `failures` is the number of earlier failures in a row, `recheck` the interval of checks of all rows.
    pub(super) fn next(
        self,
        event: &SyncEvent,
        failures: u32,
        recheck: Duration,
    ) -> (Self, SyncTrigger) {
        let trigger = match (self, event) {
            (_, SyncEvent::DestinationRemoved) => return (Self::Abandoned, SyncTrigger::NewTask),
            (_, SyncEvent::DestinationAway) => SyncTrigger::Pause(DESTINATION_AWAY_PAUSE),
            (_, SyncEvent::ListGone) => SyncTrigger::Pause(Duration::ZERO),
            (_, SyncEvent::Failed(error)) => SyncTrigger::Pause(retry_pause(error, failures)),
            (Self::Drains, SyncEvent::SegmentGone | SyncEvent::Synced { failed_removals: 0 }) => {
                SyncTrigger::Ended
            }
            (Self::Drains, SyncEvent::Synced { .. }) => SyncTrigger::Pause(recheck),
            (_, SyncEvent::SegmentGone | SyncEvent::Synced { .. }) => SyncTrigger::Run,
        };
        (self, trigger)
    }
}

/// Returns the pause after this failure.
fn retry_pause(error: &SyncRunError, failures: u32) -> Duration {
    let usual = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
    match error {
        SyncRunError::Destination(_, Some(asked)) => {
            (*asked).clamp(Duration::from_secs(1), MAX_PAUSE)
        }
        SyncRunError::Destination(_, None) | SyncRunError::Store(_) | SyncRunError::ListGone => {
            usual
        }
        SyncRunError::Unauthorised(_) | SyncRunError::Impossible(_) => OPERATOR_FIX_PAUSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_follows_the_table() {
        let recheck = Duration::from_secs(86_400);
        let next = |state: SyncState, event| state.next(&event, 2, recheck);
        let synced = |failed_removals| SyncEvent::Synced { failed_removals };
        for state in [SyncState::Follows, SyncState::Drains] {
            let pause = |event| match next(state, event) {
                (after, SyncTrigger::Pause(pause)) if after == state => pause.as_secs(),
                other => panic!("{other:?}"),
            };
            assert_eq!(pause(SyncEvent::DestinationAway), 5);
            assert_eq!(pause(SyncEvent::ListGone), 0);
            assert_eq!(pause(SyncEvent::Failed(SyncRunError::ListGone)), 20, "the third in a row");
            let refused = SyncRunError::Unauthorised(OutcomeReason::new("unauthorised"));
            assert_eq!(pause(SyncEvent::Failed(refused)), 600);
            let removed = next(state, SyncEvent::DestinationRemoved);
            assert_eq!(removed, (SyncState::Abandoned, SyncTrigger::NewTask));
        }
        let (follows, drains) = (SyncState::Follows, SyncState::Drains);
        assert_eq!(next(follows, synced(1)), (follows, SyncTrigger::Run));
        assert_eq!(next(follows, SyncEvent::SegmentGone), (follows, SyncTrigger::Run));
        assert_eq!(next(drains, synced(0)), (drains, SyncTrigger::Ended));
        assert_eq!(next(drains, synced(1)), (drains, SyncTrigger::Pause(recheck)));
        assert_eq!(next(drains, SyncEvent::SegmentGone), (drains, SyncTrigger::Ended));
    }

    #[test]
    fn rejected_row_stays_where_an_earlier_call_may_have_added_it() {
        let next = |is_doubtful| SyncedMemberChange::Rejected { is_doubtful }.next_status();
        assert_eq!((next(true), next(false)), (Some(SyncStatus::Pending), None));
        for status in [SyncStatus::Pending, SyncStatus::Confirmed, SyncStatus::RemovalFailed] {
            assert_eq!(SyncStatus::of_number(status.number()), status);
        }
    }
}

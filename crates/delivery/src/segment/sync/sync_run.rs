//! One sync run: compares the rows sent to a destination with the members, and sends the differences. A page
//! of people is in memory at a time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;

use super::super::{ProfileSelection, SegmentId, SyncKind, SyncSettings};
use super::person::{MemberIdentity, MemberProfile, consents};
use super::state::{SyncRunError, SyncStatus, SyncedMemberChange};
use super::{SyncRecord, SyncStore, SyncedMember};
use crate::DestinationHandle;
use tagway_core::clock::SharedClock;
use tagway_core::event::SenderRank;
use tagway_storage::journal::{Journal, MessageKey, NewJournalRecord, ReaderGuard, SiteId};
use tagway_storage::profile::ProfileId;
use tagway_vendors::audience::{AudienceChange, AudienceList, AudienceRow, LIST_GONE};
use tagway_vendors::{Outcome, OutcomeReason, VendorAudience};

/// The number of people processed together.
const PAGE: usize = 1000;

/// The counts of a sync run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncRunCounts {
    /// The people who were added.
    pub(super) added: u64,
    /// The people who were removed.
    pub(super) removed: u64,
    /// The members who were left out, by reason.
    pub(super) left_out: BTreeMap<&'static str, u64>,
    /// The people whom the destination failed to remove, by reason.
    pub(super) not_removed: BTreeMap<&'static str, u64>,
}

/// The extent of a sync run.
#[derive(Clone, Debug, Default)]
pub(super) struct SyncExtent {
    /// True if all rows are checked against the profiles.
    pub(super) rechecks: bool,
    /// True if everyone is to be removed, whatever the memberships are.
    pub(super) is_draining: bool,
    /// The people to sync; `None` for everyone.
    pub(super) only_profiles: Option<Vec<ProfileId>>,
}

/// One sync run, with its parts.
pub(super) struct SyncRun<'p> {
    pub(super) store: &'p dyn SyncStore,
    pub(super) journal: &'p Arc<dyn Journal>,
    pub(super) clock: &'p SharedClock,
    pub(super) site: SiteId,
    pub(super) site_name: &'p str,
    pub(super) segment: SegmentId,
    pub(super) segment_name: &'p str,
    pub(super) sync: &'p SyncSettings,
    pub(super) destination: &'p DestinationHandle,
    pub(super) extent: SyncExtent,
    /// The careful mode after an abort, by person.
    pub(super) reader_guard: &'p Arc<ReaderGuard>,
}

/// Sorts before all profiles.
const START: ProfileId = ProfileId(i64::MIN);

/// The channel by which a destination receives members.
enum SyncChannel<'w> {
    /// Its own list of this name.
    List(&'w dyn VendorAudience, String),
    /// Events in the journal.
    Events,
}

/// A person whose row is to be sent.
struct SyncCandidate {
    profile: ProfileId,
    row: AudienceRow,
    sent_at_ms: i64,
    /// True if an earlier call may have sent them already.
    is_doubtful: bool,
}

impl SyncRun<'_> {
    /// Sends the differences.
    pub(super) async fn run(&self, record: &SyncRecord) -> Result<SyncRunCounts, SyncRunError> {
        let mut counts = SyncRunCounts::default();
        let way = self.open(record).await?;
        self.remove_members(record, &way, &mut counts).await?;
        if !self.extent.is_draining {
            self.add_members(record, &way, &mut counts).await?;
        }
        Ok(counts)
    }

    /// Returns the channel; makes the list if it does not exist.
    async fn open(&self, record: &SyncRecord) -> Result<SyncChannel<'_>, SyncRunError> {
        if self.sync.kind == SyncKind::Events {
            return Ok(SyncChannel::Events);
        }
        let Some(audience) = self.destination.settings.destination.audience() else {
            return Err(SyncRunError::Impossible(OutcomeReason::new("no_lists")));
        };
        if let Some(list) = &record.list {
            return Ok(SyncChannel::List(audience, list.clone()));
        }
        let listed = AudienceList {
            title: &self.sync.audience,
            segment: self.segment_name,
            id: self.sync.list.as_deref(),
        };
        let list = match audience.open_list(&listed, self.destination.caller()).await {
            Ok(list) => list,
            Err(outcome) => return Err(to_run_error(outcome)),
        };
        self.store.store_list(record.id, Some(list.clone())).await?;
        Ok(SyncChannel::List(audience, list))
    }

    /// Removes people who are no members, may not be known, or have another row now.
    async fn remove_members(
        &self,
        record: &SyncRecord,
        way: &SyncChannel<'_>,
        counts: &mut SyncRunCounts,
    ) -> Result<(), SyncRunError> {
        let mut after = START;
        while let Some(of) = self.page_after(after) {
            let page = self.store.synced_members(record.id, self.segment, of).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.profile;
            // A removal that failed would fail again a moment later.
            let tries = |member: &SyncedMember| {
                self.extent.rechecks
                    || self.extent.is_draining
                    || member.status != SyncStatus::RemovalFailed
            };
            let (mut gone, staying): (Vec<SyncedMember>, Vec<SyncedMember>) =
                page.into_iter().filter(tries).partition(|member| !self.remains_synced(member));
            // A pending row is sent again; if the row has changed, the old one must go first.
            let doubtful: Vec<SyncedMember> = staying
                .into_iter()
                .filter(|it| {
                    self.extent.rechecks
                        || self.extent.only_profiles.is_some()
                        || it.status == SyncStatus::Pending
                })
                .collect();
            if !doubtful.is_empty() {
                let (changed, same) = self.split_changed_rows(doubtful).await?;
                gone.extend(changed);
                // They are to be known there again, and by the same row.
                let same = same.into_iter().filter(|it| it.status == SyncStatus::RemovalFailed);
                let again = same
                    .map(|it| (it.profile, SyncedMemberChange::Pending(it.row, it.sent_at_ms)))
                    .collect();
                self.store.record_member_changes(record.id, again).await?;
            }
            let gone: Vec<SyncCandidate> = gone
                .into_iter()
                .map(|SyncedMember { profile, row, sent_at_ms: at, .. }| SyncCandidate {
                    profile,
                    row,
                    sent_at_ms: at,
                    is_doubtful: true,
                })
                .collect();
            let removed =
                self.send_changes(record, way, AudienceChange::Remove, &gone, counts).await?;
            counts.removed += removed;
        }
        Ok(())
    }

    /// Returns the selection of the page after this profile, if there may be one.
    fn page_after(&self, after: ProfileId) -> Option<ProfileSelection> {
        match &self.extent.only_profiles {
            None => Some(ProfileSelection::After(after, PAGE)),
            Some(these) if after == START => Some(ProfileSelection::These(these.clone())),
            Some(_) => None,
        }
    }

    fn remains_synced(&self, member: &SyncedMember) -> bool {
        let consent = member.consent.as_deref();
        let country = member.country.clone();
        let may_be_known =
            consent.is_some_and(|it| consents(it, country, &self.destination.settings));
        !self.extent.is_draining && member.is_member && may_be_known
    }

    /// Splits rows into those that differ from the current ones, and those that do not.
    async fn split_changed_rows(
        &self,
        synced: Vec<SyncedMember>,
    ) -> Result<(Vec<SyncedMember>, Vec<SyncedMember>), SyncRunError> {
        let ids = synced.iter().map(|it| it.profile).collect();
        let known = self.store.member_profiles(self.site, ids).await?;
        let now = self.clock.now();
        let rows = self.rows(known, now).await.into_iter();
        let rows = rows.filter_map(|(id, row)| Some((id, row.ok()?)));
        let rows: BTreeMap<ProfileId, AudienceRow> = rows.collect();
        Ok(synced.into_iter().partition(|it| rows.get(&it.profile) != Some(&it.row)))
    }

    /// Adds members who have no row yet.
    async fn add_members(
        &self,
        record: &SyncRecord,
        way: &SyncChannel<'_>,
        counts: &mut SyncRunCounts,
    ) -> Result<(), SyncRunError> {
        let mut after = START;
        while let Some(of) = self.page_after(after) {
            let page = self.store.unsynced_members(record.id, self.segment, of).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            let since: BTreeMap<ProfileId, Option<i64>> = page.into_iter().collect();
            let people =
                self.store.member_profiles(self.site, since.keys().copied().collect()).await?;
            let now = self.clock.now();
            let mut new = Vec::with_capacity(people.len());
            for (profile, row) in self.rows(people, now).await {
                match row {
                    Ok(row) => {
                        let told_at = since.get(&profile).copied().flatten();
                        let at = told_at.unwrap_or_else(|| now.as_millisecond());
                        let is_doubtful = told_at.is_some();
                        new.push(SyncCandidate { profile, row, sent_at_ms: at, is_doubtful });
                    }
                    Err(reason) => *counts.left_out.entry(reason.code).or_default() += 1,
                }
            }
            let added = self.send_changes(record, way, AudienceChange::Add, &new, counts).await?;
            counts.added += added;
        }
        Ok(())
    }

    /// Returns the row of each of these people, or the reason for leaving a person out.
    async fn rows(
        &self,
        mut people: Vec<MemberProfile>,
        now: Timestamp,
    ) -> Vec<(ProfileId, Result<AudienceRow, OutcomeReason>)> {
        let mut rows = Vec::with_capacity(people.len());
        while !people.is_empty() {
            let count = self.reader_guard.group(people.iter().map(|someone| someone.id().0));
            let rest = people.split_off(count.min(people.len()));
            let some = std::mem::replace(&mut people, rest);
            let ids: Vec<i64> = some.iter().map(|someone| someone.id().0).collect();
            if let [id] = ids.as_slice()
                && self.reader_guard.is_poisoned(*id)
            {
                tracing::warn!(
                    site = self.site_name,
                    segment = self.segment_name,
                    profile = id,
                    "the process died repeatedly while it synced this person; the person is not synced \
                     to any destination"
                );
                rows.push((ProfileId(*id), Err(OutcomeReason::new("poison"))));
                continue;
            }
            let section = self.reader_guard.begin(ids).await;
            for someone in some {
                let id = someone.id();
                // A defect in a vendor's code must not end the sync.
                let row = catch_unwind(AssertUnwindSafe(|| self.row(someone, now)));
                rows.push((id, row.unwrap_or_else(|_panic| Err(OutcomeReason::new("defect")))));
            }
            section.end().await;
        }
        rows
    }

    /// Returns the row of a person for the destination.
    fn row(&self, someone: MemberProfile, now: Timestamp) -> Result<AudienceRow, OutcomeReason> {
        let person = someone.into_admitted_event(self.sync, &self.destination.settings, now)?;
        match (self.sync.kind, self.destination.settings.destination.audience()) {
            (SyncKind::List, Some(audience)) => audience.row(&person),
            _ => AudienceRow::of(&MemberIdentity::of(&person, &self.destination.settings)?),
        }
    }

    /// Sends some changes, in calls of the vendor's size. Returns the number of accepted ones.
    async fn send_changes(
        &self,
        record: &SyncRecord,
        way: &SyncChannel<'_>,
        change: AudienceChange,
        all: &[SyncCandidate],
        counts: &mut SyncRunCounts,
    ) -> Result<u64, SyncRunError> {
        let most = match way {
            SyncChannel::List(audience, _) => audience.max_rows().max(1),
            SyncChannel::Events => PAGE,
        };
        let mut confirmed = 0;
        for some in all.chunks(most) {
            if change == AudienceChange::Add {
                let notes = some.iter().map(|it| {
                    (it.profile, SyncedMemberChange::Pending(it.row.clone(), it.sent_at_ms))
                });
                self.store.record_member_changes(record.id, notes.collect()).await?;
            }
            let ends = self.send_call(record, way, change, some).await;
            let mut notes = Vec::with_capacity(some.len());
            let mut stop = None;
            for (telling, end) in some.iter().zip(ends) {
                let note = match (&end, change) {
                    (Outcome::Delivered, AudienceChange::Add) => SyncedMemberChange::Confirmed,
                    (Outcome::Delivered | Outcome::Skipped(_), AudienceChange::Remove) => {
                        SyncedMemberChange::Removed
                    }
                    (Outcome::Dead(reason), _) if reason.code == LIST_GONE => {
                        return Err(SyncRunError::ListGone);
                    }
                    (Outcome::Dead(reason), AudienceChange::Remove) => {
                        *counts.not_removed.entry(reason.code).or_default() += 1;
                        SyncedMemberChange::RemovalFailed
                    }
                    (Outcome::Skipped(reason) | Outcome::Dead(reason), AudienceChange::Add) => {
                        *counts.left_out.entry(reason.code).or_default() += 1;
                        SyncedMemberChange::Rejected { is_doubtful: telling.is_doubtful }
                    }
                    _ => {
                        stop.get_or_insert(end);
                        continue;
                    }
                };
                confirmed += u64::from(end == Outcome::Delivered);
                // A doubtful row is pending already, as it was stored before the call.
                if !matches!(note, SyncedMemberChange::Rejected { is_doubtful: true }) {
                    notes.push((telling.profile, note));
                }
            }
            self.store.record_member_changes(record.id, notes).await?;
            if let Some(outcome) = stop {
                return Err(to_run_error(outcome));
            }
        }
        Ok(confirmed)
    }

    /// Sends some changes in one call; if they are refused as a whole, in halves until the bad one is
    /// alone.
    async fn send_call(
        &self,
        record: &SyncRecord,
        way: &SyncChannel<'_>,
        change: AudienceChange,
        some: &[SyncCandidate],
    ) -> Vec<Outcome> {
        let ends = match way {
            SyncChannel::List(audience, list) => {
                let rows: Vec<AudienceRow> = some.iter().map(|it| it.row.clone()).collect();
                audience.change_members(list, change, &rows, self.destination.caller()).await
            }
            SyncChannel::Events => self.append(record, change, some).await,
        };
        if !ends.iter().all(|end| matches!(end, Outcome::Refused(_))) {
            return ends.into_iter().map(refused_as_dead).collect();
        }
        let (first, second) = some.split_at(some.len() / 2);
        if first.is_empty() {
            return ends.into_iter().map(refused_as_dead).collect();
        }
        let mut ends = Box::pin(self.send_call(record, way, change, first)).await;
        // A problem that stops the first half stops the second.
        match ends.iter().find(|end| stops_run(end)).cloned() {
            Some(end) => ends.resize(some.len(), end),
            None => ends.extend(Box::pin(self.send_call(record, way, change, second)).await),
        }
        ends
    }

    /// Sends changes as events: appends them to the journal, which delivers them.
    async fn append(
        &self,
        record: &SyncRecord,
        change: AudienceChange,
        some: &[SyncCandidate],
    ) -> Vec<Outcome> {
        let now = self.clock.now();
        let destination = &self.destination.settings.name;
        let journal_record = |telling: &SyncCandidate| {
            let named: MemberIdentity = telling.row.read()?;
            let stay = format!("{}:{}:{}", record.id.0, telling.profile.0, telling.sent_at_ms);
            let enters = change == AudienceChange::Add;
            let event = named.event(self.segment_name, destination, &stay, enters, now)?;
            let body = serde_json::to_vec(&event)
                .map_err(|_impossible| OutcomeReason::new("unmappable"))?;
            let message = MessageKey::new(self.site_name, &event.message_id);
            let (site, received_at) = (self.site, now);
            let rank = SenderRank::Server;
            Ok(NewJournalRecord { site, message, rank, received_at, identifies: false, body })
        };
        let made: Vec<Result<NewJournalRecord, OutcomeReason>> =
            some.iter().map(journal_record).collect();
        let mut ends: Vec<Outcome> = made
            .iter()
            .map(|made| match made {
                Ok(_) => Outcome::Delivered,
                Err(reason) => Outcome::Dead(reason.clone()),
            })
            .collect();
        let records: Vec<NewJournalRecord> = made.into_iter().flatten().collect();
        if records.is_empty() {
            return ends;
        }
        if let Err(error) = self.journal.append(records).await {
            let reason = OutcomeReason::detailed("journal", error.to_string());
            let later = Outcome::Retry { reason, after: None };
            ends.iter_mut().filter(|end| **end == Outcome::Delivered).for_each(|end| {
                end.clone_from(&later);
            });
        }
        ends
    }
}

/// Returns true if the outcome is not about the person.
fn stops_run(end: &Outcome) -> bool {
    match end {
        Outcome::Delivered | Outcome::Skipped(_) | Outcome::Refused(_) => false,
        Outcome::Dead(reason) => reason.code == LIST_GONE,
        Outcome::Retry { .. } | Outcome::Throttled { .. } | Outcome::Unauthorised(_) => true,
    }
}

/// A row that is refused alone will be refused again, so it is dead.
fn refused_as_dead(end: Outcome) -> Outcome {
    match end {
        Outcome::Refused(reason) => Outcome::Dead(reason),
        end => end,
    }
}

fn to_run_error(outcome: Outcome) -> SyncRunError {
    match outcome {
        Outcome::Retry { reason, after } => SyncRunError::Destination(reason, after),
        Outcome::Throttled { reason, after } => SyncRunError::Destination(reason, Some(after)),
        Outcome::Unauthorised(reason) => SyncRunError::Unauthorised(reason),
        Outcome::Dead(reason) | Outcome::Refused(reason) | Outcome::Skipped(reason)
            if reason.code == LIST_GONE =>
        {
            drop(reason);
            SyncRunError::ListGone
        }
        Outcome::Dead(reason) | Outcome::Refused(reason) | Outcome::Skipped(reason) => {
            SyncRunError::Impossible(reason)
        }
        // An existing list is no reason to stop.
        Outcome::Delivered => SyncRunError::Destination(OutcomeReason::new("no_outcome"), None),
    }
}

//! Subject rights over all stored data of a person: profile, events, parked events, dead letters.
//!
//! Forgetting first suppresses the person and then erases, so that no data returns after the erasure. An
//! unfinished erasure is resumed at the next start until it is recorded as done.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot};
use tokio_util::task::TaskTracker;

use crate::admin::{ExportPage, ForgetReport, ReaderSummary, RehearsalError, SubjectError};
use crate::gateway::{ErasureError, PersonErasure};
use tagway_core::event::{EnrichedEvent, Event, ProfileView};
use tagway_storage::journal::{
    Journal, JournalError, PersonNameDigest, PersonNameKind, SiteId, SqliteJournal, SubjectCursor,
    SubjectRecord, SubjectRights as _, UnfinishedErasure,
};
use tagway_storage::profile::{
    DailyActivity, ProfileError, ProfilePage, ProfileSearch, ProfileService, SubjectProfile,
};

/// The name of erasing for the poison guard; no destination can have it.
const GUARD_READER_NAME: &str = "(erasing)";

/// The wait after an abort before erasing, until the readers of the journal run normally.
const GUARD_WAIT_LIMIT: Duration = Duration::from_secs(10);

/// A person's number for the poison guard: the same at every start.
fn person_number(names: &HashSet<PersonNameDigest>) -> i64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    names.iter().fold(0, |all, name| all ^ hash.hash_one(name).cast_signed())
}

/// Executes the requests of data subjects.
pub(super) struct SubjectService {
    journal: Arc<SqliteJournal>,
    profiles: Arc<ProfileService>,
    /// One person at a time: each request scans everything.
    turn: Mutex<()>,
    tasks: TaskTracker,
}

impl SubjectService {
    /// Creates the service. Erasing runs among `tasks`; it ends early when the journal closes.
    pub(super) fn new(
        journal: Arc<SqliteJournal>,
        profiles: Arc<ProfileService>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self { journal, profiles, turn: Mutex::default(), tasks })
    }

    /// Resumes the erasures that the last process had begun.
    pub(super) async fn resume(self: Arc<Self>) {
        let people = match self.journal.unfinished().await {
            Ok(people) => people,
            Err(error) => {
                tracing::error!(%error, "the erasure of forgotten people cannot be resumed; some data \
                    may remain until the next start");
                return;
            }
        };
        let guard = self.journal.guard();
        if guard.is_after_abort() {
            // Before the readers have identified the cause of the abort, the guard would suspect erasing too.
            guard.wait_for_careful_readers(GUARD_WAIT_LIMIT).await;
        }
        for UnfinishedErasure { site, names } in people {
            let (care, person) =
                (Arc::new(guard.watch(site, GUARD_READER_NAME)), person_number(&names));
            if care.is_poisoned(person) {
                tracing::error!(
                    site = site.0,
                    "the process died repeatedly while it erased a person; the person stays suppressed: \
                     run `tagway forget` again after the cause is fixed"
                );
                continue;
            }
            let under_way = care.begin_without_turn(person, true).await;
            let erased = self.erase(site, Arc::new(names)).await;
            under_way.end().await;
            match erased {
                Ok(report) => tracing::info!(
                    events = report.events,
                    profiles = report.profiles,
                    "an interrupted erasure of a person was resumed and is complete"
                ),
                Err(error) => {
                    tracing::error!(%error, "the erasure of a person failed: run `tagway forget` again");
                }
            }
        }
    }

    /// Returns an event of a site with its visitor's profile as it is now.
    pub(super) async fn enrich(
        &self,
        site: &str,
        seq: u64,
        event: Event,
    ) -> Result<EnrichedEvent, RehearsalError> {
        let site = self.journal.site(site).await;
        let site = site.map_err(|error| RehearsalError::Profiles(Box::new(error)))?;
        let event = Arc::new(event);
        let found = self.profiles.lookup(site, std::slice::from_ref(&event), true).await;
        let found = found.map_err(|error| RehearsalError::Profiles(Box::new(error)))?;
        let (view, computed) = match found.into_iter().next() {
            Some(profile) => (profile.view, profile.computed),
            None => (Arc::new(ProfileView::default()), None),
        };
        Ok(EnrichedEvent::new(seq, event, view).with_computed(computed))
    }

    /// Suppresses these people and erases them together. Continues to its end even if the caller leaves.
    pub(super) async fn forget(
        self: &Arc<Self>,
        site: &str,
        ids: &[String],
    ) -> Result<ForgetReport, SubjectError> {
        let site = self.journal.site(site).await.map_err(unavailable)?;
        let mut names = HashSet::new();
        for id in ids {
            let person = self.names(site, id, &self.profiles.subjects(site, id).await?);
            let person = self.journal.suppress(site, person).await.map_err(unavailable)?;
            names.extend(person.iter().copied());
        }
        let names = Arc::new(names);
        let (sender, receiver) = oneshot::channel();
        let this = self.clone();
        self.tasks.spawn(async move {
            // If the caller has left, the erasure is done anyway.
            sender.send(this.erase(site, names).await).ok();
        });
        receiver.await.unwrap_or(Err(unavailable(JournalError::Closed)))
    }

    /// Lifts the suppression only.
    pub(super) async fn lift_suppression(&self, site: &str, id: &str) -> Result<u64, SubjectError> {
        let site = self.journal.site(site).await.map_err(unavailable)?;
        for key in
            PersonNameKind::ALL.into_iter().flat_map(|kind| PersonNameDigest::all(site, kind, id))
        {
            let lifted = self.journal.lift_suppression(site, key).await;
            let lifted = lifted.map_err(unavailable)?;
            if lifted > 0 {
                return Ok(lifted);
            }
        }
        Ok(0)
    }

    /// Some of the stored data of a person, starting with the profile. `readers` are the destinations.
    pub(super) async fn export(
        &self,
        (site_name, id): (&str, &str),
        from: Option<SubjectCursor>,
        readers: &[ReaderSummary],
        now: Timestamp,
    ) -> Result<ExportPage, SubjectError> {
        let site = self.journal.site(site_name).await.map_err(unavailable)?;
        let subjects = self.profiles.subjects(site, id).await?;
        let names = Arc::new(self.names(site, id, &subjects));
        let mut rows: Vec<Value> = match from {
            None => subjects.iter().map(profile_row).collect(),
            Some(_) => Vec::new(),
        };
        let from = from.unwrap_or(SubjectCursor::START);
        let page =
            self.journal.read_subject_records(site, names, from).await.map_err(unavailable)?;
        let readers: Vec<_> = readers.iter().filter(|reader| &*reader.site == site_name).collect();
        for held in &page.records {
            let mut states = serde_json::Map::new();
            if matches!(held.at, SubjectCursor::Events(_)) {
                let ids = readers.iter().map(|reader| reader.reader).collect();
                let event = self.journal.event(site, held.seq, ids).await.map_err(unavailable)?;
                for (reader, at) in readers.iter().zip(event.iter().flat_map(|it| &it.readers)) {
                    states.insert((*reader.destination).to_owned(), at.name(now).into());
                }
            }
            let reader = readers.iter().find(|reader| Some(reader.reader) == held.reader);
            rows.push(row(held, reader.map(|reader| &*reader.destination), states));
        }
        Ok(ExportPage { held: rows, next: page.next })
    }

    /// The profiles of the person with this name.
    pub(super) async fn profiles(&self, site: &str, id: &str) -> Result<Vec<Value>, SubjectError> {
        let site = self.journal.site(site).await.map_err(unavailable)?;
        Ok(self.profiles.subjects(site, id).await?.iter().map(profile_row).collect())
    }

    /// Searches the profiles of a site.
    pub(super) async fn search(
        &self,
        site: &str,
        search: ProfileSearch,
    ) -> Result<ProfilePage, SubjectError> {
        let site = self.journal.site(site).await.map_err(unavailable)?;
        Ok(self.profiles.search(site, search).await?)
    }

    /// The names of the people found by an id. The id of an unknown person may be of any kind.
    fn names(
        &self,
        site: SiteId,
        id: &str,
        subjects: &[SubjectProfile],
    ) -> HashSet<PersonNameDigest> {
        let keys = |(kind, name): (PersonNameKind, &str)| {
            PersonNameDigest::all(site, kind, name).collect::<Vec<PersonNameDigest>>()
        };
        if subjects.is_empty() {
            return PersonNameKind::ALL.into_iter().flat_map(|kind| keys((kind, id))).collect();
        }
        subjects.iter().flat_map(SubjectProfile::names).flat_map(keys).collect()
    }

    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ForgetReport, SubjectError> {
        let _turn = self.turn.lock().await;
        let erased = self.journal.erase(site, names.clone()).await.map_err(unavailable)?;
        let profiles = self.profiles.erase(site, names.clone()).await?;
        let count = names.len() as u64;
        self.journal.note_erased(site, names).await.map_err(unavailable)?;
        Ok(ForgetReport {
            names: count,
            profiles,
            events: erased.events,
            parked: erased.parked,
            dead: erased.dead,
        })
    }
}

/// The erasure of people at the request of the site's servers.
pub(super) struct ServerErasure(pub(super) Arc<SubjectService>);

#[async_trait]
impl PersonErasure for ServerErasure {
    async fn forget(&self, site: &str, ids: &[String]) -> Result<(), ErasureError> {
        let erased = self.0.forget(site, ids).await;
        erased.map(|_report| ()).map_err(|error| ErasureError(Box::new(error)))
    }
}

fn profile_row(subject: &SubjectProfile) -> Value {
    let identities = subject.identities.iter();
    let identities = identities.map(|(identity, rank)| {
        json!({ "kind": identity.kind.name(), "value": identity.value, "rank": rank })
    });
    let ranks = subject.traits.keys().map(|key| {
        let rank = subject.trait_ranks.get(key).copied().unwrap_or_default();
        (key.clone(), json!(rank))
    });
    let mut row = subject.computed.members();
    row.insert("kind".to_owned(), "profile".into());
    row.insert("user_id".to_owned(), subject.user_id.clone().into());
    row.insert("identities".to_owned(), identities.collect());
    row.insert("rank".to_owned(), json!(subject.rank));
    row.insert("traits".to_owned(), Value::Object(subject.traits.clone()));
    row.insert("trait_ranks".to_owned(), ranks.collect());
    let days = subject.activity.iter().map(activity_row).collect();
    row.insert("days".to_owned(), days);
    Value::Object(row)
}

/// A person's activity on one day.
fn activity_row(activity: &DailyActivity) -> Value {
    let DailyActivity { event, day, tally } = activity;
    let day = day.checked_mul(86_400).and_then(|seconds| Timestamp::from_second(seconds).ok());
    let mut row = tally.members();
    if let Value::Object(row) = &mut row {
        row.insert("event".to_owned(), event.as_str().into());
        row.insert("day".to_owned(), day.map(|day| day.strftime("%F").to_string()).into());
    }
    row
}

fn row(
    held: &SubjectRecord,
    destination: Option<&str>,
    states: serde_json::Map<String, Value>,
) -> Value {
    let event: Value = serde_json::from_slice(&held.body).unwrap_or_default();
    let (seq, time) = (held.seq, held.time);
    match held.at {
        SubjectCursor::Events(_) => json!({
            "kind": "event", "seq": seq, "received_at": time, "destinations": states, "event": event,
        }),
        SubjectCursor::Parked(..) => json!({
            "kind": "parked", "seq": seq, "received_at": time, "destination": destination,
            "event": event,
        }),
        SubjectCursor::Dead(id) => json!({
            "kind": "dead", "id": id, "seq": seq, "at": time, "destination": destination,
            "reason": held.reason.as_ref().map(|reason| &reason.code),
            "detail": held.reason.as_ref().map(|reason| &reason.detail),
            "event": event,
        }),
    }
}

fn unavailable(error: JournalError) -> SubjectError {
    SubjectError::Unavailable(Box::new(error))
}

impl From<ProfileError> for SubjectError {
    fn from(error: ProfileError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

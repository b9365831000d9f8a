//! The projection of one site: applies the journal's events to the profiles, and publishes its progress.

use std::convert::Infallible;
use std::error::Error;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::reader_guard::ProfileReaderGuard;
use super::{
    Activity, CounterBackfill, DeviceIdentity, EventCounterSet, Identity, IdentityKind,
    ProfileError, ProfileService, ProfileUpdate, SiteProfileSettings, identity, until_changed,
};
use crate::journal::{
    Journal, JournalHead, JournalReadLimits, JournalRecord, PROJECTION, ReaderId, ReaderPosition,
    ReaderSettlement, SiteId,
};
use tagway_core::event::{Event, EventKind, JsonObject};
use tagway_core::metrics::{Metrics, SharedName, SiteLabels};

/// Identifying events applied by one transaction: a few milliseconds of the writer's time.
const BATCH: usize = 200;

/// The limits of one transaction if every event counts: most only count, and the more there are the
/// fewer pages are written twice. Some 20 milliseconds of the writer's time when the projection is
/// behind; otherwise there are fewer.
const COUNTED_READ_LIMITS: JournalReadLimits = JournalReadLimits { events: 1000, bytes: 4 << 20 };

/// Events parsed before the task yields.
const STRETCH_EVENTS: usize = 64;

/// The longest time for which the projection's position may be unwritten when no event was applied: bounds what is
/// read again after a restart, and how long events stay that every destination has settled.
const CURSOR_WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after an error of the store.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The site of a projection and its settings.
pub struct ProjectionConfig {
    /// The number of the site.
    pub site: SiteId,
    /// The name of the site.
    pub name: SharedName,
    /// The site's settings of profiles; they change with a reload.
    pub settings: watch::Receiver<SiteProfileSettings>,
    /// The names that events count under, besides their own; they change with a reload.
    pub counters: watch::Receiver<Arc<dyn EventCounterSet>>,
}

/// The projection of one site, a reader of its journal.
pub struct ProfileProjection {
    site: SiteId,
    labels: SiteLabels,
    settings: watch::Receiver<SiteProfileSettings>,
    counters: watch::Receiver<Arc<dyn EventCounterSet>>,
    /// The names under which events count until the next update; `None` if they are not counted.
    counting: Option<Arc<dyn EventCounterSet>>,
    /// These names, once the store has recorded that events count under them from here on.
    followed: watch::Sender<Option<Vec<String>>>,
    reader: ReaderId,
    journal: Arc<dyn Journal>,
    profiles: Arc<ProfileService>,
    metrics: Arc<Metrics>,
    /// The last event that is in the profiles.
    done: u64,
    /// The last event that may be delivered: as `done`, unless the store has failed for longer than events wait.
    open: watch::Sender<u64>,
    /// The time since which the profiles stand still because of an error.
    stalled_since: Option<Instant>,
    /// True if `done` is the store's position: after an error the store may have another, and at the
    /// start it may not answer yet.
    is_position_known: bool,
    /// The position that is written, and the time since when.
    written_cursor: u64,
    cursor_written_at: Instant,
    /// The guard against poison events.
    reader_guard: ProfileReaderGuard,
}

impl ProfileProjection {
    /// Creates the projection of a site, at its stored position.
    ///
    /// # Errors
    ///
    /// Fails if the journal cannot be read or written.
    pub async fn start(
        setup: ProjectionConfig,
        journal: Arc<dyn Journal>,
        profiles: Arc<ProfileService>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ProfileError> {
        let ProjectionConfig { site, name, settings, counters } = setup;
        let at = profiles.projected_seq(site).await;
        if let Err(error) = &at {
            let error = error as &dyn Error;
            tracing::warn!(error, site = %name, "the profile store does not answer yet");
        }
        let is_sure = at.is_ok();
        let at = at.unwrap_or(0);
        let reader = journal.reader(site, PROJECTION).await?;
        let labels = SiteLabels { site: name };
        let care = ProfileReaderGuard::new(
            &*journal,
            site,
            PROJECTION,
            "profiles",
            COUNTED_READ_LIMITS.events,
        );
        // The journal's position is written after the profiles', so it may be older.
        let (noted, noted_at) = (journal.position(reader).await?.cursor, Instant::now());
        Ok(Self {
            site,
            labels,
            settings,
            counters,
            counting: None,
            followed: watch::Sender::new(None),
            reader,
            journal,
            profiles,
            metrics,
            done: at,
            open: watch::Sender::new(at),
            stalled_since: None,
            is_position_known: is_sure,
            written_cursor: noted,
            cursor_written_at: noted_at,
            reader_guard: care,
        })
    }

    /// Returns the reader that keeps the projection's events from leaving.
    pub fn reader(&self) -> ReaderId {
        self.reader
    }

    /// Returns the backfill of counters for events from before they began.
    pub fn counter_backfill(&self, per_second: NonZeroU32) -> CounterBackfill {
        CounterBackfill {
            site: self.site,
            labels: self.labels.clone(),
            counters: self.counters.clone(),
            followed: self.followed.subscribe(),
            journal: self.journal.clone(),
            profiles: self.profiles.clone(),
            metrics: self.metrics.clone(),
            per_second,
            reader_guard: CounterBackfill::create_guard(&*self.journal, self.site),
        }
    }

    /// Returns the last event that may be delivered; changes are published. Everything up to it is in
    /// the profiles, unless their store fails and events do not wait for it.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.open.subscribe()
    }

    /// Follows the journal until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.settings.borrow().activity {
            // Takes longer than other tasks on this runtime should wait. A panic in it shows when the
            // tables are used.
            let agents = self.profiles.agents().clone();
            tokio::task::spawn_blocking(move || agents.prepare()).await.ok();
        }
        let mut head = self.journal.head(self.site);
        loop {
            let target = *head.borrow_and_update();
            let began = Instant::now();
            let (open, since) = (self.open.clone(), self.stalled_since.unwrap_or(began));
            let passing =
                release_after_patience(&open, &head, since, self.profiles.delivery_wait_limit());
            let stepped = tokio::select! {
                biased;
                never = passing => match never {},
                stepped = AssertUnwindSafe(self.step(target)).catch_unwind() => stepped,
            };
            let stepped = stepped.unwrap_or_else(|_panic| {
                self.is_position_known = false;
                self.reader_guard.begin(COUNTED_READ_LIMITS.events);
                Err(ProfileError::Panicked)
            });
            match stepped {
                Ok(true) => self.publish_progress(),
                Ok(false) => {
                    self.publish_progress();
                    self.reader_guard.end();
                    let is_behind = self.done > self.written_cursor;
                    tokio::select! {
                        changed = head.changed() => if changed.is_err() { return },
                        () = sleep_until(self.cursor_written_at + CURSOR_WRITE_INTERVAL), if is_behind => {}
                        () = until_changed(&mut self.settings) => self.settings.mark_changed(),
                        () = until_changed(&mut self.counters) => self.counters.mark_changed(),
                        () = stop.cancelled() => return,
                    }
                }
                Err(error) => {
                    self.record_stall(&error, began);
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Runs one step towards `target`. Returns whether there was anything to do.
    async fn step(&mut self, target: JournalHead) -> Result<bool, ProfileError> {
        let lag = i64::try_from(target.seq.saturating_sub(self.done)).unwrap_or(i64::MAX);
        self.metrics.projection_lag_events.get_or_create(&self.labels).set(lag);
        if !self.is_position_known {
            self.resume().await?;
        }
        self.update_counter_names().await?;
        if self.done >= target.seq
            && (self.done == self.written_cursor || !self.is_cursor_write_due())
        {
            return Ok(false);
        }
        let advanced = self.advance(target.seq, target.identified).await;
        self.is_position_known = advanced.is_ok();
        advanced.map(|()| true)
    }

    /// Publishes the progress. Events that went ahead of the profiles have to be caught up with first.
    fn publish_progress(&mut self) {
        self.stalled_since = None;
        let done = self.done;
        self.open.send_if_modified(|open| std::mem::replace(open, done) != done);
    }

    /// Records an error of a step that began at `began`.
    fn record_stall(&mut self, error: &ProfileError, began: Instant) {
        let (site, error) = (&self.labels.site, error as &dyn Error);
        if self.stalled_since.is_none() {
            tracing::warn!(error, %site, "the profiles are not updated: the profile store failed");
        } else {
            tracing::debug!(error, %site, "the profiles are not updated: the profile store failed");
        }
        self.stalled_since.get_or_insert(began);
    }

    /// Reads the store's position. A batch that seemed to fail may have been written: then its changes
    /// were not published.
    async fn resume(&mut self) -> Result<(), ProfileError> {
        let now = self.profiles.projected_seq(self.site).await?;
        if now != self.done {
            self.profiles.forget();
            self.done = now;
        }
        self.is_position_known = true;
        Ok(())
    }

    fn is_cursor_write_due(&self) -> bool {
        self.cursor_written_at.elapsed() >= CURSOR_WRITE_INTERVAL
    }

    /// Records in the store the names that events count under from here on, if they have changed: they
    /// stay the same until the next update, so that the count of an event is never in doubt.
    async fn update_counter_names(&mut self) -> Result<(), ProfileError> {
        let is_new = self.settings.has_changed().unwrap_or(false)
            || self.counters.has_changed().unwrap_or(false);
        if self.followed.borrow().is_some() && !is_new {
            return Ok(());
        }
        let counters = self.counters.borrow_and_update().clone();
        let counting = self.settings.borrow_and_update().activity.then_some(counters);
        let names = counting.as_ref().map(|counters| counters.names()).unwrap_or_default();
        if self.followed.borrow().as_ref() != Some(&names) {
            if let Some(store) = self.profiles.counters()
                && let Err(error) = store.set_counters(self.site, self.done, names.clone()).await
            {
                self.counters.mark_changed();
                return Err(error);
            }
            self.followed.send_replace(Some(names));
        }
        self.counting = counting;
        Ok(())
    }

    /// Runs one step towards `target` or, once there, writes the position.
    async fn advance(&mut self, target: u64, identified: u64) -> Result<(), ProfileError> {
        let at = self.done;
        let counts = self.counting.is_some();
        let mut records = if counts {
            self.journal.read(self.site, at, target, COUNTED_READ_LIMITS).await?
        } else if at < identified {
            self.journal.read_identifying(self.site, at, target, BATCH).await?
        } else {
            Vec::new()
        };
        let is_cut = !counts && records.len() == BATCH;
        let is_cut = !self.reader_guard.limit_group(&mut records) || is_cut;
        let upto = match records.last() {
            // The read may have stopped at its limit of bytes.
            Some(last) if counts || is_cut => last.seq,
            _ => target,
        };
        if !records.is_empty() || (upto > self.written_cursor && self.is_cursor_write_due()) {
            let section = self.reader_guard.begin_work(&records).await;
            let learnt = self.apply_records(&records, upto).await;
            section.end().await;
            learnt?;
            (self.written_cursor, self.cursor_written_at) = (upto, Instant::now());
        }
        self.done = upto;
        Ok(())
    }

    /// Applies these records to the profiles, and records the new position.
    async fn apply_records(
        &self,
        records: &[JournalRecord],
        upto: u64,
    ) -> Result<(), ProfileError> {
        // The records may have been read before their person was erased.
        let forgotten = self.journal.suppression_list();
        let mut updates = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            if index % STRETCH_EVENTS == STRETCH_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
            if self.reader_guard.skips_poisoned(record.seq, &self.labels, &self.metrics) {
                continue;
            }
            if !forgotten.matches_body(self.site, &record.body) {
                updates.extend(self.update(record));
            }
        }
        self.profiles.apply(self.site, upto, updates).await?;
        let position = ReaderPosition { cursor: upto, ahead: Vec::new() };
        let settlement = ReaderSettlement { position, ..ReaderSettlement::default() };
        self.journal.settle(self.reader, settlement).await?;
        Ok(())
    }

    fn update(&self, record: &JournalRecord) -> Option<ProfileUpdate> {
        if record.body.is_empty() {
            return None;
        }
        let event = match serde_json::from_slice::<Event>(&record.body) {
            Ok(event) => event,
            Err(error) => {
                // The gateway wrote it; only a damaged disk gets here, and one event must not stop all.
                tracing::error!(seq = record.seq, %error, "an event in the journal is not readable; the \
                    disk may be damaged");
                return None;
            }
        };
        // An operator's test event is about no person.
        if event.facts.test_of.is_some() {
            return None;
        }
        let seen = self.counting.as_ref();
        let agents = self.profiles.agents();
        let seen = seen.and_then(|counters| Activity::of(&event, counters.as_ref(), agents));
        let says = record.identifies || seen.is_some();
        says.then(|| ProfileUpdate { activity: seen, ..update_of(&event) })
    }
}

/// Lets events be delivered ahead of profiles that have stood still for `patience` since `since`.
async fn release_after_patience(
    open: &watch::Sender<u64>,
    head: &watch::Receiver<JournalHead>,
    since: Instant,
    patience: Option<Duration>,
) -> Infallible {
    let Some(patience) = patience else { return std::future::pending().await };
    sleep_until(since + patience).await;
    loop {
        let head = head.borrow().seq;
        open.send_if_modified(|open| std::mem::replace(open, head.max(*open)) < head);
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Returns what an event states about its visitor's identity.
pub fn update_of(event: &Event) -> ProfileUpdate {
    let mut devices = identity::devices(event);
    let mut previous = None;
    if event.kind == EventKind::Alias {
        // The older id may have been a device's or a user's. As a device it joins the user, whatever
        // the sender. That two user ids are one person's is accepted from the site's servers only: in a
        // browser any visitor could make another person's profile their own.
        let older = |kind| Identity::of(kind, event.previous_id.as_deref());
        let device = older(IdentityKind::Anonymous)
            .map(|identity| DeviceIdentity { identity, client: None });
        devices
            .extend(device.filter(|device| !devices.iter().any(|d| d.identity == device.identity)));
        previous = older(IdentityKind::User).filter(|_| event.facts.from_server);
    }
    identity::add_browsers(event, &mut devices);
    let mut traits = JsonObject::new();
    let context = event.context.as_ref().and_then(|context| context.get("traits"));
    if let Some(stated) = context.and_then(serde_json::Value::as_object) {
        traits.extend(stated.clone());
    }
    // The traits of a group event are the group's.
    if event.kind == EventKind::Identify
        && let Some(stated) = &event.traits
    {
        traits.extend(stated.clone());
    }
    ProfileUpdate {
        at: event.timestamp,
        rank: event.facts.rank(),
        user: Identity::of(IdentityKind::User, event.user_id.as_deref()),
        previous,
        email: identity::email(event),
        devices,
        traits,
        activity: None,
    }
}

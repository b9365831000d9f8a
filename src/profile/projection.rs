//! The projection of one site: from the journal into the profiles, and then the word how far.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Identity, IdentityKind, ProfileError, Profiles, Update, identities};
use crate::event::{Event, Kind, Object};
use crate::journal::{Journal, PROJECTION, Position, ReaderId, Record, Settlement, SiteId};
use crate::metrics::{Metrics, Name, SiteLabels};

/// Identifying events applied by one transaction: a few milliseconds of the writer's time.
const BATCH: usize = 200;

/// Anonymous events after which the projection's place is written down even though nothing was
/// learnt: bounds what is looked at again after a restart.
const NOTE_EVERY: u64 = 50_000;

/// The pause after a store that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The projection of one site.
pub struct Projection {
    site: SiteId,
    labels: SiteLabels,
    reader: ReaderId,
    journal: Arc<dyn Journal>,
    profiles: Arc<Profiles>,
    metrics: Arc<Metrics>,
    done: watch::Sender<u64>,
    noted: u64,
}

impl Projection {
    /// Takes up the projection of a site where it stands.
    pub async fn start(
        site: SiteId,
        name: Name,
        journal: Arc<dyn Journal>,
        profiles: Arc<Profiles>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ProfileError> {
        let at = profiles.projected(site).await?;
        let reader = journal.reader(site, PROJECTION).await?;
        let (labels, done) = (SiteLabels { site: name }, watch::Sender::new(at));
        Ok(Self { site, labels, reader, journal, profiles, metrics, done, noted: at })
    }

    /// The reader that keeps the projection's events from leaving.
    pub fn reader(&self) -> ReaderId {
        self.reader
    }

    /// How far the profiles have come, changing as they do.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    /// Follows the journal until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut head = self.journal.head(self.site);
        loop {
            let target = *head.borrow_and_update();
            let at = *self.done.borrow();
            let lag = i64::try_from(target.seq.saturating_sub(at)).unwrap_or(i64::MAX);
            self.metrics.projection_lag_events.get_or_create(&self.labels).set(lag);
            if at >= target.seq {
                tokio::select! {
                    changed = head.changed() => if changed.is_err() { return },
                    () = stop.cancelled() => return,
                }
                continue;
            }
            if let Err(error) = self.advance(target.seq, target.identified).await {
                tracing::warn!(%error, site = %self.labels.site, "the profiles stand still");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// One step towards `target`.
    async fn advance(&mut self, target: u64, identified: u64) -> Result<(), ProfileError> {
        let at = *self.done.borrow();
        let records = if at < identified {
            self.journal.read_identifying(self.site, at, target, BATCH).await?
        } else {
            Vec::new()
        };
        let upto = match records.last() {
            Some(last) if records.len() == BATCH => last.seq,
            _ => target,
        };
        if !records.is_empty() || upto.saturating_sub(self.noted) >= NOTE_EVERY {
            let updates = records.iter().filter_map(update).collect();
            self.profiles.apply(self.site, upto, updates).await?;
            let position = Position { cursor: upto, ahead: Vec::new() };
            let settlement = Settlement { position, ..Settlement::default() };
            self.journal.settle(self.reader, settlement).await?;
            self.noted = upto;
        }
        self.done.send_replace(upto);
        Ok(())
    }
}

fn update(record: &Record) -> Option<Update> {
    match serde_json::from_slice::<Event>(&record.body) {
        Ok(event) => Some(update_of(&event)),
        Err(error) => {
            // The gateway wrote it; only a damaged disk gets here, and one event must not stop all.
            tracing::error!(seq = record.seq, %error, "an event in the journal is not readable");
            None
        }
    }
}

/// What an event says about who its visitor is.
pub fn update_of(event: &Event) -> Update {
    let mut devices = identities(event);
    devices.retain(|identity| identity.kind != IdentityKind::User);
    if event.kind == Kind::Alias {
        // The older id may have been a device's or a user's. As a device it joins the user; a
        // user of that name keeps its own profile, since two known people are never merged.
        devices.extend(Identity::of(IdentityKind::Anonymous, event.previous_id.as_deref()));
    }
    let mut traits = Object::new();
    let context = event.context.as_ref().and_then(|context| context.get("traits"));
    if let Some(said) = context.and_then(serde_json::Value::as_object) {
        traits.extend(said.clone());
    }
    // The traits of a group event are the group's.
    if event.kind == Kind::Identify
        && let Some(said) = &event.traits
    {
        traits.extend(said.clone());
    }
    Update { user: event.user_id.clone(), devices, traits }
}

//! The match quality of a destination: the share of its recent events that carry each of its vendor's identifiers.
//!
//! A measurement runs a bounded sample of the journal's newest events through the destination's own filter, profiles
//! and mapping, as delivery does, and looks at the vendor's form of each event. Nothing is sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::settings::DestinationSettings;
use tagway_core::event::{EnrichedEvent, Event};
use tagway_core::metrics::SharedName;
use tagway_core::privacy::{ConsentDecision, ConsentRecord, UnknownConsent, decide};
use tagway_storage::journal::{Journal, JournalError, JournalReadLimits, JournalRecord, SiteId};
use tagway_storage::profile::{ProfileError, ProfileService};
use tagway_vendors::Outcome;
use tagway_vendors::match_keys::{MatchKey, carries};
use tagway_vendors::naming::is_like;

/// The number of admitted events in a sample: shares are exact to a few percent.
const SAMPLE_EVENTS: u64 = 2000;

/// The most events that are read for a sample: a destination may get few of its site's events.
const READ_EVENTS: u64 = 20_000;

/// The age up to which events are sampled.
const SAMPLE_DAYS: u32 = 7;

/// The events read, enriched and mapped in one step.
const STEP_EVENTS: u64 = 250;

/// The bytes read in one step.
const STEP_BYTES: usize = 4 << 20;

/// The number of events mapped without a yield to the runtime: about a millisecond.
const STRETCH_EVENTS: usize = 16;

/// The time for which a measurement is kept.
const CACHE_TIME: Duration = Duration::from_secs(600);

/// The share from which an identifier needs no advice.
const GOOD_SHARE: f64 = 0.95;

/// The share of one identifier.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchKeyShare {
    /// The identifier.
    pub key: &'static MatchKey,
    /// The number of events that carry it.
    pub events: u64,
    /// Its share of the sample, from 0 to 1.
    pub share: f64,
    /// A sentence that says how more events get it; none for a good share.
    pub raise: Option<String>,
}

/// The visitors' choices about the destination's categories, by event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsentShares {
    /// The number of events with consent.
    pub granted: u64,
    /// The number of events whose visitor refused.
    pub denied: u64,
    /// The number of events without a choice.
    pub unknown: u64,
}

/// A measurement of a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchQuality {
    /// The time of the measurement.
    pub measured_at: Timestamp,
    /// The most days back that it reaches.
    pub days: u32,
    /// The number of events read.
    pub read: u64,
    /// The number of events in the sample: those that the destination gets.
    pub sampled: u64,
    /// Each identifier of the vendor.
    pub keys: Vec<MatchKeyShare>,
    /// The share of events that the vendor recognises if a page reports them as well; none if that never matters.
    pub deduplicated: Option<f64>,
    /// The visitors' choices.
    pub consent: ConsentShares,
    /// The weighted share of all identifiers, from 0 to 10; none without a sample.
    pub score: Option<f64>,
}

/// The reason why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum MatchQualityError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The profiles cannot be read.
    #[error(transparent)]
    Profiles(#[from] ProfileError),
    /// The measurement was aborted: the process stops, or the mapping has a defect.
    #[error("the measurement was aborted")]
    Aborted,
}

/// The sources of one measurement.
pub(super) struct MatchQualitySource {
    pub(super) site: SiteId,
    /// The last event that is in the profiles.
    pub(super) projected: u64,
    pub(super) settings: Arc<DestinationSettings>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    pub(super) now: Timestamp,
}

/// A measurement with the settings that it was made with.
struct CachedMeasurement {
    at: Instant,
    settings: Arc<DestinationSettings>,
    quality: Arc<MatchQuality>,
}

/// The latest measurement of each destination. Its lock is held during a measurement: one runs at a time.
#[derive(Default)]
pub(super) struct MatchQualityCache(Mutex<BTreeMap<(SiteId, SharedName), CachedMeasurement>>);

impl MatchQualityCache {
    /// Returns the latest measurement, or makes one on this runtime.
    pub(super) async fn get_or_measure(
        &self,
        source: MatchQualitySource,
        runtime: &Handle,
    ) -> Result<Arc<MatchQuality>, MatchQualityError> {
        let key = (source.site, source.settings.name.clone());
        let mut cached = self.0.lock().await;
        cached.retain(|_, it| it.at.elapsed() < CACHE_TIME);
        if let Some(known) = cached.get(&key).filter(|it| it.settings == source.settings) {
            return Ok(known.quality.clone());
        }
        let settings = source.settings.clone();
        let measured = runtime.spawn(measure(source)).await;
        let quality = Arc::new(measured.map_err(|_aborted| MatchQualityError::Aborted)??);
        let measurement =
            CachedMeasurement { at: Instant::now(), settings, quality: quality.clone() };
        cached.insert(key, measurement);
        Ok(quality)
    }
}

/// The counts of a sample.
struct SampleCounts {
    keys: &'static [MatchKey],
    read: u64,
    sampled: u64,
    orders: u64,
    /// The number of events, and of orders, with each identifier.
    carried: Vec<(u64, u64)>,
    deduplicated: u64,
    not_deduplicated: u64,
    consent: ConsentShares,
}

async fn measure(source: MatchQualitySource) -> Result<MatchQuality, MatchQualityError> {
    let since = source.now - SignedDuration::from_hours(24 * i64::from(SAMPLE_DAYS));
    let keys = tagway_vendors::find(source.settings.vendor).map_or(&[][..], |it| it.match_keys);
    let mut counts = SampleCounts::new(keys);
    let mut upto = source.projected;
    for _ in 0..READ_EVENTS / STEP_EVENTS {
        if upto == 0 || counts.sampled >= SAMPLE_EVENTS {
            break;
        }
        let after = upto.saturating_sub(STEP_EVENTS);
        let limits = JournalReadLimits {
            events: usize::try_from(STEP_EVENTS).unwrap_or(1),
            bytes: STEP_BYTES,
        };
        let mut records = source.journal.read(source.site, after, upto, limits).await?;
        let is_past = records.first().is_some_and(|first| first.received_at < since);
        records.retain(|record| record.received_at >= since);
        source.count(records, &mut counts).await?;
        if is_past {
            break;
        }
        upto = after;
    }
    Ok(counts.into_quality(source.now))
}

impl MatchQualitySource {
    /// Counts the events of these records, the newest first.
    async fn count(
        &self,
        records: Vec<JournalRecord>,
        counts: &mut SampleCounts,
    ) -> Result<(), MatchQualityError> {
        let settings = &self.settings;
        let decoded = records.iter().filter_map(|record| {
            let mut event = serde_json::from_slice::<Event>(&record.body).ok()?;
            // Test events are no visitors'.
            settings.privacy.protect(&mut event);
            event.facts.test_of.is_none().then(|| (record.seq, Arc::new(event)))
        });
        let decoded: Vec<(u64, Arc<Event>)> = decoded.collect();
        counts.read += records.len() as u64;
        let events: Vec<Arc<Event>> = decoded.iter().map(|(_, event)| event.clone()).collect();
        let computed = settings.needs_computed_attributes();
        let found = self.profiles.lookup(self.site, &events, computed).await?;
        for (index, ((seq, event), profile)) in decoded.into_iter().zip(found).rev().enumerate() {
            if index % STRETCH_EVENTS == STRETCH_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
            if counts.sampled >= SAMPLE_EVENTS {
                return Ok(());
            }
            let received_at = event.received_at;
            let choice = self.choice(&event);
            let enriched =
                EnrichedEvent::new(seq, event, profile.view).with_computed(profile.computed);
            // As of its arrival: by now it may be too old for the vendor.
            let (enriched, admitted) = settings.rehearse(enriched, received_at);
            match admitted {
                Ok(()) => counts.add(&enriched, settings),
                Err(Outcome::Skipped(reason)) if is_about_consent(reason.code) => {}
                Err(_) => continue,
            }
            counts.consent.add(choice);
        }
        Ok(())
    }

    /// Returns the visitor's choice about the destination's categories.
    fn choice(&self, event: &Event) -> ConsentDecision {
        let record = event.context.as_ref().and_then(ConsentRecord::read);
        let categories = &self.settings.filter.consent;
        if categories.is_empty() {
            return ConsentDecision::Keep;
        }
        decide(categories, record.as_ref(), UnknownConsent::Hold)
    }
}

/// Returns true for the reasons of events that the visitor's choice alone excludes.
fn is_about_consent(code: &str) -> bool {
    matches!(code, "consent_denied" | "consent_unknown")
}

impl ConsentShares {
    fn add(&mut self, choice: ConsentDecision) {
        match choice {
            ConsentDecision::Keep => self.granted += 1,
            ConsentDecision::Drop(_) => self.denied += 1,
            ConsentDecision::Hold => self.unknown += 1,
        }
    }
}

impl SampleCounts {
    fn new(keys: &'static [MatchKey]) -> Self {
        Self {
            keys,
            read: 0,
            sampled: 0,
            orders: 0,
            carried: vec![(0, 0); keys.len()],
            deduplicated: 0,
            not_deduplicated: 0,
            consent: ConsentShares::default(),
        }
    }

    fn add(&mut self, event: &EnrichedEvent, settings: &DestinationSettings) {
        let is_order = is_like("ORDER_COMPLETED", event.event.label());
        self.sampled += 1;
        self.orders += u64::from(is_order);
        let data = settings.destination.match_data(event);
        for (key, (events, orders)) in self.keys.iter().zip(&mut self.carried) {
            if carries(&data, key) {
                *events += 1;
                *orders += u64::from(is_order);
            }
        }
        match settings.destination.can_deduplicate(event) {
            Some(true) => self.deduplicated += 1,
            Some(false) => self.not_deduplicated += 1,
            None => {}
        }
    }

    fn into_quality(self, measured_at: Timestamp) -> MatchQuality {
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let keys = self.keys.iter().zip(&self.carried).map(|(key, (events, orders))| {
            let of_all = share(*events, self.sampled).unwrap_or_default();
            // Orders are what advertisers pay for; without any, all events count.
            let (of_kind, kind) = match share(*orders, self.orders) {
                Some(of_orders) => (of_orders, "orders"),
                None => (of_all, "events"),
            };
            let raise = (self.sampled > 0 && of_kind < GOOD_SHARE).then(|| {
                let missing = ((1.0 - of_kind) * 100.0).round();
                format!("{}: {missing} % of {kind} have none", sentence(key.raise))
            });
            MatchKeyShare { key, events: *events, share: of_all, raise }
        });
        let keys: Vec<MatchKeyShare> = keys.collect();
        let points: f64 = keys.iter().map(|it| it.key.weight.points()).sum();
        let reached: f64 = keys.iter().map(|it| it.key.weight.points() * it.share).sum();
        let score = (self.sampled > 0 && points > 0.0).then(|| 10.0 * reached / points);
        MatchQuality {
            measured_at,
            days: SAMPLE_DAYS,
            read: self.read,
            sampled: self.sampled,
            keys,
            deduplicated: share(self.deduplicated, self.deduplicated + self.not_deduplicated),
            consent: self.consent,
            score,
        }
    }
}

/// Returns a text with a capital at its start.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

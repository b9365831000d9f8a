//! The plan of one event: the records it needs, in order, each for one of four calls
//! (`docs/contracts/destinations.md` 3.5). The event is delivered when all of them are.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::beacon;
use super::fields::MixpanelObjectWriter;
use super::identity::{self, MixpanelIds};
use super::names::event_name;
use super::profiles;
use super::record::{MixpanelPropertySet, MixpanelRecordKey, record};
use super::settings::{MixpanelIdMerge, MixpanelSettings};
use crate::{Outcome, beacon_format, naming, products};
use tagway_core::event::{DroppedFields, EnrichedEvent, EventKind, JsonObject};

/// The largest record, in bytes: less than 1 MB.
const MAX_RECORD_BYTES: usize = 999_999;

/// Properties of the whole order that the event of one product leaves out.
const ORDER_ONLY: &[&str] =
    &["products", "total", "subtotal", "revenue", "value", "shipping", "tax", "discount"];

/// The calls that records go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MixpanelEndpoint {
    /// Events, and merges of two ids.
    Import,
    /// Links of ids, in a project with original merging.
    Track,
    /// Updates of people's profiles.
    Engage,
    /// Updates of groups' profiles.
    Groups,
}

impl MixpanelEndpoint {
    /// All endpoints, in the order in which they are called when nothing else decides.
    pub(super) const ALL: [Self; 4] = [Self::Import, Self::Track, Self::Engage, Self::Groups];

    /// Returns the most records of one call.
    pub(super) const fn max_records(self) -> usize {
        match self {
            Self::Import | Self::Track | Self::Engage => 2000,
            Self::Groups => 200,
        }
    }
}

/// One record of an event.
#[derive(Debug)]
pub(super) struct MixpanelRecord {
    pub(super) path: MixpanelEndpoint,
    /// The record's JSON text.
    pub(super) record: Vec<u8>,
    /// The id by which Mixpanel may name the record when refusing it.
    pub(super) insert_id: Option<String>,
    /// Set if it only links device and user, which any event of both does as well.
    pub(super) is_link: bool,
}

/// The records of one event.
#[derive(Debug)]
pub(super) struct MixpanelRecordPlan {
    pub(super) steps: Vec<MixpanelRecord>,
    /// The number of records that Mixpanel has taken: a retried event continues there, so that nothing is
    /// added up twice.
    done: AtomicUsize,
}

impl MixpanelRecordPlan {
    fn new(steps: Vec<MixpanelRecord>) -> Self {
        Self { steps, done: AtomicUsize::new(0) }
    }

    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn set_done(&self, done: usize) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Returns true if the plan has an event that links device and user by itself.
    pub(super) fn has_event(&self) -> bool {
        self.steps.iter().any(|step| step.insert_id.is_some() && !step.is_link)
    }
}

/// Returns the plan of an event.
///
/// # Errors
///
/// Returns the reason why the event is not sent.
pub(super) fn plan(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Result<MixpanelRecordPlan, Outcome> {
    let steps = match event.event.kind {
        EventKind::Track | EventKind::Page | EventKind::Screen => events(event, settings, dropped)?,
        EventKind::Identify => identify(event, settings, dropped)?,
        EventKind::Group => group(event, settings)?,
        EventKind::Alias => alias(event, settings)?,
    };
    if steps.iter().any(|step| step.record.len() > MAX_RECORD_BYTES) {
        return Err(Outcome::dead("event_too_large"));
    }
    Ok(MixpanelRecordPlan::new(steps))
}

/// Plans a track event, a page or a screen, with the records that the settings add.
fn events(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Result<Vec<MixpanelRecord>, Outcome> {
    let name = event_name(event, settings)?;
    let stamp = MixpanelRecordKey {
        time: event.event.timestamp.as_millisecond(),
        insert_id: identity::insert_id(&event.event.message_id),
    };
    let empty = JsonObject::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    let stated = [MixpanelPropertySet { object: properties, except: &[] }];
    let mut steps = vec![import(&name, stamp, &stated, event, settings, dropped)];
    if event.event.kind != EventKind::Track {
        return Ok(steps);
    }
    if settings.product_events && naming::is_like("ORDER_COMPLETED", &name) {
        for (index, product) in (0_i64..).zip(products::listed_products(properties)) {
            // Each a moment before the order, so that the order comes last.
            let stamp = MixpanelRecordKey {
                time: event.event.timestamp.as_millisecond() - index - 1,
                insert_id: identity::further_insert_id(&event.event.message_id, &index.to_string()),
            };
            let stated = [
                MixpanelPropertySet { object: product, except: &[] },
                MixpanelPropertySet { object: properties, except: ORDER_ONLY },
            ];
            steps.push(import("Product Purchased", stamp, &stated, event, settings, dropped));
        }
    }
    if has_identity(event) {
        steps.extend(profiles::counts(event, settings).into_iter().map(engage));
    }
    Ok(steps)
}

fn identify(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Result<Vec<MixpanelRecord>, Outcome> {
    if !has_identity(event) {
        return Err(Outcome::dead("no_identity"));
    }
    let mut steps: Vec<MixpanelRecord> = link(event, settings, dropped)?.into_iter().collect();
    steps.extend(profiles::identify(event, settings, dropped).into_iter().map(engage));
    if steps.is_empty() { Err(Outcome::skipped("nothing_to_say")) } else { Ok(steps) }
}

/// Returns the record that tells Mixpanel that device and user are one person.
fn link(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Result<Option<MixpanelRecord>, Outcome> {
    let Some((user, device)) = MixpanelIds::of(event).pair() else { return Ok(None) };
    // Mixpanel's own library links ids by an event of its own, not by its updates of people.
    if beacon_format::is_from(event, beacon::CLIENT)
        && beacon_format::own_name(event, beacon::CLIENT).is_none()
    {
        return Ok(None);
    }
    let token = settings.token.expose();
    match settings.id_merge {
        MixpanelIdMerge::Simplified => {
            let Some(name) = &settings.link_event else { return Ok(None) };
            let stamp = MixpanelRecordKey {
                time: event.event.timestamp.as_millisecond(),
                insert_id: identity::insert_id(&event.event.message_id),
            };
            let step = import(name, stamp, &[], event, settings, dropped);
            Ok(Some(MixpanelRecord { is_link: true, ..step }))
        }
        MixpanelIdMerge::Original if identity::is_uuid_v4(device) => {
            let record = identity_event("$identify", |fields| {
                fields.put("$identified_id", user);
                fields.put("$anon_id", device);
                fields.put("token", token);
            });
            Ok(Some(MixpanelRecord {
                path: MixpanelEndpoint::Track,
                record,
                insert_id: None,
                is_link: false,
            }))
        }
        // $identify takes random UUIDs only; $merge takes any two ids but needs a service account.
        MixpanelIdMerge::Original if settings.has_service_account => {
            let record = identity_event("$merge", |fields| {
                fields.put("$distinct_ids", &[user, device]);
                fields.put("token", token);
            });
            Ok(Some(MixpanelRecord {
                path: MixpanelEndpoint::Import,
                record,
                insert_id: None,
                is_link: false,
            }))
        }
        MixpanelIdMerge::Original => Err(Outcome::dead("merge_needs_service_account")),
    }
}

fn group(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
) -> Result<Vec<MixpanelRecord>, Outcome> {
    let ids = profiles::group_ids(event, settings);
    if ids.is_empty() {
        return Err(Outcome::dead("missing_group_id"));
    }
    let mut steps = Vec::new();
    if has_identity(event) {
        steps.push(engage(profiles::membership(event, settings, &ids)));
    }
    for (key, id) in &ids {
        let records = profiles::group(event, settings, (key, id));
        steps.extend(records.into_iter().map(|record| MixpanelRecord {
            path: MixpanelEndpoint::Groups,
            record,
            insert_id: None,
            is_link: false,
        }));
    }
    if steps.is_empty() { Err(Outcome::skipped("nothing_to_say")) } else { Ok(steps) }
}

fn alias(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
) -> Result<Vec<MixpanelRecord>, Outcome> {
    if settings.id_merge == MixpanelIdMerge::Simplified {
        return Err(Outcome::skipped("no_aliases"));
    }
    let ids = MixpanelIds::of(event);
    let previous = event.event.previous_id.as_deref().filter(|id| identity::is_allowed(id));
    let (Some(user), Some(previous)) = (ids.user, previous.or(ids.device)) else {
        return Err(Outcome::dead("no_identity"));
    };
    if user == previous {
        return Err(Outcome::dead("alias_of_itself"));
    }
    let record = identity_event("$create_alias", |fields| {
        fields.put("distinct_id", previous);
        fields.put("alias", user);
        fields.put("token", settings.token.expose());
    });
    Ok(vec![MixpanelRecord {
        path: MixpanelEndpoint::Track,
        record,
        insert_id: None,
        is_link: false,
    }])
}

fn has_identity(event: &EnrichedEvent) -> bool {
    let ids = MixpanelIds::of(event);
    ids.user.is_some() || ids.device.is_some()
}

fn import(
    name: &str,
    stamp: MixpanelRecordKey,
    stated: &[MixpanelPropertySet<'_>],
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> MixpanelRecord {
    let record = record(name, &stamp, stated, event, settings, dropped);
    MixpanelRecord {
        path: MixpanelEndpoint::Import,
        record,
        insert_id: Some(stamp.insert_id),
        is_link: false,
    }
}

fn engage(record: Vec<u8>) -> MixpanelRecord {
    MixpanelRecord { path: MixpanelEndpoint::Engage, record, insert_id: None, is_link: false }
}

fn identity_event(
    name: &'static str,
    properties: impl FnOnce(&mut MixpanelObjectWriter<'_>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut fields = MixpanelObjectWriter::open(&mut out);
    fields.put("event", name);
    fields.put_object("properties", properties);
    fields.close();
    out
}

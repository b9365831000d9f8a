//! The segments as operators see them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::super::counters::Counting;
use super::super::sync::{Synced, Syncs};
use super::super::{By, Known, Ran, SegmentError};
use super::{Segments, SiteSegments};
use crate::metrics::Name;

/// A segment as operators see it. Times are milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The site's name.
    pub site: Name,
    /// The segment's name.
    pub name: Name,
    /// `user` or `group`.
    pub by: &'static str,
    /// Its plan.
    pub schedule: String,
    /// The rule, as it is written.
    #[serde(rename = "where")]
    pub rule: Value,
    /// Where its members go.
    pub destinations: Vec<Name>,
    /// How these hear of them.
    pub syncs: Vec<Synced>,
    /// Whether a run was begun and has not ended.
    pub is_running: bool,
    /// The members now: `ran` has those of the last run.
    pub members: u64,
    /// The last run.
    pub ran: Option<Ran>,
    /// When it is due.
    pub due_ms: Option<i64>,
    /// How far the counters are that its rule asks for, if it asks for any.
    pub counting: Option<Counting>,
    /// Whether it is set aside, since the process died over it again and again.
    pub is_set_aside: bool,
    /// Names of events that its rule asks for and under which nothing was counted.
    pub uncounted: Vec<String>,
}

impl Segments {
    /// Every segment of a site, or of all.
    pub async fn list(&self, of: Option<&str>) -> Result<Vec<Listed>, SegmentError> {
        let now = self.clock.now().as_millisecond();
        let states = self.syncs.as_ref().map(Syncs::states).unwrap_or_default();
        let mut listed = Vec::new();
        for site in self.sites.load_full().iter() {
            if of.is_some_and(|name| name != &*site.name) {
                continue;
            }
            let kept = self.store.known(site.id).await?;
            let counters = self.counters(site).await?;
            for segment in &site.segments {
                let known = kept.iter().find(|known| *known.name == *segment.name);
                let members = match known {
                    Some(known) => self.store.size(known.id).await?,
                    None => 0,
                };
                listed.push(Listed {
                    site: site.name.clone(),
                    name: segment.name.clone(),
                    by: segment.by.name(),
                    schedule: segment.schedule.describe(),
                    rule: segment.written.clone(),
                    destinations: segment.syncs.iter().map(|it| it.destination.clone()).collect(),
                    syncs: states
                        .iter()
                        .filter(|it| it.site == site.name && it.segment == segment.name)
                        .cloned()
                        .collect(),
                    is_running: known.is_some_and(|known| known.begun_at.is_some()),
                    members,
                    ran: known.and_then(|known| known.ran.clone()),
                    due_ms: self.due(site, segment, known, now),
                    counting: counters.as_deref().and_then(|it| Counting::of(&segment.rule, it)),
                    is_set_aside: self.is_set_aside(site, segment),
                    uncounted: self.uncounted(site, segment).await?,
                });
            }
            listed.extend(Self::leftovers(site, &states, &kept));
        }
        Ok(listed)
    }

    /// What destinations still have of segments of the site that are no more.
    fn leftovers(site: &SiteSegments, states: &[Synced], known: &[Known]) -> Vec<Listed> {
        let is_gone = |name: &Name| site.segments.iter().all(|it| it.name != *name);
        let mut left = BTreeMap::<Name, Vec<Synced>>::new();
        for state in states.iter().filter(|it| it.site == site.name && is_gone(&it.segment)) {
            left.entry(state.segment.clone()).or_default().push(state.clone());
        }
        let listed = left.into_iter().map(|(name, syncs)| Listed {
            site: site.name.clone(),
            by: By::default().name(),
            schedule: "removed".to_owned(),
            rule: Value::Null,
            destinations: Vec::new(),
            syncs,
            is_running: false,
            members: 0,
            ran: known.iter().find(|it| *it.name == *name).and_then(|it| it.ran.clone()),
            name,
            due_ms: None,
            counting: None,
            is_set_aside: false,
            uncounted: Vec::new(),
        });
        listed.collect()
    }
}

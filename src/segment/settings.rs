//! `[segments]` and `[[sites.segments]]`.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::By;
use super::rule::Rule;
use super::schedule::{Cron, Schedule};
use crate::metrics::Name;
use crate::settings::{Section, parse_duration};

/// The shortest time between two runs: a run looks at every profile.
const MIN_EVERY: Duration = Duration::from_secs(60);

/// `[segments]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For the question whom a rule selects.
    pub evaluate_time: Duration,
    /// How much later than planned a run may start.
    pub jitter: Duration,
    /// How often a segment in real time is evaluated for everybody.
    pub realtime_every: Duration,
    /// How long changes of people are gathered for segments in real time.
    pub realtime_delay: Duration,
    /// People of a site at most whose changes are looked at between two such runs, at once.
    pub realtime_people: usize,
    /// Memberships changed in one transaction.
    pub batch: usize,
    /// How often all that destinations were told is compared with what is known.
    pub recheck: Duration,
    /// Events of the journal looked at in a second for counters that are new.
    pub fill_per_second: NonZeroU32,
}

impl Settings {
    /// Reads `[segments]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            evaluate_time: section.positive_duration("evaluation_timeout"),
            jitter: section.duration("jitter"),
            realtime_every: section.positive_duration("realtime_every"),
            realtime_delay: section.positive_duration("realtime_delay"),
            realtime_people: section.integer("realtime_people", 1..=10_000),
            batch: section.integer("batch", 1..=100_000),
            recheck: section.positive_duration("recheck"),
            fill_per_second: NonZeroU32::new(section.integer("fill_per_second", 1..=1_000_000))
                .unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// One of `[[sites.segments]]`.
#[derive(Clone, Debug)]
pub struct SegmentSettings {
    /// Its name, unique in the site.
    pub name: Name,
    /// Who its members are.
    pub by: By,
    /// When it is evaluated.
    pub schedule: Schedule,
    /// Its own jitter, if it has one.
    pub jitter: Option<Duration>,
    /// Whom it selects.
    pub rule: Rule,
    /// The rule as it is written.
    pub written: Value,
    /// Where its members go.
    pub syncs: Vec<SyncSettings>,
}

/// How a destination hears of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// As a list of the vendor's that people are put on and taken off.
    List,
    /// As events of people who join and leave.
    Events,
}

impl SyncKind {
    const ALL: [(&str, Self); 2] = [("list", Self::List), ("events", Self::Events)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Events => "events",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }
}

/// One of `[[sites.segments.sync]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSettings {
    /// The destination's name.
    pub destination: Name,
    /// How it hears of members.
    pub kind: SyncKind,
    /// True if `kind` is not set, and follows from what the destination has.
    pub is_kind_implied: bool,
    /// What the audience is called there.
    pub audience: String,
    /// The vendor's own id of a list that was made by hand.
    pub list: Option<String>,
    /// Traits that go along.
    pub traits: Vec<String>,
}

impl SyncSettings {
    /// Of a sync that is no more, while the destination still has to hear that everybody left.
    pub fn ending(destination: &str, kind: SyncKind, segment: &str) -> Self {
        Self {
            destination: destination.into(),
            kind,
            is_kind_implied: false,
            audience: segment.to_owned(),
            list: None,
            traits: Vec::new(),
        }
    }
}

impl SegmentSettings {
    /// Reads one segment of a site that has these destinations, each with whether it has lists. Nothing comes of one with a mistake in
    /// its rule.
    pub fn read(section: &mut Section<'_>, destinations: &[(&str, bool)]) -> Option<Self> {
        let name: Name = section.string("name").into();
        let by = section.opt_choice("by", &By::ALL).unwrap_or_default();
        let is_static =
            section.opt_choice("kind", &[("dynamic", false), ("static", true)]).unwrap_or(false);
        let schedule = read_schedule(section, is_static);
        let jitter = section.opt_duration("jitter");
        let mut syncs: Vec<SyncSettings> = Vec::new();
        for mut sync in section.sections("sync", None) {
            let read = read_sync(&mut sync, &name, destinations);
            if syncs.iter().any(|it| it.destination == read.destination && it.kind == read.kind) {
                sync.mistake("destination", "hears of this segment already");
            }
            syncs.push(read);
        }
        let (written, rule) = read_rule(section)?;
        Some(Self { name, by, schedule: schedule?, jitter, rule, written, syncs })
    }

    /// Equal for equal rules: what a run was asked.
    pub fn fingerprint(&self) -> String {
        let digest =
            Sha256::new().chain_update(self.by.name()).chain_update(self.written.to_string());
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A rule that somebody is still at work on, and who its members are.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who.
    pub by: By,
    /// The rule, as it is written.
    pub written: Value,
}

impl Draft {
    /// Reads `where` and `by` of a file that has nothing else. Nothing comes of one with a mistake.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let by = section.opt_choice("by", &By::ALL).unwrap_or_default();
        let (written, _rule) = read_rule(section)?;
        Some(Self { by, written })
    }
}

fn read_rule(section: &mut Section<'_>) -> Option<(Value, Rule)> {
    if !section.has("where") {
        section.mistake("where", "is required");
        return None;
    }
    let written = section.tree("where")?;
    match Rule::parse(&written) {
        Ok(rule) => Some((written, rule)),
        Err(mistakes) => {
            for it in mistakes {
                if it.seen.is_some() {
                    let better = it.better.as_deref();
                    section.mistake_about_within("where", &it.path, &it.message, better);
                } else {
                    section.mistake_within("where", &it.path, &it.message);
                }
            }
            None
        }
    }
}

fn read_schedule(section: &mut Section<'_>, is_static: bool) -> Option<Schedule> {
    let (has_every, has_cron) = (section.has("every"), section.has("cron"));
    if is_static {
        for (key, is_set) in [("every", has_every), ("cron", has_cron)] {
            if is_set {
                section.mistake(key, "is nothing for a static segment, which is evaluated once");
            }
        }
        return Some(Schedule::Once);
    }
    if has_every == has_cron {
        let message = match has_every {
            true => "goes without cron: one of them says when",
            false => "is required, or cron",
        };
        section.mistake("every", message);
        return None;
    }
    if has_cron {
        let text = section.opt_string("cron")?;
        let cron = text.parse::<Cron>();
        let told = |why: &str| format!("is no plan such as \"0 3 * * *\": {why}");
        return match cron {
            Ok(cron) => Some(Schedule::Cron(cron)),
            Err(why) => {
                section.mistake_about("cron", &text, &told(&why), None);
                None
            }
        };
    }
    let text = section.opt_string("every")?;
    if text == "realtime" {
        return Some(Schedule::Realtime);
    }
    let time = parse_duration(&text).filter(|time| *time >= MIN_EVERY);
    if time.is_none() {
        let message = "is neither a time of one minute or more, such as \"24h\", nor \"realtime\"";
        section.mistake_about(
            "every",
            &text,
            message,
            Some("realtime").filter(|_| text.starts_with('r')),
        );
    }
    time.map(Schedule::Every)
}

fn read_sync(
    section: &mut Section<'_>,
    segment: &Name,
    destinations: &[(&str, bool)],
) -> SyncSettings {
    let destination = section.string("destination");
    let found = destinations.iter().find(|(name, _)| *name == destination);
    if section.has("destination") && found.is_none() {
        let names: Vec<&str> = destinations.iter().map(|(name, _)| *name).collect();
        section.unknown_name("destination", &destination, "destination", &names);
    }
    let has_lists = found.is_some_and(|(_, has_lists)| *has_lists);
    let asked = section.opt_choice("kind", &SyncKind::ALL);
    if asked == Some(SyncKind::List) && found.is_some() && !has_lists {
        section.mistake(
            "kind",
            "the destination has no lists: its settings lack what the vendor needs for them, or the \
             vendor has none; \"events\" needs nothing",
        );
    }
    let kind = asked.unwrap_or(if has_lists { SyncKind::List } else { SyncKind::Events });
    let list = section.opt_string("list");
    if list.is_some() && kind == SyncKind::Events {
        section.mistake("list", "is nothing where kind is \"events\"");
    }
    let audience = section.opt_string("audience");
    if audience.as_deref() == Some("") {
        section.mistake("audience", "must not be empty");
    }
    SyncSettings {
        destination: destination.into(),
        kind,
        is_kind_implied: asked.is_none(),
        list,
        audience: audience.unwrap_or_else(|| segment.to_string()),
        traits: section.strings("traits"),
    }
}

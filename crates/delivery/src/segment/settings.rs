//! The settings `[segments]` and `[[sites.segments]]`.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::MembershipUnit;
use super::rule::SegmentRule;
use super::schedule::{CronSchedule, SegmentSchedule};
use tagway_core::metrics::SharedName;
use tagway_settings::{Setting, SettingsSection, SettingsTable, parse_duration};

/// The described settings of `[segments]`.
pub const SEGMENTATION_SETTINGS: &[Setting] = &[
    Setting::positive_duration("evaluation_timeout")
        .default("2m")
        .doc("the time for one query of a rule; a million profiles take about a second"),
    Setting::duration("jitter").default("5m").doc(
        "runs start up to this much later than scheduled, each segment with an offset of \
             its own, so that segments with the same schedule do not start at once",
    ),
    Setting::positive_duration("realtime_delay").default("1s").doc(
        "a segment with every = \"realtime\" evaluates changed people together, once in \
             this time: each evaluation is one query for any number of people",
    ),
    Setting::positive_duration("realtime_every").default("1m").doc(
        "interval of the full runs of such segments, because elapsed time and changes of \
             other people in a group also change members",
    ),
    Setting::integer("fill_per_second", 1, 1_000_000).default("10_000").doc(
        "journal events read per second to fill a new rule's counters with past events: \
             about a tenth of a core while it runs. The rule is evaluated when the counters \
             are complete",
    ),
];

/// The described settings of `[[sites.segments]]`.
pub const SEGMENT_SETTINGS: &[Setting] = &[
    Setting::text("name")
        .example("cart_abandoners")
        .required()
        .doc("1 to 64 characters of a-z, 0-9, \"_\" and \"-\", unique in the site"),
    Setting::text("every")
        .example("24h")
        .doc("the interval of its runs, or \"realtime\": about two seconds after a person changed"),
    Setting::duration("jitter").example("5m").doc("overrides that of [segments]"),
    Setting::word("kind", &["dynamic", "static"])
        .example("dynamic")
        .doc("\"dynamic\": by its schedule; \"static\": evaluated once for each rule"),
    Setting::word("by", &["user", "group"]).example("user").doc(
        "\"user\": the people who satisfy the rule; \"group\": all people of a group in which one \
             person does",
    ),
    Setting::tree("where")
        .example("{ trait = \"plan\", \"=\" = \"pro\" }")
        .required()
        .doc("the rule, in the language below; required"),
    Setting::text("cron").example("0 3 * * *").doc(
        "a schedule instead of every: minute, hour, day, month and weekday, in UTC unless a time \
             zone follows (\"0 3 * * * Europe/Zurich\")",
    ),
    Setting::tables("sync", &SettingsTable(&[SYNC_SETTINGS])),
];

/// The described settings of `[[sites.segments.sync]]`.
const SYNC_SETTINGS: &[Setting] = &[
    Setting::text("destination").example("meta").doc("one of the site's destinations"),
    Setting::word("kind", &["list", "events"]).example("list").doc(
        "\"list\": the members are a list there; \"events\": people who join or leave are \
             events. Default: \"list\" if the destination has lists",
    ),
    Setting::text("list")
        .example("23850000000000")
        .doc("the vendor's own id of a list that was created by hand"),
    Setting::text("audience")
        .example("Cart abandoners")
        .doc("the list's name at the vendor; the segment's name by default"),
    Setting::texts("traits")
        .example("[\"email\", \"phone\"]")
        .doc("traits that are sent with the members"),
];

/// Changed people of a site in one evaluation of segments in real time: their ids fit one statement, and with more of
/// them a whole run is as fast.
const REALTIME_PEOPLE: usize = 1000;

/// Membership changes in one transaction: a few milliseconds of the writer's time.
const BATCH: usize = 2000;

/// The interval at which all synced members are compared with the segment's, and refused removals repeated.
const RECHECK: Duration = Duration::from_secs(24 * 3600);

/// The shortest time between two runs: a run reads every profile.
const MIN_EVERY: Duration = Duration::from_secs(60);

/// The settings of `[segments]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentationSettings {
    /// The longest evaluation of a rule.
    pub evaluation_timeout: Duration,
    /// The longest delay of a run behind its plan.
    pub jitter: Duration,
    /// The interval of whole runs of a segment in real time.
    pub realtime_every: Duration,
    /// The time for which changes of people are gathered for segments in real time.
    pub realtime_delay: Duration,
    /// The most changed people of a site that one evaluation covers; beyond, the next whole run finds them.
    pub realtime_people: usize,
    /// The number of memberships changed in one transaction.
    pub batch: usize,
    /// The interval of checks of all synced rows against the profiles.
    pub recheck: Duration,
    /// The events of the journal read in a second for counters that are new.
    pub fill_per_second: NonZeroU32,
}

impl SegmentationSettings {
    /// Reads the settings from `[segments]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(SEGMENTATION_SETTINGS);
        Self {
            evaluation_timeout: section.duration("evaluation_timeout"),
            jitter: section.duration("jitter"),
            realtime_every: section.duration("realtime_every"),
            realtime_delay: section.duration("realtime_delay"),
            realtime_people: REALTIME_PEOPLE,
            batch: BATCH,
            recheck: RECHECK,
            fill_per_second: NonZeroU32::new(section.integer("fill_per_second"))
                .unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// The settings of one of `[[sites.segments]]`.
#[derive(Clone, Debug)]
pub struct SegmentSettings {
    /// The segment's name, unique in the site.
    pub name: SharedName,
    /// The unit of its members.
    pub unit: MembershipUnit,
    /// The plan of its runs.
    pub schedule: SegmentSchedule,
    /// The segment's own jitter, if it has one.
    pub jitter: Option<Duration>,
    /// The rule that selects its members.
    pub rule: SegmentRule,
    /// The rule as it is written.
    pub rule_source: Value,
    /// The syncs of its members to destinations.
    pub syncs: Vec<SyncSettings>,
}

/// The way in which a destination receives members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// As a list of the vendor's, to which people are added and from which they are removed.
    List,
    /// As events of people who join and leave.
    Events,
}

impl SyncKind {
    const ALL: [(&str, Self); 2] = [("list", Self::List), ("events", Self::Events)];

    /// Returns the kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Events => "events",
        }
    }

    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }
}

/// The settings of one of `[[sites.segments.sync]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSettings {
    /// The destination's name.
    pub destination: SharedName,
    /// The way in which it receives members.
    pub kind: SyncKind,
    /// True if `kind` is not set, and follows from the destination's capabilities.
    pub is_kind_implied: bool,
    /// The audience's name at the destination.
    pub audience: String,
    /// The vendor's own id of a list that was made by hand.
    pub list: Option<String>,
    /// The traits that are sent with a member.
    pub traits: Vec<String>,
}

impl SyncSettings {
    /// Returns the settings of a deleted sync whose destination has yet to remove all members.
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
    /// Reads one segment of a site with these destinations, each with true if it has lists. Returns `None` if
    /// its rule has an error.
    pub fn read(section: &mut SettingsSection<'_>, destinations: &[(&str, bool)]) -> Option<Self> {
        section.describe(SEGMENT_SETTINGS);
        let name: SharedName = section.string("name").into();
        let by = section.opt_choice("by", &MembershipUnit::ALL).unwrap_or_default();
        let is_static =
            section.opt_choice("kind", &[("dynamic", false), ("static", true)]).unwrap_or(false);
        let schedule = read_schedule(section, is_static);
        let jitter = section.opt_duration("jitter");
        let mut syncs: Vec<SyncSettings> = Vec::new();
        for mut sync in section.sections("sync", None) {
            sync.describe(SYNC_SETTINGS);
            let read = read_sync(&mut sync, &name, destinations);
            if syncs.iter().any(|it| it.destination == read.destination && it.kind == read.kind) {
                sync.error("destination", "already gets this segment");
            }
            syncs.push(read);
        }
        let (written, rule) = read_rule(section)?;
        Some(Self {
            name,
            unit: by,
            schedule: schedule?,
            jitter,
            rule,
            rule_source: written,
            syncs,
        })
    }

    /// Returns a digest of the rule and its unit, equal for equal rules.
    pub fn fingerprint(&self) -> String {
        let digest =
            Sha256::new().chain_update(self.unit.name()).chain_update(self.rule_source.to_string());
        hex::encode(digest.finalize().get(..16).unwrap_or_default())
    }
}

/// A rule that is not yet part of the configuration, with the unit of its members.
#[derive(Clone, Debug)]
pub struct SegmentDraft {
    /// The unit of its members.
    pub unit: MembershipUnit,
    /// The rule as it is written.
    pub rule_source: Value,
}

impl SegmentDraft {
    /// Reads `where` and `by` of a file that has nothing else. Returns `None` if it has an error.
    pub fn read(section: &mut SettingsSection<'_>) -> Option<Self> {
        section.describe(SEGMENT_SETTINGS);
        let by = section.opt_choice("by", &MembershipUnit::ALL).unwrap_or_default();
        let (written, _rule) = read_rule(section)?;
        Some(Self { unit: by, rule_source: written })
    }
}

fn read_rule(section: &mut SettingsSection<'_>) -> Option<(Value, SegmentRule)> {
    if !section.has("where") {
        section.error("where", "is required");
        return None;
    }
    let written = section.tree("where")?;
    match SegmentRule::parse(&written) {
        Ok(rule) => Some((written, rule)),
        Err(mistakes) => {
            for it in mistakes {
                if it.seen.is_some() {
                    let better = it.suggestion.as_deref();
                    section.error_about_within("where", &it.path, &it.message, better);
                } else {
                    section.error_within("where", &it.path, &it.message);
                }
            }
            None
        }
    }
}

fn read_schedule(section: &mut SettingsSection<'_>, is_static: bool) -> Option<SegmentSchedule> {
    let (has_every, has_cron) = (section.has("every"), section.has("cron"));
    if is_static {
        for (key, is_set) in [("every", has_every), ("cron", has_cron)] {
            if is_set {
                section.error(key, "has no effect on a static segment, which is evaluated once");
            }
        }
        return Some(SegmentSchedule::Once);
    }
    if has_every == has_cron {
        let message = match has_every {
            true => "must not be set together with cron",
            false => "is required unless cron is set",
        };
        section.error("every", message);
        return None;
    }
    if has_cron {
        let text = section.opt_string("cron")?;
        let cron = text.parse::<CronSchedule>();
        let mistake = |why: &str| format!("is not a cron schedule such as \"0 3 * * *\": {why}");
        return match cron {
            Ok(cron) => Some(SegmentSchedule::Cron(cron)),
            Err(why) => {
                section.error_about("cron", &text, &mistake(&why), None);
                None
            }
        };
    }
    let text = section.opt_string("every")?;
    if text == "realtime" {
        return Some(SegmentSchedule::Realtime);
    }
    let time = parse_duration(&text).filter(|time| *time >= MIN_EVERY);
    if time.is_none() {
        let message = "must be a duration of one minute or more, such as \"24h\", or \"realtime\"";
        section.error_about(
            "every",
            &text,
            message,
            Some("realtime").filter(|_| text.starts_with('r')),
        );
    }
    time.map(SegmentSchedule::Every)
}

fn read_sync(
    section: &mut SettingsSection<'_>,
    segment: &SharedName,
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
        section.error(
            "kind",
            "the destination has no lists: its settings lack what the vendor needs for them, or the \
            vendor has none; use \"events\"",
        );
    }
    let kind = asked.unwrap_or(if has_lists { SyncKind::List } else { SyncKind::Events });
    let list = section.opt_string("list");
    if list.is_some() && kind == SyncKind::Events {
        section.error("list", "has no effect with kind = \"events\"");
    }
    let audience = section.opt_string("audience");
    if audience.as_deref() == Some("") {
        section.error("audience", "must not be empty");
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

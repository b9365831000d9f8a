//! The settings of alerts: `[alerts]`, `[[alerts.rules]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;

use super::channel::{ALERT_CHANNEL_SETTINGS, AlertChannel};
use super::kind::{AlertKind, AlertScope, AlertSeverity, KindDefaults};
use tagway_settings::{Setting, SettingsSection, SettingsTable};

/// The described settings of `[alerts]`.
pub const ALERT_SETTINGS: &[Setting] = &[
    Setting::boolean("enabled").default("true").doc("false: no rule is evaluated"),
    Setting::form("console_url", "a URL").example("https://ops.example/tagway/").doc(
        "the console's address for the people who read notifications: links in them begin with it. \
             Unset, notifications name the screen only",
    ),
    Setting::positive_duration("evaluate_every").default("30s").doc(
        "the time between two readings of the accounts, and between two evaluations of the rules; at \
             most 60s, because the time series count minutes",
    ),
    Setting::duration("repeat_after").default("12h").doc(
        "a reminder of an alert that still fires after this time and that nobody has acknowledged; \
             \"0s\": no reminders",
    ),
    Setting::tables("rules", &SettingsTable(&[ALERT_RULE_SETTINGS])),
    Setting::named_tables("channels", &SettingsTable(&[ALERT_CHANNEL_SETTINGS])),
];

/// The described settings of `[[alerts.rules]]`.
pub const ALERT_RULE_SETTINGS: &[Setting] = &[
    Setting::text("name").example("backlog-age").required().doc(
        "a rule with the name of a default rule replaces it, with the default's values for what it \
             does not set; any other name is a further rule. At most 64 characters of a-z, 0-9 and \"-\"",
    ),
    Setting::word("kind", AlertKind::NAMES)
        .example("backlog_age")
        .doc("the measurement; required for a rule without the name of a default rule"),
    Setting::text("site").example("shop").doc("for this site only"),
    Setting::text("destination").example("meta").doc(
        "for destinations, or segments, with this name only. For its targets, a rule with a site or \
             destination takes the place of rules of the same kind without",
    ),
    Setting::number("limit", 0.0, 1e12).example("7200").doc(
        "shares from 0 to 1 (delivery_rate, consent_skips, disk), seconds (backlog_age, segment_late), \
             days (certificate), events (dead_letters; no_traffic: the usual number in the window)",
    ),
    Setting::positive_duration("window")
        .example("15m")
        .doc("the time that is measured; at most 7d (delivery_rate, no_traffic, dead_letters, consent_skips)"),
    Setting::duration("for")
        .example("5m")
        .doc("an alert fires after its limit was exceeded for this time, and ends likewise"),
    Setting::word("severity", &["page", "ticket"])
        .example("page")
        .doc("\"page\": act now; \"ticket\": look at it on a working day"),
    Setting::texts("channels")
        .example("[\"ops\"]")
        .doc("the channels that are notified; without it all of them"),
    Setting::boolean("enabled").default("true").doc("false: the rule is off"),
];

/// The longest window: older points are too long to measure by.
const MAX_WINDOW: Duration = Duration::from_secs(7 * 86_400);

/// The longest time between two readings: the series count minutes.
const MAX_EVALUATE_EVERY: Duration = Duration::from_secs(60);

/// The most rules, with the default ones: each is measured at every target.
const MAX_RULES: usize = 200;

/// The longest name of a rule or a channel, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The origin of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// It is on without configuration.
    Default,
    /// The configuration file.
    File,
}

impl RuleSource {
    /// Returns the name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// The rule's name.
    pub name: String,
    /// The measurement.
    pub kind: AlertKind,
    /// The site; `None` for all.
    pub site: Option<String>,
    /// The destination or segment; `None` for all.
    pub object: Option<String>,
    /// The limit, in the kind's unit.
    pub limit: f64,
    /// The window of the measurement.
    pub window: Duration,
    /// The time for which the limit must be exceeded, or kept again.
    pub hold: Duration,
    /// The urgency of its alerts.
    pub severity: AlertSeverity,
    /// The channels; `None` for all.
    pub channels: Option<Vec<String>>,
    /// False if it is not evaluated.
    pub enabled: bool,
    /// Its origin.
    pub source: RuleSource,
}

impl AlertRule {
    /// Returns the rule of a kind that is on without configuration.
    pub fn default_of(kind: AlertKind) -> Self {
        let KindDefaults { name, limit, window, hold, severity } = kind.defaults();
        Self {
            name: name.to_owned(),
            kind,
            site: None,
            object: None,
            limit,
            window,
            hold,
            severity,
            channels: None,
            enabled: true,
            source: RuleSource::Default,
        }
    }

    /// Returns true if the rule is for this site and object.
    pub fn covers(&self, site: Option<&str>, object: Option<&str>) -> bool {
        let matches = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == is)
        };
        matches(&self.site, site) && matches(&self.object, object)
    }

    /// Returns the number of names that restrict it.
    pub fn specificity(&self) -> usize {
        usize::from(self.site.is_some()) + usize::from(self.object.is_some())
    }
}

/// `[alerts]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSettings {
    /// False if no rule is evaluated.
    pub enabled: bool,
    /// The console's address for readers of notifications, with a final slash.
    pub console_url: Option<Url>,
    /// The time between two evaluations.
    pub evaluate_every: Duration,
    /// The time after which a firing alert is sent again; zero for never.
    pub repeat_after: Duration,
    /// The rules: the default ones, and those of the file.
    pub rules: Vec<AlertRule>,
    /// The channels by which people are notified.
    pub channels: Vec<AlertChannel>,
}

impl AlertSettings {
    /// Reads `[alerts]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(ALERT_SETTINGS);
        let enabled = section.boolean("enabled");
        let console_url = read_console_url(section);
        let evaluate_every = section.duration("evaluate_every");
        if evaluate_every > MAX_EVALUATE_EVERY {
            section.error("evaluate_every", "must be at most 60s");
        }
        let repeat_after = section.duration("repeat_after");
        let channels = read_channels(section);
        let rules = read_rules(section, &channels);
        Self { enabled, console_url, evaluate_every, repeat_after, rules, channels }
    }

    /// Returns the channel with this name.
    pub fn channel(&self, name: &str) -> Option<&AlertChannel> {
        self.channels.iter().find(|channel| channel.name == name)
    }

    /// Returns the names of the channels that a rule notifies.
    pub fn channels_of<'s>(&'s self, rule: &'s AlertRule) -> impl Iterator<Item = &'s str> {
        let all = self.channels.iter().map(|channel| channel.name.as_str());
        let wanted = rule.channels.as_deref();
        all.filter(move |name| wanted.is_none_or(|wanted| wanted.iter().any(|it| it == name)))
    }
}

fn read_console_url(section: &mut SettingsSection<'_>) -> Option<Url> {
    let mut url: Url = section.opt_parsed("console_url")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        section.error("console_url", "must be an http or https URL");
        return None;
    }
    url.set_fragment(None);
    // Links are relative to the page of the console.
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().count() <= MAX_NAME_CHARS && text.chars().all(is_part)
}

fn read_channels(section: &mut SettingsSection<'_>) -> Vec<AlertChannel> {
    let mut table = section.section("channels");
    let mut channels = Vec::new();
    for (name, mut channel) in table.children() {
        channel.describe(ALERT_CHANNEL_SETTINGS);
        if !is_name(&name) {
            channel.error(
                "kind",
                "the channel's name must be 1 to 64 characters of a-z, 0-9 and \"-\"",
            );
        }
        channels.extend(AlertChannel::read(name, &mut channel));
    }
    channels
}

fn read_rules(section: &mut SettingsSection<'_>, channels: &[AlertChannel]) -> Vec<AlertRule> {
    let mut rules: Vec<AlertRule> =
        AlertKind::ALL.into_iter().map(|(_, kind)| AlertRule::default_of(kind)).collect();
    let mut named = BTreeSet::new();
    for mut table in section.sections("rules", None) {
        table.describe(ALERT_RULE_SETTINGS);
        let Some(rule) = read_rule(&mut table, channels) else { continue };
        if !named.insert(rule.name.clone()) {
            table.error("name", "another rule has this name");
        }
        match rules.iter_mut().find(|it| it.name == rule.name) {
            Some(default) => *default = rule,
            None => rules.push(rule),
        }
    }
    if rules.len() > MAX_RULES {
        section.error("rules", "are too many: at most 200 with the default ones");
    }
    rules
}

fn read_rule(section: &mut SettingsSection<'_>, channels: &[AlertChannel]) -> Option<AlertRule> {
    let name = section.string("name");
    if !is_name(&name) {
        section.error("name", "must be 1 to 64 characters of a-z, 0-9 and \"-\"");
    }
    let of_name = AlertKind::ALL.into_iter().map(|(_, kind)| kind);
    let of_name = of_name.into_iter().find(|kind| kind.defaults().name == name);
    let kind = section.opt_choice("kind", &AlertKind::ALL);
    let Some(kind) = kind.or(of_name) else {
        section.error("kind", "is required, because no default rule has this name");
        section.ignore_rest();
        return None;
    };
    if of_name.is_some_and(|of_name| of_name != kind) {
        section.error("kind", "must be that of the default rule with this name");
    }
    let mut rule = AlertRule { name, source: RuleSource::File, ..AlertRule::default_of(kind) };
    rule.site = section.opt_string("site");
    rule.object = section.opt_string("destination");
    check_targets(section, &rule);
    if section.has("limit") {
        rule.limit = section.number("limit");
    }
    if matches!(kind, AlertKind::DeliveryRate | AlertKind::ConsentSkips | AlertKind::Disk)
        && rule.limit > 1.0
    {
        section.error("limit", "must be a share from 0 to 1");
    }
    rule.window = section.opt_duration("window").unwrap_or(rule.window);
    if rule.window > MAX_WINDOW || rule.window < Duration::from_secs(60) {
        section.error("window", "must be from 1m to 7d");
    }
    rule.hold = section.opt_duration("for").unwrap_or(rule.hold);
    rule.severity = section.opt_choice("severity", &AlertSeverity::ALL).unwrap_or(rule.severity);
    rule.channels = section.has("channels").then(|| section.strings("channels"));
    let unknown = rule.channels.iter().flatten();
    let unknown = unknown.filter(|name| channels.iter().all(|channel| channel.name != **name));
    for name in unknown {
        section.error("channels", &format!("there is no channel [alerts.channels.{name}]"));
    }
    rule.enabled = section.boolean("enabled");
    Some(rule)
}

/// Reports names that a rule of this kind has no use for.
fn check_targets(section: &mut SettingsSection<'_>, rule: &AlertRule) {
    let (takes_site, takes_object) = match rule.kind.scope() {
        AlertScope::Site => (true, false),
        AlertScope::Destination | AlertScope::Segment => (true, true),
        AlertScope::Certificate | AlertScope::Gateway => (false, false),
    };
    if rule.site.is_some() && !takes_site {
        section.error("site", "has no meaning for this kind of rule");
    }
    if rule.object.is_some() && !takes_object {
        section.error("destination", "has no meaning for this kind of rule");
    }
}

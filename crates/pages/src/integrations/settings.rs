//! Reads `[[sites.integrations]]` and their files, and orders them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::syntax::{ScriptSyntaxError, find_syntax_error};
use super::wrapped;
use tagway_core::metrics::SharedName;
use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[site_defaults.integration_defaults]`.
pub const INTEGRATION_DEFAULTS: &[Setting] = &[
    Setting::texts("on")
        .default("[\"*\"]")
        .doc("names of the events that it gets, with * and ?; \"!x\" excludes"),
    Setting::texts("consent").default("[]").doc(
        "categories that the visitor must have granted, e.g. [\"analytics\"]; before the \
             choice its script is not loaded, and up to 100 events of a page wait",
    ),
    Setting::positive_duration("timeout")
        .default("5s")
        .doc("the time for one event; a slower call is aborted, counted and reported"),
    Setting::boolean("lazy")
        .default("false")
        .doc("true: its script is loaded with the first event for it, not with the page"),
    Setting::boolean("inline").default("false").doc(
        "true: it is part of /tw.js, which saves a request; but a syntax error, or \
             syntax that is too new for a browser, then breaks the whole script and not only \
             this integration",
    ),
    Setting::boolean("preview")
        .default("false")
        .doc("true: a draft, run only by browsers that opened the link of \"tagway preview\""),
];

/// The described settings of `[[sites.integrations]]`.
pub const INTEGRATION_SETTINGS: &[Setting] = &[
    Setting::text("name").example("loyalty").doc(
        "its name, of at most 64 characters of a-z, 0-9, \"_\" and \"-\"; 64 integrations at most",
    ),
    Setting::text("file").example("loyalty.js").doc(
        "beside this file, at most 256 KiB: function handle(event, context, done). A \
             syntax error in it is a mistake of the configuration",
    ),
    Setting::texts("after")
        .example("[\"consent-log\"]")
        .doc("integrations that finish an event before this one gets it"),
];

/// The longest name: names are metric labels and parts of paths.
const MAX_NAME_CHARS: usize = 64;

/// The largest file, in bytes: it is sent to every visitor.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// The most integrations of a site: each is a metric's label and a request of the page.
const MAX_INTEGRATIONS: usize = 64;

/// One checked integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteIntegration {
    /// Its name, unique in the site.
    pub name: SharedName,
    /// The text of its file.
    pub source: String,
    /// Names of the events it receives, as globs.
    pub on: Vec<String>,
    /// Consent categories that the visitor must have granted.
    pub consent: Vec<String>,
    /// The time limit for one event.
    pub timeout: Duration,
    /// Integrations that must finish with an event before this one begins.
    pub after: Vec<String>,
    /// True if it is loaded with the first event for it, and not before.
    pub lazy: bool,
    /// True if it is part of the site's script.
    pub inline: bool,
    /// True if it is a draft.
    pub preview: bool,
}

/// Reads a site's integrations. Each follows those in its `after`.
pub fn read_integrations(site: &mut SettingsSection<'_>) -> Vec<SiteIntegration> {
    let defaults = site.section("integration_defaults");
    let sections = site.sections("integrations", None);
    if sections.len() > MAX_INTEGRATIONS {
        site.error("integrations", "must have at most 64 entries");
    }
    let mut taken = BTreeSet::new();
    let mut sections: Vec<SettingsSection<'_>> =
        sections.into_iter().map(|section| section.over(&defaults)).collect();
    let read: Vec<SiteIntegration> =
        sections.iter_mut().map(|section| read_one(section, &mut taken)).collect();
    let names: Vec<&str> = read.iter().map(|integration| &*integration.name).collect();
    for (section, integration) in sections.iter_mut().zip(&read) {
        for other in &integration.after {
            if !names.contains(&other.as_str()) {
                section.unknown_name("after", other, "integration", &names);
            } else if let Some(it) = read.iter().find(|it| *it.name == **other)
                && it.preview
                && !integration.preview
            {
                section.error("after", "names a draft, which only some browsers run");
            }
        }
    }
    let mut defaults = defaults;
    if read.is_empty() {
        check_defaults(&mut defaults);
    } else {
        defaults.ignore_rest();
    }
    let (ordered, circle) = ordered(read);
    for name in circle {
        for section in &mut sections {
            if section.opt_string("name").as_deref() != Some(&*name) {
                continue;
            }
            section.error("after", "forms a cycle: no order is possible");
        }
    }
    ordered
}

/// Checks the defaults alone, for a site without integrations: otherwise they are read beneath each one.
fn check_defaults(section: &mut SettingsSection<'_>) {
    section.describe(INTEGRATION_DEFAULTS);
    section.strings("on");
    section.strings("consent");
    section.duration("timeout");
    section.boolean("lazy");
    section.boolean("inline");
    section.boolean("preview");
}

fn read_one(section: &mut SettingsSection<'_>, taken: &mut BTreeSet<String>) -> SiteIntegration {
    section.describe(INTEGRATION_DEFAULTS);
    section.describe(INTEGRATION_SETTINGS);
    let has_name = section.has("name");
    let name = section.string("name");
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if !has_name {
        // The missing name is reported already.
    } else if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(is_plain) {
        section.error("name", "must be 1 to 64 characters of a-z, 0-9, \"_\" and \"-\"");
    } else if !taken.insert(name.clone()) {
        section.error("name", "another integration has the same name");
    }
    let source = section.opt_text_file("file", MAX_FILE_BYTES);
    if let Some(text) = &source
        && !text.contains("handle")
    {
        section.error("file", "defines no function handle(event, context, done)");
    }
    if let Some(text) = &source
        && let Some(ScriptSyntaxError { line, message }) =
            find_syntax_error(wrapped(&name, text), text.lines().count())
    {
        section.error_in_file("file", line, &message);
    }
    if source.is_none() && !section.has("file") {
        section.error("file", "is required");
    }
    let source = source.unwrap_or_default();
    let integration = SiteIntegration {
        name: name.into(),
        source,
        on: section.strings("on"),
        consent: section.strings("consent"),
        timeout: section.duration("timeout"),
        after: section.strings("after"),
        lazy: section.boolean("lazy"),
        inline: section.boolean("inline"),
        preview: section.boolean("preview"),
    };
    if integration.inline && (integration.lazy || integration.preview) {
        section.error(
            "inline",
            "is part of every visitor's script and can be neither lazy nor a draft",
        );
    }
    integration
}

/// The integrations, each after those in its `after` and otherwise in the order of the file; and the names
/// of those for which there is no such order.
fn ordered(mut left: Vec<SiteIntegration>) -> (Vec<SiteIntegration>, Vec<SharedName>) {
    let mut ordered: Vec<SiteIntegration> = Vec::with_capacity(left.len());
    loop {
        let waits = |it: &SiteIntegration| {
            it.after.iter().any(|other| left.iter().any(|waiting| *waiting.name == **other))
        };
        let Some(next) = left.iter().position(|it| !waits(it)) else { break };
        ordered.push(left.remove(next));
    }
    (ordered, left.into_iter().map(|it| it.name).collect())
}

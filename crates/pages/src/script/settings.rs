//! The settings of a site's `/tw.js`, `[sites.sdk]`.

use std::collections::BTreeMap;

use url::Url;

use super::BrowserCaching;
use tagway_core::event::JsonObject;
use tagway_settings::{Setting, SettingsSection};
use tagway_vendors::VENDORS;
use tagway_vendors::aliases::resolve_alias;

/// The described settings of `[site_defaults.sdk]`.
pub const SDK_SETTINGS: &[Setting] = &[
    Setting::texts("auto").default("[\"page\"]").doc(
        "what pages report automatically: \"page\", \"history\" (changes of the address \
             without a load), \"links\" (to other sites), \"downloads\", \"forms\" (which \
             form, never its content), \"scroll\", \"vitals\" (web vitals) or \"errors\". \
             \"page\" and \"history\" leave out the site's own pages within an <iframe>",
    ),
    Setting::boolean("restored").default("true").doc(
        "true: with \"page\", a page that the browser restores from its back/forward \
             cache counts as one more page",
    ),
    Setting::boolean("alias")
        .default("false")
        .doc("true: window.analytics works as Segment's does, including its snippet's queue"),
    Setting::texts("shims").default("[]").doc(
        "vendors whose browser API the script replaces, so that the page's calls become \
             events without the vendors' libraries: the page sends the calls in the vendor's \
             format, and the gateway converts them",
    ),
    Setting::boolean("wait_for_consent").default("false").doc(
        "true: nothing is sent or stored before the page called tagway.consent(); its \
             choice is kept in localStorage for the following pages",
    ),
    Setting::duration("max_age")
        .default("5m")
        .doc("browsers cache /tw.js for this time: changed settings reach them after it"),
    Setting::duration("stale").default("1d").doc(
        "after max_age, browsers still use the cached script for this time, and refresh it \
             in the background",
    ),
    Setting::form("endpoint", "a URL")
        .example("https://t.shop.example")
        .doc("the address for events, if not the script's own host"),
];

/// An event that a page reports automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutomaticEvent {
    /// Each page that is opened.
    Page,
    /// Each change of the address without a load.
    History,
    /// Clicks on links that leave the site.
    Links,
    /// Clicks on links to files.
    Downloads,
    /// Forms that are submitted.
    Forms,
    /// The depth to which a page was scrolled.
    Scroll,
    /// The web vitals.
    Vitals,
    /// Uncaught errors.
    Errors,
}

/// The parts by their names in the configuration, in the order of loading.
pub(super) const PARTS: &[(&str, AutomaticEvent)] = &[
    ("page", AutomaticEvent::Page),
    ("history", AutomaticEvent::History),
    ("links", AutomaticEvent::Links),
    ("downloads", AutomaticEvent::Downloads),
    ("forms", AutomaticEvent::Forms),
    ("scroll", AutomaticEvent::Scroll),
    ("vitals", AutomaticEvent::Vitals),
    ("errors", AutomaticEvent::Errors),
];

/// The public settings of shims, by vendor.
pub type ShimSettings = BTreeMap<&'static str, JsonObject>;

/// The script of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdkSettings {
    /// Events that pages report automatically.
    pub auto: Vec<AutomaticEvent>,
    /// True if a return from the browser's back/forward cache counts as a page, with `AutomaticEvent::Page`.
    pub restored: bool,
    /// True if `window.analytics` answers like Segment's.
    pub alias: bool,
    /// The vendors whose browser API the script replaces.
    pub shims: Vec<&'static str>,
    /// The settings that shims receive, by vendor, from `[sites.vendors.NAME]`.
    pub shim_settings: ShimSettings,
    /// The origin that receives the events, if not the host that the script came from.
    pub endpoint: Option<Url>,
    /// True if nothing is sent or stored before the page reports the visitor's choice.
    pub wait_for_consent: bool,
    /// The browser caching of `/tw.js`.
    pub caching: BrowserCaching,
}

impl SdkSettings {
    /// Reads `[sites.sdk]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(SDK_SETTINGS);
        let mut auto = Vec::new();
        for word in section.strings("auto") {
            match PARTS.iter().find(|(name, _)| *name == word) {
                Some((_, part)) if !auto.contains(part) => auto.push(*part),
                Some(_) => {}
                None => {
                    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                    section.unknown_name("auto", &word, "part of the SDK", &names);
                }
            }
        }
        let known: Vec<&'static str> =
            VENDORS.iter().filter(|it| it.shim.is_some()).map(|it| it.name).collect();
        let mut shims = Vec::new();
        for word in section.strings("shims") {
            match known.iter().find(|name| **name == word) {
                Some(name) if !shims.contains(name) => shims.push(*name),
                Some(_) => {}
                None => {
                    let meant = resolve_alias(&word).filter(|name| known.contains(name));
                    section.unknown_word("shims", &word, "vendor with a shim", (&known, meant));
                }
            }
        }
        let endpoint: Option<Url> = section.opt_parsed("endpoint");
        if endpoint.as_ref().is_some_and(|url| !is_origin(url)) {
            let message = "must be a scheme and a host, such as \"https://t.shop.example\"";
            section.error("endpoint", message);
        }
        Self {
            auto,
            restored: section.boolean("restored"),
            alias: section.boolean("alias"),
            shims,
            shim_settings: ShimSettings::new(),
            endpoint,
            wait_for_consent: section.boolean("wait_for_consent"),
            caching: BrowserCaching::For {
                max_age: section.duration("max_age"),
                stale: section.duration("stale"),
            },
        }
    }
}

/// Returns true if the URL has a scheme and a host, and nothing more.
fn is_origin(url: &Url) -> bool {
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    matches!(url.scheme(), "http" | "https") && is_bare && is_anonymous
}

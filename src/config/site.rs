//! Sites: their names, and the settings that the modules read of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::tables;

use crate::gateway;
use tagway_core::geo::GeoDatabase;
use tagway_core::metrics::SharedName;
use tagway_core::privacy::PrivacyPolicy;
use tagway_core::values::locale::NumberLocale;
use tagway_core::visitor;
use tagway_delivery::segment::SegmentSettings;
use tagway_delivery::{DestinationMode, DestinationSettings};
use tagway_pages::integrations::{ClientModeVendor, SiteIntegration, read_integrations};
use tagway_pages::script;
use tagway_settings::{ConfigErrorReport, ConfigFile, SecretString, SettingsSection};
use tagway_storage::profile;

/// The longest name of a site or a destination: names are metric labels and journal keys.
const MAX_NAME_CHARS: usize = 64;

/// One of `[[sites]]`.
#[derive(Clone, Debug)]
pub struct SiteSettings {
    /// Its name: unique, short, and safe as a label, in a path and in a URL.
    pub name: SharedName,
    /// The settings of its requests.
    pub gateway: gateway::GatewaySiteSettings,
    /// Vendors whose tags create events in its pages, as far as the configuration tells.
    pub tagged_vendors: BTreeSet<&'static str>,
    /// The settings of its visitors' cookies and identities.
    pub visitor: visitor::VisitorSettings,
    /// True if another site has one of its secrets.
    pub shares_secret: bool,
    /// The settings of its visitors' profiles.
    pub profiles: profile::SiteProfileSettings,
    /// The script of its pages.
    pub sdk: script::SdkSettings,
    /// Its own functions in its pages, each after those in its `after`.
    pub integrations: Vec<SiteIntegration>,
    /// Its destinations, in the order of the file.
    pub destinations: Vec<Arc<DestinationSettings>>,
    /// Its segments, in the order of the file.
    pub segments: Vec<Arc<SegmentSettings>>,
}

impl SiteSettings {
    /// The names of the events whose counts the mappings, or the pages, use.
    pub fn counted_events(&self) -> BTreeSet<String> {
        let mapped = self.destinations.iter().flat_map(|it| it.counted_events());
        self.profiles
            .public
            .counted_events()
            .chain(mapped.map(String::as_str))
            .map(str::to_owned)
            .collect()
    }

    /// The vendors whose own libraries run in its pages, with their public settings.
    pub fn in_page(&self) -> Vec<ClientModeVendor> {
        let of = |destination: &Arc<DestinationSettings>| {
            let client = destination.client.clone()?;
            let mount = self.gateway.mounts.iter().find(|it| it.vendor == destination.vendor);
            let client = match mount {
                Some(mount) => client.mounted(&mount.path, mount.beacons.forwarding().is_some()),
                None => client,
            };
            Some((destination.vendor, client))
        };
        self.destinations.iter().filter_map(of).collect()
    }
}

/// Reads `[[sites]]`, each over `[site_defaults]`.
pub(super) fn read_sites(root: &mut SettingsSection<'_>, geo: &GeoDatabase) -> Vec<SiteSettings> {
    let destination_defaults = root.section("destination_defaults");
    let mut taken = UniqueSiteNames::default();
    let mut sites = Vec::new();
    for mut section in root.sections("sites", Some("site_defaults")) {
        sites.push(read_site(&mut section, &destination_defaults, geo, &mut taken));
    }
    let visitors: Vec<visitor::VisitorSettings> =
        sites.iter().map(|site| site.visitor.clone()).collect();
    for (place, site) in sites.iter_mut().enumerate() {
        let others = visitors.iter().enumerate().filter(|(other, _)| *other != place);
        site.shares_secret = site.visitor.drop_shared_keys(others.map(|(_, visitor)| visitor));
    }
    // The defaults are read beneath each destination, where their own mistakes are noted.
    if sites.iter().all(|site| site.destinations.is_empty()) {
        check_defaults(root, &destination_defaults);
    }
    let mut destination_defaults = destination_defaults;
    destination_defaults.ignore_rest();
    if sites.is_empty() {
        root.error("sites", "at least one [[sites]] table is required");
    }
    sites
}

/// Checks the defaults of destinations beneath a placeholder destination.
fn check_defaults(root: &SettingsSection<'_>, defaults: &SettingsSection<'_>) {
    let source = made_file("a destination", &json!({ "name": "any", "vendor": "console" }));
    let table = source.parse(&ConfigErrorReport::default());
    let mut destination = root.beside(&source, &table).over(defaults);
    drop(DestinationSettings::read(&mut destination, Arc::default()));
}

/// Names and hosts that only one site can have.
#[derive(Default)]
struct UniqueSiteNames {
    names: BTreeSet<SharedName>,
    /// The name of the site that has each host.
    hosts: BTreeMap<String, SharedName>,
}

impl UniqueSiteNames {
    fn take_hosts(
        &mut self,
        section: &mut SettingsSection<'_>,
        site: &SharedName,
        hosts: &[String],
    ) {
        for host in hosts {
            let owner = self.hosts.entry(host.clone()).or_insert_with(|| site.clone());
            if owner != site {
                section.error_about("hosts", host, "is already a host of another site", None);
            }
        }
    }
}

fn read_site<'a>(
    section: &mut SettingsSection<'a>,
    destination_defaults: &SettingsSection<'a>,
    geo: &GeoDatabase,
    taken: &mut UniqueSiteNames,
) -> SiteSettings {
    section.describe(tables::SITE_SETTINGS);
    let name = unique_name(section, "site", &mut taken.names);
    let privacy = PrivacyPolicy::read(&mut section.section("privacy"), geo.is_known());
    let privacy = Arc::new(privacy);
    let mut destination_names = BTreeSet::new();
    let own = read_destinations(section, destination_defaults, &privacy, &mut destination_names);
    let mut profile_section = section.section("profiles");
    let is_said = profile_section.has("activity");
    let mut profiles = profile::SiteProfileSettings::read(&mut profile_section);
    let has_activity = !is_said || profiles.activity;
    let segments = read_segments(section, &own, has_activity);
    let mut destinations = own.read;
    if !is_said {
        // Consent decides if a destination may receive a member, and it is stored with the activity.
        let asks = |it: &Arc<SegmentSettings>| it.rule.needs_activity() || !it.syncs.is_empty();
        profiles.activity = profiles.public.wants_computed()
            || destinations.iter().any(|it| it.needs_computed_attributes())
            || segments.iter().any(asks);
    }
    let is_in_page = |it: &&Arc<DestinationSettings>| it.mode != DestinationMode::Server;
    let in_page: Vec<&str> = destinations.iter().filter(is_in_page).map(|it| it.vendor).collect();
    let mut gateway = gateway::GatewaySiteSettings::read(section, privacy.clone(), &in_page);
    let tagged = gateway.mounts.iter().filter(|it| it.is_tagged()).map(|it| it.vendor);
    let mut tagged: BTreeSet<&str> = tagged.collect();
    for mount in &mut gateway.mounts {
        let vendor = mount.vendor;
        let mut own = destinations.iter().filter(|it| it.vendor == vendor).peekable();
        mount.takes_tags |= own.peek().is_some();
        mount.add_known_ids(own.flat_map(|it| &it.public_ids));
    }
    for mount in &gateway.mounts {
        let Some(forwarding) = mount.beacons.forwarding() else { continue };
        let settings = json!({
            "name": format!("forward-{}", mount.vendor),
            "vendor": "forward",
            "consent": forwarding.consent,
            "unknown_consent": "deny",
            "settings": { "vendor": mount.vendor, "upstream": forwarding.upstream.as_str() },
        });
        let source = made_file("sites.vendors", &settings);
        let table = source.parse(&ConfigErrorReport::default());
        let mut destination = section.beside(&source, &table).over(destination_defaults);
        unique_name(&mut destination, "destination", &mut destination_names);
        let read = DestinationSettings::read(&mut destination, privacy.clone());
        destinations.extend(read.map(Arc::new));
    }
    taken.take_hosts(section, &name, &gateway.hosts);
    let sdk = script::SdkSettings::read(&mut section.section("sdk"));
    let sdk = script::SdkSettings { shim_settings: gateway.shims.clone(), ..sdk };
    tagged.extend(&sdk.shims);
    for destination in &mut destinations {
        if destination.mode == DestinationMode::Server && tagged.contains(&destination.vendor) {
            Arc::make_mut(destination).restrict_to_own_tags();
        }
    }
    check_in_page(section, &destinations, &gateway, &sdk);
    let integrations = read_integrations(section);
    let visitor = visitor::VisitorSettings::read(section);
    check_login_key(section, &gateway, &visitor);
    SiteSettings {
        name,
        gateway,
        tagged_vendors: tagged,
        visitor,
        shares_secret: false,
        profiles,
        sdk,
        integrations,
        destinations,
        segments,
    }
}

/// Returns the file of settings that the program itself makes.
fn made_file(name: &str, settings: &serde_json::Value) -> ConfigFile {
    ConfigFile { name: name.to_owned(), text: toml::to_string(settings).unwrap_or_default() }
}

/// The site's `locale` as a setting of each destination, beneath its own.
fn read_locale(section: &mut SettingsSection<'_>) -> ConfigFile {
    let written = section
        .opt_string("locale")
        .filter(|_| section.opt_parsed::<NumberLocale>("locale").is_some());
    let settings = written.map_or(json!({}), |locale| json!({ "settings": { "locale": locale } }));
    made_file("sites.locale", &settings)
}

/// The destinations of a site.
#[derive(Default)]
struct SiteDestinations {
    read: Vec<Arc<DestinationSettings>>,
    /// The names of those with a mistake.
    unread: Vec<SharedName>,
}

/// Reads the destinations.
fn read_destinations<'a>(
    section: &mut SettingsSection<'a>,
    defaults: &SettingsSection<'a>,
    privacy: &Arc<PrivacyPolicy>,
    names: &mut BTreeSet<SharedName>,
) -> SiteDestinations {
    let mut destinations = SiteDestinations::default();
    let locale = read_locale(section);
    let locale_table = locale.parse(&ConfigErrorReport::default());
    let mut of_site = section.beside(&locale, &locale_table);
    for destination in section.sections("destinations", None) {
        let mut destination = destination.over(defaults).over(&of_site);
        let name = unique_name(&mut destination, "destination", names);
        match DestinationSettings::read(&mut destination, privacy.clone()) {
            Some(read) => destinations.read.push(Arc::new(read)),
            None => destinations.unread.push(name),
        }
    }
    of_site.ignore_rest();
    destinations
}

/// Checks that the holder of another key of the site cannot prove logins with it.
fn check_login_key(
    section: &mut SettingsSection<'_>,
    gateway: &gateway::GatewaySiteSettings,
    visitor: &visitor::VisitorSettings,
) {
    let token = gateway.server_token.as_ref().map(SecretString::expose);
    let mut shown = token.into_iter().chain(gateway.write_key.as_deref());
    if shown.any(|key| visitor.login.contains(key)) {
        section.error("login_key", "must differ from server_token and from the write key");
    }
}

/// Reports the obstacles to running vendors' own libraries in the page.
fn check_in_page(
    section: &mut SettingsSection<'_>,
    destinations: &[Arc<DestinationSettings>],
    gateway: &gateway::GatewaySiteSettings,
    sdk: &script::SdkSettings,
) {
    let mut seen = BTreeSet::new();
    for destination in destinations {
        let (vendor, Some(client)) = (destination.vendor, &destination.client) else { continue };
        let mut mistake = |what: &str| {
            section.error("destinations", &format!("{}: {what}", destination.name));
        };
        if !seen.insert(vendor) {
            mistake(
                "another destination already runs this vendor's library in the page, and only one can",
            );
        }
        if sdk.shims.contains(&vendor) {
            mistake("the vendor's library runs in the page, so sdk.shims must not name the vendor");
        }
        let mount = gateway.mounts.iter().find(|mount| mount.vendor == vendor);
        let serving = mount.and_then(|mount| mount.scripts.as_ref()).map(|it| it.serving);
        if client.needs_mount() && serving != Some(gateway::ScriptMode::Proxy) {
            mistake(
                "its library is served from the vendor's mount, which needs scripts = \"proxy\"",
            );
        }
    }
}

fn read_segments(
    section: &mut SettingsSection<'_>,
    own: &SiteDestinations,
    has_activity: bool,
) -> Vec<Arc<SegmentSettings>> {
    let has_lists = |it: &DestinationSettings| it.destination.audience().is_some();
    let read = own.read.iter().map(|it| (&*it.name, has_lists(it)));
    // Destinations with a mistake are unread: references to them are no further mistakes.
    let destinations: Vec<(&str, bool)> =
        read.chain(own.unread.iter().map(|name| (&**name, true))).collect();
    let mut names = BTreeSet::new();
    let mut segments = Vec::new();
    for mut segment in section.sections("segments", None) {
        unique_name(&mut segment, "segment", &mut names);
        let read = SegmentSettings::read(&mut segment, &destinations);
        if !has_activity && read.as_ref().is_some_and(|it| it.rule.needs_activity()) {
            segment.error(
                "where",
                "needs activity, which the site does not store: set profiles.activity = true",
            );
        }
        segments.extend(read.map(Arc::new));
    }
    segments
}

/// Reads `name` and rejects one that is taken or cannot be a label.
fn unique_name(
    section: &mut SettingsSection<'_>,
    what: &str,
    taken: &mut BTreeSet<SharedName>,
) -> SharedName {
    let had_name = section.has("name");
    let name: SharedName = section.string("name").into();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if !had_name {
        return name;
    }
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_plain) {
        section.error("name", "must be 1 to 64 characters of a-z, 0-9, \"_\" and \"-\"");
    } else if !taken.insert(name.clone()) {
        section.error("name", &format!("another {what} has the same name"));
    }
    name
}

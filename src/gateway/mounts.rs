//! The mounts of a site's vendors, which take their beacons and serve their scripts: `[sites.vendors.NAME]`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use url::Url;

use super::route::GatewayRoute;
use tagway_core::event::JsonObject;
use tagway_core::metrics::{FormatLabels, Metrics, SharedName};
use tagway_pages::origin::VendorTag;
use tagway_pages::script::ShimSettings;
use tagway_pages::script::proxy::{PinnedVersion, ScriptMount};
use tagway_settings::SettingsSection;
use tagway_vendors::aliases::resolve_alias;
use tagway_vendors::beacon::{
    AllowedMethods, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use tagway_vendors::beacon_format::MessageBatch;
use tagway_vendors::{Beacon, VENDORS, Vendor, VendorScripts};

/// The longest path of a mount, in bytes.
const MAX_MOUNT_BYTES: usize = 64;

/// The mount of one vendor at a site.
#[derive(Clone)]
pub struct VendorMount {
    /// The vendor's name.
    pub vendor: &'static str,
    /// The beacon format of its library.
    pub beacon: &'static dyn Beacon,
    /// The beginning of its paths, without a slash at its end.
    pub path: String,
    /// The handling of its beacons.
    pub beacons: BeaconMode,
    /// True if the site's servers may have people erased here.
    pub forgets_people: bool,
    /// The serving of its scripts, if enabled.
    pub scripts: Option<MountScripts>,
    /// True if vendor tags in proxied pages are rewritten to this mount: where the site configures the vendor, or
    /// has a destination of it. Other tags stay as they are.
    pub takes_tags: bool,
}

/// The serving of a vendor's scripts.
#[derive(Clone, Debug)]
pub struct MountScripts {
    /// The vendor's list of scripts.
    pub script: &'static VendorScripts,
    /// The content under their paths.
    pub serving: ScriptMode,
    /// The site's own ids at the vendor. Of scripts that differ by customer, only those of these ids are served:
    /// the vendor's host serves any customer's.
    pub ids: Vec<String>,
    /// The replacement for the vendor's own host.
    pub endpoint: Option<Url>,
    /// The scripts pinned to a version, by path and query below the mount.
    pub pins: Vec<(String, PinnedVersion)>,
}

/// The content served under the paths of a vendor's scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptMode {
    /// The gateway's script with the vendor's shim, which sends nothing to the vendor.
    Shim,
    /// The vendor's own scripts, fetched for the page.
    Proxy,
}

/// The handling of a vendor's beacons. `F` describes the forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeaconMode<F = BeaconForwarding> {
    /// They become events.
    Convert,
    /// They go to the vendor as they are.
    Forward(F),
    /// They become events, and go to the vendor.
    Both(F),
    /// They are not taken.
    Off,
}

impl<F> BeaconMode<F> {
    /// Returns true if beacons become events.
    pub const fn converts(&self) -> bool {
        matches!(self, Self::Convert | Self::Both(_))
    }

    /// Returns true if beacons are not taken.
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// Returns the forwarding of beacons to the vendor, if there is one.
    pub const fn forwarding(&self) -> Option<&F> {
        match self {
            Self::Forward(forwarding) | Self::Both(forwarding) => Some(forwarding),
            Self::Convert | Self::Off => None,
        }
    }
}

/// The forwarding of a vendor's beacons to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeaconForwarding {
    /// The vendor's own URL for beacons.
    pub upstream: Url,
    /// The consent categories that the visitor must have granted.
    pub consent: Vec<String>,
}

/// A mount with its counters, as requests use it.
pub(super) struct ActiveMount {
    pub(super) mount: VendorMount,
    /// The counter of events accepted in its format.
    pub(super) accepted: Counter,
    /// The mount of the vendor's own scripts, where they are served.
    pub(super) script_mount: Option<ScriptMount>,
}

impl std::fmt::Debug for VendorMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}", self.vendor, self.path)
    }
}

impl VendorMount {
    /// Reads `[sites.vendors]`. Every vendor with a known beacon format, or with a shim for its scripts, is mounted
    /// at its own name unless the site configures otherwise. `in_page`: the vendors whose own libraries run in the
    /// site's pages. Also returns the settings of vendors' shims.
    pub(super) fn read_all(
        site: &mut SettingsSection<'_>,
        in_page: &[&str],
    ) -> (Vec<Self>, ShimSettings) {
        let mut section = site.section("vendors");
        let speaks = |vendor: &&&Vendor| vendor.beacon.is_some() || vendor.script.is_some();
        let names: Vec<&str> = VENDORS.iter().filter(speaks).map(|vendor| vendor.name).collect();
        let mut stated = section.children();
        for (name, table) in &mut stated {
            if !names.contains(&name.as_str()) {
                table.ignore_rest();
                let what = "vendor with beacons or scripts of its own";
                let meant = resolve_alias(name).filter(|name| names.contains(name));
                section.unknown_word(name, name, what, (&names, meant));
            }
        }
        let mut taken = BTreeSet::new();
        let (mut mounts, mut shims) = (Vec::new(), ShimSettings::new());
        for vendor in VENDORS {
            let mut mount = Self::of(vendor);
            if in_page.contains(&vendor.name) {
                mount.serve_library();
            }
            let table = stated.iter_mut().find(|(name, _)| name == vendor.name);
            if let Some((_, table)) = table.filter(|_| speaks(&vendor)) {
                mount.change(table, vendor);
                shims.extend(mount.ids(table, vendor).map(|ids| (vendor.name, ids)));
            }
            if mount.beacons.is_off() {
                mount.beacon = &ScriptOnlyBeacon;
                if mount.scripts.is_none() {
                    continue;
                }
            }
            // Several may share the root: their paths differ.
            if !mount.path.is_empty() && !taken.insert(mount.path.clone()) {
                let why = format!("{} is already the mount of another vendor", mount.path);
                section.error(vendor.name, &why);
            }
            mounts.push(mount);
        }
        (mounts, shims)
    }

    /// Returns true if the settings imply that pages have tags of the vendor that make events.
    pub fn is_tagged(&self) -> bool {
        let serving = self.scripts.as_ref().map(|scripts| scripts.serving);
        self.takes_tags && (self.beacons.converts() || serving == Some(ScriptMode::Shim))
    }

    /// Returns the mount of a vendor at its own name, if anything is served below it.
    pub fn at_its_name(vendor: &Vendor) -> Option<Self> {
        let mount = Self::of(vendor);
        (!mount.beacons.is_off() || mount.scripts.is_some()).then_some(mount)
    }

    /// Returns the default mount of a vendor.
    fn of(vendor: &Vendor) -> Self {
        let shimmed = vendor.script.filter(|_| vendor.shim.is_some());
        let serve = |script| MountScripts {
            script,
            serving: ScriptMode::Shim,
            ids: Vec::new(),
            endpoint: None,
            pins: Vec::new(),
        };
        Self {
            vendor: vendor.name,
            beacon: vendor.beacon.unwrap_or(&ScriptOnlyBeacon),
            path: format!("/{}", vendor.name),
            beacons: if vendor.beacon.is_some() { BeaconMode::Convert } else { BeaconMode::Off },
            forgets_people: false,
            scripts: shimmed.map(serve),
            takes_tags: false,
        }
    }

    /// Configures the mount of a vendor whose own library runs in the page: it serves the library and forwards its
    /// beacons, which the vendor gets from no destination. Their events are in the journal already.
    fn serve_library(&mut self) {
        if let Some(scripts) = &mut self.scripts {
            scripts.serving = ScriptMode::Proxy;
        }
        if let Some(upstream) = self.beacon.upstream().and_then(|url| url.parse().ok()) {
            self.beacons = BeaconMode::Forward(BeaconForwarding { upstream, consent: Vec::new() });
        }
    }

    /// Applies a site's table.
    fn change(&mut self, table: &mut SettingsSection<'_>, vendor: &Vendor) {
        self.takes_tags = true;
        table.describe(super::mount_table::MOUNT_SETTINGS);
        self.change_scripts(table, vendor);
        match table.opt_string("mount") {
            None => {}
            Some(path) if path == "/" => self.path = String::new(),
            Some(path) => {
                if let Some(why) = fault(&path) {
                    table.error("mount", why);
                }
                self.path = path;
            }
        }
        self.change_beacons(table);
        self.change_erasures(table);
    }

    fn change_beacons(&mut self, table: &mut SettingsSection<'_>) {
        let choices = [
            ("convert", BeaconMode::Convert),
            ("forward", BeaconMode::Forward(())),
            ("both", BeaconMode::Both(())),
            ("off", BeaconMode::Off),
        ];
        let by_default = match &self.beacons {
            BeaconMode::Convert => BeaconMode::Convert,
            BeaconMode::Forward(_) => BeaconMode::Forward(()),
            BeaconMode::Both(_) => BeaconMode::Both(()),
            BeaconMode::Off => BeaconMode::Off,
        };
        let mode = match by_default {
            BeaconMode::Off => by_default,
            _ => table.opt_choice("beacons", &choices).unwrap_or(by_default),
        };
        let own = self.beacon.upstream().and_then(|url| url.parse().ok());
        let upstream = table.opt_parsed("upstream").or(own);
        let consent = table.strings("consent");
        let forwarding = upstream.map(|upstream| BeaconForwarding { upstream, consent });
        if mode.forwarding().is_some() && forwarding.is_none() {
            table.error("beacons", "needs upstream, the vendor's own URL for beacons");
        }
        self.beacons = match (mode, forwarding) {
            (BeaconMode::Forward(()), Some(forwarding)) => BeaconMode::Forward(forwarding),
            (BeaconMode::Both(()), Some(forwarding)) => BeaconMode::Both(forwarding),
            (BeaconMode::Convert | BeaconMode::Both(()), _) => BeaconMode::Convert,
            (BeaconMode::Off | BeaconMode::Forward(()), _) => BeaconMode::Off,
        };
    }

    fn change_erasures(&mut self, table: &mut SettingsSection<'_>) {
        let choices = [("refuse", false), ("forget", true)];
        self.forgets_people = table.opt_choice("erasures", &choices).unwrap_or(false);
        if self.forgets_people && !self.beacon.has_erasures() {
            table.error("erasures", "has no effect: beacons of this vendor erase nobody");
        }
    }

    fn change_scripts(&mut self, table: &mut SettingsSection<'_>, vendor: &Vendor) {
        let Some(script) = vendor.script else { return };
        let mut choices = vec![("proxy", Some(ScriptMode::Proxy)), ("off", None)];
        if vendor.shim.is_some() {
            choices.insert(0, ("shim", Some(ScriptMode::Shim)));
        }
        let stated = table.opt_choice("scripts", &choices);
        let by_default = self.scripts.as_ref().map(|scripts| scripts.serving);
        let serving = stated.unwrap_or(by_default);
        let endpoint: Option<Url> = table.opt_parsed("script_endpoint");
        if endpoint.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            table.error("script_endpoint", "must begin with http:// or https://");
        }
        let is_proxied = serving == Some(ScriptMode::Proxy);
        // The defaults may name one even if the site sets "off".
        if endpoint.is_some() && stated.is_none() && !is_proxied {
            table.error("script_endpoint", "has no effect without scripts = \"proxy\"");
        }
        if is_proxied && endpoint.is_none() && script.files.iter().any(|it| it.origin.is_empty()) {
            table.error("scripts", "needs script_endpoint: each customer has its own host");
        }
        let pins = read_pins(table, script);
        if !pins.is_empty() && stated.is_none() && !is_proxied {
            table.error("pin", "has no effect without scripts = \"proxy\"");
        }
        let mut ids = read_ids(table);
        if !ids.is_empty() && stated.is_none() && !is_proxied {
            table.error("ids", "has no effect without scripts = \"proxy\"");
        }
        let of_shim = vendor.shim.into_iter().flat_map(|shim| shim.ids);
        ids.extend(of_shim.filter_map(|name| table.opt_string(name)));
        for (name, _) in &pins {
            let (path, query) = name.split_once('?').unwrap_or((name, ""));
            let id = script.file(path).and_then(|file| file.id(path, query));
            ids.extend(id.map(str::to_owned));
        }
        self.scripts = serving.map(|serving| MountScripts { script, serving, ids, endpoint, pins });
    }

    /// Returns the ids for the vendor's shim, and where it loads the vendor's own scripts: from the mount, if they
    /// are proxied, else from the vendor's host as without the gateway.
    fn ids(&self, table: &mut SettingsSection<'_>, vendor: &Vendor) -> Option<JsonObject> {
        let mut ids = JsonObject::new();
        for name in vendor.shim?.ids {
            let Some(id) = table.opt_string(name) else { continue };
            if !is_id(&id) {
                table.error(name, "must be 1 to 64 letters, digits and any of \"-_\"");
            }
            ids.insert((*name).to_owned(), id.into());
        }
        if ids.is_empty() {
            return None;
        }
        let is_proxied = |it: &MountScripts| it.serving == ScriptMode::Proxy;
        let entry = vendor.script?.files.iter().find(|file| file.entry)?;
        let from = match self.scripts.as_ref().is_some_and(is_proxied) {
            true => self.path.as_str(),
            false => entry.origin,
        };
        ids.insert("from".to_owned(), from.into());
        Some(ids)
    }

    /// Adds ids that the vendor's settings at the site name.
    pub fn add_known_ids<'i>(&mut self, ids: impl IntoIterator<Item = &'i String>) {
        if let Some(scripts) = &mut self.scripts {
            scripts.ids.extend(ids.into_iter().cloned());
        }
    }

    /// Returns true if the vendor's own scripts are served, and all that differ by customer are refused because no
    /// id is known.
    pub fn lacks_ids(&self) -> bool {
        self.scripts.as_ref().is_some_and(|it| {
            let has_ids = it.script.files.iter().any(|file| file.id.is_some());
            it.serving == ScriptMode::Proxy && has_ids && it.ids.is_empty()
        })
    }

    /// Returns true if a path below the mount is one of the vendor's scripts that the mount serves.
    pub(super) fn has_script(&self, below: &str) -> bool {
        let file = |scripts: &MountScripts| Some((scripts.serving, scripts.script.file(below)?));
        match self.scripts.as_ref().and_then(file) {
            Some((ScriptMode::Proxy, _)) => true,
            Some((ScriptMode::Shim, file)) => file.entry,
            None => false,
        }
    }

    /// Returns the rewriting of the vendor's tags, if scripts are served here.
    pub(super) fn tag(&self) -> Option<VendorTag> {
        let scripts = self.scripts.as_ref().filter(|_| self.takes_tags)?;
        Some(VendorTag {
            mount: self.path.clone(),
            script: scripts.script,
            ids: scripts.ids.clone(),
            is_shim: scripts.serving == ScriptMode::Shim,
            endpoint: scripts.endpoint.clone(),
            takes_beacons: !self.beacons.is_off(),
        })
    }

    /// Returns the part of a path below the mount.
    pub(super) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.path.as_str()).filter(|rest| rest.starts_with('/'))
    }
}

/// A vendor that has scripts but takes no beacons.
struct ScriptOnlyBeacon;

impl Beacon for ScriptOnlyBeacon {
    fn endpoint(&self, _path: &str) -> Option<AllowedMethods> {
        None
    }

    fn read(
        &self,
        _inbound: &BeaconRequest<'_>,
        _batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        Ok(())
    }

    fn answer(&self, _inbound: &BeaconRequest<'_>, _verdict: BeaconOutcome) -> BeaconReply {
        BeaconReply { status: StatusCode::NOT_FOUND, content_type: None, body: Bytes::new() }
    }
}

impl ActiveMount {
    pub(super) fn new(
        mount: VendorMount,
        site: &SharedName,
        hosts: &[String],
        metrics: &Metrics,
    ) -> Self {
        let labels = FormatLabels { site: site.clone(), format: mount.vendor };
        let proxied = mount.scripts.as_ref().filter(|it| it.serving == ScriptMode::Proxy);
        let place = proxied.map(|own| {
            let scripts = (own.script, own.endpoint.as_ref(), own.ids.as_slice());
            ScriptMount::new((site, hosts), mount.vendor, scripts, &mount.path, &own.pins)
        });
        Self {
            mount,
            accepted: metrics.events_accepted.get_or_create_owned(&labels),
            script_mount: place,
        }
    }
}

/// Reads `ids`: the site's own at the vendor.
fn read_ids(table: &mut SettingsSection<'_>) -> Vec<String> {
    let ids = table.strings("ids");
    for id in ids.iter().filter(|id| !is_id(id)) {
        let why = "must be 1 to 64 letters, digits and any of \"-_\"";
        table.error_about("ids", id, why, None);
    }
    ids
}

/// Reads `pin`: the scripts that are pinned to a version.
fn read_pins(
    table: &mut SettingsSection<'_>,
    script: &VendorScripts,
) -> Vec<(String, PinnedVersion)> {
    let mut pins = Vec::new();
    for (name, version) in table.string_table("pin") {
        let (path, query) = match name.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (name.as_str(), None),
        };
        let target = script.file(path).and_then(|file| file.target(path, query));
        if target.is_none() {
            table.error_about("pin", &name, "is not a script of this vendor", None);
        }
        match PinnedVersion::read(&version) {
            Some(wanted) => pins.push((name, wanted)),
            None => table.error_about(
                "pin",
                &version,
                "must be \"first\", or \"sha256-\" and a hash in base64",
                None,
            ),
        }
    }
    pins
}

/// Returns true if the text can be a public id, which appears in the page, and in a path.
fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Returns the fault of a mount's path, if it has one.
fn fault(path: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '~');
    if !path.starts_with('/') || path.ends_with('/') || path.contains("//") {
        return Some("must begin with a slash and not end with one");
    }
    if path.len() > MAX_MOUNT_BYTES || !path.chars().all(plain) {
        return Some("must be at most 64 letters, digits, slashes and any of \"-_.~\"");
    }
    if GatewayRoute::is_reserved(path) {
        return Some("is reserved, because the gateway's own paths begin with it");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile};

    #[test]
    fn mount_path_is_plain_and_unused() {
        for good in ["/x", "/a/b", "/m1x-panel.js~"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "x", "/x/", "/a//b", "/é", "/a b", "/e", "/v1", "/v1/t", "/px.gif"] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }

    fn read(text: &str, in_page: &[&str]) -> (Vec<VendorMount>, String) {
        let source = ConfigFile { name: "test".to_owned(), text: text.to_owned() };
        let (report, environment) = (ConfigErrorReport::default(), ConfigEnvironment::default());
        let table = source.parse(&report);
        let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
        let (mounts, _) = VendorMount::read_all(&mut section, in_page);
        drop(section);
        let mistakes = report.into_errors();
        (mounts, mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn serving(mounts: &[VendorMount], vendor: &str) -> Option<ScriptMode> {
        let mount = mounts.iter().find(|mount| mount.vendor == vendor)?;
        mount.scripts.as_ref().map(|scripts| scripts.serving)
    }

    #[test]
    fn people_are_erased_only_where_the_site_says_so_and_the_vendor_can_ask() {
        let forgets = |text: &str| {
            let (mounts, mistakes) = read(text, &[]);
            let mounts = mounts.iter().filter(|mount| mount.forgets_people);
            (mounts.map(|mount| mount.vendor).collect::<Vec<_>>(), mistakes)
        };
        assert_eq!(forgets(""), (vec![], String::new()));
        assert_eq!(forgets("[vendors.mixpanel]\nerasures = \"refuse\"\n").0, [""; 0]);
        let (mounts, mistakes) = forgets("[vendors.mixpanel]\nerasures = \"forget\"\n");
        assert_eq!((mounts.as_slice(), &*mistakes), (["mixpanel"].as_slice(), ""));
        let (_, mistakes) = forgets("[vendors.umami]\nerasures = \"forget\"\n");
        assert!(mistakes.contains("erasures"), "{mistakes}");
    }

    #[test]
    fn scripts_are_shims_unless_the_vendors_library_runs_in_the_page() {
        let (mounts, mistakes) = read("", &["meta"]);
        assert_eq!(mistakes, "");
        for vendor in VENDORS {
            let wanted = match vendor.name {
                "meta" => Some(ScriptMode::Proxy),
                _ => vendor.shim.map(|_| ScriptMode::Shim),
            };
            assert_eq!(serving(&mounts, vendor.name), wanted, "{}", vendor.name);
        }
        let stated = "[vendors.meta]\nscripts = \"shim\"\n[vendors.drift]\nscripts = \"off\"\n\
                    [vendors.ga4]\nscripts = \"proxy\"\nscript_endpoint = \"http://a.example\"\n\
                    [vendors.jitsu]\nscripts = \"proxy\"\n";
        let (mounts, mistakes) = read(stated, &["meta"]);
        assert_eq!(mistakes, "");
        assert_eq!(serving(&mounts, "meta"), Some(ScriptMode::Shim));
        let beacons = |vendor| {
            let mount = mounts.iter().find(|mount| mount.vendor == vendor).unwrap();
            (mount.beacons.converts(), mount.beacons.forwarding().is_some())
        };
        assert_eq!((beacons("meta"), beacons("ga4")), ((false, true), (true, false)));
        assert_eq!(serving(&mounts, "ga4"), Some(ScriptMode::Proxy));
        assert_eq!(serving(&mounts, "jitsu"), Some(ScriptMode::Proxy));
        // Nothing is left below it.
        assert!(!mounts.iter().any(|mount| mount.vendor == "drift"));
    }

    #[test]
    fn unusable_script_settings_are_reported() {
        for (stated, mistake) in [
            ("[vendors.umami]\nscripts = \"shim\"", "not one of proxy, off"),
            ("[vendors.ga4]\nscripts = \"shimm\"", "did you mean \"shim\"?"),
            ("[vendors.matomo]\nscripts = \"proxy\"", "needs script_endpoint"),
            ("[vendors.ga4]\nscript_endpoint = \"https://a.example\"", "no effect without"),
            (
                "[vendors.ga4]\nscripts = \"proxy\"\nscript_endpoint = \"ftp://a.example\"",
                "must begin with http",
            ),
            ("[vendors.ga4.pin]\n\"/gtag/js\" = \"first\"", "no effect without"),
            (
                "[vendors.ga4]\nscripts = \"proxy\"\npin.\"/a.js\" = \"first\"",
                "is not a script of this",
            ),
            (
                "[vendors.ga4]\nscripts = \"proxy\"\npin.\"/gtag/js\" = \"sha256-\"",
                "must be \"first\", or",
            ),
            ("[vendors.console]\nscripts = \"off\"", "vendor with beacons or scripts"),
            ("[vendors.ga4]\nids = [\"G-1\"]", "no effect without"),
            ("[vendors.ga4]\nscripts = \"proxy\"\nids = [\"G 1\"]", "1 to 64 letters"),
        ] {
            let (_, mistakes) = read(stated, &[]);
            assert!(mistakes.contains(mistake), "{stated}: {mistakes}");
        }
    }

    #[test]
    fn vendor_scripts_are_served_for_the_sites_ids_only() {
        let text = "[vendors.ga4]\nscripts = \"proxy\"\nids = [\"GTM-1\"]\n\
                    pin.\"/gtag/js?id=G-1\" = \"first\"\n\
                    [vendors.drift]\nscripts = \"proxy\"\nembed_id = \"abc\"\n\
                    [vendors.segment]\nscripts = \"proxy\"\n[vendors.umami]\nscripts = \"proxy\"";
        let (mut mounts, mistakes) = read(text, &[]);
        assert_eq!(mistakes, "");
        let mut mount =
            |vendor: &str| mounts.iter_mut().find(|it| it.vendor == vendor).cloned().unwrap();
        let ids = |mount: &VendorMount| mount.scripts.clone().unwrap().ids;
        assert_eq!(ids(&mount("ga4")), ["GTM-1", "G-1"]);
        assert_eq!(ids(&mount("drift")), ["abc"]);
        let mut segment = mount("segment");
        assert!(
            segment.lacks_ids() && !mount("umami").lacks_ids() && !mount("mixpanel").lacks_ids()
        );
        segment.add_known_ids(&["key".to_owned()]);
        assert!(!segment.lacks_ids());
    }

    #[test]
    fn shims_get_public_ids_and_the_source_of_vendor_scripts() {
        let read = |text: &str| {
            let source = ConfigFile { name: "test".to_owned(), text: text.to_owned() };
            let (report, environment) =
                (ConfigErrorReport::default(), ConfigEnvironment::default());
            let table = source.parse(&report);
            let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
            let (_, shims) = VendorMount::read_all(&mut section, &[]);
            drop(section);
            let mistakes: Vec<_> = report.into_errors().iter().map(ToString::to_string).collect();
            (shims, mistakes.join("\n"))
        };
        let own = "[vendors.intercom]\napp_id = \"abc1\"\n";
        let elsewhere = "https://widget.intercom.io";
        for (more, from) in [
            ("", elsewhere),
            ("scripts = \"off\"\n", elsewhere),
            ("scripts = \"proxy\"\n", "/intercom"),
            ("scripts = \"proxy\"\nmount = \"/chat\"\n", "/chat"),
            ("scripts = \"proxy\"\nmount = \"/\"\n", ""),
        ] {
            let (shims, mistakes) = read(&format!("{own}{more}"));
            assert_eq!(mistakes, "");
            let expected = serde_json::json!({ "app_id": "abc1", "from": from });
            assert_eq!(Some(&shims["intercom"]), expected.as_object(), "{more}");
        }
        assert!(read("").0.is_empty());
        for (stated, mistake) in [
            ("[vendors.intercom]\napp_id = \"a/../b\"", "1 to 64 letters"),
            ("[vendors.intercom]\napp_id = \"\"", "1 to 64 letters"),
            ("[vendors.intercom]\napp_idd = \"a\"", "did you mean \"app_id\"?"),
            ("[vendors.drift]\napp_id = \"a\"", "app_id"),
        ] {
            let (_, mistakes) = read(stated);
            assert!(mistakes.contains(mistake), "{stated}: {mistakes}");
        }
    }

    #[test]
    fn scripts_and_beacons_share_no_path() {
        let (mut mounts, _) = read("", &[]);
        let below = ["/g/collect", "/tr", "/track", "/2/httpapi", "/v1/t", "/array/a/config.js"];
        for mount in &mut mounts {
            for path in below.iter().filter(|path| mount.beacon.endpoint(path).is_some()) {
                assert!(!mount.has_script(path), "{mount:?} {path}");
            }
        }
    }
}

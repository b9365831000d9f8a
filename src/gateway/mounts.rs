//! Where the vendors' beacons of a site are taken in: `[sites.vendors.NAME]`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use url::Url;

use super::route::Route;
use crate::event::Object;
use crate::metrics::{FormatLabels, Metrics, Name};
use crate::settings::Section;
use crate::vendors::beacon::{Answer, Inbound, Malformed, Methods, Verdict};
use crate::vendors::{Beacon, Script, VENDORS, Vendor};

/// The longest mount.
const MAX_MOUNT_BYTES: usize = 64;

/// Where one vendor's beacons are taken in.
#[derive(Clone)]
pub struct Mount {
    /// The vendor's name.
    pub vendor: &'static str,
    /// How its library speaks.
    pub beacon: &'static dyn Beacon,
    /// The beginning of its paths, without a slash at its end.
    pub path: String,
    /// Whether its beacons become events.
    pub converts: bool,
    /// How its beacons are passed on to the vendor, if they are.
    pub forward: Option<Forwarding>,
    /// How its scripts are served, if they are.
    pub scripts: Option<Scripts>,
}

/// How a vendor's scripts are served.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// What they are.
    pub script: &'static Script,
    /// Stands in for the vendor's own host.
    pub endpoint: Option<Url>,
}

/// How a vendor's beacons are passed on to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The vendor's own URL for them.
    pub upstream: Url,
    /// The consent categories the visitor must have granted.
    pub consent: Vec<String>,
}

/// A mount as requests see it.
pub(super) struct Mounted {
    pub(super) mount: Mount,
    /// Events accepted of its format.
    pub(super) accepted: Counter,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}", self.vendor, self.path)
    }
}

impl Mount {
    /// Reads `[sites.vendors]`. Every vendor whose beacons are understood, or whose scripts are known, is mounted at its own name
    /// unless the site says otherwise.
    pub(super) fn read_all(site: &mut Section<'_>) -> Vec<Self> {
        let mut section = site.section("vendors");
        let speaks = |vendor: &&&Vendor| vendor.beacon.is_some() || vendor.script.is_some();
        let names: Vec<&str> = VENDORS.iter().filter(speaks).map(|vendor| vendor.name).collect();
        let mut said = section.children();
        for (name, table) in &mut said {
            if !names.contains(&name.as_str()) {
                table.ignore_rest();
                section.unknown_name(
                    name,
                    name,
                    "vendor with beacons or scripts of its own",
                    &names,
                );
            }
        }
        let mut taken = BTreeSet::new();
        let mut mounts = Vec::new();
        for vendor in VENDORS {
            let Some(mut mount) = Self::at_its_name(vendor) else { continue };
            let table = said.iter_mut().find(|(name, _)| name == vendor.name);
            if let Some((_, table)) = table {
                mount.change(table);
            }
            if !mount.converts && mount.forward.is_none() {
                mount.beacon = &Silent;
            }
            if !mount.converts && mount.forward.is_none() && mount.scripts.is_none() {
                continue;
            }
            // Several may share the root: they differ by what follows.
            if !mount.path.is_empty() && !taken.insert(mount.path.clone()) {
                let why = format!("{} is another vendor's mount already", mount.path);
                section.mistake(vendor.name, &why);
            }
            mounts.push(mount);
        }
        mounts
    }

    /// The mount of a vendor at its own name, if it has beacons or scripts.
    pub fn at_its_name(vendor: &Vendor) -> Option<Self> {
        let path = format!("/{}", vendor.name);
        let beacon = vendor.beacon.unwrap_or(&Silent);
        let scripts = vendor.script.map(|script| Scripts { script, endpoint: None });
        let converts = vendor.beacon.is_some();
        (converts || scripts.is_some()).then_some(Self {
            vendor: vendor.name,
            beacon,
            path,
            converts,
            forward: None,
            scripts,
        })
    }

    /// As a site's table says.
    fn change(&mut self, table: &mut Section<'_>) {
        let choices = [
            ("convert", (true, false)),
            ("forward", (false, true)),
            ("both", (true, true)),
            ("off", (false, false)),
        ];
        let (converts, forwards) = if self.converts {
            table.opt_choice("beacons", &choices).unwrap_or((true, false))
        } else {
            (false, false)
        };
        self.converts = converts;
        self.change_scripts(table);
        match table.opt_string("mount") {
            None => {}
            Some(path) if path == "/" => self.path = String::new(),
            Some(path) => {
                if let Some(why) = fault(&path) {
                    table.mistake("mount", why);
                }
                self.path = path;
            }
        }
        let own = self.beacon.upstream().and_then(|url| url.parse().ok());
        let upstream = table.opt_parsed("upstream").or(own);
        let consent = table.strings("consent");
        if !forwards {
            return;
        }
        match upstream {
            Some(upstream) => self.forward = Some(Forwarding { upstream, consent }),
            None => table.mistake("beacons", "needs upstream, the vendor's own URL of them"),
        }
    }

    fn change_scripts(&mut self, table: &mut Section<'_>) {
        let Some(scripts) = &mut self.scripts else { return };
        let choices = [("proxy", true), ("off", false)];
        let serves = table.opt_choice("scripts", &choices).unwrap_or(true);
        scripts.endpoint = table.opt_parsed("script_endpoint");
        if scripts.endpoint.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            table.mistake("script_endpoint", "must begin with http:// or https://");
        }
        if !serves {
            self.scripts = None;
        }
    }

    /// What follows the mount in a path.
    pub(super) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.path.as_str()).filter(|rest| rest.starts_with('/'))
    }
}

/// A vendor that has scripts but takes no beacons.
struct Silent;

impl Beacon for Silent {
    fn endpoint(&self, _path: &str) -> Option<Methods> {
        None
    }

    fn decode(&self, _inbound: &Inbound<'_>) -> Result<Vec<Object>, Malformed> {
        Ok(Vec::new())
    }

    fn answer(&self, _inbound: &Inbound<'_>, _verdict: Verdict) -> Answer {
        Answer { status: StatusCode::NOT_FOUND, content_type: None, body: Bytes::new() }
    }
}

impl Mounted {
    pub(super) fn new(mount: Mount, site: &Name, metrics: &Metrics) -> Self {
        let labels = FormatLabels { site: site.clone(), format: mount.vendor };
        Self { mount, accepted: metrics.events_accepted.get_or_create_owned(&labels) }
    }
}

/// What is wrong with a mount.
fn fault(path: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '~');
    if !path.starts_with('/') || path.ends_with('/') || path.contains("//") {
        return Some("must begin with a slash and not end with one");
    }
    if path.len() > MAX_MOUNT_BYTES || !path.chars().all(plain) {
        return Some("must be at most 64 letters, digits, slashes and any of \"-_.~\"");
    }
    if Route::is_reserved(path) {
        return Some("is the beginning of the gateway's own paths");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_plain_path_of_its_own() {
        for good in ["/x", "/a/b", "/m1x-panel.js~"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "x", "/x/", "/a//b", "/é", "/a b", "/e", "/v1", "/v1/t", "/px.gif"] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}

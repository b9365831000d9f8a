//! Where the vendors' beacons of a site are taken in: `[sites.vendors.NAME]`.

use std::collections::BTreeSet;

use prometheus_client::metrics::counter::Counter;

use super::route::Route;
use crate::metrics::{FormatLabels, Metrics, Name};
use crate::settings::Section;
use crate::vendors::{Beacon, VENDORS, Vendor};

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
    /// Reads `[sites.vendors]`. Every vendor whose beacons are understood is mounted at its own name
    /// unless the site says otherwise.
    pub(super) fn read_all(site: &mut Section<'_>) -> Vec<Self> {
        let mut section = site.section("vendors");
        let speaks = |vendor: &&&Vendor| vendor.beacon.is_some();
        let names: Vec<&str> = VENDORS.iter().filter(speaks).map(|vendor| vendor.name).collect();
        let mut said = section.children();
        for (name, table) in &mut said {
            if !names.contains(&name.as_str()) {
                table.ignore_rest();
                section.unknown_name(name, name, "vendor whose beacons are understood", &names);
            }
        }
        let mut taken = BTreeSet::new();
        let mut mounts = Vec::new();
        for vendor in VENDORS {
            let Some(mut mount) = Self::at_its_name(vendor) else { continue };
            let table = said.iter_mut().find(|(name, _)| name == vendor.name);
            if let Some((_, table)) = table {
                let Some(path) = read(table, mount.path) else { continue };
                mount.path = path;
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

    /// The mount of a vendor at its own name, if its beacons are understood.
    pub fn at_its_name(vendor: &Vendor) -> Option<Self> {
        let path = format!("/{}", vendor.name);
        Some(Self { vendor: vendor.name, beacon: vendor.beacon?, path })
    }

    /// What follows the mount in a path.
    pub(super) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.path.as_str()).filter(|rest| rest.starts_with('/'))
    }
}

impl Mounted {
    pub(super) fn new(mount: Mount, site: &Name, metrics: &Metrics) -> Self {
        let labels = FormatLabels { site: site.clone(), format: mount.vendor };
        Self { mount, accepted: metrics.events_accepted.get_or_create_owned(&labels) }
    }
}

/// The mount that a table gives; `None` if the vendor's beacons are not taken in.
fn read(table: &mut Section<'_>, default: String) -> Option<String> {
    let beacons = table.opt_choice("beacons", &[("convert", true), ("off", false)]);
    let path = match table.opt_string("mount") {
        None => default,
        Some(path) if path == "/" => String::new(),
        Some(path) => {
            if let Some(why) = fault(&path) {
                table.mistake("mount", why);
            }
            path
        }
    };
    beacons.unwrap_or(true).then_some(path)
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

//! Sites and destinations, as far as their names and vendors go.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::settings::Section;
use crate::vendors::{self, Destination, VENDORS, Vendor};

/// The longest name of a site or a destination: names are metric labels and journal keys.
const MAX_NAME_CHARS: usize = 64;

/// One of `[[sites]]`.
#[derive(Clone, Debug)]
pub struct SiteSettings {
    /// Its name: unique, short, and safe as a label and in a URL.
    pub name: Arc<str>,
    /// Its destinations, in the order of the file.
    pub destinations: Vec<DestinationSettings>,
}

/// One of `[[sites.destinations]]`.
#[derive(Clone)]
pub struct DestinationSettings {
    /// Its name: unique in its site, short, and safe as a label and in a URL.
    pub name: Arc<str>,
    /// The vendor it uses.
    pub vendor: &'static Vendor,
    /// Who calls the vendor.
    pub mode: Mode,
    /// The vendor's destination, built from its own settings.
    pub destination: Arc<dyn Destination>,
}

// By hand: a vendor's destination holds secrets.
impl fmt::Debug for DestinationSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DestinationSettings")
            .field("name", &self.name)
            .field("vendor", &self.vendor.name)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Who calls the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The gateway.
    Server,
    /// The page, through scripts served first-party.
    Client,
    /// Both, with the same event ids, so that the vendor counts each event once.
    Both,
}

impl Mode {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "both",
        }
    }
}

/// Reads `[[sites]]`, each over `[site_defaults]`.
pub(super) fn read_sites(root: &mut Section<'_>) -> Vec<SiteSettings> {
    let destination_defaults = root.section("destination_defaults");
    let mut names = BTreeSet::new();
    let mut sites = Vec::new();
    for mut section in root.sections("sites", Some("site_defaults")) {
        sites.push(read_site(&mut section, &destination_defaults, &mut names));
    }
    // The defaults are read beneath each destination, where their own mistakes are noted.
    let mut destination_defaults = destination_defaults;
    destination_defaults.ignore_rest();
    if sites.is_empty() {
        root.mistake("sites", "there must be at least one site");
    }
    sites
}

fn read_site<'a>(
    section: &mut Section<'a>,
    destination_defaults: &Section<'a>,
    names: &mut BTreeSet<Arc<str>>,
) -> SiteSettings {
    let name = unique_name(section, "site", names);
    let mut destination_names = BTreeSet::new();
    let mut destinations = Vec::new();
    for destination in section.sections("destinations", None) {
        let mut destination = destination.over(destination_defaults);
        destinations.extend(read_destination(&mut destination, &mut destination_names));
    }
    section.ignore_rest();
    SiteSettings { name, destinations }
}

fn read_destination(
    section: &mut Section<'_>,
    names: &mut BTreeSet<Arc<str>>,
) -> Option<DestinationSettings> {
    let name = unique_name(section, "destination", names);
    let mode = section.choice(
        "mode",
        &[("server", Mode::Server), ("client", Mode::Client), ("both", Mode::Both)],
    );
    let had_vendor = section.has("vendor");
    let written = section.string("vendor");
    let Some(vendor) = vendors::find(&written) else {
        if had_vendor {
            let known: Vec<_> = VENDORS.iter().map(|vendor| vendor.name).collect();
            section.unknown_name("vendor", &written, "vendor", &known);
        }
        // Whose settings these are is unknown, so none of them can be called wrong.
        section.section("settings").ignore_rest();
        return None;
    };
    let destination = Arc::from((vendor.destination)(&mut section.section("settings")));
    Some(DestinationSettings { name, vendor, mode, destination })
}

/// Reads `name` and refuses one that is taken or that cannot be a label.
fn unique_name(section: &mut Section<'_>, what: &str, taken: &mut BTreeSet<Arc<str>>) -> Arc<str> {
    let had_name = section.has("name");
    let name: Arc<str> = section.string("name").into();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if !had_name {
        return name;
    }
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_plain) {
        section.mistake("name", "must be 1 to 64 characters of a-z, 0-9, \"_\" and \"-\"");
    } else if !taken.insert(Arc::clone(&name)) {
        section.mistake("name", &format!("there is another {what} of that name"));
    }
    name
}

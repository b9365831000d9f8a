//! Warnings about valid settings that are probably not intended, for `tagway check` and the admin API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{SiteSettings, TagwaySettings};
use crate::admin::SettingsWarning;
use tagway_delivery::segment::{SegmentSettings, SyncKind, SyncSettings};
use tagway_delivery::{DestinationMode, DestinationSettings};
use tagway_edge::CertificateExpiry;
use tagway_settings::MIN_SECRET_BYTES;
use tagway_vendors::forward;
use tagway_vendors::mapping::{NameMention, probable_typos};

/// The warning about an admin listener beyond loopback.
const BEYOND_LOOPBACK: &str = "listen.admin is not a loopback address: it serves metrics and the names of \
    sites and destinations without a token, and clients send the token unencrypted; set admin.tls = true (with \
    [[tls.certificates]], or certificate and key of [admin]), or bind it to 127.0.0.1";

/// Returns the warnings about settings beyond those of sites.
pub fn gateway_warnings(settings: &TagwaySettings) -> Vec<SettingsWarning> {
    let warning =
        |place: &str, text: String| SettingsWarning { place: place.to_owned(), site: None, text };
    let mut warnings = Vec::new();
    let is_tls = settings.admin.tls.is_on();
    if !is_tls && !settings.admin.address.ip().to_canonical().is_loopback() {
        warnings.push(warning("listen.admin", BEYOND_LOOPBACK.to_owned()));
    }
    for setting in settings.redaction.too_short() {
        let why = format!(
            "{setting} has fewer than {MIN_SECRET_BYTES} bytes and may appear in outputs: lengthen it"
        );
        warnings.push(warning(&setting, why));
    }
    let former = settings.warnings.iter();
    warnings.extend(former.map(|it| warning(&format!("{}:{}", it.file, it.line), it.to_string())));
    warnings
}

/// Returns the warning about a certificate that expires soon.
pub fn expiry_warning(
    settings: &TagwaySettings,
    expiry: &CertificateExpiry,
    now: Timestamp,
) -> Option<SettingsWarning> {
    let CertificateExpiry { name, expires_at } = expiry;
    let is_near = expiry.is_near(now, settings.edge.expiry_warning);
    is_near.then(|| SettingsWarning {
        place: "tls".to_owned(),
        site: None,
        text: format!("the certificate of {name} expires at {expires_at}"),
    })
}

/// Returns the warnings about a site.
pub fn site_warnings(site: &SiteSettings) -> Vec<SettingsWarning> {
    let place = format!("site {}", site.name);
    let warning =
        |text| SettingsWarning { place: place.clone(), site: Some(site.name.to_string()), text };
    texts(site).into_iter().map(warning).collect()
}

fn texts(site: &SiteSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let proves_nobody = site.visitor.login.is_empty() && site.gateway.server_token.is_none();
    if !site.profiles.public.is_empty() && proves_nobody {
        warnings.push(
            "profiles.public: no visitor can be proven to be a user without login_key or server_token, so \
             pages get no values of known users; set one of the two"
                .to_owned(),
        );
    }
    if site.tagged_vendors.len() > 1 {
        let tags: Vec<&str> = site.tagged_vendors.iter().copied().collect();
        let hears_all = |it: &&Arc<DestinationSettings>| {
            it.mode == DestinationMode::Server
                && it.vendor != forward::NAME
                && it.filter.tags.is_none()
        };
        for destination in site.destinations.iter().filter(hears_all) {
            warnings.push(format!(
                "{}: gets the same event from each of the tags of {}; name one of them in tags",
                destination.name,
                tags.join(", ")
            ));
        }
    }
    warnings.extend(suspicious_names(site));
    warnings.extend(fallbacks(site));
    if site.shares_secret {
        let what = "a cookie is valid for its own site only, and older cookies whose signatures do \
                    not name the site are rejected; set a different secret for each site";
        warnings.push(format!("secret: another site has the same secret: {what}"));
    }
    for mount in site.gateway.mounts.iter().filter(|mount| mount.lacks_ids()) {
        warnings.push(format!(
            "sites.vendors.{}: scripts = \"proxy\" serves no customer-specific scripts, because no id of \
             the site at the vendor is known; set ids = [..]",
            mount.vendor
        ));
    }
    for destination in site.destinations.iter().filter(|it| it.client.is_some()) {
        let name = &destination.name;
        let twice =
            tagway_vendors::find(destination.vendor).and_then(|it| it.client?.duplicate_risk);
        if let Some(why) = twice.filter(|_| destination.mode == DestinationMode::Both) {
            warnings.push(format!("{name}: {why}; prefer \"server\" or \"client\""));
        }
        if destination.mapping.is_configured() {
            warnings.push(format!(
                "{name}: types, where and the mapping apply to events that the gateway sends, not to those that \
                 pages send"
            ));
        }
        let mount = site.gateway.mounts.iter().find(|it| it.vendor == destination.vendor);
        // Without one upstream URL for its beacons, the library sends them to the vendor itself.
        if mount.is_some_and(|mount| mount.beacons.converts() && mount.beacon.upstream().is_some())
        {
            let what = "events, so each event arrives twice: set beacons to \"forward\" or \"off\"";
            warnings.push(format!("{name}: the beacons of its library become {what}"));
        }
    }
    for destination in &site.destinations {
        warnings.extend(names_that_become_one(destination));
    }
    warnings
}

/// Event names in a destination's mapping that become one name at the vendor.
fn names_that_become_one(destination: &DestinationSettings) -> Vec<String> {
    let Some(fit) = tagway_vendors::find(destination.vendor).and_then(|it| it.fit_name) else {
        return Vec::new();
    };
    let mut by_name: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in destination.mapping.names() {
        by_name.entry(fit(name).unwrap_or_default()).or_default().insert(name);
    }
    let several = by_name.into_iter().filter(|(_, names)| names.len() > 1);
    let warning = |(fit, names): (String, BTreeSet<&str>)| {
        let (name, names) =
            (&destination.name, names.into_iter().collect::<Vec<_>>().join("\", \""));
        format!("{name}: the events \"{names}\" all become \"{fit}\" at {}", destination.vendor)
    };
    several.map(warning).collect()
}

/// Names in conditions, templates and rules that are probably slips.
fn suspicious_names(site: &SiteSettings) -> Vec<String> {
    let (mut mentions, mut made) = (BTreeSet::new(), BTreeSet::new());
    for destination in &site.destinations {
        mentions.extend(destination.mapping.mentions(&destination.name));
        made.extend(destination.mapping.written_paths());
    }
    for segment in &site.segments {
        let place = format!("segment {}: where", segment.name);
        let lookups = segment.rule.lookups().into_iter();
        mentions.extend(lookups.map(|lookup| NameMention { place: place.clone(), lookup }));
    }
    probable_typos(&mentions, &made)
}

/// Segments that a destination receives as events although its vendor has lists.
fn fallbacks(site: &SiteSettings) -> Vec<String> {
    let syncs = site.segments.iter().flat_map(|it| it.syncs.iter().map(move |sync| (it, sync)));
    let implied = syncs.filter(|(_, sync)| sync.is_kind_implied && sync.kind == SyncKind::Events);
    let fallback = |(segment, sync): (&Arc<SegmentSettings>, &SyncSettings)| {
        let destination = site.destinations.iter().find(|it| it.name == sync.destination)?;
        let lacks = destination.destination.missing_list_settings();
        let settings = lacks.join(", ");
        (!lacks.is_empty()).then(|| {
            format!(
                "segment {}: goes to {} as events, and not as a list of {}: a list needs {settings}; set \
                 kind = \"events\" if events are meant",
                segment.name, sync.destination, destination.vendor
            )
        })
    };
    implied.filter_map(fallback).collect()
}

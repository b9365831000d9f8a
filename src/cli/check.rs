//! `tagway check`: summarises the configuration, without secrets. It reads the certificates as a start
//! does, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use super::{CommandError, block_on, load, print};
use crate::admin::AdminTls;
use crate::config::{ConfigSource, SiteSettings, TagwaySettings};
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_delivery::segment::{SegmentSettings, SyncKind, SyncSettings};
use tagway_delivery::{DestinationMode, DestinationSettings};
use tagway_edge::{CertificateExpiry, TlsTerminator};
use tagway_settings::MIN_SECRET_BYTES;
use tagway_vendors::forward;
use tagway_vendors::mapping::{NameMention, probable_typos};

pub(super) fn run(origin: &ConfigSource) -> Result<(), CommandError> {
    let settings = load(origin)?;
    let expiries = block_on(async {
        let mut expiries = tagway_edge::check(&settings.edge).await.map_err(anyhow::Error::from)?;
        if let AdminTls::Own(files) = &settings.admin.tls {
            let own = TlsTerminator::load(std::slice::from_ref(files)).await;
            expiries.extend(own.map_err(anyhow::Error::from)?.expiries());
        }
        Ok(expiries)
    })?;
    let file = origin.file.as_ref().map(|file| file.display().to_string());
    let mut summary = summary(&settings, file.as_deref().unwrap_or("the embedded default"));
    for expiry in expiries {
        if expiry.is_near(SystemClock.now(), settings.edge.expiry_warning) {
            let CertificateExpiry { name, expires_at } = expiry;
            let _infallible =
                writeln!(summary, "warning: the certificate of {name} expires at {expires_at}");
        }
    }
    print(&settings.redaction.redact(&summary))
}

/// The warning about an admin listener beyond loopback.
const BEYOND_LOOPBACK: &str = "listen.admin is not a loopback address: it serves metrics and the names of \
    sites and destinations without a token, and clients send the token unencrypted; set admin.tls = true (with \
    [[tls.certificates]], or certificate and key of [admin]), or bind it to 127.0.0.1";

/// Writing to a String cannot fail, so the results are dropped.
fn summary(settings: &TagwaySettings, file: &str) -> String {
    let mut out = format!("{file} is valid.\n\n");
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _infallible = writeln!(out, "{name:<12}{value}");
    };
    row("data", &settings.data_dir.display());
    let (is_tls, admin) = (settings.admin.tls.is_on(), settings.admin.address);
    row("admin", &format!("{admin}{}", if is_tls { " (TLS)" } else { "" }));
    if !is_tls && !settings.admin.address.ip().to_canonical().is_loopback() {
        row("warning", &BEYOND_LOOPBACK);
    }
    for setting in settings.redaction.too_short() {
        let why = format!(
            "{setting} has fewer than {MIN_SECRET_BYTES} bytes and may appear in outputs: lengthen it"
        );
        row("warning", &why);
    }
    for warning in &settings.warnings {
        row("warning", warning);
    }
    let _infallible = writeln!(out);
    for site in &settings.sites {
        let _infallible = writeln!(out, "site {}", site.name);
        if site.destinations.is_empty() {
            let _infallible = writeln!(out, "  no destinations: events are kept for replay only");
        }
        for segment in &site.segments {
            let (by, schedule) = (segment.unit.name(), segment.schedule.describe());
            let name = format!("segment {}", segment.name);
            let _infallible = writeln!(out, "  {name:<20} by {by:<9} {schedule}");
            for sync in &segment.syncs {
                let (kind, to) = (sync.kind.name(), &sync.destination);
                let _infallible = writeln!(out, "    to {to:<15} as {kind} \"{}\"", sync.audience);
            }
        }
        for destination in &site.destinations {
            let (vendor, mode) = (destination.vendor, destination.mode.name());
            let paused = if destination.paused { ", paused" } else { "" };
            let name = &destination.name;
            let _infallible = writeln!(out, "  {name:<20} {vendor:<12} {mode}{paused}");
        }
        for integration in &site.integrations {
            let what = if integration.preview { "integration, a draft" } else { "integration" };
            let _infallible = writeln!(out, "  {:<20} {what}", integration.name);
        }
        for warning in warnings(site) {
            let _infallible = writeln!(out, "  warning: {warning}");
        }
    }
    out
}

/// Warnings about valid settings that are probably not intended.
fn warnings(site: &SiteSettings) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_of(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tagway.toml");
        std::fs::write(&file, text).unwrap();
        let settings = ConfigSource { file: Some(file), ..ConfigSource::default() }.load().unwrap();
        summary(&settings, "file")
    }

    const SITES: &str = "[[sites]]\nname = \"shop\"\nhosts = [\"t.shop.example\"]\n\
        secret = \"0123456789abcdef\"\n[[sites]]\nname = \"blog\"\nhosts = [\"t.blog.example\"]\n";

    #[test]
    fn check_warns_of_an_admin_listener_beyond_loopback() {
        for (address, warns) in [
            ("127.0.0.1:9090", false),
            ("[::1]:9090", false),
            ("[::ffff:127.0.0.1]:9090", false),
            ("0.0.0.0:9090", true),
            ("[::]:9090", true),
            ("10.0.0.1:9090", true),
        ] {
            let said = summary_of(&format!("[listen]\nadmin = \"{address}\"\n{SITES}"));
            assert_eq!(said.contains("is not a loopback address"), warns, "{said}");
        }
    }

    #[test]
    fn check_warns_of_a_secret_that_two_sites_have() {
        for (secret, warnings) in [("0123456789abcdef", 2), ("fedcba9876543210", 0)] {
            let said = summary_of(&format!("{SITES}secret = \"{secret}\"\n"));
            assert_eq!(
                said.matches("another site has the same secret").count(),
                warnings,
                "{said}"
            );
        }
    }

    #[test]
    fn check_warns_of_names_that_are_probably_slips() {
        let site = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n[[sites.destinations]]\nname = \"log\"\n\
            vendor = \"console\"\n";
        let rule = |rule: &str| {
            summary_of(&format!("{site}[[sites.destinations.mapping.rules]]\n{rule}\n"))
        };
        let said = rule("set = { \"properties.sum\" = \"{{ properties.pricee * 2 }}\" }");
        let expected = "log: mapping.rules[0].set: unknown name properties.pricee; did you mean \
                        \"price\"?";
        assert!(said.contains(expected), "{said}");
        let said = rule("drop = [\"properties.quantitty\"]");
        assert!(said.contains("rules[0].drop") && said.contains("\"quantity\"?"), "{said}");
        let said = rule("set = { \"properties.sum\" = \"{{ properties.price * 2 }}\" }");
        assert!(!said.contains("unknown name"), "{said}");
    }

    #[test]
    fn check_warns_of_missing_list_settings() {
        let said = |settings: &str, kind: &str| {
            summary_of(&format!(
                "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n[[sites.destinations]]\nname = \"ads\"\n\
                 vendor = \"meta\"\n[sites.destinations.settings]\npixel_id = \"123\"\n\
                 access_token = \"0123456789\"\n{settings}[[sites.segments]]\nname = \"vip\"\n\
                 every = \"24h\"\nwhere = {{ trait = \"plan\", \"=\" = \"pro\" }}\n\
                 [[sites.segments.sync]]\ndestination = \"ads\"\n{kind}"
            ))
        };
        let needs = "segment vip: goes to ads as events, and not as a list of meta: a list needs ad_account_id";
        assert!(said("", "").contains(needs));
        for (settings, kind) in [("ad_account_id = \"act_1\"\n", ""), ("", "kind = \"events\"\n")] {
            assert!(!said(settings, kind).contains("a list needs"), "{settings}{kind}");
        }
    }

    #[test]
    fn check_warns_of_customer_scripts_without_ids() {
        for (more, warns) in [("", true), ("ids = [\"KEY\"]\n", false)] {
            let segment = "[sites.vendors.segment]\nscripts = \"proxy\"\n";
            let said = summary_of(&format!("{SITES}{segment}{more}"));
            assert_eq!(said.contains("set ids = [..]"), warns, "{said}");
        }
    }

    #[test]
    fn check_warns_of_names_that_become_one() {
        let destination = "[[sites.destinations]]\nname = \"ga\"\nvendor = \"ga4\"\n\
            settings = { measurement_id = \"G-ABC123\", api_secret = \"0123456789abcdef\" }\n";
        for (names, warns) in [
            (["sign-up", "sign up"], true),
            (["sign-up", "sign_up"], true),
            (["sign-up", "sign-up"], false),
            (["sign-up", "signup"], false),
            (["sign-up", "sign*up"], false),
        ] {
            let [first, second] = names;
            let rules = format!(
                "[[sites.destinations.mapping.rules]]\nevents = [\"{first}\"]\ndrop = [\"properties.x\"]\n\
                 [[sites.destinations.mapping.rules]]\nevents = [\"b\"]\nrename = \"{second}\"\n"
            );
            let site = SITES.split("[[sites]]").nth(1).unwrap();
            let said = summary_of(&format!("[[sites]]{site}{destination}{rules}"));
            assert_eq!(said.contains("all become \"sign_up\" at ga4"), warns, "{names:?}: {said}");
        }
    }

    #[test]
    fn check_warns_of_public_profiles_without_a_login_proof() {
        let public = "[sites.profiles]\npublic = [\"traits.plan\"]";
        let said =
            |more: &str| summary_of(&format!("[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n{more}\n"));
        assert!(said(public).contains("login_key"));
        for key in ["login_key", "server_token"] {
            let more = format!("{key} = \"sixteen-characters-or-more\"\n{public}");
            assert!(!said(&more).contains("login_key"));
        }
        assert!(!said("").contains("login_key"));
    }
}

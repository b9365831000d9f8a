//! `tagway check`: summarises the configuration, without secrets. It reads the certificates as a start
//! does, and changes nothing.

use std::fmt::Write;

use super::{CommandError, block_on, load, print};
use crate::admin::AdminTls;
use crate::config::{
    ConfigSource, TagwaySettings, expiry_warning, gateway_warnings, site_warnings,
};
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_edge::TlsTerminator;

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
        if let Some(warning) = expiry_warning(&settings, &expiry, SystemClock.now()) {
            let _infallible = writeln!(summary, "warning: {}", warning.text);
        }
    }
    print(&settings.redaction.redact(&summary))
}

/// Writing to a String cannot fail, so the results are dropped.
fn summary(settings: &TagwaySettings, file: &str) -> String {
    let mut out = format!("{file} is valid.\n\n");
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _infallible = writeln!(out, "{name:<12}{value}");
    };
    row("data", &settings.data_dir.display());
    let (is_tls, admin) = (settings.admin.tls.is_on(), settings.admin.address);
    row("admin", &format!("{admin}{}", if is_tls { " (TLS)" } else { "" }));
    for warning in gateway_warnings(settings) {
        row("warning", &warning.text);
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
        for warning in site_warnings(site) {
            let _infallible = writeln!(out, "  warning: {}", warning.text);
        }
    }
    out
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

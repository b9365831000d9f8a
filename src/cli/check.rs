//! `tagway check`: what the configuration would run. Never a secret. It reads the certificates as a
//! start does, and changes nothing.

use std::fmt::Write;
use std::sync::Arc;

use super::{Failure, block_on, load, say};
use crate::config::{Origin, Settings, SiteSettings};
use crate::delivery::{DestinationSettings, Mode};
use crate::edge;
use crate::vendors::{self, forward};

pub(super) fn run(origin: &Origin) -> Result<(), Failure> {
    let settings = load(origin)?;
    block_on(async {
        edge::check(&settings.edge).await.map_err(|error| Failure::Other(error.into()))
    })?;
    let file = origin.file.as_ref().map(|file| file.display().to_string());
    say(&summary(&settings, file.as_deref().unwrap_or("the embedded default")))
}

/// Writing to a String cannot fail, so the results are dropped.
fn summary(settings: &Settings, file: &str) -> String {
    let mut out = format!("{file} is valid.\n\n");
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _infallible = writeln!(out, "{name:<12}{value}");
    };
    row("data", &settings.data_dir.display());
    row("admin", &settings.admin.address);
    let _infallible = writeln!(out);
    for site in &settings.sites {
        let _infallible = writeln!(out, "site {}", site.name);
        if site.destinations.is_empty() {
            let _infallible = writeln!(out, "  no destinations: events are kept for replay only");
        }
        for segment in &site.segments {
            let (by, schedule) = (segment.by.name(), segment.schedule.describe());
            let name = format!("segment {}", segment.name);
            let _infallible = writeln!(out, "  {name:<20} by {by:<9} {schedule}");
            for sync in &segment.syncs {
                let (kind, to) = (sync.kind.name(), &sync.destination);
                let _infallible = writeln!(out, "    to {to:<15} as {kind} \"{}\"", sync.audience);
            }
        }
        for destination in &site.destinations {
            let (vendor, mode) = (destination.vendor, destination.mode.name());
            let _infallible = writeln!(out, "  {:<20} {vendor:<12} {mode}", destination.name);
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

/// What is allowed, and perhaps not meant.
fn warnings(site: &SiteSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let proves_nobody = site.visitor.login.is_empty() && site.gateway.server_token.is_none();
    if !site.profiles.public.is_empty() && proves_nobody {
        warnings.push(
            "profiles.public: without login_key or server_token nobody can be proven to be a user, so \
             pages see nothing of what is known of users"
                .to_owned(),
        );
    }
    if site.tagged.len() > 1 {
        let tags: Vec<&str> = site.tagged.iter().copied().collect();
        let hears_all = |it: &&Arc<DestinationSettings>| {
            it.mode == Mode::Server && it.vendor != forward::NAME && it.filter.tags.is_none()
        };
        for destination in site.destinations.iter().filter(hears_all) {
            warnings.push(format!(
                "{}: hears the same from each of the tags of {}; name one in tags",
                destination.name,
                tags.join(", ")
            ));
        }
    }
    for destination in site.destinations.iter().filter(|it| it.client.is_some()) {
        let name = &destination.name;
        let twice = vendors::find(destination.vendor).and_then(|it| it.client?.twice);
        if let Some(why) = twice.filter(|_| destination.mode == Mode::Both) {
            warnings.push(format!("{name}: {why}; prefer \"server\" or \"client\""));
        }
        if destination.mapping.says_something() {
            warnings.push(format!(
                "{name}: types, where and its mapping hold for what the gateway sends, not in pages"
            ));
        }
        let mount = site.gateway.mounts.iter().find(|it| it.vendor == destination.vendor);
        // A library whose vendor has no host of its own for them here sends them there by itself.
        if mount.is_some_and(|mount| mount.converts && mount.beacon.upstream().is_some()) {
            let what = "events: each is there twice unless beacons is \"forward\" or \"off\"";
            warnings.push(format!("{name}: the beacons of its library become {what}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use crate::config::Origin;

    #[test]
    fn check_warns_of_public_profiles_where_nobody_can_be_proven() {
        let warnings = |rest: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("tagway.toml");
            let site = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]";
            std::fs::write(&file, format!("{site}\n{rest}\n")).unwrap();
            let origin = Origin { file: Some(file), ..Origin::default() };
            super::warnings(&origin.load().unwrap().sites[0])
        };
        let public = "[sites.profiles]\npublic = [\"traits.plan\"]";
        let [warning] = &warnings(public)[..] else { panic!() };
        assert!(warning.contains("login_key"), "{warning}");
        for key in ["login_key", "server_token"] {
            let rest = format!("{key} = \"sixteen-characters-or-more\"\n{public}");
            assert_eq!(warnings(&rest), Vec::<String>::new());
        }
        assert_eq!(warnings(""), Vec::<String>::new());
    }
}

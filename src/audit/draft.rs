//! A configuration for the tags that were found: a draft to read and finish. It never contains a secret:
//! a value that the page does not show is written as `${NAME}`, to be set in the environment.

use std::fmt::Write as _;

use url::Url;

use super::measure::{PageFigures, TagFigures, domain};
use tagway_vendors::Vendor;

/// The required settings of a vendor: the key, true if the page shows its value, otherwise the variable.
type RequiredSettings = &'static [(&'static str, bool, &'static str)];

const DESTINATIONS: &[(&str, RequiredSettings)] = &[
    ("ga4", &[("measurement_id", true, "GA4_ID"), ("api_secret", false, "GA4_SECRET")]),
    ("meta", &[("pixel_id", true, "META_PIXEL"), ("access_token", false, "META_TOKEN")]),
    ("mixpanel", &[("project_token", false, "MIXPANEL_TOKEN")]),
    ("amplitude", &[("api_key", false, "AMPLITUDE_KEY")]),
    ("intercom", &[("access_token", false, "INTERCOM_TOKEN")]),
    ("drift", &[("access_token", false, "DRIFT_TOKEN")]),
];

/// Writes the configuration. Everything in it that comes from the page is a host name or a plain id.
pub fn draft(figures: &PageFigures) -> Option<String> {
    let page = Url::parse(&figures.url).ok()?;
    let domain = domain(&page)?;
    let name: String = domain
        .split('.')
        .next()?
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let name = if name.starts_with(|c: char| c.is_ascii_alphabetic()) { &name } else { "site" };
    let is_name = page.domain().is_some();
    // An IP address has no subdomains.
    let host = if is_name { format!("t.{domain}") } else { "t.shop.example".to_owned() };
    let mut out = String::new();
    let mut line = |text: &str| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "{text}");
    };
    line("# A draft by `tagway audit`: read it, set the variables in ${...}, try `tagway check`.");
    line("[listen]\nhttp = \"0.0.0.0:8080\"\n");
    line("[[sites]]");
    line(&format!("name = {}", quoted(name)));
    line(&format!("hosts = [{}]   # point this name at the gateway", quoted(&host)));
    line(&format!("origins = [{}]", quoted(&page.origin().ascii_serialization())));
    line(&format!("write_key = {}", quoted(&format!("{name}-web"))));
    for text in in_page(&figures.tags) {
        line(&text);
    }
    for tag in &figures.tags {
        let vendor = tag.vendor.as_deref();
        let found = DESTINATIONS.iter().find(|(name, _)| Some(*name) == vendor);
        let Some((vendor, needs)) = found else {
            // A tag's name is from our table, or a domain.
            line(&format!("\n# {}: {}", plain(&tag.name), tag.replaced_by));
            continue;
        };
        line(&format!("\n# {}: {}", tag.name, tag.replaced_by));
        let takes_ids = needs.iter().any(|(_, is_seen, _)| *is_seen);
        let ids: Vec<Option<&String>> = match tag.ids.as_slice() {
            ids if takes_ids && !ids.is_empty() => ids.iter().map(Some).collect(),
            _ => vec![None],
        };
        for (number, id) in (1..).zip(ids) {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            line("[[sites.destinations]]");
            line(&format!("name = {}", quoted(&format!("{vendor}{suffix}"))));
            line(&format!("vendor = {}\n[sites.destinations.settings]", quoted(vendor)));
            for (key, is_seen, variable) in *needs {
                let suffix = suffix.replace('-', "_");
                let value = match id.filter(|_| *is_seen) {
                    Some(id) => quoted(id),
                    None => format!("\"${{{variable}{suffix}}}\""),
                };
                line(&format!("{key} = {value}"));
            }
        }
    }
    Some(out)
}

/// The settings that replace the tags' own scripts: shims in `/tw.js` where available, with their ids; the
/// other scripts from the site's own host.
fn in_page(tags: &[TagFigures]) -> Vec<String> {
    let mut found: Vec<(&Vendor, &TagFigures)> = Vec::new();
    for tag in tags {
        let vendor = tag.vendor.as_deref().and_then(tagway_vendors::find);
        if let Some(vendor) = vendor.filter(|it| found.iter().all(|(had, _)| had.name != it.name)) {
            found.push((vendor, tag));
        }
    }
    let mut lines = Vec::new();
    let shims: Vec<String> = found
        .iter()
        .filter(|(vendor, _)| vendor.shim.is_some())
        .map(|(vendor, _)| quoted(vendor.name))
        .collect();
    if !shims.is_empty() {
        lines.push(format!(
            "\n# The page keeps its calls; take the tags' own scripts out of it.\n\
             [sites.sdk]\nshims = [{}]",
            shims.join(", ")
        ));
    }
    for (vendor, tag) in found {
        let Some(script) = vendor.script else { continue };
        let table = format!("\n[sites.vendors.{}]\n", vendor.name);
        match vendor.shim {
            Some(shim) => lines.extend(shim.ids.iter().map(|key| match tag.ids.first() {
                Some(id) => format!("{table}{key} = {}", quoted(id)),
                None => format!("{table}# {key} = \"...\"   # with it, there is a button"),
            })),
            // Some scripts have another host for each customer.
            None if script.files.iter().all(|file| !file.origin.is_empty()) => {
                lines.push(format!("{table}scripts = \"proxy\""));
            }
            None => {}
        }
    }
    lines
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text))
}

/// Keeps only characters of names, hosts, origins and ids.
fn plain(text: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.:/[] ".contains(*c);
    text.chars().filter(is_plain).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSource;

    fn tag(name: &str, vendor: Option<&str>, ids: &[&str]) -> TagFigures {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let vendor = vendor.map(str::to_owned);
        TagFigures { name: name.to_owned(), vendor, ids, ..TagFigures::default() }
    }

    fn checked(url: &str) -> String {
        let tags = vec![
            tag("Google Analytics 4", Some("ga4"), &["G-A1", "G-B2"]),
            tag("Meta pixel", Some("meta"), &[]),
            tag("Mixpanel", Some("mixpanel"), &[]),
            tag("Amplitude", Some("amplitude"), &[]),
            tag("Intercom", Some("intercom"), &["abc1"]),
            tag("Drift", Some("drift"), &[]),
            tag("Segment", Some("segment"), &["abc"]),
            tag("Jitsu", Some("jitsu"), &[]),
            tag("Snowplow", Some("snowplow"), &[]),
            tag("evil\n[[sites]]", None, &[]),
        ];
        let text =
            draft(&PageFigures { url: url.to_owned(), tags, ..PageFigures::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tagway.toml");
        std::fs::write(&file, &text).unwrap();
        let variables = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
        let variables = variables.map(|(name, _)| (name.to_owned(), "12345".to_owned())).collect();
        let settings = ConfigSource::new(Some(file), folder.path(), variables).load();
        let settings = settings.unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:?}"));
        assert_eq!(settings.sites.len(), 1);
        assert_eq!(settings.sites[0].destinations.len(), 7);
        let sdk = &settings.sites[0].sdk;
        let shims = ["ga4", "meta", "mixpanel", "amplitude", "intercom", "drift", "segment"];
        assert_eq!(sdk.shims, shims, "{text}");
        assert_eq!(sdk.shim_settings["intercom"]["app_id"], "abc1");
        assert!(!sdk.shim_settings.contains_key("drift"), "its id was not seen");
        assert!(text.contains("[sites.vendors.jitsu]\nscripts = \"proxy\""), "{text}");
        text
    }

    #[test]
    fn draft_is_a_valid_configuration() {
        let text = checked("https://www.shop.example/a?b=c");
        assert!(text.contains("hosts = [\"t.shop.example\"]"), "{text}");
        assert!(text.contains("measurement_id = \"G-B2\""), "{text}");
        assert!(text.contains("${GA4_SECRET_2}"), "{text}");
        checked("http://127.0.0.1:8000/");
        checked("http://localhost:8000/");
        checked("http://[::1]:8000/");
    }
}

//! Everyday names of vendors, for people who write a configuration: each is reported as a mistake, together
//! with the vendor's name.

use super::VENDORS;

/// Everyday names, in small letters without anything between the words, each with the vendor's name.
const ALIASES: &[(&str, &str)] = &[
    ("adwords", "google_ads"),
    ("analytics4", "ga4"),
    ("conversionsapi", "meta"),
    ("customermatch", "google_ads"),
    ("datamanager", "google_ads"),
    ("facebookads", "meta"),
    ("facebookcapi", "meta"),
    ("facebookpixel", "meta"),
    ("facebook", "meta"),
    ("fb", "meta"),
    ("fbpixel", "meta"),
    ("googleanalytics", "ga4"),
    ("google", "ga4"),
    ("gtag", "ga4"),
    ("gtm", "ga4"),
    ("http", "webhook"),
    ("instagram", "meta"),
    ("log", "console"),
    ("metapixel", "meta"),
    ("metacapi", "meta"),
    ("piwik", "matomo"),
    ("salesloft", "drift"),
    ("stdout", "console"),
    ("tiktokads", "tiktok"),
    ("tiktokpixel", "tiktok"),
    ("url", "webhook"),
    ("universalanalytics", "ga4"),
    ("webhooks", "webhook"),
];

/// Returns the name of the vendor that has this everyday name.
pub fn resolve_alias(written: &str) -> Option<&'static str> {
    let plain = |name: &str| {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    let wanted = plain(written);
    let is_known = |it: &&&super::Vendor| {
        plain(it.name) == wanted || it.aliases.iter().any(|name| plain(name) == wanted)
    };
    let known = VENDORS.iter().find(is_known).map(|vendor| vendor.name);
    known.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == wanted).map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_names_resolve_to_vendors() {
        for (written, name) in [
            ("facebook", "meta"),
            ("Facebook Pixel", "meta"),
            ("GA4", "ga4"),
            ("google-analytics", "ga4"),
            ("Google Ads", "google_ads"),
        ] {
            assert_eq!(resolve_alias(written), Some(name), "{written}");
        }
        assert_eq!(resolve_alias("nobody"), None);
    }

    #[test]
    fn every_alias_names_an_existing_vendor() {
        for (alias, name) in ALIASES {
            assert!(super::super::find(name).is_some(), "{alias}");
            assert!(super::super::find(alias).is_none(), "{alias} is a vendor of its own");
        }
    }
}

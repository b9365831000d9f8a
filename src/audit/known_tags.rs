//! Known tags by their hosts, and their replacements.

use url::Url;

/// A tag that is recognised by its hosts.
#[derive(Debug)]
pub struct KnownTag {
    /// Its common name.
    pub name: &'static str,
    /// Its hosts, subdomains included.
    hosts: &'static [&'static str],
    /// Our name of its vendor, if there is one.
    pub vendor: Option<&'static str>,
    /// Its function in a page.
    pub kind: TagCategory,
    /// The locations of its public id in its requests.
    ids: &'static [TagIdLocation],
}

/// The function of a tag, as far as it matters for its replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagCategory {
    /// Counts and reports events.
    Events,
    /// Loads other tags.
    Loader,
    /// Advertising: reports events, or shows advertisements.
    Ads,
    /// Chat with visitors.
    Chat,
    /// Records the visitors' screens.
    Replay,
    /// Changes the page for some visitors.
    Experiments,
    /// Asks for consent.
    Consent,
    /// Reports the page's own errors and times.
    Monitoring,
    /// Serves parts of the page: fonts, libraries, videos.
    Content,
}

/// The location of an id in a URL.
#[derive(Debug)]
enum TagIdLocation {
    /// The value of this query parameter, if it has this prefix.
    Query(&'static str, &'static str),
    /// The path segment after this text.
    After(&'static str),
    /// The name of a script below this path.
    Script(&'static str),
}

use TagCategory::{Ads, Chat, Consent, Content, Events, Experiments, Loader, Monitoring, Replay};
use TagIdLocation::{After, Query, Script};

const fn known(
    name: &'static str,
    hosts: &'static [&'static str],
    vendor: Option<&'static str>,
    kind: TagCategory,
    ids: &'static [TagIdLocation],
) -> KnownTag {
    KnownTag { name, hosts, vendor, kind, ids }
}

/// The first matching entry counts; of one host's entries, those with a matching id come first.
static KNOWN: &[KnownTag] = &[
    known(
        "Google Analytics 4",
        &["google-analytics.com", "analytics.google.com", "googletagmanager.com"],
        Some("ga4"),
        Events,
        &[Query("id", "G-"), Query("tid", "G-")],
    ),
    known(
        "Google Ads",
        &["googletagmanager.com"],
        None,
        Ads,
        &[Query("id", "AW-"), Query("id", "DC-")],
    ),
    known("Google Tag Manager", &["googletagmanager.com"], None, Loader, &[]),
    known("Google Analytics", &["google-analytics.com", "analytics.google.com"], None, Events, &[]),
    known(
        "Google Ads",
        &["googleadservices.com", "doubleclick.net", "googlesyndication.com", "google.com"],
        None,
        Ads,
        &[],
    ),
    known(
        "Meta pixel",
        &["connect.facebook.net", "facebook.com"],
        Some("meta"),
        Ads,
        &[After("/signals/config/"), Query("id", "")],
    ),
    known("Mixpanel", &["mixpanel.com", "mxpnl.com"], Some("mixpanel"), Events, &[]),
    known("Amplitude", &["amplitude.com"], Some("amplitude"), Events, &[]),
    known(
        "Segment",
        &["segment.com", "segment.io"],
        Some("segment"),
        Loader,
        &[After("/analytics.js/v1/"), After("/v1/projects/")],
    ),
    known("PostHog", &["posthog.com"], Some("posthog"), Events, &[After("/array/")]),
    known(
        "RudderStack",
        &["rudderlabs.com", "rudderstack.com"],
        Some("rudderstack"),
        Loader,
        &[Query("writeKey", "")],
    ),
    known("Jitsu", &["jitsu.com"], Some("jitsu"), Events, &[]),
    known("Snowplow", &["snowplow.io", "snplow.net"], Some("snowplow"), Events, &[]),
    known("Matomo", &["matomo.cloud", "matomo.org"], Some("matomo"), Events, &[]),
    known("Plausible", &["plausible.io"], Some("plausible"), Events, &[]),
    known("Umami", &["umami.is"], Some("umami"), Events, &[]),
    known(
        "Intercom",
        &["intercom.io", "intercomcdn.com", "intercom.com"],
        Some("intercom"),
        Chat,
        &[After("/widget/")],
    ),
    known("Drift", &["drift.com", "driftt.com"], Some("drift"), Chat, &[Script("/include/")]),
    known("Zendesk", &["zdassets.com", "zendesk.com"], None, Chat, &[]),
    known("Crisp", &["crisp.chat"], None, Chat, &[]),
    known("Tawk", &["tawk.to"], None, Chat, &[]),
    known("HubSpot", &["hs-scripts.com", "hubspot.com", "hs-analytics.net"], None, Chat, &[]),
    known("LiveChat", &["livechatinc.com"], None, Chat, &[]),
    known("Hotjar", &["hotjar.com", "hotjar.io"], None, Replay, &[]),
    known("Microsoft Clarity", &["clarity.ms"], None, Replay, &[]),
    known("FullStory", &["fullstory.com"], None, Replay, &[]),
    known("LogRocket", &["logrocket.io", "lr-ingest.io", "lr-in.com"], None, Replay, &[]),
    known("Mouseflow", &["mouseflow.com"], None, Replay, &[]),
    known("TikTok pixel", &["analytics.tiktok.com"], None, Ads, &[]),
    known("LinkedIn Insight", &["licdn.com", "ads.linkedin.com"], None, Ads, &[]),
    known("Pinterest tag", &["pinimg.com", "ct.pinterest.com"], None, Ads, &[]),
    known("Snap pixel", &["sc-static.net", "tr.snapchat.com"], None, Ads, &[]),
    known("Reddit pixel", &["redditstatic.com"], None, Ads, &[]),
    known("X pixel", &["static.ads-twitter.com", "analytics.twitter.com"], None, Ads, &[]),
    known("Microsoft Ads", &["bat.bing.com"], None, Ads, &[]),
    known("Criteo", &["criteo.com", "criteo.net"], None, Ads, &[]),
    known("Taboola", &["taboola.com"], None, Ads, &[]),
    known("Outbrain", &["outbrain.com"], None, Ads, &[]),
    known("Optimizely", &["optimizely.com"], None, Experiments, &[]),
    known("VWO", &["visualwebsiteoptimizer.com"], None, Experiments, &[]),
    known("AB Tasty", &["abtasty.com"], None, Experiments, &[]),
    known("OneTrust", &["cookielaw.org", "onetrust.com"], None, Consent, &[]),
    known("Cookiebot", &["cookiebot.com"], None, Consent, &[]),
    known("Usercentrics", &["usercentrics.eu"], None, Consent, &[]),
    known("Didomi", &["privacy-center.org"], None, Consent, &[]),
    known("Sentry", &["sentry.io", "sentry-cdn.com"], None, Monitoring, &[]),
    known("Datadog", &["datadoghq-browser-agent.com", "datadoghq.com"], None, Monitoring, &[]),
    known("New Relic", &["nr-data.net", "newrelic.com"], None, Monitoring, &[]),
    known("Google Fonts", &["fonts.googleapis.com", "fonts.gstatic.com"], None, Content, &[]),
    known("jsDelivr", &["jsdelivr.net"], None, Content, &[]),
    known("cdnjs", &["cdnjs.cloudflare.com"], None, Content, &[]),
    known("unpkg", &["unpkg.com"], None, Content, &[]),
    known("YouTube", &["youtube.com", "youtube-nocookie.com", "ytimg.com"], None, Content, &[]),
    known("Stripe", &["stripe.com"], None, Content, &[]),
];

/// Returns the tag of this request, and its id in the request.
pub fn recognise(url: &Url) -> Option<(&'static KnownTag, Option<String>)> {
    let host = url.host_str()?;
    let mut of_host = KNOWN.iter().filter(|known| known.is_at(host)).peekable();
    let first = *of_host.peek()?;
    for known in of_host {
        if let Some(id) = known.ids.iter().find_map(|place| place.read(url)) {
            return Some((known, Some(id)));
        }
        if known.ids.is_empty() {
            return Some((known, None));
        }
    }
    Some((first, None))
}

impl KnownTag {
    fn is_at(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| {
            host.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Its replacement, or that there is none: the destination that gets its events, the shim that gets its
    /// calls in the page, or the proxy that serves its scripts.
    pub fn replaced_by(&self) -> String {
        let vendor = self.vendor.and_then(tagway_vendors::find);
        let Some(vendor) = vendor else { return self.unreplaced().to_owned() };
        let name = vendor.name;
        let mut parts = Vec::new();
        if vendor.destination.is_some() {
            parts.push(format!("destination \"{name}\", from the server"));
        } else if vendor.beacon.is_some() {
            parts.push("tagway's own events".to_owned());
        }
        if self.kind == Chat && vendor.shim.is_some() {
            parts.push(format!("shim \"{name}\", whose button loads its messenger at a click"));
        } else if vendor.shim.is_some() {
            parts.push(format!("shim \"{name}\" for the calls in the page"));
        } else if vendor.beacon.is_some() {
            parts.push(format!("its library can stay and send to /{name} meanwhile"));
        }
        if vendor.script.is_some() {
            parts.push("its scripts from your own host by scripts = \"proxy\"".to_owned());
        }
        parts.join("; ")
    }

    /// The advice for a tag without a vendor of ours.
    const fn unreplaced(&self) -> &'static str {
        match self.kind {
            Events => "a \"webhook\" destination, if it has an API",
            Loader => "nothing itself: replace the tags that it loads, then it can go",
            Ads => "a \"webhook\" destination, if it has a conversions API; not its advertisements",
            Content => "no tag: serve it from the site's own host",
            Monitoring => "a gateway cannot remove this: it watches the page itself",
            Chat | Replay | Experiments | Consent => {
                "a gateway cannot remove this: it needs the page"
            }
        }
    }
}

impl TagIdLocation {
    fn read(&self, url: &Url) -> Option<String> {
        let found = match self {
            Query(name, prefix) => url
                .query_pairs()
                .find(|(key, value)| key == name && value.starts_with(prefix))
                .map(|(_, value)| value.into_owned())?,
            After(before) => {
                let (_, rest) = url.path().split_once(before)?;
                rest.split('/').next()?.to_owned()
            }
            Script(before) => {
                let (_, rest) = url.path().split_once(before)?;
                rest.rsplit('/').next()?.strip_suffix(".js")?.to_owned()
            }
        };
        is_id(&found).then_some(found)
    }
}

/// Ids come from a page and go into a file: only plain characters are accepted.
fn is_id(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&text.len()) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Option<(&'static str, Option<String>)> {
        let (known, id) = recognise(&Url::parse(url).unwrap())?;
        Some((known.name, id))
    }

    #[test]
    fn recognise_finds_tags_by_host_and_id() {
        let some = |name, id: &str| Some((name, Some(id.to_owned())));
        let gtm = "https://www.googletagmanager.com";
        assert_eq!(of(&format!("{gtm}/gtag/js?id=G-ABC1")), some("Google Analytics 4", "G-ABC1"));
        assert_eq!(of(&format!("{gtm}/gtag/js?id=AW-12")), some("Google Ads", "AW-12"));
        assert_eq!(of(&format!("{gtm}/gtm.js?id=GTM-1")), Some(("Google Tag Manager", None)));
        let pixel = "https://www.facebook.com/tr/?id=123&ev=PageView";
        assert_eq!(of(pixel), some("Meta pixel", "123"));
        let config = "https://connect.facebook.net/signals/config/99?v=2";
        assert_eq!(of(config), some("Meta pixel", "99"));
        assert_eq!(
            of("https://connect.facebook.net/en_US/fbevents.js"),
            Some(("Meta pixel", None))
        );
        let widget = "https://widget.intercom.io/widget/abc1";
        assert_eq!(of(widget), some("Intercom", "abc1"));
        let widget = "https://js.driftt.com/include/1795434600000/xyz2.js";
        assert_eq!(of(widget), some("Drift", "xyz2"));
        assert_eq!(of("https://notmixpanel.com/x"), None);
        assert_eq!(of("https://api-js.mixpanel.com/track"), Some(("Mixpanel", None)));
    }

    #[test]
    fn recognise_ignores_ids_with_special_characters() {
        assert_eq!(
            of("https://www.facebook.com/tr/?id=1%22%0a%5bx%5d"),
            Some(("Meta pixel", None))
        );
    }

    #[test]
    fn hosts_of_proxied_scripts_are_known_tags() {
        for vendor in tagway_vendors::VENDORS {
            let files = vendor.script.map(|script| script.files).unwrap_or_default();
            for file in files.iter().filter(|file| !file.origin.is_empty() && !file.shared) {
                let host = file.origin.strip_prefix("https://").unwrap();
                let mut own = KNOWN.iter().filter(|known| known.vendor == Some(vendor.name));
                assert!(own.any(|known| known.is_at(host)), "{}: {host}", vendor.name);
            }
        }
    }

    #[test]
    fn replaced_by_names_shims_and_the_proxy() {
        let of = |name: &str| {
            let known = KNOWN.iter().find(|known| known.name == name).unwrap();
            known.replaced_by()
        };
        for (name, parts) in [
            ("Google Analytics 4", &["destination \"ga4\"", "shim \"ga4\"", "\"proxy\""][..]),
            ("Intercom", &["destination \"intercom\"", "button loads its messenger", "\"proxy\""]),
            ("PostHog", &["tagway's own events", "shim \"posthog\""]),
            ("Jitsu", &["send to /jitsu meanwhile", "\"proxy\""]),
        ] {
            let described = of(name);
            assert!(parts.iter().all(|part| described.contains(part)), "{name}: {described}");
        }
        assert!(!of("Jitsu").contains("shim"));
        assert!(of("Crisp").contains("cannot remove"));
    }

    #[test]
    fn every_known_tag_has_a_valid_vendor_and_a_replacement_text() {
        for known in KNOWN {
            assert!(!known.replaced_by().is_empty());
            if let Some(vendor) = known.vendor {
                assert!(tagway_vendors::find(vendor).is_some(), "{vendor}");
            }
        }
    }
}

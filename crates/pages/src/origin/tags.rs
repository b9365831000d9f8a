//! The vendors' tags in a page that are rewritten: maps addresses of vendors' scripts to paths below the site's
//! mounts.
//!
//! The hosts are those of the vendors' own lists of scripts ([`tagway_vendors::script`]); addresses that are not
//! served stay as they are.

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem;
use url::Url;

use super::inline::{InlineScript, hashes, host_at};
use crate::script::literal::LiteralAddress;
use tagway_vendors::VendorScripts;
use tagway_vendors::script::{AddressRewrite, ScriptFile};

/// A vendor's scripts, as the site serves them.
#[derive(Debug)]
pub struct VendorTag {
    /// The beginning of its mount's paths, without a slash at the end.
    pub mount: String,
    /// The vendor's list of scripts.
    pub script: &'static VendorScripts,
    /// True if only the scripts that pages load are served, by a shim.
    pub is_shim: bool,
    /// The site's own ids at the vendor: of scripts that differ by customer, the gateway serves only those of these
    /// ids.
    pub ids: Vec<String>,
    /// The replacement for the vendor's own host.
    pub endpoint: Option<Url>,
    /// True if the mount takes the vendor's beacons.
    pub takes_beacons: bool,
}

/// The tags of a site's vendors.
#[derive(Debug, Default)]
pub struct VendorTags {
    tags: Vec<VendorTag>,
    /// The indexes of the tags that concern a host.
    by_host: HashMap<String, Vec<usize>>,
}

/// An address in an attribute of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLink<'a> {
    /// The position where it begins: attributes may have spaces before.
    start: usize,
    /// The position where its host ends.
    host_end: usize,
    host: &'a str,
    path: &'a str,
    query: &'a str,
}

/// The replacement for the beginning of an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkReplacement {
    /// The path of the mount, and the gateway's path after it.
    pub(super) to: String,
    /// The number of bytes to drop from the address's own path.
    skip: usize,
}

/// A range of a text, and its replacement.
pub(super) type PageTextEdit = (Range<usize>, String);

impl<'a> PageLink<'a> {
    /// Reads an attribute's value. `None` if it names no host.
    pub(super) fn read(value: &'a str) -> Option<Self> {
        let text = value.trim_ascii_start();
        let start = value.len() - text.len();
        let scheme = ["https:", "http:", ""].into_iter().find(|scheme| {
            text.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme))
        })?;
        let after = text.get(scheme.len()..)?.strip_prefix("//")?;
        let (host, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        let rest = rest.split('#').next().unwrap_or_default().trim_ascii_end();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = host.trim_ascii_end();
        Some(Self { start, host_end: start + scheme.len() + 2 + host.len(), host, path, query })
    }

    /// Returns the host, and its port if it names one.
    pub(super) fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the range of the value that is replaced.
    pub(super) fn replaced(&self, place: &LinkReplacement) -> Range<usize> {
        self.start..self.host_end + place.skip
    }
}

impl VendorTags {
    /// Creates the tags of these vendors. Of several with one address, the first is used.
    pub fn new(tags: Vec<VendorTag>) -> Self {
        let mut by_host: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, tag) in tags.iter().enumerate() {
            for host in tag.hosts() {
                by_host.entry(host.to_owned()).or_default().push(place);
            }
        }
        Self { tags, by_host }
    }

    /// Returns true if there are no tags.
    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Returns the gateway's place for the script of this address, if it serves it.
    pub(super) fn find_replacement(&self, link: &PageLink<'_>) -> Option<LinkReplacement> {
        self.tags.iter().find_map(|tag| {
            tag.places(link.host, link.path).find(|place| {
                let below = tag.below(place, link.path);
                let file = tag.script.file(&below);
                file.is_some_and(|file| {
                    tag.serves(file)
                        && !tag.is_foreign(file, link.query)
                        && tag.is_own_script(file, &below, &link.query.replace("&amp;", "&"))
                })
            })
        })
    }

    /// Returns true if a host serves only scripts that the gateway serves too.
    pub(super) fn is_needless(&self, host: &str) -> bool {
        self.tags.iter().any(|tag| tag.owns(host))
    }

    /// Returns the edits of an inline script after which its loads come from `//AUTHORITY`, or from `base`, which
    /// is the same with a scheme. Empty if any of them could then not load. It takes time in proportion to the
    /// script's length.
    pub(super) fn within(&self, script: &[u8], base: &str) -> Vec<PageTextEdit> {
        let mut inline = InlineScript::new(script, base);
        let slashes = memmem::find_iter(script, "//").map(|at| at + 2);
        let escaped = memmem::find_iter(script, "\\/\\/").map(|at| at + 4);
        let mut changes: Vec<PageTextEdit> = Vec::new();
        for at in slashes.chain(escaped) {
            let Some(host) = host_at(script, at) else { continue };
            let tags = self.by_host.get(host).into_iter().flatten();
            let mut tags = tags.filter_map(|place| self.tags.get(*place));
            changes.extend(tags.find_map(|tag| tag.change(&mut inline, at, host)));
        }
        changes.sort_by_key(|(range, _)| range.start);
        changes.dedup_by_key(|(range, _)| range.start);
        if changes.is_empty() {
            return changes;
        }
        match hashes(script).as_slice() {
            [] => {}
            // The hash of a script that is not loaded any more.
            [hash] => changes.push((hash.clone(), String::new())),
            // It is not known which hash belongs to which script.
            _ => return Vec::new(),
        }
        changes.sort_by_key(|(range, _)| range.start);
        changes
    }
}

impl VendorTag {
    /// Returns the candidate replacements for an address of this host and path.
    fn places(&self, host: &str, path: &str) -> impl Iterator<Item = LinkReplacement> {
        let own =
            self.script.files.iter().filter(|file| file.is_on_host(host)).map(|it| (it.strip, 0));
        let inside = self.script.rewrites.iter().filter(|rewrite| rewrite.applies_to(host, path));
        let inside = inside.map(|rewrite| (rewrite.to, 0));
        let skip = self.endpoint.as_ref().and_then(|url| {
            let under = url.path().trim_end_matches('/');
            let is_below = path.strip_prefix(under).is_some_and(|rest| rest.starts_with('/'));
            (authority(url).eq_ignore_ascii_case(host) && is_below).then_some(under.len())
        });
        let elsewhere = skip
            .into_iter()
            .flat_map(|skip| self.script.files.iter().map(move |file| (file.strip, skip)));
        let all = own.chain(inside).chain(elsewhere);
        all.map(|(to, skip)| LinkReplacement { to: format!("{}{to}", self.mount), skip })
    }

    /// Returns the path below the mount.
    fn below(&self, place: &LinkReplacement, path: &str) -> String {
        let to = place.to.strip_prefix(self.mount.as_str()).unwrap_or_default();
        format!("{to}{}", path.get(place.skip..).unwrap_or_default())
    }

    fn serves(&self, file: &ScriptFile) -> bool {
        file.entry || !self.is_shim
    }

    /// Returns true if the parameters select a product that the shim does not replace.
    fn is_foreign(&self, file: &ScriptFile, query: &str) -> bool {
        let mut pairs = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("amp;").unwrap_or(pair).split_once('='));
        let is_foreign = |(name, value): (&str, &str)| {
            file.foreign.iter().any(|(key, start)| *key == name && value.starts_with(start))
        };
        self.is_shim && pairs.any(is_foreign)
    }

    /// Returns true if the script of this address is the site's own; a shim replaces any.
    fn is_own_script(&self, file: &ScriptFile, below: &str, query: &str) -> bool {
        self.is_shim || file.belongs_to(below, query, &self.ids)
    }

    /// Returns true if the host has no other vendor's files, and no other customer's.
    fn owns(&self, host: &str) -> bool {
        let is_known =
            |file: &ScriptFile| self.is_shim || file.id.is_none() || !self.ids.is_empty();
        let mut files = self.script.files.iter().filter(|file| file.is_on_host(host)).peekable();
        files.peek().is_some() && files.all(|file| !file.shared && is_known(file))
    }

    /// Returns true if the script of an address in a script may be the site's own. The address may be the beginning
    /// of a longer one: the script must then contain one of the site's ids.
    fn may_have(
        &self,
        file: &ScriptFile,
        (below, query): (&str, &str),
        inline: &mut InlineScript<'_>,
    ) -> bool {
        if self.is_shim || file.id.is_none() {
            return true;
        }
        match file.id(below, query) {
            Some(id) => self.ids.iter().any(|own| own == id),
            None => self.ids.iter().any(|own| inline.has(own)),
        }
    }

    fn hosts(&self) -> impl Iterator<Item = &str> {
        let script = self.script;
        let files = script.files.iter().filter_map(|file| file.origin.strip_prefix("https://"));
        let inside = script.rewrites.iter().chain(script.bases).map(|rewrite| rewrite.host);
        let mut hosts: Vec<&str> = files.chain(inside).collect();
        hosts.extend(self.endpoint.as_ref().map(authority));
        hosts.sort_unstable();
        hosts.dedup();
        hosts.into_iter()
    }

    /// Returns the edit of an address in a script, which may be the beginning of a longer one.
    fn change(&self, inline: &mut InlineScript<'_>, at: usize, host: &str) -> Option<PageTextEdit> {
        let base = inline.base;
        let address = LiteralAddress::at(inline.script, at, host)?;
        let rest = inline.script.get(address.end..)?;
        let length = rest.iter().position(|byte| b"\"'`$".contains(byte))?;
        let rest = std::str::from_utf8(rest.get(..length)?).ok()?;
        let rest = if address.escaped { rest.replace("\\/", "/") } else { rest.to_owned() };
        let rest = rest.trim_end_matches('\\');
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if self.takes_beacons && path.trim_matches('/').is_empty() {
            let base_of = |it: &&AddressRewrite| it.applies_to(host, "");
            if let Some(rewrite) = self.script.bases.iter().find(base_of) {
                let to = format!("{base}{}{}", self.mount, rewrite.to);
                return Some((address.start..address.end, address.escape_as_written(to)));
            }
        }
        let place = self.places(host, path).find(|place| {
            let below = self.below(place, path);
            let mut is_served = |file: &ScriptFile| {
                self.serves(file)
                    && !self.is_foreign(file, query)
                    && !(self.is_shim && inline.may_be_other(file))
                    && self.may_have(file, (&below, query), inline)
            };
            match self.script.file(&below) {
                Some(file) => is_served(file),
                // The script may append anything, so all possible files must be served.
                None if query.is_empty() && below.matches('/').count() > 1 => {
                    let mut files = self.script.files_below(&below).peekable();
                    files.peek().is_some() && files.all(is_served)
                }
                None => false,
            }
        })?;
        // Escaped slashes would make the range differ, so such addresses stay.
        if place.skip > 0 && address.escaped {
            return None;
        }
        let here = base.find("//").and_then(|at| base.get(at..)).unwrap_or(base);
        let to = address.escape_as_written(format!("{here}{}", place.to));
        Some((address.start..address.end + place.skip, to))
    }
}

fn authority(url: &Url) -> &str {
    url.authority()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tagway_vendors::VENDORS;

    /// Returns every vendor at its name; those that have a shim use it, unless `is_proxy`.
    pub(in crate::origin) fn all(is_proxy: bool) -> VendorTags {
        let tags = VENDORS.iter().filter_map(|vendor| {
            Some(VendorTag {
                mount: format!("/{}", vendor.name),
                script: vendor.script.filter(|_| is_proxy || vendor.shim.is_some())?,
                is_shim: !is_proxy,
                ids: ["G", "G-1", "AW-1", "GTM-1", "abc", "key"].map(str::to_owned).to_vec(),
                endpoint: (vendor.name == "matomo")
                    .then(|| "https://stats.shop.example/matomo/".parse().unwrap()),
                takes_beacons: true,
            })
        });
        VendorTags::new(tags.collect())
    }

    fn placed(tags: &VendorTags, url: &str) -> Option<String> {
        let link = PageLink::read(url)?;
        let place = tags.find_replacement(&link)?;
        let mut text = url.to_owned();
        text.replace_range(link.replaced(&place), &place.to);
        Some(text)
    }

    #[test]
    fn only_listed_scripts_have_a_place() {
        let (shims, proxied) = (all(false), all(true));
        for (url, shim, proxy) in [
            ("https://www.googletagmanager.com/gtag/js?id=G-1&amp;l=x", true, true),
            (" HTTP://WWW.googletagmanager.com/gtag/js?id=G-1", true, true),
            ("https://www.googletagmanager.com/gtag/js?l=x&amp;id=AW-1", false, true),
            ("//www.googletagmanager.com/gtm.js?id=GTM-1", false, true),
            ("//connect.facebook.net/de_DE/fbevents.js", true, true),
            ("https://connect.facebook.net/de_DE/sdk.js", false, false),
            ("https://cdn.mxpnl.com/libs/mixpanel-2-latest.min.js", true, true),
            ("https://cdn.amplitude.com/libs/analytics-browser-2.1.0-min.js.gz", true, true),
            ("https://us-assets.i.posthog.com/static/array.js", true, true),
            ("https://eu-assets.i.posthog.com/static/array.js", true, true),
            ("https://widget.intercom.io/widget/abc", true, true),
            ("https://widget.intercom.io/widget/abd", true, false),
            ("https://www.googletagmanager.com/gtag/js?l=x&amp;id=G-2", true, false),
            ("//www.googletagmanager.com/gtm.js?id=GTM-2", false, false),
            ("https://cdn.segment.com/analytics.js/v1/other/analytics.min.js", true, false),
            ("https://js.intercomcdn.com/frame.1.js", false, true),
            ("https://js.driftt.com/include/1/abc.js", true, true),
            ("https://cdn.segment.com/analytics.js/v1/key/analytics.min.js", true, true),
            ("https://cdn.jsdelivr.net/npm/@snowplow/a@3/dist/sp.js", false, true),
            ("https://cdn.jsdelivr.net/npm/jquery@3/dist/jquery.js", false, false),
            ("https://stats.shop.example/matomo/matomo.js", false, true),
            ("https://stats.shop.example/other/matomo.js", false, false),
            ("https://www.googletagmanager.com:8443/gtag/js", false, false),
            ("https://user@www.googletagmanager.com/gtag/js", false, false),
            ("https://www.googletagmanager.com.evil.example/gtag/js", false, false),
            ("https://www.googletagmanager.com/a/../gtag/js", false, false),
            ("https://www.googletagmanager.com/x", false, false),
            ("/gtag/js", false, false),
            ("ftp://www.googletagmanager.com/gtag/js", false, false),
            ("", false, false),
        ] {
            assert_eq!(placed(&shims, url).is_some(), shim, "{url}");
            assert_eq!(placed(&proxied, url).is_some(), proxy, "{url}");
        }
        let of = |url| placed(&proxied, url).unwrap();
        assert_eq!(of(" //www.googletagmanager.com/gtag/js?id=G#x"), " /ga4/gtag/js?id=G#x");
        assert_eq!(of("https://js.intercomcdn.com/frame.js"), "/intercom/js/frame.js");
        assert_eq!(of("https://stats.shop.example/matomo/matomo.js"), "/matomo/matomo.js");
    }

    fn within(script: &str) -> String {
        let mut text = script.to_owned();
        let changes = all(false).within(script.as_bytes(), "https://t.shop.example");
        for (range, to) in changes.into_iter().rev() {
            text.replace_range(range, &to);
        }
        text
    }

    /// The loaders as the vendors publish them, in their characteristic parts.
    #[test]
    fn vendor_loaders_load_from_the_gateway() {
        for (script, expected) in [
            (
                "t.src=v;s}(window,document,'script','https://connect.facebook.net/en_US/fbevents.js');",
                "t.src=v;s}(window,document,'script','//t.shop.example/meta/en_US/fbevents.js');",
            ),
            (
                r#"e.src="file:"===p&&"//cdn.mxpnl.com/libs/mixpanel-2-latest.min.js".match(/^\/\//)?"https://cdn.mxpnl.com/libs/mixpanel-2-latest.min.js":c"#,
                r#"e.src="file:"===p&&"//t.shop.example/mixpanel/libs/mixpanel-2-latest.min.js".match(/^\/\//)?"//t.shop.example/mixpanel/libs/mixpanel-2-latest.min.js":c"#,
            ),
            (
                r#"n.integrity="sha384-+EO5/a==";n.src="https://cdn.amplitude.com/libs/analytics-browser-2.4.1-min.js.gz""#,
                r#"n.integrity="";n.src="//t.shop.example/amplitude/libs/analytics-browser-2.4.1-min.js.gz""#,
            ),
            (
                "posthog.init('phc_1',{api_host:'https://us.i.posthog.com'})",
                "posthog.init('phc_1',{api_host:'https://t.shop.example/posthog'})",
            ),
            (
                r#"t.src="https://cdn.segment.com/analytics.js/v1/" + key + "/analytics.min.js""#,
                r#"t.src="//t.shop.example/segment/analytics.js/v1/" + key + "/analytics.min.js""#,
            ),
            (
                "s.src='https://widget.intercom.io/widget/' + APP_ID;",
                "s.src='//t.shop.example/intercom/widget/' + APP_ID;",
            ),
            (
                r#"i.src="https://js.driftt.com/include/"+n+"/"+e+".js""#,
                r#"i.src="//t.shop.example/drift/include/"+n+"/"+e+".js""#,
            ),
            (
                "s.src=`https://www.googletagmanager.com/gtag/js?id=${id}`",
                "s.src=`//t.shop.example/ga4/gtag/js?id=${id}`",
            ),
            (
                r#"{"src":"https:\/\/www.googletagmanager.com\/gtag\/js?id=G-1"}"#,
                r#"{"src":"\/\/t.shop.example\/ga4\/gtag\/js?id=G-1"}"#,
            ),
        ] {
            assert_eq!(within(script), expected);
        }
    }

    #[test]
    fn scripts_that_load_something_else_stay_byte_for_byte() {
        for script in [
            // A container, which no shim replaces, and another product.
            "j.src='https://www.googletagmanager.com/gtm.js?id='+i+dl;",
            "s.src='https://www.googletagmanager.com/gtag/js?id=AW-1'",
            "var id='AW-1';s.src='https://www.googletagmanager.com/gtag/js?id='+id",
            // The result of these is not known.
            r#"s.src="https://cdn.mxpnl.com/libs/"+name"#,
            r#"s.src="https://connect.facebook.net/"+locale+"/sdk.js""#,
            r#"s.src="https://cdn.amplitude.com""#,
            // These contain no complete address.
            "// see https://connect.facebook.net/en_US/fbevents.js",
            "s.src=p+'//connect.facebook.net.evil.example/en_US/fbevents.js'",
            r#"a("connect.facebook.net/en_US/fbevents.js")"#,
            // Two hashes: one of them is another script's.
            r#"a.integrity="sha384-a";b.integrity="sha384-b";c("https://cdn.amplitude.com/libs/amplitude-1")"#,
            "'https://connect.facebook.net/en_US/fbevents.js",
        ] {
            assert_eq!(within(script), script);
        }
    }

    #[test]
    fn only_hosts_of_one_vendor_alone_are_needless() {
        let tags = all(true);
        assert!(tags.is_needless("connect.facebook.net"));
        assert!(!tags.is_needless("cdn.jsdelivr.net") && !tags.is_needless("fonts.gstatic.com"));
    }
}

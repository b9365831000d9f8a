//! The Script interface: a vendor's browser scripts that are served first-party, their origins, and the
//! addresses inside them that become the gateway's.
//!
//! Plain data. The host of a script is the vendor's and fixed here; a client only chooses among the paths, in
//! characters that cannot leave them.

/// The longest path below a mount, and the longest value of a parameter.
const MAX_PATH_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 128;

/// The scripts of one vendor that the gateway serves.
#[derive(Debug)]
pub struct VendorScripts {
    /// The files. The first that a path matches is served.
    pub files: &'static [ScriptFile],
    /// The addresses inside the files that are rewritten.
    pub rewrites: &'static [AddressRewrite],
    /// The addresses in a page from which the vendor's loader derives those of both its scripts and its
    /// beacons.
    pub bases: &'static [AddressRewrite],
}

/// Some scripts of one host.
#[derive(Debug)]
pub struct ScriptFile {
    /// The path below the mount: `*` stands for one segment, `**` at the end for any more of them.
    pub path: &'static str,
    /// Scheme and host of the vendor's own; empty where each customer has another, who then sets
    /// `script_endpoint`.
    pub origin: &'static str,
    /// The prefix of the path below the mount that the path at the origin lacks.
    pub strip: &'static str,
    /// The place of the customer's id in the address, if each customer has another script: scripts of other
    /// customers are not served.
    pub id: Option<CustomerIdLocation>,
    /// True if the path begins with a language, as `en_US`.
    pub has_locale: bool,
    /// The parameters that are passed on, and their values' shapes.
    pub query: &'static [(&'static str, ParameterShape)],
    /// True if the path contains a version, so that its content never changes.
    pub immutable: bool,
    /// True if it defines the API that pages call, so that the vendor's shim can stand in for it. The other
    /// files are parts that only the vendor's own scripts load.
    pub entry: bool,
    /// Prefixes of parameters' values that mean another product, for which no shim stands in.
    pub foreign: &'static [(&'static str, &'static str)],
    /// True if others have files at that host as well.
    pub shared: bool,
}

/// The place of a customer's id in the address of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerIdLocation {
    /// In a parameter.
    Query(&'static str),
    /// In a segment of the path below the mount, counted from 1, after these letters and before `.js`.
    Segment(usize, &'static str),
}

/// The values that a parameter may have: each choice of a client's is another script to fetch and store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterShape {
    /// A customer's id.
    Id,
    /// A name in JavaScript, as of a data layer.
    Name,
    /// A version number, such as `3.1`.
    Version,
    /// A lower-case word.
    Word,
    /// A host's name.
    Host,
    /// A vendor's own token that describes what it sent before.
    Mark,
}

impl ParameterShape {
    fn fits(self, value: &str) -> bool {
        let all = |most: usize, fits: fn(u8) -> bool| {
            (1..=most).contains(&value.len()) && value.bytes().all(fits)
        };
        match self {
            Self::Id => all(64, |byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            Self::Name => {
                all(64, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    && !value.starts_with(|first: char| first.is_ascii_digit())
            }
            Self::Version => all(16, |byte| byte.is_ascii_digit() || byte == b'.'),
            Self::Word => all(16, |byte| byte.is_ascii_lowercase()),
            Self::Host => all(253, |byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)
            }),
            Self::Mark => all(64, is_plain),
        }
    }
}

impl ScriptFile {
    /// The defaults of most files.
    pub const PLAIN: Self = Self {
        path: "",
        origin: "",
        strip: "",
        id: None,
        has_locale: false,
        query: &[],
        immutable: false,
        entry: false,
        foreign: &[],
        shared: false,
    };

    /// Returns true if it comes from this host.
    pub fn is_on_host(&self, host: &str) -> bool {
        self.origin.strip_prefix("https://").is_some_and(|own| own.eq_ignore_ascii_case(host))
    }
}

/// An address inside scripts that becomes one of the mount's.
#[derive(Debug)]
pub struct AddressRewrite {
    /// The host that is replaced.
    pub host: &'static str,
    /// The path prefix below which it applies, without a slash at the end; empty for any path.
    pub under: &'static str,
    /// The path between the mount and the original path in the new address.
    pub to: &'static str,
}

impl AddressRewrite {
    /// Returns true if it applies to an address of this host and path.
    pub fn applies_to(&self, host: &str, path: &str) -> bool {
        let rest = path.strip_prefix(self.under);
        self.host.eq_ignore_ascii_case(host)
            && rest.is_some_and(|it| self.under.is_empty() || it.is_empty() || it.starts_with('/'))
    }
}

impl VendorScripts {
    /// Returns the file that a path below the mount is, if it is one.
    pub fn file(&self, path: &str) -> Option<&'static ScriptFile> {
        if path.len() > MAX_PATH_BYTES || !is_plain_path(path) {
            return None;
        }
        let is_it = |file: &&ScriptFile| {
            matches(file.path, path) && (!file.has_locale || is_locale(segment(path, 1)))
        };
        self.files.iter().find(is_it)
    }

    /// Returns the files that a path can become when more is added at its end.
    pub fn files_below(&self, path: &str) -> impl Iterator<Item = &'static ScriptFile> {
        let is_plain = |segment: &str| segment.bytes().all(is_plain) && !segment.starts_with("..");
        let fits = path.len() <= MAX_PATH_BYTES && path.split('/').all(is_plain);
        self.files.iter().filter(move |file| fits && begins(file.path, path))
    }
}

impl ScriptFile {
    /// Returns path and query at the vendor; `None` if a parameter's value cannot come from a page of the
    /// vendor's.
    pub fn target(&self, path: &str, query: Option<&str>) -> Option<String> {
        let mut target = path.strip_prefix(self.strip).unwrap_or(path).to_owned();
        let mut mark = '?';
        for (name, shape) in self.query {
            let Some(value) = value_of(query.unwrap_or_default(), name) else { continue };
            if value.len() > MAX_VALUE_BYTES || !value.bytes().all(is_plain) || !shape.fits(value) {
                return None;
            }
            target.push(mark);
            target.push_str(name);
            target.push('=');
            target.push_str(value);
            mark = '&';
        }
        Some(target)
    }

    /// Returns the id in a path below the mount and a query, as far as these go; `None` if they end before
    /// it.
    pub fn id<'a>(&self, path: &'a str, query: &'a str) -> Option<&'a str> {
        let id = match self.id? {
            CustomerIdLocation::Query(name) => value_of(query, name)?,
            CustomerIdLocation::Segment(place, prefix) => {
                let segment = segment(path, place).strip_prefix(prefix)?;
                segment.strip_suffix(".js").unwrap_or(segment)
            }
        };
        Some(id).filter(|id| !id.is_empty())
    }

    /// Returns true if the script of this address belongs to one of these ids, or is common to all customers.
    pub fn belongs_to(&self, path: &str, query: &str, ids: &[String]) -> bool {
        self.id.is_none() || self.id(path, query).is_some_and(|id| ids.iter().any(|own| own == id))
    }
}

/// Returns the value of the first parameter of this name.
fn value_of<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Returns a segment of a path that begins with a slash, counted from 1; empty if there are fewer.
fn segment(path: &str, place: usize) -> &str {
    path.split('/').nth(place).unwrap_or_default()
}

/// Returns true for a language and a country's variant of it, as `en_US`.
fn is_locale(text: &str) -> bool {
    let Some((language, country)) = text.split_once('_') else { return false };
    let lower = |it: &str| it.bytes().all(|byte| byte.is_ascii_lowercase());
    let upper = |it: &str| it.bytes().all(|byte| byte.is_ascii_uppercase());
    (2..=3).contains(&language.len()) && lower(language) && country.len() == 2 && upper(country)
}

/// Returns true for characters without a meaning in a URL: no escapes, so that nothing is decoded anywhere.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'@' | b',' | b':')
}

fn is_plain_path(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else { return false };
    segments
        .split('/')
        .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) | (Some("**"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(wanted), Some(given)) => match wanted.split_once('*') {
                Some((before, after))
                    if given.len() >= before.len() + after.len()
                        && given.starts_with(before)
                        && given.ends_with(after) => {}
                _ => return false,
            },
            _ => return false,
        }
    }
}

/// Returns true if a path that the pattern matches can begin like this.
fn begins(pattern: &str, start: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), start.split('/').peekable());
    while let Some(segment) = given.next() {
        let Some(pattern) = wanted.next() else { return false };
        if pattern == "**" {
            return true;
        }
        let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
        let is_whole = given.peek().is_some();
        let fits = match (is_whole, pattern.contains('*')) {
            (true, _) => matches(pattern, segment),
            (false, false) => pattern.starts_with(segment),
            (false, true) => segment.starts_with(before) || before.starts_with(segment),
        };
        if !fits || (is_whole && segment.len() < before.len() + after.len()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VENDORS;

    const SCRIPT: VendorScripts = VendorScripts {
        files: &[
            ScriptFile {
                path: "/gtag/js",
                id: Some(CustomerIdLocation::Query("id")),
                query: &[("id", ParameterShape::Id), ("l", ParameterShape::Name)],
                ..ScriptFile::PLAIN
            },
            ScriptFile {
                path: "/widget/*",
                id: Some(CustomerIdLocation::Segment(2, "")),
                ..ScriptFile::PLAIN
            },
            ScriptFile { path: "/js/**", strip: "/js", ..ScriptFile::PLAIN },
            ScriptFile { path: "/x/script.*.js", ..ScriptFile::PLAIN },
        ],
        rewrites: &[],
        bases: &[],
    };

    #[test]
    fn beyond_finds_files_by_the_beginning_of_a_path() {
        let beyond = |path: &str| {
            let found: Vec<_> = SCRIPT.files_below(path).map(|file| file.path).collect();
            found.join(" ")
        };
        assert_eq!(beyond("/gtag/"), "/gtag/js");
        assert_eq!(beyond("/gt"), "/gtag/js");
        assert_eq!(beyond("/widget/"), "/widget/*");
        assert_eq!(beyond("/js/a/b/"), "/js/**");
        assert_eq!(beyond("/x/script.a"), "/x/script.*.js");
        assert_eq!(beyond("/x/scr"), "/x/script.*.js");
        assert_eq!(beyond("/"), "/gtag/js /widget/* /js/** /x/script.*.js");
        for none in ["/gtag/js/", "/widget/a/", "/js/../", "/js/%2e", "x", "/y"] {
            assert_eq!(beyond(none), "", "{none}");
        }
    }

    #[test]
    fn only_plain_paths_of_the_vendor_are_files() {
        for good in ["/gtag/js", "/widget/abc", "/js/a/b@1.2/c.js", "/x/script.outbound.js"] {
            assert!(SCRIPT.file(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "/gtag/js/",
            "/gtag/../gtag/js",
            "/js/../x",
            "/js/%2e%2e/x",
            "/js/..",
            "/js//x",
            "/widget/a/b",
            "/js/a\\b",
            "/js/a;b",
            "/js/@evil.example\r\n",
            "/js",
            "/x/script.js",
            "/js/a?b",
            "/js/a#b",
        ] {
            assert!(SCRIPT.file(bad).is_none(), "{bad}");
        }
        assert!(SCRIPT.file(&format!("/js/{}", "a".repeat(300))).is_none());
    }

    #[test]
    fn target_drops_unlisted_parameters_and_refuses_bad_values() {
        let file = SCRIPT.file("/gtag/js").unwrap();
        let target = |query| file.target("/gtag/js", query);
        assert_eq!(target(None).unwrap(), "/gtag/js");
        assert_eq!(target(Some("x=1&l=dl&id=G-1&id=G-2&y")).unwrap(), "/gtag/js?id=G-1&l=dl");
        for bad in
            ["id=a%26b", "id=a/b", "id=a#b", "id=a?b", "id=a.b", "id=", "l=a.b", "l=1", "l=a(b)"]
        {
            assert_eq!(target(Some(bad)), None, "{bad}");
        }
        let file = SCRIPT.file("/js/a.js").unwrap();
        assert_eq!(file.target("/js/a.js", Some("id=1")).unwrap(), "/a.js");
    }

    #[test]
    fn scripts_of_other_customers_are_not_served() {
        let ids = ["G-1".to_owned(), "abc".to_owned()];
        let is_of =
            |path: &str, query: &str| SCRIPT.file(path).unwrap().belongs_to(path, query, &ids);
        assert!(is_of("/gtag/js", "l=x&id=G-1") && is_of("/widget/abc", ""));
        assert!(is_of("/js/anything.js", ""), "it is everybody's");
        for query in ["", "id=", "id=G-2", "id=G-2&id=G-1", "id=g-1", "Id=G-1", "id=G-1%20"] {
            assert!(!is_of("/gtag/js", query), "{query}");
        }
        assert!(!is_of("/widget/abd", ""));
    }

    /// The addresses of each vendor's scripts that differ by customer.
    #[test]
    fn customer_scripts_of_every_vendor_are_served_by_their_id_only() {
        for (vendor, path, query) in [
            ("ga4", "/gtm.js", "id=OWN"),
            ("ga4", "/gtag/js", "id=OWN"),
            ("ga4", "/gtag/destination", "id=OWN"),
            ("meta", "/signals/config/OWN", ""),
            ("segment", "/analytics.js/v1/OWN/analytics.min.js", ""),
            ("amplitude", "/script/OWN.js", ""),
            ("posthog", "/array/OWN/array.js", ""),
            ("intercom", "/widget/OWN", ""),
            ("drift", "/include/1700000000/OWN.js", ""),
            ("plausible", "/js/pa-OWN.js", ""),
        ] {
            let file = crate::find(vendor).unwrap().script.unwrap().file(path).unwrap();
            assert!(file.belongs_to(path, query, &["OWN".to_owned()]), "{vendor} {path}");
            assert!(!file.belongs_to(path, query, &["OTHER".to_owned()]), "{vendor} {path}");
        }
    }

    #[test]
    fn paths_and_parameters_that_choose_code_have_a_shape() {
        let file = |vendor, path| crate::find(vendor).unwrap().script.unwrap().file(path);
        assert!(file("meta", "/en_US/fbevents.js").is_some());
        for path in ["/en/fbevents.js", "/EN_us/fbevents.js", "/x.y_ZZ/fbevents.js"] {
            assert!(file("meta", path).is_none(), "{path}");
        }
        let target = |query| {
            let path = "/signals/config/1";
            file("meta", path).unwrap().target(path, Some(query))
        };
        assert!(target("v=2.9.123&r=stable&domain=www.shop.example&callback=x").is_some());
        for query in ["v=2.9-x", "r=Stable", "domain=a_b", "domain=A"] {
            assert_eq!(target(query), None, "{query}");
        }
    }

    #[test]
    fn scripts_of_every_vendor_come_from_a_plain_https_origin() {
        for vendor in VENDORS {
            let Some(script) = vendor.script else { continue };
            let has_entry = script.files.iter().any(|file| file.entry);
            assert_eq!(has_entry, vendor.shim.is_some(), "{}", vendor.name);
            for file in script.files {
                assert!(file.path.starts_with('/') && file.path.starts_with(file.strip));
                if !file.origin.is_empty() {
                    let url: url::Url = file.origin.parse().unwrap();
                    assert_eq!(url.origin().ascii_serialization(), file.origin, "{}", vendor.name);
                    assert_eq!(url.scheme(), "https");
                }
            }
            for rewrite in script.rewrites {
                assert!(!rewrite.under.ends_with('/') && !rewrite.to.ends_with('/'));
            }
        }
    }

    #[test]
    fn every_client_library_is_one_of_its_vendors_scripts() {
        for vendor in VENDORS {
            let Some(client) = vendor.client else { continue };
            let mut library = client.library.to_owned();
            for key in client.required {
                library = library.replace(&format!("{{{key}}}"), "G-ABC123");
            }
            let (path, query) = library.split_once('?').unwrap_or((&library, ""));
            let file = vendor.script.and_then(|script| script.file(path));
            let target = file.and_then(|file| file.target(path, Some(query)));
            assert!(target.is_some_and(|it| it.ends_with(query)), "{}: {library}", vendor.name);
        }
    }
}

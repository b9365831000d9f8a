//! The mount of one vendor's scripts, computed once per load of the configuration.

use std::sync::Arc;

use url::Url;

use super::pin::{PinnedVersion, ScriptPinSettings};
use tagway_core::metrics::SharedName;
use tagway_vendors::VendorScripts;
use tagway_vendors::script::ScriptFile;

/// The longest authority that is written into a script.
const MAX_AUTHORITY_BYTES: usize = 300;

/// The mount of one vendor's scripts: a path of a site.
#[derive(Debug)]
pub struct ScriptMount {
    pub(super) site: SharedName,
    pub(super) vendor: &'static str,
    pub(super) script: &'static VendorScripts,
    /// The site's own ids at the vendor.
    ids: Vec<String>,
    /// The mount's path.
    path: String,
    /// The origin of each of the vendor's files, without a slash at the end.
    origins: Vec<Option<String>>,
    /// The mount's addresses under the site's configured host names.
    known: Vec<MountAddress>,
    pins: Vec<ScriptPinSettings>,
}

#[derive(Debug)]
struct MountAddress {
    secure: bool,
    authority: String,
    mount: Arc<str>,
}

impl ScriptMount {
    /// The mount of a vendor's scripts at `path` of a site with these host names. `endpoint` replaces the
    /// vendor's own host; of scripts that differ by customer, only those of `ids` are served. `pins` are the
    /// scripts that are pinned to a version, by their path and query below the mount; one that is not among
    /// the vendor's is left out.
    pub fn new(
        (site, hosts): (&SharedName, &[String]),
        vendor: &'static str,
        (script, endpoint, ids): (&'static VendorScripts, Option<&Url>, &[String]),
        path: &str,
        pins: &[(String, PinnedVersion)],
    ) -> Self {
        let mut place = Self {
            site: site.clone(),
            vendor,
            script,
            ids: ids.to_vec(),
            path: path.to_owned(),
            origins: script.files.iter().map(|file| origin(file, endpoint)).collect(),
            known: Vec::new(),
            pins: Vec::new(),
        };
        for authority in hosts.iter().filter(|host| is_plain(host)) {
            for secure in [false, true] {
                let mount = place.mount(authority, secure);
                place.known.push(MountAddress { secure, authority: authority.clone(), mount });
            }
        }
        let pins = pins.iter().filter_map(|(script, wanted)| {
            let (url, _) = place.upstream_of(script)?;
            Some(ScriptPinSettings {
                site: site.clone(),
                vendor,
                script: script.clone(),
                url,
                version: *wanted,
            })
        });
        place.pins = pins.collect();
        place
    }

    /// The mount's address (scheme, host and path) for a client that asked for `authority`. `None` if the
    /// authority must not be written into a script.
    pub fn at(&self, authority: &str, secure: bool) -> Option<Arc<str>> {
        let is_it = |it: &&MountAddress| {
            it.secure == secure && it.authority.eq_ignore_ascii_case(authority)
        };
        match self.known.iter().find(is_it) {
            Some(known) => Some(known.mount.clone()),
            None if is_plain(authority) => Some(self.mount(authority, secure)),
            None => None,
        }
    }

    /// The scripts that are pinned to a version.
    pub fn pins(&self) -> &[ScriptPinSettings] {
        &self.pins
    }

    fn mount(&self, authority: &str, secure: bool) -> Arc<str> {
        let scheme = if secure { "https" } else { "http" };
        format!("{scheme}://{}{}", authority.to_ascii_lowercase(), self.path).into()
    }

    /// The URL of a script at the vendor. No client can change its host: it is fixed, and
    /// [`ScriptFile::target`] rejects every character that could end it.
    pub(super) fn upstream(
        &self,
        path: &str,
        query: Option<&str>,
    ) -> Option<(String, &'static ScriptFile)> {
        let file = self.script.file(path)?;
        if !file.belongs_to(path, query.unwrap_or_default(), &self.ids) {
            tracing::debug!(
                site = &*self.site,
                vendor = self.vendor,
                path,
                "a script of an id that the site does not have was refused: add the id to ids if it is \
                 the site's"
            );
            return None;
        }
        let place = self.script.files.iter().position(|it| std::ptr::eq(it, file))?;
        let origin = self.origins.get(place)?.as_ref()?;
        Some((origin.clone() + &file.target(path, query)?, file))
    }

    fn upstream_of(&self, script: &str) -> Option<(String, &'static ScriptFile)> {
        match script.split_once('?') {
            Some((path, query)) => self.upstream(path, Some(query)),
            None => self.upstream(script, None),
        }
    }
}

fn origin(file: &ScriptFile, endpoint: Option<&Url>) -> Option<String> {
    match endpoint {
        Some(endpoint) => Some(endpoint.as_str().trim_end_matches('/').to_owned()),
        None if file.origin.is_empty() => None,
        None => Some(file.origin.to_owned()),
    }
}

/// Returns true if an authority can be written into a script.
fn is_plain(authority: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    authority.len() <= MAX_AUTHORITY_BYTES && authority.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(endpoint: Option<&str>) -> ScriptMount {
        let script = tagway_vendors::find("ga4").unwrap().script.unwrap();
        let endpoint = endpoint.map(|url| url.parse().unwrap());
        let hosts = ["t.shop.example".to_owned(), "*".to_owned()];
        let scripts = (script, endpoint.as_ref(), &["G-1".to_owned()][..]);
        ScriptMount::new((&"shop".into(), &hosts), "ga4", scripts, "/g", &[])
    }

    #[test]
    fn at_returns_the_clients_scheme_and_host() {
        let place = place(None);
        for (authority, secure, mount) in [
            ("t.shop.example", true, "https://t.shop.example/g"),
            ("T.Shop.example", false, "http://t.shop.example/g"),
            ("Other.example:8443", true, "https://other.example:8443/g"),
        ] {
            assert_eq!(place.at(authority, secure).as_deref(), Some(mount));
        }
        assert_eq!(place.at("a\"b", true), None);
        assert_eq!(place.at(&"a".repeat(301), true), None);
    }

    #[test]
    fn upstream_host_is_the_vendors_or_the_endpoint() {
        let url = |place: &ScriptMount| place.upstream("/gtag/js", Some("id=G-1&x=y")).unwrap().0;
        assert_eq!(url(&place(None)), "https://www.googletagmanager.com/gtag/js?id=G-1");
        assert_eq!(url(&place(Some("http://cdn:8/a/"))), "http://cdn:8/a/gtag/js?id=G-1");
        assert!(place(None).upstream("/elsewhere", None).is_none());
    }

    #[test]
    fn upstream_rejects_ids_of_other_sites() {
        let place = place(Some("http://cdn:8/"));
        for (path, query) in [
            ("/gtm.js", Some("id=GTM-ATTACKER")),
            ("/gtag/js", Some("id=G-2&id=G-1")),
            ("/gtag/js", None),
        ] {
            assert!(place.upstream(path, query).is_none(), "{path} {query:?}");
        }
    }
}

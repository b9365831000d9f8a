//! Links that put the browser which opens them under a trace: a page of the site with a signed parameter.
//!
//! The page reports its URL with its events, and a trace remembers the visitor of the first of them, so that later
//! pages need no parameter. Nothing is stored in the browser.

use jiff::Timestamp;
use url::Url;

use super::snapshot::GatewaySite;
use super::{Gateway, signed_link};
use tagway_core::feed::TRACE_PARAMETER;
use tagway_core::visitor::VisitorSettings;

/// Returns the signing purpose of tokens.
fn purpose(site: &str) -> String {
    format!("trace of {site}")
}

/// Returns the id of the trace whose link opened the page with this URL; `None` if none did, or its time is over.
pub(super) fn opened(
    keys: &VisitorSettings,
    site: &str,
    page_url: &str,
    now: Timestamp,
) -> Option<String> {
    if !page_url.contains(TRACE_PARAMETER) {
        return None;
    }
    let query = page_url.split_once('?')?.1;
    let query = query.split('#').next().unwrap_or_default();
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    let (_, token) = parameters.find(|(name, _)| name == TRACE_PARAMETER)?;
    signed_link::verify(keys, &purpose(site), &token, now).filter(|id| !id.is_empty())
}

impl GatewaySite {
    /// Returns the link of a trace: the site's first page with the parameter.
    fn trace_link(&self, trace: &str, until: Timestamp) -> Option<String> {
        let mut page = self.first_page.clone()?;
        let token = signed_link::sign(&self.visitor, &purpose(&self.name), until, Some(trace));
        page.query_pairs_mut().append_pair(TRACE_PARAMETER, &token);
        Some(page.into())
    }
}

impl Gateway {
    /// Returns the link of a trace of a site; `None` if the site is unknown, or has no address of its own.
    pub fn trace_link(&self, site: &str, trace: &str, until: Timestamp) -> Option<String> {
        self.snapshot.load().named(site)?.trace_link(trace, until)
    }
}

/// Returns the address of a site's first page: of its origins, else of its hosts.
pub(super) fn first_page(origins: &[String], hosts: &[String]) -> Option<Url> {
    let origin = origins.iter().filter(|origin| !origin.contains('*'));
    let host = hosts.iter().filter(|host| !host.contains('*'));
    let host = host.map(|host| format!("https://{host}/"));
    let mut pages = origin.cloned().chain(host).filter_map(|page| page.parse().ok());
    pages.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_core::visitor::test_support::settings_of;
    use tagway_settings::SecretString;

    fn keys(secret: &str) -> VisitorSettings {
        let mut settings = settings_of("");
        settings.set_secret(&SecretString::new(secret));
        settings
    }

    #[test]
    fn page_names_the_trace_that_signed_its_link_until_its_time() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-11-25T10:30:00Z".parse().unwrap();
        let own = keys("0123456789abcdef");
        let token = signed_link::sign(&own, &purpose("shop"), later, Some("t1"));
        let url = format!("https://shop.example/a?b=c&tw_trace={token}#d");
        assert_eq!(opened(&own, "shop", &url, now).as_deref(), Some("t1"));
        assert_eq!(opened(&own, "shop", &url, later), None, "its time is over");
        assert_eq!(opened(&own, "other", &url, now), None, "another site");
        assert_eq!(opened(&keys("fedcba9876543210"), "shop", &url, now), None, "another secret");
        let preview = super::super::preview::token(&own, "shop", later);
        let url = format!("https://shop.example/?tw_trace={preview}");
        assert_eq!(opened(&own, "shop", &url, now), None, "a token for previews");
        for url in
            ["https://shop.example/?tw_trace=", "https://shop.example/#tw_trace=x", "tw_trace"]
        {
            assert_eq!(opened(&own, "shop", url, now), None, "{url}");
        }
    }

    #[test]
    fn first_page_is_of_an_origin_else_of_a_host() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let page = |origins: &[&str], hosts: &[&str]| {
            first_page(&texts(origins), &texts(hosts)).map(String::from)
        };
        let shop = Some("https://shop.example/".to_owned());
        assert_eq!(page(&["http://*:80", "https://shop.example"], &["*"]), shop);
        assert_eq!(page(&[], &["*", "shop.example"]), shop);
        assert_eq!(page(&[], &["*"]), None);
    }
}

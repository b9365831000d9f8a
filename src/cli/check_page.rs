//! `tagway check-page URL`: shows if a page gets the gateway's snippet, and the reasons if not. The page is
//! processed by the code for pages of an origin; no running gateway is needed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use parking_lot::Mutex;
use url::{Position, Url};

use super::{CommandError, block_on, load, print, render};
use crate::config::{self, SiteSettings, TagwaySettings};
use tagway_pages::origin::{OriginClient, OriginExchange, PageSkipReason, PageSkipReporter};
use tagway_settings::{ConfigEnvironment, ConfigFile};

/// The largest page that is read, in bytes.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// The longest value that is shown, in characters.
const SHOWN_CHARS: usize = 300;

#[derive(Args, Debug)]
pub(super) struct CheckPageArgs {
    /// The page's address at the origin server, which is or will be behind the gateway.
    #[arg(value_name = "URL")]
    url: Url,
}

/// A response that was processed like a page of an origin.
#[derive(Debug)]
struct CheckedPage {
    status: StatusCode,
    fields: HeaderMap,
    /// The reasons that it was not changed.
    reasons: Vec<PageSkipReason>,
    injects: bool,
}

pub(super) fn run(
    origin: &config::ConfigSource,
    options: CheckPageArgs,
) -> Result<(), CommandError> {
    let url = options.url;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(CommandError::Usage(
            "the page's address must begin with http:// or https://".to_owned(),
        ));
    }
    let settings = load(origin)?;
    let fetched = block_on(async { Ok(fetch(&url, &settings).await?) })?;
    let (is_good, words) = verdict(&fetched);
    print(&format!("{}: {words}\n", render::escape(url.as_str(), SHOWN_CHARS)))?;
    if is_good { Ok(()) } else { Err(CommandError::Reported) }
}

/// Requests the page like a browser that opens it through the gateway.
async fn fetch(url: &Url, settings: &TagwaySettings) -> anyhow::Result<CheckedPage> {
    let own = url.origin().ascii_serialization();
    let of_origin = |site: &&SiteSettings| {
        site.gateway.origin.as_ref().is_some_and(|it| it.origin.origin() == url.origin())
    };
    let known = settings.sites.iter().find(of_origin);
    let mut proxied = match known.and_then(|site| site.gateway.origin.clone()) {
        Some(proxied) => proxied,
        None => defaults(&own)?,
    };
    let injects = proxied.inject;
    proxied.rewrite_tags = false;
    let authority = known
        .and_then(|site| site.gateway.hosts.iter().find(|host| *host != "*"))
        .map_or_else(|| url[Position::BeforeHost..Position::AfterPort].to_owned(), Clone::clone);
    let origin = OriginClient::new(proxied, |_| true)?;
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = told.clone();
    let report = PageSkipReporter::new(move |reason| {
        hear.lock().push(reason);
    });
    let events = known.and_then(|site| site.sdk.endpoint.as_ref());
    let events = events.map(|url| url[Position::BeforeHost..Position::AfterPort].to_owned());
    let from = OriginExchange {
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        secure: known.is_some() || url.scheme() == "https",
        authority: &authority,
        tags: &Arc::default(),
        events: events.as_deref(),
        report: &report,
    };
    let answer = origin.exchange(navigation(url)?, Empty::<Bytes>::new(), from);
    let (head, body) =
        answer.await.with_context(|| format!("asking {own} for the page"))?.into_parts();
    let body = Limited::new(body, MAX_PAGE_BYTES).collect().await;
    body.map_err(|error| anyhow!(error)).context("the page's response is incomplete")?;
    let reasons = told.lock().clone();
    Ok(CheckedPage { status: head.status, fields: head.headers, reasons, injects })
}

/// The request head of a browser's navigation.
fn navigation(url: &Url) -> anyhow::Result<Parts> {
    let request = Request::builder()
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-mode", "navigate")
        .header("user-agent", concat!("tagway/", env!("CARGO_PKG_VERSION"), " (check-page)"));
    Ok(request.body(())?.into_parts().0)
}

/// The default settings of a site with this origin.
fn defaults(origin: &str) -> anyhow::Result<tagway_pages::origin::OriginSettings> {
    let text = format!("[[sites]]\nname = \"page\"\nhosts = [\"*\"]\norigin = \"{origin}\"\n");
    let source = ConfigFile { name: "check-page".to_owned(), text };
    let settings = config::load(&[source], &ConfigEnvironment::default());
    let site = settings.ok().and_then(|settings| settings.sites.into_iter().next());
    site.and_then(|site| site.gateway.origin.clone())
        .context("the address is not that of an origin")
}

/// Returns true if the page runs the snippet, and the verdict as text.
fn verdict(fetched: &CheckedPage) -> (bool, String) {
    let CheckedPage { status, fields, reasons, injects } = fetched;
    let field = |name| {
        let value = fields.get(name).map(|value: &http::HeaderValue| value.as_bytes());
        value.map(|value| render::escape(&String::from_utf8_lossy(value), SHOWN_CHARS))
    };
    if status.is_redirection() {
        let place = field(LOCATION).unwrap_or_else(|| "an unnamed address".to_owned());
        return (false, format!("answers {status} and redirects to {place}: check that page"));
    }
    if !injects {
        let what = "inject is false in [sites.proxy] of its site";
        return (false, format!("answers {status}, without the snippet: {what}"));
    }
    if let Some(reason) = reasons.first() {
        let is_in = *reason == PageSkipReason::LatePolicy;
        let what = if is_in { "with a snippet that does not run" } else { "without the snippet" };
        return (false, format!("answers {status}, {what}: {reason}"));
    }
    let kind = field(CONTENT_TYPE).unwrap_or_else(|| "none".to_owned());
    let is_html =
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html");
    let has_no_body =
        [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT];
    let disposition = field(CONTENT_DISPOSITION)
        .filter(|value| !value.trim_start().to_ascii_lowercase().starts_with("inline"));
    match disposition {
        _ if has_no_body.contains(status) => {
            (false, format!("answers {status}, which is not a complete page"))
        }
        _ if !is_html => {
            let what = "only text/html is changed";
            (
                false,
                format!(
                    "answers {status}, without the snippet: its Content-Type is {kind}, and {what}"
                ),
            )
        }
        Some(value) => {
            let what = "it is a file to download (Content-Disposition)";
            (false, format!("answers {status}, without the snippet: {what}: {value}"))
        }
        None => (true, format!("answers {status}, with the snippet")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn fetched(status: u16, fields: &[(&str, &str)], reasons: &[PageSkipReason]) -> CheckedPage {
        let fields = fields.iter().map(|(name, value)| {
            let name: http::HeaderName = name.parse().unwrap();
            (name, http::HeaderValue::from_str(value).unwrap())
        });
        CheckedPage {
            status: StatusCode::from_u16(status).unwrap(),
            fields: fields.collect(),
            reasons: reasons.to_vec(),
            injects: true,
        }
    }

    const HTML: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");

    #[test]
    fn verdict_says_in_words_why_a_page_has_no_snippet() {
        for (fetched, is_good, words) in [
            (fetched(200, &[HTML], &[]), true, "with the snippet"),
            (fetched(404, &[HTML], &[]), true, "answers 404 Not Found, with"),
            (fetched(302, &[("location", "/login")], &[]), false, "redirects to /login"),
            (
                fetched(200, &[HTML], &[PageSkipReason::Amp]),
                false,
                "without the snippet: it is an AMP page",
            ),
            (
                fetched(200, &[HTML], &[PageSkipReason::LatePolicy]),
                false,
                "does not run: the snippet is in it",
            ),
            (fetched(200, &[("content-type", "image/png")], &[]), false, "is image/png"),
            (fetched(200, &[], &[]), false, "Content-Type is none"),
            (fetched(204, &[], &[]), false, "not a complete page"),
            (fetched(200, &[HTML, ("content-disposition", "attachment")], &[]), false, "a file"),
            (fetched(200, &[HTML, ("content-disposition", "Inline; x")], &[]), true, "with"),
            (
                CheckedPage { injects: false, ..fetched(200, &[HTML], &[]) },
                false,
                "inject is false",
            ),
        ] {
            let found = verdict(&fetched);
            assert!(found.0 == is_good && found.1.contains(words), "{found:?}");
        }
    }

    #[tokio::test]
    async fn page_goes_the_way_that_pages_of_an_origin_go() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut head) = (stream.unwrap(), vec![0; 4096]);
                let length = stream.read(&mut head).unwrap();
                let is_amp = head[..length].starts_with(b"GET /amp?x ");
                let attribute = if is_amp { "amp" } else { "lang=en" };
                let fields = "content-type: text/html\r\nconnection: close";
                write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\n\r\n<html {attribute}><p>x")
                    .unwrap();
            }
        });
        let sites = "[[sites]]\nname = \"shop\"\nhosts = [\"*\"]\n".to_owned();
        let source = ConfigFile { name: "a file".to_owned(), text: sites };
        let settings = config::load(&[source], &ConfigEnvironment::default()).unwrap();
        for (path, reasons) in [("/amp?x", vec![PageSkipReason::Amp]), ("/", Vec::new())] {
            let url = format!("http://{address}{path}").parse().unwrap();
            let fetched = fetch(&url, &settings).await.unwrap();
            assert_eq!((fetched.status.as_u16(), fetched.reasons), (200, reasons), "{path}");
        }
    }
}

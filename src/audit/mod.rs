//! What a page's tags cost: a page in a real browser, measured, and what the gateway puts in place of
//! its tags.
//!
//! `chromium` starts a browser and speaks the DevTools protocol with it, `visit` opens the page and
//! records, [`measure`] makes figures of the record, [`known_tags`] is the table of tags by host, and
//! [`draft`] writes a configuration for those that were found. It needs no running gateway, and nothing
//! is sent anywhere but by the page itself.
#![expect(clippy::indexing_slicing, reason = "what is not in JSON reads as null, without a panic")]

mod chromium;
pub mod draft;
pub mod known_tags;
pub mod measure;
mod visit;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use chromium::find;
pub use measure::PageFigures;

/// How the page is visited.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The page.
    pub url: Url,
    /// The browser's program.
    pub chromium: PathBuf,
    /// The most that one visit may take, the browser's start included.
    pub timeout: Duration,
    /// The page is done when it is loaded and nothing was under way for this long.
    pub settle: Duration,
    /// The main thread is slowed down by this factor.
    pub cpu: f64,
    /// The network is as slow as this.
    pub throttle: Option<NetworkThrottle>,
    /// How often the page is visited; the figures are medians.
    pub runs: u32,
    /// Whether the browser goes without its sandbox, which root cannot have.
    pub no_sandbox: bool,
    /// Chromium's `--host-resolver-rules`, for tests.
    pub map_hosts: Option<String>,
    /// Digests of public keys whose certificates are believed, for tests.
    pub trust_keys: Option<String>,
}

/// A network, in Chromium's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkThrottle {
    /// Slow 4G as Lighthouse throttles by DevTools: 562.5 ms for each request, 1.47 Mbit/s down and
    /// 675 kbit/s up.
    Slow4g,
}

/// Why a page could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No browser.
    #[error("no Chromium was found: name one with --chromium or in CHROMIUM")]
    NoBrowser,
    /// The browser's program cannot be run.
    #[error("{program}: cannot be run")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The browser is gone, or never was one.
    #[error(
        "the browser ended before it answered: is it a Chromium? (As root it needs --no-sandbox.)"
    )]
    Ended,
    /// The pipe to the browser.
    #[error("the pipe to the browser")]
    Pipe(#[from] std::io::Error),
    /// It refused a command.
    #[error("the browser refused {method}: {message}")]
    Refused {
        /// The command.
        method: &'static str,
        /// The browser's words.
        message: String,
    },
    /// The page did not open.
    #[error("the page did not open: {0}")]
    Page(String),
    /// More came than is kept.
    #[error("the page causes more records than are kept")]
    TooMuch,
    /// It took too long.
    #[error("the visit took longer than --timeout")]
    Timeout,
}

/// Visits the page, each time with a fresh profile, and returns the medians.
pub async fn audit(options: &AuditOptions) -> Result<PageFigures, AuditError> {
    let mut visits = Vec::new();
    for _run in 0..options.runs.max(1) {
        // The browser is killed when the visit is dropped, so a timeout leaves nothing behind.
        let record = tokio::time::timeout(options.timeout, Box::pin(visit::visit(options))).await;
        let Ok(record) = record else { return Err(AuditError::Timeout) };
        visits.push(measure::figures(&options.url, &record?));
    }
    Ok(measure::medians(visits))
}

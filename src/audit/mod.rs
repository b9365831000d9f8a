//! Measures the cost of a page's tags in a real browser, and lists the gateway's replacements for
//! them.
//!
//! `chromium` starts a browser and speaks the DevTools protocol with it, `visit` opens the page and
//! records, [`measure`] computes figures from the recording, [`known_tags`] is the table of tags by host,
//! and [`draft`] writes a configuration for the tags that were found. No running gateway is needed, and
//! only the page itself sends data.
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

/// The options of the visits.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The address of the page.
    pub url: Url,
    /// The browser's program.
    pub chromium: PathBuf,
    /// The time limit of one visit, the browser's start included.
    pub timeout: Duration,
    /// The quiet time after which a loaded page counts as done.
    pub settle: Duration,
    /// The factor by which the main thread is slowed down.
    pub cpu: f64,
    /// The simulated network, if any.
    pub throttle: Option<NetworkThrottle>,
    /// The number of visits; the figures are medians.
    pub runs: u32,
    /// True to run the browser without its sandbox, which root cannot use.
    pub no_sandbox: bool,
    /// Chromium's `--host-resolver-rules`, for tests.
    pub map_hosts: Option<String>,
    /// Digests of public keys whose certificates are trusted, for tests.
    pub trust_keys: Option<String>,
}

/// A simulated network, in Chromium's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkThrottle {
    /// Slow 4G as Lighthouse throttles by DevTools: 562.5 ms for each request, 1.47 Mbit/s down and
    /// 675 kbit/s up.
    Slow4g,
}

/// The reason that a page could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No browser was found.
    #[error("no Chromium was found: set --chromium or the variable CHROMIUM")]
    NoBrowser,
    /// The browser's program cannot be run.
    #[error("{program} cannot be started")]
    Start {
        /// The path of the browser's program.
        program: String,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The browser ended, or the program is not one.
    #[error(
        "the browser ended before it answered: check that it is a Chromium; as root it needs --no-sandbox"
    )]
    Ended,
    /// The pipe to the browser failed.
    #[error("the pipe to the browser failed")]
    Pipe(#[from] std::io::Error),
    /// The browser rejected a command.
    #[error("the browser refused {method}: {message}")]
    Refused {
        /// The command.
        method: &'static str,
        /// The browser's message.
        message: String,
    },
    /// The page did not open.
    #[error("the page did not open: {0}")]
    Page(String),
    /// The recording exceeded its limits.
    #[error("the page causes more trace records than the limit")]
    TooMuch,
    /// The visit exceeded its time limit.
    #[error("the visit took longer than --timeout")]
    Timeout,
}

/// Visits the page, each time with a fresh profile, and returns the medians.
///
/// # Errors
///
/// If a visit fails.
pub async fn audit(options: &AuditOptions) -> Result<PageFigures, AuditError> {
    let mut visits = Vec::new();
    for _run in 0..options.runs.max(1) {
        // Dropping the visit kills the browser, so a timeout leaves nothing behind.
        let record = tokio::time::timeout(options.timeout, Box::pin(visit::visit(options))).await;
        let Ok(record) = record else { return Err(AuditError::Timeout) };
        visits.push(measure::figures(&options.url, &record?));
    }
    Ok(measure::medians(visits))
}

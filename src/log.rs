//! The program's own log: to stderr, text or JSON, RFC 3339 times in UTC.
//!
//! What may be in it: never a body, a cookie, a token, a full address or a visitor's id.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::Section;

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How a line is written.
    pub format: Format,
    /// What is logged: a level, or `target=level` pairs with commas.
    pub level: String,
    /// The share of requests that get an access line, 0 to 1.
    pub access_sample: f64,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl Settings {
    /// Reads `[log]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        let level = section.string("level");
        if EnvFilter::try_new(&level).is_err() {
            // The error is not shown: it may quote the level, which may hold a secret.
            let message = "is not a level or a list of target=level";
            section.mistake_about("level", &level, message, None);
        }
        Self {
            format: section.choice("format", &[("text", Format::Text), ("json", Format::Json)]),
            level,
            access_sample: section.number("access_sample", 0.0..=1.0),
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level is not one.
    #[error("the log level cannot be read")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging to stderr. Colours are for terminals only.
pub fn init(settings: &Settings) -> Result<(), InitError> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(settings.format == Format::Text && std::io::stderr().is_terminal());
    let started = match settings.format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(InitError::Twice)
}

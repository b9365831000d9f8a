//! The program's own log: to stderr, text or JSON, RFC 3339 times in UTC.
//!
//! It never contains a body, a cookie, a token, a full address or a visitor's id.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use tagway_settings::{SecretRedactor, Setting, SettingsSection, can_fool, nearest};

/// The described settings of `[log]`.
pub const LOG_SETTINGS: &[Setting] = &[
    Setting::word("format", &["text", "json"])
        .default("text")
        .doc("\"text\" for people, \"json\" for machines"),
    Setting::text("level").default("info").doc(
        "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"; or levels with \
             targets, such as \"info,tagway_delivery=debug\". Colours are used on terminals \
             unless NO_COLOR is set",
    ),
    Setting::number("access_sample", 0.0, 1.0)
        .default("1.0")
        .doc("the share of requests with an access line, 0 to 1"),
];

/// The settings of the log, `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// The format of a line.
    pub format: LogFormat,
    /// The filter: a level, or `target=level` pairs with commas.
    pub level: String,
    /// The share of requests that get an access line, 0 to 1.
    pub access_sample: f64,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl LogSettings {
    /// Reads `[log]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(LOG_SETTINGS);
        let level = section.string("level");
        let wrong = level.split(',').map(str::trim).find(|directive| !is_directive(directive));
        if section.has("level") && (wrong.is_some() || EnvFilter::try_new(&level).is_err()) {
            // The parser's error is not shown: it may quote the level, which may hold a secret.
            let levels = LEVELS.join(", ");
            let message = format!(
                "is not a level ({levels}), nor a list of levels and target=level with commas, such as \
                 \"info,tagway_delivery=debug\""
            );
            let word = wrong.map(|wrong| wrong.to_ascii_lowercase());
            let better = word.as_deref().and_then(|word| {
                let same = SAME_LEVELS.iter().find(|(other, _)| *other == word);
                same.map(|(_, level)| *level).or_else(|| nearest(word, LEVELS))
            });
            section.error_about("level", &level, &message, better);
        }
        Self {
            format: section
                .choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            level,
            access_sample: section.number("access_sample"),
        }
    }
}

/// The levels, the quietest first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Names of levels in other programs.
const SAME_LEVELS: [(&str, &str); 8] = [
    ("all", "trace"),
    ("critical", "error"),
    ("fatal", "error"),
    ("none", "off"),
    ("notice", "info"),
    ("silent", "off"),
    ("verbose", "debug"),
    ("warning", "warn"),
];

/// Returns true for a level, or a target with one. The filter takes any other word for the name of a target,
/// of which everything is logged, and nothing else.
fn is_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    let is_target = text.rsplit_once('=').is_none_or(|(target, _)| !target.trim().is_empty());
    is_target && LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
}

/// The targets of modules that are packages, or in packages, and the names they had in one package. A
/// directive with a former name goes on.
const FORMER_TARGETS: [(&str, &str); 14] = [
    ("tagway::delivery", "tagway_delivery"),
    ("tagway::edge", "tagway_edge"),
    ("tagway::integrations", "tagway_pages::integrations"),
    ("tagway::journal", "tagway_storage::journal"),
    ("tagway::mapping", "tagway_vendors::mapping"),
    ("tagway::origin", "tagway_pages::origin"),
    ("tagway::postgres", "tagway_storage::postgres"),
    ("tagway::privacy", "tagway_core::privacy"),
    ("tagway::profile", "tagway_storage::profile"),
    ("tagway::script", "tagway_pages::script"),
    ("tagway::segment", "tagway_delivery::segment"),
    ("tagway::store", "tagway_storage::store"),
    ("tagway::vendors", "tagway_vendors"),
    ("tagway::visitor", "tagway_core::visitor"),
];

/// Returns the level with today's names of targets.
fn with_current_targets(level: &str) -> String {
    let current = |directive: &str| {
        let directive = directive.trim();
        let former = FORMER_TARGETS.iter().find_map(|(former, target)| {
            let rest = directive.strip_prefix(former)?;
            rest.starts_with(['=', ':']).then(|| format!("{target}{rest}"))
        });
        former.unwrap_or_else(|| directive.to_owned())
    };
    level.split(',').map(current).collect::<Vec<_>>().join(",")
}

/// The reason that the log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogInitError {
    /// The level is not valid.
    #[error("the log level cannot be read")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging to stderr, without the secrets that `redaction` knows. Colours are for text on terminals
/// only.
///
/// # Errors
///
/// If the level is not valid, or the process logs already.
pub fn init(
    settings: &LogSettings,
    redaction: SecretRedactor,
    colour: bool,
) -> Result<(), LogInitError> {
    let filter = EnvFilter::try_new(with_current_targets(&settings.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(RedactingMakeWriter { redaction, inner: io::stderr })
        .with_ansi(colour && settings.format == LogFormat::Text && io::stderr().is_terminal());
    let started = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(LogInitError::Twice)
}

/// Removes the secrets from each line on its way to the writer that `inner` makes.
#[derive(Clone, Debug)]
pub struct RedactingMakeWriter<M> {
    /// Knows the secrets.
    pub redaction: SecretRedactor,
    /// Makes the writer.
    pub inner: M,
}

/// Buffers one line; it is written when it is complete.
#[derive(Debug)]
pub struct RedactingWriter<W: Write> {
    redaction: SecretRedactor,
    line: Vec<u8>,
    inner: W,
}

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for RedactingMakeWriter<M> {
    type Writer = RedactingWriter<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        let redaction = self.redaction.clone();
        RedactingWriter { redaction, line: Vec::new(), inner: self.inner.make_writer() }
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            let text = String::from_utf8_lossy(&line);
            let line = one_line(&self.redaction.redact(&text));
            self.inner.write_all(line.as_bytes())?;
        }
        self.inner.flush()
    }
}

/// Escapes characters that could forge another line, or control or confuse a terminal; colours stay.
fn one_line(text: &str) -> String {
    let (text, end) = text.strip_suffix('\n').map_or((text, ""), |text| (text, "\n"));
    let mut out = String::with_capacity(text.len() + 1);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let is_colour = || {
            let codes = rest.as_str().strip_prefix('[')?.split_once('m')?.0;
            codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';').then_some(())
        };
        if can_fool(c) && !(c == '\u{1b}' && is_colour().is_some()) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out + end
}

impl<W: Write> Drop for RedactingWriter<W> {
    fn drop(&mut self) {
        // A failed flush cannot be reported: the log itself is the only output.
        drop(self.flush());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::Arc;

    use super::*;
    use tagway_settings::SecretString;

    #[derive(Clone, Default)]
    struct CapturedLog(Arc<Mutex<Vec<u8>>>);

    impl Write for CapturedLog {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn read_accepts_known_levels_only() {
        use tagway_settings::test_support;
        let read = |level: &str| {
            let text = format!("level = {level:?}\nformat = \"text\"\naccess_sample = 1.0\n");
            test_support::read(&text, LogSettings::read).1
        };
        for good in ["info", "WARN", "off", "info,tagway_delivery=debug", "hyper=trace,error"] {
            assert_eq!(read(good), [""; 0], "{good}");
        }
        for (bad, better) in [
            ("verbose", Some("debug")),
            ("warning", Some("warn")),
            ("inof", Some("info")),
            ("x=y", None),
        ] {
            let mistakes = read(bad);
            let [mistake] = mistakes.as_slice() else { panic!("{bad}: {mistakes:?}") };
            assert!(mistake.contains("off, error, warn, info, debug, trace"), "{mistake}");
            let hint = better.map(|better| format!("did you mean \"{better}\"?"));
            assert!(hint.is_none_or(|hint| mistake.contains(&hint)), "{mistake}");
        }
        assert_eq!(read("tagway_delivery").len(), 1, "a target without a level");
    }

    #[test]
    fn former_targets_are_read_by_their_new_names() {
        let level = "info, tagway::delivery=debug,tagway::segment::sync=trace,tagway::cli=warn";
        let current =
            "info,tagway_delivery=debug,tagway_delivery::segment::sync=trace,tagway::cli=warn";
        assert_eq!(with_current_targets(level), current);
        assert_eq!(with_current_targets(current), current);
    }

    #[test]
    fn log_shows_no_secret_in_text_or_json() {
        let redaction = SecretRedactor::default();
        redaction.add(&SecretString::new("hush-\"quoted\"-hush"));
        let lines = CapturedLog::default();
        let made = lines.clone();
        let writer = RedactingMakeWriter { redaction, inner: move || made.clone() };
        let text = tracing_subscriber::fmt().with_writer(writer.clone()).finish();
        let json = tracing_subscriber::fmt().json().with_writer(writer).finish();
        let log = || {
            tracing::warn!(key = "hush-\"quoted\"-hush", "refused: hush-%22quoted%22-hush");
        };
        tracing::subscriber::with_default(text, log);
        tracing::subscriber::with_default(json, log);
        let shown = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(shown.matches("[secret]").count(), 4, "{shown}");
        assert!(!shown.contains("quoted"), "{shown}");
    }

    #[test]
    fn log_lines_forge_no_line_and_steer_no_terminal() {
        let lines = CapturedLog::default();
        let made = lines.clone();
        let writer = RedactingMakeWriter {
            redaction: SecretRedactor::default(),
            inner: move || made.clone(),
        };
        let text = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        let evil = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}]0;t\u{7}\u{9b}2J\u{202e}";
        tracing::subscriber::with_default(text, || tracing::warn!(error = %evil, "{evil}"));
        let shown = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert!(!shown.trim_end().chars().any(can_fool), "{shown:?}");
    }
}

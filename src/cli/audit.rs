//! `tagway audit`: measures the cost of a page's tags, lists their replacements, and drafts a configuration.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use url::Url;

use super::{CommandError, block_on, print, render};
use crate::audit::measure::TOTALS;
use crate::audit::{self, AuditError, NetworkThrottle, PageFigures, draft};
use crate::config::ConfigSource;

/// The longest name or address from the page in the output, in characters.
const SHOWN_CHARS: usize = 100;
/// The largest file of saved figures: they are a few KiB.
const FILE_BYTES: u64 = 16 << 20;
/// The most scripts shown of one tag.
const SHOWN_SCRIPTS: usize = 3;

#[derive(Args, Debug)]
pub(super) struct AuditArgs {
    /// The page, http or https.
    url: Url,
    /// The browser's program. Default: the variable CHROMIUM, else the first usual name in PATH.
    #[arg(long, value_name = "PATH")]
    chromium: Option<PathBuf>,
    /// The number of visits, each with a new browser profile; the figures are medians.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Throttle the network.
    #[arg(long, value_name = "NETWORK")]
    throttle: Option<NetworkProfile>,
    /// Slow the processor down by this factor; 4 is about a mid-range phone.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    cpu: f64,
    /// The longest time of one visit, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// The idle time in milliseconds after which a loaded page counts as done.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(..=60_000))]
    settle: u64,
    /// Write a configuration for the tags that were found. The file must not exist.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Write the figures to a file, for --before. The file must not exist.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with figures that --save wrote.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Run the browser without its sandbox, which does not work as root. Only for pages you trust.
    #[arg(long)]
    no_sandbox: bool,
    /// Chromium's --host-resolver-rules, for tests.
    #[arg(long, hide = true, value_name = "RULES")]
    map_hosts: Option<String>,
    /// Chromium's --ignore-certificate-errors-spki-list, for tests.
    #[arg(long, hide = true, value_name = "DIGESTS")]
    trust_keys: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NetworkProfile {
    /// 562.5 ms for each request, 1.47 Mbit/s down, 675 kbit/s up.
    #[value(name = "slow-4g")]
    Slow4g,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| (1.0..=20.0).contains(factor));
    factor.ok_or_else(|| "must be a factor from 1 to 20".to_owned())
}

pub(super) fn run(source: &ConfigSource, options: AuditArgs) -> Result<(), CommandError> {
    if !matches!(options.url.scheme(), "http" | "https") {
        return Err(CommandError::Usage(
            "the page's address must begin with http:// or https://".to_owned(),
        ));
    }
    let variable = |name: &str| source.variables.get(name).map(String::as_str);
    let before = options.before.as_deref().map(read).transpose()?;
    // Checked before the browser works for a minute.
    for file in [&options.write, &options.save].into_iter().flatten() {
        if file.exists() {
            return Err(CommandError::Usage(format!("{} already exists", file.display())));
        }
    }
    let visits = audit::AuditOptions {
        url: options.url,
        chromium: audit::find(options.chromium, variable("CHROMIUM"), variable("PATH"))
            .map_err(failure)?,
        timeout: Duration::from_secs(options.timeout),
        settle: Duration::from_millis(options.settle),
        cpu: options.cpu,
        throttle: options.throttle.map(|NetworkProfile::Slow4g| NetworkThrottle::Slow4g),
        runs: options.runs,
        no_sandbox: options.no_sandbox,
        map_hosts: options.map_hosts,
        trust_keys: options.trust_keys,
    };
    let figures = block_on(async { Box::pin(audit::audit(&visits)).await.map_err(failure) })?;
    let json = serde_json::to_string_pretty(&figures).context("the figures as JSON")?;
    if let Some(file) = &options.save {
        write(file, &json)?;
    }
    if let Some(file) = &options.write {
        let text = draft::draft(&figures).context("the page's address has no host")?;
        write(file, &text)?;
    }
    if options.json {
        return print(&format!("{}\n", render::escape_json(&json)));
    }
    print(&report(&figures, before.as_ref()))?;
    match &options.write {
        Some(file) => print(&format!("\nA draft configuration is in {}.\n", file.display())),
        None => Ok(()),
    }
}

fn failure(error: AuditError) -> CommandError {
    match error {
        AuditError::NoBrowser => CommandError::Usage(error.to_string()),
        error => CommandError::Other(error.into()),
    }
}

fn read(file: &Path) -> Result<PageFigures, CommandError> {
    let mut text = String::new();
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    opened
        .take(FILE_BYTES)
        .read_to_string(&mut text)
        .with_context(|| file.display().to_string())?;
    let figures = serde_json::from_str(&text);
    Ok(figures.with_context(|| format!("{} was not written by --save", file.display()))?)
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    let new = OpenOptions::new().write(true).create_new(true).open(file);
    let written = new.and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.with_context(|| file.display().to_string())?)
}

/// Writing to a String cannot fail, so the results are dropped.
fn report(figures: &PageFigures, before: Option<&PageFigures>) -> String {
    let mut out = String::new();
    let url = render::escape(&figures.url, SHOWN_CHARS);
    let visits = if figures.visits == 1 { "one visit" } else { "medians of visits" };
    let _infallible = writeln!(out, "{url}   ({visits}: {})\n", figures.visits);
    if figures.unsettled > 0 {
        let _infallible = writeln!(
            out,
            "Visits that were still busy at --timeout, measured in part: {}\n",
            figures.unsettled
        );
    }
    if before.is_some() {
        let _infallible = writeln!(out, "{:<30}{:>14}{:>14}", "", "before", "now");
    }
    for (name, label, unit) in TOTALS {
        let now = shown(figures, name, unit);
        let _infallible = match before {
            Some(before) => {
                writeln!(out, "{label:<30}{:>14}{now:>14}", shown(before, name, unit))
            }
            None => writeln!(out, "{label:<30}{now:>14}"),
        };
    }
    if figures.tags.is_empty() {
        out.push_str("\nNo third-party or vendor requests.\n");
        return out;
    }
    let _infallible = writeln!(
        out,
        "\n{:<26}{:>9}{:>10}{:>14}   replaced by",
        "tag", "requests", "KB", "main thread ms"
    );
    for tag in &figures.tags {
        let name = render::escape(&tag.name, 40);
        let (kilobytes, replaced) = (tag.bytes / 1000.0, render::escape(&tag.replaced_by, 200));
        let _infallible = writeln!(
            out,
            "{name:<26}{:>9.0}{kilobytes:>10.1}{:>14.1}   {replaced}",
            tag.requests, tag.main_ms
        );
        if !tag.ids.is_empty() {
            let ids = render::escape(&tag.ids.join(", "), SHOWN_CHARS);
            let _infallible = writeln!(out, "  ids {ids}");
        }
        for script in tag.scripts.iter().take(SHOWN_SCRIPTS) {
            let url = render::escape(&script.url, SHOWN_CHARS);
            let _infallible =
                writeln!(out, "  {url}  {:.1} KB, {:.1} ms", script.bytes / 1000.0, script.main_ms);
        }
    }
    out
}

fn shown(figures: &PageFigures, name: &str, unit: &str) -> String {
    let value = figures.totals.get(name).copied().unwrap_or(0.0);
    match unit {
        "KB" => format!("{:.1} KB", value / 1000.0),
        "" => format!("{value:.0}"),
        unit => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::measure::TagFigures;

    #[test]
    fn report_escapes_names_and_compares_figures() {
        let mut figures =
            PageFigures { url: "https://a.example/".to_owned(), ..PageFigures::default() };
        figures.totals.insert("bytes_down".to_owned(), 1500.0);
        let before = figures.clone();
        figures.totals.insert("bytes_down".to_owned(), 500.0);
        figures.tags.push(TagFigures { name: "\u{1b}[31mx".to_owned(), ..TagFigures::default() });
        let text = report(&figures, Some(&before));
        assert!(!text.contains('\u{1b}'), "{text}");
        let line = text.lines().find(|line| line.starts_with("received")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["received", "1.5", "KB", "0.5", "KB"]);
    }

    #[test]
    fn write_never_overwrites_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        write(&file, "one").unwrap();
        assert!(write(&file, "two").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    }
}

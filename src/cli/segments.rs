//! `tagway segments`: checks, runs and lists segments, and exports their members.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminClient, encode};
use super::{AdminArgs, CommandError, block_on, dead, load, number_of, print, render, subject};
use crate::config::ConfigSource;
use tagway_delivery::segment::{MembershipUnit, SegmentDraft, SegmentRule};
use tagway_settings::{
    ConfigEnvironment, ConfigError, ConfigErrorReport, ConfigFile, SettingsSection,
};

#[derive(Debug, Subcommand)]
pub(super) enum SegmentsCommand {
    /// Check a rule, or all segments of the configuration. Needs no running gateway.
    Check(SegmentCheckArgs),
    /// Show how many people a rule selects now, and a sample of them. Stores nothing.
    Preview(SegmentPreviewArgs),
    /// Evaluate a segment now.
    Run(SegmentNameArgs),
    /// List the segments with their sizes and next runs.
    Ls(SegmentListArgs),
    /// Print the members who joined and left at the last run, as lines of JSON.
    Diff(SegmentNameArgs),
    /// Print the members, as lines of JSON.
    Export(SegmentNameArgs),
    /// Delete the record of a removed sync's members. The vendor's list keeps the members.
    Forget(SegmentForgetArgs),
}

#[derive(Args, Debug)]
pub(super) struct SegmentForgetArgs {
    /// The segment; the configuration may no longer have it.
    #[arg(value_name = "[SITE/]SEGMENT")]
    segment: String,
    /// The name of the destination that was removed from the configuration.
    destination: String,
    /// The site; needed if there are several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct SegmentCheckArgs {
    /// A file with `where` and optionally `by`: TOML, or JSON if its name ends in .json.
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct SegmentPreviewArgs {
    /// The segment.
    #[arg(
        value_name = "[SITE/]SEGMENT",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    segment: Option<String>,
    /// A file with `where` and optionally `by`, instead of a segment.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The kind of members, user or group. Default: that of the segment or the file.
    #[arg(long)]
    by: Option<String>,
    /// The number of people to show.
    #[arg(long, default_value_t = 10)]
    sample: u32,
    /// The site; needed if there are several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct SegmentNameArgs {
    /// The segment.
    #[arg(value_name = "[SITE/]SEGMENT")]
    segment: String,
    /// The site; needed if there are several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct SegmentListArgs {
    /// Only this site's.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

impl SegmentsCommand {
    /// Returns true if it reads the configuration: a rule in a file needs none.
    pub(super) fn reads_configuration(&self) -> bool {
        !matches!(self, Self::Check(SegmentCheckArgs { file: Some(_) }))
    }
}

pub(super) fn run(origin: &ConfigSource, command: SegmentsCommand) -> Result<(), CommandError> {
    match command {
        SegmentsCommand::Check(options) => check(origin, options.file.as_deref()),
        SegmentsCommand::Preview(options) => preview(origin, options),
        SegmentsCommand::Run(options) => {
            let client = AdminClient::new(origin, &options.reach)?.with_long_timeout();
            block_on(async {
                let (site, segment) =
                    find_segment(&client, &options.segment, options.site.as_deref()).await?;
                let body = json!({ "site": site, "segment": segment });
                let ran = client.post("/api/v1/segments/run", &body).await?;
                let number = |key: &str| ran.get(key).and_then(Value::as_u64).unwrap_or_default();
                let (size, added, removed) = (number("size"), number("added"), number("removed"));
                let members = number_of(size, "member", "members");
                print(&format!("{members}; {added} joined, {removed} left\n"))
            })
        }
        SegmentsCommand::Ls(options) => list(origin, options),
        SegmentsCommand::Forget(options) => forget(origin, options),
        SegmentsCommand::Diff(options) => stream(origin, options, "diff"),
        SegmentsCommand::Export(options) => stream(origin, options, "members"),
    }
}

/// The site and the name of the segment `[SITE/]SEGMENT`, as `ls` shows it.
async fn find_segment(
    client: &AdminClient,
    written: &str,
    site: Option<&str>,
) -> Result<(String, String), CommandError> {
    match (written.split_once('/'), site) {
        (Some((own, _)), Some(site)) if own != site => {
            Err(CommandError::Usage(format!("{written:?} is of another site than --site {site}")))
        }
        (Some((own, segment)), _) => Ok((own.to_owned(), segment.to_owned())),
        (None, site) => Ok((subject::find_site(client, site).await?, written.to_owned())),
    }
}

fn forget(origin: &ConfigSource, options: SegmentForgetArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let (site, segment) =
            find_segment(&client, &options.segment, options.site.as_deref()).await?;
        let destination = options.destination;
        let body = json!({ "site": site, "segment": segment, "destination": destination });
        let struck = client.post("/api/v1/segments/forget", &body).await?;
        let people = struck.get("people").and_then(Value::as_u64).unwrap_or_default();
        let people = number_of(people, "person", "people");
        print(&format!("the record of {people} is deleted; the destination keeps them\n"))
    })
}

fn check(origin: &ConfigSource, file: Option<&Path>) -> Result<(), CommandError> {
    if let Some(file) = file {
        read(origin, file)?;
        return print(&format!("{} is valid.\n", file.display()));
    }
    let mut out = String::new();
    for site in load(origin)?.sites {
        for segment in site.segments {
            let (by, schedule) = (segment.unit.name(), segment.schedule.describe());
            let _infallible = writeln!(out, "{}/{}: by {by}, {schedule}", site.name, segment.name);
        }
    }
    if out.is_empty() { print("no segments\n") } else { print(&out) }
}

/// Reads a rule from a separate file, and reports every mistake in it.
fn read(origin: &ConfigSource, file: &Path) -> Result<SegmentDraft, CommandError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    let report = ConfigErrorReport::default();
    let draft = if file.extension().is_some_and(|ending| ending == "json") {
        read_json(&name, &text, &report)
    } else {
        let source = ConfigFile { name, text };
        let environment = ConfigEnvironment {
            variables: origin.variables.clone(),
            base: file.parent().map(Path::to_owned).unwrap_or_default(),
            redaction: origin.redaction.clone(),
        };
        let table = source.parse(&report);
        SegmentDraft::read(&mut SettingsSection::root(
            vec![(&source, &table)],
            &environment,
            &report,
        ))
    };
    match draft {
        Some(draft) if report.is_empty() => Ok(draft),
        _ => Err(CommandError::Config(report.into_errors())),
    }
}

fn read_json(name: &str, text: &str, report: &ConfigErrorReport) -> Option<SegmentDraft> {
    let note = |line: usize, key: &str, message: String| {
        let (file, key) = (name.to_owned(), key.to_owned());
        report.add(ConfigError { file, line, key, message });
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            note(error.line(), "", error.to_string());
            return None;
        }
    };
    let by = match value.get("by").and_then(Value::as_str) {
        Some(by) => {
            MembershipUnit::ALL.into_iter().find(|(known, _)| *known == by).map(|(_, by)| by)
        }
        None => Some(MembershipUnit::default()),
    };
    if by.is_none() {
        note(1, "by", "must be user or group".to_owned());
    }
    let Some(written) = value.get("where") else {
        note(1, "where", "is required".to_owned());
        return None;
    };
    for mistake in SegmentRule::parse(written).err().into_iter().flatten() {
        note(1, "", mistake.to_string());
    }
    Some(SegmentDraft { unit: by?, rule_source: written.clone() })
}

fn preview(origin: &ConfigSource, options: SegmentPreviewArgs) -> Result<(), CommandError> {
    let draft = options.file.as_deref().map(|file| read(origin, file)).transpose()?;
    let client = AdminClient::new(origin, &options.reach)?.with_long_timeout();
    block_on(async {
        let named = options.segment.as_deref().unwrap_or_default();
        let (site, segment) = find_segment(&client, named, options.site.as_deref()).await?;
        let mut body = json!({ "site": site, "sample": options.sample });
        if let Value::Object(body) = &mut body {
            let by = draft.as_ref().map(|draft| draft.unit.name().to_owned());
            let rule = draft.map(|draft| ("where", draft.rule_source));
            let segment = options.segment.map(|_named| ("segment", segment.into()));
            let by = options.by.or(by).map(|by| ("by", by.into()));
            let said = [rule, segment, by].into_iter().flatten();
            body.extend(said.map(|(key, value): (&str, Value)| (key.to_owned(), value)));
        }
        let preview = client.post("/api/v1/segments/preview", &body).await?;
        if options.json {
            print(&dead::pretty(&preview))
        } else {
            print(&preview_summary(&preview))
        }
    })
}

fn preview_summary(preview: &Value) -> String {
    let number = |key: &str| preview.get(key).and_then(Value::as_u64).unwrap_or_default();
    let people = number_of(number("size"), "person", "people");
    let mut out = format!("{people}, found in {} ms\n", number("took_ms"));
    let sample = preview.get("sample").and_then(Value::as_array);
    for person in sample.into_iter().flatten() {
        out += &render::escape_json(&person.to_string());
        out.push('\n');
    }
    out
}

fn list(origin: &ConfigSource, options: SegmentListArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let site = options.site.as_deref();
        let query = site.map(|site| format!("?site={}", encode(site))).unwrap_or_default();
        let listed = client.get(&format!("/api/v1/segments{query}")).await?;
        if options.json { print(&dead::pretty(&listed)) } else { print(&table(&listed)) }
    })
}

fn table(listed: &Value) -> String {
    let mut rows = vec![
        [
            "SEGMENT", "PLAN", "MEMBERS", "JOINED", "LEFT", "LAST RUN", "NEXT RUN", "COUNTED",
            "SYNCED",
        ]
        .map(str::to_owned),
    ];
    for segment in listed.as_array().into_iter().flatten() {
        let text = |pointer: &str| match segment.pointer(pointer) {
            Some(Value::String(text)) => render::escape(text, 60),
            Some(Value::Null) | None => "-".to_owned(),
            Some(other) => other.to_string(),
        };
        let time = |pointer: &str| {
            let ms = segment.pointer(pointer).and_then(Value::as_i64);
            let time = ms.and_then(|ms| jiff::Timestamp::from_second(ms / 1000).ok());
            time.map_or_else(|| "-".to_owned(), |time| time.to_string())
        };
        rows.push([
            format!("{}/{}", text("/site"), text("/name")),
            text("/schedule"),
            text("/members"),
            text("/ran/added"),
            text("/ran/removed"),
            time("/ran/at_ms"),
            match segment.get("is_set_aside") {
                Some(Value::Bool(true)) => "set aside".to_owned(),
                _ => time("/due_ms"),
            },
            counted(segment),
            syncs(segment),
        ]);
    }
    if rows.len() == 1 {
        return "no segments\n".to_owned();
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The time since which the rule's events are counted, or the progress of counting.
fn counted(segment: &Value) -> String {
    let uncounted = segment.get("uncounted").and_then(Value::as_array);
    let uncounted = uncounted.into_iter().flatten().filter_map(Value::as_str);
    let uncounted: Vec<String> = uncounted.map(|name| render::escape(name, 60)).collect();
    if !uncounted.is_empty() {
        return format!("no events of {}", uncounted.join(", "));
    }
    let Some(counting) = segment.get("counting").filter(|it| it.is_object()) else {
        return "-".to_owned();
    };
    let share = counting.get("share").and_then(Value::as_f64).unwrap_or_default();
    if counting.get("is_filled") != Some(&Value::Bool(true)) {
        return format!("backfill {:.0} %", share * 100.0);
    }
    let since = counting.get("since_ms").and_then(Value::as_i64);
    let since = since.and_then(|ms| jiff::Timestamp::from_second(ms / 1000).ok());
    since.map_or_else(|| "from the start".to_owned(), |since| format!("since {since}"))
}

/// The members of each destination, and the reason if it gets no more.
fn syncs(segment: &Value) -> String {
    let states = segment.get("syncs").and_then(Value::as_array);
    let told = states.into_iter().flatten().map(|state| {
        let text = |key: &str| state.get(key).and_then(Value::as_str);
        let name = render::escape(text("destination").unwrap_or("?"), 60);
        let size = state.get("size").and_then(Value::as_u64).unwrap_or_default();
        let problem = text("problem").map(|why| format!(" ({})", render::escape(why, 80)));
        let stand = text("stand").filter(|stand| *stand != "follows");
        let stand = stand.map(|stand| format!(" {}", render::escape(stand, 20)));
        let stuck = state.get("stuck").and_then(Value::as_u64).filter(|stuck| *stuck > 0);
        let stuck = stuck.map(|stuck| format!(", {stuck} not removed"));
        let parts = [stand, stuck, problem].into_iter().flatten().collect::<String>();
        format!("{name} {size}{parts}")
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { "-".to_owned() } else { told.join(", ") }
}

/// Prints a line of JSON for each person as it arrives.
fn stream(origin: &ConfigSource, options: SegmentNameArgs, what: &str) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?.with_long_timeout();
    block_on(async {
        let (site, segment) =
            find_segment(&client, &options.segment, options.site.as_deref()).await?;
        let (site, segment) = (encode(&site), encode(&segment));
        let mut lines = client.lines(&format!("/api/v1/segments/{site}/{segment}/{what}")).await?;
        while let Some(line) = lines.next().await? {
            if let Some(error) = line.get("error").and_then(Value::as_str) {
                return Err(anyhow::anyhow!("the gateway stopped: {error}").into());
            }
            print(&(render::escape_json(&line.to_string()) + "\n"))?;
        }
        Ok(())
    })
}

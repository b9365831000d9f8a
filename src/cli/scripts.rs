//! `tagway scripts`: the vendors' scripts, and the versions that visitors get.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminClient, encode};
use super::dead::pretty;
use super::{AdminArgs, CommandError, block_on, colours, print, render};
use crate::config::ConfigSource;

/// The fewest characters of a hash that name a version.
const MIN_HASH_CHARS: usize = 6;

/// The characters of a hash in a table.
const HASH_CHARS: usize = "sha256-".len() + 12;

#[derive(Debug, Subcommand)]
pub(super) enum ScriptsCommand {
    /// List the scripts, pinned scripts first.
    Ls(ScriptListArgs),
    /// Show the changes of a version that waits for approval.
    Diff(ScriptDiffArgs),
    /// Approve a waiting version: visitors get it from now on.
    Approve(ScriptSelectArgs),
}

#[derive(Args, Debug)]
pub(super) struct ScriptListArgs {
    /// Only the pinned scripts of this site.
    #[arg(long)]
    site: Option<String>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct ScriptDiffArgs {
    #[command(flatten)]
    select: ScriptSelectArgs,
    /// The most lines to show; 0 shows all.
    #[arg(long, default_value_t = 500)]
    lines: usize,
}

#[derive(Args, Debug)]
pub(super) struct ScriptSelectArgs {
    /// The hash of the waiting version as `ls` shows it, or its first 6 or more characters.
    hash: String,
    /// Only at this site.
    #[arg(long)]
    site: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

/// A version that waits for approval at a site.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PendingScript {
    pub(super) site: String,
    pub(super) vendor: String,
    pub(super) script: String,
    pub(super) hash: String,
}

pub(super) fn run(origin: &ConfigSource, command: ScriptsCommand) -> Result<(), CommandError> {
    match command {
        ScriptsCommand::Ls(options) => {
            let client = AdminClient::new(origin, &options.reach)?;
            block_on(async {
                let mut scripts = client.get("/api/v1/scripts").await?;
                if let (Some(site), Some(rows)) = (&options.site, scripts.as_array_mut()) {
                    rows.retain(|row| text(row, "/site") == *site);
                }
                print(&if options.json { pretty(&scripts) } else { table(&scripts) })
            })
        }
        ScriptsCommand::Diff(options) => {
            let client = AdminClient::new(origin, &options.select.reach)?;
            block_on(async {
                let found = find(&client, &options.select).await?;
                let Some(PendingScript { site, vendor, script, .. }) = found.first() else {
                    return Ok(());
                };
                let (site, vendor, script) = (encode(site), encode(vendor), encode(script));
                let path = "/api/v1/scripts/diff";
                let query = format!("site={site}&vendor={vendor}&script={script}");
                let diff = client.get(&format!("{path}?{query}")).await?;
                print(&shown(&diff, options.lines, colours(origin, &std::io::stdout())))
            })
        }
        ScriptsCommand::Approve(options) => {
            let client = AdminClient::new(origin, &options.reach)?;
            block_on(async {
                for PendingScript { site, vendor, script, hash } in find(&client, &options).await? {
                    let body =
                        json!({ "site": site, "vendor": vendor, "script": script, "hash": hash });
                    client.post("/api/v1/scripts/approve", &body).await?;
                    let names = [site, vendor, script].map(|name| render::escape(&name, 300));
                    print(&format!("{} now serves {hash}\n", names.join(" ")))?;
                }
                Ok(())
            })
        }
    }
}

async fn find(
    client: &AdminClient,
    select: &ScriptSelectArgs,
) -> Result<Vec<PendingScript>, CommandError> {
    waiting(&client.get("/api/v1/scripts").await?, &select.hash, select.site.as_deref())
}

/// The sites at which the one version with this prefix of a hash waits.
pub(super) fn waiting(
    scripts: &Value,
    hash: &str,
    site: Option<&str>,
) -> Result<Vec<PendingScript>, CommandError> {
    let hash = hash.strip_prefix("sha256-").unwrap_or(hash);
    if hash.len() < MIN_HASH_CHARS {
        let message = format!("write at least {MIN_HASH_CHARS} characters of the hash");
        return Err(CommandError::Usage(message));
    }
    let begins = |own: &str| own.strip_prefix("sha256-").is_some_and(|own| own.starts_with(hash));
    let found = scripts.as_array().into_iter().flatten().map(|row| PendingScript {
        site: text(row, "/site"),
        vendor: text(row, "/vendor"),
        script: text(row, "/script"),
        hash: text(row, "/pending/hash"),
    });
    let found: Vec<PendingScript> =
        found.filter(|it| begins(&it.hash) && site.is_none_or(|site| site == it.site)).collect();
    let Some(first) = found.first() else {
        return Err(CommandError::Usage("no version with this hash waits for approval".to_owned()));
    };
    if found.iter().any(|it| it.hash != first.hash) {
        return Err(CommandError::Usage(
            "several versions have this beginning of a hash: write more characters".to_owned(),
        ));
    }
    Ok(found)
}

/// The scripts as a table.
pub(super) fn table(scripts: &Value) -> String {
    const COLUMNS: [&str; 8] =
        ["SITE", "VENDOR", "SCRIPT", "STATE", "HASH", "BYTES", "AGE", "PENDING"];
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for row in scripts.as_array().into_iter().flatten() {
        let cell = |path: &str, chars| match text(row, path).as_str() {
            "" => "-".to_owned(),
            text => render::escape(text, chars),
        };
        let hash = |path| text(row, path).chars().take(HASH_CHARS).collect::<String>();
        let age = row.pointer("/served/age_seconds").and_then(Value::as_u64);
        let served = row.pointer("/served/bytes").and_then(Value::as_u64);
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        rows.push([
            cell("/site", 60),
            cell("/vendor", 60),
            cell("/script", 100),
            cell("/state", 20),
            or_dash(render::escape(&hash("/served/hash"), HASH_CHARS)),
            served.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            age.map_or_else(|| "-".to_owned(), time),
            or_dash(render::escape(&hash("/pending/hash"), HASH_CHARS)),
        ]);
    }
    if rows.len() == 1 {
        return "no scripts\n".to_owned();
    }
    render::columns(&rows)
}

/// A diff for a terminal.
pub(super) fn shown(diff: &Value, max_lines: usize, colour: bool) -> String {
    let version = |key: &str| {
        let bytes = diff.pointer(&format!("/{key}/bytes")).and_then(Value::as_u64);
        let hash = render::escape(&text(diff, &format!("/{key}/hash")), 80);
        bytes.map_or_else(|| "nothing".to_owned(), |bytes| format!("{hash}, {bytes} bytes"))
    };
    let mut out =
        format!("--- served   {}\n+++ pending  {}\n", version("served"), version("pending"));
    let text = text(diff, "/diff");
    let max_lines = if max_lines == 0 { usize::MAX } else { max_lines };
    for line in text.lines().take(max_lines) {
        out += &render::diff_line(line, colour);
        out.push('\n');
    }
    let more = text.lines().count().saturating_sub(max_lines);
    if more > 0 {
        out += &format!("... {more} more lines: --lines 0 shows all\n");
    }
    if diff.get("cut").and_then(Value::as_bool) == Some(true) {
        out += "... the rest is too long to show\n";
    }
    out
}

/// A duration in its largest unit.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

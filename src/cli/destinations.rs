//! `tagway destinations`: lists, pauses and resumes destinations.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::client::AdminClient;
use super::dead::{find_destination, pretty};
use super::{AdminArgs, CommandError, block_on, print, render};
use crate::config::ConfigSource;
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_settings::parse_duration;

#[derive(Debug, Subcommand)]
pub(super) enum DestinationsCommand {
    /// List the destinations with their states and numbers of events.
    Ls(DestinationListArgs),
    /// Stop the calls to a destination. Its events wait in the journal.
    Pause(PauseArgs),
    /// Resume the calls to a destination. Waiting events are sent unless they are older than its max_age.
    Resume(DestinationArgs),
}

#[derive(Args, Debug)]
pub(super) struct DestinationListArgs {
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct DestinationArgs {
    /// The destination.
    #[arg(value_name = "[SITE/]DESTINATION")]
    destination: String,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    destination: DestinationArgs,
    /// The reason, which lists show.
    #[arg(long, value_name = "REASON")]
    why: Option<String>,
    /// Resume automatically: a duration from now, such as "2h", or a time such as "2026-11-23T10:00:00Z".
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(super) fn run(origin: &ConfigSource, command: DestinationsCommand) -> Result<(), CommandError> {
    match command {
        DestinationsCommand::Ls(options) => {
            let client = AdminClient::new(origin, &options.reach)?;
            block_on(async {
                let ledger = client.get("/api/v1/ledger").await?;
                if options.json { print(&pretty(&ledger)) } else { print(&table(&ledger)) }
            })
        }
        DestinationsCommand::Pause(options) => {
            let now = SystemClock.now();
            let until = options.until.as_deref().map(|until| parse_end(until, now)).transpose()?;
            let mut members = Map::new();
            members.extend(options.why.map(|why| ("why".to_owned(), why.into())));
            members.extend(until.map(|until| ("until".to_owned(), until.to_string().into())));
            act(origin, &options.destination, "pause", members)
        }
        DestinationsCommand::Resume(options) => act(origin, &options, "resume", Map::new()),
    }
}

/// Reads a time, or a duration from now.
fn parse_end(written: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    if let Ok(moment) = written.parse() {
        return Ok(moment);
    }
    parse_duration(written).and_then(|wait| now.checked_add(wait).ok()).ok_or_else(|| {
        CommandError::Usage(format!("--until: \"{written}\" is no time or duration"))
    })
}

fn act(
    origin: &ConfigSource,
    options: &DestinationArgs,
    verb: &str,
    members: Map<String, Value>,
) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let (site, destination) = find_destination(&client, &options.destination).await?;
        let mut body = members;
        body.insert("site".to_owned(), site.as_str().into());
        body.insert("destination".to_owned(), destination.as_str().into());
        let body = Value::Object(body);
        let answer = client.post(&format!("/api/v1/destinations/{verb}"), &body).await?;
        let state = answer.get("state").and_then(Value::as_str).unwrap_or_default();
        print(&format!("{site}/{destination} is {}\n", render::escape(state, 60)))
    })
}

fn table(ledger: &Value) -> String {
    const COLUMNS: [&str; 10] = [
        "site",
        "destination",
        "state",
        "accepted",
        "delivered",
        "skipped",
        "dead",
        "pending",
        "held",
        "reason",
    ];
    let mut rows = vec![COLUMNS.map(str::to_uppercase)];
    for row in ledger.as_array().into_iter().flatten() {
        rows.push(COLUMNS.map(|column| render::cell(row.get(column))));
    }
    render::columns(&rows)
}

//! `tagway destinations`: lists, pauses and resumes destinations.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::AdminClient;
use super::dead::{find_destination, pretty};
use super::{AdminArgs, CommandError, block_on, print, render};
use crate::config::ConfigSource;

#[derive(Debug, Subcommand)]
pub(super) enum DestinationsCommand {
    /// List the destinations with their states and numbers of events.
    Ls(DestinationListArgs),
    /// Stop the calls to a destination. Its events wait in the journal.
    Pause(DestinationArgs),
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

pub(super) fn run(origin: &ConfigSource, command: DestinationsCommand) -> Result<(), CommandError> {
    match command {
        DestinationsCommand::Ls(options) => {
            let client = AdminClient::new(origin, &options.reach)?;
            block_on(async {
                let ledger = client.get("/api/v1/ledger").await?;
                if options.json { print(&pretty(&ledger)) } else { print(&table(&ledger)) }
            })
        }
        DestinationsCommand::Pause(options) => act(origin, &options, "pause"),
        DestinationsCommand::Resume(options) => act(origin, &options, "resume"),
    }
}

fn act(origin: &ConfigSource, options: &DestinationArgs, verb: &str) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let (site, destination) = find_destination(&client, &options.destination).await?;
        let body = json!({ "site": site, "destination": destination });
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

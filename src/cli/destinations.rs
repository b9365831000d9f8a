//! `tagway destinations`: how the destinations are doing, and pausing and resuming them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::dead::{find_destination, pretty};
use super::{Failure, Reach, block_on, render, say};
use crate::config::Origin;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the destinations with their accounts.
    Ls(List),
    /// Stop calling a destination: its events wait.
    Pause(Select),
    /// Lift the pause: what waited goes, if it is not too old by then.
    Resume(Select),
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args, Debug)]
pub(super) struct Select {
    /// The destination.
    #[arg(value_name = "[SITE/]DESTINATION")]
    destination: String,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(origin: &Origin, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(options) => {
            let client = Client::new(origin, &options.reach)?;
            block_on(async {
                let ledger = client.get("/api/v1/ledger").await?;
                if options.json { say(&pretty(&ledger)) } else { say(&table(&ledger)) }
            })
        }
        Command::Pause(options) => act(origin, &options, "pause"),
        Command::Resume(options) => act(origin, &options, "resume"),
    }
}

fn act(origin: &Origin, options: &Select, verb: &str) -> Result<(), Failure> {
    let client = Client::new(origin, &options.reach)?;
    block_on(async {
        let (site, destination) = find_destination(&client, &options.destination).await?;
        let body = json!({ "site": site, "destination": destination });
        let answer = client.post(&format!("/api/v1/destinations/{verb}"), &body).await?;
        let state = answer.get("state").and_then(Value::as_str).unwrap_or_default();
        say(&format!("{site}/{destination} is {}\n", render::escape(state, 60)))
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

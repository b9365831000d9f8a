//! `tagway dead`: lists, retries and deletes dead letters.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminClient, encode};
use super::{AdminArgs, CommandError, block_on, number_of, print, render};
use crate::config::ConfigSource;

#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List dead letters, newest first.
    Ls(DeadListArgs),
    /// Show one dead letter with its event, the last request and the vendor's reply.
    Show(DeadShowArgs),
    /// Send dead letters to their destinations again.
    Retry(DeadSelectArgs),
    /// Delete dead letters.
    Drop(DeadSelectArgs),
}

#[derive(Args, Debug)]
pub(super) struct DeadListArgs {
    /// Only this destination.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: Option<String>,
    /// Only letters older than the letter with this number.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// The most letters to list.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct DeadShowArgs {
    /// The letter's number.
    id: i64,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct DeadSelectArgs {
    /// The letters' numbers.
    #[arg(required_unless_present = "destination", conflicts_with = "destination")]
    ids: Vec<i64>,
    /// All dead letters of this destination.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, command: DeadCommand) -> Result<(), CommandError> {
    match command {
        DeadCommand::Ls(options) => {
            let client = AdminClient::new(origin, &options.reach)?;
            block_on(list(client, options))
        }
        DeadCommand::Show(options) => {
            let client = AdminClient::new(origin, &options.reach)?;
            block_on(async {
                let letter = client.get(&format!("/api/v1/dead/{}", options.id)).await?;
                print(&pretty(&letter))
            })
        }
        DeadCommand::Retry(options) => act(origin, options, "retry", "will be sent again"),
        DeadCommand::Drop(options) => act(origin, options, "drop", "dropped"),
    }
}

/// The site and name of the destination `[SITE/]NAME` in the running gateway.
pub(super) async fn find_destination(
    client: &AdminClient,
    written: &str,
) -> Result<(String, String), CommandError> {
    let ledger = client.get("/api/v1/ledger").await?;
    let (site, name) = match written.split_once('/') {
        Some((site, name)) => (Some(site), name),
        None => (None, written),
    };
    let mut found = ledger.as_array().into_iter().flatten().filter_map(|row| {
        let (at, destination) = (row.get("site")?.as_str()?, row.get("destination")?.as_str()?);
        (destination == name && site.is_none_or(|site| site == at))
            .then(|| (at.to_owned(), destination.to_owned()))
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            Err(CommandError::Usage(format!("the gateway has no destination {written:?}")))
        }
        (Some(_), Some(_)) => Err(CommandError::Usage(format!(
            "several sites have a destination {written:?}: write SITE/{written}"
        ))),
    }
}

async fn list(client: AdminClient, options: DeadListArgs) -> Result<(), CommandError> {
    let mut path = format!("/api/v1/dead?limit={}", options.limit);
    if let Some(written) = &options.destination {
        let (site, destination) = find_destination(&client, written).await?;
        path += &format!("&site={}&destination={}", encode(&site), encode(&destination));
    }
    if let Some(before) = options.before {
        path += &format!("&before={before}");
    }
    let letters = client.get(&path).await?;
    if options.json { print(&pretty(&letters)) } else { print(&table(&letters)) }
}

fn act(
    origin: &ConfigSource,
    options: DeadSelectArgs,
    verb: &str,
    done: &str,
) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let body = match &options.destination {
            Some(written) => {
                let (site, destination) = find_destination(&client, written).await?;
                json!({ "site": site, "destination": destination })
            }
            None => json!({ "ids": options.ids }),
        };
        let answer = client.post(&format!("/api/v1/dead/{verb}"), &body).await?;
        let count = answer.get("count").and_then(Value::as_u64).unwrap_or_default();
        print(&format!("{} {done}\n", number_of(count, "dead letter", "dead letters")))
    })
}

/// The letters as a table.
pub(super) fn table(letters: &Value) -> String {
    const COLUMNS: [&str; 7] = ["id", "at", "site", "destination", "event", "reason", "detail"];
    let mut rows = vec![COLUMNS.map(str::to_uppercase)];
    for letter in letters.as_array().into_iter().flatten() {
        rows.push(COLUMNS.map(|column| render::cell(letter.get(column))));
    }
    if rows.len() == 1 {
        return "no dead letters\n".to_owned();
    }
    render::columns(&rows)
}

/// Indented JSON, safe for a terminal.
pub(super) fn pretty(value: &Value) -> String {
    render::escape_json(&format!("{value:#}")) + "\n"
}

//! `tagway dead`: the events that a destination will never get, unless someone acts.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, encode};
use super::{Failure, Reach, block_on, render, say};
use crate::config::Origin;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List dead letters, newest first.
    Ls(List),
    /// Show one with its event, the last request and the vendor's reply.
    Show(Show),
    /// Try again.
    Retry(Select),
    /// Forget.
    Drop(Select),
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Only this destination.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: Option<String>,
    /// Only letters older than this one.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// How many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The letter's number.
    id: i64,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args, Debug)]
pub(super) struct Select {
    /// The letters' numbers.
    #[arg(required_unless_present = "destination", conflicts_with = "destination")]
    ids: Vec<i64>,
    /// All of this destination.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(origin: &Origin, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(options) => {
            let client = Client::new(origin, &options.reach)?;
            block_on(list(client, options))
        }
        Command::Show(options) => {
            let client = Client::new(origin, &options.reach)?;
            block_on(async {
                let letter = client.get(&format!("/api/v1/dead/{}", options.id)).await?;
                say(&pretty(&letter))
            })
        }
        Command::Retry(options) => act(origin, options, "retry", "to be tried again"),
        Command::Drop(options) => act(origin, options, "drop", "dropped"),
    }
}

/// The site and name of the destination that `[SITE/]NAME` means in the running gateway.
pub(super) async fn find_destination(
    client: &Client,
    written: &str,
) -> Result<(String, String), Failure> {
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
        (None, _) => Err(Failure::Usage(format!("the gateway has no destination {written:?}"))),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "several sites have a destination {written:?}: write SITE/{written}"
        ))),
    }
}

async fn list(client: Client, options: List) -> Result<(), Failure> {
    let mut path = format!("/api/v1/dead?limit={}", options.limit);
    if let Some(written) = &options.destination {
        let (site, destination) = find_destination(&client, written).await?;
        path += &format!("&site={}&destination={}", encode(&site), encode(&destination));
    }
    if let Some(before) = options.before {
        path += &format!("&before={before}");
    }
    let letters = client.get(&path).await?;
    if options.json { say(&pretty(&letters)) } else { say(&table(&letters)) }
}

fn act(origin: &Origin, options: Select, verb: &str, done: &str) -> Result<(), Failure> {
    let client = Client::new(origin, &options.reach)?;
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
        say(&format!("{count} {done}\n"))
    })
}

/// The letters in columns as wide as they need.
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

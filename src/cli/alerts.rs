//! `tagway alerts`: lists alerts and their rules, and tests channels.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminClient, encode};
use super::dead::pretty;
use super::{AdminArgs, CommandError, block_on, print, render};
use crate::config::ConfigSource;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    #[command(flatten)]
    list: AlertListArgs,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// List the alerts that fire, and those that have ended.
    Ls(AlertListArgs),
    /// List the rules with their limits and channels.
    Rules(AlertListArgs),
    /// Send a test to a channel.
    Test(ChannelTestArgs),
}

#[derive(Args, Debug)]
struct AlertListArgs {
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
struct ChannelTestArgs {
    /// The channel, as in [alerts.channels.NAME].
    #[arg(value_name = "CHANNEL")]
    channel: String,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, options: AlertsArgs) -> Result<(), CommandError> {
    match options.command.unwrap_or(AlertsCommand::Ls(options.list)) {
        AlertsCommand::Ls(options) => list(origin, &options, "/api/v1/alerts", alerts),
        AlertsCommand::Rules(options) => list(origin, &options, "/api/v1/alerts/rules", rules),
        AlertsCommand::Test(options) => test(origin, &options),
    }
}

fn list(
    origin: &ConfigSource,
    options: &AlertListArgs,
    path: &str,
    table: fn(&Value) -> String,
) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let answer = client.get(path).await?;
        if options.json { print(&pretty(&answer)) } else { print(&table(&answer)) }
    })
}

fn test(origin: &ConfigSource, options: &ChannelTestArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let path = format!("/api/v1/alerts/channels/{}/test", encode(&options.channel));
        let answer = client.post(&path, &json!({})).await?;
        match answer.get("error").and_then(Value::as_str) {
            None => print("the test was sent\n"),
            Some(error) => {
                let error = render::escape(error, 500);
                Err(anyhow::anyhow!("the test was not sent: {error}").into())
            }
        }
    })
}

fn alerts(answer: &Value) -> String {
    const COLUMNS: [&str; 7] = ["id", "state", "severity", "rule", "since", "resolved_at", "title"];
    let table = columns(answer, COLUMNS);
    if table.is_empty() { "no alerts\n".to_owned() } else { table }
}

fn rules(answer: &Value) -> String {
    const COLUMNS: [&str; 9] = [
        "name",
        "kind",
        "site",
        "destination",
        "limit",
        "window_seconds",
        "severity",
        "enabled",
        "source",
    ];
    columns(answer, COLUMNS)
}

/// The rows of an answer as a table; empty without rows.
fn columns<const COUNT: usize>(answer: &Value, names: [&str; COUNT]) -> String {
    let mut rows = vec![names.map(str::to_uppercase)];
    for row in answer.get("rows").and_then(Value::as_array).into_iter().flatten() {
        rows.push(names.map(|name| render::cell(row.get(name))));
    }
    if rows.len() == 1 { String::new() } else { render::columns(&rows) }
}

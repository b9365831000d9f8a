//! `tagway dead`: lists, retries and deletes dead letters.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminClient, encode};
use super::replay::{confirm, parse_moment};
use super::{AdminArgs, CommandError, block_on, number_of, print, print_error, render};
use crate::config::ConfigSource;
use tagway_core::clock::{Clock as _, SystemClock};

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
    #[command(flatten)]
    filter: DeadFilterArgs,
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

/// A choice among dead letters.
#[derive(Args, Debug)]
#[group(multiple = true)]
pub(super) struct DeadFilterArgs {
    /// Only letters with this reason's code.
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only letters of events with this name.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only events that died at this time or later: RFC 3339, or a duration before now ("2h").
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only events that died before this time: RFC 3339, or a duration before now ("30m").
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
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
    #[arg(
        required_unless_present_any = ["destination", "DeadFilterArgs"],
        conflicts_with_all = ["destination", "DeadFilterArgs"],
    )]
    ids: Vec<i64>,
    /// All dead letters of this destination.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: Option<String>,
    #[command(flatten)]
    filter: DeadFilterArgs,
    /// Act without confirmation on the letters that --reason, --event, --from and --to select. Required without a
    /// terminal.
    #[arg(long)]
    yes: bool,
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

impl DeadFilterArgs {
    /// The filter's members, in the API's terms.
    fn members(&self) -> Result<Vec<(&'static str, String)>, CommandError> {
        let now = SystemClock.now();
        let time = |written: &Option<String>| -> Result<Option<String>, CommandError> {
            let parsed = written.as_deref().map(|text| parse_moment(text, now)).transpose()?;
            Ok(parsed.map(|moment| moment.to_string()))
        };
        let members = [
            ("reason", self.reason.clone()),
            ("event", self.event.clone()),
            ("from", time(&self.from)?),
            ("to", time(&self.to)?),
        ];
        Ok(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

/// The filter's members with those of the destination.
async fn filter_of(
    client: &AdminClient,
    filter: &DeadFilterArgs,
    destination: Option<&str>,
) -> Result<Vec<(&'static str, String)>, CommandError> {
    let mut members = filter.members()?;
    if let Some(written) = destination {
        let (site, destination) = find_destination(client, written).await?;
        members.extend([("site", site), ("destination", destination)]);
    }
    Ok(members)
}

/// The path of a list of letters.
fn list_path(members: &[(&str, String)], limit: u32) -> String {
    let mut path = format!("/api/v1/dead?limit={limit}");
    for (name, value) in members {
        path += &format!("&{name}={}", encode(value));
    }
    path
}

async fn list(client: AdminClient, options: DeadListArgs) -> Result<(), CommandError> {
    let members = filter_of(&client, &options.filter, options.destination.as_deref()).await?;
    let mut path = list_path(&members, options.limit);
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
        let path = format!("/api/v1/dead/{verb}");
        let is_filtered = !options.filter.members()?.is_empty();
        let body = match &options.destination {
            _ if is_filtered => match confirmed_filter(&client, &options, verb).await? {
                Some(body) => body,
                None => return Ok(()),
            },
            Some(written) => {
                let (site, destination) = find_destination(&client, written).await?;
                json!({ "site": site, "destination": destination })
            }
            None => json!({ "ids": options.ids }),
        };
        let answer = client.post(&path, &body).await?;
        print(&format!("{} {done}\n", letters(&answer)))
    })
}

/// Counts the letters that the filter selects, and asks. Returns the request; `None` if there are none. Letters that
/// come later are not touched.
async fn confirmed_filter(
    client: &AdminClient,
    options: &DeadSelectArgs,
    verb: &str,
) -> Result<Option<Value>, CommandError> {
    let members = filter_of(client, &options.filter, options.destination.as_deref()).await?;
    let newest = client.get(&list_path(&members, 1)).await?;
    let Some(until_id) = newest.pointer("/0/id").and_then(Value::as_i64) else {
        print("no dead letters match\n")?;
        return Ok(None);
    };
    let filter: Value =
        members.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let request = |plan: bool| json!({ "filter": filter, "until_id": until_id, "plan": plan });
    let plan = client.post(&format!("/api/v1/dead/{verb}"), &request(true)).await?;
    let verb_form =
        if plan.get("count").and_then(Value::as_u64) == Some(1) { "matches" } else { "match" };
    print(&format!("{} {verb_form}\n", letters(&plan)))?;
    if !options.yes && !confirm(&format!("{verb} them?"), verb)? {
        print_error("nothing was changed");
        return Err(CommandError::Reported);
    }
    Ok(Some(request(false)))
}

/// The number of letters in an answer.
fn letters(answer: &Value) -> String {
    let count = answer.get("count").and_then(Value::as_u64).unwrap_or_default();
    number_of(count, "dead letter", "dead letters")
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

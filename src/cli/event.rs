//! `tagway event`: shows one event and its outcome at each destination.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use super::client::{AdminClient, encode};
use super::dead::pretty;
use super::{AdminArgs, CommandError, block_on, print, render};
use crate::config::ConfigSource;

/// The longest request or reply that is shown, in characters; `--json` shows all.
const SHOWN_CHARS: usize = 2000;

#[derive(Args, Debug)]
pub(super) struct CliEventArgs {
    /// The event: its message id, or SITE/NUMBER as `tagway tail` shows it.
    #[arg(value_name = "MESSAGE_ID|SITE/NUMBER")]
    id: String,
    /// The site of the message id. Default: all sites are searched.
    #[arg(long)]
    site: Option<String>,
    /// JSON instead of text, with the whole event.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, options: CliEventArgs) -> Result<(), CommandError> {
    // Message ids have no index: the gateway scans its events, the newest first.
    let client = AdminClient::new(origin, &options.reach)?.with_long_timeout();
    block_on(async {
        let event = find(&client, &options).await?;
        if options.json { print(&pretty(&event)) } else { print(&text(&event)) }
    })
}

async fn find(client: &AdminClient, options: &CliEventArgs) -> Result<Value, CommandError> {
    let sites = client.get("/api/v1/sites").await?;
    let sites: Vec<&str> =
        sites.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some((site, number)) = options.id.rsplit_once('/')
        && sites.contains(&site)
        && number.parse::<u64>().is_ok()
    {
        let found = client.find(&format!("/api/v1/events/{}/{number}", encode(site))).await?;
        return found.ok_or_else(|| {
            let message = format!(
                "{site} has no event {number}: it has left the journal, or was never accepted"
            );
            CommandError::Other(anyhow::anyhow!(message))
        });
    }
    if let Some(site) = options.site.as_deref().filter(|site| !sites.contains(site)) {
        return Err(CommandError::Usage(format!("the gateway has no site {site:?}")));
    }
    let wanted = |site: &&str| options.site.as_deref().is_none_or(|only| only == *site);
    for site in sites.into_iter().filter(wanted) {
        let path = format!("/api/v1/events/{}?message_id={}", encode(site), encode(&options.id));
        if let Some(event) = client.find(&path).await? {
            return Ok(event);
        }
    }
    Err(CommandError::Other(anyhow::anyhow!(
        "no event in the journal has the message id {:?}: it has left the journal, or was never accepted",
        options.id
    )))
}

fn text(event: &Value) -> String {
    let of = |value: Option<&Value>| render::cell(value);
    let body = event.get("event");
    let name = body.and_then(|body| body.get("event").or_else(|| body.get("type")));
    let id = body.and_then(|body| body.get("messageId"));
    let mut out = format!(
        "{}/{}  {}  message id {}  received {}\n\n",
        of(event.get("site")),
        of(event.get("seq")),
        of(name),
        of(id),
        of(event.get("received_at")),
    );
    const COLUMNS: [&str; 7] =
        ["destination", "state", "outcome", "reason", "attempts", "at", "detail"];
    let mut rows = vec![COLUMNS.map(str::to_uppercase)];
    let destinations = event.get("destinations").and_then(Value::as_array);
    for row in destinations.into_iter().flatten() {
        rows.push(COLUMNS.map(|column| render::cell(row.get(column))));
    }
    out += &render::columns(&rows);
    for row in destinations.into_iter().flatten() {
        let Some(call) = row.get("last_call").filter(|call| !call.is_null()) else { continue };
        let text = |key: &str| {
            let text = call.get(key).and_then(Value::as_str).unwrap_or_default();
            let lines =
                text.lines().map(|line| format!("    {}\n", render::escape(line, SHOWN_CHARS)));
            lines.collect::<String>()
        };
        let _infallible = write!(
            out,
            "\n{}: the last call, at {}\n{}  reply {}\n{}",
            of(row.get("destination")),
            of(call.get("at")),
            text("request"),
            of(call.get("status")),
            text("reply"),
        );
    }
    out
}

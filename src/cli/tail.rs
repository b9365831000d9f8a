//! `tagway tail`: shows the live feed.

use clap::Args;

use super::client::{AdminClient, encode};
use super::{AdminArgs, CommandError, block_on, colours, print, render};
use crate::config::ConfigSource;

#[derive(Args, Debug)]
pub(super) struct TailFeedArgs {
    /// Only this site.
    #[arg(long)]
    site: Option<String>,
    /// Only this destination.
    #[arg(long)]
    destination: Option<String>,
    /// Only events with these names: patterns with * and ?, separated by commas; "!x" excludes.
    #[arg(long, value_name = "NAMES")]
    event: Option<String>,
    /// Only outcomes of this kind: delivered, skipped, dead or retry.
    #[arg(long)]
    outcome: Option<String>,
    /// Only outcomes with this reason's code.
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only events of this visitor: an id, or the beginning that lines show.
    #[arg(long, value_name = "ID")]
    visitor: Option<String>,
    /// Only events of this kind of sender: sdk, shim, vendor_tag, api, pixel, server or segment.
    #[arg(long)]
    source: Option<String>,
    /// Only events of this trace.
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// Begin with this number of recent lines, at most 500: they are kept while somebody watches, and 10 minutes more.
    #[arg(long, value_name = "LINES")]
    backlog: Option<usize>,
    /// One JSON object per line instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, options: TailFeedArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    let colour = colours(origin, &std::io::stdout());
    let backlog = options.backlog.map(|lines| lines.to_string());
    let filters = [
        ("site", &options.site),
        ("destination", &options.destination),
        ("event", &options.event),
        ("outcome", &options.outcome),
        ("reason", &options.reason),
        ("visitor", &options.visitor),
        ("source", &options.source),
        ("trace", &options.trace),
        ("backlog", &backlog),
    ];
    let given = filters.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let query: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let path = format!("/api/v1/tail?{}", query.join("&"));
    block_on(async {
        let mut lines = client.lines(&path).await?;
        while let Some(happening) = lines.next().await? {
            let shown = if options.json {
                render::escape_json(&happening.to_string()) + "\n"
            } else {
                render::render(&happening, colour)
            };
            // A closed output (`| head`) ends the command without an error.
            if print(&shown).is_err() {
                return Ok(());
            }
        }
        Ok(())
    })
}

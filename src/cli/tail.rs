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
    /// One JSON object per line instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, options: TailFeedArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    let colour = colours(origin, &std::io::stdout());
    let path = format!(
        "/api/v1/tail?site={}&destination={}",
        encode(options.site.as_deref().unwrap_or_default()),
        encode(options.destination.as_deref().unwrap_or_default()),
    );
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

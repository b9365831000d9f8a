//! `tagway replay`: sends a time window of the journal to one destination again.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::client::AdminClient;
use super::{AdminArgs, CommandError, block_on, dead, number_of, print, print_error, render};
use crate::config::ConfigSource;
use tagway_core::clock::{Clock, SystemClock};
use tagway_settings::parse_duration;

#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    /// The start: an RFC 3339 time, or a duration before now ("2h").
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The end, not included: an RFC 3339 time, or a duration before now ("30m", "0s").
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The destination that gets the events again.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: String,
    /// Replay without confirmation. Required without a terminal.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    reach: AdminArgs,
}

pub(super) fn run(origin: &ConfigSource, options: ReplayArgs) -> Result<(), CommandError> {
    let now = SystemClock.now();
    let (from, to) = (parse_moment(&options.from, now)?, parse_moment(&options.to, now)?);
    if from >= to {
        return Err(CommandError::Usage("--from must be before --to".to_owned()));
    }
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let (site, destination) = dead::find_destination(&client, &options.destination).await?;
        let mut body = json!({ "site": site, "destination": destination, "from": from, "to": to, "plan": true });
        let plan = client.post("/api/v1/replay", &body).await?;
        let name = format!("{site}/{destination}");
        print(&shown(&plan, (from, to), &name))?;
        if plan.get("count").and_then(Value::as_u64) == Some(0) {
            return Ok(());
        }
        if !options.yes && !confirm("replay them?", "replay")? {
            print_error("nothing was replayed");
            return Err(CommandError::Reported);
        }
        if let Some(fields) = body.as_object_mut() {
            fields.insert("plan".to_owned(), json!(false));
        }
        let answer = client.post("/api/v1/replay", &body).await?;
        let count = answer.get("count").and_then(Value::as_u64).unwrap_or_default();
        let (events, go) =
            (number_of(count, "event", "events"), if count == 1 { "goes" } else { "go" });
        print(&format!("{events} {go} to {name} again\n"))
    })
}

/// The plan of a replay, for people.
fn shown(plan: &Value, (from, to): (Timestamp, Timestamp), name: &str) -> String {
    let number = |key: &str| plan.get(key).and_then(Value::as_u64).unwrap_or_default();
    let (count, dead, pending) = (number("count"), number("dead"), number("pending"));
    let repeats = plan.get("repeats").and_then(Value::as_str).unwrap_or_default();
    let events = number_of(count, "event", "events");
    let mut out = format!("{events} from {from} to {to} for {name}:\n");
    let ended = count.saturating_sub(dead);
    let mut row = |count: u64, what: &str| {
        let _infallible = writeln!(out, "{count:>10} {what}");
    };
    row(ended, "settled as delivered or skipped: delivered events are sent a second time");
    row(dead, "settled as dead letters");
    row(pending, "not settled yet: left unchanged");
    if ended > 0 && !repeats.is_empty() {
        let _infallible =
            writeln!(out, "the destination's vendor {}", render::escape(repeats, 200));
    }
    out
}

/// Asks on the terminal. Without a terminal it is an error; `act` is the verb of its cure.
pub(super) fn confirm(question: &str, act: &str) -> Result<bool, CommandError> {
    let mut answer = String::new();
    if !std::io::stdin().is_terminal() {
        let message = format!("no terminal for the confirmation: use --yes to {act} without it");
        return Err(CommandError::Usage(message));
    }
    print(&format!("{question} [y/N] "))?;
    std::io::stdin().read_line(&mut answer).context("the terminal")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Parses a time as people write it: RFC 3339, or a duration before `now`.
pub(super) fn parse_moment(written: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    if let Ok(moment) = written.parse() {
        return Ok(moment);
    }
    parse_duration(written)
        .and_then(|ago| now.checked_sub(SignedDuration::try_from(ago).ok()?).ok())
        .ok_or_else(|| {
            let message = format!("{written:?} is neither RFC 3339 nor a duration such as \"2h\"");
            CommandError::Usage(message)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_shows_delivered_events_and_the_vendors_deduplication() {
        let plan =
            json!({"count": 12, "dead": 2, "pending": 1, "repeats": "cannot tell repetitions"});
        let time = "2026-01-01T00:00:00Z".parse().unwrap();
        let shown = shown(&plan, (time, time), "shop/ga4");
        assert!(shown.starts_with("12 events from 2026"), "{shown}");
        assert!(shown.contains("        10 settled as delivered"), "{shown}");
        assert!(shown.contains("         2 settled as dead letters"), "{shown}");
        assert!(shown.ends_with("vendor cannot tell repetitions\n"), "{shown}");
    }
}

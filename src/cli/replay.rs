//! `tagway replay`: a window of the journal again, to one destination.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::client::Client;
use super::{Failure, Reach, block_on, dead, say};
use crate::clock::{Clock, SystemClock};
use crate::config::Origin;
use crate::settings::parse_duration;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The start: RFC 3339, or how long ago ("2h").
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The end, not included: RFC 3339, or how long ago ("30m", "0s").
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The destination that gets the events again.
    #[arg(long, value_name = "[SITE/]DESTINATION")]
    destination: String,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(origin: &Origin, options: Options) -> Result<(), Failure> {
    let now = SystemClock.now();
    let (from, to) = (moment(&options.from, now)?, moment(&options.to, now)?);
    if from >= to {
        return Err(Failure::Usage("--from must be before --to".to_owned()));
    }
    let client = Client::new(origin, &options.reach)?;
    block_on(async {
        let (site, destination) = dead::find_destination(&client, &options.destination).await?;
        let body = json!({ "site": site, "destination": destination, "from": from, "to": to });
        let answer = client.post("/api/v1/replay", &body).await?;
        let count = answer.get("count").and_then(Value::as_u64).unwrap_or_default();
        say(&format!("{count} events of {from} to {to} go to {site}/{destination} again\n"))
    })
}

/// A moment as people write it: RFC 3339, or a duration before `now`.
pub(super) fn moment(written: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(moment) = written.parse() {
        return Ok(moment);
    }
    parse_duration(written)
        .and_then(|ago| now.checked_sub(SignedDuration::try_from(ago).ok()?).ok())
        .ok_or_else(|| {
            let message = format!("{written:?} is neither RFC 3339 nor a duration such as \"2h\"");
            Failure::Usage(message)
        })
}

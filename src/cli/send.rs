//! `tagway send`: sends one test event, and follows it until every destination settled it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminClient, JsonLineStream, encode};
use super::csv_records::strip_bom;
use super::{
    AdminArgs, CommandError, block_on, colours, dry_run, load, print, print_error, render,
};
use crate::config::ConfigSource;
use tagway_core::values::digits;
use tagway_settings::parse_duration;

/// The largest event file: the gateway's own limits are lower.
const EVENT_BYTES: u64 = 1 << 20;

#[derive(Args, Debug)]
pub(super) struct SendEventArgs {
    /// The site; by default the only one.
    #[arg(long)]
    site: Option<String>,
    /// A file with the event as JSON ("-" is stdin). Default: a sample order.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// The name of the track event.
    #[arg(long)]
    name: Option<String>,
    /// The user's id.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The consent categories that the visitor granted, separated by commas, as in analytics,marketing. "!" before
    /// a category means refused. Default: the visitor has not chosen.
    #[arg(long, value_name = "CATEGORIES", value_delimiter = ',')]
    consent: Vec<String>,
    /// Print the requests that the event would cause, without sending them. Needs no running gateway.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: only the requests to this destination.
    #[arg(long, value_name = "NAME", requires = "dry_run")]
    destination: Option<String>,
    /// The longest time to wait for the outcomes.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    reach: AdminArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "not a duration such as \"30s\"".to_owned())
}

pub(super) fn run(origin: &ConfigSource, options: SendEventArgs) -> Result<(), CommandError> {
    let event = message(&options)?;
    if options.dry_run {
        let settings = load(origin)?;
        let (site, destination) = (options.site.as_deref(), options.destination.as_deref());
        return dry_run::run(&settings, &event, site, destination);
    }
    let client = AdminClient::new(origin, &options.reach)?;
    let colour = colours(origin, &std::io::stdout());
    block_on(async {
        let ledger = client.get("/api/v1/ledger").await?;
        let sites = client.get("/api/v1/sites").await?;
        let site = choose_site(&sites, options.site.as_deref())?;
        let waiting = destinations(&ledger, &site);
        // Watching starts first, or outcomes of a fast destination would be missed.
        let mut lines = client.lines(&format!("/api/v1/tail?site={}", encode(&site))).await?;
        let body = json!({ "site": site, "event": event });
        let sent = client.post("/api/v1/send", &body).await?;
        let seq = sent.get("seq").and_then(Value::as_u64).context("the answer has no seq")?;
        if waiting.is_empty() {
            print(&format!("accepted as #{seq} of {site}, which has no destinations\n"))?;
        }
        let mut following = EventFollower { seq, waiting, ..EventFollower::default() };
        let followed = follow(&mut lines, &mut following, colour);
        match tokio::time::timeout(options.timeout, followed).await {
            Ok(followed) => followed?,
            Err(_elapsed) => {
                let ledger = client.get("/api/v1/ledger").await?;
                let names = following.waiting.iter().map(|name| with_state(&ledger, &site, name));
                let (names, time) = (names.collect::<Vec<_>>().join(", "), options.timeout);
                print_error(&format!("not settled within {time:?} at {names}; see `tagway event`"));
                return Err(CommandError::Reported);
            }
        }
        following.held.iter().for_each(|advice| print_error(advice));
        if following.has_died { Err(CommandError::Reported) } else { Ok(()) }
    })
}

/// The progress of one event.
#[derive(Debug, Default)]
pub(super) struct EventFollower {
    pub(super) seq: u64,
    /// The destinations that have neither settled nor held it.
    pub(super) waiting: BTreeSet<String>,
    /// The reasons that destinations hold it, with advice.
    pub(super) held: BTreeSet<String>,
    /// True if it ended as dead at a destination.
    pub(super) has_died: bool,
}

impl EventFollower {
    /// Records a happening. Returns true if it is about this event.
    pub(super) fn note(&mut self, happening: &Value) -> bool {
        let seqs = happening.get("seqs").and_then(Value::as_array).into_iter().flatten();
        let is_own = happening.get("seq").into_iter().chain(seqs).any(|seq| *seq == self.seq);
        if is_own && happening.get("what").is_some_and(|what| what == "settled") {
            let outcome = happening.get("outcome").and_then(Value::as_str).unwrap_or_default();
            if outcome != "retry" {
                self.has_died |= outcome == "dead";
                let name = happening.get("destination").and_then(Value::as_str).unwrap_or_default();
                self.waiting.remove(name);
            }
        }
        if is_own && happening.get("what").is_some_and(|what| what == "held") {
            let name = happening.get("destination").and_then(Value::as_str).unwrap_or_default();
            self.waiting.remove(name);
            self.held.insert(advice(happening));
        }
        is_own
    }
}

/// The state of a held event, and the option that sends one which is not held.
fn advice(happening: &Value) -> String {
    let needs = happening.get("needs").and_then(Value::as_array).into_iter().flatten();
    let needs: Vec<&str> = needs.filter_map(Value::as_str).collect();
    let option = match happening.get("awaits").and_then(Value::as_str) {
        Some("identity") => "--user ID".to_owned(),
        _ => format!("--consent {}", needs.join(",")),
    };
    let held = render::held_until(happening);
    format!("{held}; send one that does not wait with {option}")
}

/// A destination's name, with the state that prevents its deliveries.
fn with_state(ledger: &Value, site: &str, name: &str) -> String {
    let rows = ledger.as_array().into_iter().flatten();
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut own = rows.filter(|row| {
        text(row, "site").as_deref() == Some(site)
            && text(row, "destination").as_deref() == Some(name)
    });
    let row = own.next().cloned().unwrap_or_default();
    let state = text(&row, "state").filter(|state| state != "running");
    let reason = text(&row, "reason").map(|reason| format!(": {reason}")).unwrap_or_default();
    state.map_or_else(|| name.to_owned(), |state| format!("{name} ({state}{reason})"))
}

async fn follow(
    lines: &mut JsonLineStream,
    following: &mut EventFollower,
    colour: bool,
) -> Result<(), CommandError> {
    while !following.waiting.is_empty() {
        let Some(happening) = lines.next().await? else {
            return Err(CommandError::Other(anyhow::anyhow!("the gateway is stopping")));
        };
        if following.note(&happening) {
            print(&render::render(&happening, colour))?;
        }
    }
    Ok(())
}

fn message(options: &SendEventArgs) -> Result<Value, CommandError> {
    let mut event = match &options.event {
        Some(file) => read(file)?,
        None => sample(),
    };
    let Some(fields) = event.as_object_mut() else {
        return Err(CommandError::Usage("the event must be a JSON object".to_owned()));
    };
    if let Some(name) = &options.name {
        fields.insert("event".to_owned(), json!(name));
    }
    if let Some(user) = &options.user {
        fields.insert("userId".to_owned(), json!(user));
    }
    if !options.consent.is_empty() {
        let chosen = options.consent.iter().map(|word| match word.trim().strip_prefix('!') {
            Some(refused) => (refused.to_owned(), json!(false)),
            None => (word.trim().to_owned(), json!(true)),
        });
        let chosen: serde_json::Map<String, Value> = chosen.collect();
        let context = fields.entry("context").or_insert_with(|| json!({}));
        let Some(context) = context.as_object_mut() else {
            return Err(CommandError::Usage(
                "the event's context must be a JSON object".to_owned(),
            ));
        };
        context.insert("consent".to_owned(), json!({ "categoryPreferences": chosen }));
    }
    Ok(event)
}

fn read(file: &std::path::Path) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(EVENT_BYTES).read_to_end(&mut bytes).context("stdin")?;
    } else {
        let name = || file.display().to_string();
        let file = std::fs::File::open(file).with_context(name)?;
        file.take(EVENT_BYTES).read_to_end(&mut bytes).with_context(name)?;
    }
    digits::parse(strip_bom(&bytes)?).context("the event is not JSON")
}

/// A sample order.
fn sample() -> Value {
    json!({
        "type": "track",
        "event": "Order Completed",
        "anonymousId": "tagway-send",
        "properties": {
            "order_id": "test-1",
            "total": 45.5,
            "currency": "EUR",
            "products": [
                { "product_id": "p-1", "name": "Mug", "price": 12.5, "quantity": 1 },
                { "product_id": "p-2", "name": "Tea", "price": 16.5, "quantity": 2 },
            ],
        },
    })
}

fn choose_site(sites: &Value, named: Option<&str>) -> Result<String, CommandError> {
    let sites: Vec<&str> =
        sites.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match (named, sites.as_slice()) {
        (Some(named), _) => Ok(named.to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let names = sites.join(", ");
            Err(CommandError::Usage(format!(
                "the gateway has several sites: name one with --site: {names}"
            )))
        }
    }
}

fn destinations(ledger: &Value, site: &str) -> BTreeSet<String> {
    let rows = ledger.as_array().into_iter().flatten();
    let own = rows.filter(|row| row.get("site").is_some_and(|at| at == site));
    own.filter_map(|row| Some(row.get("destination")?.as_str()?.to_owned())).collect()
}

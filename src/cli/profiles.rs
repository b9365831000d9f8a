//! `tagway profiles`: what is known of a person, and what is known elsewhere and brought in.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{AdminClient, SiteResponse};
use super::import_rows::{ImportColumn, ImportFormat, ImportRow, ImportRowReader, column};
use super::subject::find_site;
use super::{AdminArgs, CommandError, block_on, dead, load, number_of, print, print_error, render};
use crate::config::{ConfigSource, SiteSettings};

/// Messages of one request, and their bytes: well below what the gateway takes by default.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 256 << 10;

/// The bytes around the messages of a request.
const ENVELOPE_BYTES: usize = 128;

/// How often a request is tried again that the gateway has no room for, and how long one of these waits
/// lasts at most.
const TRIES: u32 = 60;
const MAX_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(super) enum ProfilesCommand {
    /// Show what is known of a person.
    Get(ProfileGetArgs),
    /// Bring in what is known of people elsewhere, from a CSV or NDJSON file.
    Import(ProfileImportArgs),
}

#[derive(Args, Debug)]
pub(super) struct ProfileGetArgs {
    /// A user id, an anonymous or cookie id, or an e-mail address.
    id: String,
    /// The site; needed if there are several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    reach: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct ProfileImportArgs {
    /// The file. Of CSV the first line names the columns.
    file: PathBuf,
    /// The site; needed if there are several. It must have a server_token.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// What the file is; by default as its name ends.
    #[arg(long, value_enum)]
    format: Option<ImportFormat>,
    /// Where a column goes: user_id, anonymous_id, timestamp, traits.NAME, or - for nowhere; with :number or
    /// :boolean behind it, converted. Columns without one are what their names say, or traits.
    #[arg(long = "map", value_name = "COLUMN=TARGET", value_parser = column)]
    columns: Vec<ImportColumn>,
    /// The longest row that is held, in bytes; a longer one is rejected. The gateway takes messages of
    /// limits.event_bytes, 32 KiB by default, but columns may go nowhere.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    row_bytes: usize,
    /// Send the people to the site's destinations as well, an identify for each. Without it they fill the
    /// profiles and nothing else.
    #[arg(long)]
    deliver: bool,
    /// Where rows go that cannot be taken, each with the reason; by default FILE.rejects.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Where it is noted how far the import has come; by default FILE.import. An import that was
    /// interrupted goes on there.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The gateway; by default the configuration's listen.http.
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
}

pub(super) fn run(origin: &ConfigSource, command: ProfilesCommand) -> Result<(), CommandError> {
    match command {
        ProfilesCommand::Get(options) => get(origin, &options),
        ProfilesCommand::Import(options) => import(origin, options),
    }
}

fn get(origin: &ConfigSource, options: &ProfileGetArgs) -> Result<(), CommandError> {
    let client = AdminClient::new(origin, &options.reach)?;
    block_on(async {
        let site = find_site(&client, options.site.as_deref()).await?;
        let asked = json!({ "site": site, "id": options.id });
        let answer = client.post("/api/v1/profiles", &asked).await?;
        let profiles = answer.get("profiles").and_then(Value::as_array);
        let profiles = profiles.map(Vec::as_slice).unwrap_or_default();
        if profiles.is_empty() {
            print_error("nobody is known by this name");
            return Err(CommandError::Said);
        }
        profiles.iter().try_for_each(|profile| print(&dead::pretty(profile)))
    })
}

/// How far an import has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ImportProgress {
    /// Rows of the file that are done with.
    rows: u64,
    taken: u64,
    rejected: u64,
}

fn import(origin: &ConfigSource, options: ProfileImportArgs) -> Result<(), CommandError> {
    let settings = load(origin)?;
    let site = match (options.site.as_deref(), settings.sites.as_slice()) {
        (None, [only]) => only,
        (None, _) => return Err(CommandError::Usage("say which site with --site".to_owned())),
        (Some(name), sites) => {
            let found = sites.iter().find(|site| &*site.name == name);
            found.ok_or_else(|| CommandError::Usage("there is no such site".to_owned()))?
        }
    };
    let address = match (&options.to, settings.edge.http) {
        (Some(address), _) => address.clone(),
        (None, Some(address)) if address.port() != 0 => address.to_string(),
        (None, _) => {
            let message =
                "the configuration has no listen.http: say where the gateway is with --to";
            return Err(CommandError::Usage(message.to_owned()));
        }
    };
    let client = client(site, &address)?;
    let beside = |given: Option<PathBuf>, ending: &str| {
        given.unwrap_or_else(|| {
            let mut name = options.file.clone().into_os_string();
            name.push(ending);
            name.into()
        })
    };
    let most = settings.limits.batch_events.min(BATCH_MESSAGES);
    let (state, rejects) = (beside(options.state, ".import"), beside(options.rejects, ".rejects"));
    let rows =
        ImportRowReader::open(&options.file, options.format, options.columns, options.row_bytes)?;
    let mut importing = ProfileImport {
        rows,
        client,
        delivers: options.deliver,
        most,
        body_bytes: settings.limits.body_bytes,
        done: read_state(&state)?,
        state,
        rejects_path: rejects,
        rejects: None,
    };
    block_on(async { Ok(importing.run().await?) })
}

fn client(site: &SiteSettings, address: &str) -> Result<AdminClient, CommandError> {
    let Some(token) = &site.gateway.server_token else {
        let message = format!("the site {} has no server_token to bring people in with", site.name);
        return Err(CommandError::Usage(message));
    };
    let host = site.gateway.hosts.iter().find(|host| *host != "*");
    Ok(AdminClient::of_site(address.to_owned(), host.cloned(), token.clone()))
}

fn read_state(path: &Path) -> anyhow::Result<ImportProgress> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!("{} does not say how far an import has come; remove it", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ImportProgress::default()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// An import on its way.
struct ProfileImport {
    rows: ImportRowReader,
    client: AdminClient,
    /// True if destinations get the messages, and not the profiles alone.
    delivers: bool,
    /// Messages of one request at most.
    most: usize,
    /// The longest request that the gateway takes.
    body_bytes: usize,
    done: ImportProgress,
    state: PathBuf,
    rejects_path: PathBuf,
    rejects: Option<File>,
}

impl ProfileImport {
    async fn run(&mut self) -> anyhow::Result<()> {
        let from = self.done.rows;
        if from > 0 {
            print_error(&format!("going on behind row {from}, as {} says", self.state.display()));
        }
        let (mut batch, mut bytes): (Vec<ImportRow>, usize) = (Vec::new(), 0);
        while let Some(row) = self.rows.next()? {
            if row.number <= from {
                continue;
            }
            let mut row = self.fit(row);
            if let (false, Ok(message)) = (self.delivers, &mut row.message) {
                // The spec's switch for all destinations.
                message["integrations"] = json!({ "All": false });
            }
            // A row that is rejected is held as well until then.
            bytes += row.message.as_ref().map_or(0, |it| it.to_string().len()).max(row.bytes);
            batch.push(row);
            if batch.len() >= self.most || bytes >= BATCH_BYTES {
                self.send(std::mem::take(&mut batch)).await?;
                bytes = 0;
                self.show();
            }
        }
        if !batch.is_empty() {
            self.send(batch).await?;
        }
        self.show();
        let ImportProgress { rows, taken, rejected } = self.done;
        let rejects = match rejected {
            0 => String::new(),
            _ => format!(", see {}", self.rejects_path.display()),
        };
        let all = number_of(rows, "row", "rows");
        let told = match self.delivers {
            true => "",
            false => "; no destination gets them: --deliver sends them",
        };
        print_error(&format!("{all}: {taken} taken, {rejected} rejected{rejects}{told}"));
        // What is done needs not be gone on with.
        match std::fs::remove_file(&self.state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("the note of how far the import has come is left behind")
            }
            _ => Ok(()),
        }
    }

    /// A row whose message is longer than any request may be is rejected here: the gateway would cut its
    /// connection while the row is sent.
    fn fit(&self, row: ImportRow) -> ImportRow {
        let length = row.message.as_ref().map_or(0, |message| message.to_string().len());
        if length + ENVELOPE_BYTES <= self.body_bytes {
            return row;
        }
        let message = Err(format!("has {length} bytes, more than limits.body_bytes"));
        ImportRow { found: Value::Null, message, ..row }
    }

    /// Sends some rows, and notes what became of them once the gateway has them on disk.
    async fn send(&mut self, rows: Vec<ImportRow>) -> anyhow::Result<()> {
        let messages: Vec<&Value> =
            rows.iter().filter_map(|row| row.message.as_ref().ok()).collect();
        let refused =
            if messages.is_empty() { Vec::new() } else { self.deliver(&messages).await? };
        let mut places = 0..;
        for row in &rows {
            let reason = match &row.message {
                Err(reason) => Some(reason.clone()),
                Ok(_) => {
                    let place = places.next();
                    let mut refused = refused.iter();
                    refused.find(|(at, _)| Some(*at) == place).map(|(_, reason)| reason.clone())
                }
            };
            match reason {
                None => self.done.taken += 1,
                Some(reason) => {
                    self.done.rejected += 1;
                    self.reject(row, &reason)?;
                }
            }
            self.done.rows = row.number;
        }
        if let Some(rejects) = &mut self.rejects {
            rejects.sync_data().context("rejected rows cannot be kept")?;
        }
        self.note()
    }

    /// Until the gateway has the messages on disk. Returns which of them it refuses, and why. Of some
    /// that are refused together, each half is sent alone, so that one stands for none of the others.
    async fn deliver(&self, messages: &[&Value]) -> anyhow::Result<Vec<(usize, String)>> {
        let (mut refused, mut parts) = (Vec::new(), vec![(0, messages.len())]);
        while let Some((start, end)) = parts.pop() {
            let some = messages.get(start..end).unwrap_or_default();
            match self.deliver_once(&json!({ "batch": some })).await? {
                Ok(places) => {
                    refused.extend(places.into_iter().map(|(at, why)| (start + at, why)));
                }
                Err(why) if some.len() <= 1 => refused.push((start, why)),
                Err(_) => {
                    let middle = start + some.len() / 2;
                    parts.extend([(middle, end), (start, middle)]);
                }
            }
        }
        Ok(refused)
    }

    /// The same of one request; `Err` inside: it was refused as a whole, for what it says.
    async fn deliver_once(
        &self,
        body: &Value,
    ) -> anyhow::Result<Result<Vec<(usize, String)>, String>> {
        for _ in 0..TRIES {
            let SiteResponse { status, wait, body } =
                self.client.post_unchecked("/v1/batch", body).await?;
            let has_list = body.get("rejected").is_some();
            if status.is_success() || (status == hyper::StatusCode::BAD_REQUEST && has_list) {
                let refused = body.get("rejected").and_then(Value::as_array);
                let refusal = |refused: &Value| {
                    let at = refused.get("index")?.as_u64().and_then(|at| at.try_into().ok())?;
                    let reason = refused.get("reason").and_then(Value::as_str);
                    Some((at, reason.unwrap_or("invalid").to_owned()))
                };
                return Ok(Ok(refused.into_iter().flatten().filter_map(refusal).collect()));
            }
            let detail = body.get("detail").and_then(Value::as_str).unwrap_or_default();
            let detail = render::escape(detail, 500);
            let is_of_the_body = matches!(
                status,
                hyper::StatusCode::BAD_REQUEST
                    | hyper::StatusCode::PAYLOAD_TOO_LARGE
                    | hyper::StatusCode::UNPROCESSABLE_ENTITY
            );
            if is_of_the_body {
                return Ok(Err(format!("refused ({}): {detail}", status.as_u16())));
            }
            let is_busy = status == hyper::StatusCode::TOO_MANY_REQUESTS
                || status == hyper::StatusCode::SERVICE_UNAVAILABLE;
            if !is_busy {
                bail!("the gateway refused ({}): {detail}", status.as_u16());
            }
            tokio::time::sleep(wait.clamp(Duration::from_millis(100), MAX_WAIT)).await;
        }
        bail!("the gateway has no room; go on later with the same command")
    }

    fn reject(&mut self, row: &ImportRow, reason: &str) -> anyhow::Result<()> {
        let refused = || format!("{} cannot be written", self.rejects_path.display());
        if self.rejects.is_none() {
            let mut options = OpenOptions::new();
            options.create(true);
            // What was rejected before the interruption stays.
            let is_first = self.done.rejected <= 1;
            options.append(!is_first).write(true).truncate(is_first);
            self.rejects = Some(options.open(&self.rejects_path).with_context(refused)?);
        }
        let line = json!({ "row": row.number, "reason": reason, "found": row.found });
        match &mut self.rejects {
            Some(rejects) => writeln!(rejects, "{line}").with_context(refused),
            None => Ok(()),
        }
    }

    /// Notes how far it has come: all of the note, or the one before.
    fn note(&self) -> anyhow::Result<()> {
        let mut next = self.state.clone().into_os_string();
        next.push(".next");
        let text = serde_json::to_vec(&self.done).context("the note cannot be written")?;
        let written =
            std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, &self.state));
        written.with_context(|| format!("{} cannot be written", self.state.display()))
    }

    fn show(&mut self) {
        let mut out = std::io::stderr().lock();
        if out.is_terminal() {
            let share = self.rows.progress();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 30")]
            let filled = (share * 30.0) as usize;
            let (bar, rest) = ("#".repeat(filled), "-".repeat(30_usize.saturating_sub(filled)));
            let end = if share >= 1.0 { "\n" } else { "" };
            let rows = self.done.rows;
            // Nobody can be told that stderr is gone.
            drop(write!(out, "\r[{bar}{rest}] {:3.0} % {rows} rows{end}", share * 100.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_goes_on_where_its_note_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv.import");
        assert_eq!(read_state(&path).unwrap(), ImportProgress::default());
        std::fs::write(&path, r#"{"rows":500,"taken":499,"rejected":1}"#).unwrap();
        assert_eq!(
            read_state(&path).unwrap(),
            ImportProgress { rows: 500, taken: 499, rejected: 1 }
        );
        std::fs::write(&path, "garbage").unwrap();
        assert!(read_state(&path).is_err(), "it is not begun anew by mistake");
    }
}

//! `tagway profiles`: shows a person's profile, and imports profiles from a file.

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

/// The most messages of one request, and their bytes: well below the gateway's default limits.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 256 << 10;

/// The bytes of a request around its messages.
const ENVELOPE_BYTES: usize = 128;

/// The attempts to send a request that the gateway has no room for, and the longest wait between two of
/// them.
const TRIES: u32 = 60;
const MAX_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(super) enum ProfilesCommand {
    /// Show a person's profile.
    Get(ProfileGetArgs),
    /// Import profiles from a CSV or NDJSON file.
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
    /// The file. The first line of a CSV file names the columns.
    file: PathBuf,
    /// The site; needed if there are several. It must have a server_token.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// The file's format. Default: by the ending of its name.
    #[arg(long, value_enum)]
    format: Option<ImportFormat>,
    /// A column's target: user_id, anonymous_id, timestamp, traits.NAME, or - to ignore it. An added :number or
    /// :boolean converts the values. A column without --map has the target of its name, or is a trait.
    #[arg(long = "map", value_name = "COLUMN=TARGET", value_parser = column)]
    columns: Vec<ImportColumn>,
    /// The longest row in bytes; longer rows are rejected. The gateway accepts messages of at most
    /// limits.event_bytes, 32 KiB by default; ignored columns do not count there.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    row_bytes: usize,
    /// Send an identify for each person to the site's destinations as well. Without this option the import
    /// fills the profiles only.
    #[arg(long)]
    deliver: bool,
    /// The file for rejected rows with their reasons. Default: FILE.rejects.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// The file with the import's progress. Default: FILE.import. An interrupted import resumes there.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The gateway's address. Default: the configuration's listen.http.
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
            print_error("nobody is known by this name: no profile has this id");
            return Err(CommandError::Reported);
        }
        profiles.iter().try_for_each(|profile| print(&dead::pretty(profile)))
    })
}

/// The progress of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ImportProgress {
    /// Processed rows of the file.
    rows: u64,
    taken: u64,
    rejected: u64,
}

fn import(origin: &ConfigSource, options: ProfileImportArgs) -> Result<(), CommandError> {
    let settings = load(origin)?;
    let site = match (options.site.as_deref(), settings.sites.as_slice()) {
        (None, [only]) => only,
        (None, _) => {
            return Err(CommandError::Usage(
                "there are several sites: name one with --site".to_owned(),
            ));
        }
        (Some(name), sites) => {
            let found = sites.iter().find(|site| &*site.name == name);
            found.ok_or_else(|| {
                CommandError::Usage("the configuration has no site with this name".to_owned())
            })?
        }
    };
    let address = match (&options.to, settings.edge.http) {
        (Some(address), _) => address.clone(),
        (None, Some(address)) if address.port() != 0 => address.to_string(),
        (None, _) => {
            let message =
                "the configuration has no listen.http: name the gateway's address with --to";
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
        let message = format!("the site {} has no server_token, which an import needs", site.name);
        return Err(CommandError::Usage(message));
    };
    let host = site.gateway.hosts.iter().find(|host| *host != "*");
    AdminClient::of_site(address, host.cloned(), token.clone())
}

fn read_state(path: &Path) -> anyhow::Result<ImportProgress> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!("{} is not the progress of an import: remove it to start again", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ImportProgress::default()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// An import under way.
struct ProfileImport {
    rows: ImportRowReader,
    client: AdminClient,
    /// True if destinations get the messages too; otherwise the import only fills the profiles.
    delivers: bool,
    /// The most messages of one request.
    most: usize,
    /// The longest request that the gateway accepts, in bytes.
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
            print_error(&format!(
                "resuming after row {from}, recorded in {}",
                self.state.display()
            ));
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
            // The row itself stays in memory too, in case it is rejected.
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
            false => "; not sent to destinations: use --deliver to send them",
        };
        print_error(&format!("{all}: {taken} accepted, {rejected} rejected{rejects}{told}"));
        // A finished import needs no progress file.
        match std::fs::remove_file(&self.state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("the file with the import's progress cannot be removed")
            }
            _ => Ok(()),
        }
    }

    /// Rejects a row whose message is longer than a request may be: the gateway would cut the connection
    /// while the row is sent.
    fn fit(&self, row: ImportRow) -> ImportRow {
        let length = row.message.as_ref().map_or(0, |message| message.to_string().len());
        if length + ENVELOPE_BYTES <= self.body_bytes {
            return row;
        }
        let message = Err(format!("has {length} bytes, more than limits.body_bytes"));
        ImportRow { found: Value::Null, message, ..row }
    }

    /// Sends some rows, and records their results once the gateway has them on disk.
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
            rejects.sync_data().context("the file of rejected rows cannot be written")?;
        }
        self.note()
    }

    /// Returns once the gateway has the messages on disk, with the rejected ones and the reasons. If several
    /// are rejected together, each half is sent alone, so that one bad message rejects no other.
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

    /// Sends one request; an inner `Err` means that it was rejected as a whole for its content.
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
        bail!("the gateway is busy: resume later with the same command")
    }

    fn reject(&mut self, row: &ImportRow, reason: &str) -> anyhow::Result<()> {
        let refused = || format!("{} cannot be written", self.rejects_path.display());
        if self.rejects.is_none() {
            let mut options = OpenOptions::new();
            options.create(true);
            // Rows rejected before the interruption stay.
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

    /// Writes the progress file atomically.
    fn note(&self) -> anyhow::Result<()> {
        let mut next = self.state.clone().into_os_string();
        next.push(".next");
        let text =
            serde_json::to_vec(&self.done).context("the import's progress cannot be encoded")?;
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
            // A failed write cannot be reported: stderr is the only output.
            drop(write!(out, "\r[{bar}{rest}] {:3.0} % {rows} rows{end}", share * 100.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_state_returns_the_recorded_progress() {
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

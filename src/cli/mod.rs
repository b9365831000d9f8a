//! The command line: parsing, dispatch and the exit code.
//!
//! 0 is success, 1 a failure, 2 wrong usage or an invalid configuration.

mod admin_url;
mod alerts;
#[cfg(feature = "audit")]
mod audit;
mod check;
mod check_page;
mod client;
mod console;
mod csv_records;
mod dead;
#[cfg(feature = "simulator")]
mod demo;
mod destinations;
mod dry_run;
mod event;
mod exchange_error;
mod import_rows;
mod preview;
mod profiles;
mod reference;
pub mod render;
mod replay;
mod scripts;
mod segments;
mod send;
mod serve;
mod server_certificate;
mod subject;
mod tail;
#[cfg(test)]
mod tests;
mod version;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{AdminEndpoint, ConfigSource, TagwaySettings};
use tagway_settings::{ConfigError, SecretRedactor, SecretString};

/// The longest line of an error in characters: it may quote a vendor or a file.
const LINE_CHARS: usize = 2000;

/// Tagway, a first-party tag gateway.
#[derive(Debug, Parser)]
#[command(name = "tagway", version, about, arg_required_else_help = true)]
struct CliArguments {
    /// The configuration file. Default: the file that TAGWAY_CONFIG names, else tagway.toml or config/tagway.toml
    /// in the current folder, else the embedded default.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the gateway.
    Serve,
    /// Check the configuration and show what it would run.
    Check,
    /// Fetch a page from a site's own server, and show whether it gets the snippet and, if not, why.
    CheckPage(check_page::CheckPageArgs),
    /// Run a gateway, a demo shop and simulated vendors, and show every event.
    #[cfg(feature = "simulator")]
    Demo(demo::DemoArgs),
    /// Show the events of a running gateway live, with the calls and their outcomes.
    Tail(tail::TailFeedArgs),
    /// Send one test event and follow it until every destination has settled it.
    Send(send::SendEventArgs),
    /// List, show, retry or drop dead letters.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Show one event and its outcome at each destination.
    Event(event::CliEventArgs),
    /// List destinations with their state; pause and resume them.
    #[command(subcommand)]
    Destinations(destinations::DestinationsCommand),
    /// List alerts and their rules, and test the channels of notifications.
    Alerts(alerts::AlertsArgs),
    /// List vendors' scripts, and approve new versions of pinned scripts.
    #[command(subcommand)]
    Scripts(scripts::ScriptsCommand),
    /// Send the journal's events of a time window to a destination again.
    Replay(replay::ReplayArgs),
    /// Print a link that makes one browser run a site's draft integrations.
    Preview(preview::PreviewArgs),
    /// Erase a person's data and accept no more events of the person.
    Forget(subject::ForgetSubjectArgs),
    /// Print all stored data of a person, as lines of JSON.
    Export(subject::ExportSubjectArgs),
    /// Show a person's profile, or import profiles from a file.
    #[command(subcommand)]
    Profiles(profiles::ProfilesCommand),
    /// Log in to the console, and check its audit log.
    #[command(subcommand)]
    Console(console::ConsoleCommand),
    /// Check, preview, run and list segments, and export their members.
    #[command(subcommand)]
    Segments(segments::SegmentsCommand),
    /// Measure the cost of a page's tags in a browser, and draft a configuration that replaces them.
    #[cfg(feature = "audit")]
    Audit(audit::AuditArgs),
    /// Print the reference of settings, metrics, reasons and commands, as Markdown.
    Reference(reference::ReferenceArgs),
    /// Print the JSON Schema of a configuration file, for editors.
    Schema,
    /// Print the version.
    Version,
}

impl CliCommand {
    /// Returns true if the command first prints which configuration is used. `serve` logs it instead.
    fn announces_configuration(&self) -> bool {
        match self {
            Self::Serve | Self::Reference(_) | Self::Schema | Self::Version => false,
            #[cfg(feature = "simulator")]
            Self::Demo(_) => false,
            #[cfg(feature = "audit")]
            Self::Audit(_) => false,
            Self::Segments(command) => command.reads_configuration(),
            _ => true,
        }
    }
}

/// The address and token of a running gateway.
#[derive(Args, Clone, Debug, Default)]
struct AdminArgs {
    /// The admin listener of the running gateway, such as ops.example:9443, or the URL of a proxy. Default:
    /// the configuration's listen.admin. A host name must be one of the gateway's admin.names. HOST:PORT alone means
    /// https, on this machine http.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The file of the private authority that signed the gateway's certificate, or of the certificate itself.
    /// Default: the authorities of the system.
    #[arg(long, value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// The gateway's token, or an API token. Default: the variable TAGWAY_ADMIN_TOKEN, else data_dir/admin.token.
    /// Other users of this machine can see an option, but not a variable.
    #[arg(long, value_name = "TOKEN", value_parser = secret)]
    token: Option<SecretString>,
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::new(text))
}

/// The failure of a command.
#[derive(Debug)]
enum CommandError {
    /// The configuration has these mistakes.
    Config(Vec<ConfigError>),
    /// The command was used in an invalid way.
    Usage(String),
    /// Anything else.
    Other(anyhow::Error),
    /// The error has been printed already.
    Reported,
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs the command that the arguments name, and returns the process's exit code. `redaction` records the
/// secrets of the configuration.
pub fn run(arguments: impl IntoIterator<Item = OsString>, redaction: SecretRedactor) -> ExitCode {
    let arguments = match CliArguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way as well, and are no failures. A failed write cannot be reported:
            // there is no other output.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let ended = dispatch(arguments, redaction.clone());
    let shown = |message: &str| redaction.redact(message).into_owned();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Config(mistakes)) => {
            for mistake in mistakes {
                // As FILE:LINE at the line's start, where editors look for it.
                print_error_as("", &shown(&mistake.to_string()));
            }
            ExitCode::from(2)
        }
        Err(CommandError::Usage(message)) => {
            print_error(&shown(&message));
            ExitCode::from(2)
        }
        Err(CommandError::Other(error)) => {
            print_error(&shown(&format!("{error:#}")));
            ExitCode::FAILURE
        }
        Err(CommandError::Reported) => ExitCode::FAILURE,
    }
}

/// Writes panics to stderr like the standard library, without the secrets known at that time.
pub fn hook_panics(redaction: SecretRedactor) {
    std::panic::set_hook(Box::new(move |panic| {
        let trace = Backtrace::capture();
        let trace = match trace.status() {
            BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        let text = panic_text(&redaction, &format!("{panic}{trace}"));
        // A failed write cannot be reported: stderr is the only output.
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }));
}

fn panic_text(redaction: &SecretRedactor, panic: &str) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let text = format!("\nthread '{name}' {panic}\n");
    render::guarded(&redaction.redact(&text)).into_owned()
}

fn dispatch(arguments: CliArguments, redaction: SecretRedactor) -> Result<(), CommandError> {
    // A variable that is not UTF-8 cannot be in a TOML string either.
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let origin =
        ConfigSource { redaction, ..ConfigSource::new(arguments.config, Path::new(""), variables) };
    if arguments.command.announces_configuration() {
        announce(&origin);
    }
    match arguments.command {
        CliCommand::Serve => serve::run(origin),
        CliCommand::Check => check::run(&origin),
        CliCommand::CheckPage(options) => check_page::run(&origin, options),
        #[cfg(feature = "simulator")]
        CliCommand::Demo(options) => demo::run(options, origin),
        CliCommand::Tail(options) => tail::run(&origin, options),
        CliCommand::Send(options) => send::run(&origin, options),
        CliCommand::Dead(command) => dead::run(&origin, command),
        CliCommand::Event(options) => event::run(&origin, options),
        CliCommand::Destinations(command) => destinations::run(&origin, command),
        CliCommand::Alerts(options) => alerts::run(&origin, options),
        CliCommand::Scripts(command) => scripts::run(&origin, command),
        CliCommand::Replay(options) => replay::run(&origin, options),
        CliCommand::Preview(options) => preview::run(&origin, options),
        CliCommand::Forget(options) => subject::forget(&origin, options),
        CliCommand::Export(options) => subject::export(&origin, options),
        CliCommand::Profiles(command) => profiles::run(&origin, command),
        CliCommand::Console(command) => console::run(&origin, command),
        CliCommand::Segments(command) => segments::run(&origin, command),
        #[cfg(feature = "audit")]
        CliCommand::Audit(options) => audit::run(&origin, options),
        CliCommand::Reference(args) => reference::run(&args),
        CliCommand::Schema => reference::print_schema(),
        CliCommand::Version => version::run(),
    }
}

/// Prints which configuration is used, unless the caller named one.
fn announce(origin: &ConfigSource) {
    if let Some(line) = origin.announcement() {
        print_error(&line);
    }
}

/// Returns true if output to this stream is coloured: on terminals, unless the user wants none
/// (no-color.org).
fn colours(origin: &ConfigSource, stream: &impl IsTerminal) -> bool {
    let wants_none = origin.variables.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    !wants_none && stream.is_terminal()
}

fn load(origin: &ConfigSource) -> Result<TagwaySettings, CommandError> {
    origin.load().map_err(CommandError::Config)
}

fn admin_endpoint(origin: &ConfigSource) -> Result<AdminEndpoint, CommandError> {
    origin.admin_endpoint().map_err(CommandError::Config)
}

/// Runs a client command's requests; this thread is enough for them.
fn block_on<T>(
    conversation: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Other(error.into()))?;
    runtime.block_on(conversation)
}

/// Prints to stdout. An error means that the output is closed (`tagway tail | head`).
fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(render::guarded(text).as_bytes())
        .and_then(|()| out.flush())
        .map_err(|_closed| CommandError::Reported)
}

/// A number with its noun: `1 person`, `2 people`.
fn number_of(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Prints to stderr, escaped: it may quote foreign text.
fn print_error(message: &str) {
    print_error_as("tagway: ", message);
}

fn print_error_as(prefix: &str, message: &str) {
    let lines = message.lines().map(|line| render::escape(line, LINE_CHARS));
    let text = lines.collect::<Vec<_>>().join("\n");
    // A failed write cannot be reported: stderr is the only output.
    drop(writeln!(std::io::stderr().lock(), "{prefix}{text}"));
}

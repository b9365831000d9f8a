//! The command line: what the words mean, and the exit code.
//!
//! 0 is success, 1 a failure, 2 wrong usage or an invalid configuration.

mod audit;
mod check;
mod client;
mod dead;
mod demo;
mod destinations;
mod event;
mod preview;
mod profiles;
mod records;
mod reference;
mod rehearsal;
pub mod render;
mod replay;
mod rows;
mod scripts;
mod segments;
mod send;
mod serve;
mod subject;
mod tail;
#[cfg(test)]
mod tests;
mod version;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Origin, Settings, Whereabouts};
use crate::settings::{Mistake, Redaction};

/// A complaint's lines are cut here: it may quote a vendor or a file.
const LINE_CHARS: usize = 2000;

/// Tagway, a first-party tag gateway.
#[derive(Debug, Parser)]
#[command(name = "tagway", version, about, arg_required_else_help = true)]
struct Arguments {
    /// The configuration file; by default config/tagway.toml if it is there, else the embedded one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve,
    /// Check the configuration and say what it would run.
    Check,
    /// Run a gateway, a demo shop and local vendors, and show every event.
    Demo(demo::Options),
    /// Show what happens to events in a running gateway, as it happens.
    Tail(tail::Options),
    /// Send one test event and follow it to the end.
    Send(send::Options),
    /// Look at dead letters, try them again, or drop them.
    #[command(subcommand)]
    Dead(dead::Command),
    /// Show one event, and what became of it at each destination.
    Event(event::Options),
    /// See how destinations are doing; pause and resume them.
    #[command(subcommand)]
    Destinations(destinations::Command),
    /// Look at the vendors' scripts, and approve new versions of those that are pinned.
    #[command(subcommand)]
    Scripts(scripts::Command),
    /// Send a window of the journal to a destination again.
    Replay(replay::Options),
    /// Print a link that lets one browser run the drafts among a site's integrations.
    Preview(preview::Options),
    /// Erase a person and take no more events of them.
    Forget(subject::Forget),
    /// Show all that is held of a person, as lines of JSON.
    Export(subject::Export),
    /// Look at what is known of people, or bring in what is known elsewhere.
    #[command(subcommand)]
    Profiles(profiles::Command),
    /// Look at segments: check a rule, see whom it selects, run one, export members.
    #[command(subcommand)]
    Segments(segments::Command),
    /// Measure in a browser what a page's tags cost, and draft a configuration that replaces them.
    Audit(audit::Options),
    /// Print the tables of all reasons and metrics, as Markdown.
    Reference,
    /// Print the version.
    Version,
}

/// How to reach a running gateway.
#[derive(Args, Clone, Debug, Default)]
struct Reach {
    /// The admin listener of the running gateway; by default the configuration's listen.admin.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
}

/// Why a command did not succeed.
#[derive(Debug)]
enum Failure {
    /// The configuration has these mistakes.
    Config(Vec<Mistake>),
    /// The command was used in a way that cannot work.
    Usage(String),
    /// Anything else.
    Other(anyhow::Error),
    /// It has been said already.
    Said,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs the command that the arguments name, and returns the process's exit code. `redaction` learns the
/// secrets of the configuration.
pub fn run(arguments: impl IntoIterator<Item = OsString>, redaction: Redaction) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way as well, and are no failures. Nobody can be told that
            // the terminal is gone.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let ended = dispatch(arguments, redaction.clone());
    let shown = |message: &str| redaction.redact(message).into_owned();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(mistakes)) => {
            for mistake in mistakes {
                // As FILE:LINE: at the line's start, where editors look for it.
                complain_as("", &shown(&mistake.to_string()));
            }
            ExitCode::from(2)
        }
        Err(Failure::Usage(message)) => {
            complain(&shown(&message));
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            complain(&shown(&format!("{error:#}")));
            ExitCode::FAILURE
        }
        Err(Failure::Said) => ExitCode::FAILURE,
    }
}

/// Writes panics to stderr as the standard library does, without the secrets that are known then.
pub fn hook_panics(redaction: Redaction) {
    std::panic::set_hook(Box::new(move |panic| {
        let trace = Backtrace::capture();
        let trace = match trace.status() {
            BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        let text = panic_text(&redaction, &format!("{panic}{trace}"));
        // Nobody can be told that stderr is gone.
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }));
}

fn panic_text(redaction: &Redaction, panic: &str) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let text = format!("\nthread '{name}' {panic}\n");
    render::guarded(&redaction.redact(&text)).into_owned()
}

fn dispatch(arguments: Arguments, redaction: Redaction) -> Result<(), Failure> {
    // A variable that is not UTF-8 cannot stand in a TOML string either.
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let variable = |name: &str| variables.get(name).cloned();
    let (chromium, path) = (variable("CHROMIUM"), variable("PATH"));
    let origin = Origin { redaction, ..Origin::new(arguments.config, Path::new(""), variables) };
    match arguments.command {
        Command::Serve => serve::run(origin),
        Command::Check => check::run(&origin),
        Command::Demo(options) => demo::run(options, origin.redaction),
        Command::Tail(options) => tail::run(&origin, options),
        Command::Send(options) => send::run(&origin, options),
        Command::Dead(command) => dead::run(&origin, command),
        Command::Event(options) => event::run(&origin, options),
        Command::Destinations(command) => destinations::run(&origin, command),
        Command::Scripts(command) => scripts::run(&origin, command),
        Command::Replay(options) => replay::run(&origin, options),
        Command::Preview(options) => preview::run(&origin, options),
        Command::Forget(options) => subject::forget(&origin, options),
        Command::Export(options) => subject::export(&origin, options),
        Command::Profiles(command) => profiles::run(&origin, command),
        Command::Segments(command) => segments::run(&origin, command),
        Command::Audit(options) => audit::run(options, chromium.as_deref(), path.as_deref()),
        Command::Reference => reference::run(),
        Command::Version => version::run(),
    }
}

fn load(origin: &Origin) -> Result<Settings, Failure> {
    origin.load().map_err(Failure::Config)
}

fn whereabouts(origin: &Origin) -> Result<Whereabouts, Failure> {
    origin.whereabouts().map_err(Failure::Config)
}

/// Runs a client command's conversation; it needs no more than this thread.
fn block_on<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    runtime.block_on(conversation)
}

/// Prints to stdout. An error means that nobody reads any more (`tagway tail | head`).
fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(render::guarded(text).as_bytes())
        .and_then(|()| out.flush())
        .map_err(|_closed| Failure::Said)
}

/// Prints to stderr, escaped: it may quote what came from elsewhere.
fn complain(message: &str) {
    complain_as("tagway: ", message);
}

fn complain_as(prefix: &str, message: &str) {
    let lines = message.lines().map(|line| render::escape(line, LINE_CHARS));
    let text = lines.collect::<Vec<_>>().join("\n");
    // Nobody can be told that stderr is gone.
    drop(writeln!(std::io::stderr().lock(), "{prefix}{text}"));
}

//! `tagway serve`: runs the gateway.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CommandError, announce, colours, load, print};
use crate::app::{ListenAddresses, TagwayApp};
use crate::config::{ConfigSource, ConfigWatcher};
use crate::log;

pub(super) fn run(origin: ConfigSource) -> Result<(), CommandError> {
    block_on_all_cores(serve(origin))
}

/// File descriptors of other uses than clients' connections: the database, egress, listeners.
const OTHER_DESCRIPTORS: u64 = 512;

/// Raises this process's soft limit of open files to the hard limit, since shells start programs with a
/// low one, and warns if it is still too low for the connections that the settings allow.
fn make_room_for(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_DESCRIPTORS);
    let limit = getrlimit(Resource::Nofile);
    // Without a hard limit, the system's own maximum is unknown.
    let allowed = limit.maximum.unwrap_or(wanted);
    let current = limit.current.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
    if current < allowed && setrlimit(Resource::Nofile, raised).is_ok() {
        tracing::debug!(from = current, to = allowed, "open files");
    }
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if open_files < wanted {
        let fitting = open_files.saturating_sub(OTHER_DESCRIPTORS);
        tracing::warn!(
            open_files,
            wanted,
            "limits.connections does not fit this process's limit of open files: raise the hard limit \
             (LimitNOFILE={wanted} in a systemd unit, --ulimit nofile={wanted} for a container), or set \
             limits.connections to {fitting}"
        );
    }
}

/// Runs a future on a runtime that uses every core.
pub(super) fn block_on_all_cores(
    future: impl Future<Output = Result<(), CommandError>>,
) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Other(error.into()))?;
    runtime.block_on(future)
}

/// Runs the gateway until a stop signal.
async fn serve(origin: ConfigSource) -> Result<(), CommandError> {
    // Before anything else, so that no signal and no change of the file is missed.
    let stop = stop_signal().map_err(CommandError::Other)?;
    let watch = ConfigWatcher::new(origin.file.clone()).await.context("SIGHUP")?;
    let settings = load(&origin).inspect_err(|_mistakes| announce(&origin))?;
    let colour = colours(&origin, &std::io::stderr());
    log::init(&settings.log, settings.redaction.clone(), colour)
        .map_err(|error| CommandError::Other(error.into()))?;
    match (settings.log.format, origin.announcement()) {
        (log::LogFormat::Json, Some(line)) => tracing::info!("{line}"),
        _ => announce(&origin),
    }
    make_room_for(settings.edge.limits.connections);
    let app = TagwayApp::start(origin, settings).await?;
    print(&ready_line(app.addresses()))?;
    app.follow_changes(watch, &stop).await;
    tracing::info!("stopping");
    app.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Returns a token that SIGTERM or SIGINT cancels.
pub(super) fn stop_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    // The task ends with the process.
    let watch = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    };
    tokio_util::task::TaskTracker::new().spawn(watch);
    Ok(stop)
}

/// The line with the addresses that the gateway listens on.
fn ready_line(addresses: ListenAddresses) -> String {
    let ListenAddresses { http, https, admin } = addresses;
    format!("{}\n", json!({ "ready": { "http": http, "https": https, "admin": admin } }))
}

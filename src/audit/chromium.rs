//! A separate browser: found, started with a fresh profile, controlled over a pipe, and ended with all its
//! processes in every case.
//!
//! With `--remote-debugging-pipe` it reads commands from file descriptor 3 and writes answers and
//! events to 4, each a JSON text that ends with a NUL byte
//! (<https://chromium.googlesource.com/chromium/src/+/main/content/browser/devtools/devtools_pipe_handler.cc>).
//! No port is opened, so no other program of the machine can control it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::{AuditError, AuditOptions};

/// Names of its program in distributions.
const NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The largest message of the browser; a chunk of a trace has some 10 MiB.
const MESSAGE_BYTES: usize = 128 << 20;
/// The most messages of one visit.
const MESSAGES: usize = 500_000;

/// Switches that restrict it to the page's hosts, and suppress its dialogs.
const SWITCHES: &[&str] = &[
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=OptimizationHints,MediaRouter,Translate,InterestFeedContentSuggestions",
    "--disable-gpu",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--password-store=basic",
    "--window-size=1360,860",
];

/// Hosts that it would contact despite its switches, for updates and the time.
const SILENT: &str = "MAP update.googleapis.com ~NOTFOUND, MAP clients2.google.com ~NOTFOUND";

/// The browser to use: the one named, that of the variable CHROMIUM, or the first usual name in PATH.
///
/// # Errors
///
/// [`AuditError::NoBrowser`] if no name is given and none of the usual ones is in PATH.
pub fn find(
    named: Option<PathBuf>,
    variable: Option<&str>,
    path: Option<&str>,
) -> Result<PathBuf, AuditError> {
    if let Some(named) = named {
        return Ok(named);
    }
    if let Some(variable) = variable.filter(|variable| !variable.is_empty()) {
        return Ok(PathBuf::from(variable));
    }
    let folders: Vec<PathBuf> =
        path.map(OsStr::new).map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let candidates = NAMES.iter().flat_map(|name| folders.iter().map(move |dir| dir.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file()).ok_or(AuditError::NoBrowser)
}

/// A message of the browser that is not a reply to a command.
#[derive(Debug, Deserialize)]
pub(super) struct DevToolsEvent {
    /// The event's name, such as `Network.requestWillBeSent`.
    #[serde(default)]
    pub(super) method: String,
    /// The details.
    #[serde(default)]
    pub(super) params: Value,
    /// The session of its target: a page, a frame of another site, a worker.
    #[serde(default, rename = "sessionId")]
    pub(super) session: Option<String>,
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Option<Value>,
}

/// A running browser.
pub(super) struct ChromiumBrowser {
    process: BrowserProcess,
    commands: Sender,
    answers: Receiver,
    unread: Vec<u8>,
    /// The length of the start of `unread` that contains no end of a message.
    searched: usize,
    events: VecDeque<DevToolsEvent>,
    received: usize,
    last_id: u64,
}

/// The process and its profile; both end when it is dropped.
struct BrowserProcess {
    child: Child,
    // Dropped after the child has ended.
    profile: TempDir,
}

impl Drop for BrowserProcess {
    fn drop(&mut self) {
        // It leads a process group to which its helpers belong. A process that has ended needs no
        // signal.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl ChromiumBrowser {
    /// Starts a browser.
    pub(super) fn start(options: &AuditOptions) -> Result<Self, AuditError> {
        let profile = tempfile::Builder::new().prefix("tagway-audit-").tempdir()?;
        let (command_end, commands) = pipe()?;
        let (answers, answer_end) = pipe()?;
        let mut command = Command::new(&options.chromium);
        command.args(SWITCHES).arg(switch("--user-data-dir=", profile.path()));
        if options.no_sandbox {
            command.arg("--no-sandbox");
        }
        let rules = options.map_hosts.as_deref().map(|rules| format!(", {rules}"));
        let rules = rules.unwrap_or_default();
        command.arg(format!("--host-resolver-rules={SILENT}{rules}"));
        if let Some(keys) = &options.trust_keys {
            command.arg(format!("--ignore-certificate-errors-spki-list={keys}"));
        }
        command.arg("about:blank").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0);
        let mappings = vec![
            FdMapping { parent_fd: OwnedFd::from(command_end), child_fd: 3 },
            FdMapping { parent_fd: OwnedFd::from(answer_end), child_fd: 4 },
        ];
        command.fd_mappings(mappings).map_err(std::io::Error::other)?;
        let child = command.spawn().map_err(|source| AuditError::Start {
            program: options.chromium.display().to_string(),
            source,
        })?;
        // The command owns our copies of the child's ends: until they are closed, its end is not detected.
        drop(command);
        Ok(Self {
            process: BrowserProcess { child, profile },
            commands: Sender::from_owned_fd(OwnedFd::from(commands))?,
            answers: Receiver::from_owned_fd(OwnedFd::from(answers))?,
            unread: Vec::new(),
            searched: 0,
            events: VecDeque::new(),
            received: 0,
            last_id: 0,
        })
    }

    /// Sends a command and waits for its reply; events that arrive meanwhile are queued.
    pub(super) async fn call(
        &mut self,
        session: Option<&str>,
        method: &'static str,
        params: Value,
    ) -> Result<Value, AuditError> {
        let id = self.send(session, method, params).await?;
        loop {
            let message = self.receive().await?;
            if message.id == Some(id) {
                return match message.error {
                    None => Ok(message.result),
                    Some(error) => Err(AuditError::Refused { method, message: error.to_string() }),
                };
            }
            if message.id.is_none() {
                self.events.push_back(message);
            }
        }
    }

    /// Sends a command without waiting for the reply.
    pub(super) async fn send(
        &mut self,
        session: Option<&str>,
        method: &'static str,
        params: Value,
    ) -> Result<u64, AuditError> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let (Some(session), Some(fields)) = (session, command.as_object_mut()) {
            fields.insert("sessionId".to_owned(), session.into());
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).await.map_err(|_closed| AuditError::Ended)?;
        Ok(self.last_id)
    }

    /// Returns the next event. Cancel safe: bytes already read are kept.
    pub(super) async fn event(&mut self) -> Result<DevToolsEvent, AuditError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let message = self.receive().await?;
            if message.id.is_none() {
                return Ok(message);
            }
        }
    }

    async fn receive(&mut self) -> Result<DevToolsEvent, AuditError> {
        loop {
            let new = self.unread.get(self.searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(0, new) {
                let end = self.searched + at;
                let message = self.unread.get(..end).map(serde_json::from_slice);
                let message = message.and_then(Result::ok);
                self.unread.drain(..=end);
                self.searched = 0;
                self.received += 1;
                if self.received > MESSAGES {
                    return Err(AuditError::TooMuch);
                }
                // A message that is not JSON does not belong to the protocol.
                return message.ok_or(AuditError::Ended);
            }
            self.searched = self.unread.len();
            if self.unread.len() > MESSAGE_BYTES {
                return Err(AuditError::TooMuch);
            }
            self.unread.reserve(64 << 10);
            match self.answers.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return Err(AuditError::Ended),
                Ok(_more) => {}
            }
        }
    }

    /// Ends the browser and removes its profile.
    pub(super) fn end(self) {
        let Self { process, .. } = self;
        let folder = process.profile.path().to_owned();
        drop(process);
        // A helper that ended late may have written again.
        drop(std::fs::remove_dir_all(folder));
    }
}

fn switch(name: &str, value: &Path) -> std::ffi::OsString {
    let mut switch = std::ffi::OsString::from(name);
    switch.push(value);
    switch
}

//! A Redis server for a test, behind a Unix socket in a temporary folder.

use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A running server. It ends with this value, or with the process, in whatever way that ends.
pub(super) struct TestRedisServer {
    server: Option<Child>,
    folder: tempfile::TempDir,
}

impl TestRedisServer {
    /// Starts a server. `None`, with the reason printed, where Redis is not installed; in CI it must be.
    pub(super) fn start() -> Option<Self> {
        let is_installed = Command::new("redis-server").arg("--version").output().is_ok();
        if !is_installed {
            assert!(std::env::var_os("CI").is_none(), "Redis must be installed in CI");
            writeln!(std::io::stderr(), "skipped: there is no redis-server").ok();
            return None;
        }
        let folder = tempfile::Builder::new().prefix("tagway-redis-").tempdir().unwrap();
        let mut server = Self { server: None, folder };
        server.run();
        Some(server)
    }

    /// Returns the server's URL.
    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}/socket", self.folder.path().display())
    }

    /// Opens a connection for the test itself.
    pub(super) fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Starts the server, empty, and waits until it answers.
    pub(super) fn run(&mut self) {
        // The shell waits for the end of its input, which is the other end of a pipe that this process
        // keeps open.
        let script = format!(
            "redis-server --port 0 --unixsocket {folder}/socket --dir {folder} --save '' \
             --appendonly no > {folder}/log 2>&1 & server=$!; cat > /dev/null; \
             kill -KILL $server; wait $server",
            folder = self.folder.path().display(),
        );
        let mut keeper = Command::new("/bin/sh");
        keeper.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::null());
        self.server = Some(keeper.stderr(Stdio::null()).process_group(0).spawn().unwrap());
        let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        while redis::Client::open(self.url()).unwrap().get_connection().is_err() {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            assert!((now - began).as_secs() < 30, "Redis does not answer");
            std::thread::yield_now();
        }
    }

    /// Stops the server.
    pub(super) fn end(&mut self) {
        if let Some(mut keeper) = self.server.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }
}

impl Drop for TestRedisServer {
    fn drop(&mut self) {
        self.end();
    }
}

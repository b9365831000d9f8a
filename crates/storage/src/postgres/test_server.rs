//! A PostgreSQL server for the tests: its own cluster in a temporary folder, behind a Unix socket and,
//! under TLS, at a local port; one for all tests of a process.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The user id of `nobody`, and its group.
const NOBODY: u32 = 65_534;

/// The running server's addresses.
struct TestPostgresServer {
    /// The URL by the socket.
    url: String,
    /// The URL by the port, which uses TLS, and the file of its certificate.
    secure: (String, PathBuf),
}

/// Returns the server's URL. `None`, with the reason printed, where PostgreSQL is not installed; in CI it must be.
pub fn url() -> Option<&'static str> {
    server().map(|server| server.url.as_str())
}

/// Returns the server's TLS URL, and the file of the certificate to trust.
pub fn secure() -> Option<(&'static str, &'static Path)> {
    server().map(|TestPostgresServer { secure: (url, certificate), .. }| {
        (url.as_str(), certificate.as_path())
    })
}

fn server() -> Option<&'static TestPostgresServer> {
    static SERVER: OnceLock<Option<TestPostgresServer>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

fn start() -> Option<TestPostgresServer> {
    let Some(programs) = programs() else {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL must be installed in CI");
        let reason = "skipped: there is no PostgreSQL under /usr/lib/postgresql";
        writeln!(std::io::stderr(), "{reason}").ok();
        return None;
    };
    let folder = tempfile::Builder::new().prefix("tagway-postgres-").tempdir().unwrap().keep();
    // An own folder, so that it is removed with all its content.
    let owner = rustix::process::geteuid().is_root().then_some(NOBODY);
    chown(&folder, owner, owner).unwrap();
    let data = folder.join("data");
    let made = as_nobody(&programs.join("initdb"))
        .args(["-U", "tagway", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "initdb makes a cluster");
    let secret = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    fs::write(&certificate, secret.cert.pem()).unwrap();
    fs::write(&key, secret.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&key, owner, owner).unwrap();
    fs::write(
        data.join("pg_hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.1/32 trust\n",
    )
    .unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The server ends with this process, in whatever way it ends: the shell waits for the end of its
    // input, which is the other end of a pipe that this process keeps open.
    let script = format!(
        "{postgres} -D {data} -k {folder} -c listen_addresses=127.0.0.1 -c port={port} \
         -c ssl=on -c ssl_cert_file={folder}/server.crt -c ssl_key_file={folder}/server.key -c fsync=off \
         -c synchronous_commit=off -c full_page_writes=off -c max_connections=300 \
         > {folder}/log 2>&1 & server=$!; cat > /dev/null; kill -QUIT $server; wait $server; \
         rm -rf {folder}",
        postgres = programs.join("postgres").display(),
        data = data.display(),
        folder = folder.display(),
    );
    let mut keeper = as_nobody(Path::new("/bin/sh"));
    keeper.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // The keeper leaves the process group: a signal that ends the tests must not end it before the server.
    let child = keeper.process_group(0).spawn().unwrap();
    std::mem::forget(child);
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let is_up = || {
        Command::new(programs.join("pg_isready"))
            .args(["-q", "-p", &port.to_string(), "-h"])
            .arg(&folder)
            .status()
            .is_ok_and(|status| status.success())
    };
    while !is_up() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        assert!(now - began < Duration::from_secs(60), "{} does not answer", socket.display());
        std::thread::yield_now();
    }
    let host = folder.display().to_string().replace('/', "%2F");
    let url = format!("postgresql://tagway@{host}:{port}/postgres");
    let secure = format!("postgresql://tagway@localhost:{port}/postgres?sslmode=require");
    Some(TestPostgresServer { url, secure: (secure, certificate) })
}

/// Returns the folder of the newest installed server.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.flatten().map(|entry| entry.path()).max_by_key(version)?;
    let programs = newest.join("bin");
    programs.join("initdb").exists().then_some(programs)
}

/// Returns a command that runs as `nobody` if the tests run as root, which the server refuses.
fn as_nobody(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    command.arg("--clear-groups").arg(program);
    command
}

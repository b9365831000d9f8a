//! Starts: a failed one prints the reason and exits with 1, or with 2 if the configuration is wrong; during a slow
//! one no reload is missed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::harness::{DEADLINE, SITE, TAGWAY};

/// Runs `serve` with `data_dir` and these lines in `[listen]`.
fn serve(folder: &Path, listen: &str, more: &str) -> Output {
    let (data_dir, file) = (json!(folder.join("data")), folder.join("tagway.toml"));
    let text = format!("data_dir = {data_dir}\n[listen]\n{listen}\n{SITE}{more}");
    fs::write(&file, text).unwrap();
    Command::new(TAGWAY).args(["serve", "--config"]).arg(&file).output().unwrap()
}

fn check(folder: &Path) -> Output {
    let file = folder.join("tagway.toml");
    Command::new(TAGWAY).args(["check", "--config"]).arg(&file).output().unwrap()
}

fn assert_refused(output: &Output, cause: &str) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains(cause), "{cause:?} is not in {printed}");
    assert!(!printed.contains("panicked"), "{printed}");
    assert!(output.stdout.is_empty(), "it was never ready");
}

#[test]
fn taken_port_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let cause = format!("cannot listen on {address}");
    let http = serve(folder.path(), &format!("http = \"{address}\"\nadmin = \"127.0.0.1:0\""), "");
    assert_refused(&http, &cause);
    let admin = serve(folder.path(), &format!("http = \"127.0.0.1:0\"\nadmin = \"{address}\""), "");
    assert_refused(&admin, &cause);
}

#[test]
fn missing_certificate_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let listen = "http = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"";
    let tls = "[[tls.certificates]]\ncert = \"/nowhere/a.pem\"\nkey = \"/nowhere/a.key\"\n";
    for output in [serve(folder.path(), listen, tls), check(folder.path())] {
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{printed}");
        let cause = "tls.certificates[0].cert: the file cannot be read: No such file";
        assert!(printed.contains(cause) && printed.contains("tagway.toml:"), "{printed}");
    }
}

#[test]
fn readable_site_key_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("data/site-shop.key");
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let listen = "http = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"";
    assert_refused(&serve(folder.path(), listen, ""), "site-shop.key is readable by others");
}

#[test]
fn reload_during_the_start_runs_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, pipe) = (json!(folder.path().join("data")), folder.path().join("tagway.toml"));
    let listen = "http = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"";
    let text = format!("data_dir = {data_dir}\n[listen]\n{listen}\n{SITE}");
    // A slow start: the configuration is a pipe, and its reader waits for this test.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = Command::new(TAGWAY)
        .args(["serve", "--config"])
        .arg(&pipe)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut configuration = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "HUP", &id]).status().unwrap().success());
    configuration.write_all(text.as_bytes()).unwrap();
    drop(configuration);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("ready"), "{line:?}");
    // Opening the pipe succeeds when the gateway reads it again.
    let (sender, read_again) = std::sync::mpsc::sync_channel(1);
    let again = std::thread::spawn(move || sender.send(fs::write(&pipe, text).is_ok()));
    assert_eq!(read_again.recv_timeout(DEADLINE), Ok(true));
    again.join().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

//! Certificates that are replaced while the gateway runs.

use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::harness::{Process, SITE, TAGWAY, admin_get, eventually};

/// Writes a certificate that expires at the end of this year, and its key.
fn issue(folder: &Path, year: i32) {
    let mut params = CertificateParams::new(vec!["t.shop.example".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("shop.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("shop.key"), key.serialize_pem()).unwrap();
}

/// Waits until the metric shows the end of this year.
async fn expires(process: &Process, year: &str) {
    eventually(|| {
        let body = admin_get(process.admin, "/metrics").unwrap().body;
        let name = "tagway_certificate_expires_timestamp_seconds{name=\"t.shop.example\"} ";
        let line = body.lines().find_map(|line| line.strip_prefix(name));
        let seconds: i64 = line.ok_or("no such metric")?.parse().unwrap();
        let at = jiff::Timestamp::from_second(seconds).unwrap().to_string();
        if at.starts_with(year) { Ok(()) } else { Err(at) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_certificate_is_reloaded_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let [cert, key] = ["shop.pem", "shop.key"].map(|name| folder.path().join(name));
    issue(folder.path(), 2041);
    let settings = format!("[[tls.certificates]]\ncert = {cert:?}\nkey = {key:?}\n{SITE}");
    let process = Process::start(&data, &file, &settings);
    expires(&process, "2041").await;
    issue(folder.path(), 2042);
    expires(&process, "2042").await;
    // A certificate with the old key is reloaded once its own key is there.
    let old = std::fs::read(&key).unwrap();
    issue(folder.path(), 2043);
    let new = std::fs::read(&key).unwrap();
    std::fs::write(&key, old).unwrap();
    let output = Command::new(TAGWAY).args(["check", "--config"]).arg(&file).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    assert!(printed.contains("the key does not belong to the certificate"), "{printed}");
    std::fs::write(&key, new).unwrap();
    expires(&process, "2043").await;
}

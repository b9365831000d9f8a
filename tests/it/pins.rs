//! Vendors' scripts that a site pins to a version.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cdn::{Cdn, ok, settings};
use crate::harness::{
    Answer, Gateway, Process, TAGWAY, admin_get, admin_post, eventually, raw, send,
};

const TAG: &str = "/ga4/gtag/js?id=G-1";
const NO_ROOM: &str = "min_ttl = \"0s\"\nmax_ttl = \"0s\"\nretry = \"0s\"\ncache_bytes = \"2KiB\"\n\
                       disk_bytes = \"1KiB\"\n";

fn pinned(cdn: &Cdn, version: &str) -> String {
    let pin = format!("[sites.vendors.ga4.pin]\n\"/gtag/js?id=G-1\" = \"{version}\"\n");
    let other = format!(
        "[[sites]]\nname = \"other\"\nhosts = [\"t.other.example\"]\n[sites.vendors.ga4]\n\
         scripts = \"proxy\"\nids = [\"G-1\"]\nscript_endpoint = \"http://{}\"\n",
        cdn.address
    );
    settings(cdn, NO_ROOM) + &pin + &other
}

fn get(address: std::net::SocketAddr, path: &str) -> Answer {
    tokio::task::block_in_place(|| send(address, ("GET", path), &[], b"")).unwrap()
}

fn written(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(hash))
}

/// The form of a hash in a table.
fn short(text: &str) -> String {
    written(text).chars().take(19).collect()
}

/// Runs `tagway scripts ...` against a running gateway.
fn scripts(process: &Process, file: &Path, arguments: &[&str]) -> (bool, String) {
    let admin = process.admin.to_string();
    let run = Command::new(TAGWAY)
        .args(["scripts", arguments[0], "--config"])
        .arg(file)
        .args(["--admin", &admin])
        .args(&arguments[1..])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (run.status.success(), text(run.stdout) + &text(run.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn new_version_waits_for_approval_despite_crashes_and_outages() {
    let (cdn, folder) = (Cdn::start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("tagway.toml");
    let start = || {
        let settings = pinned(&cdn, "first");
        Process::start(&folder.path().join("data"), &file, &settings)
    };
    let (old, new) = ("let a=1;let b=2;", "let a=1;let b=\"\u{1b}[2J\";");
    cdn.reply(ok("text/javascript", "", old));
    let process = start();
    assert_eq!(get(process.http, TAG).body, old);
    let (_, list) = scripts(&process, &file, &["ls", "--site", "shop"]);
    assert!(list.contains("pinned") && list.contains(&short(old)), "{list}");
    cdn.reply(ok("text/javascript", "", new));
    let list = eventually(|| {
        assert_eq!(get(process.http, TAG).body, old);
        let (_, list) = scripts(&process, &file, &["ls"]);
        if list.contains("pending") { Ok(list) } else { Err(list) }
    });
    assert!(list.await.contains(&short(new)));
    // The fetched scripts are shared, and other sites don't pin them. The cache makes room for them.
    let request =
        b"GET /ga4/gtag/js?id=G-1 HTTP/1.1\r\nhost: t.other.example\r\nconnection: close\r\n\r\n";
    eventually(|| match raw(process.http, request).unwrap().body {
        body if body == new => Ok(()),
        body => Err(body),
    })
    .await;
    for n in 0..20 {
        get(process.http, &format!("/ga4/gtag/js?id=G-1&gtm={n}"));
    }
    let metrics = admin_get(process.admin, "/metrics").unwrap().body;
    for line in [
        "tagway_script_changes_total{site=\"shop\",vendor=\"ga4\"} 1",
        "tagway_scripts_pending{site=\"shop\",vendor=\"ga4\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    process.kill();
    cdn.stop();
    let process = start();
    assert_eq!(get(process.http, TAG).body, old);
    let hash = written(new);
    let (done, diff) = scripts(&process, &file, &["diff", &short(new)]);
    assert!(done && diff.contains("-let b=2;\n+let b=\"\\u{1b}[2J\";\n"), "{diff}");
    assert!(!scripts(&process, &file, &["approve", &written(old)]).0);
    assert_eq!(get(process.http, TAG).body, old);
    let (done, printed) =
        scripts(&process, &file, &["approve", short(new).trim_start_matches("sha256-")]);
    assert!(
        done && printed == format!("shop ga4 /gtag/js?id=G-1 now serves {hash}\n"),
        "{printed}"
    );
    assert_eq!(get(process.http, TAG).body, new);
    process.kill();
    let process = start();
    assert_eq!(get(process.http, TAG).body, new);
    let (_, list) = scripts(&process, &file, &["ls", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list[0]["served"]["hash"], &list[0]["pending"]), (&json!(hash), &json!(null)));
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_version_is_the_only_one_served() {
    let cdn = Cdn::start();
    let (wrong, right) = ("let wrong = 1", "let right = 1");
    cdn.reply(ok("text/javascript", "", wrong));
    let gateway = Gateway::start(&pinned(&cdn, &written(right))).await;
    for _ in 0..3 {
        assert_eq!(get(gateway.http, TAG).status, 502);
    }
    let list = gateway.scripts();
    assert_eq!((&list[0]["state"], &list[0]["served"]), (&json!("pending"), &json!(null)));
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    let token = format!("Bearer {}", token.trim());
    let approve = json!({ "site": "shop", "vendor": "ga4", "script": "/gtag/js?id=G-1",
        "hash": written(wrong) });
    let fields = [("authorization", token.as_str())];
    let answer = tokio::task::block_in_place(|| {
        admin_post(gateway.admin, "/api/v1/scripts/approve", &fields, &approve)
    });
    assert!(answer.status == 409 && answer.body.contains("change the pin there"), "{answer:?}");
    cdn.reply(ok("text/javascript", "", right));
    eventually(|| match get(gateway.http, TAG) {
        answer if answer.body == right => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    cdn.reply(ok("text/javascript", "", wrong));
    eventually(|| {
        assert_eq!(get(gateway.http, TAG).body, right);
        let list = gateway.scripts();
        if list[0]["state"] == "pending" { Ok(()) } else { Err(list.to_string()) }
    })
    .await;
    // The configuration approves the waiting version.
    let gateway = gateway.restart(&pinned(&cdn, &written(wrong))).await;
    assert_eq!(get(gateway.http, TAG).body, wrong);
}

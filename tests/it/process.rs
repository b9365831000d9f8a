//! The real program: power cuts, signals, wrong settings, a full disk.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use tagway_simulator::vendors::{SimulatedFault, SimulatorKind};

use crate::harness::{
    DEADLINE, NO_RATES, Process, SITE, TAGWAY, admin_get, batch, eventually, raw, send, settled,
    track, vendor, webhook_site, whole,
};

/// Posts single events from several threads until it is stopped; collects the acknowledged message ids.
struct Load {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(http: SocketAddr, name: &str) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4).map(|thread| {
            let (acknowledged, stop, name) = (acknowledged.clone(), stop.clone(), name.to_owned());
            std::thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("{name}-{thread}-{n}");
                    n += 1;
                    let body = batch(&[track(&id, "Order Completed")]);
                    let answer = send(http, ("POST", "/v1/batch"), &[], body.as_bytes());
                    if answer.is_ok_and(|answer| answer.status == 200) {
                        acknowledged.lock().insert(id);
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { acknowledged, stop, threads }
    }

    async fn reaches(&self, count: usize) {
        eventually(|| match self.acknowledged.lock().len() {
            enough if enough >= count => Ok(()),
            few => Err(format!("{few} acknowledged")),
        })
        .await;
    }

    fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_event_is_missing_after_power_cuts() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let mut acknowledged = BTreeSet::new();
    for round in 0..4 {
        // In every other round the vendor is down, so that the cut also meets a backlog.
        webhook.set_fault((round % 2 == 1).then_some(SimulatedFault::Status(503)));
        let process = Process::start(&data, &file, &settings);
        let load = Load::start(process.http, &format!("r{round}"));
        load.reaches(300).await;
        process.kill();
        acknowledged.extend(load.end());
    }
    webhook.set_fault(None);
    let process = Process::start(&data, &file, &settings);
    let rows = settled(process.admin, acknowledged.len() as u64).await;
    assert_eq!(rows[0].dead, 0, "{rows:?}");
    let tally = webhook.tally();
    let missing: Vec<_> =
        acknowledged.iter().filter(|id| !tally.events.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), acknowledged.len());
    assert_eq!(tally.objections, Vec::<String>::new());
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_under_load_loses_and_repeats_nothing() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let mut acknowledged = BTreeSet::new();
    for round in 0..2 {
        let process = Process::start(&data, &file, &settings);
        let load = Load::start(process.http, &format!("s{round}"));
        load.reaches(300).await;
        assert_eq!(process.terminate().code(), Some(0));
        acknowledged.extend(load.end());
    }
    let process = Process::start(&data, &file, &settings);
    settled(process.admin, acknowledged.len() as u64).await;
    let tally = webhook.tally();
    assert!(acknowledged.iter().all(|id| tally.events.contains_key(id)));
    let repeated = tally.events.values().filter(|times| **times > 1).count();
    assert_eq!(repeated, 0, "an orderly stop settles what it sent");
    assert!(process.terminate().success());
}

#[test]
fn configuration_mistakes_are_all_reported_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagway.toml");
    let text = "data_dri = \"x\"\n[limits]\nbody_bytes = \"lots\"\n\n[[sites]]\nname = \"s\"\n\
                hosts = [\"*\"]\nwrite_key = \"${NO_SUCH_VARIABLE}\"\n\
                [[sites.destinations]]\nname = \"d\"\nvendor = \"gaa4\"\n";
    fs::write(&file, text).unwrap();
    for command in ["serve", "check"] {
        let output = Command::new(TAGWAY).args([command, "--config"]).arg(&file).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{printed}");
        let name = file.display();
        for expected in [
            format!("{name}:1: data_dri: unknown setting; did you mean \"data_dir\"?"),
            format!("{name}:3: limits.body_bytes: \"lots\" is not a size"),
            format!("{name}:8: sites[0].write_key: the environment variable NO_SUCH_VARIABLE"),
            format!(
                "{name}:11: sites[0].destinations[0].vendor: there is no vendor \"gaa4\"; did you mean \"ga4\"?"
            ),
        ] {
            assert!(printed.contains(&expected), "{command} does not say {expected:?}:\n{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_on_a_data_folder_is_refused() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let first = Process::start(&data, &file, &webhook_site(webhook.address(), ""));
    let output = Command::new(TAGWAY).args(["serve", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("in use"), "{printed}");
    assert!(first.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_line_sends_lists_retries_and_replays() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let process = Process::start(&data, &file, &webhook_site(webhook.address(), ""));
    let admin = process.admin.to_string();
    let tagway = |words: &[&str]| {
        let mut command = Command::new(TAGWAY);
        let output =
            command.args(words).arg("--config").arg(&file).args(["--admin", &admin]).output();
        let output = output.unwrap();
        let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
        (output.status.code(), out.unwrap() + &err.unwrap())
    };
    let (code, printed) = tagway(&["send"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("webhook #1  delivered"), "{printed}");

    webhook.add_faults(1, SimulatedFault::Status(422));
    let (code, printed) = tagway(&["send", "--name", "Refused"]);
    assert_eq!(code, Some(1), "{printed}");
    // The happening is sent first, and the event settled a moment later.
    settled(process.admin, 2).await;
    let (code, printed) = tagway(&["dead", "ls"]);
    assert!(code == Some(0) && printed.contains("refused"), "{printed}");
    let (code, printed) = tagway(&["dead", "retry", "1"]);
    assert_eq!(code, Some(0), "{printed}");
    let rows = settled(process.admin, 2).await;
    assert_eq!((rows[0].delivered, rows[0].dead), (2, 0), "{rows:?}");

    let before = webhook.tally().accepted;
    let window = ["--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"];
    let mut words = [&["replay", "--destination", "webhook"][..], &window].concat();
    let (code, printed) = tagway(&words);
    assert_eq!(code, Some(2), "{printed}");
    for expected in
        ["2 settled as delivered or skipped", "vendor can recognise repetitions", "--yes"]
    {
        assert!(printed.contains(expected), "{expected:?} is not in {printed}");
    }
    assert_eq!(webhook.tally().accepted, before, "nothing goes without a yes");
    words.push("--yes");
    let (code, printed) = tagway(&words);
    assert_eq!(code, Some(0), "{printed}");
    let all = |tally: &tagway_simulator::vendors::SimulatorTally| tally.accepted == before + 2;
    webhook.wait_for(DEADLINE, all).await.expect("both again");
    settled(process.admin, 4).await;
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_reports_a_held_event_at_once() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let consent = "consent = [\"analytics\", \"marketing\"]\nunknown_consent = \"hold\"\n";
    let process = Process::start(&data, &file, &webhook_site(webhook.address(), consent));
    let admin = process.admin.to_string();
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    // From another folder, without a configuration: only with the address and the token.
    let elsewhere = tempfile::tempdir().unwrap();
    let tagway = |words: &[&str]| {
        let mut command = Command::new(TAGWAY);
        command.current_dir(elsewhere.path()).args(words).args(["--admin", &admin]);
        let output = command.env("TAGWAY_ADMIN_TOKEN", token.trim()).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
        (output.status.code(), out.unwrap() + &err.unwrap())
    };
    let (code, printed) = tagway(&["send", "--timeout", "20s"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("webhook #1  held until the visitor chooses"), "{printed}");
    assert!(printed.contains("--consent analytics,marketing"), "{printed}");
    let (code, printed) = tagway(&["send", "--consent", "analytics,marketing"]);
    assert!(code == Some(0) && printed.contains("webhook #2  delivered"), "{printed}");
    let mut command = Command::new(TAGWAY);
    command.current_dir(elsewhere.path()).args(["tail", "--admin", &admin, "--token", "wrong"]);
    let refused = command.output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("(401)"), "{refused:?}");
    let offline = Command::new(TAGWAY).args(["send", "--dry-run", "--config"]).arg(&file).output();
    let printed = String::from_utf8(offline.unwrap().stdout).unwrap();
    assert!(printed.contains("held until the visitor chooses"), "{printed}");
    assert!(process.terminate().success());
}

#[test]
fn dry_run_accepts_any_credentials_and_explains_empty_templates() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagway.toml");
    for (vendor, settings) in [
        ("mixpanel", "project_token = \"0123456789abcdef0123456789abcdef\"\n"),
        ("amplitude", "api_key = \"any-key-at-all\"\n"),
    ] {
        let text = format!(
            "{SITE}\n[[sites.destinations]]\nname = \"d\"\nvendor = \"{vendor}\"\n\
             [sites.destinations.settings]\n{settings}[[sites.destinations.mapping.rules]]\n\
             set = {{ \"properties.sum\" = \"{{{{ properties.currency * 2.5 }}}}\" }}\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(TAGWAY);
        let output = command.args(["send", "--dry-run", "--config"]).arg(&file).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("d: would be delivered"), "{vendor}: {printed}");
        assert!(
            printed.contains("d: mapping.rules[0].set \"properties.sum\": "),
            "{vendor}: {printed}"
        );
    }
}

#[test]
fn configuration_is_found_and_its_paths_are_relative_to_it() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("tagway.toml");
    fs::write(&file, format!("data_dir = \"own\"\n{SITE}")).unwrap();
    let check = |of: &Path, variable: Option<&Path>, words: &[&str]| {
        let mut command = Command::new(TAGWAY);
        command.current_dir(of).arg("check").args(words).env_remove("TAGWAY_CONFIG");
        command.envs(variable.map(|file| ("TAGWAY_CONFIG", file)));
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
        (out.unwrap(), err.unwrap())
    };
    let own = folder.path().join("own").display().to_string();
    let (out, err) = check(folder.path(), None, &[]);
    assert!(out.starts_with("tagway.toml is valid") && err.lines().count() == 1, "{out}{err}");
    assert!(err.contains("configuration: tagway.toml"), "{err}");
    let (out, err) = check(elsewhere.path(), Some(&file), &[]);
    assert!(out.contains(&own) && err.contains("TAGWAY_CONFIG"), "{out}{err}");
    let named = file.display().to_string();
    let (out, err) = check(elsewhere.path(), None, &["--config", &named]);
    assert!(out.contains(&own) && err.is_empty(), "{out}{err}");
    let (out, err) = check(elsewhere.path(), None, &[]);
    assert!(out.contains("is valid") && err.contains("embedded default"), "{out}{err}");
}

#[test]
fn site_without_destinations_accepts_and_shows_test_events() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let process = Process::start(&data, &file, SITE);
    let admin = process.admin.to_string();
    let mut command = Command::new(TAGWAY);
    let output = command.args(["send", "--admin", &admin, "--config"]).arg(&file).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert_eq!(printed, "accepted as #1 of shop, which has no destinations\n");
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    let request = format!(
        "GET /api/v1/events/shop/1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    let answer = raw(process.admin, request.as_bytes()).unwrap();
    assert_eq!(answer.json()["event"]["event"], "Order Completed");
    assert!(process.terminate().success());
}

/// Starts the gateway with its data on a disk of 24 MiB. `None` if this machine does not allow one.
fn start_on_small_disk(folder: &Path, settings: &str) -> Option<Process> {
    let (disk, file) = (folder.join("disk"), folder.join("tagway.toml"));
    fs::create_dir(&disk).unwrap();
    fs::write(&file, whole(&disk.join("data"), settings)).unwrap();
    let mount = format!("mount -t tmpfs -o size=24m tmpfs {}", disk.display());
    // A separate mount namespace: it ends with the process, and needs no root.
    let isolate = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    if !isolate(&mount).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let serve = format!("{mount} && exec {TAGWAY} serve --config {}", file.display());
    Some(Process::run(&mut isolate(&serve)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_rejects_events_loses_none_and_recovers() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let Some(process) = start_on_small_disk(folder.path(), &settings) else {
        eprintln!("skipped: this machine lets nobody mount a tmpfs in a namespace");
        return;
    };
    // Its disk, from outside its namespace.
    let disk = format!("/proc/{}/root{}/disk", process.id(), folder.path().display());
    let ballast = Path::new(&disk).join("ballast");
    let load = Load::start(process.http, "full");
    load.reaches(100).await;
    // The last write fails: it takes all free space.
    fs::write(&ballast, vec![0_u8; 32 << 20]).unwrap_err();
    let body = batch(&[track("refused", "Order Completed")]);
    // A write that fits the existing log may still succeed between two that fail.
    let refused = eventually(|| {
        let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes()).unwrap();
        let readyz = admin_get(process.admin, "/readyz").unwrap().status;
        let is_refused = answer.status == 503 && readyz == 503;
        if is_refused { Ok(answer) } else { Err(format!("{answer:?} {readyz}")) }
    })
    .await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    fs::remove_file(&ballast).unwrap();
    eventually(|| match admin_get(process.admin, "/readyz").unwrap().status {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let before = load.acknowledged.lock().len();
    load.reaches(before + 100).await;
    let acknowledged = load.end();
    settled(process.admin, acknowledged.len() as u64).await;
    let tally = webhook.tally();
    let missing: Vec<_> =
        acknowledged.iter().filter(|id| !tally.events.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(process.terminate().success());
}

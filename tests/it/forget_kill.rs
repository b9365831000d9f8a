//! A power cut at each stage of forgetting a person: after the next start the person's data is erased
//! everywhere and stays suppressed, and the data of others is unchanged.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{NO_RATES, Process, SITE, TAGWAY, batch, eventually, send};

/// Events of each person: several steps of the erasure.
const EVENTS: usize = 300;

/// A stage of forgetting: a query for its state in the database, with the person's number as `?1`.
const STAGES: [(&str, &str); 5] = [
    ("asked for", "SELECT 1"),
    ("suppressed", "SELECT count(*) > ?1 FROM (SELECT DISTINCT person FROM forgotten)"),
    ("some events erased", "SELECT count(*) > ?1 * 300 FROM events WHERE body = ''"),
    ("all events erased", "SELECT count(*) >= (?1 + 1) * 300 FROM events WHERE body = ''"),
    (
        "noted as done",
        "SELECT count(*) > ?1 FROM (SELECT DISTINCT person FROM forgotten WHERE erased = 1)",
    ),
];

fn events(person: &str) -> Vec<Value> {
    let event = |n: usize| {
        json!({ "type": "identify", "messageId": format!("{person}-{n}"), "userId": person,
            "anonymousId": format!("{person}-device"),
            "traits": { "email": format!("{person}@mail.example"), "n": n } })
    };
    (0..EVENTS).map(event).collect()
}

fn post(process: &Process, events: &[Value]) {
    for part in events.chunks(100) {
        let answer = send(process.http, ("POST", "/v1/batch"), &[], batch(part).as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    }
}

/// The result of a query while the database is in use.
fn ask<T: rusqlite::types::FromSql>(data: &Path, query: &str, number: usize) -> Option<T> {
    let database = rusqlite::Connection::open(data.join("tagway.db")).ok()?;
    let mut statement = database.prepare(query).ok()?;
    let parameters: Vec<i64> = vec![number as i64; statement.parameter_count()];
    statement.query_row(rusqlite::params_from_iter(parameters), |row| row.get(0)).ok()
}

fn tagway(process: &Process, file: &Path, words: &[&str]) -> String {
    let mut command = Command::new(TAGWAY);
    command.args(words).args(["--admin", &process.admin.to_string(), "--config"]).arg(file);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_killed_at_any_stage_is_finished_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{SITE}");
    let mut process = Process::start(&data, &file, &settings);
    for number in 0..STAGES.len() {
        post(&process, &events(&format!("person{number}")));
    }
    post(&process, &events("other"));
    let profiles = "SELECT count(*) = ?1 FROM profiles";
    let all_known = || match ask::<bool>(&data, profiles, STAGES.len() + 1) {
        Some(true) => Ok(()),
        state => Err(format!("{state:?}")),
    };
    eventually(all_known).await;
    for (number, (stage, shows)) in STAGES.into_iter().enumerate() {
        let person = format!("person{number}");
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap();
        let body = json!({ "site": "shop", "id": person, "undo": false }).to_string();
        let mut stream = TcpStream::connect(process.admin).unwrap();
        write!(
            stream,
            "POST /api/v1/forget HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        )
        .unwrap();
        eventually(|| match ask::<bool>(&data, shows, number) {
            Some(true) => Ok(()),
            state => Err(format!("{stage}: {state:?}")),
        })
        .await;
        process.kill();
        process = Process::start(&data, &file, &settings);
        let is_suppressed = ask::<bool>(
            &data,
            "SELECT count(*) > ?1 FROM (SELECT DISTINCT person FROM forgotten)",
            number,
        );
        if is_suppressed == Some(false) {
            // Killed before the request arrived, so nothing has happened.
            assert_eq!(number, 0, "{stage}");
            assert_eq!(tagway(&process, &file, &["export", &person]).lines().count(), EVENTS + 1);
            tagway(&process, &file, &["forget", &person]);
        }
        eventually(|| {
            let unfinished = "SELECT count(*) FROM forgotten WHERE erased = 0";
            match ask::<i64>(&data, unfinished, 0) {
                Some(0) => Ok(()),
                state => Err(format!("{stage}: {state:?} names are not erased")),
            }
        })
        .await;
        for name in [person.clone(), format!("{person}-device"), format!("{person}@mail.example")] {
            assert_eq!(tagway(&process, &file, &["export", &name]), "", "{stage}: {name}");
        }
        post(&process, &events(&person));
        assert_eq!(tagway(&process, &file, &["export", &person]), "", "{stage}: taken again");
        let bystanders = tagway(&process, &file, &["export", "other"]);
        assert_eq!(bystanders.lines().count(), EVENTS + 1, "{stage}");
    }
    assert!(process.terminate().success());
    for number in 0..STAGES.len() {
        let trace = format!("person{number}@mail.example");
        assert_eq!(files_with(&data, &trace), Vec::<String>::new(), "{trace}");
    }
    assert!(!files_with(&data, "other@mail.example").is_empty());
}

/// The files that contain a text, with its positions.
fn files_with(data: &Path, text: &str) -> Vec<String> {
    let entries = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.filter_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = memchr::memmem::find(&bytes, text.as_bytes())?;
        let around = bytes.get(at.saturating_sub(200)..bytes.len().min(at + 200))?;
        Some(format!("{} at {at}: {}", path.display(), String::from_utf8_lossy(around)))
    });
    found.collect()
}

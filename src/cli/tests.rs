//! The command line, and the client commands against a running listener.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::json;

use super::client::AdminClient;
use super::reference::{ReferencePage, page_text, schema_text};
use super::*;
use crate::admin::tests::TestAdminServer;

fn parse(line: &str) -> Result<CliArguments, clap::Error> {
    CliArguments::try_parse_from(line.split(' '))
}

#[test]
fn the_arguments_are_consistent() {
    CliArguments::command().debug_assert();
}

#[test]
fn every_documented_command_is_understood() {
    for line in [
        "tagway serve",
        "tagway serve --config a.toml",
        "tagway --config a.toml check",
        "tagway demo",
        "tagway tail --site shop --destination ga4 --json --admin 127.0.0.1:1",
        "tagway send --event - --name x --user u --timeout 5s",
        "tagway dead ls --destination shop/ga4 --limit 5",
        "tagway dead show 7",
        "tagway dead retry 7 8",
        "tagway dead drop --destination ga4",
        "tagway dead ls --reason refused --event X --from 2h --to 1h",
        "tagway dead retry --reason refused --destination shop/ga4 --yes",
        "tagway dead drop --event X --from 2026-01-01T00:00:00Z",
        "tagway tail --event X,!Y --outcome dead --reason refused --visitor v --source sdk --trace t --backlog 9",
        "tagway event shop/12",
        "tagway event m1 --site shop --json",
        "tagway destinations ls --json",
        "tagway destinations pause shop/ga4",
        "tagway destinations resume ga4",
        "tagway reference",
        "tagway reference settings",
        "tagway scripts ls --site shop --json",
        "tagway scripts diff sha256-AbCdEf --lines 0",
        "tagway scripts approve AbCdEf --site shop --admin 127.0.0.1:1",
        "tagway replay --from 2h --to 2026-01-01T00:00:00Z --destination ga4 --yes",
        "tagway send --consent analytics,!marketing --token x",
        "tagway profiles import people.csv --deliver",
        "tagway preview --site shop --page https://shop.example/x --for 2h",
        "tagway profiles get u1 --site shop",
        "tagway profiles import people.csv --map id=user_id --map age=traits.age:number --to 127.0.0.1:1",
        "tagway segments check rule.toml",
        "tagway segments preview carts --site shop --sample 5 --json",
        "tagway segments preview --file rule.json --by group",
        "tagway segments run carts",
        "tagway segments ls --site shop --json",
        "tagway segments diff carts",
        "tagway segments export carts --admin 127.0.0.1:1",
        "tagway console login --name ana --admin 127.0.0.1:1",
        "tagway console verify --token x",
        "tagway schema",
        "tagway version",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn reference_in_the_docs_is_the_programs() {
    for (page, name) in [
        (ReferencePage::Settings, "settings"),
        (ReferencePage::Metrics, "metrics"),
        (ReferencePage::Reasons, "reasons"),
        (ReferencePage::Cli, "cli"),
    ] {
        let file = format!("{}/docs/reference/{name}.md", env!("CARGO_MANIFEST_DIR"));
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let is_fresh = written == page_text(page);
        assert!(is_fresh, "run: tagway reference {name} > docs/reference/{name}.md");
    }
    let file = format!("{}/docs/reference/tagway.schema.json", env!("CARGO_MANIFEST_DIR"));
    let is_fresh = std::fs::read_to_string(&file).unwrap_or_default() == schema_text();
    assert!(is_fresh, "run: tagway schema > docs/reference/tagway.schema.json");
}

#[test]
fn wrong_usage_or_configuration_exits_with_2() {
    let exit = |line: &str| run(line.split(' ').map(OsString::from), SecretRedactor::default());
    let shown = |code: ExitCode| format!("{code:?}");
    for line in ["tagway", "tagway fly", "tagway dead retry", "tagway send --timeout 5"] {
        assert_eq!(shown(exit(line)), shown(ExitCode::from(2)), "{line}");
    }
    assert_eq!(shown(exit("tagway check --config /nowhere.toml")), shown(ExitCode::from(2)));
    let backwards = "tagway replay --from 1h --to 2h --destination d";
    assert_eq!(shown(exit(backwards)), shown(ExitCode::from(2)));
    assert_eq!(shown(exit("tagway --help")), shown(ExitCode::SUCCESS));
}

#[test]
fn moment_reads_dates_and_durations_ago() {
    let now = "2026-11-23T10:00:00Z".parse().unwrap();
    let moment = |text| replay::parse_moment(text, now).ok().map(|moment| moment.to_string());
    assert_eq!(moment("2h").as_deref(), Some("2026-11-23T08:00:00Z"));
    assert_eq!(moment("0s").as_deref(), Some("2026-11-23T10:00:00Z"));
    assert_eq!(moment("2026-01-01T00:00:00+01:00").as_deref(), Some("2025-12-31T23:00:00Z"));
    assert_eq!(moment("yesterday"), None);
    assert_eq!(moment("999999999999d"), None);
}

#[test]
fn dead_letter_table_escapes_events() {
    let letters = json!([
        {"id": 7, "at": "2026-11-23T10:00:00Z", "site": "shop", "destination": "ga4",
         "event": "a\nb\u{1b}[2J", "reason": "refused", "detail": "HTTP 400"},
        {"id": 12345, "site": null, "destination": null, "event": "x".repeat(500)},
    ]);
    let table = dead::table(&letters);
    assert_eq!(table.lines().count(), 3);
    assert!(table.contains("a\\nb\\u{1b}[2J"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() < 200), "{table}");
    assert_eq!(dead::table(&json!([])), "no dead letters\n");
}

#[test]
fn pretty_dead_letters_are_valid_json() {
    let letters = json!([{"id": 7, "event": "a\u{200d}b\u{1b}[2J\u{202e}"}]);
    let shown = dead::pretty(&letters);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), letters);
    assert!(shown.is_ascii(), "{shown}");
}

#[tokio::test]
async fn approve_finds_the_version_by_hash_at_every_site() {
    let running = TestAdminServer::start().await;
    let client = AdminClient::at(running.address, running.token.clone());
    let list = client.get("/api/v1/scripts").await.unwrap();
    let table = scripts::table(&list);
    let row = "shop   ga4     /gtag/js?id=G-1  pending  sha256-AAAAAAAAAAAA  7      1d   \
               sha256-BBBBBBBBBBBB";
    assert_eq!(table.lines().nth(1), Some(row), "{table}");
    assert_eq!(scripts::waiting(&list, "sha256-BBBBBB", None).unwrap().len(), 2);
    let own = scripts::waiting(&list, "BBBBBB", Some("other")).unwrap();
    assert_eq!((own.len(), own[0].site.as_str()), (1, "other"));
    for (hash, site) in [("AAAAAA", None), ("BBBBB", None), ("BBBBBB", Some("none"))] {
        assert!(
            matches!(scripts::waiting(&list, hash, site), Err(CommandError::Usage(_))),
            "{hash}"
        );
    }
    let path = "/api/v1/scripts/diff?site=shop&vendor=ga4&script=/gtag/js%3Fid%3DG-1";
    let diff = client.get(path).await.unwrap();
    let shown = scripts::shown(&diff, 2, false);
    assert!(shown.ends_with("@@ -1 +1 @@\n-a\n... 1 more lines: --lines 0 shows all\n"), "{shown}");
    let shown = scripts::shown(&diff, 0, false);
    assert!(shown.ends_with("+b\\u{1b}[2J\n"), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown}");
}

#[test]
fn follower_ends_when_every_destination_settled() {
    let waiting: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    let mut following = send::EventFollower { seq: 12, waiting, ..send::EventFollower::default() };
    let settled = |seq: u64, destination: &str, outcome: &str| json!({"what": "settled", "seq": seq, "destination": destination, "outcome": outcome});
    assert!(!following.note(&settled(11, "a", "dead")));
    assert!(following.note(&settled(12, "a", "retry")));
    assert!(following.note(&json!({"what": "called", "seqs": [11, 12], "destination": "a"})));
    assert_eq!(following.waiting.len(), 2);
    assert!(following.note(&settled(12, "a", "skipped")));
    assert!(!following.has_died);
    assert!(following.note(&settled(12, "b", "dead")));
    assert!(following.waiting.is_empty() && following.has_died);
}

#[test]
fn follower_does_not_wait_for_held_events_and_gives_advice() {
    let waiting: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    let mut following = send::EventFollower { seq: 12, waiting, ..send::EventFollower::default() };
    let held = |destination: &str, awaits: &str| {
        json!({"what": "held", "seq": 12, "destination": destination, "awaits": awaits,
            "needs": ["analytics", "marketing"], "until": "2026-11-23T10:30:00Z"})
    };
    assert!(following.note(&held("a", "consent")));
    assert!(following.note(&held("b", "identity")));
    assert!(following.waiting.is_empty() && !following.has_died);
    let advice: Vec<&String> = following.held.iter().collect();
    assert!(
        advice[1].contains("the visitor is known") && advice[1].contains("--user"),
        "{advice:?}"
    );
    let expected =
        "held until the visitor chooses; send one that does not wait with --consent analytics";
    assert!(advice[0].starts_with(expected), "{advice:?}");
    let shown = render::render(&held("a", "consent"), false);
    assert!(
        shown.starts_with("    a #12  held until the visitor chooses (at most until"),
        "{shown}"
    );
}

#[tokio::test]
async fn client_reads_the_listeners_responses_and_streams() {
    let running = TestAdminServer::start().await;
    let client = AdminClient::at(running.address, running.token.clone());
    let found = dead::find_destination(&client, "shop/ga4").await.unwrap();
    assert_eq!(found, ("shop".to_owned(), "ga4".to_owned()));
    assert!(matches!(dead::find_destination(&client, "x").await, Err(CommandError::Usage(_))));
    let mut lines = client.lines("/api/v1/tail?site=shop").await.unwrap();
    let sent = client.post("/api/v1/send", &json!({"site": "shop", "event": {}})).await.unwrap();
    assert_eq!(sent["seq"], 12);
    assert_eq!(lines.next().await.unwrap().unwrap()["outcome"], "delivered");
    let refused = client.get("/api/v1/dead/8").await.unwrap_err().to_string();
    assert_eq!(refused, "the gateway refused (404): no route or object has this path");
}

#[tokio::test]
async fn wrong_token_error_quotes_the_gateway() {
    let running = TestAdminServer::start().await;
    let client = AdminClient::at(running.address, tagway_settings::SecretString::new("wrong"));
    let refused = client.lines("/api/v1/tail").await.unwrap_err().to_string();
    assert!(refused.contains("(401)") && refused.contains("admin.token"), "{refused}");
}

#[test]
fn panic_text_is_redacted_and_escaped() {
    let redaction = SecretRedactor::default();
    redaction.add(&tagway_settings::SecretString::new("hush/token"));
    let text = panic_text(&redaction, "panicked at x.rs:1:1:\nbad \"hush%2Ftoken\" \u{1b}[2J");
    assert!(text.contains("panicked at x.rs:1:1:\nbad \"[secret]\" \\u{1b}[2J\n"), "{text}");
}

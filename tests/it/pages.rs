//! Scripts and settings for pages: the vendors' own libraries in client mode, the site's integrations.

use std::fmt::Write as _;
use std::path::Path;

use tagway::cli;
use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{
    Answer, DEADLINE, Gateway, NO_RATES, SITE, admin_get, send, track, vendor, webhook_site,
};

fn get(gateway: &Gateway, path: &str) -> Answer {
    tokio::task::block_in_place(|| send(gateway.http, ("GET", path), &[], b"")).unwrap()
}

/// A site with these integrations: name, text, settings.
fn integrations(folder: &Path, all: &[(&str, &str, &str)]) -> String {
    let mut settings = String::new();
    for (name, text, more) in all {
        let file = folder.join(format!("{name}.js"));
        std::fs::write(&file, text).unwrap();
        write!(
            settings,
            "[[sites.integrations]]\nname = \"{name}\"\nfile = {:?}\n{more}\n",
            file.display().to_string()
        )
        .unwrap();
    }
    settings
}

const HANDLE: &str = "function handle(event) {}";

/// The path in `"src":"/tw/NAME.HASH.js"`.
fn src(script: &str, name: &str) -> String {
    let begin = format!("/tw/{name}.");
    let (_, rest) = script.split_once(&begin).unwrap();
    let (rest, _) = rest.split_once('"').unwrap();
    begin + rest
}

#[tokio::test(flavor = "multi_thread")]
async fn client_mode_page_gets_the_library_and_the_gateway_delivers_nothing() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let meta = vendor(SimulatorKind::Meta).await;
    let client = format!(
        "[[sites.destinations]]\nname = \"meta\"\nvendor = \"meta\"\nmode = \"client\"\n\
         endpoint = \"http://{}\"\nconsent = [\"advertising\"]\n\
         [sites.destinations.settings]\npixel_id = \"424242\"\naccess_token = \"hush-hush\"\n",
        meta.address()
    );
    let settings = format!("{NO_RATES}{}{client}", webhook_site(webhook.address(), ""));
    let gateway = Gateway::start(&settings).await;
    let script = get(&gateway, "/tw.js").body;
    for wanted in [
        "\"src\":\"/meta/en_US/fbevents.js\"",
        "\"pixel_id\":\"424242\"",
        "\"consent\":[\"advertising\"]",
        "\"api\":\"/meta\"",
        "tagway.client(\"meta\"",
        "\"gpc\":[\"advertising\"]",
    ] {
        assert!(script.contains(wanted), "{wanted}: {script}");
    }
    assert!(!script.contains("hush"), "{script}");
    gateway.accept(&[track("m-1", "Order Completed")]).await;
    let rows = gateway.settled(1).await;
    let names: Vec<String> = rows.iter().map(|row| row.destination.clone()).collect();
    assert!(!names.contains(&"meta".to_owned()), "it has no reader: {names:?}");
    assert_eq!(meta.tally().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn integrations_are_immutable_under_their_hash_and_drafts_are_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        ("live", HANDLE, "on = [\"Order *\"]"),
        ("own", "const handle = () => 42;", "inline = true"),
        ("draft", "function handle() { 'hush' }", "preview = true"),
    ];
    let settings = format!("{NO_RATES}{SITE}{}", integrations(dir.path(), &all));
    let gateway = Gateway::start(&settings).await;
    let script = get(&gateway, "/tw.js").body;
    assert!(script.contains("const handle = () => 42;"), "{script}");
    assert!(!script.contains("/tw/draft") && !script.contains("hush"), "{script}");
    let path = src(&script, "live");
    let live = get(&gateway, &path);
    assert!(live.body.contains(HANDLE), "{live:?}");
    assert_eq!(live.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(live.header("content-type"), Some("text/javascript; charset=utf-8"));
    let tag = live.header("etag").unwrap();
    let again = send(gateway.http, ("GET", &path), &[("if-none-match", tag)], b"").unwrap();
    assert_eq!(again.status, 304);
    for nothing in [
        "/tw/preview.js",
        "/tw/preview.js?token=",
        "/tw/preview.js?token=1.a.b.c",
        "/tw/draft.0123456789abcdef.js",
        "/tw/none.0123456789abcdef.js",
        "/tw/own.0123456789abcdef.js",
        "/tw/../tw/live.js",
        "/tw/live.js",
    ] {
        let answer = get(&gateway, nothing);
        assert_eq!(answer.status, 404, "{nothing}: {answer:?}");
        assert!(!answer.body.contains("hush"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_link_enables_the_drafts_of_its_site() {
    let dir = tempfile::tempdir().unwrap();
    let all = [("draft", "function handle() { 'hush' }", "preview = true")];
    let settings = format!("{NO_RATES}{SITE}{}", integrations(dir.path(), &all));
    let gateway = Gateway::start(&settings).await;
    let file = dir.path().join("tagway.toml");
    let whole = crate::harness::whole(gateway.data(), &settings);
    std::fs::write(&file, whole).unwrap();
    let link = std::process::Command::new(env!("CARGO_BIN_EXE_tagway"))
        .args(["preview", "--config", &file.display().to_string(), "--for", "1h"])
        .output()
        .unwrap();
    let text = String::from_utf8(link.stdout).unwrap();
    let link = text.lines().next().unwrap();
    let token = link.strip_prefix("https://shop.example/?tw_preview=").unwrap();
    let drafts = get(&gateway, &format!("/tw/preview.js?token={token}"));
    assert_eq!((drafts.status, drafts.header("cache-control")), (200, Some("no-store")));
    let draft = get(&gateway, &src(&drafts.body, "draft"));
    assert!(draft.body.contains("hush"), "{draft:?}");
    let forged = format!("{}A", token.strip_suffix(|_: char| true).unwrap());
    if forged != token {
        // The last character has unused bits.
        let forged = token.replacen('.', ".A", 2);
        assert_eq!(get(&gateway, &format!("/tw/preview.js?token={forged}")).status, 404);
    }
    let usage = cli::run(
        ["tagway", "preview", "--for", "60d"].map(std::ffi::OsString::from),
        Default::default(),
    );
    assert_eq!(format!("{usage:?}"), format!("{:?}", std::process::ExitCode::from(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_counted_for_configured_names_only() {
    let dir = tempfile::tempdir().unwrap();
    let all = [("live", HANDLE, ""), ("other", HANDLE, "")];
    let limits = "[limits]\nclient_per_second = 1\nclient_burst = 20\n";
    let settings = format!("{limits}{SITE}{}", integrations(dir.path(), &all));
    let gateway = Gateway::start(&settings).await;
    let report = |origin: &str, body: &str| {
        let fields = [("origin", origin), ("content-type", "text/plain")];
        send(gateway.http, ("POST", "/tw/problem"), &fields, body.as_bytes()).unwrap()
    };
    let own = "https://shop.example";
    let long = format!(
        "{{\"integration\":\"live\",\"kind\":\"error\",\"message\":\"{}\"}}",
        "x".repeat(4000)
    );
    for (origin, body, status) in [
        (own, r#"{"integration":"live","kind":"error","message":"boom\u0007"}"#, 204),
        (own, r#"{"integration":"live","kind":"timeout"}"#, 204),
        (own, r#"{"integration":"nobody's","kind":"load"}"#, 204),
        (own, r#"{"integration":"live","kind":"another"}"#, 400),
        (own, r#"["live"]"#, 400),
        (own, "", 400),
        (own, &long, 413),
        ("https://evil.example", r#"{"integration":"live","kind":"error"}"#, 403),
    ] {
        let answer = report(origin, body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
    let count = |name: &str| {
        let line =
            format!("tagway_integration_errors_total{{site=\"shop\",integration=\"{name}\"}} ");
        let (_, rest) = metrics.split_once(&line)?;
        rest.lines().next()?.parse::<u64>().ok()
    };
    assert_eq!((count("live"), count("other"), count("nobody's")), (Some(2), Some(0), None));
    assert!(!metrics.contains("boom"), "{metrics}");
    assert!(!metrics.contains("tagway_events_dropped_total{site=\"shop\",reason=\"malformed\"}"));
    let begun = tokio::time::Instant::now();
    while report(own, "{}").status != 429 {
        assert!(begun.elapsed() < DEADLINE, "reports are limited as events are");
    }
}

#[test]
fn check_warns_of_double_counting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tagway.toml");
    let destination = |vendor: &str, mode: &str, settings: &str| {
        format!(
            "[[sites.destinations]]\nname = \"{vendor}\"\nvendor = \"{vendor}\"\nmode = \"{mode}\"\n\
             [sites.destinations.settings]\n{settings}\n"
        )
    };
    let ga4 = "measurement_id = \"G-1\"\napi_secret = \"s\"";
    let meta = "pixel_id = \"1\"\naccess_token = \"s\"";
    let check = |settings: &str| {
        let whole = crate::harness::whole(dir.path(), settings);
        std::fs::write(&file, whole).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tagway"))
            .args(["check", "--config", &file.display().to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let both =
        format!("{SITE}{}{}", destination("ga4", "both", ga4), destination("meta", "both", meta));
    let printed = check(&both);
    assert!(printed.contains("warning: ga4: GA4 knows no event id"), "{printed}");
    assert!(!printed.contains("warning: meta"), "{printed}");
    let client = format!(
        "{SITE}[sites.vendors.meta]\nbeacons = \"convert\"\n{}{}",
        destination("ga4", "client", "measurement_id = \"G-1\""),
        destination("meta", "client", "pixel_id = \"1\"")
    );
    let printed = check(&client);
    assert!(!printed.contains("warning: ga4"), "{printed}");
    assert!(
        printed.contains("warning: meta: the beacons of its library become events"),
        "{printed}"
    );
    let tags = |more: &str| {
        let shims = "[sites.sdk]\nshims = [\"ga4\", \"meta\"]\n";
        let console =
            format!("[[sites.destinations]]\nname = \"log\"\nvendor = \"console\"\n{more}");
        check(&format!("{SITE}{shims}{}{console}", destination("ga4", "server", ga4)))
    };
    let warning = "warning: log: gets the same event from each of the tags of ga4, meta";
    let printed = tags("");
    assert!(printed.contains(warning) && !printed.contains("warning: ga4"), "{printed}");
    assert!(!tags("tags = [\"ga4\"]\n").contains("warning:"), "it says which");
}

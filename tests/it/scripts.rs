//! Vendors' scripts, first-party: the responses to visitors while the vendor's own host misbehaves.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::cdn::{Cdn, Reply, ok, settings};
use crate::harness::{Answer, Gateway, NO_RATES, SITE, admin_get, eventually, send};

const ALWAYS_DUE: &str =
    "min_ttl = \"0s\"\nmax_ttl = \"0s\"\nretry = \"0s\"\nnegative_ttl = \"0s\"\n";
const TAG: &str = "/ga4/gtag/js?id=G-1&cx=c";
const TEXT: &str = "u=\"https://www.google-analytics.com/g/collect\";h=\"google-analytics.com\"";
const SERVED: &str = "u=\"http://t.shop.example/ga4/g/collect\";h=\"google-analytics.com\"";

fn get(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    tokio::task::block_in_place(|| send(gateway.http, ("GET", path), fields, b"")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn script_is_fetched_once_for_many_without_visitor_data() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, "")).await;
    let http = gateway.http;
    let visitor = [
        ("cookie", "secret=1"),
        ("referer", "https://shop.example/private"),
        ("x-forwarded-for", "203.0.113.9"),
        ("user-agent", "the-visitors"),
        ("origin", "https://elsewhere.example"),
    ];
    let all: Vec<_> = (0..50)
        .map(|n| {
            std::thread::spawn(move || {
                send(http, ("GET", &format!("{TAG}&n={n}")), &visitor, b"").unwrap()
            })
        })
        .collect();
    for thread in all {
        let answer = tokio::task::block_in_place(|| thread.join().unwrap());
        assert_eq!((answer.status, answer.body.as_str()), (200, SERVED), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(answer.header("set-cookie"), None);
    }
    let asked = cdn.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let head = asked[0].to_ascii_lowercase();
    assert!(head.starts_with("get /gtag/js?id=g-1&cx=c http/1.1\r\n"), "{head}");
    for secret in ["secret", "private", "203.0.113", "the-visitors", "elsewhere"] {
        assert!(!head.contains(secret), "{head}");
    }
    let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
    assert!(metrics.contains("tagway_script_requests_total{vendor=\"ga4\",result=\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn script_responses_follow_conditions_ranges_and_codings() {
    let cdn = Cdn::start();
    let text = "let a = 1;\n".repeat(100);
    cdn.script(&text);
    let gateway = Gateway::start(&settings(&cdn, "")).await;
    let whole = get(&gateway, TAG, &[]);
    let tag = whole.header("etag").unwrap();
    assert_eq!(get(&gateway, TAG, &[("if-none-match", tag)]).status, 304);
    for (range, status, content_range) in [
        ("bytes=0-9", 206, Some("bytes 0-9/1100")),
        ("bytes=1090-", 206, Some("bytes 1090-1099/1100")),
        ("bytes=-5", 206, Some("bytes 1095-1099/1100")),
        ("bytes=1100-", 416, Some("bytes */1100")),
        ("bytes=0-1,3-4", 200, None),
        ("bytes=9-1", 200, None),
        ("bytes=18446744073709551616-", 416, Some("bytes */1100")),
    ] {
        let answer = get(&gateway, TAG, &[("range", range)]);
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (status, content_range),
            "{range}"
        );
    }
    let stale = get(&gateway, TAG, &[("range", "bytes=0-9"), ("if-range", "\"other\"")]);
    assert_eq!((stale.status, stale.body.len()), (200, 1100));
    let packed = eventually(|| {
        let answer = get(&gateway, TAG, &[("accept-encoding", "gzip, br")]);
        match answer.header("content-encoding") {
            Some("br") => Ok(answer),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_ne!(packed.header("etag"), Some(tag));
    assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
    let head = send(gateway.http, ("HEAD", TAG), &[], b"").unwrap();
    assert_eq!((head.header("content-length"), head.body.as_str()), (Some("1100"), ""));
    assert_eq!(send(gateway.http, ("POST", TAG), &[], b"").unwrap().status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn vendor_faults_change_nothing_for_visitors() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, ALWAYS_DUE)).await;
    assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: text/javascript\r\ncontent-length: 99\r\n\r\nlet";
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&[b' '; 1 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 200 << 10);
    let illnesses = [
        Reply::text("HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n"),
        Reply::text(
            "HTTP/1.1 302 no\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        ),
        Reply::text("HTTP/1.1 404 no\r\ncontent-length: 0\r\n\r\n"),
        Reply::Silence,
        Reply::text(cut),
        Reply::Reset(Vec::new()),
        Reply::Reset(cut.into()),
        ok("text/html", "", "<html>"),
        ok("text/javascript", "", " <!doctype html>"),
        ok("text/javascript", "", "a".repeat(300 << 10)),
        ok("text/javascript", "content-encoding: gzip\r\n", bomb),
        ok("text/javascript", "content-encoding: br\r\n", "no brotli"),
        ok("text/javascript", "content-encoding: rot13\r\n", "yrg n = 1"),
    ];
    for illness in illnesses {
        cdn.reply(illness.clone());
        let before = cdn.asked().len();
        // Each fault is tried several times, so that its effect would show.
        eventually(|| {
            assert_eq!(get(&gateway, TAG, &[]).body, SERVED, "{illness:.99?}");
            let asked = cdn.asked().len() - before;
            if asked >= 3 { Ok(()) } else { Err(format!("asked {asked} times")) }
        })
        .await;
    }
    // An endless reply is cut at the size limit, long before the timeout.
    let patient = settings(&cdn, "min_ttl = \"0s\"\nmax_ttl = \"0s\"").replace("300ms", "1h");
    let gateway = gateway.restart(&patient).await;
    cdn.reply(Reply::Endless);
    eventually(|| {
        assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
        if cdn.ended() >= 1 { Ok(()) } else { Err("still sending".to_owned()) }
    })
    .await;
    let gateway = gateway.restart(&settings(&cdn, ALWAYS_DUE)).await;
    cdn.reply(ok("text/html", "", "<html>"));
    get(&gateway, TAG, &[]);
    eventually(|| match cdn.asked().last().unwrap().contains("if-none-match: \"one\"") {
        true => Ok(()),
        false => Err(format!("{:?}", cdn.asked().last())),
    })
    .await;
    cdn.script("let recovered = 1");
    eventually(|| match get(&gateway, TAG, &[]).body {
        body if body == "let recovered = 1" => Ok(()),
        body => Err(body),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_served_after_a_restart_without_the_vendor() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, ALWAYS_DUE)).await;
    assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
    cdn.stop();
    let gateway = gateway.restart(&settings(&cdn, ALWAYS_DUE)).await;
    for _ in 0..5 {
        assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
    }
    assert_eq!(get(&gateway, "/ga4/gtag/js?id=G-1&gtm=2", &[]).status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_modified_reply_extends_freshness_by_its_max_age() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, "min_ttl = \"0s\"\nmax_ttl = \"1h\"")).await;
    assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
    cdn.reply(Reply::text("HTTP/1.1 304 same\r\ncache-control: max-age=600\r\n\r\n"));
    let fresh = eventually(|| {
        assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
        let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
        let hits = "tagway_script_requests_total{vendor=\"ga4\",result=\"hit\"}";
        match metrics.lines().find(|line| line.starts_with(hits)) {
            Some(line) => Ok(line.to_owned()),
            None => Err(metrics),
        }
    });
    fresh.await;
    let asked = cdn.asked();
    assert!(asked.last().unwrap().contains("if-none-match: \"one\""), "{asked:?}");
    for _ in 0..5 {
        get(&gateway, TAG, &[]);
    }
    // The confirmation survives a restart.
    let gateway = gateway.restart(&settings(&cdn, "min_ttl = \"0s\"\nmax_ttl = \"1h\"")).await;
    assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
    drop(gateway);
    assert_eq!(cdn.asked().len(), asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_foreign_ids_are_not_fetched() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let endpoint = format!("scripts = \"proxy\"\nscript_endpoint = \"http://{}\"\n", cdn.address);
    let more = format!(
        "[[sites.destinations]]\nname = \"meta\"\nvendor = \"meta\"\nmode = \"client\"\n\
         [sites.destinations.settings]\npixel_id = \"123\"\n[sites.vendors.meta]\n{endpoint}\
         [sites.vendors.segment]\nids = [\"KEY\"]\n{endpoint}\
         [sites.vendors.intercom]\napp_id = \"app\"\n{endpoint}\
         [sites.vendors.posthog]\n{endpoint}"
    );
    let gateway = Gateway::start(&(settings(&cdn, "") + &more)).await;
    for path in [
        "/ga4/gtm.js?id=GTM-ATTACKER",
        "/ga4/gtag/js?id=G-2",
        "/ga4/gtag/js?x=1&id=G-2&id=G-1",
        "/ga4/gtag/js",
        "/ga4/gtag/js?id=G-1&l=alert(1)",
        "/ga4/gtag/destination?id=AW-1",
        "/meta/signals/config/124",
        "/meta/../x_YZ/fbevents.js",
        "/meta/xx/fbevents.js",
        "/segment/analytics.js/v1/OTHERKEY/analytics.min.js",
        "/intercom/widget/other",
        "/posthog/array/phc_other/array.js",
    ] {
        assert_eq!(get(&gateway, path, &[]).status, 404, "{path}");
    }
    assert_eq!(cdn.asked().len(), 0);
    for path in [
        "/ga4/gtag/js?id=G-1&callback=x",
        "/meta/signals/config/123?v=2.9.1&r=stable",
        "/meta/en_US/fbevents.js",
        "/segment/analytics.js/v1/KEY/analytics.min.js",
        "/intercom/widget/app",
        "/posthog/static/array.js",
    ] {
        assert_eq!(get(&gateway, path, &[]).status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uncached_scripts_are_fetched_at_a_limited_rate() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, "new_per_minute = 1")).await;
    assert_eq!(get(&gateway, TAG, &[]).status, 200);
    let path = |n: usize| format!("/ga4/gtag/js?id=G-1&gtm={n}");
    let statuses: Vec<u16> = (0..4).map(|n| get(&gateway, &path(n), &[]).status).collect();
    assert_eq!(statuses, [502; 4]);
    assert_eq!(get(&gateway, TAG, &[]).status, 200, "what is at hand is served as ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flood_of_parameters_is_bounded_in_memory_disk_and_fetches() {
    let cdn = Cdn::start();
    let limits = "max_concurrent_fetches = 3\ncache_bytes = \"40KiB\"\ndisk_bytes = \"60KiB\"";
    cdn.reply(Reply::Slow(
        Duration::from_millis(5),
        ok("text/javascript", "", "x".repeat(4096)).bytes(),
    ));
    let gateway = Gateway::start(&settings(&cdn, limits)).await;
    let http = gateway.http;
    let floods: Vec<_> = (0..8)
        .map(|thread| {
            std::thread::spawn(move || {
                let ask = |n| {
                    let path = format!("/ga4/gtag/js?id=G-1&gtm={thread}-{n}");
                    send(http, ("GET", &path), &[], b"").unwrap().status
                };
                (0..40).map(ask).collect::<Vec<u16>>()
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for flood in floods {
        statuses.extend(tokio::task::block_in_place(|| flood.join().unwrap()));
    }
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(served > 0 && statuses.iter().all(|it| matches!(it, 200 | 502)), "{statuses:?}");
    assert!(cdn.asked().len() <= 320 && cdn.most_at_once() <= 3, "{}", cdn.most_at_once());
    let folder = gateway.data().join("scripts");
    let on_disk = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|it| it.unwrap());
        files.map(|file| file.metadata().map_or(0, |it| it.len())).sum::<u64>()
    };
    assert!((1..=60 << 10).contains(&on_disk()), "{}", on_disk());
    // Scripts in memory are listed. The cache evicts in the background.
    let held = eventually(|| {
        get(&gateway, "/ga4/gtag/js?id=G-1&gtm=1-1", &[]);
        let scripts = gateway.scripts();
        let bytes = |row: &Value| row["served"]["bytes"].as_u64().unwrap();
        let held: u64 = scripts.as_array().unwrap().iter().map(bytes).sum();
        if (1..=40 << 10).contains(&held) { Ok(()) } else { Err(format!("{held} bytes")) }
    });
    held.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_scripts_are_rejected_and_paths_cannot_escape_the_mount() {
    let cdn = Cdn::start();
    cdn.reply(ok("text/html", "", "<html>"));
    let gateway = Gateway::start(&settings(&cdn, "retry = \"1h\"")).await;
    for _ in 0..5 {
        assert_eq!(get(&gateway, TAG, &[]).status, 502);
    }
    assert_eq!(cdn.asked().len(), 1, "left alone after a failure");
    for path in [
        "/ga4/../gtag/js",
        "/ga4//evil.example/gtag/js",
        "/ga4/gtag/js/..",
        "/ga4/%2e%2e/gtag/js",
        "/ga4/gtag%2fjs",
        "/ga4/@evil.example",
        "/ga4/gtag/js?id=a%0d%0ab",
        "/ga4/gtag/js?id=//evil",
    ] {
        assert_eq!(get(&gateway, path, &[]).status, 404, "{path}");
    }
    assert_eq!(cdn.asked().len(), 1);
    drop(gateway);
    let private =
        settings(&cdn, "").replace("[scripts]", "[egress]\nallow_private = false\n[scripts]");
    let guarded = Gateway::start(&private).await;
    assert_eq!(get(&guarded, TAG, &[]).status, 502);
    assert_eq!(cdn.asked().len(), 1);
}

/// The script path that pages load, for each vendor with a shim.
const ENTRIES: [(&str, &str); 8] = [
    ("ga4", "/gtag/js?id=G-1"),
    ("meta", "/en_US/fbevents.js"),
    ("mixpanel", "/libs/mixpanel-2-latest.min.js"),
    ("amplitude", "/libs/analytics-browser-2.11.1-min.js.gz"),
    ("segment", "/analytics.js/v1/KEY/analytics.min.js"),
    ("posthog", "/static/array.js"),
    ("intercom", "/widget/app"),
    ("drift", "/include/1700000000000/app.js"),
];

#[tokio::test(flavor = "multi_thread")]
async fn shim_replaces_each_vendors_script_by_default() {
    let gateway = Gateway::start(&format!("{NO_RATES}{SITE}")).await;
    for (vendor, path) in ENTRIES {
        let path = format!("/{vendor}{path}");
        let answer = get(&gateway, &path, &[("origin", "https://elsewhere.example")]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(
            answer.header("cache-control").unwrap(),
            "public, max-age=300, stale-while-revalidate=86400"
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("set-cookie"), None);
        assert!(answer.body.starts_with("if(!(window.tagway&&window.tagway.loaded)){"), "{path}");
        assert!(answer.body.contains(&format!("tagway.loaded.{vendor}=1;")), "{path}");
        assert!(!answer.body.contains("\"page\":true"), "its own calls say which pages are opened");
        let packed = get(&gateway, &path, &[("accept-encoding", "gzip, br")]);
        assert_eq!(packed.header("content-encoding"), Some("br"), "{path}");
        let tag = answer.header("etag").unwrap();
        let again = get(&gateway, &path, &[("if-none-match", tag)]);
        assert_eq!((again.status, again.header("etag")), (304, Some(tag)), "{path}");
        let head = tokio::task::block_in_place(|| send(gateway.http, ("HEAD", &path), &[], b""));
        assert_eq!((head.as_ref().unwrap().status, head.unwrap().body.as_str()), (200, ""));
        let post = tokio::task::block_in_place(|| send(gateway.http, ("POST", &path), &[], b""));
        assert_eq!(post.unwrap().status, 405, "{path}");
    }
    let (one, other) = (
        "/segment/analytics.js/v1/A/analytics.min.js",
        "/segment/analytics.js/v1/B/analytics.min.js",
    );
    assert_eq!(get(&gateway, one, &[]).header("etag"), get(&gateway, other, &[]).header("etag"));
    // Parts of the vendors' own libraries, scripts without a shim, vendors without a shim.
    for path in [
        "/ga4/gtm.js?id=GTM-1",
        "/ga4/gtag/../gtag/js",
        "/meta/signals/config/1",
        "/mixpanel/libs/mixpanel-recorder.min.js",
        "/segment/analytics-next/bundles/a.js",
        "/posthog/static/recorder.js",
        "/umami/script.js",
        "/matomo/matomo.js",
    ] {
        assert_eq!(get(&gateway, path, &[]).status, 404, "{path}");
    }
    let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
    for line in [
        "tagway_script_requests_total{vendor=\"meta\",result=\"shim\"} 3",
        "tagway_script_requests_total{vendor=\"meta\",result=\"unchanged\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_setting_decides_the_response_at_script_paths() {
    let cdn = Cdn::start();
    cdn.script("let own = 1;");
    let endpoint = format!("script_endpoint = \"http://{}\"\n", cdn.address);
    let settings = format!(
        "{NO_RATES}{SITE}[[sites.destinations]]\nname = \"mixpanel\"\nvendor = \"mixpanel\"\n\
         mode = \"client\"\n[sites.destinations.settings]\nproject_token = \"token\"\n\
         [sites.vendors.mixpanel]\n{endpoint}[sites.vendors.ga4]\nscripts = \"off\"\n\
         [sites.vendors.umami]\nscripts = \"proxy\"\n{endpoint}\
         [sites.vendors.posthog]\nmount = \"/\"\n[sites.vendors.drift]\nmount = \"/\"\n"
    );
    let gateway = Gateway::start(&settings).await;
    for path in ["/mixpanel/libs/mixpanel-2-latest.min.js", "/umami/script.js"] {
        assert_eq!(get(&gateway, path, &[]).body, "let own = 1;", "{path}");
    }
    assert_eq!(get(&gateway, TAG, &[]).status, 404);
    for path in ["/static/array.js", "/include/1/app.js"] {
        assert!(get(&gateway, path, &[]).body.contains("window.tagway"), "{path}");
    }
    // The beacons of these mounts are unaffected.
    assert!(get(&gateway, "/array/token/config.js", &[]).body.contains("_POSTHOG_REMOTE_CONFIG"));
    assert_ne!(get(&gateway, "/ga4/g/collect?v=1", &[]).status, 404);
}

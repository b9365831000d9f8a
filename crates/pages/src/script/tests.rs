//! Composed scripts, their responses, and the mistakes of their settings.

use std::io::Read;

use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;

use super::test_support::{SHORT, plain};
use super::*;
use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile, SettingsSection};
use tagway_vendors::{Vendor, VendorShim};

fn read(text: &str) -> (SdkSettings, String) {
    let base = "auto = []\nrestored = true\nalias = false\nshims = []\nwait_for_consent = false\n\
                max_age = \"5m\"\nstale = \"1d\"\n";
    let set = |line: &&str| !text.contains(line.split(' ').next().unwrap());
    let text = base.lines().filter(set).fold(text.to_owned(), |text, line| text + "\n" + line);
    let source = ConfigFile { name: "test".to_owned(), text };
    let (report, environment) = (ConfigErrorReport::default(), ConfigEnvironment::default());
    let table = source.parse(&report);
    let settings = SdkSettings::read(&mut SettingsSection::root(
        vec![(&source, &table)],
        &environment,
        &report,
    ));
    let mistakes: Vec<String> = report.into_errors().iter().map(ToString::to_string).collect();
    (settings, mistakes.join("\n"))
}

async fn body(response: http::Response<http_body_util::Full<bytes::Bytes>>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

#[test]
fn site_script_has_the_configured_parts_only() {
    let chosen = [("Link Clicked", AutomaticEvent::Links), ("Web Vitals", AutomaticEvent::Vitals)];
    let without = compose::site(&plain(), &SdkExtras::default());
    let parts = chosen.iter().map(|(_, part)| *part).collect();
    let with = compose::site(&SdkSettings { auto: parts, ..plain() }, &SdkExtras::default());
    for (mark, _) in chosen {
        assert!(with.contains(mark) && !without.contains(mark), "{mark}");
    }
    assert!(without.contains(r#""page":true"#) && !with.contains(r#""page":true"#));
    assert!(
        compose::site(&SdkSettings { alias: true, ..plain() }, &SdkExtras::default())
            .contains("tagway.loaded.segment=1")
    );
    assert!(!without.contains("tagway.loaded.segment"));
}

#[test]
fn with_shim_has_the_core_and_one_shim() {
    static SHY: VendorShim = VendorShim {
        script: "window.shy=1;",
        needs: &[&tagway_vendors::shim::STUB],
        ..VendorShim::PLAIN
    };
    let vendor = Vendor { name: "shy", shim: Some(&SHY), ..Vendor::EMPTY };
    let script = compose::with_shim(&plain(), &SdkExtras::default(), &vendor).unwrap();
    assert!(script.starts_with("if(!(window.tagway&&window.tagway.loaded)){"));
    let end = "if(!tagway.loaded.shy){tagway.loaded.shy=1;window.shy=1;}\n";
    assert!(script.ends_with(end), "{script}");
    assert_eq!(compose::with_shim(&plain(), &SdkExtras::default(), &Vendor::EMPTY), None);
}

/// The length of a served script in Brotli.
fn served(text: String) -> usize {
    let fields = HeaderMap::from_iter([(ACCEPT_ENCODING, "br".parse().unwrap())]);
    let answer = ServedScript::new(text).answer(&Method::HEAD, &fields, SHORT);
    answer.headers()["content-length"].to_str().unwrap().parse().unwrap()
}

#[test]
fn scripts_stay_within_their_size_limits() {
    const CORE: usize = 1_536;
    // With the site's settings and the parts that every site's script has besides the core.
    const PLAIN: usize = 2_016;
    const SHIM: usize = 2_560;
    const ALL: usize = 14_336;
    let core = served(include_str!("../../../../static/sdk/dist/core.js").to_owned());
    assert!(core <= CORE, "the core: {core} bytes");
    let script = served(compose::site(&plain(), &SdkExtras::default()));
    assert!(script <= PLAIN, "the script of a site that chose nothing: {script} bytes");
    let vendors = || VENDORS.iter().filter_map(|vendor| Some((vendor.name, vendor.shim?)));
    for (name, shim) in vendors() {
        let bytes = served(shim.script.to_owned());
        assert!(bytes <= SHIM, "{name}: {bytes} bytes");
    }
    // With an id for each shim that takes one.
    let id = |(name, shim): (&'static str, &'static VendorShim)| {
        let ids = shim.ids.iter().map(|it| ((*it).to_owned(), "abcd1234".into()));
        let from = ("from".to_owned(), "https://widget.intercom.io".into());
        (!shim.ids.is_empty()).then(|| (name, ids.chain([from]).collect()))
    };
    let shims = vendors().map(|(name, _)| name).collect();
    let all = SdkSettings { shims, shim_settings: vendors().filter_map(id).collect(), ..plain() };
    let all = served(compose::site(&all, &SdkExtras::default()));
    assert!(all <= ALL, "all shims: {all} bytes");
}

#[test]
fn shared_pieces_come_once_and_ids_are_in_the_settings() {
    let shim_settings = ShimSettings::from([(
        "intercom",
        serde_json::Map::from_iter([("app_id".to_owned(), "</script>".into())]),
    )]);
    let shims = vec!["intercom", "drift", "segment"];
    let script =
        compose::site(&SdkSettings { shims, shim_settings, ..plain() }, &SdkExtras::default());
    for name in ["stub", "chat", "intercom", "drift", "segment"] {
        assert_eq!(script.matches(&format!("tagway.loaded.{name}=1")).count(), 1, "{name}");
    }
    assert!(script.contains(r#""shims":{"intercom":{"app_id":"\u003c/script>"}}"#));
    assert!(!compose::site(&plain(), &SdkExtras::default()).contains("\"shims\""));
}

#[tokio::test]
async fn every_encoding_decodes_to_the_script() {
    let file = ServedScript::new(compose::site(&plain(), &SdkExtras::default()));
    for encoding in ["br", "zstd", "gzip", ""] {
        let fields = HeaderMap::from_iter([(ACCEPT_ENCODING, encoding.parse().unwrap())]);
        let answer = file.answer(&Method::GET, &fields, SHORT);
        let coding = answer.headers().get("content-encoding").map(|it| it.to_str().unwrap());
        assert_eq!(coding.unwrap_or_default(), encoding);
        let content = body(answer).await;
        let mut text = Vec::new();
        match encoding {
            "br" => brotli::BrotliDecompress(&mut &*content, &mut text).unwrap(),
            "zstd" => text = zstd::bulk::decompress(&content, 1 << 20).unwrap(),
            "gzip" => {
                flate2::read::GzDecoder::new(&*content).read_to_end(&mut text).unwrap();
            }
            _ => text = content,
        }
        assert_eq!(text, file.text(), "{encoding}");
    }
}

#[tokio::test]
async fn answer_is_304_for_a_matching_entity_tag() {
    let file = ServedScript::new("let a = 1;".repeat(9));
    let mut fields = HeaderMap::from_iter([(ACCEPT_ENCODING, "gzip, br;q=0".parse().unwrap())]);
    let answer = file.answer(&Method::GET, &fields, SHORT);
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.headers()["vary"], "Accept-Encoding");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["cross-origin-resource-policy"], "cross-origin");
    let kept = "public, max-age=300, stale-while-revalidate=86400";
    assert_eq!(answer.headers()["cache-control"], kept);
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        fields.insert(IF_NONE_MATCH, tags.parse().unwrap());
        let answer = file.answer(&Method::GET, &fields, SHORT);
        assert_eq!(answer.status(), 304, "{tags}");
        assert_eq!(answer.headers()["etag"], etag);
        assert!(body(answer).await.is_empty());
    }
    fields.insert(IF_NONE_MATCH, "\"x\"".parse().unwrap());
    let nothing = HeaderMap::from_iter([(ACCEPT_ENCODING, "*;q=0".parse().unwrap())]);
    assert_eq!(file.answer(&Method::GET, &nothing, SHORT).status(), 406);
    assert_eq!(file.answer(&Method::GET, &fields, SHORT).status(), 200);
    let head = file.answer(&Method::HEAD, &fields, SHORT);
    assert_ne!(head.headers()["content-length"], "0");
    assert!(body(head).await.is_empty());
}

#[test]
fn only_the_current_hash_is_immutable() {
    let sdk = SiteSdkScripts::new(&plain(), SdkExtras::default());
    let hash = sdk.file.hash().to_owned();
    let caching_at = |path: &str| sdk.file_at(path).unwrap().1;
    assert_eq!(caching_at(&format!("/tw.{hash}.js")), BrowserCaching::Immutable);
    assert_eq!(caching_at("/tw.0123456789abcdef.js"), SHORT);
    assert_eq!(caching_at("/tw.js"), SHORT);
    for path in ["/tw.js", "/tw.0123456789abcdef.js"] {
        assert!(SiteSdkScripts::is_at(path), "{path}");
    }
    for path in ["/", "/tw", "/tw.js.map", "/tw..js", "/tw.x.js", "/tw.0123456789abcdeg.js"] {
        assert!(!SiteSdkScripts::is_at(path), "{path}");
    }
}

#[test]
fn settings_report_mistakes_with_suggestions() {
    let (settings, report) = read("auto = [\"page\", \"links\", \"page\"]");
    assert_eq!(
        (settings.auto, report.as_str()),
        (vec![AutomaticEvent::Page, AutomaticEvent::Links], "")
    );
    let (_, report) = read("auto = [\"vital\"]\nshims = [\"nobody\"]\nendpoint = \"ftp://x/y\"");
    for part in ["part of the SDK", "vitals", "vendor with a shim", "a scheme and a host"] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn extras_receive_the_first_page_and_earlier_calls() {
    let extras = SdkExtras { script: "hear();".to_owned(), ..SdkExtras::default() };
    for script in [
        compose::site(&plain(), &extras),
        compose::with_shim(&plain(), &extras, tagway_vendors::find("ga4").unwrap()).unwrap(),
    ] {
        let core = script.find("sendBeacon").or(script.find("keepalive")).unwrap();
        let (note, hear) = (
            script.find("t.settings").or(script.find("s=t.settings")).unwrap(),
            script.find("hear();").unwrap(),
        );
        let end = script.find("tagway.settings.early=0").unwrap();
        assert!(note < core && core < hear && hear < end, "{script}");
    }
    let without = compose::site(&plain(), &SdkExtras::default());
    assert!(!without.contains("early"), "nobody pays for what they do not use");
}

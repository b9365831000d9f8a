//! Complete lists of integrations, as in a site's configuration.

use super::*;
use crate::script::{BrowserCaching, SiteSdkScripts};
use tagway_vendors::test_support;

const DEFAULTS: &str = "[integration_defaults]\non = [\"*\"]\nconsent = []\ntimeout = \"5s\"\nlazy = false\ninline = false\npreview = false\n";

fn read(text: &str) -> (Vec<SiteIntegration>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.js");
    std::fs::write(&file, "function handle(event) {}").unwrap();
    let text = text.replace("FILE", &file.display().to_string());
    test_support::read(&format!("{text}{DEFAULTS}"), read_integrations)
}

fn sdk(integrations: &[SiteIntegration]) -> SiteSdkScripts {
    SiteSdkScripts::new(
        &crate::script::test_support::plain(),
        extras(&[], integrations, &PrivacyPolicy::default()),
    )
}

fn one(name: &str, rest: &str) -> String {
    format!("[[integrations]]\nname = \"{name}\"\nfile = \"FILE\"\n{rest}\n")
}

#[test]
fn integrations_follow_their_after_list() {
    let text = one("c", "after = [\"a\", \"b\"]")
        + &one("b", "after = [\"a\"]")
        + &one("a", "")
        + &one("d", "");
    let (read, mistakes) = read(&text);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let names: Vec<&str> = read.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[test]
fn read_reports_cycles_unknown_names_and_missing_files() {
    for (text, expected) in [
        (one("a", "after = [\"b\"]") + &one("b", "after = [\"a\"]"), "forms a cycle"),
        (one("alpha", "") + &one("b", "after = [\"alpah\"]"), "did you mean \"alpha\"?"),
        (one("a", "").replace("FILE", "/none/such.js"), "cannot be read"),
        (one("a", "").replace("file = \"FILE\"\n", ""), "is required"),
        (one("A b", ""), "must be 1 to 64"),
        (one("a", "") + &one("a", ""), "another integration"),
        (one("a", "tiemout = \"1s\""), "did you mean \"timeout\"?"),
        (one("a", "preview = true") + &one("b", "after = [\"a\"]"), "names a draft"),
        (one("a", "timeout = \"0s\""), "must not be zero"),
        (one("a", "inline = true\nlazy = true"), "neither lazy nor a draft"),
        (one("a", "inline = true\npreview = true"), "neither lazy nor a draft"),
    ] {
        let (_, mistakes) = read(&text);
        assert!(mistakes.iter().any(|it| it.contains(expected)), "{expected}: {mistakes:?}");
    }
}

#[test]
fn read_reports_a_syntax_error_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.js");
    std::fs::write(&file, "function handle(event) {\n  return event +;\n}\n").unwrap();
    let text = one("a", "").replace("FILE", &file.display().to_string());
    let (_, mistakes) = read(&text);
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    let place = format!("{}:2: integrations[0].file: cannot be read as JavaScript", file.display());
    assert!(mistake.starts_with(&place), "{mistake}");
}

#[test]
fn drafts_are_only_in_the_preview_script() {
    let (read, mistakes) = read(&(one("live", "") + &one("draft", "preview = true")));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let sdk = sdk(&read);
    let script = String::from_utf8(sdk.file.text().to_vec()).unwrap();
    assert!(script.contains("\"live\"") && !script.contains("\"draft\""), "{script}");
    let drafts = String::from_utf8(sdk.drafts().unwrap().text().to_vec()).unwrap();
    assert!(drafts.contains("\"draft\"") && !drafts.contains("live"), "{drafts}");
}

#[test]
fn draft_is_served_under_its_own_hash_only() {
    let (read, _) = read(&(one("live", "") + &one("draft", "preview = true")));
    let sdk = sdk(&read);
    let old = "0123456789abcdef";
    let (_, caching) = sdk.file_at(&format!("/tw/live.{old}.js")).unwrap();
    assert_ne!(caching, BrowserCaching::Immutable);
    assert!(sdk.file_at(&format!("/tw/draft.{old}.js")).is_none());
    for name in ["live", "draft"] {
        let text = read.iter().find(|it| &*it.name == name).unwrap().script();
        let hash = ServedScript::new(text).hash().to_owned();
        let (_, caching) = sdk.file_at(&format!("/tw/{name}.{hash}.js")).unwrap();
        assert_eq!(caching, BrowserCaching::Immutable);
        assert!(sdk.file_at(&format!("/tw/none.{hash}.js")).is_none());
    }
}

#[test]
fn inline_integration_is_only_in_the_site_script() {
    let (read, mistakes) = read(&one("own", "inline = true\nconsent = [\"analytics\"]"));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let sdk = sdk(&read);
    let script = String::from_utf8(sdk.file.text().to_vec()).unwrap();
    assert!(script.contains("tagway.integration(\"own\",function(){"), "{script}");
    assert!(!script.contains("/tw/own."), "{script}");
    assert!(sdk.file_at("/tw/own.0123456789abcdef.js").is_none());
}

#[test]
fn settings_cannot_end_a_script_element() {
    let (read, mistakes) = read(&one("own", "on = [\"</script>\\u2028\"]"));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let script = String::from_utf8(sdk(&read).file.text().to_vec()).unwrap();
    assert!(script.contains("\\u003c/script>\\u2028") && !script.contains("</script>"));
}

#[test]
fn extras_are_empty_without_integrations() {
    let extras = extras(&[], &[], &PrivacyPolicy::default());
    assert!(extras.script.is_empty() && extras.settings.is_empty());
}

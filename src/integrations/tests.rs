//! Whole lists of integrations, as a site would write them.

use super::*;
use crate::vendors::trial;

const DEFAULTS: &str = "[integration_defaults]\non = [\"*\"]\nconsent = []\ntimeout = \"5s\"\nlazy = false\npreview = false\n";

fn read(text: &str) -> (Vec<Integration>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.js");
    std::fs::write(&file, "function handle(event) {}").unwrap();
    let text = text.replace("FILE", &file.display().to_string());
    trial::read(&format!("{text}{DEFAULTS}"), read_integrations)
}

fn one(name: &str, rest: &str) -> String {
    format!("[[integrations]]\nname = \"{name}\"\nfile = \"FILE\"\n{rest}\n")
}

#[test]
fn each_comes_after_those_it_names_and_else_as_written() {
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
fn circles_unknown_names_and_missing_files_are_mistakes() {
    for (text, expected) in [
        (one("a", "after = [\"b\"]") + &one("b", "after = [\"a\"]"), "leads back"),
        (one("alpha", "") + &one("b", "after = [\"alpah\"]"), "did you mean \"alpha\"?"),
        (one("a", "").replace("FILE", "/none/such.js"), "cannot be read"),
        (one("a", "").replace("file = \"FILE\"\n", ""), "is required"),
        (one("A b", ""), "must be 1 to 64"),
        (one("a", "") + &one("a", ""), "another integration"),
        (one("a", "tiemout = \"1s\""), "did you mean \"timeout\"?"),
        (one("a", "preview = true") + &one("b", "after = [\"a\"]"), "names a draft"),
        (one("a", "timeout = \"0s\""), "must not be zero"),
    ] {
        let (_, mistakes) = read(&text);
        assert!(mistakes.iter().any(|it| it.contains(expected)), "{expected}: {mistakes:?}");
    }
}

#[test]
fn drafts_are_only_in_the_script_of_drafts() {
    let (read, mistakes) = read(&(one("live", "") + &one("draft", "preview = true")));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let shown = public(&read).to_string();
    assert!(shown.contains("\"live\"") && !shown.contains("draft"), "{shown}");
    let script = drafts(&read);
    assert!(script.contains("\"draft\"") && !script.contains("live"), "{script}");
    assert!(has_drafts(&read));
}

#[test]
fn json_in_a_script_ends_no_script() {
    let value = serde_json::json!({ "on": "</script>\u{2028}" });
    assert_eq!(escaped(&value), "{\"on\":\"\\u003c/script>\\u2028\"}");
}

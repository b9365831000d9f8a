//! Checks rules of the code that no compiler checks: imports between modules, the length of files, and
//! the agreement of lists, folders, names and documentation.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod documents;
mod language;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tagway::gateway::REJECTIONS;
use tagway_pages::script::compose::snippet;
use tagway_vendors::{REASONS, VENDORS};

/// The imports between the modules of one package: Cargo keeps the packages apart. A module that is not
/// listed imports no other module of its package; `*` allows all.
const IMPORTS: &[(&str, &str, &[&str])] = &[
    ("core", "event", &["values"]),
    ("core", "feed", &["event", "privacy"]),
    ("core", "visitor", &["event"]),
    ("core", "privacy", &["event", "values"]),
    ("core", "bots", &["event"]),
    ("core", "geo", &["event"]),
    ("storage", "journal", &["store"]),
    ("storage", "profile", &["journal", "postgres", "store"]),
    ("pages", "integrations", &["script"]),
    ("pages", "origin", &["script"]),
    ("tagway", "admin", &["rehearsal"]),
    ("tagway", "config", &["admin", "gateway", "log"]),
    ("tagway", "app", &["*"]),
    ("tagway", "cli", &["*"]),
];

/// The packages whose modules the table above is about.
const LAYERED: &[&str] = &["core", "storage", "pages", "tagway"];

/// Modules that the rest of their package does not know.
const TOP_MODULES: &[(&str, &str)] = &[("vendors", "mapping"), ("delivery", "segment")];

/// The most lines of a file's code, without its tests.
const MAX_LINES: usize = 500;

/// Names without a meaning.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// The metrics whose names dashboards rely on.
const METRICS: &[&str] = &[
    "requests",
    "request_duration_seconds",
    "events_accepted",
    "events_dropped",
    "rate_limited",
    "journal_append_seconds",
    "journal_bytes",
    "deliveries",
    "delivery_attempts",
    "delivery_seconds",
    "pending_events",
    "pending_oldest_seconds",
    "profile_lookups",
    "script_requests",
    "script_changes",
    "scripts_pending",
    "segment_members",
    "segment_runs",
    "segment_synced_members",
    "segment_sync_changes",
    "config_reload_success",
    "build", // an info metric: `_info` is its type's ending
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files under a folder with this extension, by their paths from the root.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{ending} files in {folder}");
    found
}

/// The code of a file, without its comments and its tests.
fn code(name: &str, text: &str) -> String {
    if name.ends_with("/tests.rs") || name.contains("/tests/") {
        return String::new();
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("mod tests {") {
            break;
        }
        lines.push(line.split(" //").next().unwrap_or_default());
    }
    lines.retain(|line| !line.trim_start().starts_with("//"));
    lines.join("\n")
}

/// The modules that the code names after `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let list = match after.strip_prefix('{') {
            Some(rest) => rest.split('}').next().unwrap_or_default(),
            None => {
                after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
            }
        };
        let names = list.split(',').map(|name| name.trim().split("::").next().unwrap_or_default());
        found.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    found
}

/// The package of a source file, and its module there: `crates/core/src/event/rank.rs` is in `core`, `event`.
fn place(name: &str) -> (&str, &str) {
    let (package, rest) = match name.strip_prefix("crates/").and_then(|rest| rest.split_once('/')) {
        Some((package, rest)) => (package, rest),
        None => ("tagway", name),
    };
    let rest = rest.strip_prefix("src/").unwrap_or(rest);
    (package, rest.split('/').next().unwrap_or_default().trim_end_matches(".rs"))
}

/// The sources of all packages.
fn sources() -> Vec<(String, String)> {
    files("src", "rs").into_iter().chain(files("crates", "rs")).collect()
}

/// Fails with all complaints at once.
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn modules_import_only_allowed_modules() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        let (package, module) = place(&name);
        if matches!(module, "main" | "lib") {
            continue;
        }
        let allowed = IMPORTS.iter().find(|(of, one, _)| (*of, *one) == (package, module));
        let allowed = allowed.map_or(&[][..], |(_, _, allowed)| allowed);
        for import in imports(&code(&name, &text)) {
            let is_allowed = import == module
                || allowed.contains(&"*")
                || allowed.contains(&import.as_str())
                || !LAYERED.contains(&package);
            let is_above = TOP_MODULES.contains(&(package, import.as_str())) && import != module;
            if !is_allowed || is_above {
                complaints.push(format!("{name}: {module} may not import {import}"));
            }
        }
        // The `mod.rs` of journal and profile turn the store's errors into their own.
        let is_backend = name.contains("sqlite") || name.ends_with("/mod.rs");
        let uses_store = code(&name, &text).contains("crate::store")
            || code(&name, &text).contains("tagway_storage::store");
        let is_client = matches!(package, "storage" | "delivery") && module != "store";
        if uses_store && is_client && !is_backend {
            complaints.push(format!("{name}: only the SQLite backends know the store"));
        }
    }
    report(complaints);
}

#[test]
fn files_are_short_and_begin_with_a_header() {
    let mut complaints = Vec::new();
    for (name, text) in sources().into_iter().chain(files("tests", "rs")) {
        let lines = text.lines().count();
        let own = text.split("\nmod tests {").next().unwrap_or_default().lines().count();
        if own > MAX_LINES || (name.ends_with("/tests.rs") && lines > MAX_LINES) {
            complaints.push(format!("{name}: {own} lines are two things"));
        }
        if !text.starts_with("//!") {
            complaints.push(format!("{name}: does not start by saying what it is"));
        }
        let stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
        let names = name.split('/').map(str::to_owned).chain([stem]);
        for part in names.filter(|part| EMPTY_NAMES.contains(&part.as_str())) {
            complaints.push(format!("{name}: \"{part}\" says nothing"));
        }
    }
    report(complaints);
}

#[test]
fn each_packages_header_names_its_modules() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        // A package that is one thing has its parts' names in its prose, where they help.
        let (package, module) = place(&name);
        if module != "lib" || !LAYERED.contains(&package) {
            continue;
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
            let module = line.trim_end_matches(';');
            if !text.contains(&format!("[`{module}`]")) {
                complaints.push(format!("{name}: the header does not mention {module}"));
            }
        }
    }
    report(complaints);
}

#[test]
fn vendor_folders_list_and_fixtures_agree() {
    let folders = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let listed: BTreeSet<String> = VENDORS.iter().map(|vendor| vendor.name.to_owned()).collect();
    assert_eq!(listed.len(), VENDORS.len(), "a vendor is listed twice");
    let mut vendors = folders("crates/vendors/src");
    for shared in ["beacon_format", "mapping"] {
        assert!(vendors.remove(shared), "{shared} is no vendor");
    }
    assert_eq!(vendors, listed, "crates/vendors/src and VENDORS");
    assert_eq!(folders("tests/fixtures/vendors"), listed, "fixtures and VENDORS");
}

#[test]
fn dashboard_metrics_exist_and_names_are_only_in_the_metrics_module() {
    let names = fs::read_to_string(root().join("crates/core/src/metrics/entries.rs")).unwrap();
    let missing: Vec<String> = METRICS
        .iter()
        .filter(|name| !names.contains(&format!("\"{name}\"")))
        .map(|name| format!("crates/core/src/metrics/entries.rs: {name} is missing"))
        .collect();
    let mut complaints = missing;
    for (name, text) in sources() {
        if !name.starts_with("crates/core/src/metrics/")
            && code(&name, &text).contains(".register(")
        {
            complaints.push(format!("{name}: metrics are registered in crates/core/src/metrics"));
        }
    }
    report(complaints);
}

/// The string literals that are the first argument of one of these functions.
fn first_words(folders: &[&str], calls: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in folders {
        for (name, text) in files(folder, "rs") {
            if name.ends_with("tests.rs")
                || name.contains("/tests/")
                || name.contains("test_support.rs")
            {
                continue;
            }
            let code = code(&name, &text);
            for call in calls {
                for rest in code.split(call).skip(1) {
                    let rest = rest.trim_start().strip_prefix('"');
                    let Some(word) = rest.and_then(|rest| rest.split('"').next()) else { continue };
                    if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                        found.insert(word.to_owned());
                    }
                }
            }
        }
    }
    found
}

/// Fails unless the table is sorted, and has exactly the codes that are found.
fn check_reasons(table: &[(&str, &str)], found: &BTreeSet<String>, folders: &[&str]) {
    let listed: BTreeSet<String> = table.iter().map(|(code, _)| (*code).to_owned()).collect();
    let mut complaints: Vec<String> = found
        .difference(&listed)
        .map(|code| format!("{code} has no meaning in the table"))
        .collect();
    if !table.is_sorted_by(|one, next| one.0 < next.0) {
        complaints.push("the table is not in the order of the alphabet".to_owned());
    }
    let code: String = folders
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .filter(|(name, _)| !name.ends_with("reasons.rs"))
        .map(|(name, text)| code(&name, &text))
        .collect();
    for reason in listed.iter().filter(|reason| !code.contains(&format!("\"{reason}\""))) {
        complaints.push(format!("{reason} is in the table and nowhere in the code"));
    }
    report(complaints);
}

#[test]
fn every_reason_of_an_event_is_explained() {
    let folders = [
        "crates/vendors/src",
        "crates/delivery/src",
        "crates/delivery/src/segment/sync",
        "crates/core/src/privacy",
    ];
    let calls = [
        "Reason::new(",
        "Reason::detailed(",
        "Cause::new(",
        "Cause { code:",
        "status_reason(",
        ".reason(",
        " reason(",
        "(reason(",
        "Outcome::skipped(",
        "Outcome::dead(",
        "Drop(",
        " skip(",
        "(skip(",
        " dead(",
        "(dead(",
        "const FORGOTTEN: &str =",
        "const POISON: &str =",
        "const LIST_GONE: &str =",
        "const UNKNOWN: &str =",
    ];
    let mut found = first_words(&folders, &calls);
    // Codes of calls without a reply, and of Meta's sources and amounts, are bare literals.
    found.extend(first_words(&["crates/vendors/src/meta"], &["Err("]));
    // Codes from tables, such as those of vendors' replies, are in the fixtures.
    found.extend(reasons_of_outcomes());
    check_reasons(REASONS, &found, &folders);
}

/// The reasons of the outcomes that the fixtures expect.
fn reasons_of_outcomes() -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(members) => {
                found.extend(members.get("reason").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| collect(member, found));
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for (name, text) in files("tests/fixtures", "json") {
        let file = name.rsplit('/').next().unwrap_or_default();
        if file.contains("outcomes") {
            collect(&serde_json::from_str(&text).unwrap(), &mut found);
        }
    }
    assert!(found.len() > 50, "only {} reasons in the fixtures", found.len());
    found
}

#[test]
fn every_reason_of_a_rejection_is_explained() {
    let folders = ["src/gateway/decode", "crates/vendors/src/beacon_format"];
    let mut found = first_words(&folders, &["Err(", "reason:", ".reject("]);
    found.extend(first_words(&["src/gateway"], &["Nobody("]));
    let rejection = fs::read_to_string(root().join("src/gateway/rejection.rs")).unwrap();
    let codes =
        rejection.split("fn code(&self)").nth(1).and_then(|rest| rest.split("\n    }").next());
    for rest in codes.unwrap().split("=> \"").skip(1) {
        found.insert(rest.split('"').next().unwrap().to_owned());
    }
    check_reasons(REJECTIONS, &found, &["src/gateway", "crates/vendors/src"]);
}

#[test]
fn every_default_setting_has_a_comment() {
    let text = fs::read_to_string(root().join("config/tagway.toml")).unwrap();
    let mut complaints = Vec::new();
    let mut before = "";
    for (number, line) in (1..).zip(text.lines()) {
        let is_setting = !line.starts_with(['#', '[']) && line.contains(" = ");
        let is_name = matches!(line.split(' ').next(), Some("name" | "vendor"));
        if is_setting && !is_name && !line.contains(" # ") && !before.starts_with('#') {
            complaints.push(format!("config/tagway.toml:{number}: {line} says nothing of itself"));
        }
        before = line;
    }
    report(complaints);
}

#[test]
fn readme_has_the_current_snippet() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let snippet = snippet("https://t.shop.example/tw.js");
    assert!(readme.contains(&format!("<script>{snippet}</script>")), "{snippet}");
}

#[test]
fn code_has_no_todo_marks_or_local_paths() {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let mut complaints = Vec::new();
    let all = sources().into_iter().chain(files("tests", "rs")).chain(files("benches", "rs"));
    for (name, text) in all {
        for (number, line) in (1..).zip(text.lines()) {
            for mark in marks.iter().filter(|mark| line.contains(*mark)) {
                complaints.push(format!("{name}:{number}: {mark} is an issue, not a comment"));
            }
            if ["/home/", "/root/", "/work/"].iter().any(|path| line.contains(path))
                && !name.starts_with("tests/tidy/")
            {
                complaints.push(format!("{name}:{number}: a path of one machine"));
            }
        }
    }
    report(complaints);
}

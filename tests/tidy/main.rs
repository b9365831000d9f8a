//! Checks rules of the code that no compiler checks: imports between modules, the length of files, and
//! the agreement of lists, folders, names and documentation.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod documents;
mod language;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tagway::gateway::REJECTIONS;
use tagway::script::compose::snippet;
use tagway::vendors::{REASONS, VENDORS};

/// The allowed imports. `event` imports the readers of values alone; [`SHARED`] has the modules that all may import.
const IMPORTS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("address", &[]),
    ("answer", &[]),
    ("clock", &[]),
    ("metrics", &[]),
    ("settings", &[]),
    ("values", &[]),
    ("feed", &[]),
    ("log", &[]),
    ("store", &[]),
    ("postgres", &[]),
    ("edge", &[]),
    ("visitor", &[]),
    ("privacy", &[]),
    ("bots", &[]),
    ("geo", &[]),
    ("origin", &["script", "vendors"]),
    ("vendors", &["privacy"]),
    ("script", &["address", "vendors"]),
    ("journal", &["store"]),
    ("profile", &["address", "journal", "postgres", "privacy", "store"]),
    (
        "gateway",
        &["bots", "geo", "journal", "origin", "privacy", "profile", "script", "vendors", "visitor"],
    ),
    ("mapping", &["vendors"]),
    ("delivery", &["address", "journal", "mapping", "privacy", "profile", "vendors"]),
    // The databases belong to its backends; the journal numbers sites.
    ("segment", &["delivery", "journal", "postgres", "profile", "store", "vendors"]),
    ("admin", &["delivery", "journal", "profile", "script", "segment"]),
    (
        "config",
        &[
            "admin",
            "delivery",
            "edge",
            "gateway",
            "geo",
            "integrations",
            "journal",
            "log",
            "postgres",
            "privacy",
            "profile",
            "script",
            "segment",
            "visitor",
        ],
    ),
    ("integrations", &["delivery", "privacy", "script", "vendors"]),
    ("demo", &["script", "vendors"]),
    ("audit", &["vendors"]),
    ("app", &["*"]),
    ("cli", &["*"]),
];

/// Other modules that may be imported everywhere. Pure modules, and those that all others build on, may
/// only import the second list.
const SHARED: &[&str] = &["answer", "clock", "event", "feed", "metrics", "settings", "values"];
const PLAIN: &[(&str, &[&str])] = &[
    ("event", &["values"]),
    ("address", &[]),
    ("answer", &[]),
    ("clock", &[]),
    ("metrics", &[]),
    ("settings", &[]),
    ("values", &[]),
    ("feed", &["event", "settings"]),
    ("log", &["settings"]),
    ("store", &["metrics"]),
    ("postgres", &["event", "settings"]),
    ("edge", &["answer", "metrics", "settings", "values"]),
    ("visitor", &["event", "settings"]),
    ("privacy", &["event", "settings", "values"]),
    ("bots", &["event", "settings"]),
    ("geo", &["event", "settings"]),
    ("origin", &["answer", "settings"]),
    ("vendors", &["event", "settings", "values"]),
];

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

fn module(name: &str) -> &str {
    let rest = name.strip_prefix("src/").unwrap_or(name);
    rest.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Fails with all complaints at once.
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn modules_import_only_allowed_modules() {
    let table: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let plain: BTreeMap<&str, &[&str]> = PLAIN.iter().copied().collect();
    let mut complaints = Vec::new();
    for (name, text) in files("src", "rs") {
        let module = module(&name);
        if matches!(module, "main" | "lib") {
            continue;
        }
        let Some(allowed) = table.get(module) else {
            complaints.push(format!("{name}: the module {module} is not in the table of imports"));
            continue;
        };
        let shared = plain.get(module).copied().unwrap_or(SHARED);
        for import in imports(&code(&name, &text)) {
            let may = import == module
                || allowed.contains(&"*")
                || allowed.contains(&import.as_str())
                || shared.contains(&import.as_str());
            if !may {
                complaints.push(format!("{name}: {module} may not import {import}"));
            }
            // The three `mod.rs` turn the store's errors into their own.
            let is_backend = name.contains("sqlite") || name.ends_with("/mod.rs");
            if import == "store"
                && matches!(module, "journal" | "profile" | "segment")
                && !is_backend
            {
                complaints.push(format!("{name}: only the SQLite backends know the store"));
            }
        }
    }
    report(complaints);
}

#[test]
fn files_are_short_and_begin_with_a_header() {
    let mut complaints = Vec::new();
    for (name, text) in files("src", "rs").into_iter().chain(files("tests", "rs")) {
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
fn lib_header_names_every_module() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut complaints = Vec::new();
    for line in map.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        if !map.contains(&format!("[`{module}`]")) {
            complaints.push(format!("src/lib.rs: the map does not mention {module}"));
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
    let mut vendors = folders("src/vendors");
    assert!(vendors.remove("beacon_format"), "what beacons have in common is no vendor");
    assert_eq!(vendors, listed, "src/vendors and VENDORS");
    assert_eq!(folders("tests/fixtures/vendors"), listed, "fixtures and VENDORS");
}

#[test]
fn dashboard_metrics_exist_and_names_are_only_in_the_metrics_module() {
    let names = fs::read_to_string(root().join("src/metrics/entries.rs")).unwrap();
    let missing: Vec<String> = METRICS
        .iter()
        .filter(|name| !names.contains(&format!("\"{name}\"")))
        .map(|name| format!("src/metrics/entries.rs: {name} is missing"))
        .collect();
    let mut complaints = missing;
    for (name, text) in files("src", "rs") {
        if !name.starts_with("src/metrics/") && code(&name, &text).contains(".register(") {
            complaints.push(format!("{name}: metrics are registered in src/metrics"));
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
    let folders = ["src/vendors", "src/delivery", "src/segment/sync", "src/privacy"];
    let calls = [
        "Reason::new(",
        "Reason::detailed(",
        "Cause::new(",
        "Cause { code:",
        "status_reason(",
        ".reason(",
        " reason(",
        "(reason(",
        "Skip(",
        "Dead(",
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
    found.extend(first_words(&["src/vendors/meta"], &["Err("]));
    check_reasons(REASONS, &found, &folders);
}

#[test]
fn every_reason_of_a_rejection_is_explained() {
    let mut found = first_words(&["src/gateway/decode"], &["Err(", "reason:"]);
    found.extend(first_words(&["src/gateway"], &["Nobody("]));
    let rejection = fs::read_to_string(root().join("src/gateway/rejection.rs")).unwrap();
    let codes =
        rejection.split("fn code(&self)").nth(1).and_then(|rest| rest.split("\n    }").next());
    for rest in codes.unwrap().split("=> \"").skip(1) {
        found.insert(rest.split('"').next().unwrap().to_owned());
    }
    check_reasons(REJECTIONS, &found, &["src/gateway", "src/vendors"]);
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
    let all =
        files("src", "rs").into_iter().chain(files("tests", "rs")).chain(files("benches", "rs"));
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

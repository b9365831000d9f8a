//! Checks the documents: links have a target, the book lists its pages, and the sections of the contracts
//! that the code cites exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{files, report, root};

/// The most lines of the README: it is read before anything else.
const README_LINES: usize = 120;

/// The top-level documents.
const TOP: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];

/// All documents, by their paths from the root.
fn documents() -> Vec<(String, String)> {
    let mut found = files("docs", "md");
    found.extend(files("examples", "md"));
    found.extend(TOP.iter().map(|name| {
        ((*name).to_owned(), fs::read_to_string(root().join(name)).unwrap_or_default())
    }));
    found.retain(|(name, _)| !name.starts_with("docs/book/"));
    found
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The anchors of a document's headings, as Markdown renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    let mut found = BTreeSet::new();
    for name in headings.map(anchor) {
        let number = times.entry(name.clone()).or_default();
        found.insert(if *number == 0 { name } else { format!("{name}-{number}") });
        *number += 1;
    }
    found
}

/// The targets of a document's links that lead to files of this repository, without code.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let mut found = Vec::new();
    for rest in prose.split("](").skip(1) {
        let target = rest.split([')', ' ']).next().unwrap_or_default();
        if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
            found.push(target.to_owned());
        }
    }
    found
}

#[test]
fn links_in_documents_lead_to_files_and_headings() {
    let mut complaints = Vec::new();
    for (name, text) in documents() {
        let folder = root().join(Path::new(&name).parent().unwrap());
        for target in targets(&text) {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { root().join(&name) } else { folder.join(path) };
            if !file.exists() {
                complaints.push(format!("{name}: {target} leads nowhere"));
            } else if !anchor.is_empty() {
                let there = fs::read_to_string(&file).unwrap_or_default();
                if !anchors(&there).contains(anchor) {
                    complaints.push(format!("{name}: {target} names no heading"));
                }
            }
        }
    }
    report(complaints);
}

#[test]
fn links_of_the_book_stay_in_the_book() {
    let mut complaints = Vec::new();
    for (name, text) in files("docs", "md") {
        let depth = Path::new(&name).components().count() - 2;
        for target in targets(&text) {
            let steps = target.split('/').take_while(|step| *step == "..").count();
            if steps > depth {
                complaints.push(format!("{name}: {target} leads out of docs/: write its name"));
            }
        }
    }
    report(complaints);
}

#[test]
fn book_lists_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = targets(&summary).into_iter().collect();
    let pages = files("docs", "md").into_iter().map(|(name, _)| name);
    let missing: Vec<String> = pages
        .filter_map(|name| name.strip_prefix("docs/").map(str::to_owned))
        .filter(|name| name != "SUMMARY.md" && !listed.contains(name))
        .map(|name| format!("docs/SUMMARY.md does not list {name}"))
        .collect();
    report(missing);
}

#[test]
fn readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, more than {README_LINES}");
}

/// The section numbers after a citation: "1.2", "section 5", "5.2 and 5.3".
fn cited_sections(after: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in after.split_whitespace() {
        let trimmed = word.trim_matches(['`', '(', ',', ';', ':', '"', '\'']);
        let number = trimmed.trim_end_matches([')', '.', ',', ';', ':', '`']);
        let is_number = number.starts_with(|c: char| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        if is_number {
            found.push(number.to_owned());
        } else if !matches!(number, "" | "section" | "sections" | "and" | "to" | "or") {
            break;
        }
        if word.contains(')') || (is_number && trimmed.ends_with(['.', ';'])) {
            break;
        }
    }
    found
}

#[test]
fn sections_of_the_contracts_that_the_code_cites_exist() {
    let mut sections: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for contract in ["destinations", "beacons", "page-cost"] {
        let text =
            fs::read_to_string(root().join(format!("docs/contracts/{contract}.md"))).unwrap();
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let number = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        sections.insert(contract, headings.filter_map(number).collect());
    }
    let (mut complaints, mut citations) = (Vec::new(), 0);
    let sources =
        ["src", "crates", "tests", "benches"].into_iter().flat_map(|folder| files(folder, "rs"));
    for (name, text) in sources.filter(|(name, _)| !name.starts_with("tests/tidy/")) {
        // A citation may continue on the next line of its comment.
        let lines: Vec<&str> =
            text.lines().map(|line| line.trim_start().trim_start_matches(['/', '!'])).collect();
        let text = lines.join(" ");
        for rest in text.split("contracts/").skip(1) {
            let Some((contract, after)) = rest.split_once(".md") else { continue };
            let Some(headings) = sections.get(contract) else {
                complaints.push(format!("{name}: there is no contract {contract}"));
                continue;
            };
            citations += 1;
            for number in cited_sections(after.trim_start_matches('`')) {
                if !headings.contains(number.as_str()) {
                    complaints.push(format!("{name}: {contract}.md has no section {number}"));
                }
            }
        }
    }
    assert!(citations > 100, "only {citations} citations were found");
    report(complaints);
}

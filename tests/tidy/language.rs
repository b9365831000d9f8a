//! Checks the language of the code: type names that say what they are, and documentation that begins with
//! its subject. Prints the figures (`cargo test --test tidy language -- --nocapture`) and limits them.

use std::collections::BTreeMap;

use super::{report, sources};

/// The least mean length of a type's name, in characters.
const MIN_MEAN_NAME: f64 = 11.0;

/// The names that are short, in characters, and the most of them among all names, in percent.
const SHORT_NAME: usize = 6;
const MAX_SHORT_NAMES: f64 = 3.0;

/// The most lines of code of a median file, of 95 % of the files, and of the longest one, without tests.
const MAX_MEDIAN_LINES: usize = 155;
const MAX_P95_LINES: usize = 430;
const MAX_LONGEST_LINES: usize = super::MAX_LINES;

/// The most of the public types, and of all types, whose name another one has, in percent.
const MAX_SHARED_PUBLIC: f64 = 5.0;
const MAX_SHARED: f64 = 12.0;

/// The most of the documentation's first lines that begin with a question word, in percent.
const MAX_QUESTIONS: f64 = 3.0;

/// The words with which a sentence hides its subject.
const QUESTION_WORDS: &[&str] = &[
    "What", "Whether", "Who", "Whose", "Whom", "Of", "How", "That", "Which", "Where", "When", "Why",
];

/// The fewest words of a first line that repeats words of the name below it.
const MIN_WORDS: usize = 4;

const KEYWORDS: &[&str] = &["struct", "enum", "trait", "type", "union"];

/// A type's definition.
struct TypeName {
    name: String,
    is_public: bool,
}

/// The first line of a comment that documents something.
struct FirstLine {
    place: String,
    text: String,
    /// The name of what it documents, if that is on the line below the comment.
    subject: Option<String>,
}

/// The lines of a file up to its tests; none of a file of tests.
fn lines_outside_tests<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
    if name.ends_with("tests.rs") || name.contains("/tests/") {
        return Vec::new();
    }
    text.lines().take_while(|line| !line.starts_with("mod tests {")).collect()
}

/// The type that the line defines. Associated types are excluded: their traits name them.
fn type_name(line: &str) -> Option<TypeName> {
    let code = line.trim_start();
    let is_public = code.starts_with("pub");
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => code,
    };
    let (keyword, rest) = code.split_once(' ')?;
    let is_associated = keyword == "type" && line.starts_with(' ') && !is_public;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let is_type = KEYWORDS.contains(&keyword) && name.starts_with(|c: char| c.is_uppercase());
    (is_type && !is_associated).then_some(TypeName { name, is_public })
}

fn is_documentation(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("///") || line.starts_with("//!")
}

/// The name that a line of code defines: the first word that is no keyword, visibility or attribute.
fn subject(line: &str) -> Option<String> {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|it| !it.is_empty());
    let keywords =
        ["pub", "crate", "super", "in", "async", "const", "static", "fn", "mod", "unsafe"];
    let mut words = words.filter(|word| !keywords.contains(word) && !KEYWORDS.contains(word));
    words.next().map(str::to_owned)
}

fn first_lines(name: &str, lines: &[&str]) -> Vec<FirstLine> {
    let mut found = Vec::new();
    let mut is_within = false;
    for (index, line) in lines.iter().enumerate() {
        let is_first = is_documentation(line) && !is_within;
        is_within = is_documentation(line);
        if !is_first {
            continue;
        }
        let below = lines.iter().skip(index).find(|line| !is_documentation(line));
        found.push(FirstLine {
            place: format!("{name}:{}", index + 1),
            text: line.trim_start().trim_start_matches(['/', '!']).trim().to_owned(),
            subject: below.and_then(|line| subject(line)),
        });
    }
    found
}

fn percent(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let percent = 100.0 * part as f64 / whole as f64;
    percent
}

/// The share of the names that occur more than once, in percent, and those names.
fn shared<'n>(names: impl Iterator<Item = &'n str>) -> (f64, Vec<String>) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *times.entry(name).or_default() += 1;
    }
    let several = times.iter().filter(|(_, times)| **times > 1);
    let number: usize = several.clone().map(|(_, times)| times).sum();
    (percent(number, times.values().sum()), several.map(|(name, _)| (*name).to_owned()).collect())
}

/// Returns the median, the 95th percentile and the longest of these lengths.
fn distribution(mut lengths: Vec<usize>) -> [usize; 3] {
    lengths.sort_unstable();
    let at = |share: usize| {
        lengths.get((lengths.len().saturating_sub(1)) * share / 100).copied().unwrap_or_default()
    };
    [at(50), at(95), at(100)]
}

#[test]
fn files_are_of_moderate_length() {
    let lengths = sources().into_iter().map(|(name, text)| lines_outside_tests(&name, &text).len());
    // A file of tests has no lines of its own.
    let [median, p95, longest] = distribution(lengths.filter(|lines| *lines > 0).collect());
    println!("lines of a file: median {median}, p95 {p95}, longest {longest}");
    assert!(median <= MAX_MEDIAN_LINES, "the median file has {median} lines");
    assert!(p95 <= MAX_P95_LINES, "5 % of the files have more than {p95} lines");
    assert!(longest <= MAX_LONGEST_LINES, "the longest file has {longest} lines");
}

/// Returns true if a short line says no more than the name of what it documents.
fn repeats_its_subject(line: &FirstLine) -> bool {
    let words: Vec<String> = line
        .text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let Some(subject) = line.subject.as_deref() else { return false };
    let subject = subject.replace('_', "").to_lowercase();
    let own = words.iter().filter(|word| !["the", "a", "an", "its", "of"].contains(&word.as_str()));
    words.len() < MIN_WORDS
        && own.clone().count() > 0
        && own.into_iter().all(|word| subject.contains(word.as_str()))
}

#[test]
fn names_of_types_and_first_lines_are_plain_language() {
    let (mut types, mut lines) = (Vec::new(), Vec::new());
    for (name, text) in sources() {
        let own = lines_outside_tests(&name, &text);
        types.extend(own.iter().filter_map(|line| type_name(line)));
        lines.extend(first_lines(&name, &own));
    }
    let letters: usize = types.iter().map(|it| it.name.chars().count()).sum();
    let mean = percent(letters, types.len()) / 100.0;
    let (shared_all, _) = shared(types.iter().map(|it| it.name.as_str()));
    let public = types.iter().filter(|it| it.is_public).map(|it| it.name.as_str());
    let (shared_public, shared_names) = shared(public);
    let asks = |it: &&FirstLine| {
        let first = it.text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        QUESTION_WORDS.contains(&first)
    };
    let questions: Vec<&FirstLine> = lines.iter().filter(asks).collect();
    let share = percent(questions.len(), lines.len());
    let short = types.iter().filter(|it| it.name.chars().count() <= SHORT_NAME);
    let short: Vec<&str> = short.map(|it| it.name.as_str()).collect();
    let share_of_short = percent(short.len(), types.len());
    println!(
        "types {}, mean length of a name {mean:.1}, of {SHORT_NAME} letters or fewer {share_of_short:.1} %",
        types.len()
    );
    println!("types that share their name {shared_all:.1} %, public ones {shared_public:.1} %");
    println!("first lines {}, with a question word {share:.1} %", lines.len());
    let mut complaints = Vec::new();
    if mean < MIN_MEAN_NAME {
        complaints.push(format!("names of types have {mean:.1} letters, not {MIN_MEAN_NAME}"));
    }
    if share_of_short > MAX_SHORT_NAMES {
        complaints.push(format!("{share_of_short:.1} % of the names are short: {short:?}"));
    }
    if shared_all > MAX_SHARED {
        complaints.push(format!("{shared_all:.1} % of the types share their name"));
    }
    if shared_public > MAX_SHARED_PUBLIC {
        complaints.push(format!("{shared_public:.1} % of the public types: {shared_names:?}"));
    }
    if share > MAX_QUESTIONS {
        let places = questions.iter().map(|it| format!("  {}: {}", it.place, it.text));
        complaints.push(format!("{share:.1} % of the first lines begin with a question word:"));
        complaints.extend(places);
    }
    for line in lines.iter().filter(|line| repeats_its_subject(line)) {
        let FirstLine { place, text, .. } = line;
        complaints.push(format!("{place}: \"{text}\" says no more than the name"));
    }
    report(complaints);
}

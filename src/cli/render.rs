//! Renders happenings as lines for people. All of it came from the network: it is escaped and cut
//! before it reaches a terminal.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use tagway_settings::can_fool;

/// The longest name in full, in characters: names are only for recognition.
const NAME_CHARS: usize = 80;

/// The longest body in full, in characters: bodies are only for an overview.
const BODY_CHARS: usize = 1000;

/// The most events of one call that are named; the others are counted.
const SEQS_SHOWN: usize = 5;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Renders one happening of the live feed (its JSON) as one or more lines, each ending in a line break.
/// `colour` is for terminals.
pub fn render(happening: &Value, colour: bool) -> String {
    let ink = TerminalColour(colour);
    match text(happening, "what") {
        "accepted" => accepted(happening, ink),
        "called" => called(happening, ink),
        "settled" => settled(happening, ink),
        "held" => held(happening, ink),
        "missed" => {
            let count = happening.get("count").and_then(Value::as_u64).unwrap_or_default();
            ink.paint(YELLOW, &format!("... {count} entries missed: too many to show")) + "\n"
        }
        "live" => ink.paint(DIM, "-- from now on --") + "\n",
        _ => format!("{}\n", escape(&happening.to_string(), BODY_CHARS)),
    }
}

/// Escapes everything that could control or confuse a terminal (control characters, direction marks,
/// invisible characters), and cuts the text after `max_chars` characters.
pub fn escape(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_chars.saturating_mul(2)));
    for c in text.chars().take(max_chars) {
        if can_fool(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(max_chars).is_some() {
        out.push('…');
    }
    out
}

/// The text of a JSON value with the same characters escaped as JSON escapes them: the value stays the
/// same.
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // Line breaks are layout: those within strings are escaped already.
        if c != '\n' && can_fool(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes everything in an output that could control or confuse a terminal, except line breaks and this
/// program's own colours. Foreign text is escaped where it is rendered; this is the last check for
/// omissions there.
pub(super) fn guarded(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c != '\n' && can_fool(c);
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, c, after)) = split_at_char(rest, is_harmful) {
        out.push_str(before);
        rest = match own_colour(after).filter(|_| c == '\u{1b}') {
            Some((colour, after)) => {
                out.push(c);
                out.push_str(colour);
                after
            }
            None => {
                out.extend(c.escape_default());
                after
            }
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn split_at_char(text: &str, is: impl Fn(char) -> bool) -> Option<(&str, char, &str)> {
    let (at, c) = text.char_indices().find(|(_, c)| is(*c))?;
    Some((text.get(..at)?, c, text.get(at + c.len_utf8()..)?))
}

/// One of this program's colours at the beginning of the text after an escape character.
fn own_colour(text: &str) -> Option<(&str, &str)> {
    let codes = ["0", BOLD, DIM, RED, GREEN, YELLOW, CYAN];
    let end = text.find('m')? + 1;
    let (colour, after) = text.split_at_checked(end)?;
    let code = colour.strip_prefix('[')?.strip_suffix('m')?;
    codes.contains(&code).then_some((colour, after))
}

/// A value of a response as a table's cell.
pub(super) fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => escape(text, 60),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => escape(&other.to_string(), 60),
    }
}

/// Rows in aligned columns. The cells are escaped already.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A line of a diff, without its line break.
pub(super) fn diff_line(line: &str, colour: bool) -> String {
    let text = escape(line, BODY_CHARS);
    match line.chars().next() {
        Some('+') => TerminalColour(colour).paint(GREEN, &text),
        Some('-') => TerminalColour(colour).paint(RED, &text),
        Some('@') => TerminalColour(colour).paint(CYAN, &text),
        _ => text,
    }
}

fn accepted(happening: &Value, ink: TerminalColour) -> String {
    let event = escape(text(happening, "event"), NAME_CHARS);
    let place = format!("{} #{}", name(happening, "site"), seq(happening));
    let bot = happening.get("bot").and_then(Value::as_u64).map(|score| format!("bot {score}"));
    let about = ["format", "page", "visitor", "country"].map(|key| name(happening, key));
    let about = about.into_iter().chain(bot).chain([name(happening, "message_id")]);
    let about: Vec<String> = about.filter(|text| !text.is_empty()).collect();
    format!(
        "{}  {}  {}  {}\n",
        ink.paint(DIM, &time(happening)),
        ink.paint(CYAN, &place),
        ink.paint(BOLD, &event),
        ink.paint(DIM, &about.join("  ")),
    )
}

fn called(happening: &Value, ink: TerminalColour) -> String {
    let seqs: Vec<u64> = happening
        .get("seqs")
        .and_then(Value::as_array)
        .map(|seqs| seqs.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    let mut events: Vec<String> =
        seqs.iter().take(SEQS_SHOWN).map(|seq| format!("#{seq}")).collect();
    if let Some(more) = seqs.len().checked_sub(SEQS_SHOWN).filter(|more| *more > 0) {
        events.push(format!("and {more} more"));
    }
    let status = happening.get("status").and_then(Value::as_u64);
    let shown_status = status.map_or_else(|| "no reply".to_owned(), |status| status.to_string());
    let colour =
        if status.is_some_and(|status| (200..300).contains(&status)) { GREEN } else { RED };
    let milliseconds = happening.get("milliseconds").and_then(Value::as_u64).unwrap_or_default();
    let mut out = format!(
        "    {} {}  {}  {} in {milliseconds} ms\n",
        ink.paint(CYAN, &name(happening, "destination")),
        events.join(" "),
        escape(text(happening, "request"), BODY_CHARS),
        ink.paint(colour, &shown_status),
    );
    for (mark, key) in [(">", "body"), ("<", "reply")] {
        let body = escape(text(happening, key), BODY_CHARS);
        if !body.is_empty() {
            let _infallible =
                writeln!(out, "        {}", ink.paint(DIM, &format!("{mark} {body}")));
        }
    }
    out
}

fn settled(happening: &Value, ink: TerminalColour) -> String {
    let outcome = text(happening, "outcome");
    let colour = match outcome {
        "delivered" => GREEN,
        "dead" => RED,
        _ => YELLOW,
    };
    let mut words = vec![ink.paint(colour, &escape(outcome, NAME_CHARS))];
    let reason = name(happening, "reason");
    if !reason.is_empty() {
        words.push(reason);
    }
    let detail = escape(text(happening, "detail"), BODY_CHARS);
    if !detail.is_empty() {
        words.push(ink.paint(DIM, &format!("({detail})")));
    }
    let attempt = happening.get("attempt").and_then(Value::as_u64).unwrap_or_default();
    if attempt > 1 {
        words.push(ink.paint(DIM, &format!("try {attempt}")));
    }
    let destination = ink.paint(CYAN, &name(happening, "destination"));
    let mut out = format!("    {destination} #{}  {}\n", seq(happening), words.join(" "));
    let dropped = happening.get("dropped").and_then(Value::as_array).into_iter().flatten();
    let dropped: Vec<&str> = dropped.filter_map(Value::as_str).collect();
    if !dropped.is_empty() {
        let fields = escape(&dropped.join(", "), BODY_CHARS);
        let _infallible =
            writeln!(out, "        {}", ink.paint(YELLOW, &format!("dropped {fields}")));
    }
    out
}

fn held(happening: &Value, ink: TerminalColour) -> String {
    let destination = ink.paint(CYAN, &name(happening, "destination"));
    let held = ink.paint(YELLOW, held_until(happening));
    let until = ink.paint(DIM, &format!("(at most until {})", name(happening, "until")));
    format!("    {destination} #{}  {held} {until}\n", seq(happening))
}

/// The state of an event that waits.
pub(super) fn held_until(happening: &Value) -> &'static str {
    match text(happening, "awaits") {
        "identity" => "held until the visitor is known",
        _ => "held until the visitor chooses",
    }
}

/// The time of day, to the millisecond, as the gateway wrote it (UTC).
fn time(happening: &Value) -> String {
    let at = text(happening, "at").parse::<jiff::Timestamp>();
    at.map_or_else(|_| "--:--:--.---".to_owned(), |at| at.strftime("%H:%M:%S%.3f").to_string())
}

fn seq(happening: &Value) -> u64 {
    happening.get("seq").and_then(Value::as_u64).unwrap_or_default()
}

fn name(happening: &Value, key: &str) -> String {
    escape(text(happening, key), NAME_CHARS)
}

fn text<'h>(happening: &'h Value, key: &str) -> &'h str {
    happening.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// True for coloured output.
#[derive(Clone, Copy)]
struct TerminalColour(bool);

impl TerminalColour {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn event_and_outcomes_are_an_indented_list() {
        let accepted = json!({"what": "accepted", "at": "2026-11-23T10:00:00.25Z", "site": "shop",
            "seq": 12, "message_id": "m1", "event": "Order Completed", "format": "segment"});
        assert_eq!(
            render(&accepted, false),
            "10:00:00.250  shop #12  Order Completed  segment  m1\n"
        );
        let seen = json!({"what": "accepted", "at": "2026-11-23T10:00:00.25Z", "site": "shop", "seq": 12,
            "message_id": "m1", "event": "page", "format": "sdk", "source": "sdk", "page": "/cart",
            "visitor": "3f2504e0…", "bot": 80, "country": "CH", "consent": null});
        assert_eq!(
            render(&seen, false),
            "10:00:00.250  shop #12  page  sdk  /cart  3f2504e0…  CH  bot 80  m1\n"
        );
        assert_eq!(render(&json!({"what": "live"}), false), "-- from now on --\n");
        let called = json!({"what": "called", "destination": "ga4", "seqs": [1, 2, 3, 4, 5, 6, 7],
            "request": "POST https://v.example/c", "body": "{}", "status": 204, "reply": "",
            "milliseconds": 35});
        assert_eq!(
            render(&called, false),
            "    ga4 #1 #2 #3 #4 #5 and 2 more  POST https://v.example/c  204 in 35 ms\n        \
             > {}\n"
        );
        let settled = json!({"what": "settled", "destination": "ga4", "seq": 12,
            "outcome": "skipped", "reason": "no_client_id", "detail": "none", "attempt": 0});
        assert_eq!(render(&settled, false), "    ga4 #12  skipped no_client_id (none)\n");
        let retried = json!({"what": "settled", "destination": "ga4", "seq": 12, "outcome": "retry",
            "reason": "unreachable", "attempt": 3, "milliseconds": 10});
        assert_eq!(render(&retried, false), "    ga4 #12  retry unreachable try 3\n");
        let partial = json!({"what": "settled", "destination": "ga4", "seq": 12, "outcome": "delivered",
            "dropped": ["\u{1b}a (nested)", "b (too_long)"]});
        let expected = "    ga4 #12  delivered\n        dropped \\u{1b}a (nested), b (too_long)\n";
        assert_eq!(render(&partial, false), expected);
        assert!(render(&settled, true).contains("\u{1b}[33mskipped\u{1b}[0m"));
    }

    #[test]
    fn render_escapes_text_from_the_network() {
        let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\r\n\u{202e}\u{200b}x";
        for what in ["accepted", "called", "settled", "held", "other"] {
            let mut happening = json!({ "what": what });
            for key in [
                "site",
                "event",
                "format",
                "page",
                "visitor",
                "country",
                "message_id",
                "destination",
                "request",
                "body",
                "reply",
                "outcome",
                "reason",
                "detail",
                "at",
                "until",
                "awaits",
            ] {
                happening[key] = json!(evil);
            }
            let shown = render(&happening, false);
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{what}: {shown:?}");
            assert!(!shown.contains(['\u{202e}', '\u{200b}']), "{what}");
            assert!(shown.lines().count() <= 3, "{what}: {shown:?}");
        }
    }

    #[test]
    fn escape_json_keeps_the_value_and_is_safe_for_a_terminal() {
        let value =
            json!({ "a\u{200d}": "\u{1b}[2J\u{9b}\u{202e}\u{e0041}\u{7f}\n\\ \u{fc}\u{1f600}" });
        for text in [value.to_string(), format!("{value:#}")] {
            let escaped = escape_json(&text);
            assert!(!escaped.chars().any(|c| c != '\n' && can_fool(c)), "{escaped}");
            assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
        }
        assert_eq!(escape_json("\"\u{200d}\u{e0041}\""), "\"\\u200d\\udb40\\udc41\"");
    }

    #[test]
    fn outputs_keep_only_line_breaks_and_own_colours() {
        let coloured = TerminalColour(true).paint(RED, "refused") + "\n";
        assert_eq!(guarded(&coloured), coloured);
        assert_eq!(guarded("plain ü\n"), "plain ü\n");
        let evil = "a\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31;5m\u{9b}2J\r\u{202e}\u{3164}\u{e0101}\u{0}b\u{1b}";
        let shown = guarded(evil);
        assert!(!shown.chars().any(can_fool), "{shown:?}");
        assert!(shown.starts_with('a') && shown.contains("\\u{1b}[2J"), "{shown}");
    }

    #[test]
    fn names_and_bodies_are_cut() {
        let long = "x".repeat(1 << 20);
        let happening = json!({"what": "called", "request": long, "body": long, "reply": long,
            "destination": long, "seqs": vec![1; 100_000]});
        assert!(render(&happening, true).len() < 10_000);
    }
}

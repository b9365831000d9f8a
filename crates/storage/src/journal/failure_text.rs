//! The text by which dead letters are grouped: the vendor's message without the values that differ from event to
//! event. It contains no quoted text, number, id or address, so that it shows nothing of a person.

use serde_json::Value;

use super::{LastVendorCall, OutcomeCause};

/// The most characters of the text: two lines of a screen.
const MAX_CHARS: usize = 200;

/// The most characters of a reply that are read.
const READ_CHARS: usize = 4000;

/// The most messages of one reply: vendors that judge each event repeat themselves.
const MAX_MESSAGES: usize = 3;

/// The deepest level of a reply's JSON that is read.
const MAX_DEPTH: usize = 6;

/// The length from which a word with a digit is an id.
const ID_CHARS: usize = 6;

/// Members of replies that contain messages for people, in lower case without separators.
const MESSAGE_KEYS: [&str; 10] = [
    "message",
    "error",
    "errormessage",
    "errordescription",
    "detail",
    "title",
    "description",
    "reason",
    "errorusermsg",
    "msg",
];

/// Returns the text of a failure: of the reply, else of the reason's detail.
pub(super) fn failure_text(cause: &OutcomeCause, call: Option<&LastVendorCall>) -> String {
    let reply = call.map(|call| call.reply.trim()).filter(|reply| !reply.is_empty());
    let Some(reply) = reply else { return normalised(&cause.detail) };
    match serde_json::from_str::<Value>(reply) {
        Ok(json) => {
            let mut messages = Vec::new();
            collect(&json, None, MAX_DEPTH, &mut messages);
            if messages.is_empty() { normalised(&cause.detail) } else { messages.join("; ") }
        }
        Err(_) => normalised(reply),
    }
}

/// Collects the messages of a reply, each once.
fn collect(json: &Value, key: Option<&str>, depth: usize, messages: &mut Vec<String>) {
    let Some(below) = depth.checked_sub(1) else { return };
    match json {
        Value::Object(members) => {
            for (key, value) in members {
                collect(value, Some(key), below, messages);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, below, messages)),
        Value::String(text) if key.is_some_and(is_message) => {
            let text = normalised(text);
            if messages.len() < MAX_MESSAGES && !text.is_empty() && !messages.contains(&text) {
                messages.push(text);
            }
        }
        _ => {}
    }
}

fn is_message(key: &str) -> bool {
    let name: String = key.chars().filter(char::is_ascii_alphabetic).collect();
    MESSAGE_KEYS.contains(&name.to_ascii_lowercase().as_str())
}

/// Returns a text without quoted parts, numbers, ids and addresses, on one line.
fn normalised(text: &str) -> String {
    let text: String = text.chars().take(READ_CHARS).collect();
    let mut out = String::new();
    for word in without_quotes(&text).split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.contains('@') || word.contains("%40") {
            out.push('…');
        } else {
            push_word(word, &mut out);
        }
    }
    out.chars().take(MAX_CHARS).collect()
}

/// Replaces quoted parts. An apostrophe within a word is none, and an end that is missing is the end of the text.
fn without_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    let mut before = ' ';
    while let Some(c) = rest.next() {
        let end = match c {
            '"' | '`' => c,
            '\'' if !before.is_alphanumeric() => c,
            '“' | '„' => '”',
            '«' => '»',
            _ => {
                out.push(c);
                before = c;
                continue;
            }
        };
        out.push_str("\"…\"");
        rest.by_ref().find(|other| *other == end);
        before = end;
    }
    out
}

/// Adds a word, with its numbers and ids replaced.
fn push_word(word: &str, out: &mut String) {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut part = String::new();
    for c in word.chars().chain(std::iter::once('\0')) {
        if is_part(c) {
            part.push(c);
            continue;
        }
        let has_digit = part.chars().any(char::is_numeric);
        if has_digit && part.chars().count() >= ID_CHARS {
            out.push('#');
        } else if has_digit {
            push_numbers(&part, out);
        } else {
            out.push_str(&part);
        }
        part.clear();
        if c != '\0' {
            out.push(c);
        }
    }
}

/// Adds a short word with a sign for each of its numbers.
fn push_numbers(part: &str, out: &mut String) {
    let mut is_number = false;
    for c in part.chars() {
        if c.is_numeric() {
            if !is_number {
                out.push('#');
            }
            is_number = true;
        } else {
            out.push(c);
            is_number = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &str) -> String {
        let call = LastVendorCall {
            at: jiff::Timestamp::UNIX_EPOCH,
            request: String::new(),
            status: Some(400),
            reply: reply.to_owned(),
        };
        failure_text(&OutcomeCause { code: "refused", detail: "HTTP 400".into() }, Some(&call))
    }

    #[test]
    fn replies_that_differ_in_values_have_one_text() {
        for (reply, expected) in [
            ("invalid value 17 for user u-12345678", "invalid value # for user #"),
            ("no field \"age\" in 'alice b'; it's late", "no field \"…\" in \"…\"; it's late"),
            ("bad address alice@shop.example\r\n at line 3", "bad address … at line #"),
            ("3f2504e0-4f89-41d3-9a0c-0305e82c3301 not found", "# not found"),
            ("v2 API", "v# API"),
            ("cut \"in the middle", "cut \"…\""),
        ] {
            assert_eq!(text(reply), expected);
        }
    }

    #[test]
    fn messages_of_json_are_read_and_nothing_else() {
        let meta = r#"{"error":{"message":"Invalid parameter","type":"OAuthException","code":100,
            "error_user_msg":"The event of alice@x.example is too old","fbtrace_id":"AbC"}}"#;
        assert_eq!(text(meta), "Invalid parameter; The event of … is too old");
        let each = r#"{"errors":[{"message":"bad 1"},{"message":"bad 2"},{"detail":"x"}]}"#;
        assert_eq!(text(each), "bad #; x");
        assert_eq!(text(r#"{"email":"alice@x.example","name":"Alice"}"#), "HTTP #");
        assert_eq!(text(""), "HTTP #");
    }

    #[test]
    fn text_is_short() {
        assert_eq!(text(&"word ".repeat(10_000)).chars().count(), MAX_CHARS);
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(text(&deep), "HTTP #");
    }
}

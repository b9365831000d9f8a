//! Ids that identify no person or device: placeholders, leftovers of templates and values of other types,
//! which tags and servers send for unknown visitors. Two devices with such an id do not share a person.

/// Words for an unknown visitor, in lower case, with one space where hyphens, underscores or dots may stand.
const UNKNOWN_VISITOR_WORDS: [&str; 53] = [
    "",
    "0",
    "0.0",
    "-1",
    "#n/a",
    "n/a",
    "na",
    "nan",
    "nil",
    "none",
    "null",
    "undef",
    "undefined",
    "infinity",
    "-infinity",
    "true",
    "false",
    "empty",
    "blank",
    "missing",
    "unset",
    "unknown",
    "unknown user",
    "unidentified",
    "anon",
    "anonymous",
    "anonymous user",
    "guest",
    "guest user",
    "no user",
    "no id",
    "logged out",
    "signed out",
    "not authenticated",
    "not available",
    "not applicable",
    "not defined",
    "not found",
    "not identified",
    "not logged in",
    "not provided",
    "not set",
    "not signed in",
    "unauthenticated",
    // The names of ids where the ids should be.
    "id",
    "distinct id",
    "distinctid",
    "user id",
    "userid",
    "anonymous id",
    "anonymousid",
    "email",
    // The Android id that a whole series of devices had.
    "9774d56d682e549c",
];

/// Signs around the name of a variable that a template did not fill in, anywhere in the id.
const TEMPLATES: [(&str, &str); 8] = [
    ("{{", "}}"),
    ("${", "}"),
    ("#{", "}"),
    ("{%", "%}"),
    ("<%", "%>"),
    ("[[", "]]"),
    ("*|", "|*"),
    ("%%", "%%"),
];

/// The same, where the whole id is a variable's name between the two: ids of other systems have such signs too.
const NAMES: [(&str, &str); 5] = [("%", "%"), ("__", "__"), ("{", "}"), ("@@", "@@"), ("$", "$")];

/// The length of the longest of the words.
const MAX_WORD_BYTES: usize = 20;

/// The fewest zeros that count as a device's id instead of a number that a site assigned.
const MIN_ZEROS: usize = 9;

/// Returns true if an id identifies a person or device; surrounding space is ignored.
pub fn is_identifying_id(id: &str) -> bool {
    !is_placeholder(id, &[])
}

/// Returns true if an id is a placeholder: one of the words above, or of the site's own, in lower case.
pub fn is_placeholder(id: &str, own: &[String]) -> bool {
    let id = id.trim_matches(is_space);
    if own.iter().any(|word| id.eq_ignore_ascii_case(word)) {
        return true;
    }
    let is_word = id.len() <= MAX_WORD_BYTES && is_word(id);
    is_word || is_of_zeros(id) || is_template(id) || is_other_type(id)
}

/// Returns true for space and invisible characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}')
}

fn is_word(id: &str) -> bool {
    let around: &[char] = &['"', '\'', '`', '(', ')', '<', '>', '[', ']', '{', '}'];
    let bare = id.trim_matches(around).trim();
    let is_known = |word: &&str| {
        let same = |(a, b): (u8, u8)| {
            let is_parted = matches!(b, b'-' | b'_' | b'.') && a == b' ';
            is_parted || a == b.to_ascii_lowercase()
        };
        word.len() == bare.len() && word.bytes().zip(bare.bytes()).all(same)
    };
    let is_sign = |byte: u8| byte.is_ascii_punctuation() || byte == b' ';
    UNKNOWN_VISITOR_WORDS.iter().any(is_known) || bare.bytes().all(is_sign)
}

/// Returns true for the advertising id of a device whose owner has turned it off, a device's hidden
/// address, and the largest of UUIDs.
fn is_of_zeros(id: &str) -> bool {
    let signs = id.bytes().filter(|byte| !matches!(byte, b'-' | b':' | b'{' | b'}'));
    let (mut zeros, mut others) = (0_usize, 0_usize);
    let mut first = None;
    for sign in signs {
        let sign = sign.to_ascii_lowercase();
        if *first.get_or_insert(sign) == sign && matches!(sign, b'0' | b'f') {
            zeros += 1;
        } else {
            others += 1;
            break;
        }
    }
    let least = if first == Some(b'f') { 32 } else { MIN_ZEROS };
    (others == 0 && zeros >= least) || id == "02:00:00:00:00:00"
}

fn is_template(id: &str) -> bool {
    let is_left = |(open, close): &(&str, &str)| {
        id.split_once(open).is_some_and(|(_, rest)| rest.contains(close))
    };
    if TEMPLATES.iter().any(is_left) {
        return true;
    }
    NAMES.iter().any(|(open, close)| {
        let name = id.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        name.is_some_and(is_variable)
    })
}

/// Returns true if a text could be a variable's name: a UUID in braces is not.
fn is_variable(name: &str) -> bool {
    let is_part =
        |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.' | b' ' | b'|');
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(is_part)
}

/// Returns true for the printed form of values that are not text: `[object Object]`, `function () {`, `<User: 0x7f>`.
fn is_other_type(id: &str) -> bool {
    let start =
        |start: &str| id.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    start("[object ") || start("function ") || start("function(") || start("() =>") || start("#<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_recognised_in_any_case_and_wrapping() {
        for nobody in [
            "",
            " ",
            "NULL",
            "Undefined",
            "[object Object]",
            "[object Promise]",
            " guest ",
            "(null)",
            "<null>",
            "<nil>",
            "nil",
            "\"null\"",
            "'undefined'",
            "N/A",
            "n/a",
            "(not set)",
            "not_set",
            "NOT-SET",
            "Not.Set",
            "not_authenticated",
            "distinct_id",
            "distinctId",
            "{}",
            "[]",
            "-",
            "--",
            "?",
            "{{user_id}}",
            "{{ user.id | default }}",
            "user-{{id}}",
            "${userId}",
            "#{user.id}",
            "%USER_ID%",
            "%%user_id%%",
            "__USER_ID__",
            "[[user_id]]",
            "<%= user.id %>",
            "{% id %}",
            "*|UNIQID|*",
            "{user_id}",
            "00000000-0000-0000-0000-000000000000",
            "{00000000-0000-0000-0000-000000000000}",
            "00000000000000000000000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "02:00:00:00:00:00",
            "00:00:00:00:00:00",
            "function () { return id }",
            "\u{feff}null",
        ] {
            assert!(!is_identifying_id(nobody), "{nobody:?}");
        }
    }

    #[test]
    fn other_ids_are_no_placeholders() {
        for id in [
            "00",
            "u1",
            "1",
            "nancy",
            "nils",
            "guest-17",
            "anonymous-8f3a",
            "user_id_7",
            "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}",
            "00000000-0000-0000-0000-000000000001",
            "ffffffff",
            "100%",
            "jo@mail.example",
            "null@mail.example",
            "$device:17",
            "_ga",
            "日本",
            "__x1__",
            "nullius",
            "f",
        ] {
            assert!(is_identifying_id(id), "{id:?}");
        }
    }

    #[test]
    fn placeholders_include_the_sites_own() {
        let own = ["visitor".to_owned(), "gast".to_owned()];
        assert!(
            is_placeholder(" Gast", &own)
                && is_placeholder("VISITOR", &own)
                && is_placeholder("null", &own)
        );
        assert!(!is_placeholder("gast1", &own) && !is_placeholder("gast", &[]));
    }
}

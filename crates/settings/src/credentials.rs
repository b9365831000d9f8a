//! Finds credentials within a secret, and the base64 forms of a text inside a longer encoded text.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::percent_decode_str;

/// Schemes of `Authorization` before a token.
const SCHEMES: &[&str] = &["basic", "bearer", "token", "key", "apikey", "api-key", "digest"];

/// Words in the names of parameters, header fields and variables that carry credentials.
const WORDS: &[&str] = &[
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "dsn",
    "hook",
    "pass",
    "passwd",
    "password",
    "pwd",
    "sig",
    "signature",
    "webhook",
];

/// Endings of such names that are written as one word: `apikey`.
const ENDINGS: &[&str] = &["key", "keys", "secret", "secrets", "token", "tokens", "password"];

/// Last words of names that don't carry a credential: `TOKEN_FILE`.
const OTHERS: &[&str] = &["dir", "directory", "file", "id", "name", "path"];

/// Returns true if a parameter, a header field or a variable of this name carries a credential.
pub(super) fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(['_', '-', '.', ' ']).collect();
    let is_other = words.last().is_some_and(|last| OTHERS.contains(last));
    let is_credential =
        |word: &&str| WORDS.contains(word) || ENDINGS.iter().any(|ending| word.ends_with(ending));
    !is_other && words.iter().any(is_credential)
}

/// The text itself and the credentials within it.
pub(super) fn within(text: &str) -> Vec<String> {
    let mut parts = vec![text.to_owned()];
    // A PEM key is sometimes shown line by line.
    let lines = text.lines().filter(|_| text.contains('\n'));
    parts.extend(lines.filter(|line| !line.starts_with('-')).map(str::to_owned));
    if let Some((scheme, token)) = text.split_once(' ') {
        let scheme = scheme.to_ascii_lowercase();
        if SCHEMES.contains(&&*scheme) || scheme.ends_with("-key") || scheme.ends_with("-token") {
            parts.push(token.trim().to_owned());
            let pair = STANDARD.decode(token.trim()).ok().filter(|_| scheme == "basic");
            if let Some(pair) = pair.and_then(|pair| String::from_utf8(pair).ok()) {
                parts.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
                parts.push(pair);
            }
        }
    }
    // PostgreSQL's other form: host=.. password=..
    let words = text.split_whitespace().filter_map(|word| word.strip_prefix("password="));
    parts.extend(words.map(|word| word.trim_matches('\'').to_owned()));
    parts.extend(of_url(text));
    parts
}

/// The part of a secret URL after its host: the path of a webhook's address is its key.
pub(super) fn path_of_url(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    rest.find(['/', '?']).and_then(|at| rest.get(at..)).filter(|path| path.len() >= 16)
}

/// The credentials of a URL: the password, and parameters with such names. Also accepts texts that are
/// not quite URLs, such as templates.
pub(super) fn of_url(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("://") else { return Vec::new() };
    let mut parts = Vec::new();
    let mut add = |written: &str| {
        parts.push(percent_decode_str(written).decode_utf8_lossy().into_owned());
        parts.push(written.to_owned());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = authority.rsplit_once('@') {
        match user.split_once(':') {
            Some((_, password)) => add(password),
            // A token in the position of the user name.
            None if user.len() >= 16 => add(user),
            None => {}
        }
    }
    let query = rest.split_once('?').map(|(_, query)| query).unwrap_or_default();
    for pair in query.split(['&', ';', '#']) {
        if let Some((name, value)) = pair.split_once('=')
            && is_credential_name(name)
            && !value.contains("{{")
        {
            add(value);
        }
    }
    parts
}

/// The base64 forms of the text at each of its three offsets within an encoded text, in both alphabets:
/// only the characters that depend on the text alone.
pub(super) fn base64_forms(text: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3_usize {
        let mut whole = vec![0; before];
        whole.extend_from_slice(text);
        let start = (before * 8).div_ceil(6);
        let end = whole.len() * 8 / 6;
        for alphabet in [&STANDARD, &URL_SAFE] {
            let encoded = alphabet.encode(&whole).into_bytes();
            forms.extend(encoded.get(start..end).map(<[u8]>::to_vec));
        }
    }
    forms
}

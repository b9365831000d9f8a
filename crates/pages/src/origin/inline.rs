//! Searches in an inline script, each text once: the work is in proportion to the script's length, however many
//! addresses it has.

use std::ops::Range;

use memchr::memmem;

use tagway_vendors::script::ScriptFile;

/// The prefixes of integrity hashes in scripts.
const HASHES: &[&str] = &["sha256-", "sha384-", "sha512-"];

/// The longest host that is searched for.
const MAX_HOST_BYTES: usize = 300;

/// The search state of one inline script.
pub(super) struct InlineScript<'s> {
    pub(super) script: &'s [u8],
    /// The URL before paths, with a scheme.
    pub(super) base: &'s str,
    /// The results of earlier searches: each text, and true if it was found, as the beginning of a literal or
    /// anywhere.
    starts: Vec<(&'static str, bool)>,
    texts: Vec<(String, bool)>,
}

impl<'s> InlineScript<'s> {
    pub(super) const fn new(script: &'s [u8], base: &'s str) -> Self {
        Self { script, base, starts: Vec::new(), texts: Vec::new() }
    }

    /// Returns true if a script that adds the parameters itself may load another product.
    pub(super) fn may_be_other(&mut self, file: &ScriptFile) -> bool {
        file.foreign.iter().any(|(_, start)| self.has_literal(start))
    }

    /// Returns true if the script contains a text.
    pub(super) fn has(&mut self, text: &str) -> bool {
        if let Some((_, has)) = self.texts.iter().find(|(known, _)| known == text) {
            return *has;
        }
        let has = memmem::find(self.script, text.as_bytes()).is_some();
        self.texts.push((text.to_owned(), has));
        has
    }

    fn has_literal(&mut self, start: &'static str) -> bool {
        if let Some((_, has)) = self.starts.iter().find(|(known, _)| *known == start) {
            return *has;
        }
        let before = |at: usize| self.script.get(at.checked_sub(1)?);
        let has = memmem::find_iter(self.script, start).any(|at| before(at).is_some_and(is_quote));
        self.starts.push((start, has));
        has
    }
}

/// Returns the host at this position in a script, and a port with it.
pub(super) fn host_at(script: &[u8], at: usize) -> Option<&str> {
    let rest = script.get(at..)?;
    let rest = rest.get(..MAX_HOST_BYTES).unwrap_or(rest);
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    let length = rest.iter().position(|byte| !is_host(byte)).unwrap_or(rest.len());
    std::str::from_utf8(rest.get(..length)?).ok().filter(|host| !host.is_empty())
}

const fn is_quote(byte: &u8) -> bool {
    matches!(*byte, b'"' | b'\'' | b'`')
}

/// Returns the literals in a script that are hashes of other scripts; at most two of them.
pub(super) fn hashes(script: &[u8]) -> Vec<Range<usize>> {
    let found = HASHES.iter().flat_map(|hash| memmem::find_iter(script, hash));
    found
        .filter_map(|start| {
            let quote = script.get(start.checked_sub(1)?).filter(|byte| is_quote(byte))?;
            let length = script.get(start..)?.iter().position(|byte| byte == quote)?;
            Some(start..start + length)
        })
        .take(2)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script is searched once for each text, not once for each address in it.
    #[test]
    fn inline_script_is_searched_once_for_each_text() {
        let script = "x('G-1','AW-2');";
        let mut inline = InlineScript::new(script.as_bytes(), "https://t.shop.example");
        let file = ScriptFile { foreign: &[("id", "AW-"), ("id", "DC-")], ..ScriptFile::PLAIN };
        for _ in 0..100 {
            assert!(inline.may_be_other(&file));
            assert!(inline.has("G-1") && !inline.has("G-2"));
        }
        assert_eq!((inline.starts.len(), inline.texts.len()), (1, 2));
    }

    #[test]
    fn hosts_and_hashes_are_found_in_scripts() {
        assert_eq!(host_at(b"//a.example:8/x", 2), Some("a.example:8"));
        assert_eq!(host_at(b"//", 2), None);
        let script = b"'sha256-a' \"sha384-b\" 'sha512-c'";
        assert_eq!(hashes(script), [1..9, 12..20]);
    }
}

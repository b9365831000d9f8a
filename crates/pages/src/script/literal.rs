//! Addresses at the beginning of string literals in a script, where scripts have the addresses that they
//! load from. Nothing else of a script is changed: a bare host is used in comparisons, not fetched.

/// Scheme and host at the beginning of a literal.
#[derive(Clone, Copy, Debug)]
pub struct LiteralAddress {
    /// The offset of its first byte, after the quote.
    pub start: usize,
    /// The offset of the end of the host.
    pub end: usize,
    /// True if the address names a scheme.
    pub has_scheme: bool,
    /// True if its slashes are escaped.
    pub escaped: bool,
}

impl LiteralAddress {
    /// Finds the address whose complete host is `host`, at offset `at`.
    pub fn at(script: &[u8], at: usize, host: &str) -> Option<Self> {
        let (before, end) = (script.get(..at)?, at + host.len());
        let (before, escaped) = match before.strip_suffix(b"\\/\\/") {
            Some(before) => (before, true),
            None => (before.strip_suffix(b"//")?, false),
        };
        let scheme = before.strip_suffix(b"https:").or_else(|| before.strip_suffix(b"http:"));
        let start = scheme.unwrap_or(before);
        if !matches!(start.last()?, b'"' | b'\'' | b'`') {
            return None;
        }
        let after = script.get(end..)?;
        let ends_host = match after.first() {
            None | Some(b'/' | b'"' | b'\'' | b'`' | b'?' | b'#') => true,
            // An escaped slash or quote.
            Some(b'\\') => matches!(after.get(1), Some(b'/' | b'"' | b'\'')),
            _ => false,
        };
        let has_scheme = scheme.is_some();
        ends_host.then_some(Self { start: start.len(), end, has_scheme, escaped })
    }

    /// Escapes the slashes of its replacement if its own are escaped.
    pub fn escape_as_written(&self, place: String) -> String {
        if self.escaped { place.replace('/', "\\/") } else { place }
    }
}

//! How deep JSON goes, counted before anything parses it: readers build trees by recursion.

/// Whether objects and arrays stand at most `max` deep within each other. Counts brackets outside
/// of strings, so text that is not JSON gets an answer as well, and then fails to parse.
pub(super) fn is_at_most(max: usize, text: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(is_at_most(2, br#"{"a":[1,2],"b":[3]}"#));
        assert!(!is_at_most(1, br#"{"a":[1]}"#));
        assert!(is_at_most(1, br#"{"a":"[[[[\"[["}"#));
        assert!(is_at_most(1, br#"{"a\\":"\\","b":"["}"#));
        assert!(is_at_most(0, b"12"));
        assert!(!is_at_most(64, &[b'['; 65]));
        assert!(is_at_most(3, b"]]]]{{{"));
    }
}

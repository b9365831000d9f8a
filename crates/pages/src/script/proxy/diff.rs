//! Differences between two versions of a script, for people. Minified scripts have one line: for the diff,
//! they are first broken into short ones.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// The time limit of a comparison; after that, the rest is shown as replaced.
const TIME: Duration = Duration::from_secs(5);

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// A line longer than this is also broken at its next comma,
const LONG_LINE_BYTES: usize = 120;

/// and one longer than this anywhere.
const MAX_LINE_BYTES: usize = 1000;

/// The longest diff.
const MAX_DIFF_BYTES: usize = 512 * 1024;

/// A diff of two versions, in the unified format. It can contain any character of the scripts.
pub(super) fn diff(old: &[u8], new: &[u8]) -> (String, bool) {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let (old, new) = (lines(&old), lines(&new));
    let diff = TextDiff::configure().timeout(TIME).diff_slices(&old, &new);
    let mut out = String::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT_LINES).iter_hunks() {
        out += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            out.push(match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            });
            out += change.value();
            out.push('\n');
            if out.len() > MAX_DIFF_BYTES {
                return (out, true);
            }
        }
    }
    (out, false)
}

/// The lines of a script, broken after each end of a statement and each begin or end of a block. A break
/// depends only on the text shortly before it: equal parts are broken equally.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut start, mut end) = (0, 0);
    for c in text.chars() {
        end += c.len_utf8();
        let length = end - start;
        let is_end = match c {
            '\n' | ';' | '{' | '}' => true,
            ',' => length > LONG_LINE_BYTES,
            _ => length > MAX_LINE_BYTES,
        };
        if is_end {
            lines.extend(text.get(start..end));
            start = end;
        }
    }
    lines.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    let trimmed = lines.into_iter().map(|line| line.trim_end_matches(['\r', '\n']));
    trimmed.filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_breaks_a_minified_line() {
        let old = "!function(){var a=1;var b=2;function c(){return a}f(1);g(2);h(3);i(4)}();";
        let new = old.replace("b=2", "b=\"\u{1b}[2J\"").replace("return a", "return b");
        let (shown, cut) = diff(old.as_bytes(), new.as_bytes());
        assert!(!cut);
        let expected = "@@ -1,8 +1,8 @@\n !function(){\n var a=1;\n-var b=2;\n+var \
                        b=\"\u{1b}[2J\";\n function c(){\n-return a}\n+return b}\n f(1);\n \
                        g(2);\n h(3);\n";
        assert_eq!(shown, expected);
        assert_eq!(diff(old.as_bytes(), old.as_bytes()), (String::new(), false));
    }

    #[test]
    fn lines_keeps_all_text_within_the_length_limit() {
        let text = format!("{}{}é\r\n;x", "a,".repeat(300), "b".repeat(5000));
        let broken = lines(&text);
        assert_eq!(broken.concat(), text.replace("\r\n", ""));
        assert!(broken.iter().all(|line| line.len() <= MAX_LINE_BYTES + 2));
        assert!(broken.len() > 7);
    }

    #[test]
    fn diff_of_unrelated_scripts_ends_within_its_limits() {
        let many = |seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            let word = |_| format!("f{}({});", random.u32(..), random.u8(..));
            (0..100_000).map(word).collect::<String>()
        };
        let (shown, cut) = diff(many(1).as_bytes(), many(2).as_bytes());
        assert!(cut && shown.len() <= MAX_DIFF_BYTES + MAX_LINE_BYTES + 10);
    }
}

//! Lists of name patterns with `*`, `?` and exclusions.

use wildmatch::WildMatch;

/// Patterns for names: a name matches if any pattern matches it and no pattern that begins with `!`
/// does.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobPatterns {
    included: Vec<WildMatch>,
    excluded: Vec<WildMatch>,
}

impl GlobPatterns {
    /// Compiles the patterns; `*` is any text, `?` one character. With exclusions alone, every other name
    /// matches.
    pub fn new(patterns: &[String]) -> Self {
        let (excluded, included): (Vec<&str>, Vec<&str>) =
            patterns.iter().map(String::as_str).partition(|pattern| pattern.starts_with('!'));
        let compile = |pattern: &str| WildMatch::new(pattern.trim_start_matches('!'));
        let mut included: Vec<WildMatch> = included.into_iter().map(compile).collect();
        if included.is_empty() {
            included.push(WildMatch::new("*"));
        }
        Self { included, excluded: excluded.into_iter().map(compile).collect() }
    }

    /// Returns true if the name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.included.iter().any(|glob| glob.matches(name))
            && !self.excluded.iter().any(|glob| glob.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_excluded_names_never_and_all_others_if_alone() {
        let matches = |patterns: &[&str], name: &str| {
            let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
            GlobPatterns::new(&patterns).matches(name)
        };
        assert!(matches(&["*"], "Order Completed"));
        assert!(matches(&["Order *", "page"], "Order Completed"));
        assert!(!matches(&["Order *", "page"], "Clicked"));
        assert!(!matches(&["*", "!Order *"], "Order Completed"));
        assert!(matches(&["!Order *"], "Clicked") && !matches(&["!Order *"], "Order Paid"));
        assert!(matches(&[], "anything"));
    }
}

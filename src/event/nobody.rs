//! Ids that name nobody.

/// What sloppy tags and systems send for people they do not know, in lower case. The last is the
/// advertising id of a device whose owner has turned it off.
const NOBODY: [&str; 14] = [
    "",
    "0",
    "-1",
    "null",
    "undefined",
    "nan",
    "none",
    "true",
    "false",
    "anonymous",
    "guest",
    "unknown",
    "[object object]",
    "00000000-0000-0000-0000-000000000000",
];

/// Whether an id is somebody's, the space around it aside.
pub fn names_somebody(id: &str) -> bool {
    let id = id.trim();
    !NOBODY.iter().any(|nobody| id.eq_ignore_ascii_case(nobody))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_nobody_is_nobodys_in_any_case() {
        for nobody in ["", " ", "NULL", "Undefined", "[object Object]", " guest "] {
            assert!(!names_somebody(nobody), "{nobody:?}");
        }
        assert!(names_somebody("00") && names_somebody("u1"));
    }
}

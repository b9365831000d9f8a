//! SQLite's JSON functions. `json_extract` alone gives text for lists, and numbers for truth values, so
//! `json_type` is tested as well: second, since most values fail already.

use crate::segment::rule::RuleLiteral;
use crate::segment::sql::{JsonColumnPath, SqlDialect, SqlParameter};

/// The SQL dialect of SQLite.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct SqliteDialect;

const DATE: &str = "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'";
const TIME: &str =
    "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*Z'";

fn value(at: &JsonColumnPath) -> String {
    format!("json_extract({}, {})", at.column, at.path)
}

fn kind(at: &JsonColumnPath) -> String {
    format!("json_type({}, {})", at.column, at.path)
}

impl SqlDialect for SqliteDialect {
    fn parameter(&self, number: usize, _parameter: &SqlParameter) -> String {
        format!("?{number}")
    }

    fn path(&self, keys: &[String]) -> String {
        // Keys have neither quotes nor backslashes.
        keys.iter().fold("$".to_owned(), |path, key| path + ".\"" + key + "\"")
    }

    fn exists(&self, at: &JsonColumnPath) -> String {
        format!("{} <> 'null'", kind(at))
    }

    fn text(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String {
        format!("({} {sign} {with} AND {} = 'text')", value(at), kind(at))
    }

    fn number(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String {
        format!("({} {sign} {with} AND {} IN ('integer', 'real'))", value(at), kind(at))
    }

    fn boolean(&self, at: &JsonColumnPath, wanted: bool) -> String {
        format!("{} = '{wanted}'", kind(at))
    }

    fn contains(&self, at: &JsonColumnPath, part: &str) -> String {
        format!("(instr({}, {part}) > 0 AND {} = 'text')", value(at), kind(at))
    }

    // By bytes: functions of text end at a zero.
    fn starts_with(&self, at: &JsonColumnPath, part: &str) -> String {
        let part = format!("CAST({part} AS BLOB)");
        let head = format!("substr(CAST({} AS BLOB), 1, length({part}))", value(at));
        format!("({} = 'text' AND {head} = {part})", kind(at))
    }

    fn ends_with(&self, at: &JsonColumnPath, part: &str) -> String {
        let blob = format!("CAST({} AS BLOB)", value(at));
        let part = format!("CAST({part} AS BLOB)");
        let tail = format!("substr({blob}, -length({part}), length({part}))");
        format!("({} = 'text' AND length({blob}) >= length({part}) AND {tail} = {part})", kind(at))
    }

    fn has_element(&self, at: &JsonColumnPath, element: &RuleLiteral, with: &str) -> String {
        let equals = match element {
            RuleLiteral::Text(_) => format!("e.type = 'text' AND e.atom = {with}"),
            RuleLiteral::Integer(_) | RuleLiteral::Real(_) => {
                format!("e.type IN ('integer', 'real') AND e.atom = {with}")
            }
            RuleLiteral::Boolean(wanted) => format!("e.type = '{wanted}'"),
        };
        let (column, path) = (&at.column, &at.path);
        format!(
            "({} = 'array' AND EXISTS (SELECT 1 FROM json_each({column}, {path}) e WHERE {equals}))",
            kind(at)
        )
    }

    fn time(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String {
        let value = value(at);
        format!(
            "({} = 'text' AND CASE WHEN {value} GLOB {DATE} THEN {value} || 'T00:00:00' \
             WHEN {value} GLOB {TIME} THEN substr({value}, 1, 19) END {sign} {with})",
            kind(at)
        )
    }
}

//! SQLite's JSON functions. `json_extract` alone gives text for lists, and numbers for truth values, so
//! `json_type` is asked as well: after it, since most values fail already.

use crate::segment::rule::Literal;
use crate::segment::sql::{At, Dialect, Parameter};

/// SQLite.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct Sqlite;

const DATE: &str = "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'";
const TIME: &str =
    "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*Z'";

fn value(at: &At) -> String {
    format!("json_extract({}, {})", at.column, at.path)
}

fn kind(at: &At) -> String {
    format!("json_type({}, {})", at.column, at.path)
}

impl Dialect for Sqlite {
    fn parameter(&self, number: usize, _parameter: &Parameter) -> String {
        format!("?{number}")
    }

    fn path(&self, keys: &[String]) -> String {
        // Keys have neither quotes nor backslashes.
        keys.iter().fold("$".to_owned(), |path, key| path + ".\"" + key + "\"")
    }

    fn exists(&self, at: &At) -> String {
        format!("{} <> 'null'", kind(at))
    }

    fn text(&self, at: &At, sign: &str, with: &str) -> String {
        format!("({} {sign} {with} AND {} = 'text')", value(at), kind(at))
    }

    fn number(&self, at: &At, sign: &str, with: &str) -> String {
        format!("({} {sign} {with} AND {} IN ('integer', 'real'))", value(at), kind(at))
    }

    fn boolean(&self, at: &At, wanted: bool) -> String {
        format!("{} = '{wanted}'", kind(at))
    }

    fn contains(&self, at: &At, part: &str) -> String {
        format!("(instr({}, {part}) > 0 AND {} = 'text')", value(at), kind(at))
    }

    // By bytes: functions of text end at a zero.
    fn starts_with(&self, at: &At, part: &str) -> String {
        let part = format!("CAST({part} AS BLOB)");
        let head = format!("substr(CAST({} AS BLOB), 1, length({part}))", value(at));
        format!("({} = 'text' AND {head} = {part})", kind(at))
    }

    fn ends_with(&self, at: &At, part: &str) -> String {
        let blob = format!("CAST({} AS BLOB)", value(at));
        let part = format!("CAST({part} AS BLOB)");
        let tail = format!("substr({blob}, -length({part}), length({part}))");
        format!("({} = 'text' AND length({blob}) >= length({part}) AND {tail} = {part})", kind(at))
    }

    fn has_element(&self, at: &At, element: &Literal, with: &str) -> String {
        let equals = match element {
            Literal::Text(_) => format!("e.type = 'text' AND e.atom = {with}"),
            Literal::Integer(_) | Literal::Real(_) => {
                format!("e.type IN ('integer', 'real') AND e.atom = {with}")
            }
            Literal::Boolean(wanted) => format!("e.type = '{wanted}'"),
        };
        let (column, path) = (&at.column, &at.path);
        format!(
            "({} = 'array' AND EXISTS (SELECT 1 FROM json_each({column}, {path}) e WHERE {equals}))",
            kind(at)
        )
    }

    fn time(&self, at: &At, sign: &str, with: &str) -> String {
        let value = value(at);
        format!(
            "({} = 'text' AND CASE WHEN {value} GLOB {DATE} THEN {value} || 'T00:00:00' \
             WHEN {value} GLOB {TIME} THEN substr({value}, 1, 19) END {sign} {with})",
            kind(at)
        )
    }
}

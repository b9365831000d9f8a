//! PostgreSQL's JSON functions for rules: for the columns `*_json`, whose numbers are exact and whose
//! texts are written by [`tagway_storage::postgres::encoded`], and so are the texts of parameters. All parameters
//! are bound as text, with the type that the statement casts them to.

use crate::segment::rule::RuleLiteral;
use crate::segment::sql::{JsonColumnPath, SqlDialect, SqlParameter};
use tagway_storage::postgres::{encoded, exact};

/// The SQL dialect of PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct PostgresDialect;

const DATE: &str = "'^[0-9]{4}-[0-9]{2}-[0-9]{2}$'";
const TIME: &str = "'^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.*Z$'";

/// Returns the text that a parameter is bound to.
pub(in crate::segment) fn bound(parameter: &SqlParameter) -> String {
    match parameter {
        SqlParameter::Integer(number) => number.to_string(),
        SqlParameter::Real(number) => exact(*number),
        SqlParameter::Text(text) => encoded(text).into_owned(),
    }
}

/// Returns the value. A strict path through a list is an error in PostgreSQL, and an error gives no
/// value.
fn value(at: &JsonColumnPath) -> String {
    format!("jsonb_path_query_first({}_json, ({})::jsonpath, '{{}}', true)", at.column, at.path)
}

fn kind(at: &JsonColumnPath) -> String {
    format!("jsonb_typeof({})", value(at))
}

fn text(at: &JsonColumnPath) -> String {
    format!("({} #>> '{{}}') COLLATE \"C\"", value(at))
}

impl SqlDialect for PostgresDialect {
    fn parameter(&self, number: usize, parameter: &SqlParameter) -> String {
        let kind = match parameter {
            SqlParameter::Integer(_) => "::bigint",
            SqlParameter::Real(_) => "::numeric",
            SqlParameter::Text(_) => "",
        };
        format!("${number}::text{kind}")
    }

    fn path(&self, keys: &[String]) -> String {
        // Keys have neither quotes nor backslashes.
        keys.iter().fold("strict $".to_owned(), |path, key| path + ".\"" + key + "\"")
    }

    fn exists(&self, at: &JsonColumnPath) -> String {
        format!("{} <> 'null'", kind(at))
    }

    fn text(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String {
        format!("({} = 'string' AND {} {sign} {with})", kind(at), text(at))
    }

    fn number(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String {
        // The expression after THEN is not evaluated before the test: it fails for any other type.
        format!("CASE WHEN {} = 'number' THEN {}::numeric {sign} {with} END", kind(at), value(at))
    }

    fn boolean(&self, at: &JsonColumnPath, wanted: bool) -> String {
        format!("{} = '{wanted}'::jsonb", value(at))
    }

    fn contains(&self, at: &JsonColumnPath, part: &str) -> String {
        format!("({} = 'string' AND strpos({}, {part}) > 0)", kind(at), text(at))
    }

    fn starts_with(&self, at: &JsonColumnPath, part: &str) -> String {
        format!("({} = 'string' AND starts_with({}, {part}))", kind(at), text(at))
    }

    fn ends_with(&self, at: &JsonColumnPath, part: &str) -> String {
        format!("({} = 'string' AND right({}, char_length({part})) = {part})", kind(at), text(at))
    }

    fn has_element(&self, at: &JsonColumnPath, element: &RuleLiteral, with: &str) -> String {
        let element = match element {
            RuleLiteral::Text(_) | RuleLiteral::Integer(_) | RuleLiteral::Real(_) => {
                format!("jsonb_build_array(to_jsonb({with}))")
            }
            RuleLiteral::Boolean(wanted) => format!("'[{wanted}]'::jsonb"),
        };
        format!("({} = 'array' AND {} @> {element})", kind(at), value(at))
    }

    fn time(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String {
        let text = text(at);
        format!(
            "({} = 'string' AND CASE WHEN {text} ~ {DATE} THEN {text} || 'T00:00:00' \
             WHEN {text} ~ {TIME} THEN left({text}, 19) END {sign} {with})",
            kind(at)
        )
    }
}

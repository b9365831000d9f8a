//! PostgreSQL's JSON, as rules ask for it: of the columns `*_json`, whose numbers are exact and whose
//! texts are as [`crate::postgres::encoded`] writes them, and so are the texts of parameters. All
//! parameters are bound as text, and are what the statement says they are.

use crate::postgres::{encoded, exact};
use crate::segment::rule::Literal;
use crate::segment::sql::{At, Dialect, Parameter};

/// PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct Postgres;

const DATE: &str = "'^[0-9]{4}-[0-9]{2}-[0-9]{2}$'";
const TIME: &str = "'^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.*Z$'";

/// What a parameter is bound to.
pub(in crate::segment) fn bound(parameter: &Parameter) -> String {
    match parameter {
        Parameter::Integer(number) => number.to_string(),
        Parameter::Real(number) => exact(*number),
        Parameter::Text(text) => encoded(text).into_owned(),
    }
}

/// The value. A strict path that leads through a list is a mistake to PostgreSQL, and a mistake is
/// no value.
fn value(at: &At) -> String {
    format!("jsonb_path_query_first({}_json, ({})::jsonpath, '{{}}', true)", at.column, at.path)
}

fn kind(at: &At) -> String {
    format!("jsonb_typeof({})", value(at))
}

fn text(at: &At) -> String {
    format!("({} #>> '{{}}') COLLATE \"C\"", value(at))
}

impl Dialect for Postgres {
    fn parameter(&self, number: usize, parameter: &Parameter) -> String {
        let kind = match parameter {
            Parameter::Integer(_) => "::bigint",
            Parameter::Real(_) => "::numeric",
            Parameter::Text(_) => "",
        };
        format!("${number}::text{kind}")
    }

    fn path(&self, keys: &[String]) -> String {
        // Keys have neither quotes nor backslashes.
        keys.iter().fold("strict $".to_owned(), |path, key| path + ".\"" + key + "\"")
    }

    fn exists(&self, at: &At) -> String {
        format!("{} <> 'null'", kind(at))
    }

    fn text(&self, at: &At, sign: &str, with: &str) -> String {
        format!("({} = 'string' AND {} {sign} {with})", kind(at), text(at))
    }

    fn number(&self, at: &At, sign: &str, with: &str) -> String {
        // What stands after THEN is not looked at before: it fails of anything else.
        format!("CASE WHEN {} = 'number' THEN {}::numeric {sign} {with} END", kind(at), value(at))
    }

    fn boolean(&self, at: &At, wanted: bool) -> String {
        format!("{} = '{wanted}'::jsonb", value(at))
    }

    fn contains(&self, at: &At, part: &str) -> String {
        format!("({} = 'string' AND strpos({}, {part}) > 0)", kind(at), text(at))
    }

    fn starts_with(&self, at: &At, part: &str) -> String {
        format!("({} = 'string' AND starts_with({}, {part}))", kind(at), text(at))
    }

    fn ends_with(&self, at: &At, part: &str) -> String {
        format!("({} = 'string' AND right({}, char_length({part})) = {part})", kind(at), text(at))
    }

    fn has_element(&self, at: &At, element: &Literal, with: &str) -> String {
        let element = match element {
            Literal::Text(_) | Literal::Integer(_) | Literal::Real(_) => {
                format!("jsonb_build_array(to_jsonb({with}))")
            }
            Literal::Boolean(wanted) => format!("'[{wanted}]'::jsonb"),
        };
        format!("({} = 'array' AND {} @> {element})", kind(at), value(at))
    }

    fn time(&self, at: &At, sign: &str, with: &str) -> String {
        let text = text(at);
        format!(
            "({} = 'string' AND CASE WHEN {text} ~ {DATE} THEN {text} || 'T00:00:00' \
             WHEN {text} ~ {TIME} THEN left({text}, 19) END {sign} {with})",
            kind(at)
        )
    }
}

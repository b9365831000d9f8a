//! A rule as one SQL statement. Every value is a parameter; no text of a rule becomes SQL. What
//! databases write differently is a [`Dialect`]; the tables' and columns' names are the same in all.
//!
//! Every condition is made so that it is true or false, never unknown: `NOT` of it is its opposite.

use super::By;
use super::evaluate::{MILLISECONDS_FROM, time_text};
use super::rule::{Comparison, EventRule, Literal, Moment, Part, Rule, Span, Test};
use crate::profile::ProfileId;

/// A statement and its parameters, in the order of their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text.
    pub text: String,
    /// What its parameters are bound to.
    pub parameters: Vec<Parameter>,
}

/// What a parameter is bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text.
    Text(String),
}

/// A value within a JSON column: the column, and the parameter that is the path.
#[derive(Clone, Debug)]
pub struct At {
    /// The column.
    pub column: String,
    /// The path's parameter, as the statement names it.
    pub path: String,
}

/// What databases write differently. Each result is a condition that is true, false or unknown; `with`
/// and its like are parameters as the statement names them.
pub trait Dialect {
    /// The parameter of this number, counted from 1.
    fn parameter(&self, number: usize, parameter: &Parameter) -> String;

    /// The path of these keys, as JSON functions take it.
    fn path(&self, keys: &[String]) -> String;

    /// There is a value, and it is not null.
    fn exists(&self, at: &At) -> String;

    /// It is text, and in this relation to another, byte by byte; or `IN` a list of texts.
    fn text(&self, at: &At, sign: &str, with: &str) -> String;

    /// It is a number, and in this relation to another; or `IN` a list of numbers.
    fn number(&self, at: &At, sign: &str, with: &str) -> String;

    /// It is this truth value.
    fn boolean(&self, at: &At, wanted: bool) -> String;

    /// It is text that contains another.
    fn contains(&self, at: &At, part: &str) -> String;

    /// It is text that begins with another.
    fn starts_with(&self, at: &At, part: &str) -> String;

    /// It is text that ends with another.
    fn ends_with(&self, at: &At, part: &str) -> String;

    /// It is a list with an element that equals this value.
    fn has_element(&self, at: &At, element: &Literal, with: &str) -> String;

    /// It is text that is a time, and the time in this relation to one written as `YYYY-MM-DDTHH:MM:SS`.
    fn time(&self, at: &At, sign: &str, with: &str) -> String;
}

/// The numbers of the profiles that a rule selects at this time, of the site of this number there.
/// Where `of` are given, at least one, of these profiles alone, and nobody else is looked at if members are people.
pub fn compile(
    rule: &Rule,
    by: By,
    (site, of): (i64, Option<&[ProfileId]>),
    now_ms: i64,
    dialect: &dyn Dialect,
) -> Statement {
    let mut compiler =
        Compiler { dialect, now_ms, parameters: Vec::new(), site: String::new(), actors: "" };
    compiler.site = compiler.bind(Parameter::Integer(site));
    if by == By::User && of.is_some() {
        compiler.actors = " AND a.profile IN (SELECT id FROM these)";
    }
    let condition = compiler.rule(rule);
    let (site, these) = (&compiler.site, of.map(these).unwrap_or_default());
    let of = |column: &str| match of {
        Some(_) => format!(" AND {column} IN (SELECT id FROM these)"),
        None => String::new(),
    };
    let text = match by {
        By::User => {
            let of = of("p.id");
            format!("{these}SELECT p.id FROM profiles p WHERE p.site = {site}{of} AND {condition}")
        }
        By::Group => format!(
            "{these}SELECT g.id FROM profiles g WHERE g.site = {site}{} AND g.group_id IN (\
             SELECT p.group_id FROM profiles p \
             WHERE p.site = {site} AND p.group_id IS NOT NULL AND {condition})",
            of("g.id")
        ),
    };
    Statement { text, parameters: compiler.parameters }
}

/// The numbers of profiles, once, however often they are asked for: they are no text that anybody wrote.
fn these(profiles: &[ProfileId]) -> String {
    let numbers: Vec<String> = profiles.iter().map(|profile| format!("({})", profile.0)).collect();
    format!("WITH these (id) AS (VALUES {}) ", numbers.join(", "))
}

struct Compiler<'d> {
    dialect: &'d dyn Dialect,
    now_ms: i64,
    parameters: Vec<Parameter>,
    /// The site's parameter.
    site: String,
    /// Of whose events alone is asked, as a condition.
    actors: &'static str,
}

impl Compiler<'_> {
    fn bind(&mut self, parameter: Parameter) -> String {
        let written = self.dialect.parameter(self.parameters.len() + 1, &parameter);
        self.parameters.push(parameter);
        written
    }

    fn rule(&mut self, rule: &Rule) -> String {
        match rule {
            Rule::All(rules) => self.joined(rules, " AND ", "1 = 1"),
            Rule::Any(rules) => self.joined(rules, " OR ", "1 = 0"),
            Rule::Not(rule) => format!("NOT {}", self.rule(rule)),
            Rule::Known { place, path, tests } => self.known(*place, path, tests),
            Rule::Identity { kind, exists } => {
                let kind = self.bind(Parameter::Text(kind.clone()));
                let not = if *exists { "" } else { "NOT " };
                format!(
                    "({not}EXISTS (SELECT 1 FROM identities i \
                     WHERE i.profile = p.id AND i.kind = {kind}))"
                )
            }
            Rule::Seen { first, when } => {
                let column = if *first { "p.first_seen" } else { "p.last_seen" };
                let bounds = self.span(column, *when);
                format!("({column} IS NOT NULL{bounds})")
            }
            Rule::Event(event) => self.event(event),
        }
    }

    fn joined(&mut self, rules: &[Rule], with: &str, of_none: &str) -> String {
        let rules: Vec<String> = rules.iter().map(|rule| self.rule(rule)).collect();
        if rules.is_empty() { format!("({of_none})") } else { format!("({})", rules.join(with)) }
    }

    /// ` AND` what a time must be.
    fn span(&mut self, time: &str, span: Span) -> String {
        let now = self.now_ms;
        let mut bound = |moment: Option<Moment>, sign: &str| match moment {
            Some(moment) => {
                let with = self.bind(Parameter::Integer(moment.milliseconds(now)));
                format!(" AND {time} {sign} {with}")
            }
            None => String::new(),
        };
        bound(span.after, ">=") + &bound(span.before, "<")
    }

    fn known(&mut self, place: Part, path: &[String], tests: &[Test]) -> String {
        let column = match place {
            Part::Traits => "p.traits",
            Part::Consent => "p.consent",
            Part::Device => "p.device",
            Part::Place => "p.place",
            Part::Touches => "p.touches",
        };
        let path = self.bind(Parameter::Text(self.dialect.path(path)));
        let at = At { column: column.to_owned(), path };
        let tests: Vec<String> =
            tests.iter().map(|test| format!("({}) IS TRUE", self.test(&at, test))).collect();
        format!("({})", tests.join(" AND "))
    }

    /// What may be unknown, where there is no value.
    fn test(&mut self, at: &At, test: &Test) -> String {
        match test {
            Test::Exists(true) => self.dialect.exists(at),
            // Unknown is what this must find.
            Test::Exists(false) => format!("({}) IS NOT TRUE", self.dialect.exists(at)),
            Test::Compare(Comparison::Unequal, literal) => {
                let equal = self.compare(at, Comparison::Equal, literal);
                format!("{} AND ({equal}) IS NOT TRUE", self.dialect.exists(at))
            }
            Test::Compare(comparison, literal) => self.compare(at, *comparison, literal),
            Test::In(literals) => self.one_of(at, literals),
            Test::Contains(literal) => {
                let with = self.literal(literal);
                let element = self.dialect.has_element(at, literal, &with);
                match literal {
                    Literal::Text(_) => {
                        format!("({element} OR {})", self.dialect.contains(at, &with))
                    }
                    _ => element,
                }
            }
            Test::StartsWith(part) => {
                let part = self.bind(Parameter::Text(part.clone()));
                self.dialect.starts_with(at, &part)
            }
            Test::EndsWith(part) => {
                let part = self.bind(Parameter::Text(part.clone()));
                self.dialect.ends_with(at, &part)
            }
            Test::Before(moment) => self.time(at, "<", *moment),
            Test::After(moment) => self.time(at, ">=", *moment),
        }
    }

    /// One look at the value for each type, however many values there are.
    fn one_of(&mut self, at: &At, literals: &[Literal]) -> String {
        let (mut texts, mut numbers, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for literal in literals {
            let with = self.literal(literal);
            match literal {
                Literal::Text(_) => texts.push(with),
                Literal::Integer(_) | Literal::Real(_) => numbers.push(with),
                Literal::Boolean(wanted) => each.push(self.dialect.boolean(at, *wanted)),
            }
        }
        if !texts.is_empty() {
            each.push(self.dialect.text(at, "IN", &format!("({})", texts.join(", "))));
        }
        if !numbers.is_empty() {
            each.push(self.dialect.number(at, "IN", &format!("({})", numbers.join(", "))));
        }
        format!("({})", each.join(" OR "))
    }

    fn literal(&mut self, literal: &Literal) -> String {
        let parameter = match literal {
            Literal::Text(text) => Parameter::Text(text.clone()),
            Literal::Integer(number) => Parameter::Integer(*number),
            Literal::Real(number) => Parameter::Real(*number),
            // Not looked at: the database has its own words for them.
            Literal::Boolean(_) => return String::new(),
        };
        self.bind(parameter)
    }

    fn compare(&mut self, at: &At, comparison: Comparison, literal: &Literal) -> String {
        let with = self.literal(literal);
        match literal {
            Literal::Text(_) => self.dialect.text(at, comparison.sign(), &with),
            Literal::Integer(_) | Literal::Real(_) => {
                self.dialect.number(at, comparison.sign(), &with)
            }
            Literal::Boolean(wanted) => self.dialect.boolean(at, *wanted),
        }
    }

    fn time(&mut self, at: &At, sign: &str, moment: Moment) -> String {
        let seconds = moment.milliseconds(self.now_ms).div_euclid(1000);
        let text = self.bind(Parameter::Text(time_text(seconds)));
        let from = self.bind(Parameter::Integer(MILLISECONDS_FROM));
        let milliseconds = self.bind(Parameter::Integer(seconds.saturating_mul(1000)));
        let seconds = self.bind(Parameter::Integer(seconds));
        let dialect = self.dialect;
        let (small, large) = (dialect.number(at, "<", &from), dialect.number(at, ">=", &from));
        let of_seconds = dialect.number(at, sign, &seconds);
        let of_milliseconds = dialect.number(at, sign, &milliseconds);
        let of_text = dialect.time(at, sign, &text);
        format!("(({of_text}) OR ({small} AND {of_seconds}) OR ({large} AND {of_milliseconds}))")
    }

    /// People are looked up in the set of those who did it: that is read off one stretch of the index
    /// of events, however many people there are.
    fn event(&mut self, event: &EventRule) -> String {
        let name = self.bind(Parameter::Text(event.key()));
        let (day, since) = event.window(self.now_ms);
        let mut rows = format!(
            "SELECT a.profile FROM activity a \
             WHERE a.event = (SELECT id FROM event_names WHERE site = {} AND name = {name})",
            self.site
        );
        rows.push_str(self.actors);
        if day != i64::MIN {
            let day = self.bind(Parameter::Integer(day));
            rows += &format!(" AND a.day >= {day}");
        }
        if since != i64::MIN {
            let since = self.bind(Parameter::Integer(since));
            rows += &format!(" AND a.last >= {since}");
        }
        if event.is_presence() {
            return format!("p.id IN ({rows})");
        }
        if event.is_absence() {
            return format!("p.id NOT IN ({rows})");
        }
        let mut having = String::from("1 = 1");
        for (amount, column) in [(event.count, "a.count"), (event.sum, "a.sum")] {
            let Some(amount) = amount else { continue };
            let with = self.bind(Parameter::Real(amount.number));
            having += &format!(" AND sum({column}) {} {with}", amount.comparison.sign());
        }
        having += &self.span("min(a.first)", event.first);
        having += &self.span("max(a.last)", event.last);
        // Who never did it is in no row: such people are found by who is not one of the others.
        if event.holds_of_none() {
            format!("p.id NOT IN ({rows} GROUP BY a.profile HAVING NOT ({having}))")
        } else {
            format!("p.id IN ({rows} GROUP BY a.profile HAVING {having})")
        }
    }
}

//! A rule as one SQL statement. Every value is a parameter; no text of a rule becomes SQL. The differences
//! between databases are in a [`SqlDialect`]; the tables' and columns' names are the same in all.
//!
//! Every condition is built to be true or false, never unknown: `NOT` of it is its opposite.

use super::evaluate::{MILLISECONDS_FROM, time_text};
use super::rule::{
    ComparisonOperator, EventCondition, ProfilePart, RuleLiteral, RuleMoment, RuleTimeSpan,
    RuleValueTest, SegmentRule,
};
use super::{MembershipUnit, RuleEvaluation};
use tagway_storage::profile::ProfileId;

/// A statement and its parameters, in the order of their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlStatement {
    /// The text of the statement.
    pub text: String,
    /// The values that its parameters are bound to.
    pub parameters: Vec<SqlParameter>,
}

/// The value that a parameter is bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlParameter {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// A text in UTF-8.
    Text(String),
}

/// A value within a JSON column: the column, and the parameter with the path.
#[derive(Clone, Debug)]
pub struct JsonColumnPath {
    /// The column's name.
    pub column: String,
    /// The path's parameter, as the statement names it.
    pub path: String,
}

/// The syntax in which databases differ. Each result is a condition that is true, false or unknown; `with`
/// and its like are parameters as the statement names them.
pub trait SqlDialect {
    /// Returns the parameter of this number, counted from 1.
    fn parameter(&self, number: usize, parameter: &SqlParameter) -> String;

    /// Returns the path of these keys, as JSON functions take it.
    fn path(&self, keys: &[String]) -> String;

    /// There is a value, and it is not null.
    fn exists(&self, at: &JsonColumnPath) -> String;

    /// It is text, and in this relation to another, byte by byte; or `IN` a list of texts.
    fn text(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String;

    /// It is a number, and in this relation to another; or `IN` a list of numbers.
    fn number(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String;

    /// It is this truth value.
    fn boolean(&self, at: &JsonColumnPath, wanted: bool) -> String;

    /// It is text that contains another.
    fn contains(&self, at: &JsonColumnPath, part: &str) -> String;

    /// It is text that begins with another.
    fn starts_with(&self, at: &JsonColumnPath, part: &str) -> String;

    /// It is text that ends with another.
    fn ends_with(&self, at: &JsonColumnPath, part: &str) -> String;

    /// It is a list with an element that equals this value.
    fn has_element(&self, at: &JsonColumnPath, element: &RuleLiteral, with: &str) -> String;

    /// It is text that is a time, and the time in this relation to one written as `YYYY-MM-DDTHH:MM:SS`.
    fn time(&self, at: &JsonColumnPath, sign: &str, with: &str) -> String;
}

/// Compiles a rule into a query for the numbers of the profiles that it selects at this time, in the site of
/// this database number. Where only some profiles are evaluated, and members are people, only these are read.
pub fn compile(evaluation: &RuleEvaluation, site: i64, dialect: &dyn SqlDialect) -> SqlStatement {
    let RuleEvaluation { rule, unit, now_ms, only } = evaluation;
    let (now_ms, of) = (*now_ms, only.as_deref());
    let mut compiler =
        RuleCompiler { dialect, now_ms, parameters: Vec::new(), site: String::new(), actors: "" };
    compiler.site = compiler.bind(SqlParameter::Integer(site));
    if *unit == MembershipUnit::User && of.is_some() {
        compiler.actors = " AND a.profile IN (SELECT id FROM these)";
    }
    let condition = compiler.rule(rule);
    let (site, these) = (&compiler.site, of.map(these).unwrap_or_default());
    let of = |column: &str| match of {
        Some(_) => format!(" AND {column} IN (SELECT id FROM these)"),
        None => String::new(),
    };
    let text = match unit {
        MembershipUnit::User => {
            let of = of("p.id");
            format!("{these}SELECT p.id FROM profiles p WHERE p.site = {site}{of} AND {condition}")
        }
        MembershipUnit::Group => format!(
            "{these}SELECT g.id FROM profiles g WHERE g.site = {site}{} AND g.group_id IN (\
             SELECT p.group_id FROM profiles p \
             WHERE p.site = {site} AND p.group_id IS NOT NULL AND {condition})",
            of("g.id")
        ),
    };
    SqlStatement { text, parameters: compiler.parameters }
}

/// Returns a table of these profiles' numbers, defined once for all its uses. Numbers need no parameters.
fn these(profiles: &[ProfileId]) -> String {
    let numbers: Vec<String> = profiles.iter().map(|profile| format!("({})", profile.0)).collect();
    format!("WITH these (id) AS (VALUES {}) ", numbers.join(", "))
}

struct RuleCompiler<'d> {
    dialect: &'d dyn SqlDialect,
    now_ms: i64,
    parameters: Vec<SqlParameter>,
    /// The parameter with the site's number.
    site: String,
    /// A condition that limits the events to those of some profiles.
    actors: &'static str,
}

impl RuleCompiler<'_> {
    fn bind(&mut self, parameter: SqlParameter) -> String {
        let written = self.dialect.parameter(self.parameters.len() + 1, &parameter);
        self.parameters.push(parameter);
        written
    }

    fn rule(&mut self, rule: &SegmentRule) -> String {
        match rule {
            SegmentRule::All(rules) => self.joined(rules, " AND ", "1 = 1"),
            SegmentRule::Any(rules) => self.joined(rules, " OR ", "1 = 0"),
            SegmentRule::Not(rule) => format!("NOT {}", self.rule(rule)),
            SegmentRule::Known { place, path, tests } => self.known(*place, path, tests),
            SegmentRule::Identity { kind, exists } => {
                let kind = self.bind(SqlParameter::Text(kind.clone()));
                let not = if *exists { "" } else { "NOT " };
                format!(
                    "({not}EXISTS (SELECT 1 FROM identities i \
                     WHERE i.profile = p.id AND i.kind = {kind}))"
                )
            }
            SegmentRule::Seen { first, when } => {
                let column = if *first { "p.first_seen" } else { "p.last_seen" };
                let bounds = self.span(column, *when);
                format!("({column} IS NOT NULL{bounds})")
            }
            SegmentRule::Event(event) => self.event(event),
        }
    }

    fn joined(&mut self, rules: &[SegmentRule], with: &str, of_none: &str) -> String {
        let rules: Vec<String> = rules.iter().map(|rule| self.rule(rule)).collect();
        if rules.is_empty() { format!("({of_none})") } else { format!("({})", rules.join(with)) }
    }

    /// Returns ` AND` with the conditions on a time.
    fn span(&mut self, time: &str, span: RuleTimeSpan) -> String {
        let now = self.now_ms;
        let mut bound = |moment: Option<RuleMoment>, sign: &str| match moment {
            Some(moment) => {
                let with = self.bind(SqlParameter::Integer(moment.milliseconds(now)));
                format!(" AND {time} {sign} {with}")
            }
            None => String::new(),
        };
        bound(span.after, ">=") + &bound(span.before, "<")
    }

    fn known(&mut self, place: ProfilePart, path: &[String], tests: &[RuleValueTest]) -> String {
        let column = match place {
            ProfilePart::Traits => "p.traits",
            ProfilePart::Consent => "p.consent",
            ProfilePart::Device => "p.device",
            ProfilePart::Place => "p.place",
            ProfilePart::Touches => "p.touches",
        };
        let path = self.bind(SqlParameter::Text(self.dialect.path(path)));
        let at = JsonColumnPath { column: column.to_owned(), path };
        let tests: Vec<String> =
            tests.iter().map(|test| format!("({}) IS TRUE", self.test(&at, test))).collect();
        format!("({})", tests.join(" AND "))
    }

    /// Returns a condition that may be unknown if there is no value.
    fn test(&mut self, at: &JsonColumnPath, test: &RuleValueTest) -> String {
        match test {
            RuleValueTest::Exists(true) => self.dialect.exists(at),
            // Unknown is the result that this test must find.
            RuleValueTest::Exists(false) => format!("({}) IS NOT TRUE", self.dialect.exists(at)),
            RuleValueTest::Compare(ComparisonOperator::Unequal, literal) => {
                let equal = self.compare(at, ComparisonOperator::Equal, literal);
                format!("{} AND ({equal}) IS NOT TRUE", self.dialect.exists(at))
            }
            RuleValueTest::Compare(comparison, literal) => self.compare(at, *comparison, literal),
            RuleValueTest::In(literals) => self.one_of(at, literals),
            RuleValueTest::Contains(literal) => {
                let with = self.literal(literal);
                let element = self.dialect.has_element(at, literal, &with);
                match literal {
                    RuleLiteral::Text(_) => {
                        format!("({element} OR {})", self.dialect.contains(at, &with))
                    }
                    _ => element,
                }
            }
            RuleValueTest::StartsWith(part) => {
                let part = self.bind(SqlParameter::Text(part.clone()));
                self.dialect.starts_with(at, &part)
            }
            RuleValueTest::EndsWith(part) => {
                let part = self.bind(SqlParameter::Text(part.clone()));
                self.dialect.ends_with(at, &part)
            }
            RuleValueTest::Before(moment) => self.time(at, "<", *moment),
            RuleValueTest::After(moment) => self.time(at, ">=", *moment),
        }
    }

    /// Reads the value once for each type, however many literals there are.
    fn one_of(&mut self, at: &JsonColumnPath, literals: &[RuleLiteral]) -> String {
        let (mut texts, mut numbers, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for literal in literals {
            let with = self.literal(literal);
            match literal {
                RuleLiteral::Text(_) => texts.push(with),
                RuleLiteral::Integer(_) | RuleLiteral::Real(_) => numbers.push(with),
                RuleLiteral::Boolean(wanted) => each.push(self.dialect.boolean(at, *wanted)),
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

    fn literal(&mut self, literal: &RuleLiteral) -> String {
        let parameter = match literal {
            RuleLiteral::Text(text) => SqlParameter::Text(text.clone()),
            RuleLiteral::Integer(number) => SqlParameter::Integer(*number),
            RuleLiteral::Real(number) => SqlParameter::Real(*number),
            // Not used: the database has its own words for them.
            RuleLiteral::Boolean(_) => return String::new(),
        };
        self.bind(parameter)
    }

    fn compare(
        &mut self,
        at: &JsonColumnPath,
        comparison: ComparisonOperator,
        literal: &RuleLiteral,
    ) -> String {
        let with = self.literal(literal);
        match literal {
            RuleLiteral::Text(_) => self.dialect.text(at, comparison.sign(), &with),
            RuleLiteral::Integer(_) | RuleLiteral::Real(_) => {
                self.dialect.number(at, comparison.sign(), &with)
            }
            RuleLiteral::Boolean(wanted) => self.dialect.boolean(at, *wanted),
        }
    }

    fn time(&mut self, at: &JsonColumnPath, sign: &str, moment: RuleMoment) -> String {
        let seconds = moment.milliseconds(self.now_ms).div_euclid(1000);
        let text = self.bind(SqlParameter::Text(time_text(seconds)));
        let from = self.bind(SqlParameter::Integer(MILLISECONDS_FROM));
        let milliseconds = self.bind(SqlParameter::Integer(seconds.saturating_mul(1000)));
        let seconds = self.bind(SqlParameter::Integer(seconds));
        let dialect = self.dialect;
        let (small, large) = (dialect.number(at, "<", &from), dialect.number(at, ">=", &from));
        let of_seconds = dialect.number(at, sign, &seconds);
        let of_milliseconds = dialect.number(at, sign, &milliseconds);
        let of_text = dialect.time(at, sign, &text);
        format!("(({of_text}) OR ({small} AND {of_seconds}) OR ({large} AND {of_milliseconds}))")
    }

    /// Looks people up in the set of those with such an event: that is read from one range of the events' index,
    /// however many people there are.
    fn event(&mut self, event: &EventCondition) -> String {
        let name = self.bind(SqlParameter::Text(event.key()));
        let (day, since) = event.window(self.now_ms);
        let mut rows = format!(
            "SELECT a.profile FROM activity a \
             WHERE a.event = (SELECT id FROM event_names WHERE site = {} AND name = {name})",
            self.site
        );
        rows.push_str(self.actors);
        if day != i64::MIN {
            let day = self.bind(SqlParameter::Integer(day));
            rows += &format!(" AND a.day >= {day}");
        }
        if since != i64::MIN {
            let since = self.bind(SqlParameter::Integer(since));
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
            let with = self.bind(SqlParameter::Real(amount.number));
            having += &format!(" AND sum({column}) {} {with}", amount.comparison.sign());
        }
        having += &self.span("min(a.first)", event.first);
        having += &self.span("max(a.last)", event.last);
        // People without such an event are in no row: they are found as those who are not among the others.
        if event.holds_of_none() {
            format!("p.id NOT IN ({rows} GROUP BY a.profile HAVING NOT ({having}))")
        } else {
            format!("p.id IN ({rows} GROUP BY a.profile HAVING {having})")
        }
    }
}

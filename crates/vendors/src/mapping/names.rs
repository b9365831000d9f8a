//! The names in a template: filters, tests and functions of the engine, and the values that it looks up.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{ast, parse, parse_expr};
use minijinja::{Environment, Error, ErrorKind};

use tagway_settings::nearest;

/// The first names of lookups: the parts of an event, and the profile.
pub(super) const ROOTS: [&str; 19] = [
    "properties",
    "traits",
    "context",
    "facts",
    "profile",
    "event",
    "type",
    "name",
    "category",
    "userId",
    "anonymousId",
    "groupId",
    "previousId",
    "messageId",
    "timestamp",
    "receivedAt",
    "originalTimestamp",
    "sentAt",
    "integrations",
];

/// The engine's filters and tests, for hints alone: the engine itself decides if a name exists.
const FILTERS: [&str; 47] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
    "zip",
];
const TESTS: [&str; 34] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "safe",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

/// Filters with an argument that names another filter or a test, and the argument's position.
const BY_FILTER: [(&str, usize); 1] = [("map", 0)];
const BY_TEST: [(&str, usize); 4] =
    [("select", 0), ("reject", 0), ("selectattr", 1), ("rejectattr", 1)];

/// The path of a lookup: its names from the outermost, without places in lists.
pub(super) type LookupPath = Vec<String>;

/// The names that one template uses.
#[derive(Debug, Default)]
pub(super) struct TemplateNames {
    /// The values that it looks up in an event or a profile.
    pub(super) lookups: BTreeSet<LookupPath>,
    filters: BTreeSet<String>,
    tests: BTreeSet<String>,
    functions: BTreeSet<String>,
    methods: BTreeSet<String>,
    /// Its own variables, each with its value where that is a lookup.
    variables: BTreeMap<String, Option<LookupPath>>,
}

impl TemplateNames {
    /// Collects the names of an expression.
    pub(super) fn of_expression(text: &str) -> Result<Self, Error> {
        let mut names = Self::default();
        names.expression(&parse_expr(text)?);
        Ok(names)
    }

    /// Collects the names of a template.
    pub(super) fn of_template(text: &str) -> Result<Self, Error> {
        let mut names = Self::default();
        names.statement(&parse(text, "", minijinja::syntax::SyntaxConfig::default())?);
        Ok(names)
    }

    /// Returns messages about the names that neither the engine nor an event has.
    pub(super) fn unknown_names(&self, environment: &Environment<'_>) -> Vec<String> {
        let mut state = environment.empty_state();
        let mut mistakes = Vec::new();
        for filter in &self.filters {
            let known = state.apply_filter(filter, &[]);
            if known.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
                mistakes.push(unknown("filter", filter, &FILTERS));
            }
        }
        for test in &self.tests {
            let known = state.perform_test(test, &[]);
            if known.is_err_and(|error| error.kind() == ErrorKind::UnknownTest) {
                mistakes.push(unknown("test", test, &TESTS));
            }
        }
        let globals: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
        for function in self.functions.iter().filter(|name| !globals.contains(&name.as_str())) {
            mistakes.push(unknown("function", function, &globals));
        }
        for method in &self.methods {
            let hint = nearest(method, FILTERS);
            let hint = hint.map(|name| format!("; write the filter: | {name}")).unwrap_or_default();
            mistakes.push(format!("values have no methods such as \".{method}()\"{hint}"));
        }
        let roots: BTreeSet<&str> =
            self.lookups.iter().filter_map(|lookup| lookup.first()).map(String::as_str).collect();
        for root in
            roots.into_iter().filter(|root| !ROOTS.contains(root) && !globals.contains(root))
        {
            let list = ROOTS.join(", ");
            mistakes.push(format!("{}; valid names: {list}", unknown("value", root, &ROOTS)));
        }
        mistakes
    }

    /// Returns the lookup that an expression is, with variables replaced by the lookups they stand for.
    fn lookup(&self, expr: &ast::Expr<'_>) -> Option<LookupPath> {
        match expr {
            ast::Expr::Var(var) => match self.variables.get(var.id) {
                Some(stands_for) => stands_for.clone(),
                None if var.id == "loop" => None,
                None => Some(vec![var.id.to_owned()]),
            },
            ast::Expr::GetAttr(it) => {
                let mut lookup = self.lookup(&it.expr)?;
                lookup.push(it.name.to_owned());
                Some(lookup)
            }
            ast::Expr::GetItem(it) => {
                let mut lookup = self.lookup(&it.expr)?;
                match &it.subscript_expr {
                    ast::Expr::Const(constant) => {
                        lookup.extend(constant.value.as_str().map(str::to_owned));
                        Some(lookup)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Does the same for an expression that leaves elements of a list, or a value, as they are.
    fn resolve_lookup(&self, expr: &ast::Expr<'_>) -> Option<LookupPath> {
        const SAME: [&str; 11] = [
            "d",
            "default",
            "first",
            "last",
            "list",
            "reject",
            "rejectattr",
            "reverse",
            "select",
            "selectattr",
            "sort",
        ];
        match expr {
            ast::Expr::Filter(it) if SAME.contains(&it.name) => {
                it.expr.as_ref().and_then(|inner| self.resolve_lookup(inner))
            }
            ast::Expr::Slice(it) => self.resolve_lookup(&it.expr),
            other => self.lookup(other),
        }
    }

    fn assign(&mut self, target: &ast::Expr<'_>, value: Option<LookupPath>) {
        match target {
            ast::Expr::Var(var) => {
                self.variables.insert(var.id.to_owned(), value);
            }
            ast::Expr::List(list) => list.items.iter().for_each(|item| self.assign(item, None)),
            ast::Expr::Tuple(list) => list.items.iter().for_each(|item| self.assign(item, None)),
            _ => {}
        }
    }

    fn expression(&mut self, expr: &ast::Expr<'_>) {
        use ast::Expr;
        if let Some(lookup) = self.lookup(expr) {
            self.lookups.insert(lookup);
            return;
        }
        match expr {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(it) => {
                self.expression(&it.expr);
                let bounds = it.start.iter().chain(&it.stop).chain(&it.step);
                bounds.for_each(|bound| self.expression(bound));
            }
            Expr::UnaryOp(it) => self.expression(&it.expr),
            Expr::BinOp(it) => {
                self.expression(&it.left);
                self.expression(&it.right);
            }
            Expr::Compare(it) => {
                self.expression(&it.expr);
                it.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(it) => {
                let parts = [&it.test_expr, &it.true_expr].into_iter().chain(&it.false_expr);
                parts.for_each(|part| self.expression(part));
            }
            Expr::Filter(it) => self.filter(it),
            Expr::Test(it) => {
                self.tests.insert(it.name.to_owned());
                self.expression(&it.expr);
                self.arguments(&it.args);
            }
            Expr::GetAttr(it) => self.expression(&it.expr),
            Expr::GetItem(it) => {
                self.expression(&it.expr);
                self.expression(&it.subscript_expr);
            }
            Expr::Call(it) => self.call(it),
            Expr::List(it) => it.items.iter().for_each(|item| self.expression(item)),
            Expr::Tuple(it) => it.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(it) => {
                it.keys.iter().chain(&it.values).for_each(|part| self.expression(part));
            }
        }
    }

    fn filter(&mut self, filter: &ast::Filter<'_>) {
        self.filters.insert(filter.name.to_owned());
        filter.expr.iter().for_each(|expr| self.expression(expr));
        let named = |places: &[(&str, usize)]| {
            let (_, place) = places.iter().find(|(name, _)| *name == filter.name)?;
            match filter.args.get(*place)? {
                ast::CallArg::Pos(ast::Expr::Const(name)) => name.value.as_str().map(str::to_owned),
                _ => None,
            }
        };
        self.filters.extend(named(&BY_FILTER));
        self.tests.extend(named(&BY_TEST));
        let list = filter.expr.as_ref().and_then(|expr| self.resolve_lookup(expr));
        if let (Some(mut list), Some(name)) = (list, attribute(filter)) {
            list.extend(name.split('.').map(str::to_owned));
            self.lookups.insert(list);
        }
        self.arguments(&filter.args);
    }

    fn call(&mut self, call: &ast::Call<'_>) {
        match &call.expr {
            ast::Expr::Var(var) if var.id != "loop" && !self.variables.contains_key(var.id) => {
                self.functions.insert(var.id.to_owned());
            }
            ast::Expr::Var(_) => {}
            ast::Expr::GetAttr(it) => {
                let is_of_loop = matches!(&it.expr, ast::Expr::Var(var) if var.id == "loop");
                if !is_of_loop {
                    self.methods.insert(it.name.to_owned());
                    self.expression(&it.expr);
                }
            }
            other => self.expression(other),
        }
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'_>]) {
        use ast::CallArg::{Kwarg, KwargSplat, Pos, PosSplat};
        for argument in arguments {
            let (Pos(expr) | Kwarg(_, expr) | PosSplat(expr) | KwargSplat(expr)) = argument;
            self.expression(expr);
        }
    }

    fn statements(&mut self, statements: &[ast::Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &ast::Stmt<'_>) {
        use ast::Stmt;
        match statement {
            Stmt::Template(it) => self.statements(&it.children),
            Stmt::EmitExpr(it) => self.expression(&it.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(it) => {
                self.expression(&it.iter);
                self.assign(&it.target, self.resolve_lookup(&it.iter));
                it.filter_expr.iter().for_each(|filter| self.expression(filter));
                self.statements(&it.body);
                self.statements(&it.else_body);
            }
            Stmt::IfCond(it) => {
                self.expression(&it.expr);
                self.statements(&it.true_body);
                self.statements(&it.false_body);
            }
            Stmt::WithBlock(it) => {
                for (target, value) in &it.assignments {
                    self.expression(value);
                    self.assign(target, self.resolve_lookup(value));
                }
                self.statements(&it.body);
            }
            Stmt::Set(it) => {
                self.expression(&it.expr);
                self.assign(&it.target, self.resolve_lookup(&it.expr));
            }
            Stmt::SetBlock(it) => {
                it.filter.iter().for_each(|filter| self.expression(filter));
                self.statements(&it.body);
                self.assign(&it.target, None);
            }
            Stmt::AutoEscape(it) => self.statements(&it.body),
            Stmt::FilterBlock(it) => {
                self.expression(&it.filter);
                self.statements(&it.body);
            }
            Stmt::Do(it) => self.call(&it.call),
        }
    }
}

/// Returns the name that a filter uses within the elements of a list: `map(attribute='price')`,
/// `selectattr('price', ..)`, `groupby('sku')`.
fn attribute<'f>(filter: &'f ast::Filter<'_>) -> Option<&'f str> {
    let text = |expr: &'f ast::Expr<'_>| match expr {
        ast::Expr::Const(constant) => constant.value.as_str(),
        _ => None,
    };
    let is_first = matches!(filter.name, "selectattr" | "rejectattr" | "groupby");
    filter.args.iter().enumerate().find_map(|(place, argument)| match argument {
        ast::CallArg::Kwarg("attribute", expr) => text(expr),
        ast::CallArg::Pos(expr) if is_first && place == 0 => text(expr),
        _ => None,
    })
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = nearest(name, known.iter().copied());
    let hint = hint.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
    format!("there is no {what} {}{hint}", tagway_settings::shown(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookups(text: &str) -> Vec<String> {
        let names = TemplateNames::of_template(text).unwrap();
        names.lookups.iter().map(|lookup| lookup.join(".")).collect()
    }

    #[test]
    fn lookups_follow_variables_loops_and_filters() {
        for (text, expected) in [
            ("{{ properties.price * 2 }}", vec!["properties.price"]),
            ("{{ properties['unit price'].x }}", vec!["properties.unit price.x"]),
            ("{{ properties.products[0].sku }}", vec!["properties.products.sku"]),
            (
                "{% for p in properties.products %}{{ p.sku ~ loop.index }}{% endfor %}",
                vec!["properties.products", "properties.products.sku"],
            ),
            ("{% set x = traits %}{{ x.plan }}", vec!["traits", "traits.plan"]),
            (
                "{{ properties.products | map(attribute='price') | sum }}",
                vec!["properties.products", "properties.products.price"],
            ),
        ] {
            assert_eq!(lookups(text), expected, "{text}");
        }
    }

    #[test]
    fn unknown_names_accepts_every_filter_and_test_of_the_hints() {
        let environment = Environment::new();
        let names = TemplateNames {
            filters: FILTERS.map(str::to_owned).into(),
            tests: TESTS.map(str::to_owned).into(),
            ..TemplateNames::default()
        };
        assert_eq!(names.unknown_names(&environment), [""; 0]);
    }

    #[test]
    fn roots_contain_every_member_of_an_event() {
        let event = crate::test_support::event(serde_json::json!({
            "event": "e", "name": "n", "category": "c", "userId": "u", "anonymousId": "a",
            "groupId": "g", "previousId": "p", "properties": {}, "traits": {}, "context": {},
            "integrations": {}, "sentAt": "2026-11-23T10:00:00Z",
            "originalTimestamp": "2026-11-23T10:00:00Z",
        }));
        let event = serde_json::to_value(&*event.event).unwrap();
        let unknown = event.as_object().unwrap().keys().find(|key| !ROOTS.contains(&key.as_str()));
        assert_eq!(unknown, None);
    }
}

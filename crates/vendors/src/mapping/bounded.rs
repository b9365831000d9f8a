//! Templates in which every value costs fuel before it is made.
//!
//! The engine charges fuel for texts and lists that it makes, but it makes some values lazily: a list
//! times a number, a list added to itself, a list within a list. A reader of such a value materialises
//! it. So each place of a template that makes or takes a value is passed through a filter, [`bounded`],
//! which walks the value, charges fuel for each part of it, and stops when no fuel is left. A value that
//! passes is as large as it looks, and no longer lazy.
//!
//! The filter is inserted into the text of the template, at the positions that the engine's parser reports.

use minijinja::machinery::{ast, parse, parse_expr};
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The filter's name in a template's text.
pub(super) const FILTER: &str = "bounded";

/// The bytes that one unit of fuel pays for, as in the engine.
const BYTES_PER_FUEL_UNIT: u64 = 64;

/// The price of a part of a value, in bytes: it is only read, and most parts exist already.
const PART_COST_BYTES: u64 = 8;

/// The price of an element of a new list, in bytes.
const ELEMENT_COST_BYTES: u64 = 24;

/// The most levels of a value: deeper JSON does not reach the journal, and readers of a value descend
/// through all of them.
const MAX_DEPTH: usize = 128;

/// Returns the text of a condition with the filter inserted.
pub(super) fn expression(text: &str) -> Result<String, Error> {
    let mut places = FilterInsertions::default();
    places.mark_read_whole(&parse_expr(text)?);
    Ok(places.put_into(text))
}

/// Returns the text of a template with the filter inserted.
pub(super) fn template(text: &str) -> Result<String, Error> {
    let mut places = FilterInsertions::default();
    places.statement(&parse(text, "", minijinja::syntax::SyntaxConfig::default())?);
    Ok(places.put_into(text))
}

/// The filter: returns the same value, if the fuel suffices for it.
pub(super) fn bounded(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.as_object().is_none() {
        // The engine has already charged for these values.
        return Ok(value);
    }
    let mut payer = FuelMeter { state, owed: 0 };
    if value.kind() != ValueKind::Iterable {
        payer.walk(&value, 0)?;
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        payer.charge(ELEMENT_COST_BYTES)?;
        payer.walk(&item, 1)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

/// Returns the size of a value as text, or `None` if it is beyond `most`. Stops at that bound.
pub(super) fn size_within(value: &Value, most: usize) -> Option<usize> {
    let mut left = most;
    take_size(value, &mut left, 0).then(|| most - left)
}

fn take_size(value: &Value, left: &mut usize, depth: usize) -> bool {
    let own = value.as_str().map_or(8, |text| text.len() + 2);
    let Some(rest) = left.checked_sub(own).filter(|_| depth <= MAX_DEPTH) else { return false };
    *left = rest;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()
            .is_ok_and(|mut items| items.all(|item| take_size(&item, left, depth + 1))),
        ValueKind::Map => value.try_iter().is_ok_and(|mut keys| {
            keys.all(|key| {
                take_size(&key, left, depth + 1)
                    && value.get_item(&key).is_ok_and(|it| take_size(&it, left, depth + 1))
            })
        }),
        _ => true,
    }
}

/// Charges the parts of a value to the evaluation's fuel.
struct FuelMeter<'s, 'a, 'b> {
    state: &'s State<'a, 'b>,
    owed: u64,
}

impl FuelMeter<'_, '_, '_> {
    fn charge(&mut self, bytes: u64) -> Result<(), Error> {
        self.owed = self.owed.saturating_add(bytes);
        let steps = self.owed / BYTES_PER_FUEL_UNIT;
        if steps > 0 {
            self.owed %= BYTES_PER_FUEL_UNIT;
            self.state.consume_fuel(steps)?;
        }
        Ok(())
    }

    fn walk(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::OutOfFuel, "the value has too many levels"));
        }
        let text = value.as_str().map_or(0, str::len);
        self.charge(PART_COST_BYTES.saturating_add(u64::try_from(text).unwrap_or(u64::MAX)))?;
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.walk(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.walk(&key, depth + 1)?;
                    self.walk(&value.get_item(&key)?, depth + 1)?;
                }
            }
            ValueKind::Invalid => {
                return Err(Error::new(ErrorKind::InvalidOperation, "a value is not valid"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The positions in a text where values are made or taken: beginnings and ends.
#[derive(Default)]
struct FilterInsertions {
    begin: Vec<usize>,
    end: Vec<usize>,
}

impl FilterInsertions {
    /// Returns the text with the filter inserted at these positions.
    fn put_into(mut self, text: &str) -> String {
        self.begin.sort_unstable();
        self.end.sort_unstable();
        let (mut begins, mut ends) = (self.begin.iter().peekable(), self.end.iter().peekable());
        let mut out = String::with_capacity(text.len() + self.end.len() * (FILTER.len() + 5));
        for (at, character) in
            text.char_indices().map(|(at, it)| (at, Some(it))).chain([(text.len(), None)])
        {
            while ends.next_if(|end| **end <= at).is_some() {
                // In brackets: the text that follows may not stand behind a filter.
                out.push_str(")|");
                out.push_str(FILTER);
                out.push(')');
            }
            while begins.next_if(|begin| **begin <= at).is_some() {
                out.push_str("((");
            }
            out.extend(character);
        }
        out
    }

    fn mark(&mut self, expr: &ast::Expr<'_>) {
        self.begin.push(begin(expr));
        self.end.push(end(expr));
    }

    /// Marks a value that another expression reads whole.
    fn mark_read_whole(&mut self, expr: &ast::Expr<'_>) {
        if matches!(expr, ast::Expr::Var(_) | ast::Expr::GetAttr(_) | ast::Expr::GetItem(_)) {
            self.mark(expr);
        }
        self.expression(expr);
    }

    fn expression(&mut self, expr: &ast::Expr<'_>) {
        use ast::BinOpKind::{Add, Mul, ScAnd, ScOr};
        use ast::Expr;
        match expr {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::UnaryOp(it) => self.expression(&it.expr),
            Expr::BinOp(it) => {
                if matches!(it.op, Add | Mul) {
                    self.mark(expr);
                }
                for operand in [&it.left, &it.right] {
                    match it.op {
                        ScAnd | ScOr => self.expression(operand),
                        _ => self.mark_read_whole(operand),
                    }
                }
            }
            Expr::Compare(it) => {
                self.mark_read_whole(&it.expr);
                it.ops.iter().for_each(|op| self.mark_read_whole(&op.expr));
            }
            Expr::IfExpr(it) => {
                let parts = [&it.test_expr, &it.true_expr].into_iter().chain(&it.false_expr);
                parts.for_each(|part| self.expression(part));
            }
            Expr::Test(it) => {
                self.expression(&it.expr);
                self.arguments(&it.args);
            }
            Expr::GetAttr(it) => self.expression(&it.expr),
            Expr::GetItem(it) => {
                self.expression(&it.expr);
                self.expression(&it.subscript_expr);
            }
            _ => self.mark_created_value(expr),
        }
    }

    /// Marks an expression that makes a value.
    fn mark_created_value(&mut self, expr: &ast::Expr<'_>) {
        use ast::Expr;
        match expr {
            Expr::Slice(it) => {
                let bounds = it.start.iter().chain(&it.stop).chain(&it.step);
                bounds.for_each(|bound| self.expression(bound));
                self.mark_read_whole(&it.expr);
            }
            Expr::Filter(it) => {
                it.expr.iter().for_each(|expr| self.mark_read_whole(expr));
                self.arguments(&it.args);
            }
            Expr::Call(it) => self.call(it),
            Expr::List(it) => it.items.iter().for_each(|item| self.expression(item)),
            Expr::Tuple(it) if it.items.is_empty() => return,
            Expr::Tuple(it) => it.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(it) => {
                it.keys.iter().chain(&it.values).for_each(|part| self.expression(part));
            }
            _ => return,
        }
        self.mark(expr);
    }

    fn call(&mut self, call: &ast::Call<'_>) {
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'_>]) {
        use ast::CallArg::{Kwarg, KwargSplat, Pos, PosSplat};
        for argument in arguments {
            let (Pos(expr) | Kwarg(_, expr) | PosSplat(expr) | KwargSplat(expr)) = argument;
            self.mark_read_whole(expr);
        }
    }

    /// Visits a filter over a block, whose text is already whole.
    fn block_filter(&mut self, filter: &ast::Expr<'_>) {
        if let ast::Expr::Filter(it) = filter {
            it.expr.iter().for_each(|inner| self.block_filter(inner));
            self.arguments(&it.args);
        }
    }

    fn statements(&mut self, statements: &[ast::Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &ast::Stmt<'_>) {
        use ast::Stmt;
        match statement {
            Stmt::Template(it) => self.statements(&it.children),
            Stmt::EmitExpr(it) => self.mark_read_whole(&it.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(it) => {
                self.mark_read_whole(&it.iter);
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
                it.assignments.iter().for_each(|(_, value)| self.expression(value));
                self.statements(&it.body);
            }
            Stmt::Set(it) => self.expression(&it.expr),
            Stmt::SetBlock(it) => {
                it.filter.iter().for_each(|filter| self.block_filter(filter));
                self.statements(&it.body);
            }
            Stmt::AutoEscape(it) => self.statements(&it.body),
            Stmt::FilterBlock(it) => {
                self.block_filter(&it.filter);
                self.statements(&it.body);
            }
            Stmt::Do(it) => self.call(&it.call),
        }
    }
}

/// Returns the beginning of an expression: that of its leftmost part. A bracket before it may be its own;
/// an insertion between the two stands within it as well as before it.
fn begin(expr: &ast::Expr<'_>) -> usize {
    use ast::Expr;
    match expr {
        Expr::Filter(it) => it.expr.as_ref().map_or_else(|| own(expr).0, begin),
        Expr::Test(it) => begin(&it.expr),
        Expr::GetAttr(it) => begin(&it.expr),
        Expr::GetItem(it) => begin(&it.expr),
        Expr::Slice(it) => begin(&it.expr),
        Expr::Call(it) => begin(&it.expr),
        Expr::BinOp(it) => begin(&it.left),
        Expr::Compare(it) => begin(&it.expr),
        Expr::IfExpr(it) => begin(&it.true_expr),
        Expr::Tuple(it) => it.items.first().map_or_else(|| own(expr).0, begin),
        Expr::Var(_) | Expr::Const(_) | Expr::UnaryOp(_) | Expr::List(_) | Expr::Map(_) => {
            own(expr).0
        }
    }
}

fn end(expr: &ast::Expr<'_>) -> usize {
    own(expr).1
}

fn own(expr: &ast::Expr<'_>) -> (usize, usize) {
    let span = expr.span();
    let offset = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    (offset(span.start_offset), offset(span.end_offset))
}

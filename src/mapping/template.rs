//! Conditions and values that are worked out from an event, in the language of Jinja (minijinja).
//!
//! What they see: `event`, `type`, `name`, `category`, the ids, `properties`, `traits` (the person's,
//! wherever they are said), `context`, `facts`, `timestamp` and `messageId`; and in `profile` what is
//! known of the person. What is not there is undefined, which is false, and prints as nothing.
//!
//! Events are strangers' words, so an evaluation is bounded before it makes anything: its steps, each of
//! which pays for 64 bytes besides ([`bounded()`]), and the size of its value.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value;

use super::bounded::{self, bounded};
use super::names::{LookupPath, TemplateNames};
use super::template_context;

/// The name under which a template leaves the value of its expression.
const RESULT: &str = "result";

/// The messages of a template's mistakes.
pub(super) type TemplateProblems = Vec<String>;

/// The compiled templates of one mapping. Handles name them.
#[derive(Debug)]
pub(super) struct CompiledTemplates {
    environment: Environment<'static>,
    count: usize,
    max_bytes: usize,
}

/// A template or an expression among the compiled ones.
#[derive(Clone, Debug)]
pub(super) struct TemplateHandle {
    name: Arc<str>,
    is_expression: bool,
}

impl CompiledTemplates {
    /// No templates; an evaluation takes so many steps at most, and its value so many bytes.
    pub(super) fn new(steps: u64, max_bytes: usize) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(steps));
        environment.add_filter(bounded::FILTER, bounded);
        environment.set_formatter(|out, state, value| {
            check_number(value)?;
            minijinja::escape_formatter(out, state, value)
        });
        Self { environment, count: 0, max_bytes }
    }

    /// Compiles a condition, or the messages of its mistakes. Returns with it what it looks up.
    pub(super) fn expression(
        &mut self,
        text: &str,
    ) -> Result<(TemplateHandle, BTreeSet<LookupPath>), TemplateProblems> {
        // Alone first: within a template it could end the tag and begin another.
        let bounded = bounded::expression(text).map_err(|error| vec![message(&error)])?;
        let names = TemplateNames::of_expression(text).map_err(|error| vec![message(&error)])?;
        self.add(format!("{{% set {RESULT} = ({bounded}) %}}"), true, names)
    }

    /// Compiles a text with `{{ }}` in it, or the messages of its mistakes. A text that is nothing but
    /// one `{{ }}` keeps the type of its value.
    pub(super) fn template(
        &mut self,
        text: &str,
    ) -> Result<(TemplateHandle, BTreeSet<LookupPath>), TemplateProblems> {
        let inner = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
        match inner.filter(|inner| !inner.contains("{{") && !inner.contains("}}")) {
            Some(inner) => self.expression(inner.trim()),
            None => {
                let bounded = bounded::template(text).map_err(|error| vec![message(&error)])?;
                let names =
                    TemplateNames::of_template(text).map_err(|error| vec![message(&error)])?;
                self.add(bounded, false, names)
            }
        }
    }

    /// What the templates look at, with what they look at within it where they name that.
    pub(super) fn names(&self) -> HashSet<String> {
        let templates = self.environment.templates();
        templates.flat_map(|(_, template)| template.undeclared_variables(true)).collect()
    }

    /// The names of events of which the templates look at counts.
    pub(super) fn counted(&self) -> BTreeSet<String> {
        self.environment
            .templates()
            .flat_map(|(_, template)| template_context::counted(template.source()))
            .collect()
    }

    fn add(
        &mut self,
        source: String,
        is_expression: bool,
        names: TemplateNames,
    ) -> Result<(TemplateHandle, BTreeSet<LookupPath>), TemplateProblems> {
        let unknown = names.unknown_names(&self.environment);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let name = format!("t{}", self.count);
        self.count += 1;
        self.environment
            .add_template_owned(name.clone(), source)
            .map_err(|error| vec![message(&error)])?;
        Ok((TemplateHandle { name: name.into(), is_expression }, names.lookups))
    }

    /// The value that the template has for this sight. `None` if it is undefined.
    pub(super) fn evaluate(
        &self,
        handle: &TemplateHandle,
        sight: &minijinja::Value,
    ) -> Result<Option<Value>, Error> {
        let template = self.environment.get_template(&handle.name)?;
        let mut text = CappedWriter { text: Vec::new(), left: self.max_bytes };
        let captured = template.render_captured_to(sight.clone(), &mut text)?;
        if !handle.is_expression {
            let text = String::from_utf8_lossy(&text.text).into_owned();
            return Ok(Some(Value::String(text)).filter(|text| text != ""));
        }
        let Some(value) = captured.state().lookup(RESULT) else { return Ok(None) };
        if matches!(value.kind(), ValueKind::Undefined | ValueKind::None) {
            return Ok(None);
        }
        check_number(&value)?;
        if bounded::size_within(&value, self.max_bytes).is_none() {
            return Err(Error::new(ErrorKind::WriteFailure, "the value is too large"));
        }
        Ok(serde_json::to_value(&value).ok())
    }

    /// Whether the condition holds.
    pub(super) fn holds(
        &self,
        handle: &TemplateHandle,
        sight: &minijinja::Value,
    ) -> Result<bool, Error> {
        let template = self.environment.get_template(&handle.name)?;
        let captured = template.render_captured(sight.clone())?;
        Ok(captured.state().lookup(RESULT).is_some_and(|value| value.is_true()))
    }
}

/// Refuses a number that JSON cannot hold, such as infinity.
fn check_number(value: &minijinja::Value) -> Result<(), Error> {
    let is_number = value.kind() == ValueKind::Number;
    let number = if is_number { f64::try_from(value.clone()).ok() } else { None };
    if number.is_some_and(|number| !number.is_finite()) {
        return Err(Error::new(ErrorKind::InvalidOperation, "the number is not finite"));
    }
    Ok(())
}

/// The mistake without the place in a template that the user never wrote.
fn message(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// Text up to a bound.
struct CappedWriter {
    text: Vec<u8>,
    left: usize,
}

impl io::Write for CappedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

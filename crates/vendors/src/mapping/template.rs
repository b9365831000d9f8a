//! Conditions and values evaluated from an event, in the language of Jinja (minijinja).
//!
//! Their variables: `event`, `type`, `name`, `category`, the ids, `properties`, `traits` (the person's,
//! wherever they stand), `context`, `facts`, `timestamp` and `messageId`; and in `profile` the data stored
//! about the person. A missing value is undefined, which is false, and prints as an empty text.
//!
//! Events are untrusted input, so an evaluation is bounded before it makes anything: its steps, each of
//! which also pays for 64 bytes ([`bounded()`]), and the size of its value.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value;

use super::bounded::{self, bounded};
use super::names::{LookupPath, TemplateNames};
use super::template_context;

/// The variable in which a template stores the value of its expression.
const RESULT: &str = "result";

/// The messages about a template's errors.
pub(super) type TemplateProblems = Vec<String>;

/// The compiled templates of one mapping, referred to by handles.
#[derive(Debug)]
pub(super) struct CompiledTemplates {
    environment: Environment<'static>,
    count: usize,
    max_bytes: usize,
}

/// The handle of a compiled template or expression.
#[derive(Clone, Debug)]
pub(super) struct TemplateHandle {
    name: Arc<str>,
    is_expression: bool,
}

impl CompiledTemplates {
    /// Builds an empty set with its bounds: the steps of an evaluation, and the bytes of its value.
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

    /// Compiles a condition, and returns its lookups with it; or returns the messages of its errors.
    pub(super) fn expression(
        &mut self,
        text: &str,
    ) -> Result<(TemplateHandle, BTreeSet<LookupPath>), TemplateProblems> {
        // Parsed alone first: within a template it could end the tag and begin another.
        let bounded = bounded::expression(text).map_err(|error| vec![message(&error)])?;
        let names = TemplateNames::of_expression(text).map_err(|error| vec![message(&error)])?;
        self.add(format!("{{% set {RESULT} = ({bounded}) %}}"), true, names)
    }

    /// Compiles a text with `{{ }}` in it, or returns the messages of its errors. A text that is only one
    /// `{{ }}` keeps the type of its value.
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

    /// Returns the variables that the templates use, with the members of these where they name some.
    pub(super) fn names(&self) -> HashSet<String> {
        let templates = self.environment.templates();
        templates.flat_map(|(_, template)| template.undeclared_variables(true)).collect()
    }

    /// Returns the names of events whose counts per person the templates use.
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

    /// Evaluates the template in this context. `None` if the value is undefined.
    pub(super) fn evaluate(
        &self,
        handle: &TemplateHandle,
        context: &minijinja::Value,
    ) -> Result<Option<Value>, Error> {
        let template = self.environment.get_template(&handle.name)?;
        let mut text = CappedWriter { text: Vec::new(), left: self.max_bytes };
        let captured = template.render_captured_to(context.clone(), &mut text)?;
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

    /// Returns true if the condition is met.
    pub(super) fn holds(
        &self,
        handle: &TemplateHandle,
        context: &minijinja::Value,
    ) -> Result<bool, Error> {
        let template = self.environment.get_template(&handle.name)?;
        let captured = template.render_captured(context.clone())?;
        Ok(captured.state().lookup(RESULT).is_some_and(|value| value.is_true()))
    }
}

/// Refuses a number that JSON cannot express, such as infinity.
fn check_number(value: &minijinja::Value) -> Result<(), Error> {
    let is_number = value.kind() == ValueKind::Number;
    let number = if is_number { f64::try_from(value.clone()).ok() } else { None };
    if number.is_some_and(|number| !number.is_finite()) {
        return Err(Error::new(ErrorKind::InvalidOperation, "the number is not finite"));
    }
    Ok(())
}

/// Returns the error's message without its position in a template that the user did not write.
fn message(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// A text writer with a maximum length.
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

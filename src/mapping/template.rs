//! Conditions and values that are worked out from an event, in the language of Jinja (minijinja).
//!
//! What they see: `event`, `type`, `name`, `category`, the ids, `properties`, `traits` (the person's,
//! wherever they are said), `context`, `facts`, `timestamp` and `messageId`; and in `profile` what is
//! known of the person. What is not there is undefined, which is false, and prints as nothing.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use minijinja::value::ValueKind;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

use super::sight;

/// Steps of one evaluation: a loop over a long list of products takes some thousands.
const FUEL: u64 = 50_000;

/// The longest text that a template may make: no vendor takes a longer one.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The name under which a template leaves the value of its expression.
const RESULT: &str = "result";

/// The compiled templates of one mapping. Handles name them.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    count: usize,
}

/// A template or an expression among the compiled ones.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    name: Arc<str>,
    is_expression: bool,
}

impl Templates {
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        Self { environment, count: 0 }
    }

    /// Compiles a condition, or the message of its mistake.
    pub(super) fn expression(&mut self, text: &str) -> Result<Handle, String> {
        // By itself first: within a template it could end the tag and begin another.
        self.environment.compile_expression(text).map_err(|error| message(&error))?;
        self.add(format!("{{% set {RESULT} = ({text}) %}}"), true)
    }

    /// Compiles a text with `{{ }}` in it, or the message of its mistake. A text that is nothing but
    /// one `{{ }}` keeps the type of its value.
    pub(super) fn template(&mut self, text: &str) -> Result<Handle, String> {
        let inner = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
        match inner.filter(|inner| !inner.contains("{{") && !inner.contains("}}")) {
            Some(inner) => self.expression(inner.trim()),
            None => self.add(text.to_owned(), false),
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
            .flat_map(|(_, template)| sight::counted(template.source()))
            .collect()
    }

    fn add(&mut self, source: String, is_expression: bool) -> Result<Handle, String> {
        let name = format!("t{}", self.count);
        self.count += 1;
        self.environment
            .add_template_owned(name.clone(), source)
            .map_err(|error| message(&error))?;
        Ok(Handle { name: name.into(), is_expression })
    }

    /// The value that the template has for this sight. `None` if it is undefined.
    pub(super) fn evaluate(
        &self,
        handle: &Handle,
        sight: &minijinja::Value,
    ) -> Result<Option<Value>, minijinja::Error> {
        let template = self.environment.get_template(&handle.name)?;
        let mut text = Capped(Vec::new());
        let captured = template.render_captured_to(sight.clone(), &mut text)?;
        if !handle.is_expression {
            let text = String::from_utf8_lossy(&text.0).into_owned();
            return Ok(Some(Value::String(text)).filter(|text| text != ""));
        }
        let Some(value) = captured.state().lookup(RESULT) else { return Ok(None) };
        if matches!(value.kind(), ValueKind::Undefined | ValueKind::None) {
            return Ok(None);
        }
        Ok(serde_json::to_value(&value).ok())
    }

    /// Whether the condition holds.
    pub(super) fn holds(
        &self,
        handle: &Handle,
        sight: &minijinja::Value,
    ) -> Result<bool, minijinja::Error> {
        let template = self.environment.get_template(&handle.name)?;
        let captured = template.render_captured(sight.clone())?;
        Ok(captured.state().lookup(RESULT).is_some_and(|value| value.is_true()))
    }
}

/// The mistake without the place in a template that the user never wrote.
fn message(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// Text up to a bound.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

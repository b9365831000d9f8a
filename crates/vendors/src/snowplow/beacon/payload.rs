//! One payload: short field names, and values that are strings.

use serde_json::{Number, Value};

use crate::beacon::BeaconLimits;
use crate::beacon_format::{self, FormFields};
use crate::products;
use tagway_core::event::JsonObject;

/// A payload, from which values are taken as needed.
pub(super) struct SnowplowPayload {
    fields: JsonObject,
    /// An event that was not sent as text.
    event: Option<Value>,
    /// The limits of JSON within its texts.
    bounds: BeaconLimits,
}

impl SnowplowPayload {
    /// Wraps a payload of an envelope.
    pub(super) fn of(fields: JsonObject, bounds: BeaconLimits) -> Self {
        Self { fields, event: None, bounds }
    }

    /// Reads the payload in a query.
    pub(super) fn of_query(query: &str, bounds: BeaconLimits) -> Self {
        let fields = FormFields::form(query);
        let fields = fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned().into()));
        Self { fields: fields.collect(), event: None, bounds }
    }

    /// Wraps a self-describing event.
    pub(super) fn of_event(event: Value, bounds: BeaconLimits) -> Self {
        let mut fields = JsonObject::new();
        fields.insert("e".to_owned(), "ue".into());
        Self { fields, event: Some(event), bounds }
    }

    /// Takes the event that was not sent as text.
    pub(super) fn event(&mut self) -> Option<Value> {
        self.event.take()
    }

    /// Takes a text that is not empty, or a number as text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.fields.get_mut(name)?.take() {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Returns a value as it was written.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// Reads a number, or a text that is one.
    pub(super) fn number(&self, name: &str) -> Option<Number> {
        products::number(self.fields.get(name)?)
    }

    /// Reads a pair of whole numbers: `1280x720`.
    pub(super) fn size(&self, name: &str) -> Option<(u32, u32)> {
        let (width, height) = self.fields.get(name)?.as_str()?.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    }

    /// Reads JSON: as text under the first name, or base64 under the second.
    pub(super) fn json(&self, plain: &str, encoded: &str) -> Option<Value> {
        let text = self.fields.get(plain).and_then(Value::as_str);
        text.and_then(|text| beacon_format::json(text.trim().as_bytes(), &self.bounds)).or_else(
            || {
                let encoded = self.fields.get(encoded).and_then(Value::as_str)?;
                beacon_format::json(beacon_format::base64(encoded)?.trim_ascii(), &self.bounds)
            },
        )
    }
}

//! Self-describing JSON: data, and the address of its schema.

use serde_json::Value;

use crate::event::JsonObject;

/// The vendor of the schemas of web events.
pub(super) const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";

/// Data with its schema.
pub(super) struct SelfDescribingJson {
    /// `iglu:<vendor>/<name>/<format>/<version>`.
    pub(super) schema: String,
    /// What is described.
    pub(super) data: JsonObject,
}

impl SelfDescribingJson {
    /// The data and its schema, if it is an object.
    pub(super) fn of(mut value: Value) -> Option<Self> {
        let Some(Value::String(schema)) = value.get_mut("schema").map(Value::take) else {
            return None;
        };
        let data = match value.get_mut("data").map(Value::take) {
            Some(Value::Object(data)) => data,
            None | Some(Value::Null) => JsonObject::new(),
            Some(_) => return None,
        };
        Some(Self { schema, data })
    }

    /// The vendor of the schema and its name. `None` for what is no address of a schema.
    pub(super) fn name(&self) -> Option<(&str, &str)> {
        let mut parts = self.schema.strip_prefix("iglu:").unwrap_or(&self.schema).split('/');
        let (vendor, name) = (parts.next()?, parts.next()?);
        (!vendor.is_empty() && !name.is_empty()).then_some((vendor, name))
    }

    /// Whether its schema is this one, in whatever version.
    pub(super) fn is(&self, vendor: &str, name: &str) -> bool {
        self.name() == Some((vendor, name))
    }

    /// As it came.
    pub(super) fn into_value(self) -> Value {
        let mut value = JsonObject::new();
        value.insert("schema".to_owned(), self.schema.into());
        value.insert("data".to_owned(), self.data.into());
        Value::Object(value)
    }
}

/// What an envelope of this schema holds.
pub(super) fn unwrapped(mut envelope: Value, name: &str) -> Option<Value> {
    let schema = envelope.get("schema")?.as_str()?;
    let is_envelope = schema.split('/').nth(1) == Some(name);
    if is_envelope { envelope.get_mut("data").map(Value::take) } else { Some(envelope) }
}

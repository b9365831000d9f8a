//! Self-describing JSON: data and the URI of its schema.

use serde_json::Value;

use tagway_core::event::JsonObject;

/// The vendor of the schemas of web events.
pub(super) const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";

/// Data with its schema.
pub(super) struct SelfDescribingJson {
    /// The schema's URI: `iglu:<vendor>/<name>/<format>/<version>`.
    pub(super) schema: String,
    /// The data that the schema describes.
    pub(super) data: JsonObject,
}

impl SelfDescribingJson {
    /// Reads the schema and the data. `None` without a schema or if the data is no object.
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

    /// Returns the vendor and the name of the schema. `None` if it is no schema URI.
    pub(super) fn name(&self) -> Option<(&str, &str)> {
        let mut parts = self.schema.strip_prefix("iglu:").unwrap_or(&self.schema).split('/');
        let (vendor, name) = (parts.next()?, parts.next()?);
        (!vendor.is_empty() && !name.is_empty()).then_some((vendor, name))
    }

    /// Returns true if this is the schema, in any version.
    pub(super) fn is(&self, vendor: &str, name: &str) -> bool {
        self.name() == Some((vendor, name))
    }

    /// Returns the JSON as it was sent.
    pub(super) fn into_value(self) -> Value {
        let mut value = JsonObject::new();
        value.insert("schema".to_owned(), self.schema.into());
        value.insert("data".to_owned(), self.data.into());
        Value::Object(value)
    }
}

/// Returns the data of an envelope of this schema; any other value is returned as it is.
pub(super) fn unwrapped(mut envelope: Value, name: &str) -> Option<Value> {
    let schema = envelope.get("schema")?.as_str()?;
    let is_envelope = schema.split('/').nth(1) == Some(name);
    if is_envelope { envelope.get_mut("data").map(Value::take) } else { Some(envelope) }
}

//! The memory that cached data costs, roughly.

use serde_json::Value;

/// Bytes an entry costs besides its key and value: the cache's own bookkeeping, the allocations.
pub(super) const ENTRY_BYTES: usize = 200;

/// Returns the size of an object's member: 64 bytes of structure, 24 a value, and the texts.
pub(in super::super) fn member_bytes(key: &str, value: &Value) -> usize {
    64 + key.len() + value_bytes(value)
}

fn value_bytes(value: &Value) -> usize {
    24 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| member_bytes(key, value)).sum(),
    }
}

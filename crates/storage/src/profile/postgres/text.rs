//! Conversion of row columns to texts, ranks and JSON.

use tokio_postgres::Row;

use crate::postgres::{PostgresError, decoded};
use tagway_core::event::{JsonObject, SenderRank};

pub(super) fn text(row: &Row, column: usize) -> Result<String, PostgresError> {
    Ok(decoded(row.try_get(column)?))
}

pub(super) fn optional(row: &Row, column: usize) -> Result<Option<String>, PostgresError> {
    Ok(row.try_get::<_, Option<String>>(column)?.map(decoded))
}

pub(super) fn rank(row: &Row, column: usize) -> Result<SenderRank, PostgresError> {
    Ok(SenderRank::from_number(row.try_get::<_, i16>(column)?.into()))
}

/// Reads a JSON object, which needs no decoding: JSON escapes what PostgreSQL does not take. This
/// program alone writes the tables; a damaged value reads as an empty object.
pub(super) fn object(row: &Row, column: usize) -> Result<JsonObject, PostgresError> {
    Ok(serde_json::from_str(row.try_get(column)?).unwrap_or_default())
}

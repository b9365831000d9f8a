//! Extractors: read the parts of a request within `admin.body_bytes` and `admin.body_time`. Errors name the
//! member of the body or the query that is missing, unknown or wrong.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::http::request::Parts;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};

use super::router::SharedApi;
use super::{AdminRequestError, AdminSettings};

/// The bytes of a body.
pub(super) struct BodyBytes(pub(super) Bytes);

/// A body in JSON, of any declared type.
pub(super) struct JsonBody<T>(pub(super) T);

/// The parameters of a query.
pub(super) struct QueryParams<T>(pub(super) T);

/// The parameters of a path. One that cannot be parsed names nothing that exists.
pub(super) struct PathParams<T>(pub(super) T);

/// The parameters of a route that has none: a misspelt filter must not show everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

impl FromRequest<SharedApi> for BodyBytes {
    type Rejection = AdminRequestError;

    async fn from_request(request: Request, api: &SharedApi) -> Result<Self, AdminRequestError> {
        read_body(request.into_body(), &api.context.settings).await.map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<SharedApi> for JsonBody<T> {
    type Rejection = AdminRequestError;

    async fn from_request(request: Request, api: &SharedApi) -> Result<Self, AdminRequestError> {
        let BodyBytes(body) = BodyBytes::from_request(request, api).await?;
        parse_json(&body).map(Self)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = AdminRequestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminRequestError> {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(rejection)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = AdminRequestError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminRequestError> {
        let Path(params) =
            Path::from_request_parts(parts, state).await.or(Err(AdminRequestError::NotFound))?;
        Ok(Self(params))
    }
}

/// Reads a body within the limits.
pub(super) async fn read_body(
    body: Body,
    settings: &AdminSettings,
) -> Result<Bytes, AdminRequestError> {
    let read = Limited::new(body, settings.body_bytes).collect();
    match tokio::time::timeout(settings.body_time, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if is_too_long(&*error) => Err(AdminRequestError::TooLarge),
        Ok(Err(_)) => Err(AdminRequestError::Malformed("the body ended early".to_owned())),
        Err(_) => Err(AdminRequestError::TooSlow),
    }
}

/// Returns true if a limit cut the body off, this one or that of the route.
fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.is::<LengthLimitError>())
}

/// Parses a body.
pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminRequestError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(rejection)?;
    json.end().map_err(|error| AdminRequestError::Malformed(error.to_string()))?;
    Ok(parsed)
}

/// Reads a parameter that may be absent; an empty one is absent.
pub(super) fn optional<'de, D: Deserializer<'de>, T: FromStr>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    let parsed = text.map(|text| text.parse()).transpose();
    parsed.map_err(|_not_one| D::Error::custom("must be a number"))
}

/// Reads a text that must not be blank.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() { Err(D::Error::custom("must not be empty")) } else { Ok(text) }
}

/// A rejection of one member of the body or the query.
pub(super) fn invalid_field(field: &str, detail: impl Into<String>) -> AdminRequestError {
    AdminRequestError::InvalidField { field: field.to_owned(), detail: detail.into() }
}

/// The rejection for an error of a parser. The path of a missing member is that of its parent, so its name is in
/// the error's text only.
fn rejection<E: Display>(error: serde_path_to_error::Error<E>) -> AdminRequestError {
    let (path, detail) = (error.path().to_string(), error.inner().to_string());
    let missing = detail.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match (missing, path.as_str()) {
        (Some(name), _) => invalid_field(name, detail.as_str()),
        (None, "." | "?") => AdminRequestError::Malformed(detail),
        (None, path) if detail.contains(&format!("`{path}`")) => invalid_field(path, detail),
        (None, path) => invalid_field(path, format!("{path}: {detail}")),
    }
}

//! The audit row of a request: the layer of the routes makes it, handlers add to it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use hyper::StatusCode;
use hyper::http::request::Parts;
use parking_lot::Mutex;

use super::{AdminContext, AdminRequestError};
use tagway_console::audit::AuditEntry;

/// The row of this request, while the request is served. An extractor of handlers: what they add is for the people
/// who read the log, and holds no secret and no personal data of visitors.
#[derive(Clone, Debug, Default)]
pub(super) struct AuditDraft(Arc<Mutex<AuditDraftParts>>);

#[derive(Clone, Debug, Default)]
struct AuditDraftParts {
    actor: Option<String>,
    site: Option<String>,
    object: Option<String>,
    detail: Option<String>,
    is_left_out: bool,
}

impl AuditDraft {
    /// Names who acts, on a route without credentials. Its requests leave a row only then.
    pub(super) fn set_actor(&self, name: &str) {
        self.0.lock().actor = Some(name.to_owned());
    }

    /// Returns the name of the actor on a route without credentials.
    pub(super) fn actor(&self) -> Option<String> {
        self.0.lock().actor.clone()
    }

    /// Names the site.
    pub(super) fn set_site(&self, name: &str) {
        self.0.lock().site = Some(name.to_owned());
    }

    /// Names the thing that the act is about.
    pub(super) fn set_object(&self, name: impl Into<String>) {
        self.0.lock().object = Some(name.into());
    }

    /// Adds a detail for people.
    pub(super) fn add_detail(&self, text: &str) {
        let mut parts = self.0.lock();
        let detail = match parts.detail.take() {
            Some(before) => format!("{before}; {text}"),
            None => text.to_owned(),
        };
        parts.detail = Some(detail);
    }

    /// Leaves the row out: the request only planned the act.
    pub(super) fn leave_out(&self) {
        self.0.lock().is_left_out = true;
    }

    /// Stores the row of an act with this result. Durable when it returns.
    pub(super) async fn store(
        &self,
        context: &AdminContext,
        (name, via): (&str, &'static str),
        action: &'static str,
        status: StatusCode,
    ) -> Result<(), AdminRequestError> {
        let AuditDraftParts { site, object, detail, is_left_out, .. } = self.0.lock().clone();
        if is_left_out && status.is_success() {
            return Ok(());
        }
        let result = (!status.is_success()).then(|| format!("refused: {status}"));
        let detail = [result, detail].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let detail = Some(detail).filter(|detail| !detail.is_empty());
        let shown = |text: String| context.redaction.redact(&text).into_owned();
        let entry = AuditEntry {
            actor: name.to_owned(),
            via,
            action,
            site: site.map(shown),
            object: object.map(shown),
            detail: detail.map(shown),
        };
        context.audit.append(entry).await.map_err(|error| {
            let (error, is_done) = (&error as &dyn std::error::Error, status.is_success());
            tracing::error!(error, action, is_done, "an act has no audit row");
            AdminRequestError::Unrecorded
        })?;
        Ok(())
    }
}

impl<S: Sync> FromRequestParts<S> for AuditDraft {
    type Rejection = AdminRequestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminRequestError> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

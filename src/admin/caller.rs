//! The caller of a request: found by its credentials, with its role and the sites that it may see.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;

use super::guard::single_value;
use super::{AdminContext, AdminRequestError};
use tagway_console::access::{Role, SiteScope};

/// The kind of a caller's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerCredential {
    /// The token of `data_dir/admin.token`.
    File,
}

impl CallerCredential {
    /// The name in the API and in the audit log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
        }
    }
}

/// The caller of a request. An extractor of handlers whose route needs credentials.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The name of the account or token, for the audit log.
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    /// The right to see personal data.
    pub(super) personal: bool,
    /// The sites that the caller may see. Also an extractor, of all routes.
    pub(super) sites: SiteScope,
    pub(super) via: CallerCredential,
    /// True if this request shows personal data unmasked.
    pub(super) shows_personal: bool,
}

impl Caller {
    /// The owner of the file's token: the command line on the gateway's machine.
    fn of_file() -> Self {
        Self {
            name: "admin.token".into(),
            role: Role::Admin,
            personal: true,
            sites: SiteScope::all(),
            via: CallerCredential::File,
            shows_personal: true,
        }
    }

    /// Returns true if the caller may see the site.
    pub(super) fn may_see(&self, site: &str) -> bool {
        self.sites.may_see(site)
    }

    /// Rejects a caller with a lower role.
    pub(super) fn require(&self, role: Role) -> Result<(), AdminRequestError> {
        if self.role >= role { Ok(()) } else { Err(AdminRequestError::Role(role)) }
    }
}

/// Finds the caller by the credentials of the request; `None` if it has none.
pub(super) async fn find_caller(
    context: &AdminContext,
    headers: &HeaderMap,
) -> Result<Option<Caller>, AdminRequestError> {
    let Some(token) = bearer_token(headers)? else { return Ok(None) };
    if !context.token.is_empty() && context.token.matches(token) {
        return Ok(Some(Caller::of_file()));
    }
    Err(AdminRequestError::Unauthorised)
}

/// Reads the bearer token. Other credentials are rejected.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, AdminRequestError> {
    let Some(presented) = single_value(headers, &AUTHORIZATION)? else { return Ok(None) };
    match presented.split_once(' ').map(|(scheme, token)| (scheme, token.trim())) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => {
            Ok(Some(token))
        }
        _ => Err(AdminRequestError::Unauthorised),
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = AdminRequestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminRequestError> {
        parts.extensions.get().cloned().ok_or(AdminRequestError::Unauthorised)
    }
}

/// The sites that the caller may see. Routes without credentials have a scope too.
#[derive(Clone, Debug)]
pub(super) struct CallerScope(pub(super) SiteScope);

impl<S: Sync> FromRequestParts<S> for CallerScope {
    type Rejection = AdminRequestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminRequestError> {
        parts.extensions.get().cloned().ok_or(AdminRequestError::Unauthorised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_token_reads_the_one_scheme() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer_token(&headers).map(|token| token.map(str::to_owned)).ok()
        };
        assert_eq!(read("Bearer abcdef"), Some(Some("abcdef".to_owned())));
        assert_eq!(read("bearer  abcdef "), Some(Some("abcdef".to_owned())));
        for wrong in ["Bearer ", "Basic abcdef", "abcdef", "Bearer"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(matches!(bearer_token(&HeaderMap::new()), Ok(None)));
    }
}

//! The caller of a request: found by its credentials, with its role and the sites that it may see.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};
use hyper::http::request::Parts;

use super::guard::single_value;
use super::request_source::RequestSource;
use super::{AdminContext, AdminRequestError};
use tagway_console::access::{Role, SiteScope};
use tagway_console::account::AccessRights;
use tagway_console::session::SessionRecord;
use tagway_console::token::ApiToken;

/// The kind of a caller's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerCredential {
    /// The token of `data_dir/admin.token`.
    File,
    /// An API token.
    Token,
    /// The cookie of a web session.
    Session,
}

impl CallerCredential {
    /// The name in the API and in the audit log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Token => "token",
            Self::Session => "session",
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
    /// The sites that the caller may see. [`CallerScope`] is an extractor of all routes.
    pub(super) sites: SiteScope,
    pub(super) via: CallerCredential,
    /// True if this request shows personal data unmasked.
    pub(super) shows_personal: bool,
    /// The web session, if the caller has one.
    pub(super) session: Option<Arc<SessionRecord>>,
}

impl Caller {
    fn new(name: &str, rights: AccessRights, via: CallerCredential) -> Self {
        let AccessRights { role, personal, sites } = rights;
        Self { name: name.into(), role, personal, sites, via, shows_personal: false, session: None }
    }

    /// The owner of the file's token: the command line on the gateway's machine.
    fn of_file() -> Self {
        let rights = AccessRights { role: Role::Admin, personal: true, sites: SiteScope::all() };
        Self::new("admin.token", rights, CallerCredential::File)
    }

    fn of_token(token: ApiToken) -> Self {
        Self::new(&token.name, token.rights, CallerCredential::Token)
    }

    /// The person of a web session.
    pub(super) fn of_session(session: SessionRecord) -> Self {
        let account = &session.account;
        let rights = account.rights.clone();
        let caller = Self::new(&account.name, rights, CallerCredential::Session);
        Self { session: Some(Arc::new(session)), ..caller }
    }

    /// Returns true if the caller may see the site.
    pub(super) fn may_see(&self, site: &str) -> bool {
        self.sites.may_see(site)
    }

    /// Rejects a caller with a lower role.
    pub(super) fn require(&self, role: Role) -> Result<(), AdminRequestError> {
        if self.role >= role { Ok(()) } else { Err(AdminRequestError::Role(role)) }
    }

    /// Rejects a caller with a lower role, or limited to some sites.
    pub(super) fn require_all_sites(&self, role: Role) -> Result<(), AdminRequestError> {
        self.require(role)?;
        if self.sites.is_all() { Ok(()) } else { Err(AdminRequestError::AllSites) }
    }
}

/// Finds the caller by the credentials of the request; `None` if it has none, or if its session has ended.
pub(super) async fn find_caller(
    context: &AdminContext,
    headers: &HeaderMap,
    source: &RequestSource,
) -> Result<Option<Caller>, AdminRequestError> {
    if let Some(token) = bearer_token(headers)? {
        if !context.token.is_empty() && context.token.matches(token) {
            return Ok(Some(Caller::of_file()));
        }
        let found = context.accounts.find_token(token).await?;
        return found.map(Caller::of_token).ok_or(AdminRequestError::Unauthorised).map(Some);
    }
    Ok(find_session(context, headers, source).await?.map(Caller::of_session))
}

/// Finds the session of the request's cookie.
pub(super) async fn find_session(
    context: &AdminContext,
    headers: &HeaderMap,
    source: &RequestSource,
) -> Result<Option<SessionRecord>, AdminRequestError> {
    let name = source.cookie_name(&context.settings.cookie);
    match session_cookie(headers, &name).filter(|_| source.is_confidential()) {
        Some(secret) => Ok(context.accounts.find_session(secret, source.host_name()).await?),
        None => Ok(None),
    }
}

/// The error for a request without credentials: it says if no account exists yet.
pub(super) async fn unauthorised(context: &AdminContext) -> AdminRequestError {
    match context.accounts.is_new().await {
        Ok(true) => AdminRequestError::NoAccounts,
        Ok(false) => AdminRequestError::Unauthorised,
        Err(error) => error.into(),
    }
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

/// The value of the session's cookie. Two of them are none: one was set by another program of the host.
fn session_cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    values.next().filter(|value| !value.is_empty() && values.next().is_none())
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

    #[test]
    fn session_cookie_is_read_if_it_is_the_only_one() {
        let read = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(COOKIE, field.parse().unwrap());
            }
            session_cookie(&headers, "tagway").map(str::to_owned)
        };
        assert_eq!(read(&["a=1; tagway=abc; b=2"]).as_deref(), Some("abc"));
        assert_eq!(read(&["a=1", "tagway=abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&["__Host-tagway=abc; tagway2=x"]), None);
        assert_eq!(read(&["tagway=abc; tagway=abc"]), None);
        assert_eq!(read(&["tagway="]), None);
    }
}

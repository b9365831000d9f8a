//! Routes of web sessions: login, logout, the caller's own account, and lists of sessions.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;
use hyper::header::SET_COOKIE;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit_draft::AuditDraft;
use super::caller::{Caller, CallerCredential, find_session};
use super::request::{JsonBody, PathParams, QueryParams, required};
use super::request_source::RequestSource;
use super::router::{ApiResult, ApiState, SharedApi};
use super::{AdminRequestError, AdminSettings};
use tagway_console::access::Role;
use tagway_console::account::AccountError;
use tagway_console::session::{IssuedSession, SessionRecord};
use tagway_settings::SecretString;

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    name: String,
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// The code of a login link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkLoginRequest {
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    code: SecretString,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordRequest {
    /// The present password. A session that must set a password has none.
    #[serde(default, deserialize_with = "optional_secret")]
    #[schema(value_type = Option<String>, format = Password)]
    current: Option<SecretString>,
    /// The new password, of 12 characters or more.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    new: SecretString,
    /// The name of a new account, with its first password.
    name: Option<String>,
}

/// The present password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofRequest {
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// The caller's own account.
#[derive(Serialize, ToSchema)]
pub(super) struct MeAnswer {
    name: String,
    role: Role,
    /// The right to see personal data.
    personal: bool,
    /// The sites that the caller may see; null for all.
    sites: Option<Vec<String>>,
    /// `session`, `token` or `file`.
    via: &'static str,
    /// True if the session may do nothing before its person sets a password.
    must_set_password: bool,
    /// The end of the time in which accounts may be managed without the password.
    #[schema(value_type = Option<String>, format = DateTime)]
    proved_until: Option<Timestamp>,
    /// True if an issuer vouches for the account.
    oidc: bool,
    /// True if the account has a password.
    password_login: bool,
    /// The version of the program.
    version: &'static str,
    /// True if the browser uses TLS.
    secure: bool,
}

/// The sessions to list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionsQuery {
    /// True for those of all accounts, which needs the role admin.
    all: bool,
}

/// A list of sessions.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionsAnswer {
    rows: Vec<SessionRow>,
}

/// A session.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionRow {
    id: String,
    /// The account's name.
    account: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of its last request, to a minute.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    /// The browser's name for itself.
    agent: String,
    /// The address, or the network of an IPv6 address.
    network: String,
    /// True for the session of this request.
    current: bool,
}

/// The end of a session.
#[derive(Serialize, ToSchema)]
pub(super) struct EndedAnswer {
    /// Always true.
    ended: bool,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    required(deserializer).map(SecretString::new)
}

fn optional_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(SecretString::new))
}

impl MeAnswer {
    fn new(caller: &Caller, source: &RequestSource) -> Self {
        let session = caller.session.as_deref();
        let account = session.map(|session| &session.account);
        Self {
            name: caller.name.as_ref().to_owned(),
            role: caller.role,
            personal: caller.personal,
            sites: caller.sites.names().map(<[String]>::to_vec),
            via: caller.via.name(),
            must_set_password: session.is_some_and(|session| session.must_set_password),
            proved_until: session.and_then(|session| session.proved_until),
            oidc: account.is_some_and(|account| account.oidc),
            password_login: account.is_some_and(|account| account.has_password),
            version: env!("CARGO_PKG_VERSION"),
            secure: source.is_secure,
        }
    }
}

/// Logs in with name and password.
#[utoipa::path(post, path = "/api/v1/session", request_body = LoginRequest,
    responses((status = 200, body = MeAnswer)))]
pub(super) async fn log_in(
    State(api): State<SharedApi>,
    source: RequestSource,
    audit: AuditDraft,
    headers: HeaderMap,
    JsonBody(LoginRequest { name, password }): JsonBody<LoginRequest>,
) -> Result<Response, AdminRequestError> {
    source.check_confidential()?;
    let issued = api.context.accounts.log_in(&name, password, source.session_origin(&headers));
    let issued = issued.await.map_err(|error| match error {
        AccountError::WrongPassword => {
            // Neither the name nor the address: people type passwords into the field of the name.
            audit.set_actor("unknown");
            AdminRequestError::WrongLogin
        }
        error => error.into(),
    })?;
    audit.set_actor(&issued.session.account.name);
    end_former(&api, &source, &headers).await?;
    Ok(begun(&api, issued, &source))
}

/// Logs in with the code of a link, which is then used up.
#[utoipa::path(post, path = "/api/v1/session/link", request_body = LinkLoginRequest,
    responses((status = 200, body = MeAnswer)))]
pub(super) async fn log_in_by_link(
    State(api): State<SharedApi>,
    source: RequestSource,
    audit: AuditDraft,
    headers: HeaderMap,
    JsonBody(LinkLoginRequest { code }): JsonBody<LinkLoginRequest>,
) -> Result<Response, AdminRequestError> {
    source.check_confidential()?;
    let issued = api.context.accounts.use_link(code.expose(), source.session_origin(&headers));
    let issued = issued.await.map_err(|error| match error {
        AccountError::Unknown | AccountError::Disabled => {
            audit.set_actor("unknown");
            AdminRequestError::WrongLink
        }
        error => error.into(),
    })?;
    audit.set_actor(&issued.session.account.name);
    end_former(&api, &source, &headers).await?;
    Ok(begun(&api, issued, &source))
}

/// Ends the caller's session.
#[utoipa::path(delete, path = "/api/v1/session", responses((status = 200, body = EndedAnswer)))]
pub(super) async fn log_out(
    State(api): State<SharedApi>,
    source: RequestSource,
    caller: Caller,
) -> Result<Response, AdminRequestError> {
    let session = own_session(&caller)?;
    let account = Some(session.account.id);
    api.context.accounts.end_session(&session.id(), account).await?;
    let cookie = set_cookie(&api.context.settings, &source, "", 0);
    Ok(([(SET_COOKIE, cookie)], Json(EndedAnswer { ended: true })).into_response())
}

/// Returns the caller's name and rights.
///
/// While there is no account, the problem of a request without credentials has a member `setup`.
#[utoipa::path(get, path = "/api/v1/me", responses((status = 200, body = MeAnswer)))]
pub(super) async fn get_me(source: RequestSource, caller: Caller) -> Json<MeAnswer> {
    Json(MeAnswer::new(&caller, &source))
}

/// Sets the password of the caller's account. Its other sessions end.
#[utoipa::path(post, path = "/api/v1/me/password", request_body = PasswordRequest,
    responses((status = 200, body = MeAnswer)))]
pub(super) async fn set_password(
    State(api): State<SharedApi>,
    source: RequestSource,
    caller: Caller,
    audit: AuditDraft,
    headers: HeaderMap,
    JsonBody(PasswordRequest { current, new, name }): JsonBody<PasswordRequest>,
) -> Result<Response, AdminRequestError> {
    source.check_confidential()?;
    let session = own_session(&caller)?;
    let origin = source.session_origin(&headers);
    let issued = api.context.accounts.set_password(session, name, (current, new), origin).await?;
    // The first password may come with a new name.
    audit.set_object(&*issued.session.account.name);
    Ok(begun(&api, issued, &source))
}

/// Proves with the password that the caller is at the browser. For five minutes the session may manage accounts.
#[utoipa::path(post, path = "/api/v1/session/prove", request_body = ProofRequest,
    responses((status = 200, body = MeAnswer)))]
pub(super) async fn prove_session(
    State(api): State<SharedApi>,
    source: RequestSource,
    caller: Caller,
    JsonBody(ProofRequest { password }): JsonBody<ProofRequest>,
) -> ApiResult<MeAnswer> {
    source.check_confidential()?;
    let session = own_session(&caller)?;
    let proved = api.context.accounts.prove(session, password, source.client).await?;
    Ok(Json(MeAnswer::new(&Caller::of_session(proved), &source)))
}

/// Lists the caller's sessions, or those of all accounts.
#[utoipa::path(get, path = "/api/v1/sessions", params(SessionsQuery),
    responses((status = 200, body = SessionsAnswer)))]
pub(super) async fn list_sessions(
    State(api): State<SharedApi>,
    caller: Caller,
    QueryParams(SessionsQuery { all }): QueryParams<SessionsQuery>,
) -> ApiResult<SessionsAnswer> {
    let account = caller.session.as_deref().map(|session| session.account.id);
    if all {
        caller.require_all_sites(Role::Admin)?;
    } else if account.is_none() {
        return Ok(Json(SessionsAnswer { rows: Vec::new() }));
    }
    let sessions = api.context.accounts.sessions(account.filter(|_| !all)).await?;
    let current = caller.session.as_deref().map(|session| session.hash);
    let row = |session: SessionRecord| SessionRow {
        id: session.id(),
        current: current == Some(session.hash),
        account: session.account.name,
        created_at: session.created_at,
        seen_at: session.seen_at,
        agent: session.agent,
        network: session.network,
    };
    Ok(Json(SessionsAnswer { rows: sessions.into_iter().map(row).collect() }))
}

/// Ends one of the caller's sessions; for an admin, any.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", params(("id" = String, Path)),
    responses((status = 200, body = EndedAnswer)))]
pub(super) async fn end_session(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    PathParams(id): PathParams<String>,
) -> ApiResult<EndedAnswer> {
    let own = caller.session.as_deref().map(|session| session.account.id);
    let account = match caller.require_all_sites(Role::Admin) {
        Ok(()) => None,
        Err(_) => Some(own.ok_or(AdminRequestError::NotFound)?),
    };
    audit.set_object(api.context.accounts.end_session(&id, account).await?);
    Ok(Json(EndedAnswer { ended: true }))
}

/// The session of the caller; tokens have none.
fn own_session(caller: &Caller) -> Result<&SessionRecord, AdminRequestError> {
    debug_assert_eq!(caller.session.is_some(), caller.via == CallerCredential::Session);
    caller.session.as_deref().ok_or(AdminRequestError::NotFound)
}

/// Ends the session that the browser had before its login.
async fn end_former(
    api: &ApiState,
    source: &RequestSource,
    headers: &HeaderMap,
) -> Result<(), AdminRequestError> {
    if let Some(former) = find_session(&api.context, headers, source).await? {
        let account = Some(former.account.id);
        // Another login of the browser may have ended it meanwhile.
        api.context.accounts.end_session(&former.id(), account).await.ok();
    }
    Ok(())
}

/// The answer that begins a session.
fn begun(api: &ApiState, issued: IssuedSession, source: &RequestSource) -> Response {
    let IssuedSession { secret, session } = issued;
    let settings = &api.context.settings;
    let seconds = settings.sessions.max.as_secs();
    let cookie = set_cookie(settings, source, secret.expose(), seconds);
    let me = MeAnswer::new(&Caller::of_session(session), source);
    ([(SET_COOKIE, cookie)], Json(me)).into_response()
}

fn set_cookie(
    settings: &AdminSettings,
    source: &RequestSource,
    value: &str,
    seconds: u64,
) -> String {
    let name = source.cookie_name(&settings.cookie);
    let secure = if source.is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

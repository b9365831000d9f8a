//! Routes that manage accounts, API tokens and login links.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::audit_draft::AuditDraft;
use super::caller::Caller;
use super::request::{JsonBody, PathParams, invalid_field, required};
use super::request_source::RequestSource;
use super::router::{ApiResult, SharedApi};
use super::{AdminContext, AdminRequestError};
use tagway_console::access::{Role, SiteScope};
use tagway_console::account::{AccessRights, AccountChange, AccountId, ConsoleAccount};
use tagway_console::link::IssuedLink;
use tagway_console::token::{ApiToken, TOKEN_DAYS};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteRequest {
    /// A name or an e-mail address.
    #[serde(deserialize_with = "required")]
    name: String,
    role: Role,
    /// The right to see personal data.
    #[serde(default)]
    personal: bool,
    /// The sites that the person may see; null for all.
    sites: Option<Vec<String>>,
}

/// Changes of an account. Absent members stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountChangeRequest {
    role: Option<Role>,
    personal: Option<bool>,
    /// Null for all sites.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    sites: Option<Option<Vec<String>>>,
    disabled: Option<bool>,
}

/// A new token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRequest {
    #[serde(deserialize_with = "required")]
    name: String,
    role: Role,
    /// The right to see personal data.
    #[serde(default)]
    personal: bool,
    /// The sites that the token may see; null for all.
    sites: Option<Vec<String>>,
    /// The days until its end, at most 3650; null for none.
    expires_in_days: Option<u32>,
}

/// The account that a login link is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginLinkRequest {
    /// The account's name; by default that of the only admin. Before the first login, the name of the first account.
    name: Option<String>,
}

/// A list of accounts.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountsAnswer {
    rows: Vec<AccountRow>,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountRow {
    id: i64,
    name: String,
    role: Role,
    personal: bool,
    /// Null for all sites.
    sites: Option<Vec<String>>,
    disabled: bool,
    /// True if an issuer vouches for it.
    oidc: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The time of its last request, to a minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Timestamp>,
}

/// A login link. It is shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct LinkAnswer {
    /// The account's id; null before the first login.
    id: Option<i64>,
    /// The account's name.
    name: String,
    link: String,
    /// The code in the link.
    code: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A list of tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct TokensAnswer {
    rows: Vec<TokenRow>,
}

/// A token without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenRow {
    id: i64,
    name: String,
    role: Role,
    personal: bool,
    /// Null for all sites.
    sites: Option<Vec<String>>,
    /// The name of the account that made it.
    author: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The time of its last use, to a minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
}

/// A new token. It is shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    id: i64,
    token: String,
}

/// The removal of a token.
#[derive(Serialize, ToSchema)]
pub(super) struct RemovedAnswer {
    /// The token's name.
    name: String,
}

/// Reads a member that is present, also if it is null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl From<ConsoleAccount> for AccountRow {
    fn from(account: ConsoleAccount) -> Self {
        let AccessRights { role, personal, sites } = account.rights;
        Self {
            id: account.id.0,
            name: account.name,
            role,
            personal,
            sites: sites.names().map(<[String]>::to_vec),
            disabled: account.disabled,
            oidc: account.oidc,
            created_at: account.created_at,
            seen_at: account.seen_at,
        }
    }
}

impl From<ApiToken> for TokenRow {
    fn from(token: ApiToken) -> Self {
        let AccessRights { role, personal, sites } = token.rights;
        Self {
            id: token.id,
            name: token.name,
            role,
            personal,
            sites: sites.names().map(<[String]>::to_vec),
            author: token.author,
            created_at: token.created_at,
            expires_at: token.expires_at,
            used_at: token.used_at,
        }
    }
}

/// Lists the accounts.
#[utoipa::path(get, path = "/api/v1/accounts", responses((status = 200, body = AccountsAnswer)))]
pub(super) async fn list_accounts(State(api): State<SharedApi>) -> ApiResult<AccountsAnswer> {
    let accounts = api.context.accounts.accounts().await?;
    Ok(Json(AccountsAnswer { rows: accounts.into_iter().map(AccountRow::from).collect() }))
}

/// Makes an account, and the link that invites its person for seven days.
#[utoipa::path(post, path = "/api/v1/accounts", request_body = InviteRequest,
    responses((status = 200, body = LinkAnswer)))]
pub(super) async fn invite_account(
    State(api): State<SharedApi>,
    source: RequestSource,
    audit: AuditDraft,
    JsonBody(request): JsonBody<InviteRequest>,
) -> ApiResult<LinkAnswer> {
    let InviteRequest { name, role, personal, sites } = request;
    audit.set_object(&*name);
    let rights = AccessRights { role, personal, sites: checked_sites(&api.context, sites)? };
    audit.add_detail(&shown_rights(&rights));
    let link = api.context.accounts.invite(&name, rights).await?;
    audit.set_object(&*link.name);
    Ok(Json(link_answer(link, &source)))
}

/// Changes the rights of an account, disables or enables it. Its sessions end.
#[utoipa::path(patch, path = "/api/v1/accounts/{id}", params(("id" = i64, Path)),
    request_body = AccountChangeRequest, responses((status = 200, body = AccountRow)))]
pub(super) async fn change_account(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    PathParams(id): PathParams<i64>,
    JsonBody(request): JsonBody<AccountChangeRequest>,
) -> ApiResult<AccountRow> {
    let AccountChangeRequest { role, personal, sites, disabled } = request;
    audit.set_object(format!("#{id}"));
    let sites = sites.map(|sites| checked_sites(&api.context, sites)).transpose()?;
    let change = AccountChange { role, personal, sites, disabled };
    let account = api.context.accounts.change(AccountId(id), change).await?;
    audit.set_object(&*account.name);
    let state = if account.disabled { "disabled, " } else { "" };
    audit.add_detail(&format!("{state}{}", shown_rights(&account.rights)));
    Ok(Json(account.into()))
}

/// Makes a link with which an account's person sets a new password within seven days.
#[utoipa::path(post, path = "/api/v1/accounts/{id}/link", params(("id" = i64, Path)),
    responses((status = 200, body = LinkAnswer)))]
pub(super) async fn reset_account(
    State(api): State<SharedApi>,
    source: RequestSource,
    audit: AuditDraft,
    PathParams(id): PathParams<i64>,
) -> ApiResult<LinkAnswer> {
    let link = api.context.accounts.make_reset_link(AccountId(id)).await?;
    audit.set_object(&*link.name);
    Ok(Json(link_answer(link, &source)))
}

/// Makes a link that logs in within ten minutes. Before the first login, it makes an admin.
#[utoipa::path(post, path = "/api/v1/console/link", request_body = LoginLinkRequest,
    responses((status = 200, body = LinkAnswer)))]
pub(super) async fn make_login_link(
    State(api): State<SharedApi>,
    source: RequestSource,
    audit: AuditDraft,
    JsonBody(LoginLinkRequest { name }): JsonBody<LoginLinkRequest>,
) -> ApiResult<LinkAnswer> {
    let link = api.context.accounts.make_login_link(name.as_deref()).await?;
    audit.set_object(&*link.name);
    Ok(Json(link_answer(link, &source)))
}

/// Lists the API tokens.
#[utoipa::path(get, path = "/api/v1/tokens", responses((status = 200, body = TokensAnswer)))]
pub(super) async fn list_tokens(State(api): State<SharedApi>) -> ApiResult<TokensAnswer> {
    let tokens = api.context.accounts.tokens().await?;
    Ok(Json(TokensAnswer { rows: tokens.into_iter().map(TokenRow::from).collect() }))
}

/// Makes an API token.
#[utoipa::path(post, path = "/api/v1/tokens", request_body = TokenRequest,
    responses((status = 200, body = TokenAnswer)))]
pub(super) async fn make_token(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    JsonBody(request): JsonBody<TokenRequest>,
) -> ApiResult<TokenAnswer> {
    let TokenRequest { name, role, personal, sites, expires_in_days } = request;
    if expires_in_days.is_some_and(|days| !(1..=TOKEN_DAYS).contains(&days)) {
        let detail = format!("expires_in_days must be 1 to {TOKEN_DAYS}");
        return Err(invalid_field("expires_in_days", detail));
    }
    let rights = AccessRights { role, personal, sites: checked_sites(&api.context, sites)? };
    audit.set_object(&*name);
    audit.add_detail(&shown_rights(&rights));
    let accounts = &api.context.accounts;
    let issued = accounts.make_token(&name, rights, &caller.name, expires_in_days).await?;
    Ok(Json(TokenAnswer { id: issued.id, token: issued.secret.expose().to_owned() }))
}

/// Removes an API token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", params(("id" = i64, Path)),
    responses((status = 200, body = RemovedAnswer)))]
pub(super) async fn remove_token(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    PathParams(id): PathParams<i64>,
) -> ApiResult<RemovedAnswer> {
    let name = api.context.accounts.remove_token(id).await?;
    audit.set_object(&*name);
    Ok(Json(RemovedAnswer { name }))
}

/// The scope of a request, if all its sites are configured.
fn checked_sites(
    context: &AdminContext,
    sites: Option<Vec<String>>,
) -> Result<SiteScope, AdminRequestError> {
    let known = context.control.sites();
    let unknown = sites.iter().flatten().find(|site| !known.iter().any(|it| **it == ***site));
    match unknown {
        Some(_) => Err(invalid_field("sites", "the configuration has no such site")),
        None => Ok(SiteScope::of(sites)),
    }
}

/// Rights in the audit log.
fn shown_rights(rights: &AccessRights) -> String {
    let AccessRights { role, personal, sites } = rights;
    let personal = if *personal { ", personal data" } else { "" };
    let sites = match sites.names() {
        None => "all sites".to_owned(),
        Some(names) => names.join(" "),
    };
    format!("{}{personal}, {sites}", role.name())
}

fn link_answer(link: IssuedLink, source: &RequestSource) -> LinkAnswer {
    let IssuedLink { code, name, account, expires_at } = link;
    let code = code.expose().to_owned();
    let link = format!("{}#/login?code={code}", source.console_url());
    LinkAnswer { id: account.map(|id| id.0), name, link, code, expires_at }
}

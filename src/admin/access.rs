//! Access of the routes: the role, the right to personal data, and the audit row of each.
//!
//! [`RouteTable::add`] attaches the access to a route: from the same value come the check of each request, the audit
//! row and the description in the OpenAPI document, so that they cannot differ. The check also rejects requests that
//! name a site which the caller may not see, in the path, the query or the body: for it there is no such site.

use std::borrow::Cow;
use std::sync::Arc;

use axum::RequestPartsExt;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::Limited;
use hyper::{Method, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use tokio_util::task::TaskTracker;
use utoipa::openapi::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::audit_draft::AuditDraft;
use super::caller::{Caller, CallerCredential, CallerScope, find_caller, unauthorised};
use super::guard::{check_browser, check_content_type};
use super::request::read_body;
use super::request_source::RequestSource;
use super::router::SharedApi;
use super::{AdminContext, AdminRequestError};
use tagway_console::access::{Role, SiteScope};

/// The longest body of a login, in bytes: it needs no credentials. Names and passwords are far shorter.
const LOGIN_BYTES: usize = 16 << 10;

/// The name of the security scheme of bearer tokens in the document.
pub(super) const TOKEN_SCHEME: &str = "token";

/// The name of the security scheme of web sessions in the document.
pub(super) const SESSION_SCHEME: &str = "session";

/// The act in the audit log of a request that shows personal data unmasked.
const REVEAL: &str = "personal.reveal";

/// The credentials that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteRequirement {
    /// None; but presented tokens must be valid.
    Optional,
    /// None: the request begins a session.
    Login,
    /// Any. The only routes for a session whose person must set a password first.
    Own,
    /// This role, or a higher one.
    Role(Role),
    /// The token of `data_dir/admin.token`.
    File,
}

/// The way in which a route shows personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PersonalData {
    /// It shows none.
    Absent,
    /// The handler masks it, unless [`Caller::shows_personal`]. `?reveal=true` asks for it.
    Masked,
    /// The route needs the right.
    Required,
}

/// The access of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteAccess {
    requirement: RouteRequirement,
    personal: PersonalData,
    /// The act in the audit log, for a route that changes something.
    action: Option<&'static str>,
    /// True for routes that are about all sites.
    is_of_all_sites: bool,
    /// True for routes whose caller must have proved its password some minutes ago.
    needs_proof: bool,
}

impl RouteAccess {
    const fn new(requirement: RouteRequirement, action: Option<&'static str>) -> Self {
        Self {
            requirement,
            personal: PersonalData::Absent,
            action,
            is_of_all_sites: false,
            needs_proof: false,
        }
    }

    /// A route that needs no credentials.
    pub(super) const fn open() -> Self {
        Self::new(RouteRequirement::Optional, None)
    }

    /// A route that begins a session. Its handler names who acts ([`AuditDraft::set_actor`]).
    pub(super) const fn login(action: &'static str) -> Self {
        Self::new(RouteRequirement::Login, Some(action))
    }

    /// A route about the caller itself, for any credentials.
    pub(super) const fn own(action: Option<&'static str>) -> Self {
        Self::new(RouteRequirement::Own, action)
    }

    /// A route for the token of the file only.
    pub(super) const fn file(action: &'static str) -> Self {
        Self::new(RouteRequirement::File, Some(action))
    }

    /// A route that changes nothing.
    pub(super) const fn read(role: Role) -> Self {
        Self::new(RouteRequirement::Role(role), None)
    }

    /// A route that changes something: each request leaves a row with this act in the audit log.
    pub(super) const fn write(role: Role, action: &'static str) -> Self {
        Self::new(RouteRequirement::Role(role), Some(action))
    }

    /// The handler masks personal data, unless [`Caller::shows_personal`].
    pub(super) const fn masks_personal(self) -> Self {
        Self { personal: PersonalData::Masked, ..self }
    }

    /// The route needs the right to see personal data.
    pub(super) const fn needs_personal(self) -> Self {
        Self { personal: PersonalData::Required, ..self }
    }

    /// The route is about all sites: callers that are limited to some are rejected.
    pub(super) const fn of_all_sites(self) -> Self {
        Self { is_of_all_sites: true, ..self }
    }

    /// A web session must have proved its password within the last minutes.
    pub(super) const fn needs_proof(self) -> Self {
        Self { needs_proof: true, ..self }
    }

    /// Returns true if the route needs no credentials.
    const fn is_open(self) -> bool {
        matches!(self.requirement, RouteRequirement::Optional | RouteRequirement::Login)
    }

    /// The name of the least role in the document.
    fn role_name(self) -> &'static str {
        match self.requirement {
            RouteRequirement::Optional | RouteRequirement::Login => "none",
            RouteRequirement::Own => "self",
            RouteRequirement::File => "file",
            RouteRequirement::Role(role) => role.name(),
        }
    }

    /// Adds the access to the operation's description.
    fn describe(self, operation: &mut Operation) {
        if !self.is_open() {
            let scheme = |name| SecurityRequirement::new::<_, [&str; 0], &str>(name, []);
            let token = [scheme(TOKEN_SCHEME)].into_iter();
            let session = (self.requirement != RouteRequirement::File).then_some(SESSION_SCHEME);
            operation.security = Some(token.chain(session.map(scheme)).collect());
        }
        let personal = match self.personal {
            PersonalData::Absent => None,
            PersonalData::Masked => Some("masked"),
            PersonalData::Required => Some("required"),
        };
        let named = [
            ("x-tagway-role", Some(self.role_name())),
            ("x-tagway-audit", self.action),
            ("x-tagway-personal", personal),
            ("x-tagway-proof", self.needs_proof.then_some("password")),
            ("x-tagway-sites", self.is_of_all_sites.then_some("all")),
        ];
        let extensions: Extensions =
            named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        operation.extensions.get_or_insert_default().merge(extensions);
        if self.personal == PersonalData::Masked {
            let reveal = ParameterBuilder::new()
                .name("reveal")
                .parameter_in(ParameterIn::Query)
                .description(Some("Shows personal data: needs the right, leaves an audit row."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::Boolean)));
            operation.parameters.get_or_insert_default().push(reveal.build().into());
        }
    }

    /// Checks the caller's rights, and decides if it gets personal data unmasked.
    fn admit(
        self,
        caller: &mut Caller,
        wants_reveal: bool,
        now: Timestamp,
    ) -> Result<(), AdminRequestError> {
        let session = caller.session.as_deref();
        let must_set_password = session.is_some_and(|session| session.must_set_password);
        if must_set_password && !self.is_open() && self.requirement != RouteRequirement::Own {
            return Err(AdminRequestError::SetPassword);
        }
        match self.requirement {
            RouteRequirement::Role(role) => caller.require(role)?,
            RouteRequirement::File if caller.via != CallerCredential::File => {
                return Err(AdminRequestError::FileOnly);
            }
            _ => {}
        }
        if self.is_of_all_sites && !caller.sites.is_all() {
            return Err(AdminRequestError::AllSites);
        }
        if self.needs_proof && session.is_some_and(|session| !session.is_proved(now)) {
            return Err(AdminRequestError::Proof);
        }
        let needs_right = self.personal == PersonalData::Required || wants_reveal;
        if needs_right && !caller.personal {
            return Err(AdminRequestError::Personal);
        }
        caller.shows_personal = caller.personal
            && (wants_reveal
                || self.personal == PersonalData::Required
                || caller.via != CallerCredential::Session);
        Ok(())
    }
}

/// The routes of the API, each with its access.
pub(super) struct RouteTable {
    router: OpenApiRouter<SharedApi>,
    context: Arc<AdminContext>,
    acts: TaskTracker,
}

impl RouteTable {
    /// Creates a table without routes over the empty document. `acts` tracks the requests that change something.
    pub(super) fn new(context: &Arc<AdminContext>, acts: &TaskTracker, document: OpenApi) -> Self {
        let router = OpenApiRouter::with_openapi(document);
        Self { router, context: context.clone(), acts: acts.clone() }
    }

    /// Adds a route, as `routes!(handler)` returns it.
    pub(super) fn add(
        mut self,
        access: RouteAccess,
        (schemas, mut paths, methods): UtoipaMethodRouter<SharedApi>,
    ) -> Self {
        for item in paths.paths.values_mut() {
            operations(item).for_each(|operation| access.describe(operation));
        }
        let (context, acts) = (self.context.clone(), self.acts.clone());
        let check = RouteCheck { context, acts, access };
        let checked = methods.route_layer(from_fn_with_state(check, check_access));
        self.router = self.router.routes((schemas, paths, checked));
        self
    }

    /// The routes and their document.
    pub(super) fn into_router(self) -> OpenApiRouter<SharedApi> {
        self.router
    }
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, patch, delete, .. } = item;
    [get, post, patch, delete].into_iter().filter_map(Option::as_mut)
}

/// The check of one route.
#[derive(Clone)]
struct RouteCheck {
    context: Arc<AdminContext>,
    acts: TaskTracker,
    access: RouteAccess,
}

/// The layer of each route. An act and its row are completed even if the caller closes the connection.
async fn check_access(
    State(check): State<RouteCheck>,
    request: Request,
    next: Next,
) -> Result<Response, AdminRequestError> {
    if check.access.action.is_none() {
        return answer(check, request, next).await;
    }
    let acts = check.acts.clone();
    let act = acts.spawn(answer(check, request, next));
    act.await.unwrap_or(Err(AdminRequestError::Unrecorded))
}

/// Finds the caller, checks its rights, and stores the audit row of an act after it, before the answer.
async fn answer(
    RouteCheck { context, access, .. }: RouteCheck,
    mut request: Request,
    next: Next,
) -> Result<Response, AdminRequestError> {
    let draft = AuditDraft::default();
    request.extensions_mut().insert(draft.clone());
    if access.requirement == RouteRequirement::Login {
        return serve_login(&context, access, &draft, request, next).await;
    }
    let source: Option<RequestSource> = request.extensions().get().cloned();
    let source = source.ok_or(AdminRequestError::Misdirected)?;
    let caller = find_caller(&context, request.headers(), &source).await?;
    let Some(mut caller) = caller else {
        if !access.is_open() {
            return Err(unauthorised(&context).await);
        }
        request.extensions_mut().insert(CallerScope(SiteScope::all()));
        return Ok(next.run(request).await);
    };
    if caller.via == CallerCredential::Session {
        check_browser(request.method(), request.headers(), true)?;
    }
    let wants_reveal = access.personal == PersonalData::Masked && take_reveal(request.uri_mut())?;
    if wants_reveal {
        draft.set_object(request.uri().path());
    }
    let by = (caller.name.clone(), caller.via.name());
    let admitted = access.admit(&mut caller, wants_reveal, context.accounts.now());
    let response = match admitted {
        Ok(()) => serve(&context, caller, &draft, request, next).await,
        Err(error) => Err(error),
    };
    let response = response.unwrap_or_else(IntoResponse::into_response);
    let (by, status) = ((&*by.0, by.1), response.status());
    if let Some(action) = access.action {
        draft.store(&context, by, action, status).await?;
    }
    if wants_reveal && status.is_success() {
        draft.store(&context, by, REVEAL, status).await?;
    }
    Ok(response)
}

/// Passes on a request that begins a session. A row is stored if the handler has named who acts: refusals without an
/// attempt would fill the log.
async fn serve_login(
    context: &AdminContext,
    access: RouteAccess,
    draft: &AuditDraft,
    request: Request,
    next: Next,
) -> Result<Response, AdminRequestError> {
    check_browser(request.method(), request.headers(), false)?;
    check_content_type(request.method(), request.headers(), false)?;
    let request = request.map(|body| Body::new(Limited::new(body, LOGIN_BYTES)));
    let response = next.run(request).await;
    if let (Some(action), Some(actor)) = (access.action, draft.actor()) {
        let via = CallerCredential::Session.name();
        draft.store(context, (&actor, via), action, response.status()).await?;
    }
    Ok(response)
}

/// Passes the request on, if it names only sites that the caller may see.
async fn serve(
    context: &AdminContext,
    caller: Caller,
    draft: &AuditDraft,
    request: Request,
    next: Next,
) -> Result<Response, AdminRequestError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.extract::<RawPathParams>().await;
    let path = path.or(Err(AdminRequestError::NotFound))?;
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let path = path.iter().map(|(name, value)| (Cow::from(name), Cow::from(value)));
    let named = path.chain(url::form_urlencoded::parse(query));
    let sites = named.filter(|(name, value)| name == "site" && !value.is_empty());
    let mut sites: Vec<String> = sites.map(|(_, value)| value.into_owned()).collect();
    let mut body = body;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let bytes = read_body(body, &context.settings).await?;
        if caller.via == CallerCredential::Session {
            check_content_type(&parts.method, &parts.headers, bytes.is_empty())?;
        }
        match serde_json::from_slice::<NamedParts>(&bytes) {
            Ok(named) => {
                named.add_to(draft);
                sites.extend(named.site);
                sites.extend(named.filter.and_then(|filter| filter.site));
            }
            Err(error) if !caller.sites.is_all() && !bytes.is_empty() => {
                return Err(AdminRequestError::Malformed(error.to_string()));
            }
            // The handler's own reader says what is wrong.
            Err(_) => {}
        }
        body = Body::from(bytes);
    }
    if let Some(site) = sites.first() {
        draft.set_site(site);
    }
    if !sites.iter().all(|site| caller.may_see(site)) {
        return Err(AdminRequestError::NotFound);
    }
    parts.extensions.insert(CallerScope(caller.sites.clone()));
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// The names in a body: of sites, for the check, and of things, for the audit log.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedParts {
    site: Option<String>,
    destination: Option<String>,
    segment: Option<String>,
    filter: Option<NamedFilter>,
}

/// The site of a body's filter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedFilter {
    site: Option<String>,
}

impl NamedParts {
    fn add_to(&self, draft: &AuditDraft) {
        let names = [&self.segment, &self.destination].into_iter().flatten();
        let names: Vec<&str> = names.map(String::as_str).collect();
        if !names.is_empty() {
            draft.set_object(names.join(" "));
        }
    }
}

/// Removes `reveal` from the query: handlers reject parameters that they do not know. Returns its value.
fn take_reveal(uri: &mut Uri) -> Result<bool, AdminRequestError> {
    let Some(query) = uri.query().filter(|query| query.contains("reveal")) else {
        return Ok(false);
    };
    let (mut reveals, mut rest) = (false, url::form_urlencoded::Serializer::new(String::new()));
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            ("reveal", "true") => reveals = true,
            ("reveal", "false" | "") => {}
            ("reveal", _) => {
                let detail = "reveal must be true or false".to_owned();
                return Err(AdminRequestError::InvalidField { field: "reveal".to_owned(), detail });
            }
            _ => {
                rest.append_pair(&name, &value);
            }
        }
    }
    let target = format!("{}?{}", uri.path(), rest.finish());
    *uri = target.parse().or(Err(AdminRequestError::NotFound))?;
    Ok(reveals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, personal: bool) -> Caller {
        Caller {
            name: "ana".into(),
            role,
            personal,
            sites: SiteScope::all(),
            via: CallerCredential::Session,
            shows_personal: false,
            session: None,
        }
    }

    fn admit(
        access: RouteAccess,
        caller: &mut Caller,
        reveals: bool,
    ) -> Result<(), AdminRequestError> {
        access.admit(caller, reveals, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn admit_requires_the_role_and_the_right() {
        let edit = RouteAccess::write(Role::Editor, "dead.retry");
        let mut viewer = caller(Role::Viewer, true);
        assert!(matches!(
            admit(edit, &mut viewer, false),
            Err(AdminRequestError::Role(Role::Editor))
        ));
        assert!(admit(edit, &mut caller(Role::Editor, false), false).is_ok());
        let personal = edit.needs_personal();
        let mut masked = caller(Role::Admin, false);
        assert!(matches!(admit(personal, &mut masked, false), Err(AdminRequestError::Personal)));
        assert!(admit(personal, &mut caller(Role::Admin, true), false).is_ok());
    }

    #[test]
    fn admit_shows_personal_data_to_callers_with_the_right() {
        let read = RouteAccess::read(Role::Viewer).masks_personal();
        let mut without = caller(Role::Viewer, false);
        assert!(admit(read, &mut without, false).is_ok() && !without.shows_personal);
        assert!(matches!(admit(read, &mut without, true), Err(AdminRequestError::Personal)));
        let mut with = caller(Role::Viewer, true);
        assert!(admit(read, &mut with, true).is_ok() && with.shows_personal);
    }

    #[test]
    fn take_reveal_removes_the_parameter_only() {
        let taken = |target: &str| {
            let mut uri: Uri = target.parse().unwrap();
            (take_reveal(&mut uri).ok(), uri.to_string())
        };
        assert_eq!(taken("/a?x=1&reveal=true&y=%26"), (Some(true), "/a?x=1&y=%26".to_owned()));
        assert_eq!(taken("/a?x=reveal"), (Some(false), "/a?x=reveal".to_owned()));
        assert_eq!(taken("/a?reveal=false").0, Some(false));
        assert_eq!(taken("/a?reveal=yes").0, None);
        assert_eq!(taken("/a"), (Some(false), "/a".to_owned()));
    }
}

//! The files of the console, which are part of the program: its page at `/`, and what that loads.
//!
//! Every file but the page has a hash of its content in its name, so that browsers keep it for good.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY,
};
use hyper::{HeaderMap, Method};

use super::AdminRequestError;
use super::router::SharedApi;
use tagway_pages::script::{BrowserCaching, ServedScript};

/// Names, types and contents.
const FILES: &[(&str, &str, &[u8])] = include!("../../static/admin/dist/files.rs");

/// The name of the page.
const PAGE: &str = "index.html";

/// The policy of the page: nothing but its own files, and no text becomes code or markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A file of the console.
struct ConsoleFile {
    name: &'static str,
    media_type: &'static str,
    file: ServedScript,
}

/// The files, compressed at the first request for one: a second of work that a start without a console does not do.
static SERVED: LazyLock<Vec<ConsoleFile>> = LazyLock::new(|| {
    let served = |(name, media_type, content): &(&'static str, &'static str, &[u8])| {
        let file = ServedScript::new(String::from_utf8_lossy(content).into_owned());
        ConsoleFile { name, media_type, file }
    };
    FILES.iter().map(served).collect()
});

/// A response that has no secrets and keeps its own caching.
#[derive(Clone, Copy)]
pub(super) struct PublicFile;

/// Answers `GET /`: the console for browsers, the list of routes for others.
pub(super) async fn get_root(
    State(api): State<SharedApi>,
    request: Request,
) -> Result<Response, AdminRequestError> {
    if wants_page(request.headers()) {
        return serve(PAGE.to_owned(), request.method(), request.headers()).await;
    }
    Ok(api.index.clone().into_response())
}

/// Answers with a file of the console.
pub(super) async fn get_file(
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, AdminRequestError> {
    serve(name, request.method(), request.headers()).await
}

/// Returns true for a browser that opens a page.
fn wants_page(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/html"))
}

async fn serve(
    name: String,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, AdminRequestError> {
    if !FILES.iter().any(|(known, ..)| *known == name) {
        return Err(AdminRequestError::NotFound);
    }
    // The first request compresses the files.
    let prepared = tokio::task::spawn_blocking(|| LazyLock::force(&SERVED)).await;
    let files = prepared.or(Err(AdminRequestError::NotFound))?;
    let found = files.iter().find(|file| file.name == name).ok_or(AdminRequestError::NotFound)?;
    let caching = if name == PAGE { BrowserCaching::Never } else { BrowserCaching::Immutable };
    let mut response = found.file.answer(method, headers, caching).map(Body::new);
    response.extensions_mut().insert(PublicFile);
    let mut insert = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    insert(RESOURCE_POLICY, "same-origin");
    insert(CONTENT_TYPE, found.media_type);
    if name == PAGE {
        // Revalidated at each visit: it names the files of this release.
        insert(CACHE_CONTROL, "no-cache");
        insert(CONTENT_SECURITY_POLICY, POLICY);
        insert(OPENER_POLICY, "same-origin");
        insert(REFERRER_POLICY, "no-referrer");
    }
    Ok(response)
}

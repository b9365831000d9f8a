//! `/{mount}/...`: a vendor's own scripts, or their shim, from the site's host.

use bytes::Bytes;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::gateway::mounts::ActiveMount;
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, head};
use tagway_core::metrics::ScriptRequestLabels;
use tagway_pages::script::proxy::{ScriptMount, ScriptRequest};

pub(in crate::gateway) async fn answer(
    arrived: &SiteRequest<'_>,
    mount: usize,
) -> Result<Response<Full<Bytes>>, RequestRejection> {
    let mounted = arrived.site.mounts.get(mount).ok_or(RequestRejection::UnknownRoute)?;
    match &mounted.script_mount {
        Some(place) => proxied(arrived, mounted, place).await,
        None => shim(arrived, mounted.mount.vendor).await,
    }
}

/// Serves the gateway's script with the vendor's shim: the same under all paths.
async fn shim(
    arrived: &SiteRequest<'_>,
    vendor: &'static str,
) -> Result<Response<Full<Bytes>>, RequestRejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let (sdk, head) = (&arrived.site.sdk, arrived.head);
    let file = sdk.shim(vendor).await.ok_or(RequestRejection::UnknownRoute)?;
    let mut answer = file.answer(&head.method, &head.headers, sdk.caching);
    // Snippets may load it with `crossorigin`, from pages of any origin.
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let result = match answer.status() {
        StatusCode::NOT_MODIFIED => "unchanged",
        _ => "shim",
    };
    let labels = ScriptRequestLabels { vendor, result };
    arrived.gateway.metrics.script_requests.get_or_create(&labels).inc();
    Ok(answer)
}

/// Serves one of the vendor's own scripts.
async fn proxied(
    arrived: &SiteRequest<'_>,
    mounted: &ActiveMount,
    place: &ScriptMount,
) -> Result<Response<Full<Bytes>>, RequestRejection> {
    arrived.limit()?;
    let (uri, fields) = (&arrived.head.uri, &arrived.head.headers);
    let authority = head::authority(uri, fields);
    let mount = place.at(authority, arrived.client.secure).ok_or(RequestRejection::UnknownHost)?;
    let asked = ScriptRequest {
        script_mount: place,
        path: mounted.mount.below(uri.path()).ok_or(RequestRejection::UnknownRoute)?,
        query: uri.query(),
        mount: &mount,
        method: &arrived.head.method,
        fields,
    };
    Ok(arrived.gateway.scripts.answer(asked).await)
}

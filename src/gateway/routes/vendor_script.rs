//! `/{mount}/...`: a vendor's own scripts, or what stands in for them, from the site's host.

use bytes::Bytes;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::gateway::mounts::{Mount, Scripts, Serving};
use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, head};
use crate::metrics::ScriptLabels;
use crate::script::proxy::Asked;

pub(in crate::gateway) async fn answer(
    arrived: &Arrived<'_>,
    mount: usize,
) -> Result<Response<Full<Bytes>>, Rejection> {
    let mount = arrived.site.mounts.get(mount).map(|mounted| &mounted.mount);
    let (mount, scripts) = mount
        .and_then(|it| it.scripts.as_ref().map(|own| (it, own)))
        .ok_or(Rejection::UnknownRoute)?;
    match scripts.serving {
        Serving::Shim => shim(arrived, mount.vendor).await,
        Serving::Proxy => proxied(arrived, mount, scripts).await,
    }
}

/// The gateway's script with the vendor's shim: the same under all paths.
async fn shim(
    arrived: &Arrived<'_>,
    vendor: &'static str,
) -> Result<Response<Full<Bytes>>, Rejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let (sdk, head) = (&arrived.site.sdk, arrived.head);
    let file = sdk.shim(vendor).await.ok_or(Rejection::UnknownRoute)?;
    let mut answer = file.answer(&head.method, &head.headers, sdk.caching);
    // Snippets may load it with `crossorigin`, from pages of any origin.
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let result = match answer.status() {
        StatusCode::NOT_MODIFIED => "unchanged",
        _ => "shim",
    };
    let labels = ScriptLabels { vendor, result };
    arrived.gateway.metrics.script_requests.get_or_create(&labels).inc();
    Ok(answer)
}

/// One of the vendor's own.
async fn proxied(
    arrived: &Arrived<'_>,
    mount: &Mount,
    scripts: &Scripts,
) -> Result<Response<Full<Bytes>>, Rejection> {
    arrived.limit()?;
    let uri = &arrived.head.uri;
    let authority = head::authority(uri, &arrived.head.headers);
    // It is written into the script.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if authority.len() > 300 || !authority.bytes().all(plain) {
        return Err(Rejection::UnknownHost);
    }
    let scheme = if arrived.client.secure { "https" } else { "http" };
    let path = mount.below(uri.path()).ok_or(Rejection::UnknownRoute)?;
    let mounted_at = format!("{scheme}://{}{}", authority.to_ascii_lowercase(), mount.path);
    let asked = Asked {
        vendor: mount.vendor,
        script: scripts.script,
        endpoint: scripts.endpoint.as_ref(),
        path,
        query: uri.query(),
        mount: &mounted_at,
        method: &arrived.head.method,
        fields: &arrived.head.headers,
    };
    Ok(arrived.gateway.scripts.answer(asked).await)
}

//! `/{mount}/...`: a vendor's own scripts, from the site's host.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, head};
use crate::script::proxy::Asked;

pub(in crate::gateway) async fn answer(
    arrived: &Arrived<'_>,
    mount: usize,
) -> Response<Full<Bytes>> {
    if let Err(limited) = arrived.limit() {
        return limited.into_response();
    }
    let mount = arrived.site.mounts.get(mount).map(|mounted| &mounted.mount);
    let Some((mount, scripts)) = mount.and_then(|it| it.scripts.as_ref().map(|own| (it, own)))
    else {
        return Rejection::UnknownRoute.into_response();
    };
    let uri = &arrived.head.uri;
    let authority = head::authority(uri, &arrived.head.headers);
    // It is written into the script.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if authority.len() > 300 || !authority.bytes().all(plain) {
        return Rejection::UnknownHost.into_response();
    }
    let scheme = if arrived.client.secure { "https" } else { "http" };
    let Some(path) = mount.below(uri.path()) else {
        return Rejection::UnknownRoute.into_response();
    };
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
    arrived.gateway.scripts.answer(asked).await
}

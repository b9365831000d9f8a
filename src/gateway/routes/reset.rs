//! `POST /reset`: whoever uses the browser from now on is somebody else, after a logout or on a shared
//! device. The identity in the cookie is replaced by a new one; what it was known for stays with it.

use http::Response;
use uuid::Uuid;

use crate::answer::ResponseBody;
use crate::gateway::answer::{self, AcceptOutcome};
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, head};
use crate::visitor::{self, StoragePermissions, VisitorRequest};

pub(in crate::gateway) fn answer(
    arrived: &SiteRequest<'_>,
) -> Result<Response<ResponseBody>, RequestRejection> {
    arrived.limit()?;
    if arrived.is_cross_site() {
        // Another site's page may not log anybody out; it is told nothing of that.
        return Ok(answer::quiet(AcceptOutcome::default()));
    }
    let referer = head::referer(&arrived.head.headers);
    let cookies = head::cookies(&arrived.head.headers);
    let seen = VisitorRequest {
        cookies: &cookies,
        host: arrived.host,
        secure: arrived.client.secure,
        landing: referer.as_deref(),
        leave: StoragePermissions { ads: false, ..arrived.storage_permissions(&[]) },
        now: arrived.received_at,
        random: Uuid::new_v4().into_bytes(),
    };
    let names = &arrived.snapshot.vendor_cookies;
    let mut set_cookies = visitor::renew(&arrived.site.visitor, names, &seen);
    if !set_cookies.is_empty() {
        // By these a vendor would know the last visitor again.
        let kept = arrived.site.minting.iter().flat_map(|minting| minting.cookies);
        let kept = kept.filter(|name| cookies.contains(&format!("{name}=")));
        set_cookies
            .extend(kept.filter_map(|name| visitor::expire(&arrived.site.visitor, &seen, name)));
    }
    Ok(answer::quiet(AcceptOutcome { set_cookies, ..AcceptOutcome::default() }))
}

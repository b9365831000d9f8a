//! `POST /reset`: gives the browser a new visitor identity, after a logout or on a shared device. A new identity
//! replaces the one in the cookie, whose profile stays.

use http::Response;
use uuid::Uuid;

use crate::gateway::answer::{self, AcceptOutcome};
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, head};
use tagway_core::answer::ResponseBody;
use tagway_core::visitor::{self, StoragePermissions, VisitorRequest};

pub(in crate::gateway) fn answer(
    arrived: &SiteRequest<'_>,
) -> Result<Response<ResponseBody>, RequestRejection> {
    arrived.limit()?;
    if arrived.is_cross_site() {
        // Another site's page must not log a visitor out; the response does not show that it had no effect.
        return Ok(answer::quiet(AcceptOutcome::default()));
    }
    let referer = head::referer(&arrived.head.headers);
    let cookies = head::cookies(&arrived.head.headers);
    let visitor_request = VisitorRequest {
        cookies: &cookies,
        host: arrived.host,
        secure: arrived.client.secure,
        page_url: referer.as_deref(),
        permissions: StoragePermissions { click_ids: false, ..arrived.storage_permissions(&[]) },
        now: arrived.received_at,
        random: Uuid::new_v4().into_bytes(),
    };
    let names = &arrived.snapshot.vendor_cookies;
    let mut set_cookies = visitor::renew(&arrived.site.visitor, names, &visitor_request);
    if !set_cookies.is_empty() {
        // These cookies would let a vendor recognise the last visitor.
        let cookie_names = arrived.site.cookie_issuers.iter().flat_map(|minting| minting.cookies);
        let cookie_names = cookie_names.filter(|name| cookies.contains(&format!("{name}=")));
        set_cookies.extend(
            cookie_names
                .filter_map(|name| visitor::expire(&arrived.site.visitor, &visitor_request, name)),
        );
    }
    Ok(answer::quiet(AcceptOutcome { set_cookies, ..AcceptOutcome::default() }))
}

//! `POST /reset`: whoever uses the browser from now on is somebody else, after a logout or on a shared
//! device. The identity in the cookie is replaced by a new one; what it was known for stays with it.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use uuid::Uuid;

use crate::gateway::answer::{self, Taken};
use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, head};
use crate::visitor::{self, Leave, Seen};

pub(in crate::gateway) fn answer(
    arrived: &Arrived<'_>,
) -> Result<Response<Full<Bytes>>, Rejection> {
    arrived.limit()?;
    let referer = head::referer(&arrived.head.headers);
    let seen = Seen {
        // As if it had none.
        cookies: "",
        host: arrived.host,
        secure: arrived.client.secure,
        landing: referer.as_deref(),
        leave: Leave { cookies: true, ads: false },
        now: arrived.received_at,
        random: Uuid::new_v4().into_bytes(),
    };
    let names = &arrived.snapshot.vendor_cookies;
    let set_cookies = visitor::recognise(&arrived.site.visitor, names, &seen).set_cookies;
    Ok(answer::quiet(Taken { set_cookies, ..Taken::default() }))
}

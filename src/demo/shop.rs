//! The demo shop: a few static files under a strict content security policy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::server::{Answer, Reply, Server, whole};

const INDEX: &str = include_str!("../../static/demo/index.html");

/// Path, type and content of every file but the page itself.
const FILES: &[(&str, &str, &str)] = &[
    ("/shop.css", "text/css; charset=utf-8", include_str!("../../static/demo/shop.css")),
    ("/shop.js", "text/javascript; charset=utf-8", include_str!("../../static/demo/shop.js")),
    ("/track.js", "text/javascript; charset=utf-8", include_str!("../../static/demo/track.js")),
];

/// A shop that is open until dropped.
pub struct Shop(Server);

impl Shop {
    /// Serves the shop at `address`, whose page sends its events to the gateway's port on the host
    /// that it was opened from.
    pub async fn open(address: SocketAddr, gateway_port: u16) -> io::Result<Self> {
        let index = INDEX.replace("{{gateway_port}}", &gateway_port.to_string());
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
             connect-src http://127.0.0.1:{gateway_port} http://localhost:{gateway_port}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Server::start(address, Arc::new(Files { index, policy })).await.map(Self)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

struct Files {
    index: String,
    policy: String,
}

impl Answer for Files {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Option<Reply> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refused = Response::builder().status(StatusCode::METHOD_NOT_ALLOWED);
            return refused.header(ALLOW, "GET, HEAD").body(whole("")).ok();
        }
        let path = request.uri().path();
        let file = FILES.iter().find(|(name, _, _)| *name == path);
        let (status, kind, content) = match file {
            Some((_, kind, content)) => (StatusCode::OK, *kind, (*content).to_owned()),
            None if path == "/" => (StatusCode::OK, "text/html; charset=utf-8", self.index.clone()),
            None => (StatusCode::NOT_FOUND, "text/plain", "There is no such page.\n".to_owned()),
        };
        let fields: [(HeaderName, &str); 5] = [
            (CONTENT_TYPE, kind),
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, &self.policy),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "strict-origin-when-cross-origin"),
        ];
        let reply = Response::builder().status(status);
        let reply =
            fields.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value));
        reply.body(whole(content)).ok()
    }
}

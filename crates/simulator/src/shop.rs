//! The demo shop: a few static files under a strict content security policy, with the gateway's snippet
//! and script in its page as in a customer's.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::server::{DemoHandler, DemoReply, DemoServer, whole};
use tagway_pages::script::compose::snippet;

const INDEX: &str = include_str!("../../../static/demo/index.html");

/// Path, type and content of every file but the page itself.
const FILES: &[(&str, &str, &str)] = &[
    ("/shop.css", "text/css; charset=utf-8", include_str!("../../../static/demo/shop.css")),
    ("/shop.js", "text/javascript; charset=utf-8", include_str!("../../../static/demo/shop.js")),
];

/// A shop that is served until dropped.
pub struct DemoShop(DemoServer);

impl DemoShop {
    /// Serves the shop at `address`. Its page sends its events to the gateway's port on the host
    /// from which the page was opened.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound.
    pub async fn open(address: SocketAddr, gateway_port: u16) -> io::Result<Self> {
        DemoServer::start(address, Arc::new(ShopFiles { gateway_port })).await.map(Self)
    }

    /// The address of the shop.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

struct ShopFiles {
    gateway_port: u16,
}

impl ShopFiles {
    /// The gateway on the host from which the page was opened: on any other, its cookies would be
    /// third-party.
    fn gateway(&self, request: &Request<Incoming>) -> String {
        let asked = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        format!("http://{}:{}", asked.and_then(host_name).unwrap_or("127.0.0.1"), self.gateway_port)
    }
}

/// The name or address in a `Host` field, without its port. `None` if it is neither: it becomes part of
/// the page and of the page's policy.
fn host_name(field: &str) -> Option<&str> {
    let (name, port) = match field.rsplit_once(':') {
        Some((name, port)) if !field.ends_with(']') => (name, port),
        _ => (field, ""),
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_name = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            !name.is_empty() && name.bytes().all(is_plain)
        }
    };
    (is_name && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

impl DemoHandler for ShopFiles {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Option<DemoReply> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refused = Response::builder().status(StatusCode::METHOD_NOT_ALLOWED);
            return refused.header(ALLOW, "GET, HEAD").body(whole("")).ok();
        }
        let gateway = self.gateway(&request);
        let snippet = snippet(&format!("{gateway}/tw.js"));
        // The snippet is inline: the policy allows it by its digest.
        let digest = STANDARD.encode(Sha256::digest(&snippet));
        let policy = format!(
            "default-src 'none'; script-src 'self' 'sha256-{digest}' {gateway}; style-src 'self'; \
             img-src data:; connect-src {gateway}; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        let path = request.uri().path();
        let file = FILES.iter().find(|(name, _, _)| *name == path);
        let (status, kind, content) = match file {
            Some((_, kind, content)) => (StatusCode::OK, *kind, (*content).to_owned()),
            None if path == "/" => {
                (StatusCode::OK, "text/html; charset=utf-8", INDEX.replace("{{snippet}}", &snippet))
            }
            None => (StatusCode::NOT_FOUND, "text/plain", "There is no such page.\n".to_owned()),
        };
        let fields: [(HeaderName, &str); 5] = [
            (CONTENT_TYPE, kind),
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, &policy),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "strict-origin-when-cross-origin"),
        ];
        let reply = Response::builder().status(status);
        let reply =
            fields.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value));
        reply.body(whole(content)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_is_on_the_host_of_the_page() {
        for (field, name) in [
            ("localhost:8000", Some("localhost")),
            ("demo.box.example", Some("demo.box.example")),
            ("10.0.0.7:8000", Some("10.0.0.7")),
            ("[fd00::7]:8000", Some("[fd00::7]")),
            ("[fd00::7]", Some("[fd00::7]")),
            ("", None),
            ("evil\"><script>:80", None),
            ("a; script-src *", None),
            ("[evil]:80", None),
            ("a:b", None),
        ] {
            assert_eq!(host_name(field), name, "{field}");
        }
    }
}

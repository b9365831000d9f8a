//! The demo shop: a few static files under a strict content security policy, with the gateway's snippet
//! and script in its page as in a customer's. `/outcomes` streams what became of each event, and `/console` opens
//! the gateway's console.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast::error::RecvError;

use super::server::{DemoHandler, DemoReply, DemoServer, whole};
use tagway_core::feed::{FeedEvent, LiveFeed};
use tagway_pages::script::compose::snippet;

const INDEX: &str = include_str!("../../../static/demo/index.html");

/// Path, type and content of every file but the page itself.
const FILES: &[(&str, &str, &str)] = &[
    ("/shop.css", "text/css; charset=utf-8", include_str!("../../../static/demo/shop.css")),
    ("/shop.js", "text/javascript; charset=utf-8", include_str!("../../../static/demo/shop.js")),
];

/// The longest reply of a vendor that the page shows, in characters.
const REPLY_CHARS: usize = 300;

/// The gateway of a shop.
pub struct DemoGateway {
    /// The gateway's port, on the host from which the page was opened.
    pub port: u16,
    /// The happenings to the shop's events.
    pub feed: LiveFeed,
    /// The address of the console, with a slash at its end.
    pub console: String,
    /// Makes an address that opens the console.
    pub console_link: DemoConsoleLink,
}

/// Makes an address that opens the console: one that logs in, where only this machine can ask for it.
pub type DemoConsoleLink = Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

/// A shop that is served until dropped.
pub struct DemoShop(DemoServer);

impl DemoShop {
    /// Serves the shop at `address`. Its page sends its events to this gateway.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound.
    pub async fn open(address: SocketAddr, gateway: DemoGateway) -> io::Result<Self> {
        DemoServer::start(address, Arc::new(ShopFiles { gateway })).await.map(Self)
    }

    /// The address of the shop.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

struct ShopFiles {
    gateway: DemoGateway,
}

impl ShopFiles {
    /// The gateway on the host from which the page was opened: on any other, its cookies would be
    /// third-party.
    fn gateway(&self, request: &Request<Incoming>) -> String {
        let asked = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        format!("http://{}:{}", asked.and_then(host_name).unwrap_or("127.0.0.1"), self.gateway.port)
    }
}

/// Returns true for a browser on this machine that follows a link of the shop or its own address bar: nobody behind a
/// proxy, and no page of another site.
fn is_local_visit<B>(request: &Request<B>) -> bool {
    let field = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = field("host").and_then(host_name).unwrap_or_default();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_loopback = literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_direct = ["forwarded", "x-forwarded-for", "x-forwarded-host"]
        .iter()
        .all(|name| field(name).is_none());
    let is_own = field("sec-fetch-site").is_none_or(|it| matches!(it, "none" | "same-origin"));
    is_direct && is_own && (is_loopback || host.eq_ignore_ascii_case("localhost"))
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
        match request.uri().path() {
            "/outcomes" => return outcomes(&self.gateway.feed),
            "/console" => {
                let link = match is_local_visit(&request) {
                    true => (self.gateway.console_link)().await,
                    false => self.gateway.console.clone(),
                };
                let found = Response::builder().status(StatusCode::FOUND).header(LOCATION, link);
                return found.header(CACHE_CONTROL, "no-store").body(whole("")).ok();
            }
            _ => {}
        }
        let gateway = self.gateway(&request);
        let snippet = snippet(&format!("{gateway}/tw.js"));
        // The snippet is inline: the policy allows it by its digest.
        let digest = STANDARD.encode(Sha256::digest(&snippet));
        let policy = format!(
            "default-src 'none'; script-src 'self' 'sha256-{digest}' {gateway}; style-src 'self'; \
             img-src data:; connect-src 'self' {gateway}; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        let path = request.uri().path();
        let file = FILES.iter().find(|(name, _, _)| *name == path);
        let (status, kind, content) = match file {
            Some((_, kind, content)) => (StatusCode::OK, *kind, (*content).to_owned()),
            None if path == "/" => {
                let page = INDEX.replace("{{snippet}}", &snippet);
                let page = page.replace("{{console}}", &self.gateway.console);
                (StatusCode::OK, "text/html; charset=utf-8", page)
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

/// The stream of outcomes, as server-sent events.
fn outcomes(feed: &LiveFeed) -> Option<DemoReply> {
    let body = UnsyncBoxBody::new(StreamBody::new(outcome_lines(feed)));
    let reply = Response::builder().header(CONTENT_TYPE, "text/event-stream");
    reply.header(CACHE_CONTROL, "no-store").body(body).ok()
}

fn outcome_lines(
    feed: &LiveFeed,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> + use<> + Send + 'static {
    // The first line tells the page that it is connected.
    let watcher = (feed.watch(), Some(": connected\n\n".to_owned()));
    stream::unfold(watcher, |(mut happenings, mut greeting)| async move {
        loop {
            let line = match greeting.take() {
                Some(greeting) => Some(greeting),
                None => match happenings.recv().await {
                    Ok(happening) => outcome(&happening).map(|it| format!("data: {it}\n\n")),
                    Err(RecvError::Lagged(_)) => None,
                    Err(RecvError::Closed) => return None,
                },
            };
            if let Some(line) = line {
                return Some((Ok(Frame::data(line.into())), (happenings, None)));
            }
        }
    })
}

/// Returns the members of a happening that the page shows.
fn outcome(happening: &FeedEvent) -> Option<Value> {
    match happening {
        FeedEvent::Settled { site, destination, seq, subject, outcome, reason, detail, .. } => {
            Some(json!({
                "site": site, "destination": destination, "seq": seq, "messageId": subject.message_id,
                "outcome": outcome, "reason": reason, "detail": detail,
            }))
        }
        FeedEvent::Called { site, destination, seqs, status, reply, .. } => {
            let reply: String = reply.chars().take(REPLY_CHARS).collect();
            Some(json!({ "site": site, "destination": destination, "seqs": seqs,
                "status": status, "reply": reply }))
        }
        FeedEvent::Accepted { .. } | FeedEvent::Held { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outcomes_of_events_are_streamed_to_the_page() {
        let feed = LiveFeed::default();
        let mut lines = Box::pin(outcome_lines(&feed));
        async fn next(
            lines: &mut (impl Stream<Item = io::Result<Frame<Bytes>>> + Unpin),
        ) -> String {
            let frame = stream::StreamExt::next(lines).await.unwrap().unwrap();
            String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
        }
        assert_eq!(next(&mut lines).await, ": connected\n\n");
        feed.publish("shop", &[7], || FeedEvent::Called {
            at: jiff::Timestamp::UNIX_EPOCH,
            site: "shop".into(),
            destination: "ga4".into(),
            seqs: vec![7],
            request: "POST /secret".to_owned(),
            body: "{}".to_owned(),
            status: Some(400),
            reply: "no".repeat(500),
            milliseconds: 3,
        });
        let line = next(&mut lines).await;
        let told: Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&told["status"], &told["seqs"]), (&json!(400), &json!([7])));
        assert_eq!(told["reply"].as_str().unwrap().len(), REPLY_CHARS);
        assert!(!line.contains("secret"));
    }

    #[test]
    fn console_link_is_for_this_machine_only() {
        let local = |fields: &[(&str, &str)]| {
            let request = fields
                .iter()
                .fold(Request::builder(), |it, (name, value)| it.header(*name, *value));
            is_local_visit(&request.body(()).unwrap())
        };
        assert!(local(&[("host", "127.0.0.1:8000")]) && local(&[("host", "localhost:8000")]));
        assert!(local(&[("host", "[::1]:8000"), ("sec-fetch-site", "same-origin")]));
        for fields in [
            [("host", "shop.example"), ("accept", "*/*")],
            [("host", "localhost:8000"), ("sec-fetch-site", "cross-site")],
            [("host", "127.0.0.1:8000"), ("x-forwarded-for", "10.0.0.1")],
        ] {
            assert!(!local(&fields), "{fields:?}");
        }
    }

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

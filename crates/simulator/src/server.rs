//! A minimal HTTP/1.1 server for the shop and the simulators: only for local clients, so without the
//! edge's limits.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A reply. An error from the body cuts the connection at that point.
pub(super) type DemoReply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Answers one request; `None` cuts the connection without a reply.
pub(super) trait DemoHandler: Send + Sync + 'static {
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Option<DemoReply>> + Send;
}

/// A running server. Dropping it ends it and its connections.
pub(super) struct DemoServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl DemoServer {
    /// Binds and serves; port 0 takes a free port.
    pub(super) async fn start(
        address: SocketAddr,
        answer: Arc<impl DemoHandler>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, answer));
        Ok(Self { address, _tasks: tasks })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, answer: Arc<impl DemoHandler>) {
    let mut conversations = JoinSet::new();
    loop {
        // A connection that failed before it was accepted affects no other.
        if let Ok((stream, _)) = listener.accept().await {
            conversations.spawn(converse(stream, answer.clone()));
        }
        while conversations.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, answer: Arc<impl DemoHandler>) {
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { answer.answer(request).await.ok_or(ConnectionCut) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // Disconnected clients and intended cuts end here.
    drop(http.half_close(true).serve_connection(TokioIo::new(stream), service).await);
}

/// The error that cuts the connection.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
struct ConnectionCut;

/// A body that cannot fail, typed like one that can.
pub(super) fn whole(bytes: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, io::Error> {
    let never = |never: Infallible| match never {};
    UnsyncBoxBody::new(http_body_util::BodyExt::map_err(
        http_body_util::Full::new(bytes.into()),
        never,
    ))
}

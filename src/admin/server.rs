//! The listener: accepts, bounds and drains connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::idle::{Held, Idle};
use super::{Context, reply, routes};

/// A request's head may be this long: tokens and queries are short.
const HEAD_BYTES: usize = 16 * 1024;

/// How long accepting pauses when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a caller who found the listener full looks for somebody idle.
const ROOM_EVERY: Duration = Duration::from_millis(50);

/// The bound listener.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `drain` is cancelled, then ends the watchers, finishes the answers under way
    /// within `admin.drain_time`, and returns.
    pub async fn serve(self, context: Context, drain: CancellationToken) {
        let limit = Arc::new(Semaphore::new(context.settings.connections));
        let drain_time = context.settings.drain_time;
        let context = Arc::new(context);
        let mut connections = JoinSet::new();
        let idle = Idle::default();
        loop {
            let stream = tokio::select! {
                () = drain.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                stream = self.accept() => stream,
            };
            // Beyond the limit one caller waits here, the others in the system's backlog.
            let slot = tokio::select! {
                () = drain.cancelled() => break,
                slot = find_room(&limit, &idle) => slot,
            };
            let (context, drain, idle) = (Arc::clone(&context), drain.clone(), idle.clone());
            connections.spawn(async move {
                serve_connection(stream, context, drain, &idle).await;
                drop(slot);
            });
        }
        drop(self.listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(drain_time, finished).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// The next connection. An accept error never ends the listener.
    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A place for a connection, of somebody idle if there is no other.
async fn find_room(limit: &Arc<Semaphore>, idle: &Idle) -> Option<OwnedSemaphorePermit> {
    loop {
        let slot = Arc::clone(limit).acquire_owned();
        match tokio::time::timeout(ROOM_EVERY, slot).await {
            Ok(slot) => return slot.ok(),
            Err(_) => idle.evict(),
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    context: Arc<Context>,
    drain: CancellationToken,
    idle: &Idle,
) {
    let evicted = CancellationToken::new();
    let seat = idle.seat(evicted.clone());
    let header_time = context.settings.header_time;
    let service = service_fn(|request: Request<Incoming>| {
        let (context, drain) = (Arc::clone(&context), drain.clone());
        let busy = seat.begin();
        async move {
            let is_head = request.method() == Method::HEAD;
            let answer = routes::answer(request, &context, drain).await;
            let answer = answer.unwrap_or_else(|error| {
                if let super::RequestError::Journal(error) = &error {
                    tracing::error!(
                        error = error as &dyn std::error::Error,
                        "an admin request failed"
                    );
                }
                reply::problem(&error)
            });
            let mut answer = reply::redacted(answer, &context.redaction).await;
            if is_head {
                *answer.body_mut() = Default::default();
            }
            Ok::<_, Infallible>(answer.map(|body| Held { body, _busy: busy }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a caller's connection ended is the caller's matter.
    tokio::select! {
        result = connection.as_mut() => drop(result),
        () = evicted.cancelled() => {}
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

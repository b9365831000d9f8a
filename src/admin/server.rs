//! The listener: accepts, limits and drains connections.
//!
//! Health and metrics are answered with any number of connections: if the listener is full, a new
//! connection replaces the one idle longest; if none is idle, it takes one of the reserve, which serves
//! nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::AdminContext;
use super::idle_connections::{AdminConnection, BusyResponseBody, IdleConnections};
use super::request_source::AdminPeer;
use super::router::AdminRouters;

/// The longest head of a request: tokens and queries are short.
const HEAD_BYTES: usize = 16 * 1024;

/// The pause of accepting when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound listener.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminServer {
    /// Binds the address; port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// Fails if the address is in use or not of this machine.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `drain` is cancelled, then ends the watchers, finishes the responses under way
    /// within `admin.drain_time`, and returns.
    pub async fn serve(self, context: AdminContext, drain: CancellationToken) {
        let room = AdminConnectionSlots::new(context.settings.connections);
        let reserve = AdminConnectionSlots::new(context.settings.reserve);
        let (header_time, drain_time) = (context.settings.header_time, context.settings.drain_time);
        let routers = AdminRouters::new(context, drain.clone());
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                () = drain.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            let (slot, idle, purpose) = tokio::select! {
                () = drain.cancelled() => break,
                place = acquire_connection_slot(&room, &reserve) => place,
            };
            // Idle from now on, even before its task first runs.
            let evicted = CancellationToken::new();
            let seat = idle.add_connection(evicted.clone());
            let ends = (drain.clone(), evicted);
            let (router, mut http) = (purpose.router(&routers), http1::Builder::new());
            http.timer(TokioTimer::new()).header_read_timeout(header_time).max_buf_size(HEAD_BYTES);
            http.keep_alive(purpose == AdminConnectionUse::Anything);
            connections.spawn(async move {
                serve_connection((stream, http), (router, peer), ends, seat).await;
                drop(slot);
            });
        }
        drop(self.listener);
        let finished = async {
            while connections.join_next().await.is_some() {}
            routers.acts.close();
            routers.acts.wait().await;
        };
        if tokio::time::timeout(drain_time, finished).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Accepts the next connection. An accept error never ends the listener.
    async fn accept(&self) -> (TcpStream, AdminPeer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    return (stream, AdminPeer { address: address.ip(), secure: false });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The requests that a connection may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminConnectionUse {
    Anything,
    /// One request for health or metrics.
    Health,
}

impl AdminConnectionUse {
    fn router(self, routers: &AdminRouters) -> Router {
        match self {
            Self::Anything => routers.complete.clone(),
            Self::Health => routers.health.clone(),
        }
    }
}

/// Slots for connections, and the idle ones among them.
struct AdminConnectionSlots {
    limit: Arc<Semaphore>,
    idle: IdleConnections,
}

impl AdminConnectionSlots {
    fn new(places: usize) -> Self {
        Self { limit: Arc::new(Semaphore::new(places)), idle: IdleConnections::default() }
    }

    /// Takes a slot, if need be that of the connection idle longest. `None` if all are busy.
    async fn acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.limit).try_acquire_owned();
        if free.is_err() && !self.idle.evict() {
            return None;
        }
        match free {
            Ok(slot) => Some(slot),
            // The evicted connection ends when its task next runs, and only this task takes slots.
            Err(_) => Arc::clone(&self.limit).acquire_owned().await.ok(),
        }
    }
}

/// Takes a slot for a connection, and returns its allowed use.
async fn acquire_connection_slot(
    room: &AdminConnectionSlots,
    reserve: &AdminConnectionSlots,
) -> (Option<OwnedSemaphorePermit>, IdleConnections, AdminConnectionUse) {
    if let Some(slot) = room.acquire_slot().await {
        return (Some(slot), room.idle.clone(), AdminConnectionUse::Anything);
    }
    loop {
        if let Some(slot) = reserve.acquire_slot().await {
            return (Some(slot), reserve.idle.clone(), AdminConnectionUse::Health);
        }
        // Responses of the reserve never wait: soon a connection is idle or gone.
        tokio::select! {
            slot = Arc::clone(&reserve.limit).acquire_owned() => {
                return (slot.ok(), reserve.idle.clone(), AdminConnectionUse::Health);
            }
            () = reserve.idle.wait_for_idle() => {}
        }
    }
}

async fn serve_connection(
    (stream, http): (TcpStream, http1::Builder),
    (router, peer): (Router, AdminPeer),
    (drain, evicted): (CancellationToken, CancellationToken),
    seat: Arc<AdminConnection>,
) {
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (busy, mut router) = (seat.begin(), router.clone());
        async move {
            let response = router.call(request).await?;
            Ok::<_, Infallible>(response.map(|body| BusyResponseBody { body, _busy: busy }))
        }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    // The end of a caller's connection is not an error here.
    tokio::select! {
        result = connection.as_mut() => drop(result),
        () = evicted.cancelled() => {}
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

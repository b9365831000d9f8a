//! The accept loop of the edge's listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::EdgeError;
use super::connection::{self, AcceptedConnection, EdgeContext};

/// Connections that wait to be accepted; the system caps it (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// The pause in accepting when the system has no more sockets: it doubles from the first to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerScheme {
    Http,
    Https,
}

/// The signals that end connections.
#[derive(Clone)]
pub(super) struct ShutdownSignals {
    /// Connections end after their active requests.
    pub(super) drain: CancellationToken,
    /// Connections end at once.
    pub(super) cut: CancellationToken,
    /// The tasks that the server waits for.
    pub(super) tasks: TaskTracker,
}

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, EdgeError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the old connections' TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| EdgeError::Bind { address, source })
}

/// Accepts connections until `drain`. An accept error never ends the loop.
pub(super) async fn accept(
    listener: TcpListener,
    scheme: ListenerScheme,
    shared: Arc<EdgeContext>,
    ends: ShutdownSignals,
) {
    let [shortest, longest] = PAUSES;
    let mut pause = shortest;
    loop {
        let accepted = tokio::select! {
            () = ends.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = shortest;
                admit(stream, peer, scheme, &shared, &ends);
            }
            Err(error) => {
                // One log line per burst: the pause grows while accepting fails.
                if pause == shortest {
                    tracing::error!(%error, "a connection could not be accepted");
                }
                shared.slots.refuse("accept_error");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    scheme: ListenerScheme,
    shared: &Arc<EdgeContext>,
    ends: &ShutdownSignals,
) {
    let live = shared.live.load_full();
    let peer = peer.ip().to_canonical();
    let Some(mut slot) = shared.slots.connection(&live.limits) else {
        return shared.slots.refuse("connections");
    };
    // A trusted proxy carries the connections of all its clients: they are not counted as its own.
    if !live.trusts(peer) && !slot.assign_client(peer, &live.limits) {
        return shared.slots.refuse("connections_per_client");
    }
    shared.slots.accept();
    // Responses are small and complete: waiting for more data would only delay them.
    stream.set_nodelay(true).ok();
    let (shared, owned) = (shared.clone(), ends.clone());
    let accepted = AcceptedConnection { stream, peer, scheme, slot };
    ends.tasks.spawn(async move { connection::serve(accepted, shared, live, &owned).await });
}

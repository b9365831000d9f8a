//! The tunnel of two connections after an upgrade.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

/// The buffer of each direction, in bytes.
const BUFFER: usize = 16 << 10;

/// Passes bytes both ways until one side ends, or both are silent for `silence` (up to twice that).
pub(super) async fn run(client: OnUpgrade, origin: OnUpgrade, silence: Duration) {
    let Ok((client, origin)) = futures_util::future::try_join(client, origin).await else { return };
    let active = Arc::new(AtomicBool::new(true));
    let mut client = TunnelStream { stream: TokioIo::new(client), active: active.clone() };
    let mut origin = TunnelStream { stream: TokioIo::new(origin), active: active.clone() };
    let silent = async {
        loop {
            tokio::time::sleep(silence).await;
            if !active.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        _ended = copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER, BUFFER) => {}
        () = silent => {}
    }
}

/// A stream that records the time of its reads.
struct TunnelStream<S> {
    stream: S,
    active: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for TunnelStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.active.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TunnelStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

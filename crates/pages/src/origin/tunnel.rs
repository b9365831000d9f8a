//! The tunnel of two connections after an upgrade.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio_util::io::InspectReader;

/// The buffer of each direction, in bytes.
const BUFFER: usize = 16 << 10;

/// Passes bytes both ways until one side ends, or both are silent for `silence` (up to twice that).
pub(super) async fn run(client: OnUpgrade, origin: OnUpgrade, silence: Duration) {
    let Ok((client, origin)) = futures_util::future::try_join(client, origin).await else { return };
    let active = AtomicBool::new(true);
    let record_read = |_bytes: &[u8]| active.store(true, Ordering::Relaxed);
    let mut client = InspectReader::new(TokioIo::new(client), record_read);
    let mut origin = InspectReader::new(TokioIo::new(origin), record_read);
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

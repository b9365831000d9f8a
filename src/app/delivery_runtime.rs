//! The runtime of delivery and projections, apart from the one of requests.

use anyhow::Context as _;
use tokio::runtime::{Handle, Runtime};

/// The runtime of delivery. Dropping it stops it in the background: a plain runtime would wait for its
/// threads, which asynchronous code must not, and a start that fails half way drops it in such code.
pub(super) struct DeliveryRuntime(Option<Runtime>);

impl DeliveryRuntime {
    /// Starts the runtime, and returns its handle as well.
    pub(super) fn start() -> anyhow::Result<(Self, Handle)> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("tagway-delivery")
            .enable_all()
            .build()
            .context("the delivery runtime")?;
        let handle = runtime.handle().clone();
        Ok((Self(Some(runtime)), handle))
    }

    /// Returns the handle, or the one of the current runtime after the end.
    pub(super) fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for DeliveryRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

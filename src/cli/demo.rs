//! `tagway demo`: a gateway, a demo shop and a local vendor in one process.

use clap::Args;

use super::Failure;
use crate::config::Origin;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Where the shop is served; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    shop: std::net::SocketAddr,
}

pub(super) fn run(_origin: Origin, options: Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    runtime.block_on(start(options.shop)).map_err(Failure::Other)
}

/// Runs the demo until it is told to stop.
async fn start(_shop: std::net::SocketAddr) -> anyhow::Result<()> {
    anyhow::bail!("this build has no demo")
}

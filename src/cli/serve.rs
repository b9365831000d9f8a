//! `tagway serve`: the gateway itself.

use super::{Failure, load};
use crate::config::{Origin, Settings};
use crate::log;

pub(super) fn run(origin: Origin) -> Result<(), Failure> {
    let settings = load(&origin)?;
    log::init(&settings.log).map_err(|error| Failure::Other(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    runtime.block_on(start(origin, settings)).map_err(Failure::Other)
}

/// Runs the gateway until it is told to stop.
async fn start(_origin: Origin, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("this build has no gateway")
}

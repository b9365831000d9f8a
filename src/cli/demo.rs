//! `tagway demo`: a gateway, a demo shop and local vendors in one process, with every event shown on the
//! screen.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::sync::broadcast::error::RecvError;

use super::serve::{block_on_all_cores, stop_signal};
use super::{CommandError, colours, print, render};
use crate::app::TagwayApp;
use crate::config::{self, ConfigSource};
use crate::log;
use tagway_console::account::ConsoleAccounts;
use tagway_core::clock::{SharedClock, SystemClock};
use tagway_core::feed::FeedWatcher;
use tagway_settings::{ConfigEnvironment, SecretRedactor};
use tagway_simulator::vendors::VendorSimulator;
use tagway_simulator::{DemoConsoleLink, DemoEndpoints, DemoGateway, DemoShop};

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// The shop's address; port 0 takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    shop: SocketAddr,
    /// The address at which the gateway accepts the shop's events.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// The address of the gateway's admin listener: metrics, health and API.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// The folder of the gateway's data.
    #[arg(long, value_name = "FOLDER", default_value = "data/demo")]
    data: PathBuf,
}

pub(super) fn run(options: DemoArgs, origin: ConfigSource) -> Result<(), CommandError> {
    let colour = colours(&origin, &std::io::stdout());
    let log_colour = colours(&origin, &std::io::stderr());
    block_on_all_cores(demonstrate(options, origin.redaction, (colour, log_colour)))
}

async fn demonstrate(
    options: DemoArgs,
    redaction: SecretRedactor,
    (colour, log_colour): (bool, bool),
) -> Result<(), CommandError> {
    let stop = stop_signal().map_err(CommandError::Other)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut simulators = Vec::new();
    for (name, kind) in tagway_simulator::VENDORS {
        let simulator = VendorSimulator::start(kind, anywhere, clock.clone()).await;
        simulators.push((name, simulator.context("a simulated vendor")?));
    }
    let vendors: Vec<_> =
        simulators.iter().map(|(name, simulator)| (*name, simulator.address())).collect();
    // The gateway needs the shop's address, and the shop's page the gateway's.
    let [http, shop] = reserve([options.http, options.shop])?;
    let settings = tagway_simulator::settings(&DemoEndpoints {
        data_dir: &options.data,
        http,
        admin: options.admin,
        shop,
        vendors: &vendors,
    });
    let environment = ConfigEnvironment { redaction, ..ConfigEnvironment::default() };
    let settings = config::load(&[settings], &environment).map_err(CommandError::Config)?;
    log::init(&settings.log, settings.redaction.clone(), log_colour)
        .map_err(|error| CommandError::Other(error.into()))?;
    let app = TagwayApp::start(ConfigSource::default(), settings).await?;
    let console = format!("http://{}/", app.addresses().admin);
    let gateway = DemoGateway {
        port: http.port(),
        feed: app.feed().clone(),
        console_link: console_link(shop, console.clone(), app.console_accounts()),
        console,
    };
    let _open = DemoShop::open(shop, gateway).await.with_context(|| {
        format!("cannot serve the shop on {shop}: choose another address with --shop")
    })?;
    let happenings = app.feed().watch();
    print(&greeting(shop, http, app.addresses().admin, &options))?;
    tokio::select! {
        said = narrate(happenings, colour) => said?,
        () = stop.cancelled() => {}
    }
    app.stop().await;
    Ok(())
}

/// Makes the links that open the console. They log in where only this machine can open the shop.
fn console_link(
    shop: SocketAddr,
    console: String,
    accounts: Arc<ConsoleAccounts>,
) -> DemoConsoleLink {
    Box::new(move || {
        let (accounts, console) = (accounts.clone(), console.clone());
        Box::pin(async move {
            if !shop.ip().is_loopback() {
                return console;
            }
            match accounts.make_local_link().await {
                Ok(link) => format!("{console}#/login?code={}&next=live", link.code.expose()),
                Err(error) => {
                    tracing::warn!(%error, "no link logs in to the console");
                    console
                }
            }
        })
    })
}

/// Replaces port 0 by ports that are free now.
fn reserve<const N: usize>(wanted: [SocketAddr; N]) -> anyhow::Result<[SocketAddr; N]> {
    let mut addresses = wanted;
    let mut held = Vec::new();
    for address in addresses.iter_mut().filter(|address| address.port() == 0) {
        let listener = std::net::TcpListener::bind(*address).context("a free port")?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

fn greeting(shop: SocketAddr, http: SocketAddr, admin: SocketAddr, options: &DemoArgs) -> String {
    let vendors = tagway_simulator::VENDORS.map(|(name, _)| name).join(", ");
    let data = render::escape(&options.data.display().to_string(), 200);
    format!(
        "\n  Open http://{shop}/ and click: every event appears below, with what became of it.\n\n  \
         shop          http://{shop}/\n  \
         gateway       http://{http}/\n  \
         console       http://{shop}/console\n  \
         operators     http://{admin}/metrics\n  \
         destinations  {vendors}, simulated\n  \
         data          {data}\n\n  \
         Ctrl-C ends it.\n\n"
    )
}

/// Prints the happenings. Ends when the output is closed.
async fn narrate(mut happenings: FeedWatcher, colour: bool) -> Result<(), CommandError> {
    loop {
        let happening = match happenings.recv().await {
            Ok(happening) => serde_json::to_value(&*happening),
            Err(RecvError::Lagged(count)) => {
                Ok(serde_json::json!({ "what": "missed", "count": count }))
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        let happening = happening.map_err(|error| CommandError::Other(error.into()))?;
        print(&render::render(&happening, colour))?;
    }
}

//! The configuration of the demo's gateway.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::simulator::WEBHOOK_SECRET;
use crate::settings::Source;

/// How the demo's parts find each other.
#[derive(Clone, Copy, Debug)]
pub struct Wiring<'a> {
    /// Where the gateway keeps its data.
    pub data_dir: &'a Path,
    /// Where the gateway listens for the shop's page.
    pub http: SocketAddr,
    /// Where it listens for operators.
    pub admin: SocketAddr,
    /// Where the shop is served.
    pub shop: SocketAddr,
    /// Where the GA4 simulator listens.
    pub ga4: SocketAddr,
    /// Where the webhook simulator listens.
    pub webhook: SocketAddr,
}

/// The settings, over the embedded default.
pub fn settings(wiring: &Wiring<'_>) -> Source {
    let Wiring { data_dir, http, admin, shop, ga4, webhook } = wiring;
    // A JSON string is a TOML string as well.
    let data_dir = Value::from(data_dir.display().to_string());
    let port = shop.port();
    let text = format!(
        r#"
data_dir = {data_dir}

[listen]
http = "{http}"
admin = "{admin}"

[egress]
allow_private = true             # the simulators are on this machine

[log]
level = "warn"

[[sites]]
name = "demo"
hosts = ["*"]
origins = ["http://127.0.0.1:{port}", "http://localhost:{port}"]
write_key = "demo"

[[sites.destinations]]
name = "ga4"
vendor = "ga4"
endpoint = "http://{ga4}"
[sites.destinations.settings]
measurement_id = "G-DEMO1"
api_secret = "a demo's secret"
user_properties = ["plan"]

[[sites.destinations]]
name = "webhook"
vendor = "webhook"
[sites.destinations.settings]
url = "http://{webhook}/hook"
secret = "{WEBHOOK_SECRET}"
"#
    );
    Source { name: "the demo's settings".to_owned(), text }
}

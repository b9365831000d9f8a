//! The configuration of the demo's gateway.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::vendors::{IntercomWorkspace, MIXPANEL_TOKEN, SimulatorKind, WEBHOOK_SECRET};
use tagway_settings::ConfigFile;

/// The vendors that the demo simulates.
pub const VENDORS: [(&str, SimulatorKind); 7] = [
    ("ga4", SimulatorKind::Ga4),
    ("meta", SimulatorKind::Meta),
    ("mixpanel", SimulatorKind::Mixpanel),
    ("amplitude", SimulatorKind::Amplitude),
    ("intercom", SimulatorKind::Intercom(IntercomWorkspace::PLAIN)),
    ("drift", SimulatorKind::Drift),
    ("webhook", SimulatorKind::Webhook),
];

/// The addresses of the demo's parts.
#[derive(Clone, Copy, Debug)]
pub struct DemoEndpoints<'a> {
    /// The folder of the gateway's data.
    pub data_dir: &'a Path,
    /// The gateway's address for the shop's page.
    pub http: SocketAddr,
    /// The address of the admin listener.
    pub admin: SocketAddr,
    /// The address of the shop.
    pub shop: SocketAddr,
    /// The address of each simulated vendor.
    pub vendors: &'a [(&'a str, SocketAddr)],
}

/// The configuration, over the embedded default.
pub fn settings(wiring: &DemoEndpoints<'_>) -> ConfigFile {
    let DemoEndpoints { data_dir, http, admin, shop, vendors } = wiring;
    // A JSON string is a TOML string as well.
    let data_dir = Value::from(data_dir.display().to_string());
    let port = shop.port();
    let mut text = format!(
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
origins = ["http://*:{port}"]
write_key = "demo"

[sites.sdk]
auto = []                        # the shop says itself what a page is
"#
    );
    for (vendor, address) in *vendors {
        let settings = vendor_settings(vendor, *address);
        let _infallible = write!(
            text,
            r#"
[[sites.destinations]]
name = "{vendor}"
vendor = "{vendor}"
endpoint = "http://{address}"
[sites.destinations.settings]
{settings}
"#
        );
    }
    ConfigFile { name: "the demo's settings".to_owned(), text }
}

/// The settings of a simulated vendor. Its credentials are no secrets: they are in the source.
pub fn vendor_settings(vendor: &str, address: SocketAddr) -> String {
    match vendor {
        "ga4" => "measurement_id = \"G-DEMO1\"\napi_secret = \"a demo's secret\"\n\
                  user_properties = [\"plan\"]"
            .to_owned(),
        "meta" => "pixel_id = \"1234567890\"\naccess_token = \"a-token-of-the-demo\"\n\
                   default_country_code = \"41\""
            .to_owned(),
        "mixpanel" => format!("project_token = \"{MIXPANEL_TOKEN}\""),
        "amplitude" => "api_key = \"0123456789abcdef0123456789abcdef\"".to_owned(),
        "intercom" => "access_token = \"a-token-of-the-demo\"\nattributes = [\"plan\"]".to_owned(),
        "drift" => "access_token = \"a-token-of-the-demo\"\nattributes = [\"plan\"]".to_owned(),
        _ => format!("url = \"http://{address}/hook\"\nsecret = \"{WEBHOOK_SECRET}\""),
    }
}

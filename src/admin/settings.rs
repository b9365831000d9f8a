//! The settings of the listener: `listen.admin` and `[admin]`.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::AdminTls;
use tagway_console::account::SessionLifetimes;
use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[listen]`, for the admin listener.
pub const ADMIN_ADDRESS_SETTINGS: &[Setting] =
    &[Setting::form("admin", "an IP address with a port")
        .default("127.0.0.1:9090")
        .doc("health, metrics and API; never expose it to the internet")];

/// The described settings of `[admin]`.
pub const ADMIN_SETTINGS: &[Setting] = &[
    Setting::texts("names").default("[]").doc(
        "accepted host names besides addresses and \"localhost\": each name by which \
             Prometheus, or the command line on another machine, calls the listener",
    ),
    Setting::integer("connections", 1, 10_000).default("64").doc(
        "limit of connections; each \"tail\" uses one. Above it, the connection that has \
             been idle longest is closed",
    ),
    Setting::size("body_bytes")
        .default("1MiB")
        .doc("limit of a request's body: a test event, a list of dead letters"),
    Setting::duration("drain_time")
        .default("5s")
        .doc("the time for responses in progress when the gateway stops"),
    Setting::text("cookie").default("tagway").doc(
        "name of the cookie of web sessions; over TLS it begins with __Host-. Two gateways on one host name, \
             or on localhost, need different names",
    ),
    Setting::positive_duration("session_idle")
        .default("12h")
        .doc("a web session ends after this time without a request"),
    Setting::positive_duration("session_max")
        .default("7d")
        .doc("a web session ends after this time, also in use"),
    Setting::texts("trusted_proxies").default("[]").doc(
        "networks of proxies in front of this listener whose X-Forwarded-For and X-Forwarded-Proto are \
             trusted, e.g. [\"127.0.0.1\"]",
    ),
];

/// `listen.admin` and `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address to listen on; port 0 takes a free port.
    pub address: SocketAddr,
    /// Host names that it answers to, in lower case, besides IP addresses and `localhost`.
    pub names: Vec<String>,
    /// The encryption of the connections.
    pub tls: AdminTls,
    /// The most connections; beyond, the one idle longest is closed.
    pub connections: usize,
    /// Additional connections for health and metrics only.
    pub reserve: usize,
    /// The largest request body, in bytes.
    pub body_bytes: usize,
    /// The time limit for a request's head, and for the next request of a connection.
    pub header_time: Duration,
    /// The time limit for a request's body.
    pub body_time: Duration,
    /// The time between empty lines to a watcher of the feed.
    pub heartbeat: Duration,
    /// The time limit for responses under way when the listener stops.
    pub drain_time: Duration,
    /// The name of the cookie of web sessions, without the prefix.
    pub cookie: String,
    /// The lifetimes of web sessions.
    pub sessions: SessionLifetimes,
    /// The networks of proxies whose forwarding fields are trusted.
    pub trusted_proxies: Vec<IpNet>,
}

impl AdminSettings {
    /// Reads `listen.admin` and `[admin]`.
    pub fn read(listen: &mut SettingsSection<'_>, admin: &mut SettingsSection<'_>) -> Self {
        listen.describe(ADMIN_ADDRESS_SETTINGS);
        admin.describe(ADMIN_SETTINGS);
        let names = admin.strings("names").into_iter().map(|name| name.to_ascii_lowercase());
        let cookie = admin.string("cookie");
        let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !(1..=COOKIE_CHARS).contains(&cookie.len()) || !cookie.chars().all(is_token) {
            admin.error("cookie", "must have 1 to 64 letters, digits, _ or -");
        }
        let sessions = SessionLifetimes {
            idle: admin.duration("session_idle"),
            max: admin.duration("session_max"),
        };
        Self {
            address: listen.parsed("admin", SocketAddr::from(([127, 0, 0, 1], 0))),
            names: names.collect(),
            tls: AdminTls::read(admin),
            connections: admin.integer("connections"),
            reserve: RESERVE,
            body_bytes: admin.byte_count("body_bytes"),
            header_time: HEADER_TIME,
            body_time: BODY_TIME,
            heartbeat: HEARTBEAT,
            drain_time: admin.duration("drain_time"),
            cookie,
            sessions,
            trusted_proxies: admin.parsed_list("trusted_proxies"),
        }
    }
}

impl AdminSettings {
    /// Returns true if the settings differ in more than the files of certificates, which a running listener can
    /// replace.
    pub fn differs_beyond_certificates(&self, running: &Self) -> bool {
        let without = |it: &Self| Self { tls: AdminTls::Off, ..it.clone() };
        self.tls.is_on() != running.tls.is_on() || without(self) != without(running)
    }
}

/// Connections for `/livez`, `/readyz` and `/metrics` beyond the others, when none of these is idle: one for each of
/// the usual probes and scrapers.
const RESERVE: usize = 8;

/// The longest name of the cookie: long ones only make requests longer.
const COOKIE_CHARS: usize = 64;

/// The time for a request's head, and for the next request of a connection.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// The time for a request's body, of one MiB at most by default.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The interval of empty lines to a watcher of the feed, so that both ends detect a lost connection.
const HEARTBEAT: Duration = Duration::from_secs(10);

//! The sender of a request: its address, host name and encryption, also through trusted proxies.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, USER_AGENT};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::{AdminRequestError, AdminSettings};
use tagway_console::session::SessionOrigin;
use tagway_edge::{ForwardedClient, ForwardedField, resolve_client};

/// The fields by which a proxy shows itself.
const PROXY_FIELDS: [HeaderName; 3] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// The connection of a request. The listener adds it to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminPeer {
    /// The address of the other end.
    pub(super) address: IpAddr,
    /// True if the connection uses TLS.
    pub(super) secure: bool,
}

/// The sender of a request. An extractor of all handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestSource {
    /// The address of the browser or program.
    pub(super) client: IpAddr,
    /// The Host of the request, in lower case.
    host: String,
    /// True if the browser uses TLS.
    pub(super) is_secure: bool,
    /// True if the browser calls its own machine.
    is_local: bool,
}

impl RequestSource {
    /// Finds the sender of a request whose Host was checked.
    pub(super) fn new(
        peer: Option<AdminPeer>,
        (host, fields): (&str, &HeaderMap),
        settings: &AdminSettings,
    ) -> Self {
        let nowhere = AdminPeer { address: Ipv4Addr::UNSPECIFIED.into(), secure: false };
        let peer = peer.unwrap_or(nowhere);
        let (trusted, field) = (&settings.trusted_proxies, ForwardedField::XForwardedFor);
        let ForwardedClient { client, secure } =
            resolve_client(trusted, field, peer.address.to_canonical(), fields);
        let host = host.to_ascii_lowercase();
        // A browser that calls localhost reaches its own machine. What listens there may be a tunnel or a container's
        // port, so that the connection comes from a private address.
        let is_direct = PROXY_FIELDS.iter().all(|name| !fields.contains_key(name));
        let is_local = is_direct && is_near(client) && is_loopback_name(name_of(&host));
        Self { client, host, is_secure: peer.secure || secure, is_local }
    }

    /// The host name, without the port.
    pub(super) fn host_name(&self) -> &str {
        name_of(&self.host)
    }

    /// Rejects logins whose passwords and cookies others could read.
    pub(super) fn check_confidential(&self) -> Result<(), AdminRequestError> {
        if self.is_confidential() { Ok(()) } else { Err(AdminRequestError::Plaintext) }
    }

    /// Returns true if nobody between the browser and this listener can read the request.
    pub(super) fn is_confidential(&self) -> bool {
        self.is_secure || self.is_local
    }

    /// The name of the session's cookie. Browsers let no other host and no plain HTTP set one with this prefix.
    pub(super) fn cookie_name(&self, name: &str) -> String {
        if self.is_secure { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// The address of the console for links, as this request names it.
    pub(super) fn console_url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}/", self.host)
    }

    /// The origin of a session that this request begins.
    pub(super) fn session_origin(&self, fields: &HeaderMap) -> SessionOrigin {
        let agent = fields.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        SessionOrigin {
            host: self.host_name().to_owned(),
            agent: agent.unwrap_or_default().to_owned(),
            address: self.client,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestSource {
    type Rejection = AdminRequestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminRequestError> {
        parts.extensions.get().cloned().ok_or(AdminRequestError::Misdirected)
    }
}

/// The name in a Host field, without the port and without brackets.
pub(super) fn name_of(host: &str) -> &str {
    let end = host.rfind(':').filter(|colon| !host.get(*colon..).unwrap_or("]").contains(']'));
    let name = end.and_then(|end| host.get(..end)).unwrap_or(host);
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

/// Returns true for an authority that is a host with or without a port.
pub(super) fn is_authority(host: &str) -> bool {
    host.parse::<Authority>().is_ok() && !host.contains('@')
}

fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Returns true for addresses of this machine and of private networks.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::settings;

    fn source(peer: &str, secure: bool, host: &str, fields: &[(&str, &str)]) -> RequestSource {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let mut settings = settings(([127, 0, 0, 1], 9090).into());
        settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let peer = AdminPeer { address: peer.parse().unwrap(), secure };
        RequestSource::new(Some(peer), (host, &headers), &settings)
    }

    #[test]
    fn name_of_drops_port_and_brackets() {
        let cases = [
            ("localhost:9090", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:9090", "::1"),
            ("[::1]", "::1"),
            ("10.0.0.1:1", "10.0.0.1"),
        ];
        for (host, name) in cases {
            assert_eq!(name_of(host), name);
        }
    }

    #[test]
    fn login_is_confidential_over_tls_and_on_the_own_machine_only() {
        let is_confidential =
            |peer, host, fields: &[_]| source(peer, false, host, fields).is_confidential();
        assert!(is_confidential("127.0.0.1", "localhost:9090", &[]));
        assert!(is_confidential("172.17.0.1", "127.0.0.1:9090", &[]), "a container's port");
        assert!(!is_confidential("127.0.0.1", "ops.example", &[]), "a proxy on this machine");
        assert!(!is_confidential("203.0.113.1", "localhost", &[]));
        assert!(!is_confidential("10.0.0.1", "10.0.0.9:9090", &[]));
        let told = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-proto", "https")];
        assert!(is_confidential("10.0.0.1", "ops.example", &told));
        assert!(!is_confidential("127.0.0.1", "localhost", &told), "not a trusted proxy");
        assert!(!is_confidential("10.0.0.1", "ops.example", &[("x-forwarded-proto", "http")]));
        assert!(source("203.0.113.1", true, "ops.example", &[]).is_confidential());
    }

    #[test]
    fn cookie_and_links_are_those_of_the_scheme() {
        let plain = source("127.0.0.1", false, "LOCALHOST:9090", &[]);
        assert_eq!(plain.cookie_name("tagway"), "tagway");
        assert_eq!(plain.console_url(), "http://localhost:9090/");
        let told = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-proto", "https")];
        let secure = source("10.0.0.1", false, "ops.example", &told);
        assert_eq!(secure.cookie_name("tagway"), "__Host-tagway");
        assert_eq!(secure.console_url(), "https://ops.example/");
        assert_eq!(secure.client, "198.51.100.1".parse::<IpAddr>().unwrap());
    }
}

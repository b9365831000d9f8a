//! The address of a gateway's admin API, as `--admin` names it.

use url::{Host, Url};

/// The form of the option in errors.
const EXAMPLES: &str = "an address such as https://ops.example:9443/ or 127.0.0.1:9090";

/// The address of the admin API: a listener, or a path below a proxy's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminUrl(Url);

impl AdminUrl {
    /// Reads a URL, or a host with its port. Without a scheme, a host beyond this machine is called over TLS, and one
    /// of this machine as `is_local_tls` has it.
    pub(super) fn parse(text: &str, is_local_tls: bool) -> Result<Self, String> {
        if text.contains("://") {
            return Self::read(text);
        }
        let secure = Self::read(&format!("https://{text}"))?;
        if secure.is_loopback() && !is_local_tls {
            return Self::read(&format!("http://{text}"));
        }
        Ok(secure)
    }

    fn read(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("--admin must be {EXAMPLES}: {what}");
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("the scheme is neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a name or a password; --token names the token"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        Ok(Self(url))
    }

    /// Returns true if connections use TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns true if the host is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            None => false,
        }
    }

    /// The URL of a path of the API.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }

    /// The host and its port, for messages.
    pub(super) fn host_and_port(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, is_local_tls: bool) -> String {
        AdminUrl::parse(text, is_local_tls).unwrap().join("/api/v1/me")
    }

    #[test]
    fn parse_chooses_tls_beyond_this_machine() {
        assert_eq!(of("127.0.0.1:9090", false), "http://127.0.0.1:9090/api/v1/me");
        assert_eq!(of("127.0.0.1:443", false), "http://127.0.0.1:443/api/v1/me");
        assert_eq!(of("localhost:1", true), "https://localhost:1/api/v1/me");
        assert_eq!(of("[::1]:1", false), "http://[::1]:1/api/v1/me");
        assert_eq!(of("ops.example:9443", false), "https://ops.example:9443/api/v1/me");
        assert_eq!(of("10.0.0.1:9090", false), "https://10.0.0.1:9090/api/v1/me");
        assert_eq!(of("http://ops.example:9090", true), "http://ops.example:9090/api/v1/me");
    }

    #[test]
    fn join_keeps_the_path_of_a_proxy() {
        for text in
            ["https://ops.example/tagway/", "https://ops.example/tagway", "ops.example/tagway"]
        {
            assert_eq!(of(text, false), "https://ops.example/tagway/api/v1/me", "{text}");
        }
    }

    #[test]
    fn parse_rejects_other_urls() {
        for text in [
            "",
            "ftp://ops.example",
            "https://ana:secret@ops.example",
            "https://ops.example/?a=1",
            "https://ops.example/#/live",
            "https://",
            "ops example:1",
        ] {
            let error = AdminUrl::parse(text, false).unwrap_err();
            assert!(error.contains("--admin") && !error.contains("secret@"), "{text}: {error}");
        }
    }
}

//! Values in a textual form of their own: addresses, networks, URLs.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use url::Url;

use super::layer::{FoundSetting, written};
use super::section::SettingsSection;

/// A value in its own textual form.
pub trait TextualValue: Sized {
    /// Parses the value. The error says what is wrong and how the value is written: it follows the text that
    /// was read, and must not repeat it, because the text may contain a secret.
    fn read(text: &str) -> Result<Self, String>;

    /// A suggestion for a text that is not valid.
    fn suggest(_text: &str) -> Option<String> {
        None
    }
}

impl TextualValue for Url {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => {
                "is not a URL: a URL begins with a scheme and a host, such as \"https://shop.example\""
                    .to_owned()
            }
            error => format!("is not a URL: {error}"),
        })
    }

    fn suggest(text: &str) -> Option<String> {
        if text.contains(['@', ' ']) {
            return None;
        }
        let url: Self = format!("https://{}", text.trim_start_matches('/')).parse().ok()?;
        url.host_str().is_some_and(|host| host.contains('.')).then(|| {
            // Without the path that the parser adds.
            let url = String::from(url);
            if text.ends_with('/') { url } else { url.trim_end_matches('/').to_owned() }
        })
    }
}

impl TextualValue for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_no_address| {
            "is not an IP address with a port, such as \"127.0.0.1:8080\" or \"[::]:8080\""
                .to_owned()
        })
    }

    fn suggest(text: &str) -> Option<String> {
        if text.parse::<IpAddr>().is_ok() {
            return None;
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let _port: u16 = port.parse().ok()?;
        match host {
            "" | "*" => Some(format!("0.0.0.0:{port}")),
            "localhost" => Some(format!("127.0.0.1:{port}")),
            _ => None,
        }
    }
}

impl TextualValue for IpNet {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_no_network| {
            "is not a network, such as \"10.0.0.0/8\" or, of one address, \"192.0.2.1/32\""
                .to_owned()
        })
    }

    fn suggest(text: &str) -> Option<String> {
        text.parse::<IpAddr>().ok().map(|address| Self::from(address).to_string())
    }
}

impl<'a> SettingsSection<'a> {
    pub(super) fn parse_text<T: TextualValue>(
        &self,
        found: &FoundSetting<'a>,
        text: &str,
    ) -> Option<T> {
        let read = T::read(text);
        if let Err(problem) = &read {
            // The expanded text may be a secret, and so may a suggestion made of it.
            let is_literal = found.value.as_str() == Some(text);
            let better = T::suggest(text).filter(|_| is_literal);
            let hint = super::errors::hint(better.as_deref());
            self.error_at(found, &format!("{} {problem}{hint}", written(found)));
        }
        read.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_suggests_the_likely_value() {
        assert_eq!(Url::suggest("shop.example").as_deref(), Some("https://shop.example"));
        assert_eq!(Url::suggest("//shop.example/x/").as_deref(), Some("https://shop.example/x/"));
        assert_eq!(Url::suggest("shop"), None);
        assert_eq!(SocketAddr::suggest(":8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(SocketAddr::suggest("8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(SocketAddr::suggest("localhost:80").as_deref(), Some("127.0.0.1:80"));
        for none in ["shop.example:80", "::1", "1.2.3.4", "x", ":99999"] {
            assert_eq!(SocketAddr::suggest(none), None, "{none}");
        }
        assert_eq!(IpNet::suggest("10.0.0.1").as_deref(), Some("10.0.0.1/32"));
    }
}

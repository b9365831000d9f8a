//! Reader of network addresses as proxies, logs and servers write them: with ports, brackets, zones, quotes,
//! or several in a list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The most elements of one list that are read: no chain of proxies is longer.
const MAX_ELEMENTS: usize = 32;

/// Reads one address: with or without a port, IPv6 with or without brackets and a zone. An IPv4 address in
/// IPv6 form is the IPv4 address. `unknown`, `unix:` and obfuscated names are no addresses.
pub fn read_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\'));
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || is_port(port.strip_prefix(':')?);
        return is_port.then(|| bare(inner)).flatten();
    }
    match text.rsplit_once(':') {
        // A colon for a port that is missing or too short for one, as behind `192.0.2.7:`.
        Some((host, port)) if is_port(port) && !host.contains(':') => bare(host),
        _ => bare(text),
    }
}

/// Returns true if a text may be a port.
fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads an address without its interface, or without the prefix length of a single host.
fn bare(text: &str) -> Option<IpAddr> {
    let text = text.strip_suffix("/32").or(text.strip_suffix("/128")).unwrap_or(text);
    let text = text.split('%').next().unwrap_or_default();
    text.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Reads the visitor's address from a text that may be a list, as `X-Forwarded-For` is: the leftmost one.
/// Elements that are no address are skipped, and so are private addresses where another follows: the
/// visitor's own router wrote them.
pub fn read_visitor_address(text: &str) -> Option<IpAddr> {
    let parts = text.split([',', ';']).take(MAX_ELEMENTS);
    let mut found = parts.filter_map(read_address);
    let first = found.next()?;
    if !is_local(first) {
        return Some(first);
    }
    Some(found.find(|address| !is_local(*address)).unwrap_or(first))
}

/// Returns true if an address stands for a different host in every network.
const fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || matches!(address, Ipv4Addr::UNSPECIFIED)
                || (a == 100 && b >= 64 && b < 128)
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<String> {
        read_visitor_address(text).map(|address| address.to_string())
    }

    #[test]
    fn read_accepts_addresses_with_ports_brackets_and_lists() {
        for text in [
            "203.0.113.9",
            " 203.0.113.9 ",
            "203.0.113.9:51234",
            "203.0.113.9:",
            "\"203.0.113.9\"",
            "\"203.0.113.9:51234\"",
            "::ffff:203.0.113.9",
            "[::ffff:203.0.113.9]:443",
            "::FFFF:cb00:7109",
            "203.0.113.9/32",
            "[203.0.113.9]",
            "203.0.113.9, 10.0.0.7",
            "203.0.113.9,10.0.0.7, 198.51.100.3",
            ",203.0.113.9,",
            "unknown, 203.0.113.9",
            "10.1.2.3, 203.0.113.9",
            "127.0.0.1, 192.168.1.4, 203.0.113.9",
        ] {
            assert_eq!(read(text).as_deref(), Some("203.0.113.9"), "{text}");
        }
        for text in [
            "2001:db8::9",
            "[2001:db8::9]",
            "[2001:db8::9]:51234",
            "\"[2001:db8::9]:443\"",
            "2001:db8::9%eth0",
            "[2001:db8::9%25en0]:80",
            "2001:DB8:0:0:0:0:0:9, 10.0.0.1",
            "2001:db8::9/128",
        ] {
            assert_eq!(read(text).as_deref(), Some("2001:db8::9"), "{text}");
        }
        assert_eq!(read("10.1.2.3, unknown").as_deref(), Some("10.1.2.3"), "there is no other");
        for text in [
            "",
            " ",
            ",",
            "unknown",
            "_hidden",
            "unix:",
            "unix:/run/a.sock",
            "1.2.3",
            "localhost",
            "203.0.113.9.",
            "203.0.113.999",
            "203.0.113.9:port",
            "[2001:db8::9",
            "12345",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn read_address_reads_back_every_address(address: IpAddr, port: u16) {
            let expected = Some(address.to_canonical());
            prop_assert_eq!(read_address(&address.to_string()), expected);
            prop_assert_eq!(read_address(&SocketAddr::new(address, port).to_string()), expected);
            prop_assert_eq!(read_address(&format!(" \"[{address}]\" ")), expected);
        }

        #[test]
        fn read_accepts_any_text_without_panic(text in ".*", likely in "[0-9a-f:.%/\\[\\], ]{0,40}") {
            let _ = (read_visitor_address(&text), read_visitor_address(&likely));
        }
    }
}

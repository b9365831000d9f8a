//! Rewrites the origin's own address in its responses to the one that the visitor requested.
//!
//! An origin writes absolute addresses of itself into redirects, and its own domain into cookies: by its name
//! behind the gateway, by the `Host` that it received, or by that host with its own port. A visitor who follows
//! such a redirect leaves the gateway, and a browser refuses such a cookie. Relative addresses and those of other
//! hosts stay as they are.

use http::header::{CONTENT_LOCATION, Entry, HeaderName, LINK, LOCATION, REFRESH, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use url::{Host, Url};

/// The longest field that is rewritten; a longer one passes unchanged.
const MAX_BYTES: usize = 16 << 10;

/// The addresses by which an origin may refer to itself.
#[derive(Clone, Debug)]
pub(super) struct OriginOwnAddress {
    /// The host in lower case, without a port.
    host: String,
    /// Its port: the explicit one, or its scheme's default.
    port: u16,
    is_default_port: bool,
}

/// The address rewriter of one exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressRewriter<'r> {
    own: &'r OriginOwnAddress,
    /// The host and port that the visitor requested.
    authority: &'r str,
    secure: bool,
    /// The path and query that the visitor requested.
    request_target: &'r str,
}

/// An absolute address in a field.
#[derive(Clone, Copy, Debug)]
struct AbsoluteAddress<'a> {
    /// The scheme, in any case. Empty where the address inherits the page's.
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    /// The path, and everything after it.
    rest: &'a str,
}

impl OriginOwnAddress {
    /// Reads the address that the settings name.
    pub(super) fn of(origin: &Url) -> Self {
        let host = match origin.host() {
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let port = origin.port_or_known_default().unwrap_or(0);
        Self { host, port, is_default_port: origin.port().is_none() }
    }

    /// Creates the rewriter of one exchange, whose visitor requested `asked` at this authority.
    pub(super) fn map<'r>(
        &'r self,
        (authority, secure): (&'r str, bool),
        asked: &'r str,
    ) -> AddressRewriter<'r> {
        AddressRewriter { own: self, authority, secure, request_target: asked }
    }
}

impl AddressRewriter<'_> {
    /// Rewrites every field of a response that names the origin.
    pub(super) fn apply(&self, fields: &mut HeaderMap) {
        for name in [LOCATION, CONTENT_LOCATION] {
            each(fields, &name, |value| self.mapped(value));
        }
        each(fields, &REFRESH, |value| self.refresh(value));
        each(fields, &LINK, |value| self.links(value));
        each(fields, &SET_COOKIE, |value| self.cookie(value));
    }

    /// Returns the address that the visitor must see; `None` if it stays.
    fn mapped(&self, address: &str) -> Option<String> {
        let absolute = AbsoluteAddress::read(address.trim())?;
        if !self.is_own(&absolute) {
            return None;
        }
        let scheme = match (absolute.scheme, self.secure) {
            ("", _) => "",
            (_, true) => "https:",
            (_, false) => "http:",
        };
        Some(format!("{scheme}//{}{}", self.authority, absolute.rest))
    }

    fn is_own(&self, address: &AbsoluteAddress<'_>) -> bool {
        let (host, port) = split(self.authority);
        let is_backend = is_same(address.host, &self.own.host);
        let is_visitors = is_same(address.host, host);
        let own_port = match address.port {
            Some(port) => port == self.own.port || (self.own.is_default_port && is_default(port)),
            None => self.own.is_default_port,
        };
        if is_visitors && address.port == port {
            // The origin does not know of the visitor's TLS. A redirect to the page that the visitor is on already
            // stays a downgrade, even if that loops.
            let is_downgrade = self.secure && address.scheme.eq_ignore_ascii_case("http");
            return is_downgrade && path(address.rest) != self.request_target;
        }
        own_port && (is_backend || (is_visitors && address.port == Some(self.own.port)))
    }

    /// Rewrites `5; url=ADDRESS`, where the address may be quoted.
    fn refresh(&self, value: &str) -> Option<String> {
        let at = value.to_ascii_lowercase().find("url")?;
        let (before, after) = value.split_at_checked(at + "url".len())?;
        let (space, address) = after.split_once('=')?;
        if !space.trim().is_empty() {
            return None;
        }
        let quoted = address.trim();
        let quote = quoted.chars().next().filter(|it| ['"', '\''].contains(it));
        let address = match quote {
            Some(quote) => quoted.strip_prefix(quote)?.split(quote).next()?,
            None => quoted,
        };
        let quote = quote.map(String::from).unwrap_or_default();
        Some(format!("{before}={quote}{}{quote}", self.mapped(address)?))
    }

    /// Rewrites the addresses between `<` and `>`.
    fn links(&self, value: &str) -> Option<String> {
        let mut out = String::with_capacity(value.len());
        let (mut rest, mut is_changed) = (value, false);
        while let Some((before, after)) = rest.split_once('<') {
            let Some((address, after)) = after.split_once('>') else { break };
            let mapped = self.mapped(address);
            is_changed |= mapped.is_some();
            out.push_str(before);
            out.push('<');
            out.push_str(mapped.as_deref().unwrap_or(address));
            out.push('>');
            rest = after;
        }
        out.push_str(rest);
        is_changed.then_some(out)
    }

    /// Restricts a cookie for the origin's own domain, or one above it, to the visitor's host, where the visitor's
    /// browser would refuse it.
    fn cookie(&self, value: &str) -> Option<String> {
        let is_refused = |attribute: &str| {
            let Some((name, domain)) = attribute.split_once('=') else { return false };
            let domain = split(domain.trim().trim_start_matches('.')).0;
            name.trim().eq_ignore_ascii_case("domain")
                && !is_within(split(self.authority).0, domain)
                && is_within(&self.own.host, domain)
        };
        let mut parts = value.split(';');
        let mut kept = vec![parts.next()?];
        let count = parts.clone().count();
        kept.extend(parts.filter(|attribute| !is_refused(attribute)));
        (kept.len() <= count).then(|| kept.join(";"))
    }
}

impl<'a> AbsoluteAddress<'a> {
    /// Reads an address. `None` if it is relative, of another scheme, or has more than a host and a
    /// port before its path.
    fn read(address: &'a str) -> Option<Self> {
        let scheme = ["https:", "http:", ""].into_iter().find_map(|scheme| {
            address.get(..scheme.len()).filter(|found| found.eq_ignore_ascii_case(scheme))
        })?;
        let after = address.get(scheme.len()..)?.strip_prefix("//")?;
        let end = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return None;
        }
        let (host, port) = split(authority);
        let scheme = scheme.trim_end_matches(':');
        // A scheme's default port counts as none.
        let is_needless = |port: &u16| match scheme.to_ascii_lowercase().as_str() {
            "https" => *port == 443,
            "http" => *port == 80,
            _ => false,
        };
        Some(Self { scheme, host, port: port.filter(|port| !is_needless(port)), rest })
    }
}

/// Replaces the values of a field for which `map` returns another.
fn each(fields: &mut HeaderMap, name: &HeaderName, map: impl Fn(&str) -> Option<String>) {
    let mapped = |value: &HeaderValue| {
        let text = value.to_str().ok().filter(|text| text.len() <= MAX_BYTES)?;
        HeaderValue::try_from(map(text)?).ok()
    };
    let Entry::Occupied(mut entry) = fields.entry(name) else { return };
    for value in entry.iter_mut() {
        if let Some(mapped) = mapped(value) {
            *value = mapped;
        }
    }
}

/// Splits an authority into its host and its port, if it names one.
fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|it| it.is_ascii_digit()) => {
            (host, port.parse().ok())
        }
        _ => (authority, None),
    }
}

fn is_same(host: &str, other: &str) -> bool {
    let plain = |host: &'_ str| host.strip_suffix('.').unwrap_or(host).len();
    let (length, others) = (plain(host), plain(other));
    !host.is_empty()
        && host
            .get(..length)
            .zip(other.get(..others))
            .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// Returns true if the host may set a cookie for the domain.
fn is_within(host: &str, domain: &str) -> bool {
    let above = host.len().checked_sub(domain.len() + 1);
    is_same(host, domain)
        || above.and_then(|at| host.get(at..)).is_some_and(|end| {
            !domain.is_empty()
                && end.strip_prefix('.').is_some_and(|end| end.eq_ignore_ascii_case(domain))
        })
}

const fn is_default(port: u16) -> bool {
    matches!(port, 80 | 443)
}

/// Returns the path and query of the text after a host.
fn path(rest: &str) -> &str {
    match rest.split('#').next() {
        None | Some("") => "/",
        Some(path) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(origin: &str) -> OriginOwnAddress {
        OriginOwnAddress::of(&origin.parse().unwrap())
    }

    fn location(origin: &str, visitor: (&str, bool), value: &str) -> String {
        let mut fields = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(value).unwrap())]);
        own(origin).map(visitor, "/asked?x=1").apply(&mut fields);
        fields[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn locations_of_the_origin_become_the_visitors_and_others_stay() {
        let shop = ("www.shop.example", true);
        for (origin, from, to) in [
            ("http://backend", "http://backend/login?next=%2Fa", "/login?next=%2Fa"),
            ("http://backend", "http://BACKEND", ""),
            ("http://backend", "https://backend:443/x", "/x"),
            ("http://backend", "http://backend.:80/x#y", "/x#y"),
            ("https://backend", "http://backend/x", "/x"),
            ("http://backend:8080", "http://backend:8080/x", "/x"),
            ("http://backend:8080", "http://www.shop.example:8080/x", "/x"),
            ("http://backend:8080", "http://www.shop.example/x", "/x"),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080?y", "?y"),
        ] {
            let to = format!("https://www.shop.example{to}");
            assert_eq!(location(origin, shop, from), to, "{origin} {from}");
        }
        assert_eq!(location("http://a:81", shop, "//a:81/x"), "//www.shop.example/x");
        let plain = ("localhost:8000", false);
        assert_eq!(location("https://a", plain, "https://a/x"), "http://localhost:8000/x");
        for same in [
            "/relative",
            "relative",
            "?a",
            "https://pay.example/checkout",
            "https://pay.example/?back=http://backend:8080/",
            "http://backend/x",
            "http://backend:8081/x",
            "http://backend:8080@evil.example/",
            "http://backend:8080.evil.example/",
            "https://www.shop.example/x",
            "app://backend:8080/x",
            // A redirect to the page that the visitor is on already would loop.
            "http://www.shop.example/asked?x=1",
        ] {
            assert_eq!(location("http://backend:8080", shop, same), same);
        }
        // An origin that redirects to TLS does so deliberately.
        let upgrade = "https://www.shop.example/x";
        assert_eq!(location("http://backend", ("www.shop.example", false), upgrade), upgrade);
    }

    #[test]
    fn other_fields_with_addresses_are_mapped_as_well() {
        let fields = [
            ("content-location", "http://b:81/things/1"),
            ("refresh", "5; URL='http://b:81/x'"),
            ("refresh", "0;url=http://b:81/y"),
            ("refresh", "0"),
            ("refresh", "1; url=/z"),
            ("link", "<http://b:81/a.css>; rel=preload, <//cdn.example/b>; rel=x, <http://b:81/c>"),
        ];
        let fields = fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut fields = HeaderMap::from_iter(fields);
        own("http://b:81").map(("v.example", true), "/").apply(&mut fields);
        let all = |name: &str| -> Vec<String> {
            fields.get_all(name).iter().map(|it| it.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(all("content-location"), ["https://v.example/things/1"]);
        assert_eq!(
            all("refresh"),
            ["5; URL='https://v.example/x'", "0;url=https://v.example/y", "0", "1; url=/z"]
        );
        let link = "<https://v.example/a.css>; rel=preload, <//cdn.example/b>; rel=x, \
                    <https://v.example/c>";
        assert_eq!(all("link"), [link]);
    }

    #[test]
    fn cookies_of_the_origins_domain_are_the_visitors_hosts() {
        let of = |visitor: &str, cookies: &[&'static str]| -> Vec<String> {
            let values = cookies.iter().map(|it| (SET_COOKIE, HeaderValue::from_static(it)));
            let mut fields = HeaderMap::from_iter(values);
            own("http://app.inner.example:81").map((visitor, true), "/").apply(&mut fields);
            let all = fields.get_all(SET_COOKIE).iter();
            all.map(|it| it.to_str().unwrap().to_owned()).collect()
        };
        let cookies = [
            "a=1; Path=/; Domain=app.inner.example; HttpOnly",
            "b=domain=app.inner.example; domain = .INNER.example:81",
            "c=1; Domain=other.example",
            "d=1; Secure",
            "Domain=app.inner.example; Path=/",
        ];
        let expected = [
            "a=1; Path=/; HttpOnly",
            "b=domain=app.inner.example",
            "c=1; Domain=other.example",
            "d=1; Secure",
            "Domain=app.inner.example; Path=/",
        ];
        assert_eq!(of("www.shop.example:8443", &cookies), expected);
        // Cookies that the visitor's browser accepts stay.
        let shared = ["a=1; Domain=inner.example", "b=1; Domain=app.inner.example"];
        assert_eq!(of("www.inner.example", &shared), ["a=1; Domain=inner.example", "b=1"]);
    }
}

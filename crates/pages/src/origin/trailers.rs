//! The trailer fields of messages to and from an origin: those that the site lists, and no others.
//!
//! Servers and libraries merge trailers into the fields of the head, after the gateway has decided on these. An
//! unexpected trailer can only do harm.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{Entry, HeaderName, TE, TRAILER};
use http::{HeaderMap, HeaderValue};
use hyper::body::Frame;

use tagway_settings::SettingsSection;

/// Fields that frame, route, authorise or describe a message (RFC 9110, section 6.5.1), or identify its sender:
/// none of them is accepted as a trailer. A name that ends with `*` matches all that begin with it.
const NEVER: &[&str] = &[
    "accept*",
    "access-control-*",
    "age",
    "authorization",
    "cache-control",
    "cf-*",
    "client-ip",
    "connection",
    "content-*",
    "cookie*",
    "date",
    "early-data",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "if-*",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy*",
    "range",
    "referer",
    "retry-after",
    "sec-*",
    "set-cookie*",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-api-*",
    "x-auth*",
    "x-client-*",
    "x-cluster-*",
    "x-csrf*",
    "x-forwarded*",
    "x-http-method*",
    "x-original-*",
    "x-real-*",
    "x-remote-*",
    "x-rewrite-*",
    "x-user*",
];

/// Reads the setting `trailers`.
pub(super) fn read(section: &mut SettingsSection<'_>) -> Arc<[HeaderName]> {
    let mut names = Vec::new();
    for text in section.strings("trailers") {
        match text.parse::<HeaderName>() {
            Ok(name) if !is_never(name.as_str()) => names.push(name),
            _ => section.error_about("trailers", &text, "must not be a trailer", None),
        }
    }
    names.into()
}

fn is_never(name: &str) -> bool {
    let name = name.replace('_', "-");
    NEVER.iter().any(|never| match never.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *never,
    })
}

/// Returns the part of a body's frame that passes: data, and trailers that are allowed.
pub(super) fn filtered(frame: Frame<Bytes>, allowed: &[HeaderName]) -> Option<Frame<Bytes>> {
    let mut trailers = match frame.into_trailers() {
        Ok(trailers) => trailers,
        Err(data) => return Some(data),
    };
    let mut kept = HeaderMap::new();
    for name in allowed {
        if let Entry::Occupied(entry) = trailers.entry(name) {
            let (name, values) = entry.remove_entry_mult();
            for value in values {
                kept.append(name.clone(), value);
            }
        }
    }
    (!kept.is_empty()).then(|| Frame::trailers(kept))
}

/// The trailer announcement of a head, reduced to trailers that pass. Read it before [`super::fields::strip`].
pub(super) struct TrailerAnnouncement {
    trailer: Option<HeaderValue>,
    takes: bool,
}

impl TrailerAnnouncement {
    /// Reads the trailer fields of a head.
    pub(super) fn of(fields: &HeaderMap, allowed: &[HeaderName]) -> Self {
        if allowed.is_empty() {
            return Self { trailer: None, takes: false };
        }
        let words = |name| {
            let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).map(str::trim)
        };
        let announced: Vec<&str> = words(TRAILER)
            .filter_map(|word| allowed.iter().find(|it| it.as_str().eq_ignore_ascii_case(word)))
            .map(HeaderName::as_str)
            .collect();
        Self {
            trailer: HeaderValue::try_from(announced.join(", ")).ok().filter(|it| !it.is_empty()),
            takes: words(TE).any(|word| word.eq_ignore_ascii_case("trailers")),
        }
    }

    /// Writes the announcement for the message's next hop.
    pub(super) fn write(self, fields: &mut HeaderMap) {
        if let Some(trailer) = self.trailer {
            fields.insert(TRAILER, trailer);
        }
        if self.takes {
            fields.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile};

    fn trailers(names: &[&'static str]) -> HeaderMap {
        let pair =
            |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("1"));
        names.iter().map(pair).collect()
    }

    #[test]
    fn trailers_pass_only_when_the_site_lists_them() {
        let sent = ["grpc-status", "x-forwarded-for", "cookie"];
        let frame = || Frame::trailers(trailers(&sent));
        assert!(filtered(frame(), &[]).is_none());
        let allowed = [HeaderName::from_static("grpc-status")];
        let kept = filtered(frame(), &allowed).unwrap().into_trailers().unwrap();
        assert_eq!(kept, trailers(&["grpc-status"]));
    }

    #[test]
    fn trailers_are_announced_only_when_they_pass() {
        let mut fields = trailers(&["te"]);
        fields.insert(TRAILER, HeaderValue::from_static("x-forwarded-for, Grpc-Status"));
        fields.insert(TE, HeaderValue::from_static("trailers"));
        let announced = |allowed: &[HeaderName]| {
            let mut out = HeaderMap::new();
            TrailerAnnouncement::of(&fields, allowed).write(&mut out);
            out
        };
        assert!(announced(&[]).is_empty());
        let out = announced(&[HeaderName::from_static("grpc-status")]);
        assert_eq!(
            (&out[TRAILER], &out[TE]),
            (&"grpc-status".parse().unwrap(), &"trailers".parse().unwrap())
        );
    }

    #[test]
    fn trailers_setting_refuses_fields_that_could_do_harm() {
        for (text, mistakes) in [
            ("trailers = [\"grpc-status\", \"grpc-message\", \"server-timing\"]", 0),
            ("trailers = [\"x-forwarded-for\", \"Cookie\", \"content_length\", \"host\"]", 4),
            ("trailers = [\"a b\", \"proxy\", \"sec-fetch-site\"]", 3),
        ] {
            let source = ConfigFile { name: "test".to_owned(), text: text.to_owned() };
            let (report, environment) =
                (ConfigErrorReport::default(), ConfigEnvironment::default());
            let table = source.parse(&report);
            let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
            read(&mut section);
            drop(section);
            assert_eq!(report.into_errors().len(), mistakes, "{text}");
        }
    }
}

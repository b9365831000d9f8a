//! Beacons of every vendor, and hostile shapes of them.

use std::fmt::Write as _;

use serde_json::Value;

/// The format of beacons of one vendor, or of requests of one of the gateway's own routes.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// The vendor, or the route.
    pub(crate) name: &'static str,
    /// The path, with its query.
    pub(crate) target: &'static str,
    /// The shortest event.
    pub(crate) shortest: &'static str,
    /// The texts before and after an event's value, and the encoding of the value.
    pub(crate) event: (&'static str, &'static str, Writing),
    /// The texts before all events, between them, and after them.
    pub(crate) list: (&'static str, &'static str, &'static str),
    /// True if a request has one event only.
    pub(crate) is_single: bool,
}

/// The encoding of a JSON value in an event.
#[derive(Clone, Copy)]
pub(crate) enum Writing {
    /// Unchanged.
    Json,
    /// As the text of a JSON string.
    Escaped,
    /// Percent-encoded.
    Percent,
    /// Percent-encoded, and the whole event once more.
    PercentTwice,
}

const SPEC: Format = Format {
    name: "",
    target: "",
    shortest: r#"{"type":"page","anonymousId":"a"}"#,
    event: (
        r#"{"type":"track","event":"x","anonymousId":"a","properties":{"p":"#,
        "}}",
        Writing::Json,
    ),
    list: (r#"{"writeKey":"shop-web","batch":["#, ",", "]}"),
    is_single: false,
};

/// The gateway's own routes.
pub(crate) const ROUTES: &[Format] = &[
    Format { name: "e", target: "/e", list: ("[", ",", "]"), ..SPEC },
    Format { name: "batch", target: "/v1/batch", ..SPEC },
    Format {
        name: "track",
        target: "/v1/track",
        event: (
            r#"{"writeKey":"shop-web","event":"x","anonymousId":"a","properties":{"p":"#,
            "}}",
            Writing::Json,
        ),
        list: ("", "", ""),
        is_single: true,
        ..SPEC
    },
    Format {
        name: "problem",
        target: "/tw/problem",
        event: (r#"{"integration":"x","kind":"load","more":"#, "}", Writing::Json),
        list: ("", "", ""),
        is_single: true,
        ..SPEC
    },
];

/// The formats of vendors' beacons.
pub(crate) const BEACONS: &[Format] = &[
    Format {
        name: "amplitude",
        target: "/amplitude/2/httpapi",
        shortest: r#"{"event_type":"x"}"#,
        event: (
            r#"{"event_type":"x","device_id":"d","event_properties":{"p":"#,
            "}}",
            Writing::Json,
        ),
        list: (r#"{"api_key":"k","events":["#, ",", "]}"),
        is_single: false,
    },
    Format {
        name: "ga4",
        target: "/ga4/g/collect?v=2&tid=G-A1&cid=1",
        shortest: "en=x",
        event: ("en=x&ep.p=", "", Writing::Percent),
        list: ("", "\n", ""),
        is_single: false,
    },
    Format {
        name: "jitsu",
        target: "/jitsu/api/s/track",
        shortest: r#"{"event":"x","anonymousId":"a"}"#,
        list: ("[", ",", "]"),
        ..SPEC
    },
    Format {
        name: "matomo",
        target: "/matomo/matomo.php",
        shortest: r#""?idsite=1&rec=1""#,
        event: (r#""?idsite=1&rec=1&idgoal=0&ec_items="#, r#"""#, Writing::Percent),
        list: (r#"{"requests":["#, ",", "]}"),
        is_single: false,
    },
    Format {
        name: "meta",
        target: "/meta/tr?batch=1",
        shortest: "%3Fid%3D1%26ev%3Dx",
        event: ("%3Fid%3D1%26ev%3Dx%26cd%5Bp%5D%3D", "", Writing::PercentTwice),
        list: ("events[0]=", "&events[1]=", ""),
        is_single: false,
    },
    Format {
        name: "mixpanel",
        target: "/mixpanel/track",
        shortest: r#"{"event":"x"}"#,
        event: (r#"{"event":"x","properties":{"distinct_id":"d","p":"#, "}}", Writing::Json),
        list: ("[", ",", "]"),
        is_single: false,
    },
    Format {
        name: "plausible",
        target: "/plausible/api/event",
        shortest: r#"{"n":"x","u":"https://a.example/"}"#,
        event: (r#"{"n":"x","u":"https://a.example/","p":{"p":"#, "}}", Writing::Json),
        list: ("", "", ""),
        is_single: true,
    },
    Format {
        name: "posthog",
        target: "/posthog/batch",
        shortest: r#"{"event":"x"}"#,
        event: (
            r#"{"event":"x","properties":{"distinct_id":"d","$set":{"a":1},"p":"#,
            "}}",
            Writing::Json,
        ),
        list: (r#"{"batch":["#, ",", "]}"),
        is_single: false,
    },
    Format { name: "rudderstack", target: "/rudderstack/v1/batch", ..SPEC },
    Format { name: "segment", target: "/segment/v1/batch", ..SPEC },
    Format {
        name: "snowplow",
        target: "/snowplow/com.snowplowanalytics.snowplow/tp2",
        shortest: r#"{"e":"pv"}"#,
        event: (
            r#"{"e":"ue","duid":"d","ue_pr":"{\"schema\":\"iglu:a/x/jsonschema/1\",\"data\":{\"p\":"#,
            r#"}}"}"#,
            Writing::Escaped,
        ),
        list: (r#"{"schema":"iglu:a","data":["#, ",", "]}"),
        is_single: false,
    },
    Format {
        name: "umami",
        target: "/umami/api/batch",
        shortest: r#"{"type":"event","payload":{"website":"w"}}"#,
        event: (
            r#"{"type":"event","payload":{"website":"w","name":"x","data":{"p":"#,
            "}}}",
            Writing::Json,
        ),
        list: ("[", ",", "]"),
        is_single: false,
    },
];

/// A function that makes a value of about this many bytes.
pub(crate) type MakeValue = fn(usize) -> String;

/// The shapes of a value, by name.
pub(crate) const VALUES: &[(&str, MakeValue)] = &[
    ("ones", |bytes| format!("[{}1]", "1,".repeat(bytes / 2))),
    ("texts", |bytes| format!("[{}\"\"]", "\"\",".repeat(bytes / 3))),
    ("lists", |bytes| format!("[{}[]]", "[1],".repeat(bytes / 4))),
    ("objects", |bytes| format!("[{}{{}}]", "{\"a\":1},".repeat(bytes / 8))),
    ("members", |bytes| {
        let mut text = "{".to_owned();
        let mut number = 0;
        while text.len() < bytes {
            write!(text, "\"{number:x}\":1,").unwrap();
            number += 1;
        }
        text + "\"\":1}"
    }),
    ("deep", |bytes| {
        let (depth, one) = (50, "{\"a\":".repeat(50) + "1" + &"}".repeat(50));
        format!("[{}1]", (one + ",").repeat(bytes / (7 * depth)))
    }),
    ("deepest", |bytes| "[".repeat(bytes / 2) + &"]".repeat(bytes / 2)),
    ("text", |bytes| format!("\"{}\"", "x".repeat(bytes))),
    ("escapes", |bytes| format!("\"{}\"", "\\u00e9".repeat(bytes / 6))),
    ("not finite", |bytes| format!("[{}0]", "NaN,".repeat(bytes / 4))),
];

impl Format {
    /// Returns a body of these events.
    pub(crate) fn body(&self, events: &[String]) -> String {
        let (before, between, behind) = self.list;
        format!("{before}{}{behind}", events.join(between))
    }

    /// Returns an event with a value.
    pub(crate) fn event(&self, value: &str) -> String {
        let percent =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (before, behind, writing) = self.event;
        let value = match writing {
            Writing::Json => value.to_owned(),
            Writing::Escaped => {
                let text = Value::from(value).to_string();
                text[1..text.len() - 1].to_owned()
            }
            Writing::Percent => percent(value),
            Writing::PercentTwice => percent(&percent(value)),
        };
        format!("{before}{value}{behind}")
    }
}

//! The facts that the gateway observed when an event arrived, as opposed to the client's claims.
//!
//! Facts are written once, on the request path, and are trusted by everything downstream.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{MEMBERSHIP, SenderRank};

/// The facts observed about one event's arrival. Every field is absent when it was not observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFacts {
    /// The beacon's wire format (`sdk`, `segment`, `pixel`, ...).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// The vendor whose tag in the page reported the event: its library's beacon, or a call that a shim intercepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The visitor's address: the connection's, through trusted proxies, or the one reported by a server
    /// with the site's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The visitor's `User-Agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The visitor's first `Accept-Language` tag (`de-CH`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The low-entropy client hints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<ClientHints>,
    /// The identity in the site's own first-party cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visitor: Option<VisitorIdentity>,
    /// The visitor's session at this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<VisitorSession>,
    /// Remembered ad click ids by query parameter (`gclid`, `fbclid`, ...).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub click_ids: BTreeMap<String, AdClickId>,
    /// The remembered campaign of the last landing that carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<UtmCampaign>,
    /// Allow-listed cookies of vendors' own scripts (`_ga`, `_fbp`, ...), by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, String>,
    /// The location of the address, if a geo database is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<GeoLocation>,
    /// Signs that the sender is a bot, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<BotSuspicion>,
    /// True if the anonymous id was made for this event alone: nothing links it to another event of the visitor.
    #[serde(default, rename = "passing", skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral_id: bool,
    /// True if the browser sent `Sec-GPC: 1`, the Global Privacy Control: its user opts out of the sale and
    /// sharing of data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gpc: bool,
    /// True if the browser sent `DNT: 1`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dnt: bool,
    /// The beacon as it was sent, if it is all that this event contains: the site forwards it to its vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beacon: Option<RawBeacon>,
    /// The vendor that receives this event in its forwarded beacon.
    #[serde(default, rename = "told", skip_serializing_if = "Option::is_none")]
    pub forwarded_to: Option<String>,
    /// The one destination that an operator's test event is for.
    #[serde(default, rename = "testOf", skip_serializing_if = "Option::is_none")]
    pub test_of: Option<String>,
    /// True if the sender proved to be one of the site's servers, so its claims about the visitor are trusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_server: bool,
    /// True if the message carried a valid login proof of the site for its user id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
}

impl EventFacts {
    /// Returns the kind of the event's sender: `sdk`, `shim` (a vendor's calls in the page), `vendor_tag` (a vendor's
    /// own library), `api` (the Segment API), `pixel`, `server`, or `segment` (the members of a segment).
    pub fn source(&self) -> &'static str {
        match (self.format.as_str(), &self.tag) {
            (MEMBERSHIP, _) => "segment",
            _ if self.from_server => "server",
            ("sdk", Some(_)) => "shim",
            (_, Some(_)) => "vendor_tag",
            ("sdk", None) => "sdk",
            ("pixel", None) => "pixel",
            (_, None) => "api",
        }
    }

    /// Returns the rank that the message itself proves. A browser that an earlier message bound to the user
    /// may rank higher, according to the profiles.
    pub const fn rank(&self) -> SenderRank {
        match (self.from_server, self.proven) {
            (true, _) => SenderRank::Server,
            (false, true) => SenderRank::Proven,
            (false, false) => SenderRank::Claimed,
        }
    }
}

/// A vendor's own beacon, as its library sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawBeacon {
    /// The vendor that the beacon is for.
    pub vendor: String,
    /// The request's method.
    pub method: String,
    /// The path below the vendor's mount, with its query.
    pub target: String,
    /// The `Content-Type` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The `Content-Encoding` header: the body is stored as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The vendor's public key, where the library sends it in the head: the field's name and value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<(String, String)>,
    /// The body as it was sent, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// A visitor's approximate location, by IP address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GeoLocation {
    /// ISO 3166-1, two letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The part of an ISO 3166-2 code behind the country: `ZH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The city's English name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// The postal code as it is written in that country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// A name of the IANA time zone database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// The bot score of a browser, and its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BotSuspicion {
    /// The score: 1 to 100, which is certain.
    pub score: u8,
    /// The reasons, as words from the source, in the order of the checks.
    pub reasons: Vec<String>,
}

/// The low-entropy client hints (`Sec-CH-UA*`), as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientHints {
    /// `Sec-CH-UA`: the brand list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brands: Option<String>,
    /// The `Sec-CH-UA-Mobile` hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mobile: Option<bool>,
    /// `Sec-CH-UA-Platform`, without its quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// The identity in the first-party cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VisitorIdentity {
    /// The visitor's id: a UUID that the gateway issued.
    pub id: String,
    /// The time when the gateway first saw this visitor.
    pub since: Timestamp,
}

/// A session: events of one visitor less than the site's idle time apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorSession {
    /// The time when the session began, in seconds since 1970: also its id, as in GA4.
    pub id: i64,
    /// 1 for the visitor's first session, 2 for the second, ...
    pub number: u32,
}

/// An ad platform's click id, and the time when the visitor arrived with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdClickId {
    /// The id as it stood in the landing URL. Case is significant.
    pub value: String,
    /// The time when it was first seen.
    pub at: Timestamp,
}

/// The campaign of a landing URL: the `utm_*` parameters under their Segment names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtmCampaign {
    /// `utm_campaign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `utm_source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `utm_medium`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// `utm_term`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// `utm_content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// `utm_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

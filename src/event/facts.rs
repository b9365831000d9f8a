//! What the gateway itself observed when an event arrived, as opposed to what the client claimed.
//!
//! Facts are written once, on the request path, and are trusted by everything downstream.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SenderRank;

/// What was observed about one event's arrival. Every field is absent when it was not observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFacts {
    /// The wire format the beacon spoke (`sdk`, `segment`, `pixel`, ...).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// The vendor whose tag in the page told of it: its library's beacon, or a call that a shim took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The visitor's address: the connection's, through trusted proxies, or the one a server
    /// holding the site's token reported.
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
    /// Where the address is, if there is a database to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<GeoLocation>,
    /// What speaks against a person, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<BotSuspicion>,
    /// The anonymous id was made for this event alone: nothing links it to another of the visitor.
    #[serde(default, rename = "passing", skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral_id: bool,
    /// The browser sent `Sec-GPC: 1`, the Global Privacy Control: its user opts out of the sale and
    /// sharing of data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gpc: bool,
    /// The browser sent `DNT: 1`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dnt: bool,
    /// The beacon as it was sent, which is all that this event is: the site passes it on to its vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beacon: Option<RawBeacon>,
    /// The vendor that hears of this event because its beacon is passed on.
    #[serde(default, rename = "told", skip_serializing_if = "Option::is_none")]
    pub forwarded_to: Option<String>,
    /// The sender proved to be one of the site's servers, so its claims about the visitor hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_server: bool,
    /// The message carried a valid login proof of the site for its user id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
}

impl EventFacts {
    /// The rank that the message itself showed. A browser that an earlier message bound to the user
    /// may rank higher: the profiles know.
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
    /// Whose it is.
    pub vendor: String,
    /// The request's method.
    pub method: String,
    /// The path below the vendor's mount, with its query.
    pub target: String,
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Encoding`: the body is kept as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The vendor's public key, where the library shows it in the head: the field's name and value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<(String, String)>,
    /// The body, base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// Where a visitor seems to be, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GeoLocation {
    /// ISO 3166-1, two letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The part of an ISO 3166-2 code behind the country: `ZH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its English name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// As it is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// A name of the IANA time zone database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// How much speaks against a person's browser, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BotSuspicion {
    /// 1 to 100, which is certain.
    pub score: u8,
    /// Words from the source, in the order of the checks.
    pub reasons: Vec<String>,
}

/// The low-entropy client hints (`Sec-CH-UA*`), as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientHints {
    /// `Sec-CH-UA`: the brand list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brands: Option<String>,
    /// `Sec-CH-UA-Mobile`.
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
    /// The visitor's id: a UUID the gateway minted.
    pub id: String,
    /// When the gateway first saw this visitor.
    pub since: Timestamp,
}

/// A visit: events of one visitor less than the site's idle time apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorSession {
    /// When the session began, in seconds since 1970: also its id, as in GA4.
    pub id: i64,
    /// 1 for the visitor's first session, 2 for the second, ...
    pub number: u32,
}

/// An ad platform's click id and when the visitor arrived with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdClickId {
    /// The id, as it stood in the landing URL. Case is significant.
    pub value: String,
    /// When it was first seen.
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

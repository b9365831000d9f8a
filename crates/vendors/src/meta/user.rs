//! The event's person: `user_data` (`docs/contracts/destinations.md` 2.2 to 2.5). Personal data is sent as
//! digests; data about the browser is sent as it is.

use std::net::IpAddr;

use jiff::tz::Offset;
use serde::Serialize;
use serde_json::Value;

use super::NAME;
use super::cookies::{self, CLICK, FBC, FBP};
use super::normalise::{self, hashed};
use super::settings::MetaSettings;
use super::source::APP;
use crate::email::is_email;
use crate::match_keys::MatchWeight::{High, Low, Medium};
use crate::match_keys::{
    MatchKey, RAISE_ADDRESS, RAISE_EMAIL, RAISE_IP, RAISE_NAME, RAISE_PHONE, RAISE_USER_AGENT,
    RAISE_USER_ID, key,
};
use crate::person::EventPerson;
use crate::products;
use tagway_core::event::EnrichedEvent;

/// The longest user agent that is sent; a longer one is cut.
const MAX_USER_AGENT_CHARS: usize = 1000;

/// The longest of Meta's own numbers of a person, in bytes; a longer text is none.
const MAX_NUMBER_CHARS: usize = 64;

/// The data in the order of its use to Meta (<https://www.facebook.com/business/help/765081237991954>).
pub(super) const MATCH_KEYS: &[MatchKey] = &[
    key("email", "E-mail address", "/em", High, RAISE_EMAIL),
    key("phone", "Telephone number", "/ph", High, RAISE_PHONE),
    key(
        "fbc",
        "Click on an advertisement",
        "/fbc",
        High,
        "load the SDK on every landing page of advertisements, so that the click (`fbclid`) is kept",
    ),
    key("external_id", "Your own user id", "/external_id", Medium, RAISE_USER_ID),
    key(
        "fbp",
        "Meta's browser id",
        "/fbp",
        Medium,
        "load the SDK in the page, and pass the cookie `_fbp` with events of servers",
    ),
    key("ip", "IP address", "/client_ip_address", Medium, RAISE_IP),
    key("user_agent", "Browser's name", "/client_user_agent", Medium, RAISE_USER_AGENT),
    key("first_name", "First name", "/fn", Low, RAISE_NAME),
    key("last_name", "Last name", "/ln", Low, RAISE_NAME),
    key("city", "City", "/ct", Low, RAISE_ADDRESS),
    key("state", "State", "/st", Low, RAISE_ADDRESS),
    key("postal_code", "Postal code", "/zp", Low, RAISE_ADDRESS),
    key("country", "Country", "/country", Low, RAISE_ADDRESS),
    key("birthday", "Date of birth", "/db", Low, "send `birthday` with identify"),
    key("gender", "Gender", "/ge", Low, "send `gender` with identify"),
];

/// One digest, in a list as Meta requires.
type MetaDigestList = Option<[String; 1]>;

/// The data by which Meta matches the person.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct MetaUserData {
    #[serde(skip_serializing_if = "Option::is_none")]
    em: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    ph: MetaDigestList,
    #[serde(rename = "fn", skip_serializing_if = "Option::is_none")]
    first_name: MetaDigestList,
    #[serde(rename = "ln", skip_serializing_if = "Option::is_none")]
    last_name: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    ge: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    db: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    ct: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    st: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    zp: MetaDigestList,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: MetaDigestList,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_id: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fbc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fbp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    madid: Option<String>,
    /// Meta's own numbers of a person: this one and the next two, of a login, a subscription and a lead form.
    #[serde(skip_serializing_if = "Option::is_none")]
    fb_login_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_id: Option<String>,
}

impl MetaUserData {
    /// Collects the matching data of an event's person.
    pub(super) fn of(event: &EnrichedEvent, settings: &MetaSettings, action_source: &str) -> Self {
        let person = EventPerson::of(event);
        let digest = |key, value: Option<&str>, normalise: &dyn Fn(&str) -> Option<String>| {
            let found = matched(event, key).or_else(|| hashed(value?, normalise));
            found.map(|digest| [digest])
        };
        let country = person.country();
        let country_code = country.as_deref().and_then(normalise::country);
        let this_year = Offset::UTC.to_datetime(event.event.received_at).year();
        let phone = |_: &str| person.telephone(&settings.telephones).map(String::from);
        Self {
            em: digest("em", person.email().as_deref(), &normalise::email),
            ph: digest("ph", person.phone().as_deref(), &phone),
            first_name: digest("fn", person.first_name().as_deref(), &normalise::name),
            last_name: digest("ln", person.last_name().as_deref(), &normalise::name),
            ge: digest("ge", person.gender().as_deref(), &normalise::gender),
            db: digest("db", person.birthday().as_deref(), &|text| {
                normalise::birthday(text, this_year)
            }),
            ct: digest("ct", person.city().as_deref(), &normalise::city),
            st: digest("st", person.state().as_deref(), &|text| {
                normalise::state(text, country_code.as_deref())
            }),
            zp: digest("zp", person.postal_code().as_deref(), &normalise::postal_code),
            country: digest("country", country.as_deref(), &normalise::country),
            external_id: external_ids(event),
            client_ip_address: event.ip().map(|ip| ip.to_canonical()).filter(is_public),
            client_user_agent: user_agent(event),
            fbc: fbc(event),
            fbp: browser_id(event, FBP, "fbp"),
            madid: if action_source == APP { advertising_id(event) } else { None },
            fb_login_id: own_number(event, "fb_login_id"),
            subscription_id: own_number(event, "subscription_id"),
            lead_id: own_number(event, "lead_id"),
        }
    }

    /// Returns true if the data is enough to match a person: Meta refuses a request with less.
    pub(super) fn is_matchable(&self) -> bool {
        let ids = [self.madid.as_ref(), self.lead_id.as_ref()];
        let says_who = self.em.is_some() || self.ph.is_some() || ids.iter().any(Option::is_some);
        let says_which_browser = self.fbc.is_some() || self.fbp.is_some();
        let says_which_client =
            self.client_ip_address.is_some() && self.client_user_agent.is_some();
        says_who || says_which_browser || says_which_client
    }
}

/// Returns one of Meta's own numbers, from the event, the client's ids or the profile.
fn own_number(event: &EnrichedEvent, name: &str) -> Option<String> {
    let stated = event.property(name).or_else(|| event.context(&["clientIds", name]));
    let text = products::text(stated.or_else(|| event.person_trait(name))?)?;
    (text.len() <= MAX_NUMBER_CHARS && !is_email(&text)).then_some(text)
}

/// Returns a digest that the page itself made for Meta's library.
fn matched(event: &EnrichedEvent, key: &str) -> Option<String> {
    hashed(event.context_text(&["clientIds", NAME, key])?, |_in_the_clear| None)
}

/// Returns the digests of the user id, the anonymous id and the page's own for Meta's library, each once.
fn external_ids(event: &EnrichedEvent) -> Vec<String> {
    let mut ids = Vec::with_capacity(3);
    let given = event.context_text(&["clientIds", NAME, "external_id"]);
    let all = [event.user_id(), event.event.anonymous_id.as_deref(), given];
    for id in all.into_iter().flatten() {
        if let Some(digest) = hashed(id, normalise::external_id)
            && !ids.contains(&digest)
        {
            ids.push(digest);
        }
    }
    ids
}

fn user_agent(event: &EnrichedEvent) -> Option<String> {
    let agent = event.user_agent()?.trim();
    (!agent.is_empty()).then(|| agent.chars().take(MAX_USER_AGENT_CHARS).collect())
}

/// Returns true if the address can be a visitor's. Meta refuses private ones.
pub(super) fn is_public(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_local = v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared;
            !(is_local || a == 0 || v4.is_multicast() || a >= 240)
        }
        IpAddr::V6(v6) => {
            let is_local = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local();
            !(is_local || v6.is_unspecified() || v6.is_multicast())
        }
    }
}

/// Returns the browser's cookie, else the value that the client sent for it.
fn browser_id(event: &EnrichedEvent, cookie: &str, property: &str) -> Option<String> {
    let cookie = event.event.facts.cookies.get(cookie).map(String::as_str);
    let stated = || event.property(property).and_then(Value::as_str);
    let read = || event.context_text(&["clientIds", property]);
    let valid =
        |text: &str| cookies::MetaCookieValue::parse(text).map(|value| value.whole.to_owned());
    cookie.and_then(valid).or_else(|| stated().and_then(valid)).or_else(|| read().and_then(valid))
}

/// Returns the click that led to the site: the cookie's, else built of the click in the page's URL or of
/// the gateway's stored one.
fn fbc(event: &EnrichedEvent) -> Option<String> {
    browser_id(event, FBC, "fbc").or_else(|| {
        let url = event.context_text(&["page", "url"]);
        let value = match (url.and_then(cookies::click_of), event.event.facts.click_ids.get(CLICK))
        {
            (Some(click), Some(known)) if known.value == click => (click, known.at),
            (Some(click), _) => (click, event.event.timestamp),
            (None, Some(known)) => (known.value.clone(), known.at),
            (None, None) => return None,
        };
        let built = cookies::assemble(&domain(url), value.1, &value.0);
        cookies::MetaCookieValue::parse(&built).is_some().then_some(built)
    })
}

/// Returns the domain that the cookie would be set for.
fn domain(url: Option<&str>) -> String {
    let host = url.and_then(|url| url::Url::parse(url).ok());
    let host = host.as_ref().and_then(url::Url::domain).unwrap_or_default();
    // Most domains have two labels: the best guess for an unknown one.
    psl::domain_str(host).unwrap_or("domain.example").to_owned()
}

/// Returns the device's advertising id, if its owner allows tracking.
fn advertising_id(event: &EnrichedEvent) -> Option<String> {
    let is_allowed = event.context(&["device", "adTrackingEnabled"])?.as_bool()?;
    let id = event.context_text(&["device", "advertisingId"])?.trim();
    let is_none = id.chars().all(|c| matches!(c, '0' | '-'));
    (is_allowed && !is_none).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_public_rejects_private_addresses() {
        for public in ["203.0.113.9", "100.63.0.1", "100.128.0.1", "2001:db8::1", "8.8.8.8"] {
            assert!(is_public(&public.parse().unwrap()), "{public}");
        }
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(&private.parse().unwrap()), "{private}");
        }
    }
}

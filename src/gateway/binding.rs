//! Decides which requests may use the visitor's cookie, and verifies the user ids that browsers prove. The rules
//! are those of [`SenderRank`](tagway_core::event::SenderRank).
//!
//! - A request that another site made a browser send is an event without the cookie: none is read, set, renewed or
//!   replaced. `Sec-Fetch-Site` decides, else the page in `Referer`. That applies to listed origins of another
//!   registrable domain as well: the cookie is `SameSite=Lax`, so no browser sends it there. A request that a person
//!   typed (`Sec-Fetch-Site: none`) is no page's event either.
//! - A GET that names anyone but the browser itself is an event without the cookie: any link or image can contain
//!   any id. Device ids are accepted if the browser's own cookies contain them.
//! - A request without these fields (from a program, an old browser) may use its cookie.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cookie::Cookie;
use http::header::ORIGIN;
use http::{HeaderMap, Method};
use serde_json::Value;
use url::{Host, Url};

use super::accept::SenderKind;
use super::credentials::CredentialCheck;
use super::decode::{JudgedMessages, LoginProofs, MessageDraft};
use super::head::{self, SEC_FETCH_SITE};
use super::{SiteRequest, routes};
use tagway_core::event::{Event, EventFacts, EventKind, JsonObject, RawBeacon, RawJsonObject};
use tagway_core::metrics::LoginProofLabels;
use tagway_core::visitor::{LoginProofCheck, RecognisedVisitor};
use tagway_storage::profile::{IdentityKind, identities};

/// The most proofs of one message that are checked.
const MAX_PROOFS: usize = 4;

/// Cookies whose values begin with a vendor's device id, before a dot: Matomo's and Snowplow's.
const ID_COOKIES: [&str; 2] = ["_pk_id", "_sp_id"];

impl SiteRequest<'_> {
    /// Returns true if a page of another site made the browser send the request.
    pub(super) fn is_cross_site(&self) -> bool {
        let fields = &self.head.headers;
        let mut sites = fields.get_all(SEC_FETCH_SITE).iter().peekable();
        if sites.peek().is_some() {
            let is_own = |site: &[u8]| matches!(site, b"same-origin" | b"same-site" | b"none");
            return !sites.all(|site| is_own(site.as_bytes()));
        }
        // Requests of foreign origins are refused elsewhere.
        if fields.contains_key(ORIGIN) {
            return false;
        }
        let page = head::referer(fields).and_then(|referer| Url::parse(&referer).ok());
        page.is_some_and(|page| {
            let is_listed = self.site.origins.contains(&page.origin().ascii_serialization());
            !is_listed && !is_same_site(&page, self.host)
        })
    }

    /// Returns true if the request's events may belong to the visitor in its cookie.
    pub(super) fn is_of_page(&self) -> bool {
        let mut sites = self.head.headers.get_all(SEC_FETCH_SITE).iter();
        !self.is_cross_site() && !sites.any(|site| site.as_bytes() == b"none")
    }

    /// Returns true if it is a GET that names anyone but the browser that sends it.
    pub(super) fn names_other_visitor(
        &self,
        drafts: &[MessageDraft],
        recognised: &RecognisedVisitor,
    ) -> bool {
        if self.head.method != Method::GET {
            return false;
        }
        let mut own = own_ids(&self.head.headers, recognised);
        own.push(routes::beacon::daily_id(self));
        drafts.iter().any(|draft| draft_names_other_visitor(draft, self.route.format(), &own))
    }

    /// Marks the messages that prove their user ids.
    pub(super) fn prove(&self, drafts: &mut [MessageDraft], sender: SenderKind) {
        if sender == SenderKind::Server || self.site.visitor.login.is_empty() {
            return;
        }
        for draft in drafts {
            let Some(check) = self.check(draft) else { continue };
            draft.event.facts.proven = check == LoginProofCheck::Valid;
            let labels = LoginProofLabels { site: self.site.name.clone(), result: check.name() };
            self.gateway.metrics.login_proofs.get_or_create(&labels).inc();
        }
    }

    /// Returns the result of a message's proofs, if any of them is for the gateway.
    fn check(&self, draft: &MessageDraft) -> Option<LoginProofCheck> {
        let best = |proofs: &[Box<str>]| {
            proofs.iter().take(MAX_PROOFS).map(|proof| self.check_proof(draft, proof)).max()
        };
        // A proof by another vendor's key is ignored, and is no failed attempt.
        let shared = best(&draft.proofs.shared).filter(|it| *it != LoginProofCheck::Invalid);
        best(&draft.proofs.ours).max(shared)
    }

    fn check_proof(&self, draft: &MessageDraft, proof: &str) -> LoginProofCheck {
        match draft.event.user_id.as_deref().filter(|_| self.head.method == Method::POST) {
            Some(user_id) => self.site.visitor.login.check(user_id, proof, self.received_at),
            None => LoginProofCheck::Invalid,
        }
    }

    /// Removes login proofs and the site's server token from a raw beacon, the last of the messages, before it is
    /// passed on; if they cannot be found in it, it is not passed on. `text`: its body, decompressed.
    pub(super) fn hide_secrets(&self, judged: &mut JudgedMessages, text: &[u8]) {
        let token = judged.write_key.as_deref();
        let token = token.filter(|key| CredentialCheck::of(self.site, key).is_servers());
        if self.site.visitor.login.is_empty() && token.is_none() {
            return;
        }
        let mut secrets: Vec<Box<str>> = token.map(Box::from).into_iter().collect();
        for draft in &judged.drafts {
            let LoginProofs { ours, shared } = &draft.proofs;
            let is_proof = |proof: &str| self.check_proof(draft, proof) != LoginProofCheck::Invalid;
            secrets.extend(ours.iter().chain(shared.iter().filter(|it| is_proof(it))).cloned());
        }
        if secrets.is_empty() {
            return;
        }
        let beacon = judged.drafts.last_mut().and_then(|draft| draft.beacon.as_mut());
        if beacon.is_some_and(|beacon| !remove_secrets(beacon, text, &secrets)) {
            judged.drafts.pop();
        }
    }
}

/// Removes secrets from a beacon; returns true if all were found.
fn remove_secrets(beacon: &mut RawBeacon, text: &[u8], secrets: &[Box<str>]) -> bool {
    let Ok(mut text) = String::from_utf8(text.to_vec()) else { return false };
    for secret in secrets {
        if !text.contains(&**secret) && !beacon.target.contains(&**secret) {
            return false;
        }
        text = text.replace(&**secret, "");
        beacon.target = beacon.target.replace(&**secret, "");
    }
    beacon.body = STANDARD.encode(text);
    beacon.content_encoding = None;
    true
}

/// Returns true if a page is of the host's registrable domain.
fn is_same_site(page: &Url, host: &str) -> bool {
    match page.host() {
        Some(Host::Domain(page)) => {
            let domain = |host| psl::domain_str(host);
            page == host || domain(page).is_some_and(|page| domain(host) == Some(page))
        }
        Some(address) => address.to_string() == host,
        None => false,
    }
}

/// Returns the device ids in the browser's own cookies.
fn own_ids(fields: &HeaderMap, recognised: &RecognisedVisitor) -> Vec<String> {
    let facts = EventFacts {
        cookies: recognised.cookies.clone(),
        visitor: recognised.is_known.then(|| recognised.visitor.clone()),
        ..EventFacts::default()
    };
    let known = identities(&empty_event(facts)).into_iter().map(|identity| identity.value);
    let cookies = head::cookies(fields);
    let cookies = Cookie::split_parse(&*cookies).filter_map(Result::ok).filter_map(|cookie| {
        let (name, value) = cookie.name_value();
        let is_id = ID_COOKIES.iter().any(|prefix| name.starts_with(prefix));
        Some(value.split('.').next()?.to_owned()).filter(|id| is_id && !id.is_empty())
    });
    known.chain(cookies).collect()
}

/// Returns an event with these facts and no content.
fn empty_event(facts: EventFacts) -> Event {
    let now = jiff::Timestamp::UNIX_EPOCH;
    Event {
        kind: EventKind::Page,
        message_id: String::new(),
        event: None,
        name: None,
        category: None,
        user_id: None,
        anonymous_id: None,
        group_id: None,
        previous_id: None,
        timestamp: now,
        received_at: now,
        original_timestamp: None,
        sent_at: None,
        properties: None,
        traits: None,
        context: None,
        integrations: None,
        facts,
    }
}

fn draft_names_other_visitor(draft: &MessageDraft, format: &str, own: &[String]) -> bool {
    let event = &draft.event;
    let tells = matches!(event.kind, EventKind::Identify | EventKind::Group | EventKind::Alias);
    if tells || draft.excerpt.has_traits || event.user_id.is_some() || event.previous_id.is_some() {
        return true;
    }
    // A context that cannot be read may name anyone.
    let Some(context) = readable(event.context.as_ref()) else { return true };
    // Profiles ignore a vendor's client id, but the vendor receives it.
    let clients = context.get("clientIds").and_then(Value::as_object);
    let mut clients = clients.into_iter().flat_map(JsonObject::values);
    if context.contains_key("groupId") || clients.any(|ids| ids.get("external_id").is_some()) {
        return true;
    }
    let facts = EventFacts { format: format.to_owned(), ..EventFacts::default() };
    let anonymous_id = event.anonymous_id.clone();
    let event = Event { anonymous_id, context: Some(context), ..empty_event(facts) };
    let is_another =
        |(kind, value): (IdentityKind, String)| kind.is_strong() || !own.contains(&value);
    identities(&event).into_iter().map(|it| (it.kind, it.value)).any(is_another)
}

fn readable(context: Option<&RawJsonObject>) -> Option<JsonObject> {
    context.map_or_else(|| Some(JsonObject::new()), |context| context.parse().ok())
}

/// Returns the name that tells a sender without a cookie from others: its own ids, else its address.
pub(super) fn sender_name(event: &Event<RawJsonObject>, client: IpAddr) -> String {
    match (&event.anonymous_id, &event.user_id) {
        (None, None) => match client {
            // The network of one customer.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("address {a:x}:{b:x}:{c:x}:{d:x}")
            }
            IpAddr::V4(address) => format!("address {address}"),
        },
        (device, user) => {
            let text = |id: &Option<String>| id.as_deref().unwrap_or_default().to_owned();
            format!("ids {}\0{}", text(device), text(user))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_of_the_site_of_their_registrable_domain() {
        let is_same = |page: &str, host: &str| is_same_site(&Url::parse(page).unwrap(), host);
        for (page, host) in [
            ("https://shop.example/a", "t.shop.example"),
            ("https://t.shop.example/", "t.shop.example"),
            ("http://www.shop.co.uk/", "t.shop.co.uk"),
            ("http://127.0.0.1:8000/", "127.0.0.1"),
            ("http://[::1]:8000/", "[::1]"),
            ("http://localhost/", "localhost"),
        ] {
            assert!(is_same(page, host), "{page} {host}");
        }
        for (page, host) in [
            ("https://evil.example/", "t.shop.example"),
            ("https://shop.example.evil.example/", "t.shop.example"),
            ("https://other.co.uk/", "t.shop.co.uk"),
            ("https://evil.github.io/", "shop.github.io"),
            ("http://10.0.0.1/", "127.0.0.1"),
            ("http://localhost/", "127.0.0.1"),
            ("about:blank", "t.shop.example"),
        ] {
            assert!(!is_same(page, host), "{page} {host}");
        }
    }
}

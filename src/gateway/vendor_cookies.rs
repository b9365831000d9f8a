//! Vendors' own browser cookies, issued by the gateway: a site that sends a vendor events gives each browser the
//! cookies by which that vendor tells browsers apart, so that they exist whether or not the vendor's library ever
//! ran, and are the same wherever the event comes from.
//!
//! No cookie is issued for a site without cookies, nor for a visitor who refused recognition or click ids, nor
//! without the consent that the destination requires.

use http::HeaderValue;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::SiteRequest;
use super::decode::MessageDraft;
use tagway_core::event::EventFacts;
use tagway_core::privacy::{ConsentDecision, UnknownConsent, decide};
use tagway_core::visitor::{self, RecognisedVisitor, VisitorRequest};
use tagway_vendors::{CookieContext, IssuedCookie};

/// The seconds of a day of UTC.
const DAY_SECONDS: i64 = 86_400;

/// One vendor's cookies at one site.
#[derive(Clone, Debug)]
pub struct VendorCookieIssuer {
    /// Makes the cookies that a browser lacks.
    pub issue_cookies: fn(&CookieContext<'_>) -> Vec<IssuedCookie>,
    /// Names of the cookies, or prefixes that end in `*`.
    pub cookies: &'static [&'static str],
    /// The consent categories that the visitor must have granted.
    pub consent: Vec<String>,
    /// The handling of a visitor whose choice is not known.
    pub unknown_consent: UnknownConsent,
}

impl VendorCookieIssuer {
    /// Returns true if the visitor agrees in each of their messages. `unknown`: the handling of a message without a
    /// choice.
    fn may(&self, drafts: &[MessageDraft], signalled: &[&str], unknown: UnknownConsent) -> bool {
        if self.consent.iter().any(|category| signalled.contains(&category.as_str())) {
            return false;
        }
        let keeps = |record| decide(&self.consent, record, unknown) == ConsentDecision::Keep;
        match drafts {
            [] => keeps(None),
            all => all.iter().all(|draft| keeps(draft.excerpt.consent.as_ref())),
        }
    }
}

impl SiteRequest<'_> {
    /// Issues the cookies that the browser lacks.
    pub(super) fn issue_vendor_cookies(
        &self,
        recognised: &mut RecognisedVisitor,
        visitor_request: &VisitorRequest<'_>,
        drafts: &[MessageDraft],
    ) {
        let settings = &self.site.visitor;
        if !recognised.is_remembered || !visitor_request.permissions.click_ids {
            return;
        }
        let (now, random) = moment_and_random(visitor_request, drafts);
        let privacy = &self.site.privacy;
        let signalled = self.refused_by_signals();
        let place = self.snapshot.geo.locate(self.client.client);
        let facts = EventFacts { place, ..EventFacts::default() };
        for minting in &self.site.cookie_issuers {
            let unknown = privacy.unknown(&facts, minting.unknown_consent);
            if !minting.may(drafts, &signalled, unknown) {
                continue;
            }
            let minted = (minting.issue_cookies)(&CookieContext {
                cookies: &recognised.cookies,
                click_ids: &recognised.click_ids,
                url: visitor_request.page_url,
                domain: visitor::cookie_domain(settings, visitor_request.host),
                now,
                random,
            });
            for IssuedCookie { name, value, max_age } in minted {
                let field: Option<HeaderValue> =
                    visitor::set_for_scripts(settings, visitor_request, (name, &value), max_age);
                if let Some(field) = field {
                    recognised.set_cookies.push(field);
                    recognised.cookies.insert(name.to_owned(), value);
                }
            }
        }
    }
}

/// Returns the time and the random part of new cookies. A library with an id of its own whose requests carry no
/// cookies may not keep these either, nor may the parallel requests of a first page: their cookies are the same all
/// day, derived from that id.
fn moment_and_random(
    visitor_request: &VisitorRequest<'_>,
    drafts: &[MessageDraft],
) -> (Timestamp, u32) {
    let own_id = drafts.iter().find_map(|draft| draft.event.anonymous_id.as_deref());
    let Some(id) = own_id.filter(|_| visitor_request.cookies.is_empty()) else {
        return (visitor_request.now, random());
    };
    let digest: [u8; 32] = Sha256::digest(id).into();
    let [a, b, c, d, ..] = digest;
    let day = visitor_request.now.as_second().div_euclid(DAY_SECONDS) * DAY_SECONDS;
    (Timestamp::from_second(day).unwrap_or(visitor_request.now), u32::from_be_bytes([a, b, c, d]))
}

/// Returns random bits, but not those of the visitor's own id: the vendor gets to know this number.
fn random() -> u32 {
    let [.., a, b, c, d] = Uuid::new_v4().into_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::tests::{TestGateway, TestResponse, limits, page, start_gateway};
    use crate::gateway::{GatewaySiteSettings, GatewaySiteSetup, GatewaySnapshot};
    use tagway_core::bots;
    use tagway_core::event::Event;
    use tagway_core::visitor::test_support::{settings, settings_of};

    /// Returns Meta's cookies, for visitors who granted `consent`.
    fn metas(consent: &[&str]) -> Vec<VendorCookieIssuer> {
        let consent = consent.iter().map(|&category| category.to_owned()).collect();
        let issue_cookies = tagway_vendors::find("meta").unwrap().issue_cookies.unwrap();
        vec![VendorCookieIssuer {
            issue_cookies,
            cookies: &["_fbp", "_fbc"],
            consent,
            unknown_consent: UnknownConsent::Deny,
        }]
    }

    async fn gateway_of(
        visitor: visitor::VisitorSettings,
        minting: Vec<VendorCookieIssuer>,
    ) -> TestGateway {
        let gateway = start_gateway().await;
        let setup = GatewaySiteSetup {
            id: gateway.site,
            name: "shop".into(),
            settings: GatewaySiteSettings {
                privacy: std::sync::Arc::default(),
                placeholder_ids: Default::default(),
                bots: bots::BotSettings { policy: bots::BotPolicy::Flag, score: 50 },
                mounts: Vec::new(),
                hosts: vec!["t.shop.example".to_owned()],
                origins: vec!["https://shop.example".to_owned()],
                write_key: Some("shop-web".to_owned()),
                server_token: None,
                shims: tagway_pages::script::ShimSettings::new(),
                origin: None,
            },
            visitor,
            cookie_issuers: minting,
            public: tagway_storage::profile::PublicProfilePaths::default(),
            sdk: tagway_pages::script::test_support::sdk(),
            integrations: Vec::new(),
            origin: None,
        };
        let metrics = gateway.gateway.metrics.clone();
        gateway.gateway.reload(GatewaySnapshot::new(
            limits(),
            0.0,
            tagway_core::geo::GeoDatabase::default(),
            vec![setup],
            &metrics,
        ));
        gateway
    }

    async fn send(gateway: &TestGateway, cookies: &str, context: Value) -> TestResponse {
        let message = json!({ "type": "page", "context": context });
        let mut request = page("/e");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        let answer = gateway.request(request, message.to_string()).await;
        assert_eq!(answer.status, 204);
        answer
    }

    /// Returns the `Set-Cookie` fields of Meta's cookies.
    fn set(answer: &TestResponse) -> Vec<&str> {
        let fields = answer.fields.get_all("set-cookie").iter();
        let fields = fields.map(|field| field.to_str().unwrap());
        fields.filter(|field| field.starts_with("_fb")).collect()
    }

    async fn last(gateway: &TestGateway) -> Event {
        gateway.events().await.pop().unwrap()
    }

    #[tokio::test]
    async fn browser_gets_the_cookies_and_its_event_carries_them() {
        let gateway = gateway_of(settings(), metas(&[])).await;
        let url = json!({ "page": { "url": "https://shop.example/?fbclid=AbC-1" } });
        let answer = send(&gateway, "", url).await;
        let [fbp, fbc] = set(&answer)[..] else { panic!("{:?}", answer.fields) };
        assert!(fbp.starts_with("_fbp=fb.1.1795435200000."), "{fbp}");
        assert!(fbc.starts_with("_fbc=fb.1.1795435200000.AbC-1; "), "{fbc}");
        for field in [fbp, fbc] {
            let mut parts: Vec<&str> = field.split("; ").skip(1).collect();
            parts.sort_unstable();
            let expected =
                ["Domain=shop.example", "Max-Age=7776000", "Path=/", "SameSite=Lax", "Secure"];
            assert_eq!(parts, expected, "the page's script reads it");
            let (pair, _) = field.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert_eq!(last(&gateway).await.facts.cookies[name], value);
        }
    }

    #[tokio::test]
    async fn browser_that_has_the_cookies_keeps_them() {
        let gateway = gateway_of(settings(), metas(&[])).await;
        let cookies = "_fbp=fb.1.1596403881668.1116446470; _fbc=fb.1.5.AbC";
        assert_eq!(set(&send(&gateway, cookies, json!({})).await), [""; 0]);
        let facts = last(&gateway).await.facts;
        assert_eq!(facts.cookies["_fbp"], "fb.1.1596403881668.1116446470");
        let url = json!({ "page": { "url": "https://shop.example/?fbclid=New" } });
        let answer = send(&gateway, cookies, url).await;
        let [fbc] = set(&answer)[..] else { panic!("{:?}", answer.fields) };
        assert!(fbc.starts_with("_fbc=fb.1.1795435200000.New; "), "{fbc}");
        assert_eq!(last(&gateway).await.facts.cookies["_fbc"], "fb.1.1795435200000.New");
    }

    #[tokio::test]
    async fn no_cookies_are_issued_without_vendor_visitor_cookie_or_consent() {
        let consents =
            |answer: bool| json!({ "consent": { "categoryPreferences": { "Marketing": answer } } });
        let without = settings_of("secret = \"0123456789abcdef\"\ncookies = false");
        for (visitor, minting, context, count) in [
            (settings(), Vec::new(), json!({}), 0),
            (without, metas(&[]), json!({}), 0),
            (settings(), metas(&["marketing"]), json!({}), 0),
            (settings(), metas(&["marketing"]), consents(false), 0),
            (settings(), metas(&["marketing"]), consents(true), 1),
        ] {
            let gateway = gateway_of(visitor, minting).await;
            let answer = send(&gateway, "", context).await;
            assert_eq!(set(&answer).len(), count, "{:?}", answer.fields);
            assert_eq!(last(&gateway).await.facts.cookies.len(), count);
        }
    }

    #[tokio::test]
    async fn library_that_keeps_no_cookies_gets_the_same_ones_all_day() {
        let gateway = gateway_of(settings(), metas(&[])).await;
        let mut made = Vec::new();
        for id in ["a1", "a1", "a2"] {
            let message = json!({ "type": "track", "event": "x", "anonymousId": id });
            gateway.request(page("/e"), message.to_string()).await;
            made.push(last(&gateway).await.facts.cookies["_fbp"].clone());
        }
        assert_eq!(made[0], made[1]);
        assert_ne!(made[1], made[2]);
    }

    #[tokio::test]
    async fn server_gets_no_cookies() {
        let gateway = gateway_of(settings(), metas(&[])).await;
        let message = json!({ "type": "page", "userId": "u", "writeKey": "shop-web" });
        let request = http::Request::post("/v1/page").header("host", "t.shop.example");
        let answer = gateway.request(request, message.to_string()).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.fields.contains_key("set-cookie"));
    }
}

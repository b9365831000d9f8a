//! The first-party identity behind a beacon: the visitor, the session, and the advertisement that led to the landing.
//! Pure: the time and the randomness are passed in.
//!
//! One signed cookie stores the identity, a second the landing URL's click ids and campaign. A cookie without a
//! valid signature is replaced and never trusted. Cookies are written only when their content changes, so that most
//! responses carry none. Without the visitor's permission they are neither read nor written, and the visitor is a
//! new one at each request (`docs/contracts/beacons.md` 12.7 and 12.11).

mod clicks;
mod cookie;
mod identity;
mod login;
mod settings;
mod sign;
#[cfg(any(test, feature = "testing"))]
pub mod test_support;
#[cfg(test)]
mod tests;

pub use cookie::{cookie_domain, set_for_scripts};
pub use login::{LoginKeys, LoginProofCheck};
pub use settings::{SITE_NAME, VISITOR_SETTINGS, VisitorSettings};

use std::collections::BTreeMap;

use ::cookie::Cookie;
use http::HeaderValue;
use jiff::Timestamp;

use self::clicks::LandingCookie;
use self::identity::VisitorCookie;
use crate::event::{AdClickId, UtmCampaign, VisitorIdentity, VisitorSession};

/// The most cookies of one request that are read: browsers keep about 180 per domain.
const MAX_COOKIES: usize = 200;

/// The most vendor cookies kept with an event; the next constant bounds the length of one value.
const MAX_VENDOR_COOKIES: usize = 16;
const MAX_VENDOR_COOKIE_BYTES: usize = 512;

/// The storage that the visitor has not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoragePermissions {
    /// Recognition by a cookie.
    pub cookies: bool,
    /// Storage of click ids of advertisements.
    pub click_ids: bool,
}

/// The facts of one request about its visitor.
#[derive(Clone, Copy, Debug)]
pub struct VisitorRequest<'a> {
    /// All cookies, as one `Cookie` field's value.
    pub cookies: &'a str,
    /// The host that the request is for: lower case, without a port.
    pub host: &'a str,
    /// True if the request came over TLS.
    pub secure: bool,
    /// The URL of the page, which may carry click ids and a campaign.
    pub page_url: Option<&'a str>,
    /// The storage that the visitor has not refused.
    pub permissions: StoragePermissions,
    /// The time of the request.
    pub now: Timestamp,
    /// The random bytes for the id of a new visitor.
    pub random: [u8; 16],
}

/// The visitor of a request, with the cookies to set.
#[derive(Clone, Debug)]
pub struct RecognisedVisitor {
    /// The visitor's identity.
    pub visitor: VisitorIdentity,
    /// The current session.
    pub session: VisitorSession,
    /// The remembered click ids, by the lower-case name of their query parameter.
    pub click_ids: BTreeMap<String, AdClickId>,
    /// The campaign of the last landing.
    pub campaign: Option<UtmCampaign>,
    /// The cookies of vendors' own scripts, by name.
    pub cookies: BTreeMap<String, String>,
    /// True if a cookie links this request to others of the visitor.
    pub is_remembered: bool,
    /// True if the request sent that cookie: otherwise the visitor is new, or the browser keeps no cookies.
    pub is_known: bool,
    /// The `Set-Cookie` fields for the response.
    pub set_cookies: Vec<HeaderValue>,
}

/// The names of vendor cookies that are stored with events.
#[derive(Clone, Debug, Default)]
pub struct VendorCookieNames {
    exact: Vec<&'static str>,
    prefixes: Vec<&'static str>,
}

impl VendorCookieNames {
    /// Creates the set from names, or prefixes that end in `*`.
    pub fn new(patterns: impl IntoIterator<Item = &'static str>) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                Some(prefix) => names.prefixes.push(prefix),
                None => names.exact.push(pattern),
            }
        }
        names
    }

    /// Returns true if the cookie is listed by its whole name.
    fn names(&self, name: &str) -> bool {
        self.exact.contains(&name)
    }

    /// Returns true if the cookie is stored with events.
    pub fn keeps(&self, name: &str) -> bool {
        self.names(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Gives the browser a new identity without click ids and campaign. Returns no cookies if the browser had none, or
/// may not be given one.
pub fn renew(
    settings: &VisitorSettings,
    names: &VendorCookieNames,
    request: &VisitorRequest<'_>,
) -> Vec<HeaderValue> {
    let known = recognise(settings, names, request);
    if !known.is_known || !known.is_remembered {
        return Vec::new();
    }
    let blank = VisitorRequest { cookies: "", page_url: None, ..*request };
    let mut set_cookies = recognise(settings, names, &blank).set_cookies;
    set_cookies.extend(expire(settings, request, &settings.clicks_name));
    set_cookies
}

/// Returns the field that deletes a cookie in the browser.
pub fn expire(
    settings: &VisitorSettings,
    request: &VisitorRequest<'_>,
    name: &str,
) -> Option<HeaderValue> {
    set_for_scripts(settings, request, (name, ""), std::time::Duration::ZERO)
}

/// Recognises the visitor of a request, or creates a new one.
pub fn recognise(
    settings: &VisitorSettings,
    names: &VendorCookieNames,
    request: &VisitorRequest<'_>,
) -> RecognisedVisitor {
    let (mut identity, mut clicks) = (None, None);
    let mut cookies = BTreeMap::new();
    let parsed = Cookie::split_parse(request.cookies).take(MAX_COOKIES).filter_map(Result::ok);
    for cookie in parsed {
        let (name, value) = cookie.name_value();
        if !request.permissions.cookies
            && (name == settings.cookie_name || name == settings.clicks_name)
        {
            continue;
        }
        // A subdomain may have set a cookie of the same name: the first with a valid signature counts.
        if name == settings.cookie_name {
            identity = identity.or_else(|| VisitorCookie::read(settings, value));
        } else if name == settings.clicks_name {
            clicks = clicks.or_else(|| LandingCookie::read(settings, value));
        } else if names.keeps(name)
            && value.len() <= MAX_VENDOR_COOKIE_BYTES
            // Cookies listed by their whole names are read, however many others share a prefix.
            && (names.names(name) || cookies.len() < MAX_VENDOR_COOKIES)
        {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }
    let is_known = identity.is_some();
    let (identity, identity_changed) = VisitorCookie::update(identity, settings, request);
    let (clicks, clicks_changed) = LandingCookie::update(clicks, settings, request);
    let mut set_cookies = Vec::new();
    let is_remembered = settings.cookies_on() && request.permissions.cookies;
    if is_remembered {
        if identity_changed {
            let value = identity.write(settings);
            set_cookies.extend(cookie::set(settings, request, &settings.cookie_name, value));
        }
        if clicks_changed {
            let value = clicks.write(settings);
            set_cookies.extend(cookie::set(settings, request, &settings.clicks_name, value));
        }
    }
    let (click_ids, campaign) = clicks.into_facts();
    RecognisedVisitor {
        visitor: identity.visitor(),
        session: identity.session(),
        click_ids,
        campaign,
        cookies,
        is_remembered,
        is_known,
        set_cookies,
    }
}

//! The first-party identity behind a beacon: who the visitor is, which visit this is, and what
//! advertisement led here. Pure: the time and the randomness are passed in.
//!
//! The identity lives in one signed cookie, what the landing URL carried in a second. A cookie that
//! is not ours, or no longer as we wrote it, is replaced and never trusted. Cookies are written
//! only when they say something new, so that most answers carry none. Without the visitor's leave
//! they are neither read nor written, and the visitor is somebody new at each request
//! (`contracts/beacons.md` 12.7 and 12.11).

mod clicks;
mod cookie;
mod identity;
mod login;
mod settings;
mod sign;
#[cfg(test)]
pub(crate) mod tests;

pub use cookie::{cookie_domain, set_for_scripts};
pub use login::{LoginKeys, LoginProofCheck};
pub use settings::VisitorSettings;

use std::collections::BTreeMap;

use ::cookie::Cookie;
use http::HeaderValue;
use jiff::Timestamp;

use self::clicks::LandingCookie;
use self::identity::VisitorCookie;
use crate::event::{AdClickId, UtmCampaign, VisitorIdentity, VisitorSession};

/// Cookies of one request that are looked at: browsers keep about 180 per domain.
const MAX_COOKIES: usize = 200;

/// Vendor cookies kept with an event, and the longest value of one.
const MAX_VENDOR_COOKIES: usize = 16;
const MAX_VENDOR_COOKIE_BYTES: usize = 512;

/// What the visitor has not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoragePermissions {
    /// To be known again by a cookie.
    pub cookies: bool,
    /// To have the ids of advertisements kept.
    pub ads: bool,
}

/// What one request shows of its visitor.
#[derive(Clone, Copy, Debug)]
pub struct VisitorRequest<'a> {
    /// All cookies, as one `Cookie` field's value.
    pub cookies: &'a str,
    /// The host that the request is for: lower case, without a port.
    pub host: &'a str,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The URL of the page.
    pub landing: Option<&'a str>,
    /// What the visitor has not refused.
    pub leave: StoragePermissions,
    /// Now.
    pub now: Timestamp,
    /// For the id of a new visitor.
    pub random: [u8; 16],
}

/// Who the visitor is.
#[derive(Clone, Debug)]
pub struct RecognisedVisitor {
    /// The identity.
    pub visitor: VisitorIdentity,
    /// The visit.
    pub session: VisitorSession,
    /// Remembered click ids, by the lower-case name of their query parameter.
    pub click_ids: BTreeMap<String, AdClickId>,
    /// The remembered campaign.
    pub campaign: Option<UtmCampaign>,
    /// Cookies of vendors' own scripts, by name.
    pub cookies: BTreeMap<String, String>,
    /// Whether a cookie links this request to others of the visitor.
    pub is_remembered: bool,
    /// Whether the request brought that cookie: else the visitor is new, or their browser keeps none.
    pub is_known: bool,
    /// `Set-Cookie` fields for the answer.
    pub set_cookies: Vec<HeaderValue>,
}

/// The names of vendors' cookies that are worth keeping.
#[derive(Clone, Debug, Default)]
pub struct VendorCookieNames {
    exact: Vec<&'static str>,
    prefixes: Vec<&'static str>,
}

impl VendorCookieNames {
    /// Names, or prefixes that end in `*`.
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

    /// Whether the cookie is known by its whole name.
    fn names(&self, name: &str) -> bool {
        self.exact.contains(&name)
    }

    /// Whether the cookie is worth keeping.
    pub fn keeps(&self, name: &str) -> bool {
        self.names(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Makes the browser somebody else's: a new identity, and nothing of what led the last one here. Nothing
/// if it had none, or may not be given one.
pub fn renew(
    settings: &VisitorSettings,
    names: &VendorCookieNames,
    seen: &VisitorRequest<'_>,
) -> Vec<HeaderValue> {
    let known = recognise(settings, names, seen);
    if !known.is_known || !known.is_remembered {
        return Vec::new();
    }
    let blank = VisitorRequest { cookies: "", landing: None, ..*seen };
    let mut set_cookies = recognise(settings, names, &blank).set_cookies;
    set_cookies.extend(expire(settings, seen, &settings.clicks_name));
    set_cookies
}

/// The field that makes a browser forget a cookie.
pub fn expire(
    settings: &VisitorSettings,
    seen: &VisitorRequest<'_>,
    name: &str,
) -> Option<HeaderValue> {
    set_for_scripts(settings, seen, (name, ""), std::time::Duration::ZERO)
}

/// Recognises the visitor of a request, or makes a new one.
pub fn recognise(
    settings: &VisitorSettings,
    names: &VendorCookieNames,
    seen: &VisitorRequest<'_>,
) -> RecognisedVisitor {
    let (mut identity, mut clicks) = (None, None);
    let mut cookies = BTreeMap::new();
    let parsed = Cookie::split_parse(seen.cookies).take(MAX_COOKIES).filter_map(Result::ok);
    for cookie in parsed {
        let (name, value) = cookie.name_value();
        if !seen.leave.cookies && (name == settings.cookie_name || name == settings.clicks_name) {
            continue;
        }
        // A subdomain may have set a cookie of the same name: the first that is ours counts.
        if name == settings.cookie_name {
            identity = identity.or_else(|| VisitorCookie::read(settings, value));
        } else if name == settings.clicks_name {
            clicks = clicks.or_else(|| LandingCookie::read(settings, value));
        } else if names.keeps(name)
            && value.len() <= MAX_VENDOR_COOKIE_BYTES
            // However many cookies share a prefix, those that are known by name are seen.
            && (names.names(name) || cookies.len() < MAX_VENDOR_COOKIES)
        {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }
    let is_known = identity.is_some();
    let (identity, identity_changed) = VisitorCookie::update(identity, settings, seen);
    let (clicks, clicks_changed) = LandingCookie::update(clicks, settings, seen);
    let mut set_cookies = Vec::new();
    let is_remembered = settings.cookies_on() && seen.leave.cookies;
    if is_remembered {
        if identity_changed {
            let value = identity.write(settings);
            set_cookies.extend(cookie::set(settings, seen, &settings.cookie_name, value));
        }
        if clicks_changed {
            let value = clicks.write(settings);
            set_cookies.extend(cookie::set(settings, seen, &settings.clicks_name, value));
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

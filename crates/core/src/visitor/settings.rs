//! The visitor settings of a site.

use std::net::IpAddr;
use std::time::Duration;

use jiff::civil::Date;

use super::login::LoginKeys;
use super::sign::VisitorSigningKeys;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The described name of a site, to which its cookies are bound.
pub const SITE_NAME: Setting = Setting::text("name").example("shop").required().doc(
    "1 to 64 characters of a-z, 0-9, \"_\" and \"-\"; a label of metrics and a key \
             of the stored data",
);

/// The described settings of a site.
pub const VISITOR_SETTINGS: &[Setting] = &[
    SITE_NAME,
    Setting::boolean("cookies")
        .default("true")
        .doc("true: visitors are remembered in a first-party cookie"),
    Setting::text("cookie_name")
        .default("_tw")
        .doc("the cookie's name; NAME_c has click ids and the campaign"),
    Setting::positive_duration("cookie_max_age")
        .default("400d")
        .doc("browsers keep no cookie longer; renewed in each session"),
    Setting::positive_duration("session_idle")
        .default("30m")
        .doc("a session ends after this time without a request, as in GA4"),
    Setting::duration("click_id_max_age")
        .default("90d")
        .doc("the age up to which click ids are kept; ad platforms count no older clicks"),
    Setting::texts("cookie_consent").default("[\"analytics\"]").doc(
        "a visitor who refused one of these, or every category, gets no cookie and is \
             not recognised again; context.consent.categoryPreferences of an event has the \
             visitor's choices",
    ),
    Setting::texts("click_id_consent")
        .default("[\"advertising\"]")
        .doc("a visitor who refused one of these, or every category, has no click ids stored"),
    Setting::secrets("previous_secrets")
        .default("[]")
        .doc("secrets that still verify cookies after \"secret\" was changed"),
    Setting::secrets("previous_login_keys")
        .default("[]")
        .doc("keys whose login proofs are still valid after \"login_key\" was changed"),
    Setting::secret("login_key").example("${SHOP_LOGIN_KEY}").doc(
        "lets the site's server prove the logged-in user: a proof is the HMAC-SHA256 of \
             the user id with this key; docs/identity.md shows how to compute it. A browser \
             that sends the proof, or sent it before, acts for that user. Any other browser \
             only claims the user id: its events are delivered and have no authority over \
             the user's profile. At least 16 characters (use 32 random ones), different from \
             the values of all other settings, and never in a page",
    ),
    Setting::text("cookie_domain")
        .example("shop.example")
        .doc("the domain of the cookies; by default the registrable domain of the request's host"),
    Setting::secret("secret").example("${SHOP_SECRET}").doc(
        "signs cookies for this site only: a cookie of one site is not valid at another, \
             even with the same secret; by default a random secret in data_dir",
    ),
];

/// Browsers keep no cookie longer (draft-ietf-httpbis-rfc6265bis, section 5.5).
const MAX_COOKIE_AGE: Duration = Duration::from_secs(400 * 86_400);

/// The longest name of a cookie: the value needs the space.
const MAX_NAME_BYTES: usize = 64;

/// The shortest secret that is accepted: whoever guesses it can impersonate any visitor.
pub(super) const MIN_SECRET_CHARS: usize = 16;

/// The settings by which one site recognises its visitors.
#[derive(Clone, Debug)]
pub struct VisitorSettings {
    cookies: bool,
    pub(super) cookie_name: String,
    pub(super) clicks_name: String,
    pub(super) cookie_domain: Option<String>,
    pub(super) cookie_max_age: Duration,
    pub(super) session_idle: Duration,
    pub(super) click_id_max_age: Duration,
    cookie_consent: Vec<String>,
    click_id_consent: Vec<String>,
    pub(super) keys: VisitorSigningKeys,
    /// The keys that verify login proofs.
    pub login: LoginKeys,
}

impl VisitorSettings {
    /// Reads one of `[[sites]]`. If it names no `secret`, [`VisitorSettings::set_secret`] must follow.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(VISITOR_SETTINGS);
        let cookie_name = section.string("cookie_name");
        let site = section.opt_string("name").unwrap_or_default();
        let secret = section.opt_secret("secret");
        let previous = section.secrets("previous_secrets");
        let cookie_domain = section.opt_string("cookie_domain");
        let settings = Self {
            cookies: section.boolean("cookies"),
            clicks_name: format!("{cookie_name}_c"),
            cookie_name,
            cookie_domain: cookie_domain.map(|domain| domain.to_ascii_lowercase()),
            cookie_max_age: section.duration("cookie_max_age"),
            session_idle: section.duration("session_idle"),
            click_id_max_age: section.duration("click_id_max_age"),
            cookie_consent: section.strings("cookie_consent"),
            click_id_consent: section.strings("click_id_consent"),
            keys: VisitorSigningKeys::new(&site, secret.as_ref(), &previous),
            login: LoginKeys::read(section),
        };
        let is_short = |secret: &SecretString| secret.expose().chars().count() < MIN_SECRET_CHARS;
        if secret.as_ref().is_some_and(is_short) {
            section.error("secret", "must have at least 16 characters");
        }
        if previous.iter().any(is_short) {
            section.error("previous_secrets", "must have at least 16 characters each");
        }
        let is_login_key = |secret: &SecretString| settings.login.contains(secret.expose());
        if secret.iter().chain(&previous).any(is_login_key) {
            section.error(
                "login_key",
                "must differ from secret: a holder of login_key could sign cookies with it",
            );
        }
        settings.check(section);
        settings
    }

    fn check(&self, section: &mut SettingsSection<'_>) {
        if self.cookie_name.len() > MAX_NAME_BYTES {
            section.error("cookie_name", "must have at most 64 characters");
        }
        if self.cookie_name.is_empty() || !self.cookie_name.bytes().all(is_token) {
            section.error("cookie_name", "must consist of letters, digits, \"_\" and \"-\"");
        }
        if self.cookie_max_age > MAX_COOKIE_AGE {
            section
                .error("cookie_max_age", "must not be above 400d: browsers keep no cookie longer");
        }
        if self.cookie_domain.as_deref().is_some_and(|domain| !is_registrable(domain)) {
            section.error(
                "cookie_domain",
                "must be a domain that the site can own, such as \"shop.example\"",
            );
        }
    }

    /// Returns true if the site stores its visitors' identity in cookies.
    pub(super) fn cookies_on(&self) -> bool {
        self.cookies
    }

    /// Returns true if a browser's cookies seem to contain the visitor's.
    pub fn is_shown_in(&self, cookies: &str) -> bool {
        cookies.contains(&*self.cookie_name)
    }

    /// Returns the consent categories for recognition. A visitor who refused one of them is not remembered.
    pub fn cookie_consent(&self) -> &[String] {
        &self.cookie_consent
    }

    /// Returns the consent categories for click ids. No click ids of a visitor who refused one of them are kept.
    pub fn click_id_consent(&self) -> &[String] {
        &self.click_id_consent
    }

    /// Returns true if there is no key to sign with yet.
    pub fn lacks_secret(&self) -> bool {
        self.keys.lack_current()
    }

    /// Returns an id for this address and user agent on one day: for libraries that send no id of their own, and
    /// whose requests carry no cookie. Without the key it reveals nothing about the address, and nothing links it
    /// to another day's id.
    pub fn daily_id(&self, day: Date, client: IpAddr, user_agent: &str) -> String {
        self.keys.name(&format!("{day} {client} {user_agent}"))
    }

    /// Signs a value for a purpose; it cannot be opened for another.
    pub fn seal(&self, purpose: &str, payload: &[u8]) -> String {
        self.keys.seal(purpose, payload)
    }

    /// Returns the payload signed for the purpose; `None` if the signature is not valid.
    pub fn open(&self, purpose: &str, value: &str) -> Option<Vec<u8>> {
        self.keys.open(purpose, value).map(|opened| opened.payload)
    }

    /// Rejects values from before signatures named their site, if one of these sites has one of the secrets as
    /// well. Returns true if one has.
    pub fn drop_shared_keys<'s>(&mut self, others: impl IntoIterator<Item = &'s Self>) -> bool {
        self.keys.drop_shared_keys(others.into_iter().map(|it| &it.keys))
    }

    /// Signs with this secret from now on; the former keys still verify.
    pub fn set_secret(&mut self, secret: &SecretString) {
        self.keys.set_current(secret);
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Returns true if browsers accept a cookie for the domain: below a public suffix, not one itself.
fn is_registrable(domain: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !domain.starts_with('.') && domain.bytes().all(plain) && psl::domain_str(domain).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_domain_is_below_a_public_suffix() {
        for good in ["shop.example", "shop.co.uk", "a.shop.example"] {
            assert!(is_registrable(good), "{good}");
        }
        for bad in ["co.uk", "com", "github.io", ".shop.example", "", "shop.example;Secure"] {
            assert!(!is_registrable(bad), "{bad}");
        }
    }
}

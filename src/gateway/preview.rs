//! Tokens for previews of draft integrations: signed with the site's secret, for one site and a limited time.

use jiff::Timestamp;

use super::signed_link;
use tagway_core::visitor;

/// Returns the signing purpose of tokens.
fn purpose(site: &str) -> String {
    format!("preview of {site}")
}

/// Returns a token for the drafts of a site, valid until `until`.
pub fn token(keys: &visitor::VisitorSettings, site: &str, until: Timestamp) -> String {
    signed_link::sign(keys, &purpose(site), until, None)
}

/// Returns true if a token is one for the site, and still valid.
pub(super) fn opens(
    keys: &visitor::VisitorSettings,
    site: &str,
    token: &str,
    now: Timestamp,
) -> bool {
    signed_link::verify(keys, &purpose(site), token, now).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_core::visitor::test_support::settings_of;
    use tagway_settings::SecretString;

    fn keys(secret: &str) -> visitor::VisitorSettings {
        let mut settings = settings_of("");
        settings.set_secret(&SecretString::new(secret));
        settings
    }

    #[test]
    fn token_opens_the_drafts_of_its_site_until_its_time() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-11-25T11:00:00Z".parse().unwrap();
        let own = keys("0123456789abcdef");
        let good = token(&own, "shop", later);
        assert!(
            good.len() < 200
                && good.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        );
        assert!(opens(&own, "shop", &good, now));
        assert!(!opens(&own, "shop", &good, later), "its time is over");
        assert!(!opens(&own, "other", &good, now), "another site with the same secret");
        assert!(!opens(&keys("fedcba9876543210"), "shop", &good, now), "another secret");
        for place in 0..good.len() {
            let mut forged = good.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character of a part has two unused bits.
            let says_the_same = own.open(&purpose("shop"), &forged).is_some();
            assert!(!opens(&own, "shop", &forged, now) || says_the_same, "{forged}");
        }
        assert!(!opens(&own, "shop", "", now) && !opens(&own, "shop", &good.repeat(9), now));
        let cookie = own.seal("_tw", b"99999999999");
        assert!(!opens(&own, "shop", &cookie, now), "a cookie of the site is no token");
    }
}

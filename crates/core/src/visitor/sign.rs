//! Signed values: `1.KEY.PAYLOAD.MAC`, each part base64url without padding but for the version. The
//! MAC is HMAC-SHA256 over the cookie's name and the first three parts, cut to 128 bits, so that a
//! value cannot move to another cookie.
//!
//! The MAC's key is derived from the secret and the site's name: sites that share a secret do not accept each
//! other's values. Values that the secret itself signed date from before keys had a site. They are accepted where
//! no other site has the secret, and signed again.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use tagway_settings::SecretString;

/// The version of the value's form. Another form gets another number.
const VERSION: &str = "1";

/// The bytes of the MAC: 128 bits cannot be guessed.
const MAC_BYTES: usize = 16;

/// The keys that sign and verify values.
#[derive(Clone)]
pub(super) struct VisitorSigningKeys {
    site: String,
    /// The current key first, if there is one; all verify.
    all: Vec<VisitorSigningKey>,
    /// The secrets themselves as keys, which only verify.
    unbound: Vec<VisitorSigningKey>,
    has_current: bool,
}

#[derive(Clone)]
struct VisitorSigningKey {
    /// The key's short id: it tells keys apart, and reveals nothing of the secret.
    id: String,
    /// A digest that tells all possible keys apart.
    digest: [u8; 32],
    /// The HMAC state after the key itself, so that it is not hashed again for every cookie.
    mac: Hmac<Sha256>,
}

/// The payload of a value whose signature is valid.
pub(super) struct VerifiedPayload {
    pub(super) payload: Vec<u8>,
    /// True if an older key signed it.
    pub(super) is_old: bool,
}

impl fmt::Debug for VisitorSigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.all.len())
    }
}

impl VisitorSigningKeys {
    pub(super) fn new(
        site: &str,
        current: Option<&SecretString>,
        previous: &[SecretString],
    ) -> Self {
        let secrets =
            || current.into_iter().chain(previous).map(|secret| secret.expose().as_bytes());
        Self {
            site: site.to_owned(),
            all: secrets().filter_map(|secret| VisitorSigningKey::bound(site, secret)).collect(),
            unbound: secrets().filter_map(VisitorSigningKey::new).collect(),
            has_current: current.is_some(),
        }
    }

    /// Rejects values from before keys had a site, where one of these sites has the secret as well. Returns true if
    /// one has.
    pub(super) fn drop_shared_keys<'k>(
        &mut self,
        others: impl IntoIterator<Item = &'k Self>,
    ) -> bool {
        let before = self.unbound.len();
        for other in others {
            self.unbound.retain(|key| other.unbound.iter().all(|it| it.digest != key.digest));
        }
        self.unbound.len() < before
    }

    /// Returns true if no key can sign.
    pub(super) fn lack_current(&self) -> bool {
        !self.has_current
    }

    pub(super) fn set_current(&mut self, secret: &SecretString) {
        let secret = secret.expose().as_bytes();
        if let Some(key) = VisitorSigningKey::bound(&self.site, secret) {
            self.all.insert(0, key);
            self.unbound.extend(VisitorSigningKey::new(secret));
            self.has_current = true;
        }
    }

    /// Returns the signed value; empty, and so never valid, if there is no key.
    pub(super) fn seal(&self, name: &str, payload: &[u8]) -> String {
        let Some(key) = self.all.first() else { return String::new() };
        let mut value = String::with_capacity(payload.len() * 4 / 3 + 40);
        value.push_str(VERSION);
        value.push('.');
        value.push_str(&key.id);
        value.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut value);
        let mac = key.mac(name, &value);
        value.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut value);
        value
    }

    /// Returns a keyed name for a text: the same with the same key, and empty without one.
    pub(super) fn name(&self, stated: &str) -> String {
        let Some(key) = self.all.first() else { return String::new() };
        URL_SAFE_NO_PAD.encode(key.mac("", stated))
    }

    /// Returns the payload of a value that one of the keys signed for this cookie.
    pub(super) fn open(&self, name: &str, value: &str) -> Option<VerifiedPayload> {
        let (signed, mac) = value.rsplit_once('.')?;
        let mut parts = signed.split('.');
        let (version, id, payload) = (parts.next()?, parts.next()?, parts.next()?);
        if version != VERSION || parts.next().is_some() {
            return None;
        }
        let (place, key) =
            self.all.iter().chain(&self.unbound).enumerate().find(|(_, key)| key.id == id)?;
        let mut given = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(mac, &mut given).ok()?;
        if length != MAC_BYTES || !bool::from(key.mac(name, signed).ct_eq(&given)) {
            return None;
        }
        Some(VerifiedPayload { payload: URL_SAFE_NO_PAD.decode(payload).ok()?, is_old: place > 0 })
    }
}

impl VisitorSigningKey {
    /// Derives the key of a site from a secret.
    fn bound(site: &str, secret: &[u8]) -> Option<Self> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(b"tagway cookie key of the site ");
        mac.update(site.as_bytes());
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        Self::new(&key)
    }

    fn new(secret: &[u8]) -> Option<Self> {
        let mut digest = Sha256::new();
        digest.update("tagway cookie key id ");
        digest.update(secret);
        let digest: [u8; 32] = digest.finalize().into();
        let (start, _) = digest.split_first_chunk::<3>()?;
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        Some(Self { id: URL_SAFE_NO_PAD.encode(start), digest, mac })
    }

    fn mac(&self, name: &str, signed: &str) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(name.as_bytes());
        mac.update(b"=");
        mac.update(signed.as_bytes());
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut cut = [0; MAC_BYTES];
        for (to, from) in cut.iter_mut().zip(whole) {
            *to = from;
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(site: &str) -> VisitorSigningKeys {
        VisitorSigningKeys::new(site, Some(&SecretString::new("0123456789abcdef")), &[])
    }

    /// Returns keys that sign as before keys had a site.
    fn unbound() -> VisitorSigningKeys {
        let VisitorSigningKeys { site, unbound, has_current, .. } = keys("shop");
        VisitorSigningKeys { site, all: unbound, unbound: Vec::new(), has_current }
    }

    #[test]
    fn value_of_another_site_with_the_same_secret_is_not_taken() {
        let (shop, blog) = (keys("shop"), keys("blog"));
        let value = shop.seal("_tw", b"visitor");
        assert!(shop.open("_tw", &value).is_some_and(|it| !it.is_old));
        assert!(blog.open("_tw", &value).is_none());
        assert_ne!(shop.name("x"), blog.name("x"));
    }

    #[test]
    fn value_from_before_keys_had_a_site_is_taken_where_one_site_alone_has_the_secret() {
        let before = unbound().seal("_tw", b"visitor");
        let mut shop = keys("shop");
        let other =
            VisitorSigningKeys::new("blog", Some(&SecretString::new("fedcba9876543210")), &[]);
        assert!(!shop.drop_shared_keys([&other]));
        let opened = shop.open("_tw", &before).unwrap();
        assert!(opened.is_old && opened.payload == b"visitor", "it is signed anew");
        let former = SecretString::new("0123456789abcdef");
        let other = VisitorSigningKeys::new(
            "blog",
            Some(&SecretString::new("fedcba9876543210")),
            &[former],
        );
        assert!(shop.drop_shared_keys([&other]), "as another's secret of before as well");
        assert!(shop.open("_tw", &before).is_none());
        assert!(shop.open("_tw", &shop.seal("_tw", b"visitor")).is_some());
    }
}

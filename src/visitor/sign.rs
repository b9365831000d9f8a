//! Signed values: `1.KEY.PAYLOAD.MAC`, each part base64url without padding but for the version. The
//! MAC is HMAC-SHA256 over the cookie's name and the first three parts, cut to 128 bits, so that a
//! value cannot move to another cookie.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::settings::Secret;

/// The form of the value. Another form gets another number.
const VERSION: &str = "1";

/// Bytes of the MAC: 128 bits cannot be guessed.
const MAC_BYTES: usize = 16;

/// The keys that values are signed with.
#[derive(Clone)]
pub(super) struct Keys {
    /// The current key first, if there is one; all verify.
    all: Vec<Key>,
    has_current: bool,
}

#[derive(Clone)]
struct Key {
    /// Tells keys apart, and nothing of the secret.
    id: String,
    /// The state after the key itself, so that it is not hashed again for every cookie.
    mac: Hmac<Sha256>,
}

/// A value that was ours.
pub(super) struct Opened {
    pub(super) payload: Vec<u8>,
    /// Whether an older key signed it.
    pub(super) is_old: bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.all.len())
    }
}

impl Keys {
    pub(super) fn new(current: Option<&Secret>, previous: &[Secret]) -> Self {
        let all = current.into_iter().chain(previous).filter_map(Key::new).collect();
        Self { all, has_current: current.is_some() }
    }

    /// Whether no key signs.
    pub(super) fn lack_current(&self) -> bool {
        !self.has_current
    }

    pub(super) fn set_current(&mut self, secret: &Secret) {
        if let Some(key) = Key::new(secret) {
            self.all.insert(0, key);
            self.has_current = true;
        }
    }

    /// The signed value; empty, and so nobody's, if there is no key.
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

    /// A name for what is said: the same with the same key, and nobody's without.
    pub(super) fn name(&self, said: &str) -> String {
        let Some(key) = self.all.first() else { return String::new() };
        URL_SAFE_NO_PAD.encode(key.mac("", said))
    }

    /// The payload of a value that one of the keys signed for this cookie.
    pub(super) fn open(&self, name: &str, value: &str) -> Option<Opened> {
        let (signed, mac) = value.rsplit_once('.')?;
        let mut parts = signed.split('.');
        let (version, id, payload) = (parts.next()?, parts.next()?, parts.next()?);
        if version != VERSION || parts.next().is_some() {
            return None;
        }
        let (place, key) = self.all.iter().enumerate().find(|(_, key)| key.id == id)?;
        let mut given = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(mac, &mut given).ok()?;
        if length != MAC_BYTES || !bool::from(key.mac(name, signed).ct_eq(&given)) {
            return None;
        }
        Some(Opened { payload: URL_SAFE_NO_PAD.decode(payload).ok()?, is_old: place > 0 })
    }
}

impl Key {
    fn new(secret: &Secret) -> Option<Self> {
        let mut digest = Sha256::new();
        digest.update("tagway cookie key id ");
        digest.update(secret.expose());
        let digest: [u8; 32] = digest.finalize().into();
        let (start, _) = digest.split_first_chunk::<3>()?;
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
        Some(Self { id: URL_SAFE_NO_PAD.encode(start), mac })
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

//! Login proofs: the site's server signs a user id with a key that only it and the gateway have. A browser that
//! sends the proof acts for that user (rank *proven*).
//!
//! Two forms, each HMAC-SHA256 under the site's `login_key`, the MAC in hexadecimal digits or in
//! base64url without padding:
//!
//! - `MAC(user id)` is valid until the key changes: the `userHash` that Segment and Intercom know;
//! - `v1.EXPIRY.MAC(user id, a zero byte, EXPIRY)` is valid until EXPIRY, seconds since 1970.
//!
//! A user id with a zero byte has no proof: it could stand for another id and a time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::settings::MIN_SECRET_CHARS;
use tagway_settings::{SecretString, SettingsSection};

/// The version of the form that expires.
const VERSION: &str = "v1";

/// The bytes of a MAC.
const MAC_BYTES: usize = 32;

/// The longest proof that is checked: the longest valid one has 88 bytes.
const MAX_PROOF_BYTES: usize = 128;

/// The longest expiry: the seconds of the next 300,000 years.
const MAX_EXPIRY_DIGITS: usize = 13;

/// The keys that verify a site's login proofs.
#[derive(Clone, Default)]
pub struct LoginKeys(Vec<LoginKey>);

#[derive(Clone)]
struct LoginKey {
    secret: SecretString,
    /// The HMAC state after the key itself, so that it is not hashed again for every proof.
    mac: Hmac<Sha256>,
}

/// The result of a proof's check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoginProofCheck {
    /// None of the keys made it for this user id.
    Invalid,
    /// One of the keys made it, and it has expired.
    Expired,
    /// The site confirms the user id.
    Valid,
}

impl LoginProofCheck {
    /// Returns the value of the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Valid => "valid",
        }
    }
}

impl fmt::Debug for LoginKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginKeys({})", self.0.len())
    }
}

impl LoginKeys {
    /// Reads `login_key` and `previous_login_keys` of one of `[[sites]]`.
    pub(super) fn read(section: &mut SettingsSection<'_>) -> Self {
        let current = section.opt_secret("login_key");
        let previous = section.secrets("previous_login_keys");
        let is_short = |secret: &SecretString| secret.expose().chars().count() < MIN_SECRET_CHARS;
        if current.as_ref().is_some_and(is_short) {
            section.error("login_key", "must have at least 16 characters");
        }
        if previous.iter().any(is_short) {
            section.error("previous_login_keys", "must have at least 16 characters each");
        }
        Self(current.into_iter().chain(previous).filter_map(LoginKey::new).collect())
    }

    /// Returns true if the site has no login key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if a text is one of the keys.
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|key| key.secret.matches(text))
    }

    /// Checks a proof of a user id. The time that it takes reveals nothing about the right MAC.
    pub fn check(&self, user_id: &str, proof: &str, now: Timestamp) -> LoginProofCheck {
        if proof.len() > MAX_PROOF_BYTES || user_id.contains('\0') {
            return LoginProofCheck::Invalid;
        }
        let Some(LoginProofParts { expiry, mac }) = LoginProofParts::of(proof) else {
            return LoginProofCheck::Invalid;
        };
        let is_match = |key: &LoginKey| bool::from(key.mac(user_id, expiry).ct_eq(&mac));
        if !self.0.iter().any(is_match) {
            return LoginProofCheck::Invalid;
        }
        let until = expiry.map(str::parse::<i64>);
        match until {
            Some(Ok(until)) if now.as_second() >= until => LoginProofCheck::Expired,
            Some(Err(_)) => LoginProofCheck::Invalid,
            Some(Ok(_)) | None => LoginProofCheck::Valid,
        }
    }
}

/// The parts of a proof's text.
struct LoginProofParts<'p> {
    /// The expiry as written: the MAC covers these digits.
    expiry: Option<&'p str>,
    mac: [u8; MAC_BYTES],
}

impl<'p> LoginProofParts<'p> {
    fn of(proof: &'p str) -> Option<Self> {
        let mut parts = proof.split('.');
        let (expiry, mac) = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            (mac, None, ..) => (None, mac),
            (VERSION, Some(expiry), Some(mac), None) => (Some(expiry), mac),
            _ => return None,
        };
        let is_time = |expiry: &str| {
            (1..=MAX_EXPIRY_DIGITS).contains(&expiry.len())
                && expiry.bytes().all(|byte| byte.is_ascii_digit())
        };
        if expiry.is_some_and(|expiry| !is_time(expiry)) {
            return None;
        }
        Some(Self { expiry, mac: read_mac(mac)? })
    }
}

fn read_mac(text: &str) -> Option<[u8; MAC_BYTES]> {
    let mut mac = [0; MAC_BYTES];
    if text.len() != 2 * MAC_BYTES {
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut mac).ok()?;
        return (length == MAC_BYTES).then_some(mac);
    }
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut mac {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(mac)
}

impl LoginKey {
    fn new(secret: SecretString) -> Option<Self> {
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
        Some(Self { secret, mac })
    }

    fn mac(&self, user_id: &str, expiry: Option<&str>) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(user_id.as_bytes());
        if let Some(expiry) = expiry {
            mac.update(&[0]);
            mac.update(expiry.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> LoginKeys {
        LoginKeys(texts.iter().filter_map(|text| LoginKey::new(SecretString::new(*text))).collect())
    }

    fn hex(mac: [u8; MAC_BYTES]) -> String {
        hex::encode(mac)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn login_keys_accept_the_hash_that_servers_compute() {
        // printf %s u1 | openssl dgst -sha256 -hmac 0123456789abcdef
        let hash = "5162bddb18bda0082a7b39c472f7d118234c897c39ed61e775751c91fafdc56f";
        let keys = keys(&["0123456789abcdef"]);
        assert_eq!(keys.check("u1", hash, now()), LoginProofCheck::Valid);
        // printf 'u1\0001900000000' | openssl dgst -sha256 -hmac 0123456789abcdef
        let hash = "8acb68b81d578bcbffa357ae3467d8f1c4766141df26348f16ec6ca87fe4ee7e";
        let proof = format!("v1.1900000000.{hash}");
        assert_eq!(keys.check("u1", &proof, now()), LoginProofCheck::Valid);
    }

    #[test]
    fn login_keys_accept_both_forms_and_both_encodings_of_their_own_user_only() {
        let keys = keys(&["0123456789abcdef"]);
        let (plain, until) = (keys.0[0].mac("u1", None), keys.0[0].mac("u1", Some("1800000001")));
        let good = [
            hex(plain),
            hex(plain).to_uppercase(),
            URL_SAFE_NO_PAD.encode(plain),
            format!("v1.1800000001.{}", hex(until)),
            format!("v1.1800000001.{}", URL_SAFE_NO_PAD.encode(until)),
        ];
        for proof in &good {
            assert_eq!(keys.check("u1", proof, now()), LoginProofCheck::Valid, "{proof}");
            assert_eq!(keys.check("u2", proof, now()), LoginProofCheck::Invalid, "{proof}");
            assert_eq!(keys.check("u1 ", proof, now()), LoginProofCheck::Invalid, "{proof}");
            assert_eq!(keys.check("u1\0", proof, now()), LoginProofCheck::Invalid, "{proof}");
        }
        // An id that ends like a time has no proof: it would be one of another id.
        assert_eq!(keys.check("u1\u{0}1800000001", &hex(until), now()), LoginProofCheck::Invalid);
        let bad = [
            String::new(),
            "x".repeat(64),
            hex(plain).chars().take(62).collect(),
            format!("{}00", hex(plain)),
            format!("v1.1800000002.{}", hex(until)),
            format!("v1.01800000001.{}", hex(until)),
            format!("v1.+1800000001.{}", hex(until)),
            format!("v1..{}", hex(plain)),
            format!("v2.1800000001.{}", hex(until)),
            format!("v1.1800000001.{}.", hex(until)),
            format!("v1.{}.{}", "9".repeat(40), hex(until)),
            "é".repeat(32),
            "a".repeat(100_000),
        ];
        for proof in &bad {
            assert_eq!(keys.check("u1", proof, now()), LoginProofCheck::Invalid, "{proof}");
        }
        assert_eq!(LoginKeys::default().check("u1", &hex(plain), now()), LoginProofCheck::Invalid);
    }

    #[test]
    fn a_proof_expires_at_its_time_and_only_if_it_was_valid() {
        let keys = keys(&["0123456789abcdef"]);
        for (until, result) in [
            ("1800000001", LoginProofCheck::Valid),
            ("1800000000", LoginProofCheck::Expired),
            ("0", LoginProofCheck::Expired),
        ] {
            let proof = format!("v1.{until}.{}", hex(keys.0[0].mac("u1", Some(until))));
            assert_eq!(keys.check("u1", &proof, now()), result, "{until}");
            assert_eq!(keys.check("u2", &proof, now()), LoginProofCheck::Invalid, "{until}");
        }
    }

    #[test]
    fn previous_login_keys_still_verify() {
        let old = keys(&["the-key-of-last-year"]);
        let both = keys(&["0123456789abcdef", "the-key-of-last-year"]);
        let proof = hex(old.0[0].mac("u1", None));
        assert_eq!(both.check("u1", &proof, now()), LoginProofCheck::Valid);
        assert_eq!(
            keys(&["0123456789abcdef"]).check("u1", &proof, now()),
            LoginProofCheck::Invalid
        );
        assert!(both.contains("the-key-of-last-year") && !both.contains("another"));
        assert_eq!(format!("{both:?}"), "LoginKeys(2)");
    }
}

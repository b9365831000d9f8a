//! The signature of Standard Webhooks, version 1: HMAC-SHA256 over id, timestamp and body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use tagway_settings::SecretString;

/// The prefix of a key in base64.
const PREFIX: &str = "whsec_";

/// The length of a key with the prefix, in decoded bytes (the convention's bounds).
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A signing key, ready to use.
#[derive(Clone)]
pub struct WebhookSigningKey(Hmac<Sha256>);

/// The reason why a secret is no signing key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookKeyError {
    /// The text after the prefix is no base64.
    #[error("must be base64 after whsec_")]
    NotBase64,
    /// The decoded key is too short or too long.
    #[error("must be base64 of 24 to 64 bytes after whsec_")]
    Length,
}

impl WebhookSigningKey {
    /// Reads `whsec_` and base64; any other text is the key itself, as for older receivers.
    ///
    /// # Errors
    ///
    /// Returns an error if the text after `whsec_` is not base64 of 24 to 64 bytes.
    pub fn read(secret: &SecretString) -> Result<Self, WebhookKeyError> {
        let text = secret.expose();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return WebhookSigningKey::new(text.as_bytes());
        };
        let bytes = STANDARD.decode(encoded).map_err(|_not_base64| WebhookKeyError::NotBase64)?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(WebhookKeyError::Length);
        }
        WebhookSigningKey::new(&bytes)
    }

    fn new(bytes: &[u8]) -> Result<Self, WebhookKeyError> {
        Hmac::new_from_slice(bytes).map(Self).map_err(|_length| WebhookKeyError::Length)
    }
}

/// Returns the value of `webhook-signature`: one signature per key, newest first. `None` without a key.
pub fn signatures(
    keys: &[WebhookSigningKey],
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> Option<String> {
    let signed = |WebhookSigningKey(keyed): &WebhookSigningKey| {
        let mut mac = keyed.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    let signatures: Vec<String> = keys.iter().map(signed).collect();
    (!signatures.is_empty()).then(|| signatures.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses the example of the convention's own libraries (standard-webhooks, `webhook_test`).
    #[test]
    fn the_conventions_own_example_is_signed_as_published() {
        let key =
            WebhookSigningKey::read(&SecretString::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
                .unwrap();
        let signature = signatures(
            &[key],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn key_with_prefix_must_be_base64_of_24_to_64_bytes() {
        let read = |text: &str| WebhookSigningKey::read(&SecretString::new(text)).map(|_| ());
        assert_eq!(read("whsec_c2hvcnQ="), Err(WebhookKeyError::Length));
        assert_eq!(read("whsec_!"), Err(WebhookKeyError::NotBase64));
        assert_eq!(read("a word of the receiver's"), Ok(()));
    }
}

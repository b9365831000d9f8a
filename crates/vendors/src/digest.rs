//! Digests of personal data, in the form that vendors match people by (`docs/contracts/destinations.md` 0.3):
//! SHA-256 of the normalised text's UTF-8 bytes, in 64 lower-case hexadecimal digits, without salt. An empty
//! text has no digest: the digest of nothing is the sign of a broken sender.

use sha2::{Digest, Sha256};

/// Returns the digest of a normalised text. A text that is a digest already stays unchanged.
pub fn sha256(normalised: &str) -> Option<String> {
    if normalised.is_empty() {
        return None;
    }
    if is_sha256(normalised) {
        return Some(normalised.to_ascii_lowercase());
    }
    Some(hex::encode(Sha256::digest(normalised.as_bytes())))
}

/// Returns true if the whole text is a digest, hashed by its sender.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_contract() {
        let mary = "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec";
        assert_eq!(sha256("mary").as_deref(), Some(mary));
        assert_eq!(sha256(&mary.to_uppercase()).as_deref(), Some(mary), "it is one already");
        let longer = format!("{mary}0");
        assert_ne!(sha256(&longer), Some(longer.clone()), "64 digits within more are not");
        assert_eq!(sha256(""), None);
    }
}

//! Secrets that the program makes: of sessions, tokens and links. Only their hashes are stored.

use sha2::{Digest, Sha256};

use tagway_settings::SecretString;

/// The random bytes of a secret: 256 bits cannot be guessed, so that a hash without a salt is enough.
const RANDOM_BYTES: usize = 32;

/// The longest presented secret that is hashed, in bytes.
const MAX_BYTES: usize = 200;

/// The hash of a secret, in one use.
pub type SecretHash = [u8; 32];

/// The use of a secret: one of another use has another hash.
#[derive(Clone, Copy, Debug)]
pub(super) enum SecretUse<'a> {
    /// A session on this host: the cookie of one host is of no use on another.
    Session(&'a str),
    Token,
    Link,
}

/// The system has no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system returned no random numbers")]
pub struct RandomnessError;

/// Makes a secret with this prefix.
pub(super) fn issue(prefix: &str) -> Result<SecretString, RandomnessError> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).or(Err(RandomnessError))?;
    let digits: String = hex::encode(random);
    Ok(SecretString::new(format!("{prefix}{digits}")))
}

/// The hash of a secret that a caller presents; `None` for a text that is none.
pub(super) fn hash(secret: &str, purpose: SecretUse<'_>) -> Option<SecretHash> {
    if secret.is_empty() || secret.len() > MAX_BYTES {
        return None;
    }
    let (name, host) = match purpose {
        SecretUse::Session(host) => ("session", host),
        SecretUse::Token => ("token", ""),
        SecretUse::Link => ("link", ""),
    };
    let mut hash = Sha256::new();
    for part in [name, host] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.to_ascii_lowercase());
    }
    hash.update(secret);
    Some(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_their_hashes_depend_on_the_use() {
        let (one, other) = (issue("x_").unwrap(), issue("x_").unwrap());
        assert!(one != other && one.expose().len() == 2 + 2 * RANDOM_BYTES);
        let uses = [
            SecretUse::Session("localhost"),
            SecretUse::Session("ops.example"),
            SecretUse::Token,
            SecretUse::Link,
        ];
        let hashes: std::collections::BTreeSet<_> =
            uses.into_iter().map(|purpose| hash(one.expose(), purpose).unwrap()).collect();
        assert_eq!(hashes.len(), 4);
        let session = |host| hash(one.expose(), SecretUse::Session(host));
        assert_eq!(session("LocalHost"), session("localhost"));
        assert!(hash("", SecretUse::Token).is_none());
        assert!(hash(&"x".repeat(MAX_BYTES + 1), SecretUse::Token).is_none());
    }
}

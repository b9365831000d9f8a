//! Hashes of passwords: Argon2id with 19 MiB, two passes and one lane, the least of OWASP's Password Storage Cheat
//! Sheet (read 2026-12). At most two are computed at once, off the asynchronous threads.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use tagway_settings::SecretString;

/// Memory in KiB, passes and lanes of a hash.
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The hashes that are computed at once: each takes a thread and 19 MiB for about 30 ms.
const AT_ONCE: usize = 2;

/// The longest wait for a turn. Some hundred logins would have to wait.
const TURN_TIME: Duration = Duration::from_secs(10);

/// The shortest password in characters: it is the only factor.
pub const PASSWORD_CHARS: usize = 12;

/// The longest password in bytes. Longer ones only cost time.
pub const PASSWORD_BYTES: usize = 1024;

/// A hash that no password has, with the costs of the others: the answer for an unknown account takes as long.
const NO_PASSWORD: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The reason that a password is neither stored nor compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is too short, too long, or the account's name.
    #[error(
        "a password needs 12 characters or more, at most 1024 bytes, and is not the account's name"
    )]
    Unusable,
    /// Too many passwords are compared.
    #[error("too many logins at once: try again in some seconds")]
    Busy,
    /// The system has no random numbers or no memory.
    #[error("the password cannot be hashed")]
    System,
}

/// Computes and compares the hashes of passwords.
#[derive(Clone, Debug)]
pub(super) struct PasswordVault {
    turns: Arc<Semaphore>,
}

impl PasswordVault {
    pub(super) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Returns the hash of a new password, as text with its parameters.
    pub(super) async fn hash(
        &self,
        name: &str,
        password: SecretString,
    ) -> Result<String, PasswordError> {
        let text = password.expose();
        let is_long_enough = text.chars().count() >= PASSWORD_CHARS;
        if !is_long_enough || text.len() > PASSWORD_BYTES || text.eq_ignore_ascii_case(name) {
            return Err(PasswordError::Unusable);
        }
        self.compute(move |hasher| {
            let hash = hasher.hash_password(password.expose().as_bytes());
            hash.map(|hash| hash.to_string()).or(Err(PasswordError::System))
        })
        .await
    }

    /// Compares a password with a stored hash. Takes the same time without one, and returns false.
    pub(super) async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<bool, PasswordError> {
        if password.expose().len() > PASSWORD_BYTES {
            return Ok(false);
        }
        self.compute(move |hasher| {
            let hash = stored.as_deref().unwrap_or(NO_PASSWORD);
            let is_equal = hasher.verify_password(password.expose().as_bytes(), hash).is_ok();
            Ok(is_equal && stored.is_some())
        })
        .await
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'_>) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = tokio::time::timeout(TURN_TIME, self.turns.clone().acquire_owned()).await;
        let turn: OwnedSemaphorePermit =
            turn.or(Err(PasswordError::Busy))?.or(Err(PasswordError::Busy))?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until the end, even if the caller has left.
            let _turn = turn;
            let params = Params::new(MEMORY, PASSES, LANES, None).or(Err(PasswordError::System))?;
            work(&Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        });
        task.await.unwrap_or(Err(PasswordError::System))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn password_is_verified_by_its_hash_only() {
        let vault = PasswordVault::new();
        let hash = async |text: &str| vault.hash("ana", SecretString::new(text)).await;
        let stored = hash("correct horse battery").await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(hash("correct horse battery").await.unwrap(), stored, "each has its salt");
        let verify = async |text: &str, stored: Option<&str>| {
            vault.verify(SecretString::new(text), stored.map(str::to_owned)).await.unwrap()
        };
        assert!(verify("correct horse battery", Some(&stored)).await);
        assert!(!verify("correct horse batterY", Some(&stored)).await);
        assert!(!verify("correct horse battery", None).await);
        assert!(!verify("correct horse battery", Some("")).await);
    }

    #[tokio::test]
    async fn hash_rejects_short_long_and_equal_passwords() {
        let vault = PasswordVault::new();
        for wrong in ["elevenchars", &"x".repeat(PASSWORD_BYTES + 1), "ANA@EXAMPLE.COM"] {
            let result = vault.hash("ana@example.com", SecretString::new(wrong)).await;
            assert_eq!(result, Err(PasswordError::Unusable));
        }
        assert!(vault.hash("ana", SecretString::new("zwölf Zeichen")).await.is_ok());
    }

    #[test]
    fn hash_of_no_password_has_the_usual_costs() {
        let hash = argon2::password_hash::phc::PasswordHash::new(NO_PASSWORD).unwrap();
        let params = Params::try_from(&hash).unwrap();
        let costs = (params.m_cost(), params.t_cost(), params.p_cost());
        assert_eq!(costs, (MEMORY, PASSES, LANES));
        assert_eq!(hash.hash.unwrap().len(), Params::DEFAULT_OUTPUT_LEN);
    }
}

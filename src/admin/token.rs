//! The operators' token: a file in `data_dir` that only its owner can read.

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tagway_settings::SecretString;

/// The token's file name in `data_dir`.
const FILE: &str = "admin.token";

/// The random bytes of a token, enough that it cannot be guessed.
const RANDOM_BYTES: usize = 32;

/// The shortest valid token: a shorter text was cut, or written by hand.
const MIN_CHARS: usize = 32;

/// The longest valid token.
const MAX_BYTES: u64 = 4096;

/// The reason that there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file cannot be read or written.
    #[error("{path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// Users other than the owner may use the file.
    #[error(
        "{path} has mode {mode:03o}, so others may read it: run `chmod 600` on it, or remove it to get a \
         new token"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file has no valid token.
    #[error("{path} contains no token of 32 characters or more: remove it to get a new token")]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// The system returned no random numbers.
    #[error("the system returned no random numbers")]
    NoRandom(#[source] getrandom::Error),
}

/// Reads the token in `data_dir`; made on first use. The folder must exist.
///
/// # Errors
///
/// If the file cannot be read or written, others may read it, or it has no valid token.
pub fn load_token(data_dir: &Path) -> Result<SecretString, AdminTokenError> {
    match read_token(data_dir) {
        Err(AdminTokenError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            create(&data_dir.join(FILE))
        }
        result => result,
    }
}

/// Reads the token in `data_dir`, if it exists and only its owner can read it.
///
/// # Errors
///
/// If the file cannot be read, others may read it, or it has no valid token.
pub fn read_token(data_dir: &Path) -> Result<SecretString, AdminTokenError> {
    let path = data_dir.join(FILE);
    let io = |source| AdminTokenError::Io { path: path.clone(), source };
    let file = std::fs::File::open(&path).map_err(io)?;
    // Checks the open file, not the path: nothing can be swapped in between.
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AdminTokenError::Exposed { path, mode });
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
    let token = text.trim();
    if token.len() < MIN_CHARS || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(AdminTokenError::Unusable { path });
    }
    Ok(SecretString::new(token))
}

fn create(path: &Path) -> Result<SecretString, AdminTokenError> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(AdminTokenError::NoRandom)?;
    let token: String = hex::encode(random);
    // Written to a second file and renamed, so that a crash leaves no partial token.
    let draft = path.with_extension("token.new");
    let write = || {
        if draft.exists() {
            std::fs::remove_file(&draft)?;
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(|source| AdminTokenError::Io { path: path.to_owned(), source })?;
    Ok(SecretString::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_made_once_with_private_permissions() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_token(dir.path()), Err(AdminTokenError::Io { .. })));
        let token = load_token(dir.path()).unwrap();
        assert_eq!(token.expose().len(), 2 * RANDOM_BYTES);
        assert_eq!(load_token(dir.path()).unwrap(), token);
        assert_eq!(read_token(dir.path()).unwrap(), token);
        let file = dir.path().join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o644] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(load_token(dir.path()), Err(AdminTokenError::Exposed { .. })),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn cut_token_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        load_token(dir.path()).unwrap();
        std::fs::write(dir.path().join(FILE), "abc\n").unwrap();
        assert!(matches!(load_token(dir.path()), Err(AdminTokenError::Unusable { .. })));
    }
}

//! The keys that sign the cookies of sites without a configured key: made once and stored in the data
//! folder.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use tagway_settings::SecretString;

/// Random bytes of a key: as many as HMAC-SHA256 can use.
const KEY_BYTES: usize = 32;

/// The longest key file that is read; one is twice [`KEY_BYTES`] and a line break.
const MAX_FILE_BYTES: u64 = 1024;

/// The stored key of a site; made if there is none. The site's name is safe in a path: the configuration
/// allows letters, digits, `_` and `-` only.
///
/// # Errors
///
/// Fails if the file cannot be read or written, is readable by others, or has no key.
pub fn site_key(data_dir: &Path, site: &str) -> anyhow::Result<SecretString> {
    let path = data_dir.join(format!("site-{site}.key"));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let mut bytes = [0; KEY_BYTES];
            getrandom::fill(&mut bytes).context("no randomness")?;
            let text: String = hex::encode(bytes);
            writeln!(file, "{text}")?;
            file.sync_all()?;
            Ok(SecretString::new(text))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut file = std::fs::File::open(&path)?;
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                bail!("{} is readable by others: change its mode to 0600", path.display());
            }
            let mut text = String::new();
            Read::by_ref(&mut file).take(MAX_FILE_BYTES).read_to_string(&mut text)?;
            if text.trim().len() < 2 * KEY_BYTES {
                bail!(
                    "{} does not contain a key: remove it, and the gateway creates a new one",
                    path.display()
                );
            }
            Ok(SecretString::new(text.trim()))
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_key_is_made_once_with_private_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let key = site_key(folder.path(), "shop").unwrap();
        assert_eq!(site_key(folder.path(), "shop").unwrap(), key);
        assert_ne!(site_key(folder.path(), "other").unwrap(), key);
        let path = folder.path().join("site-shop.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(site_key(folder.path(), "shop").is_err());
    }
}

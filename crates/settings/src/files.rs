//! Settings that name files. Relative paths start from the configuration file's folder, whatever the
//! working directory.

use std::path::PathBuf;

use super::layer::join;
use super::report::ConfigError;
use super::section::SettingsSection;

impl SettingsSection<'_> {
    /// A required path, of a file or a folder. A relative one starts from the configuration file's folder.
    pub fn path(&mut self, key: &str) -> PathBuf {
        let path = self.string(key);
        self.environment.base.join(path)
    }

    /// A path, if set. A relative one starts from the configuration file's folder.
    pub fn opt_path(&mut self, key: &str) -> Option<PathBuf> {
        Some(self.environment.base.join(self.opt_string(key)?))
    }

    /// Notes a mistake at a line of the file that a key names.
    pub fn error_in_file(&mut self, key: &str, line: usize, message: &str) {
        let Some(path) = self.opt_path(key) else { return };
        let (file, key) = (path.display().to_string(), join(&self.path, key));
        self.report.add(ConfigError { file, line, key, message: message.to_owned() });
    }

    /// Reads the text of the file that a key names, relative to the configuration file. `None` after a
    /// mistake, which is noted, and if the key is not set.
    pub fn opt_text_file(&mut self, key: &str, max_bytes: usize) -> Option<String> {
        use std::io::Read as _;
        let path = self.opt_path(key)?;
        let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
        let mut text = String::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
        match read {
            Err(error) => self.error(key, &format!("the file cannot be read: {error}")),
            Ok(bytes) if bytes > max_bytes => {
                self.error(key, &format!("the file has more than {max_bytes} bytes"));
            }
            Ok(_) => return Some(text),
        }
        None
    }
}

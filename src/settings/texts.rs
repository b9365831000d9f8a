//! Settings that are files beside the configuration.

use super::section::Section;

impl Section<'_> {
    /// The text of the file that a key names, relative to the configuration file. Mistakes are noted;
    /// `None` then, and if the key is not set.
    pub fn opt_text_file(&mut self, key: &str, max_bytes: usize) -> Option<String> {
        use std::io::Read as _;
        let path = self.environment.base.join(self.opt_string(key)?);
        let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
        let mut text = String::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
        match read {
            Err(error) => self.mistake(key, &format!("the file cannot be read: {error}")),
            Ok(bytes) if bytes > max_bytes => {
                self.mistake(key, &format!("the file has more than {max_bytes} bytes"));
            }
            Ok(_) => return Some(text),
        }
        None
    }
}

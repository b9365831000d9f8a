//! The sources of settings: files, and the environment that their strings may refer to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::credentials::{is_credential_name, path_of_url};
use super::headers;
use super::redaction::SecretRedactor;
use super::report::{ConfigError, ConfigErrorReport};

/// The text of one configuration file.
#[derive(Clone)]
pub struct ConfigFile {
    /// The file's name as the user wrote it, for messages.
    pub name: String,
    /// Its TOML text.
    pub text: String,
}

impl fmt::Debug for ConfigFile {
    /// Formats without the text, which may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// Parses the text; every syntax mistake goes to the report.
    pub fn parse<'s>(&'s self, report: &ConfigErrorReport) -> Spanned<DeTable<'s>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let repeated = if errors.is_empty() { Vec::new() } else { headers::repeated(&self.text) };
        for error in errors {
            let line = error.span().map_or(1, |span| self.line_at(span.start));
            // Each key of a repeated table is reported as repeated, too.
            let within = headers::enclosing(&self.text, line).unwrap_or_default();
            if repeated.iter().any(|it| it.line <= line && headers::is_within(within, &it.name)) {
                continue;
            }
            let message = error.message().trim().to_owned();
            report.add(ConfigError { file: self.name.clone(), line, key: String::new(), message });
        }
        for headers::RepeatedTable { name, line, message } in repeated {
            report.add(ConfigError { file: self.name.clone(), line, key: String::new(), message });
            report.stop_reading(name);
        }
        table
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

/// The environment that `${NAME}` and `${file:PATH}` refer to.
#[derive(Clone, Default)]
pub struct ConfigEnvironment {
    /// The environment variables.
    pub variables: BTreeMap<String, String>,
    /// The folder that relative paths in `${file:PATH}` start from.
    pub base: PathBuf,
    /// Records the secrets that are read: all of files, and of variables whose names indicate a secret.
    pub redaction: SecretRedactor,
}

impl fmt::Debug for ConfigEnvironment {
    /// Formats without the variables, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The reason that a string could not be expanded from the environment.
#[derive(Debug, thiserror::Error)]
pub enum ExpansionError {
    /// No variable has the name in `${NAME}`.
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// The file of `${file:PATH}` cannot be read.
    #[error("the file {path} cannot be read: {source}")]
    NoFile {
        /// The file's path.
        path: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// `${` without `}`.
    #[error("\"${{\" is not closed")]
    NotClosed,
}

/// The largest file that `${file:PATH}` reads: secrets and keys are short.
const MAX_FILE_BYTES: u64 = 64 * 1024;

impl ConfigEnvironment {
    /// Replaces every `${...}` in the text; `$${` is a literal `${`. A file's trailing line break is not
    /// part of its value.
    pub(super) fn expand(&self, text: &str) -> Result<String, ExpansionError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = after;
                continue;
            }
            let (name, tail) = after.split_once('}').ok_or(ExpansionError::NotClosed)?;
            out.push_str(before);
            out.push_str(&self.lookup(name)?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn lookup(&self, name: &str) -> Result<String, ExpansionError> {
        let value = self.value_of(name)?;
        if name.starts_with("file:") || is_credential_name(name) {
            self.redaction.add_text(&value);
            if let Some(path) = path_of_url(&value) {
                self.redaction.add_text(path);
            }
        }
        Ok(value)
    }

    fn value_of(&self, name: &str) -> Result<String, ExpansionError> {
        match name.strip_prefix("file:") {
            Some(path) => read_short(&self.base.join(path))
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|source| ExpansionError::NoFile { path: path.to_owned(), source }),
            None => self
                .variables
                .get(name)
                .cloned()
                .ok_or_else(|| ExpansionError::NoVariable(name.to_owned())),
        }
    }
}

fn read_short(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("longer than 64 KiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expand_reads_environment_and_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "t0ken\n").unwrap();
        let environment = ConfigEnvironment {
            variables: [("A".to_owned(), "1".to_owned())].into(),
            base: dir.path().to_owned(),
            ..ConfigEnvironment::default()
        };
        assert_eq!(environment.expand("x${A}y${A}").unwrap(), "x1y1");
        assert_eq!(environment.expand("${file:token}").unwrap(), "t0ken");
        assert_eq!(environment.expand("$${A} $5").unwrap(), "${A} $5");
        assert!(matches!(environment.expand("${B}"), Err(ExpansionError::NoVariable(_))));
        assert!(matches!(environment.expand("${file:none}"), Err(ExpansionError::NoFile { .. })));
        assert!(matches!(environment.expand("${A"), Err(ExpansionError::NotClosed)));
    }
}

//! The parameters of one event: those of its own line take precedence over those of the query.

use sha2::{Digest, Sha256};

use crate::beacon_format::FormFields;

/// The characters of a message id: 96 bits.
const ID_CHARS: usize = 24;

/// One event of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ga4BeaconHit<'a> {
    query: &'a FormFields<'a>,
    line: Option<&'a FormFields<'a>>,
    index: usize,
}

impl<'a> Ga4BeaconHit<'a> {
    pub(super) fn new(
        query: &'a FormFields<'a>,
        line: Option<&'a FormFields<'a>>,
        index: usize,
    ) -> Self {
        Self { query, line, index }
    }

    /// Returns the value of a parameter, if it is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.line.and_then(|line| line.get(name)).or_else(|| self.query.get(name))
    }

    /// Returns all parameters; those that take precedence come last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.query.iter().chain(self.line.into_iter().flat_map(FormFields::iter))
    }

    /// Returns an id of the event: the same if the same request comes again. gtag sends none, and counts its
    /// requests since the page was loaded.
    pub(super) fn message_id(&self) -> Option<String> {
        let (page, request) = (self.get("_p")?, self.get("_s")?);
        let mut digest = Sha256::new();
        for part in ["tid", "cid", "sid", "en"].map(|name| self.get(name).unwrap_or_default()) {
            digest.update(part);
            digest.update([0]);
        }
        digest.update(format!("{page}\0{request}\0{}", self.index));
        let mut id = hex::encode(digest.finalize());
        id.truncate(ID_CHARS);
        Some(id)
    }
}

//! Fields of queries and forms.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use multer::Multipart;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// The most fields of one request that are read.
const MAX_FIELDS: usize = 1000;

/// Names and values, decoded, in the order they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormFields<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// For each bucket of names, one more than the index of its last field; 0 where there is none. Decoders
    /// look up dozens of names, most of which are missing.
    last: [u16; BUCKETS],
    /// For each field, the same for the field before it in its bucket.
    before: Vec<u16>,
}

/// The number of buckets: about as many as a long hit has fields.
const BUCKETS: usize = 64;

/// Returns the bucket of a name.
fn bucket(name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |place: usize| usize::from(bytes.get(place).copied().unwrap_or_default());
    let end = usize::from(bytes.last().copied().unwrap_or_default());
    (at(0) ^ (at(1) << 1) ^ (end << 2) ^ (end >> 3) ^ (bytes.len() << 3)) % BUCKETS
}

impl Default for FormFields<'_> {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl<'a> FormFields<'a> {
    fn of(pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Self {
        let mut last = [0; BUCKETS];
        let mut before = Vec::with_capacity(pairs.len());
        for (place, (name, _)) in (1..).zip(&pairs) {
            if let Some(last) = last.get_mut(bucket(name)) {
                before.push(std::mem::replace(last, place));
            }
        }
        Self { pairs, last, before }
    }

    /// Reads a form, or a query that is written like one: a plus sign is a space.
    pub fn form(text: &'a str) -> Self {
        Self::of_bytes(text.as_bytes())
    }

    /// Reads a form that may have bytes which are not UTF-8.
    pub fn of_bytes(text: &'a [u8]) -> Self {
        Self::of(form_urlencoded::parse(text).take(MAX_FIELDS).collect())
    }

    /// Reads a text in which a plus sign is a plus sign.
    pub fn percent(text: &'a str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(MAX_FIELDS);
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
        let fields = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self::of(fields.collect())
    }

    /// Reads the text fields of a multipart form; `None` if the body is none.
    pub fn multipart(content_type: &str, body: &[u8]) -> Option<FormFields<'static>> {
        let boundary = multer::parse_boundary(content_type).ok()?;
        let all = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(body))]);
        let mut parts = Multipart::new(all, boundary);
        let mut fields = Vec::new();
        // The whole body is present, so nothing is ever pending.
        while let Some(part) = parts.next_field().now_or_never()?.ok()? {
            let Some(name) = part.name().map(str::to_owned) else { continue };
            let value = part.bytes().now_or_never()?.ok()?;
            // Browsers write forms in UTF-8.
            let Ok(value) = String::from_utf8(value.into()) else { continue };
            if fields.len() < MAX_FIELDS {
                fields.push((name.into(), value.into()));
            }
        }
        Some(FormFields::of(fields))
    }

    /// Appends the others' fields: where only the last of a name counts, theirs do.
    pub fn then(mut self, others: Self) -> Self {
        if others.is_empty() {
            return self;
        }
        self.pairs.extend(others.pairs);
        Self::of(self.pairs)
    }

    /// Returns the last non-empty value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut next = self.last.get(bucket(name)).copied().unwrap_or_default();
        while let Some(place) = usize::from(next).checked_sub(1) {
            let (known, value) = self.pairs.get(place)?;
            if known == name && !value.is_empty() {
                return Some(value);
            }
            next = self.before.get(place).copied().unwrap_or_default();
        }
        None
    }

    /// Returns all fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Returns true if there is no field.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_value_of_a_name_counts_and_plus_depends_on_the_encoding() {
        let form = FormFields::form("a=1+2&b=x&a=%2B&c=&d");
        assert_eq!(form.get("a"), Some("+"));
        assert_eq!((form.get("c"), form.get("d"), form.get("e")), (None, None, None));
        assert_eq!(form.iter().count(), 5);
        let line = FormFields::percent("ep.a=1+2&%65n=%C3%BC%FF&richsstsse&&");
        assert_eq!(line.get("ep.a"), Some("1+2"));
        assert_eq!(line.get("en"), Some("ü\u{fffd}"));
        assert_eq!(line.iter().last(), Some(("richsstsse", "")));
        assert_eq!(FormFields::form("a=1").then(FormFields::form("a=2")).get("a"), Some("2"));
    }

    #[test]
    fn multipart_forms_are_fields() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"cd[value]\"\r\n\r\n9.5\r\n\
                     --XX\r\nContent-Disposition: form-data; name=\"ev\"\r\n\r\nPurchase\r\n--XX--\r\n";
        let fields = FormFields::multipart("multipart/form-data; boundary=XX", body).unwrap();
        assert_eq!((fields.get("cd[value]"), fields.get("ev")), (Some("9.5"), Some("Purchase")));
        for (content_type, body) in [
            ("multipart/form-data", &body[..]),
            ("multipart/form-data; boundary=XX", &body[..40]),
            ("text/plain", &body[..]),
        ] {
            assert_eq!(FormFields::multipart(content_type, body), None, "{content_type}");
        }
    }
}

//! Fields of queries and forms.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use multer::Multipart;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// Fields of one request that are looked at.
const MAX_FIELDS: usize = 1000;

/// Names and values, decoded, in the order they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    /// Those of a form, or of a query that is written like one: a plus sign is a space.
    pub fn form(text: &'a str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).take(MAX_FIELDS).collect())
    }

    /// Those of a text in which a plus sign is a plus sign.
    pub fn percent(text: &'a str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(MAX_FIELDS);
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
        let fields = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self(fields.collect())
    }

    /// Those of a multipart form that are text. `None` if it is none.
    pub fn multipart(content_type: &str, body: &[u8]) -> Option<Fields<'static>> {
        let boundary = multer::parse_boundary(content_type).ok()?;
        let all = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(body))]);
        let mut parts = Multipart::new(all, boundary);
        let mut fields = Vec::new();
        // All of it is there, so nothing is ever waited for.
        while let Some(part) = parts.next_field().now_or_never()?.ok()? {
            let Some(name) = part.name().map(str::to_owned) else { continue };
            let value = part.bytes().now_or_never()?.ok()?;
            if fields.len() < MAX_FIELDS {
                fields.push((name.into(), String::from_utf8_lossy(&value).into_owned().into()));
            }
        }
        Some(Fields(fields))
    }

    /// These fields, then the others: where only the last of a name counts, theirs do.
    pub fn then(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The last value of this name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let named = self.0.iter().rev().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_ref()).find(|value| !value.is_empty())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts_and_a_plus_is_what_the_client_meant() {
        let form = Fields::form("a=1+2&b=x&a=%2B&c=&d");
        assert_eq!(form.get("a"), Some("+"));
        assert_eq!((form.get("c"), form.get("d"), form.get("e")), (None, None, None));
        assert_eq!(form.iter().count(), 5);
        let line = Fields::percent("ep.a=1+2&%65n=%C3%BC%FF&richsstsse&&");
        assert_eq!(line.get("ep.a"), Some("1+2"));
        assert_eq!(line.get("en"), Some("ü\u{fffd}"));
        assert_eq!(line.iter().last(), Some(("richsstsse", "")));
        assert_eq!(Fields::form("a=1").then(Fields::form("a=2")).get("a"), Some("2"));
    }

    #[test]
    fn multipart_forms_are_fields() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"cd[value]\"\r\n\r\n9.5\r\n\
                     --XX\r\nContent-Disposition: form-data; name=\"ev\"\r\n\r\nPurchase\r\n--XX--\r\n";
        let fields = Fields::multipart("multipart/form-data; boundary=XX", body).unwrap();
        assert_eq!((fields.get("cd[value]"), fields.get("ev")), (Some("9.5"), Some("Purchase")));
        for (content_type, body) in [
            ("multipart/form-data", &body[..]),
            ("multipart/form-data; boundary=XX", &body[..40]),
            ("text/plain", &body[..]),
        ] {
            assert_eq!(Fields::multipart(content_type, body), None, "{content_type}");
        }
    }
}

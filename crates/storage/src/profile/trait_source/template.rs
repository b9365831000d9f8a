//! The template of a lookup: a URL or a key, with the person's ids in their places.
//!
//! Any client can send any id. In a URL an id fills its place and nothing else: it is percent-encoded,
//! and one that would change the path (`..`) is not looked up.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// The ids by which a person may be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LookupPersonIds<'p> {
    pub(super) user_id: Option<&'p str>,
    pub(super) anonymous_id: Option<&'p str>,
    pub(super) email: Option<&'p str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookupIdKind {
    User,
    Anonymous,
    Email,
}

const IDS: [(&str, LookupIdKind); 3] = [
    ("user_id", LookupIdKind::User),
    ("anonymous_id", LookupIdKind::Anonymous),
    ("email", LookupIdKind::Email),
];

/// All characters but those that RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text with places for ids. It may hold a secret, so `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct LookupTemplate {
    is_url: bool,
    /// The ids, each with the text before it.
    places: Vec<(String, LookupIdKind)>,
    rest: String,
}

impl LookupTemplate {
    /// Parses the key of a key-value store.
    pub(super) fn key(text: &str) -> Result<Self, String> {
        let template = Self::parse(text, false)?;
        let mut between = template.places.iter().skip(1).map(|(text, _)| text);
        if between.any(String::is_empty) {
            return Err("must have something between its ids".to_owned());
        }
        Ok(template)
    }

    /// Parses a URL, whose host no id can change.
    pub(super) fn url(text: &str) -> Result<Self, String> {
        let template = Self::parse(text, true)?;
        let written = template.with(|_| Some("x"), |text| text.to_owned());
        let written = written.unwrap_or_default();
        let url = Url::parse(&written).map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must be an http or https URL".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("must hold no user name, password or fragment: use headers".to_owned());
        }
        let first = template.places.first().map_or("", |(text, _)| text);
        let is_below_host = first.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if !is_below_host {
            return Err("must have its ids in the path or the query".to_owned());
        }
        if url.as_str() != written {
            // The text is not repeated here: it may hold a secret.
            let form = "must be written as it is sent: without . and .. in its path, its host in \
                        small letters, spaces and the like percent-encoded";
            return Err(form.to_owned());
        }
        Ok(template)
    }

    fn parse(text: &str, is_url: bool) -> Result<Self, String> {
        let (mut places, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("has a { without its }")?;
            let id = IDS.iter().find(|(known, _)| *known == name).map(|(_, id)| *id);
            let id =
                id.ok_or("has a place that is none of {user_id}, {anonymous_id} and {email}")?;
            places.push((before.to_owned(), id));
            rest = after;
        }
        if places.is_empty() {
            return Err("must have {user_id}, {anonymous_id} or {email}".to_owned());
        }
        Ok(Self { is_url, places, rest: rest.to_owned() })
    }

    /// Returns the URL or key of this person. `None` if an id is missing, or would not stay itself in
    /// its place.
    pub(super) fn fill(&self, person: &LookupPersonIds<'_>) -> Option<String> {
        let id = |id| match id {
            LookupIdKind::User => person.user_id,
            LookupIdKind::Anonymous => person.anonymous_id,
            LookupIdKind::Email => person.email,
        };
        if !self.is_url {
            let ends = self.places.iter().skip(1).map(|(text, _)| text.as_str());
            // Otherwise two people's ids could give the same key.
            let is_plain = |((_, of), end): (&(String, LookupIdKind), &str)| {
                !id(*of).is_some_and(|id| id.contains(end))
            };
            return self
                .places
                .iter()
                .zip(ends)
                .all(is_plain)
                .then(|| self.with(id, str::to_owned))?;
        }
        let text = self.with(id, |text| utf8_percent_encode(text, ENCODED).to_string())?;
        // The path of another person would result from an id of dots.
        Url::parse(&text).is_ok_and(|url| url.as_str() == text).then_some(text)
    }

    fn with<'p>(
        &self,
        id: impl Fn(LookupIdKind) -> Option<&'p str>,
        write: impl Fn(&str) -> String,
    ) -> Option<String> {
        let mut text = String::with_capacity(128);
        for (before, place) in &self.places {
            text.push_str(before);
            text.push_str(&write(id(*place).filter(|id| !id.is_empty())?));
        }
        text.push_str(&self.rest);
        Some(text)
    }
}

impl fmt::Debug for LookupTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[template]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user_id: &str) -> LookupPersonIds<'_> {
        LookupPersonIds { user_id: Some(user_id), ..LookupPersonIds::default() }
    }

    #[test]
    fn id_fills_only_its_place_in_the_url() {
        let template =
            LookupTemplate::url("https://cdp.example/v1/users/{user_id}/traits?a=b").unwrap();
        let filled = |id: &str| template.fill(&of(id)).unwrap_or_default();
        let around = |id: &str| format!("https://cdp.example/v1/users/{id}/traits?a=b");
        assert_eq!(filled("u-1"), around("u-1"));
        for (hostile, written) in [
            ("a/../b", "a%2F..%2Fb"),
            ("a?b#c&d", "a%3Fb%23c%26d"),
            ("%2e%2e", "%252e%252e"),
            ("a\r\nHost: x", "a%0D%0AHost%3A%20x"),
            ("a\\b", "a%5Cb"),
            ("ü@x", "%C3%BC%40x"),
        ] {
            assert_eq!(filled(hostile), around(written));
        }
        for moving in ["..", ".", ""] {
            assert_eq!(template.fill(&of(moving)), None, "{moving:?}");
        }
        let query = LookupTemplate::url("https://cdp.example/?id={user_id}&mail={email}").unwrap();
        assert_eq!(query.fill(&of("..")), None, "who has no e-mail address is not asked for");
        let person = LookupPersonIds { email: Some("jo+1@x.example"), ..of("..") };
        let filled = query.fill(&person).unwrap();
        assert_eq!(filled, "https://cdp.example/?id=..&mail=jo%2B1%40x.example");
    }

    #[test]
    fn invalid_url_templates_are_refused() {
        for (bad, why) in [
            ("https://{user_id}.example/", "path or the query"),
            ("https://cdp.example{user_id}/", "path or the query"),
            ("https://cdp.example/", "must have"),
            ("https://cdp.example/{user}", "none of {user_id}"),
            ("https://cdp.example/{user_id", "without its }"),
            ("ftp://cdp.example/{user_id}", "http"),
            ("https://me:pw@cdp.example/{user_id}", "headers"),
            ("https://cdp.example/a/../{user_id}", "as it is sent"),
            ("https://CDP.example/{user_id}", "as it is sent"),
            ("cdp.example/{user_id}", "not a URL"),
        ] {
            let error = LookupTemplate::url(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn keys_of_two_people_are_never_equal() {
        let one = LookupTemplate::key("profile:{user_id}").unwrap();
        assert_eq!(one.fill(&of("a:b\r\n")).as_deref(), Some("profile:a:b\r\n"));
        let two = LookupTemplate::key("p:{user_id}:{anonymous_id}").unwrap();
        let person = |user_id, anonymous_id| LookupPersonIds {
            user_id: Some(user_id),
            anonymous_id: Some(anonymous_id),
            email: None,
        };
        assert_eq!(two.fill(&person("a", "b:c")).as_deref(), Some("p:a:b:c"));
        assert_eq!(two.fill(&person("a:b", "c")), None);
        assert!(LookupTemplate::key("p:{user_id}{email}").is_err());
    }
}

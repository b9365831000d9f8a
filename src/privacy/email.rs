//! What looks like an e-mail address, wherever vendors' policies forbid to send one in the clear.

use url::Url;

/// Whether a text looks like an e-mail address.
pub fn is_email(text: &str) -> bool {
    let Some((name, domain)) = text.trim().split_once('@') else { return false };
    let plain =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '@');
    plain(name) && plain(domain) && domain.contains('.') && !domain.starts_with('.')
}

/// What relative URLs are read against, to see their queries.
const BASE: &str = "https://relative.invalid";

/// A URL without the parameters of its query that look like e-mail addresses.
pub fn without_emails(text: String) -> String {
    if !text.contains('@') && !text.contains("%40") {
        return text;
    }
    let base = Url::parse(BASE).ok();
    let Ok(mut url) = Url::options().base_url(base.as_ref()).parse(&text) else {
        return String::new();
    };
    let is_clean = !url.query_pairs().any(|(_, value)| is_email(&value));
    let has_user = !url.username().is_empty() || url.password().is_some();
    if is_clean && !has_user {
        return text;
    }
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(_, value)| !is_email(value))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    // Whoever signs in by the URL is named in it.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return String::new();
    }
    let clean = url.to_string();
    clean.strip_prefix(BASE).map_or(clean.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_leave_urls() {
        for (url, clean) in [
            ("https://x.example/?a=1", "https://x.example/?a=1"),
            ("https://x.example/?a=1&email=jo%40x.example&b=2", "https://x.example/?a=1&b=2"),
            ("https://x.example/?jo=a@b.c", "https://x.example/"),
            ("https://jo@x.example/", "https://x.example/"),
            ("/path?e=a@b.c&x=1", "/path?x=1"),
            ("https://x.example/@jo", "https://x.example/@jo"),
        ] {
            assert_eq!(without_emails(url.to_owned()), clean, "{url}");
        }
    }
}

//! Removes entries of `Link` fields: preloads of scripts that the page will not load any more, and connections to
//! their hosts.

use http::header::LINK;
use http::{HeaderMap, HeaderValue};

use super::tags::{PageLink, VendorTags};

/// Link relations that fetch scripts which pages load later.
pub(super) const FETCHING: &[&str] = &["preload", "prefetch", "modulepreload"];

/// Link relations that connect to hosts from which pages load later.
pub(super) const CONNECTING: &[&str] = &["preconnect", "dns-prefetch"];

/// The longest field that is pruned; a longer one passes unchanged.
const MAX_BYTES: usize = 16 << 10;

/// Returns true if the words of a `rel` include one of these.
pub(super) fn has(rel: &str, words: &[&str]) -> bool {
    rel.split_ascii_whitespace().any(|it| words.iter().any(|word| it.eq_ignore_ascii_case(word)))
}

/// Removes the entries for scripts that the gateway serves.
pub(super) fn prune(fields: &mut HeaderMap, tags: &VendorTags) {
    let values: Vec<HeaderValue> = fields.get_all(LINK).iter().cloned().collect();
    if values.is_empty() {
        return;
    }
    fields.remove(LINK);
    for value in values {
        let Some(text) = value.to_str().ok().filter(|text| text.len() <= MAX_BYTES) else {
            fields.append(LINK, value);
            continue;
        };
        let all = links(text);
        let kept: Vec<&str> = all.iter().copied().filter(|it| !is_needless(it, tags)).collect();
        if kept.len() == all.len() {
            fields.append(LINK, value);
        } else if let Ok(value) = HeaderValue::try_from(kept.join(","))
            && !kept.is_empty()
        {
            fields.append(LINK, value);
        }
    }
}

/// Splits a field into its links: commas within addresses and quotes do not separate them.
fn links(value: &str) -> Vec<&str> {
    let (mut is_address, mut is_quoted, mut is_escaped) = (false, false, false);
    let ends = |c: char| {
        let is_plain = !is_address && !is_quoted;
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' if !is_address => is_quoted = !is_quoted,
            '<' if !is_quoted => is_address = true,
            '>' if !is_quoted => is_address = false,
            _ => return c == ',' && is_plain,
        }
        false
    };
    value.split(ends).collect()
}

fn is_needless(link: &str, tags: &VendorTags) -> bool {
    let Some((address, rest)) = link.trim().strip_prefix('<').and_then(|it| it.split_once('>'))
    else {
        return false;
    };
    let rel = rest.split(';').find_map(|one| {
        let (name, value) = one.split_once('=')?;
        name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"'))
    });
    let (Some(rel), Some(address)) = (rel, PageLink::read(address)) else { return false };
    (has(rel, FETCHING) && tags.find_replacement(&address).is_some())
        || (has(rel, CONNECTING) && tags.is_needless(address.host()))
}

#[cfg(test)]
mod tests {
    use super::super::tags::tests::all;
    use super::*;

    fn pruned(values: &[&'static str]) -> Vec<String> {
        let values = values.iter().map(|value| (LINK, HeaderValue::from_static(value)));
        let mut fields = HeaderMap::from_iter(values);
        prune(&mut fields, &all(false));
        fields.get_all(LINK).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn only_links_that_are_not_loaded_any_more_are_removed() {
        let css = "</a,b.css>; rel=preload; as=style; title=\"a, b\"";
        let script =
            "<https://www.googletagmanager.com/gtag/js?id=G-1>; as=script; rel=\"preload\"";
        let host = "<https://connect.facebook.net>; rel=preconnect; crossorigin";
        let other = "<https://fonts.gstatic.com>;rel=preconnect";
        let kept = ["</x>; rel=next", css, other];
        assert_eq!(pruned(&kept), kept);
        assert_eq!(pruned(&[script, host]), [""; 0]);
        let mixed: &'static str =
            Box::leak(format!("{css},{script},{other}, {host}").into_boxed_str());
        assert_eq!(pruned(&[mixed]), [format!("{css},{other}")]);
    }
}

//! Replaces the vendors' addresses inside a script by the gateway's. Only complete addresses at the
//! beginning of a string literal are replaced; every other byte stays unchanged.

use memchr::memmem;

use crate::script::literal::LiteralAddress;
use tagway_vendors::script::AddressRewrite;

/// The script with its addresses below `mount`, which is `https://HOST/PATH`.
pub(super) fn rewrite(script: &[u8], rewrites: &[AddressRewrite], mount: &str) -> Vec<u8> {
    let mut hits: Vec<RewriteMatch<'_>> = Vec::new();
    for rewrite in rewrites {
        let finder = memmem::Finder::new(rewrite.host);
        hits.extend(
            finder.find_iter(script).filter_map(|at| RewriteMatch::at(script, at, rewrite)),
        );
    }
    hits.sort_by_key(|hit| hit.address.start);
    let mut out = Vec::with_capacity(script.len() + hits.len() * mount.len());
    let mut done = 0;
    for hit in hits {
        // Two rewrites of one host: the first in the vendor's list.
        let Some(before) = script.get(done..hit.address.start) else { continue };
        out.extend_from_slice(before);
        let scheme_end = if hit.address.has_scheme { 0 } else { mount.find("//").unwrap_or(0) };
        let place = mount.get(scheme_end..).unwrap_or(mount).to_owned() + hit.to;
        out.extend_from_slice(hit.address.escape_as_written(place).as_bytes());
        done = hit.address.end;
    }
    out.extend_from_slice(script.get(done..).unwrap_or_default());
    out
}

struct RewriteMatch<'r> {
    address: LiteralAddress,
    to: &'r str,
}

impl<'r> RewriteMatch<'r> {
    fn at(script: &[u8], at: usize, rewrite: &'r AddressRewrite) -> Option<Self> {
        let address = LiteralAddress::at(script, at, rewrite.host)?;
        let under = match address.escaped {
            true => rewrite.under.replace('/', "\\/"),
            false => rewrite.under.to_owned(),
        };
        let rest = script.get(address.end..)?.strip_prefix(under.as_bytes())?;
        let ends_segment =
            rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        (under.is_empty() || ends_segment).then_some(Self { address, to: rewrite.to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_vendors::VENDORS;

    fn rewritten(vendor: &str, script: &str) -> String {
        let rewrites = tagway_vendors::find(vendor).unwrap().script.unwrap().rewrites;
        let mount = format!("https://t.shop.example/{vendor}");
        String::from_utf8(rewrite(script.as_bytes(), rewrites, &mount)).unwrap()
    }

    #[test]
    fn rewrite_replaces_addresses_in_string_literals() {
        for (vendor, script, expected) in [
            (
                "ga4",
                r#"a="https://www.google-analytics.com/g/collect",b='https://www.googletagmanager.com/gtag/js?id='"#,
                r#"a="https://t.shop.example/ga4/g/collect",b='https://t.shop.example/ga4/gtag/js?id='"#,
            ),
            ("meta", r#"f("//connect.facebook.net/")"#, r#"f("//t.shop.example/meta/")"#),
            ("meta", r"`https://www.facebook.com/tr/`", r"`https://t.shop.example/meta/tr/`"),
            (
                "amplitude",
                r#"{"u":"https:\/\/api2.amplitude.com\/2\/httpapi"}"#,
                r#"{"u":"https:\/\/t.shop.example\/amplitude\/2\/httpapi"}"#,
            ),
            (
                "intercom",
                r#"["https://js.intercomcdn.com/frame.1.js","https://widget.intercom.io/widget/x"]"#,
                r#"["https://t.shop.example/intercom/js/frame.1.js","https://t.shop.example/intercom/widget/x"]"#,
            ),
            ("segment", r#""https://cdn.segment.com""#, r#""https://t.shop.example/segment""#),
        ] {
            assert_eq!(rewritten(vendor, script), expected);
        }
    }

    #[test]
    fn rewrite_changes_no_other_byte() {
        for (vendor, script) in [
            // Bare hosts are compared, not fetched.
            ("ga4", r#"h==="www.google-analytics.com"||/\.google-analytics\.com/.test(h)"#),
            ("ga4", r"/* https://www.google-analytics.com/terms */"),
            ("ga4", r#""https://www.google-analytics.com.evil.example/""#),
            ("ga4", r#""https://www.google-analytics.com:8443/""#),
            ("ga4", r#""https://xwww.google-analytics.com/""#),
            ("ga4", r#""https://www.googletagmanager.com/a?id=""#),
            ("meta", r#""https://www.facebook.com/privacy_sandbox/pixel""#),
            ("meta", r#""https://www.facebook.com/travel""#),
            ("meta", r#""https://www.facebook.com""#),
        ] {
            assert_eq!(rewritten(vendor, script), script);
        }
        let bytes = b"\xff\xfe\"//x\"\0";
        assert_eq!(rewrite(bytes, &[], "https://x/y"), bytes);
    }

    #[test]
    fn rewritten_script_addresses_are_served_by_the_mount() {
        for vendor in VENDORS {
            let Some(script) = vendor.script else { continue };
            for file in script.files.iter().filter(|file| !file.origin.is_empty()) {
                let host = file.origin.strip_prefix("https://").unwrap();
                let mut own = script.rewrites.iter().filter(|it| it.host == host);
                assert!(
                    own.all(|it| it.to == file.strip || !it.under.is_empty() || it.to.is_empty()),
                    "{}: {}",
                    vendor.name,
                    file.path
                );
            }
        }
    }
}

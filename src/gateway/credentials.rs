//! Credentials of a request that prove its sender: a site's server token, or its public write key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;

use super::accept::SenderKind;
use super::snapshot::GatewaySite;

/// The longest credentials that are decoded; ours are shorter.
const MAX_CREDENTIALS_BYTES: usize = 1024;

/// The result of checking a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CredentialCheck {
    /// No key was sent.
    Missing,
    /// The key is not the site's.
    Wrong,
    /// The key is the site's; it proves this sender.
    Of(SenderKind),
}

impl CredentialCheck {
    /// Checks the key in `Authorization`: a bearer token, or the user name of Basic.
    pub(super) fn in_head(site: &GatewaySite, fields: &HeaderMap) -> Self {
        let Some(value) = fields.get(AUTHORIZATION) else { return Self::Missing };
        let words = value.to_str().ok().filter(|value| value.len() <= MAX_CREDENTIALS_BYTES);
        let Some((scheme, rest)) = words.and_then(|words| words.split_once(' ')) else {
            return Self::Wrong;
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::of(site, rest.trim());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Wrong;
        }
        let Ok(pair) = STANDARD.decode(rest.trim()) else { return Self::Wrong };
        let Ok(pair) = String::from_utf8(pair) else { return Self::Wrong };
        Self::of(site, pair.split_once(':').map_or(pair.as_str(), |(user, _)| user))
    }

    /// Checks a key against a site's token and write key.
    pub(super) fn of(site: &GatewaySite, key: &str) -> Self {
        let token = site.server_token.as_ref().map(|token| token.expose().as_bytes());
        if token.is_some_and(|token| bool::from(token.ct_eq(key.as_bytes()))) {
            return Self::Of(SenderKind::Server);
        }
        // The write key is public: it is part of the page.
        match site.write_key.as_deref() {
            Some(write_key) if write_key == key => Self::Of(SenderKind::Client),
            _ => Self::Wrong,
        }
    }

    /// Checks the key of a vendor's client. Some libraries accept only keys of the form `ID:SECRET`: the server
    /// token counts as either part. Any other key is [`Wrong`](Self::Wrong).
    pub(super) fn of_vendors(site: &GatewaySite, key: &str) -> Self {
        let parts = key.split_once(':').into_iter().flat_map(|(id, secret)| [id, secret]);
        let mut keys = std::iter::once(key).chain(parts).map(|key| Self::of(site, key));
        keys.find(|key| key.is_servers()).unwrap_or(Self::Wrong)
    }

    /// Returns true if the key is the server token.
    pub(super) fn is_servers(self) -> bool {
        self == Self::Of(SenderKind::Server)
    }
}

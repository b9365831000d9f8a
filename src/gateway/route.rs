//! The route table of a site's host.

use http::Method;

use crate::event::Kind;
use crate::script::Sdk;
use crate::vendors::beacon::Methods;

/// What a path of the site's host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /e`: the SDK's events.
    Sdk,
    /// `POST /v1/track` and its siblings: one message of a given kind.
    Message(Kind),
    /// `POST /v1/batch`: messages of any kind.
    Batch,
    /// `GET /px.gif`: an event in the query.
    Pixel,
    /// `POST /reset`: the browser is to be another visitor's from now on.
    Reset,
    /// `GET /me`: what a page may know of its visitor, where the site says what that is.
    Me,
    /// Whatever else there is, if the site has an origin.
    Origin,
    /// `GET /tw.js`: the site's script, and those beside it.
    Script,
    /// `GET /tw/preview.js`: the drafts, for browsers that have a token.
    Preview,
    /// `POST /tw/problem`: a page tells of an integration that failed.
    Problem,
    /// `/{mount}/...`: a vendor's own browser library.
    Beacon {
        /// The place of the mount among the site's.
        mount: usize,
        /// The vendor's name.
        vendor: &'static str,
        /// What the endpoint takes.
        methods: Methods,
    },
    /// `/{mount}/...`: one of a vendor's scripts, or what stands in for it.
    VendorScript {
        /// The place of the mount among the site's.
        mount: usize,
        /// The vendor's name.
        vendor: &'static str,
    },
}

/// Every path and what it is for. The Segment API's short names are its browser library's.
const ROUTES: &[(&str, Route)] = &[
    ("/e", Route::Sdk),
    ("/v1/t", Route::Message(Kind::Track)),
    ("/v1/p", Route::Message(Kind::Page)),
    ("/v1/i", Route::Message(Kind::Identify)),
    ("/v1/b", Route::Batch),
    ("/v1/s", Route::Message(Kind::Screen)),
    ("/v1/g", Route::Message(Kind::Group)),
    ("/v1/a", Route::Message(Kind::Alias)),
    ("/v1/track", Route::Message(Kind::Track)),
    ("/v1/page", Route::Message(Kind::Page)),
    ("/v1/screen", Route::Message(Kind::Screen)),
    ("/v1/identify", Route::Message(Kind::Identify)),
    ("/v1/group", Route::Message(Kind::Group)),
    ("/v1/alias", Route::Message(Kind::Alias)),
    ("/v1/batch", Route::Batch),
    ("/v1/import", Route::Batch),
    ("/px.gif", Route::Pixel),
    ("/reset", Route::Reset),
    ("/me", Route::Me),
    ("/tw.js", Route::Script),
    ("/tw/preview.js", Route::Preview),
    ("/tw/problem", Route::Problem),
];

impl Route {
    /// The route of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        // Some clients end the path with a slash.
        let path = path.strip_suffix('/').unwrap_or(path);
        let known = ROUTES.iter().find(|(known, _)| *known == path).map(|(_, route)| *route);
        // Under a name with a hash as well.
        known.or_else(|| (Sdk::is_at(path) || Sdk::is_beside(path)).then_some(Self::Script))
    }

    /// Whether a path is one of these, or the beginning of one.
    pub(super) fn is_reserved(path: &str) -> bool {
        let begins =
            |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        ROUTES.iter().any(|(known, _)| *known == path || begins(known))
    }

    /// The name in metrics and the access log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sdk => "e",
            Self::Message(kind) => match kind {
                Kind::Track => "v1_track",
                Kind::Page => "v1_page",
                Kind::Screen => "v1_screen",
                Kind::Identify => "v1_identify",
                Kind::Group => "v1_group",
                Kind::Alias => "v1_alias",
            },
            Self::Batch => "v1_batch",
            Self::Pixel => "px",
            Self::Reset => "reset",
            Self::Me => "me",
            Self::Origin => "origin",
            Self::Script => "script",
            Self::Preview => "preview",
            Self::Problem => "problem",
            Self::Beacon { vendor, .. } | Self::VendorScript { vendor, .. } => vendor,
        }
    }

    /// The wire format of its beacons, for the event's facts and metrics.
    pub(super) const fn format(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Message(_) | Self::Batch => "segment",
            Self::Pixel => "pixel",
            Self::Reset => "reset",
            Self::Me => "me",
            Self::Origin => "origin",
            Self::Script => "script",
            Self::Preview => "preview",
            Self::Problem => "problem",
            Self::Beacon { vendor, .. } | Self::VendorScript { vendor, .. } => vendor,
        }
    }

    /// The methods it takes, as the `Allow` field lists them.
    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::Sdk | Self::Message(_) | Self::Batch | Self::Reset | Self::Problem => {
                "POST, OPTIONS"
            }
            Self::Pixel | Self::Me => "GET, OPTIONS",
            Self::Origin => "",
            Self::Script | Self::Preview | Self::VendorScript { .. } => "GET, HEAD, OPTIONS",
            Self::Beacon { methods, .. } => methods.allow(),
        }
    }

    /// Whether it takes the method, preflights apart.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Sdk | Self::Message(_) | Self::Batch | Self::Reset | Self::Problem => {
                method == Method::POST
            }
            Self::Pixel | Self::Me => method == Method::GET,
            Self::Origin => true,
            Self::Script | Self::Preview | Self::VendorScript { .. } => {
                matches!(*method, Method::GET | Method::HEAD)
            }
            Self::Beacon { methods, .. } => methods.take(method),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_with_and_without_a_slash_at_its_end() {
        for (path, route) in ROUTES {
            assert_eq!(Route::of(path), Some(*route));
            assert_eq!(Route::of(&format!("{path}/")), Some(*route));
        }
        for unknown in ["/", "", "/v1", "/v1/x", "/E", "/e//", "/px.gif.x", "/tw/x.js", "/tw/x"] {
            assert_eq!(Route::of(unknown), None, "{unknown}");
        }
    }
}

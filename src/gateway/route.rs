//! The route table of a site's host.

use http::Method;

use tagway_core::event::EventKind;
use tagway_pages::script::SiteSdkScripts;
use tagway_vendors::beacon::AllowedMethods;

/// The route of a path of the site's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GatewayRoute {
    /// `POST /e`: the SDK's events.
    Sdk,
    /// `POST /v1/track` and its siblings: one message of a given kind.
    Message(EventKind),
    /// `POST /v1/batch`: messages of any kind.
    Batch,
    /// `GET /px.gif`: an event in the query.
    Pixel,
    /// `POST /reset`: gives the browser a new visitor identity.
    Reset,
    /// `GET /me`: the public part of the visitor's profile, where the site configures one.
    Me,
    /// All other paths, if the site has an origin.
    Origin,
    /// `GET /tw.js`: the site's script, and its companions.
    Script,
    /// `GET /tw/preview.js`: the drafts, for browsers that have a token.
    Preview,
    /// `POST /tw/problem`: a page reports an integration that failed.
    Problem,
    /// `/{mount}/...`: a beacon of a vendor's own browser library.
    Beacon {
        /// The index of the mount among the site's.
        mount: usize,
        /// The vendor's name.
        vendor: &'static str,
        /// The methods that the endpoint accepts.
        methods: AllowedMethods,
    },
    /// `/{mount}/...`: one of a vendor's scripts, or its shim.
    VendorScript {
        /// The index of the mount among the site's.
        mount: usize,
        /// The vendor's name.
        vendor: &'static str,
    },
}

/// Every path and its route. The Segment API's short names are its browser library's.
const ROUTES: &[(&str, GatewayRoute)] = &[
    ("/e", GatewayRoute::Sdk),
    ("/v1/t", GatewayRoute::Message(EventKind::Track)),
    ("/v1/p", GatewayRoute::Message(EventKind::Page)),
    ("/v1/i", GatewayRoute::Message(EventKind::Identify)),
    ("/v1/b", GatewayRoute::Batch),
    ("/v1/s", GatewayRoute::Message(EventKind::Screen)),
    ("/v1/g", GatewayRoute::Message(EventKind::Group)),
    ("/v1/a", GatewayRoute::Message(EventKind::Alias)),
    ("/v1/track", GatewayRoute::Message(EventKind::Track)),
    ("/v1/page", GatewayRoute::Message(EventKind::Page)),
    ("/v1/screen", GatewayRoute::Message(EventKind::Screen)),
    ("/v1/identify", GatewayRoute::Message(EventKind::Identify)),
    ("/v1/group", GatewayRoute::Message(EventKind::Group)),
    ("/v1/alias", GatewayRoute::Message(EventKind::Alias)),
    ("/v1/batch", GatewayRoute::Batch),
    ("/v1/import", GatewayRoute::Batch),
    ("/px.gif", GatewayRoute::Pixel),
    ("/reset", GatewayRoute::Reset),
    ("/me", GatewayRoute::Me),
    ("/tw.js", GatewayRoute::Script),
    ("/tw/preview.js", GatewayRoute::Preview),
    ("/tw/problem", GatewayRoute::Problem),
];

impl GatewayRoute {
    /// Returns the route of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        // Some clients end the path with a slash.
        let path = path.strip_suffix('/').unwrap_or(path);
        let known = ROUTES.iter().find(|(known, _)| *known == path).map(|(_, route)| *route);
        // Under a name with a hash as well.
        known.or_else(|| {
            (SiteSdkScripts::is_at(path) || SiteSdkScripts::is_beside(path)).then_some(Self::Script)
        })
    }

    /// Returns true if a path is one of these, or the beginning of one.
    pub(super) fn is_reserved(path: &str) -> bool {
        let begins =
            |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        ROUTES.iter().any(|(known, _)| *known == path || begins(known))
    }

    /// Returns the name in metrics and the access log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sdk => "e",
            Self::Message(kind) => match kind {
                EventKind::Track => "v1_track",
                EventKind::Page => "v1_page",
                EventKind::Screen => "v1_screen",
                EventKind::Identify => "v1_identify",
                EventKind::Group => "v1_group",
                EventKind::Alias => "v1_alias",
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

    /// Returns the wire format of its beacons, for the event's facts and metrics.
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

    /// Returns the methods it accepts, as the `Allow` field lists them.
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

    /// Returns true if it accepts the method, preflights apart.
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
            Self::Beacon { methods, .. } => methods.accepts(method),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_with_and_without_a_slash_at_its_end() {
        for (path, route) in ROUTES {
            assert_eq!(GatewayRoute::of(path), Some(*route));
            assert_eq!(GatewayRoute::of(&format!("{path}/")), Some(*route));
        }
        for unknown in ["/", "", "/v1", "/v1/x", "/E", "/e//", "/px.gif.x", "/tw/x.js", "/tw/x"] {
            assert_eq!(GatewayRoute::of(unknown), None, "{unknown}");
        }
    }
}

//! Everything that a site's pages get.
//!
//! - [`script`] composes and serves `/tw.js`, and caches the vendors' own browser scripts.
//! - [`integrations`] adds the site's own functions and the vendors' libraries that run in pages.
//! - [`origin`] is the proxy to the site's own server: it puts the script into pages and points vendors' tags
//!   at the gateway.

pub mod integrations;
pub mod origin;
pub mod script;

//! The site behind the gateway: requests without a route of the gateway's are proxied to the site's own server,
//! streamed both ways.
//!
//! Nothing is stored, and each side is read no faster than the other takes. An HTML page gets the gateway's script,
//! and vendors' tags are rewritten to load the gateway's copies.

mod addresses;
mod client;
mod client_requests;
mod coding;
mod connect;
mod connection;
mod edits;
mod fields;
mod hints;
mod inject;
mod inline;
mod page;
mod page_head;
mod page_skip_reason;
mod policy;
mod settings;
mod tags;
mod trailers;
mod tunnel;
mod upload;

pub use client::{OriginClient, OriginError, OriginExchange};
pub use page_skip_reason::{PageSkipReason, PageSkipReporter};
pub use settings::{ORIGIN_ADDRESS_SETTINGS, ORIGIN_SETTINGS, OriginSettings};
pub use tags::{VendorTag, VendorTags};
pub use upload::{UploadError, client_gone};

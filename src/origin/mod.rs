//! The site behind the gateway: what is no route of the gateway's goes to the site's own server,
//! and back, streamed both ways.
//!
//! Nothing is kept, and not more is read of one side than the other takes. A page in HTML
//! gets the gateway's script, and tags of vendors point at what the gateway has of theirs.

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
pub use connect::AddressGuard;
pub use page_skip_reason::{PageSkipReason, PageSkipReporter};
pub use settings::OriginSettings;
pub use tags::{VendorTag, VendorTags};
pub use upload::{UploadError, client_gone};

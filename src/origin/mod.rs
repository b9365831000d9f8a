//! The site behind the gateway: what is no route of the gateway's goes to the site's own server,
//! and back, streamed both ways.
//!
//! Nothing is kept, and not more is read of one side than the other takes. Of a page in HTML the
//! head gets the gateway's script (`inject`).

mod client;
mod fields;
mod inject;
mod page;
mod settings;
mod tunnel;

pub use client::{Exchange, Guard, Origin, OriginError};
pub use settings::Settings;

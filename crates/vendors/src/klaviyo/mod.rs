//! Klaviyo's lists (`docs/contracts/destinations.md` 7.9). Lists only: events are not sent yet.
//!
//! Klaviyo's calls name members by its own profile ids, so each is looked up by e-mail address first. A
//! member to add who has no profile gets one. Being on a list is no consent to marketing: none is set here.

mod api;
mod audience;

use std::num::NonZeroU32;

use self::api::KlaviyoApi;
use super::Vendor;
use super::audience::ListOnlyDestination;

/// Klaviyo's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "klaviyo",
    deduplication: "takes no events",
    aliases: &["Klaviyo", "Klaviyo (Actions)"],
    settings: api::SETTINGS,
    destination: Some(|section, endpoint| {
        let (lists, key) = KlaviyoApi::read(section, endpoint);
        Box::new(ListOnlyDestination {
            lists,
            secrets: vec![key],
            calls_per_second: Some(CALLS_PER_SECOND),
        })
    }),
    ..Vendor::EMPTY
};

/// Lists and look-ups allow ten calls a second (Klaviyo's bulk calls, the slowest documented limit).
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

//! Klaviyo's lists (`contracts/destinations.md` 7.9). Its lists only: events are not sent yet.
//!
//! Members are told by Klaviyo's own ids, so each is looked for by address first; who is to be added and
//! is not there is made. Being on a list is no consent to be written to: nothing here gives one.

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

/// Lists and look-ups allow ten calls a second (Klaviyo's bulk calls, the slowest that are stated).
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

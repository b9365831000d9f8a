//! Google Ads' Customer Match, by the Data Manager API (`docs/contracts/destinations.md` 7.2 B). Lists only:
//! conversions are not sent yet.
//!
//! Lists are made in Google Ads, and their number is the sync's setting `list`: the Data Manager API makes
//! none. Google accepts members at once and matches them later, so a delivered member is not necessarily
//! matched.

mod audience;
mod token;

use std::num::NonZeroU32;

use self::audience::GoogleCustomerMatch;
use super::Vendor;
use super::audience::ListOnlyDestination;

/// Google Ads' entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "google_ads",
    deduplication: "takes no events",
    aliases: &["Google Ads", "Google Data Manager", "Google Enhanced Conversions"],
    destination: Some(|section, endpoint| {
        let (lists, secrets) = GoogleCustomerMatch::read(section, endpoint);
        Box::new(ListOnlyDestination { lists, secrets, calls_per_second: Some(CALLS_PER_SECOND) })
    }),
    ..Vendor::EMPTY
};

/// The rate of 300 requests a minute and project.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

//! Google Ads' Customer Match, by the Data Manager API (`contracts/destinations.md` 7.2 B). Its lists
//! only: conversions are not sent yet.
//!
//! Lists are made in Google Ads, and their number is given to the sync as `list`: the Data Manager
//! API makes none. Google takes members in at once and matches them later, so what is told here is no
//! word on who was found.

mod audience;
mod token;

use std::num::NonZeroU32;

use self::audience::CustomerMatch;
use super::Vendor;
use super::audience::ListsOnly;

/// Google Ads' entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "google_ads",
    repeats: "takes no events",
    known_as: &["Google Ads", "Google Data Manager", "Google Enhanced Conversions"],
    destination: Some(|section, endpoint| {
        let (lists, secrets) = CustomerMatch::read(section, endpoint);
        Box::new(ListsOnly { lists, secrets, calls_per_second: Some(CALLS_PER_SECOND) })
    }),
    ..Vendor::NOTHING
};

/// 300 requests a minute and project.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

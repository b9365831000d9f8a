//! TikTok's custom audiences (`contracts/destinations.md` 7.1). Its lists only: events are not sent yet.
//!
//! Whether a call was taken stands in the body, whatever the status says.

mod audience;

use std::num::NonZeroU32;

use self::audience::TikTokAudiences;
use super::Vendor;
use super::audience::ListOnlyDestination;

/// TikTok's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "tiktok",
    deduplication: "takes no events",
    aliases: &["TikTok", "TikTok Audiences", "TikTok Ads"],
    destination: Some(|section, endpoint| {
        let (lists, token) = TikTokAudiences::read(section, endpoint);
        Box::new(ListOnlyDestination {
            lists,
            secrets: vec![token],
            calls_per_second: Some(CALLS_PER_SECOND),
        })
    }),
    ..Vendor::EMPTY
};

/// TikTok limits accounts, and publishes no figure that could be verified: a careful one.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

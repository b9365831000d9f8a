//! TikTok's custom audiences (`docs/contracts/destinations.md` 7.1). Lists only: events are not sent yet.
//!
//! The body of a reply, not its status, says whether a call was taken.

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
    settings: audience::SETTINGS,
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

/// Calls a second, chosen low: TikTok limits accounts but publishes no figure that could be verified.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

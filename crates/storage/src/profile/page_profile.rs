//! The part of a profile that a page may know of its own browser: by the gateway's cookie, and by no
//! identity that a client can write.
//!
//! The page of a browser that is bound to a user (`stitch.rs`, rule 0) gets that user's profile: of a
//! shared profile only the proven traits. The page of another browser gets what its cookie alone
//! collected: a profile whose only identities are the cookie and the anonymous id made of it. Any other
//! page gets nothing.

use std::collections::BTreeMap;

use super::traits::ProfileTraits;
use super::{PageProfile, ProfileId};
use tagway_core::event::{JsonObject, ProfileView, SenderRank};

/// The kinds of identities that a profile may have for its page to get it by the cookie alone: all of
/// the cookie's own id.
pub(super) const OWN_KINDS: [&str; 2] = ["visitor", "anonymous"];

/// The stored rows of a browser and of its profile.
#[derive(Clone, Debug)]
pub(super) struct PageProfileRow {
    pub(super) profile: ProfileId,
    /// The rank of the cookie's link.
    pub(super) rank: SenderRank,
    pub(super) user_id: Option<String>,
    /// The rank of the user id's link.
    pub(super) user_rank: SenderRank,
    pub(super) is_shared: bool,
    /// True if the profile has other identities than the cookie's own id.
    pub(super) has_others: bool,
    pub(super) traits: JsonObject,
    pub(super) ranks: BTreeMap<String, SenderRank>,
}

impl PageProfileRow {
    /// Selects the part that the page may know, if any.
    pub(super) fn into_page_profile(self) -> Option<PageProfile> {
        let Self { profile, rank, user_id, user_rank, is_shared, has_others, traits, ranks } = self;
        let is_proven = rank.min(user_rank) > SenderRank::Claimed;
        let traits = match &user_id {
            Some(_) if is_proven && is_shared => ProfileTraits::proven(traits, &ranks),
            Some(_) if is_proven => traits,
            None if !is_shared && !has_others => traits,
            _ => return None,
        };
        let view = ProfileView { user_id, traits };
        Some(PageProfile { profile, view, is_whole: !is_shared })
    }
}

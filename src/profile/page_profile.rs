//! The part of a profile that a page may know of its own browser: by the gateway's cookie, and by nothing
//! that anybody can write.
//!
//! A browser that is bound to a user (`stitch.rs`, rule 0) is told of that user: of a profile that is
//! shared only what was proven. Another is told of what its cookie alone collected: of a profile of
//! which nothing is known but the cookie and the anonymous id that is made of it. Everybody else is told
//! nothing.

use std::collections::BTreeMap;

use super::traits::ProfileTraits;
use super::{PageProfile, ProfileId};
use crate::event::{JsonObject, ProfileView, SenderRank};

/// The kinds of identities that a profile may have of which its cookie alone is told: all of the
/// cookie's own id.
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
    pub(super) fn standing(self) -> Option<PageProfile> {
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

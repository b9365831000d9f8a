//! Sender ranks: the identity model of the gateway. A rank limits the people that a sender may speak for;
//! every module that shows, changes or displaces a person's data applies it.
//!
//! # The ranks
//!
//! | rank | sender | proof |
//! |---|---|---|
//! | server | one of the site's servers | the site's `server_token`, or an operator at the admin listener |
//! | proven | the visitor of a browser whose identity the site confirmed | a login proof (HMAC of the user id by the site's `login_key`) in the message, or an earlier message of rank server or proven that bound this browser's cookie to the same user id |
//! | claimed | any client | nothing: a user id, an e-mail address, an anonymous id, a cookie of a vendor that the sender wrote |
//!
//! The gateway's own signed cookie proves that a request comes from the same browser as an earlier
//! one. It does not prove who uses that browser.
//!
//! A login proof counts in a POST only, for the user id of its own message only, and in every format that
//! has a place for it. It is removed from the message before the journal, valid or not. One that does not
//! verify takes nothing away: the message is claimed, as it would be without.
//!
//! # The power of a rank
//!
//! - *Delivery.* Events of all ranks go to the destinations with the ids that they carry.
//! - *Showing.* `GET /me` shows data of a proven identity, or data that the cookie alone collected. A
//!   claim shows no one's data.
//! - *Changing.* A trait, an identity and a consent carry the rank that they were stored with. A lower
//!   rank never replaces, removes or loosens what a higher rank stored.
//! - *Room.* Each rank has its own share of a profile's limits; profiles that only claims made have
//!   a bound per site and are removed first.
//! - *Binding.* Neither GET requests nor cross-site requests change the visitor of a browser. A GET that
//!   names a person, or a device that the browser's own cookies do not contain, is an event without the
//!   cookie: no visitor, session, remembered click id or vendor's cookie goes with it, and none is set. The
//!   same holds for every request that another site made the browser send, whatever it names, and from a
//!   listed origin of another registrable domain as well: the cookie is `SameSite=Lax`, browsers omit it there.
//! - *Duplicates.* A message id is unique among the events of the site's servers, among those of one
//!   browser (its cookie), and among those of one sender without a cookie (its anonymous and user id, or
//!   else its address). So no sender can occupy a message id that another sender will use, unless it knows
//!   the ids that a sender without a cookie uses, or shares its address. In two cases an id is one event
//!   across these: a browser that tries again with the cookie that an answer gave it, and a browser that
//!   repeats a message that a server sent before. In the other order both are stored, and vendors that
//!   deduplicate events by id count one. Both are stored as well where a browser tries again after it lost
//!   or refused its cookie, or after the gateway restarted between the request without and the one with a cookie.
//! - *Eviction.* Where `journal.max_bytes` forces undelivered events out, lower ranks go first.

use serde::{Deserialize, Serialize};

/// The degree to which an event's sender proved its identity. Higher ranks compare greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SenderRank {
    /// Any client that sends an id.
    #[default]
    Claimed,
    /// A browser whose identity the site confirmed.
    Proven,
    /// One of the site's servers.
    Server,
}

impl SenderRank {
    /// All ranks, the lowest first.
    pub const ALL: [Self; 3] = [Self::Claimed, Self::Proven, Self::Server];

    /// Returns the stored number of the rank: 0, 1 or 2.
    pub const fn number(self) -> u8 {
        match self {
            Self::Claimed => 0,
            Self::Proven => 1,
            Self::Server => 2,
        }
    }

    /// Returns the rank with this stored number. An unknown number has no power.
    pub const fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Server,
            1 => Self::Proven,
            _ => Self::Claimed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_round_trip_through_their_numbers_in_order() {
        for rank in SenderRank::ALL {
            assert_eq!(SenderRank::from_number(i64::from(rank.number())), rank);
        }
        assert!(SenderRank::ALL.is_sorted());
        assert_eq!(SenderRank::from_number(7), SenderRank::Claimed);
    }
}

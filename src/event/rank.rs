//! Sender ranks: the identity model of the gateway. It says who may speak for whom; every module that
//! shows, changes or displaces what is known of a person goes by it.
//!
//! # The ranks
//!
//! | rank | who sends | how it is shown |
//! |---|---|---|
//! | server | one of the site's servers | the site's `server_token`, or an operator at the admin listener |
//! | proven | the visitor of a browser whose identity the site confirmed | a login proof (HMAC of the user id by the site's `login_key`) in the message, or an earlier message of rank server or proven that bound this browser's cookie to the same user id |
//! | claimed | anybody | nothing: a user id, an e-mail address, an anonymous id, a cookie of a vendor that the sender wrote |
//!
//! The gateway's own signed cookie proves that a request comes from the same browser as an earlier
//! one. It does not prove who uses that browser.
//!
//! A login proof counts in a POST only, for the user id of its own message only, and in every format that
//! has a place for it. It is taken out of the message before the journal, whatever it proves. One that does
//! not verify takes nothing away: the message is claimed, as it would be without.
//!
//! # The power of a rank
//!
//! - *Delivery.* Events of all ranks go to the destinations with the ids that they carry.
//! - *Showing.* `GET /me` shows what belongs to a proven identity, or what the cookie alone
//!   collected. A claim shows nothing of anybody.
//! - *Changing.* A trait, an identity and a consent carry the rank that they were stored with. A lower
//!   rank never replaces, removes or loosens what a higher rank stored.
//! - *Room.* Each rank has its own share of a profile's limits; profiles that only claims made have
//!   a bound per site and are removed first.
//! - *Binding.* Neither GET requests nor cross-site requests change who a browser's visitor is. A GET
//!   that names a person, or a device that the browser's own cookies do not hold, is an event without the
//!   cookie: no visitor, visit, remembered click id or vendor's cookie goes with it, and none is set. So
//!   is every request that another site made the browser send, whatever it names, and from a listed origin
//!   of another registrable domain as well: the cookie is `SameSite=Lax`, browsers do not send it there.
//! - *Duplicates.* A message id is unique among the events of the site's servers, among those of one
//!   browser (its cookie), and among those of one sender without a cookie (its anonymous and user id, or
//!   else its address). So nobody can occupy a message id that another sender will use, but for who knows
//!   the ids that a sender without a cookie uses, or shares its address. In two cases an id is one event
//!   across these: a browser that tries again with the cookie that an answer gave it, and a browser that
//!   repeats what a server told before it. Told the other way round, both are kept, and vendors that tell
//!   events apart by their ids count one. Two are kept as well where a browser tries again after it lost
//!   or refused its cookie, or after the gateway started anew between the request that had none and the one that has.
//! - *Eviction.* Where `journal.max_bytes` forces undelivered events out, lower ranks go first.

use serde::{Deserialize, Serialize};

/// How far the sender of an event proved who it speaks for. Higher ranks compare greater.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SenderRank {
    /// Anybody who writes an id.
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

    /// The stored number of the rank: 0, 1 or 2.
    pub const fn number(self) -> u8 {
        match self {
            Self::Claimed => 0,
            Self::Proven => 1,
            Self::Server => 2,
        }
    }

    /// The rank with this stored number. An unknown number has no power.
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

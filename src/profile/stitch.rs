//! How identities join: the rules, and nothing else. Whoever keeps profiles looks up what it knows of
//! an event's identities, asks [`judge`], and does as told.
//!
//! # The rules
//!
//! An identity belongs to one profile of its site. **Strong** identities name a person: user ids and
//! e-mail addresses. **Weak** ones name a device: anonymous ids, cookies, ids of vendors. A profile
//! that has a user id is **known**, another anonymous. All times are the events' own, so that what
//! arrives late changes nothing that was later.
//!
//! 1. *User ids.* An event with a user id is its profile's. Two user ids never come together through
//!    anything they share.
//! 2. *Signing in.* The weak identities of that event belong to the user from then on. An anonymous
//!    profile that one of them named goes into the user's as a whole. One that was another user's
//!    device alone changes hands, if that user was not seen on it later (its **claim**): the other
//!    keeps what else they have, and their past.
//! 3. *Without a user id* the weak identities of an event are of one device, and belong to who
//!    claimed one of them last; if nobody did, their anonymous profiles become one, of which the
//!    oldest stays.
//! 4. *After a change of hands* an event from before says nothing of that identity any more.
//! 5. *E-mail addresses* join as user ids do if one of the site's servers says so, unless a device in
//!    the event is another user's: an address that a user id has stays with it, and the people stay
//!    two. If anybody else says so, an address joins anonymous profiles with each other at most: whoever
//!    names somebody's address in a browser neither gets nor changes what is known of a user, and takes
//!    nothing into a user's profile.
//! 6. *Alias.* The older id as a weak identity joins the user id. Two user ids become one profile if
//!    one of the site's servers says so; the profile goes by the id of the latest alias then. If
//!    anybody else says so, they stay two.
//! 7. *Reset.* An anonymous id never seen before, of a client that used another with the same device
//!    within the last [`RESET_WITHIN_MS`], begins a new visitor: the event's weak identities leave the
//!    person as if somebody else had signed in, somebody nobody knows yet. After that time a new id
//!    is taken for a script's storage that the browser emptied, and the person stays the same:
//!    browsers do so after a day at the earliest.
//!
//! Without rules 4 and 7, a device that two users share and addresses that no server said, the
//! profiles are the connected parts of the graph of all events, so neither order nor repetition
//! matters.
//!
//! Where a profile has no more room, an identity names nobody until it does.

use std::collections::BTreeSet;

use super::{Device, IdentityKind, ProfileId, SEEN_EVERY_MS, Update};

/// How long ago a client may have used the id that a reset replaces, in milliseconds: a day, the
/// shortest time after which browsers drop what scripts have stored (Safari, of pages reached with a
/// click id; seven days otherwise).
const RESET_WITHIN_MS: i64 = 86_400_000;

/// To whom an identity belongs. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) profile: ProfileId,
    /// Whether the profile has a user id.
    pub(super) is_known: bool,
    /// Since when, if it has changed hands; else 0.
    pub(super) since: i64,
    /// When its person last identified themselves with it, or began anew; 0 if never.
    pub(super) claimed: i64,
    /// When it was last seen.
    pub(super) seen: i64,
}

/// What is known of an update's identities, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    pub(super) user: Option<Binding>,
    pub(super) previous: Option<Binding>,
    pub(super) email: Option<Binding>,
    pub(super) devices: Vec<Option<Binding>>,
}

/// Whose an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Profile(ProfileId),
    /// One that is yet to be made.
    New,
    /// It says too little to be kept.
    Nobody,
}

/// What an update does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) holder: Holder,
    /// The profiles that go into the holder's.
    pub(super) absorbed: BTreeSet<ProfileId>,
    /// When the holder claims what it gets; 0 if it does not.
    pub(super) claim: i64,
    /// Whether the e-mail address is the holder's.
    pub(super) has_email: bool,
    /// Of each device whether it is the holder's, and since when.
    pub(super) devices: Vec<Option<Held>>,
}

/// A device that is the holder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) since: i64,
    pub(super) claimed: i64,
}

/// The newest anonymous id that a client used with a profile, and when.
pub(super) type Mate = (String, i64);

/// On what grounds the holder takes identities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// The event says who it is.
    Identified,
    /// A device says so.
    Device,
    /// The client began anew.
    Reset,
}

/// The time of an update. 0 stands for never.
pub(super) fn time(update: &Update) -> i64 {
    update.at.as_millisecond().max(1)
}

/// Judges an update. `mate` is asked for the newest anonymous id of a client with a profile.
pub(super) fn judge<E>(
    update: &Update,
    bound: &Bound,
    mate: impl FnMut(ProfileId, &str) -> Result<Option<Mate>, E>,
) -> Result<Verdict, E> {
    let at = time(update);
    let devices: Vec<Option<Binding>> =
        bound.devices.iter().map(|b| b.filter(|b| b.since <= at)).collect();
    let is_believed = |b: &Binding| update.from_server || (update.user.is_none() && !b.is_known);
    let email = bound.email.filter(is_believed);
    let lowest = || {
        let bound = devices.iter().copied().chain([email]).flatten();
        bound.filter(|b| !b.is_known).map(|b| b.profile).min()
    };
    let profile = |binding: Binding| Holder::Profile(binding.profile);
    if update.user.is_some() {
        let holder = bound.user.or(bound.previous).map(profile);
        let holder = holder.or_else(|| lowest().map(Holder::Profile)).unwrap_or(Holder::New);
        return Ok(settle(update, (bound, email), holder, at, Ground::Identified));
    }
    let reset = reset(update, &devices, at, mate)?;
    // Of equal claims the surest device's.
    let claimed = devices.iter().flatten().filter(|b| b.is_known || b.claimed > 0);
    let winner = claimed.copied().reduce(|best, b| if b.claimed > best.claimed { b } else { best });
    let is_other_users = reset.is_none() && winner.is_some_and(|winner| winner.is_known);
    if let Some(email) = email.filter(|email| email.is_known && !is_other_users) {
        let ground = if reset.is_some() { Ground::Reset } else { Ground::Identified };
        return Ok(settle(update, (bound, Some(email)), profile(email), at, ground));
    }
    let email = email.filter(|_| update.from_server || !is_other_users);
    Ok(match (reset, winner) {
        (Some(Reset::Now), _) => settle(update, (bound, email), Holder::New, at, Ground::Reset),
        (Some(Reset::Before), _) => settle_before(update),
        (None, Some(winner)) => {
            settle(update, (bound, email), profile(winner), winner.claimed, Ground::Device)
        }
        (None, None) => {
            let holder = lowest().map(Holder::Profile);
            let holder =
                holder.unwrap_or(if says_enough(update) { Holder::New } else { Holder::Nobody });
            settle(update, (bound, email), holder, 0, Ground::Device)
        }
    })
}

/// `email` is to whom the address belongs, if the event is believed about it.
fn settle(
    update: &Update,
    (bound, email): (&Bound, Option<Binding>),
    holder: Holder,
    claim: i64,
    ground: Ground,
) -> Verdict {
    let at = time(update);
    let is_holders = |binding: &Binding| holder == Holder::Profile(binding.profile);
    let joins = |binding: &Binding| {
        !binding.is_known
            && match ground {
                Ground::Identified => true,
                Ground::Device => binding.claimed == 0,
                Ground::Reset => false,
            }
    };
    let mut absorbed = BTreeSet::new();
    // Whole profiles come in by a server's word, and anonymous ones.
    let whole = bound.previous.filter(|_| update.user.is_some());
    let whole = whole.into_iter().chain(email.filter(joins));
    absorbed.extend(whole.map(|b| b.profile));
    let mut devices = Vec::with_capacity(bound.devices.len());
    for binding in &bound.devices {
        devices.push(match binding {
            None => Some(Held { since: 0, claimed: claim }),
            Some(b) if b.since > at => None,
            Some(b) if is_holders(b) || joins(b) || absorbed.contains(&b.profile) => {
                absorbed.insert(b.profile);
                Some(Held { since: b.since, claimed: b.claimed.max(claim) })
            }
            Some(b) if claim >= b.claimed => Some(Held { since: claim, claimed: claim }),
            Some(_) => None,
        });
    }
    if let Holder::Profile(holder) = holder {
        absorbed.remove(&holder);
    }
    let has_email = bound.email.is_none_or(|b| is_holders(&b) || absorbed.contains(&b.profile));
    Verdict { holder, absorbed, claim, has_email, devices }
}

/// An event of the visitor before a reset that arrives after it: the new id's alone, if anything.
fn settle_before(update: &Update) -> Verdict {
    Verdict {
        holder: Holder::Nobody,
        absorbed: BTreeSet::new(),
        claim: 0,
        has_email: false,
        devices: vec![None; update.devices.len()],
    }
}

enum Reset {
    /// The client begins anew with this event.
    Now,
    /// It has begun anew since.
    Before,
}

/// Whether a client of the event has begun anew.
fn reset<E>(
    update: &Update,
    devices: &[Option<Binding>],
    at: i64,
    mut mate: impl FnMut(ProfileId, &str) -> Result<Option<Mate>, E>,
) -> Result<Option<Reset>, E> {
    let is_recent = |seen: i64| at.abs_diff(seen) <= RESET_WITHIN_MS.unsigned_abs();
    let recent: BTreeSet<ProfileId> =
        devices.iter().flatten().filter(|b| is_recent(b.seen)).map(|b| b.profile).collect();
    for (device, binding) in update.devices.iter().zip(devices) {
        let (None, Some(client)) = (binding, &device.client) else { continue };
        for profile in &recent {
            let Some((value, seen)) = mate(*profile, client)? else { continue };
            let is_mate = |d: &Device| {
                d.identity.kind == IdentityKind::Anonymous && d.identity.value == value
            };
            // A client whose page names it twice has not begun anew.
            if is_recent(seen) && !update.devices.iter().any(is_mate) {
                return Ok(Some(if at >= seen { Reset::Now } else { Reset::Before }));
            }
        }
    }
    Ok(None)
}

/// Whether an event of nobody known is worth a profile: it counts, says something of the person, or which
/// identities are of one device.
fn says_enough(update: &Update) -> bool {
    let devices = update.devices.iter().map(|device| &device.identity);
    let mut values = devices.chain(&update.email).map(|identity| identity.value.as_str());
    let Some(first) = values.next() else { return false };
    update.sighting.is_some() || !update.traits.is_empty() || values.any(|value| value != first)
}

impl Held {
    /// Whether it says anything that is not written down already, of a device that was and is the
    /// same profile's.
    pub(super) fn is_news(&self, known: &Binding, at: i64) -> bool {
        self.claimed - known.claimed >= SEEN_EVERY_MS || at - known.seen >= SEEN_EVERY_MS
    }

    /// Since when what is written down of such a device stands.
    pub(super) fn noted(&self, known: &Binding, at: i64) -> i64 {
        // A claim that another device made does not move on with time.
        if self.claimed == at { known.claimed.min(known.seen) } else { known.seen }
    }
}

//! The rules of identity stitching. The profiles' backend looks up the bindings of an event's
//! identities, calls [`decide_stitch`], and applies its decision.
//!
//! # The rules
//!
//! An identity belongs to one profile of its site. **Strong** identities name a person: user ids and
//! e-mail addresses. **Weak** ones name a device: anonymous ids, cookies, ids of vendors. A profile
//! that has a user id is **known**, another anonymous. All times are the events' own, so that an event
//! that arrives late changes nothing later.
//!
//! The gateway's own cookie is the one weak identity that no client can write: it shows the
//! **browser**. Every other identity is a claim, until a sender of a higher rank (`event/rank.rs`)
//! states it. A link of an identity to its profile has the rank with which it was made, and a profile
//! the highest rank of its statements: one of rank claimed was made by claims alone.
//!
//! 0. *Rank.* A message of a server or with a login proof has its own rank. A browser is **bound** if
//!    such a message named its cookie and the user id: its later events of the same user, or without a
//!    user id, are proven; its events of another user are claimed, and leave the browser bound. A
//!    server's message without a user id reaches a known profile by the links of the devices or of the
//!    address in it, and its rank is no higher than the best of them.
//! 1. *User ids.* An event with a user id belongs to its profile. Two user ids never come together
//!    through anything they share.
//! 2. *Signing in.* The weak identities of that event belong to the user from then on. An anonymous
//!    profile that one of them named is merged into the user's as a whole. An identity of another user
//!    moves alone, if that user was not seen on it later (its **claim**): the other keeps all other
//!    identities, and their past.
//! 3. *Without a user id* the weak identities of an event are of one device, and belong to the user the
//!    browser is bound to, else to the profile that claimed one of them last; if none did, their
//!    anonymous profiles become one: the one of the highest rank stays, and of these the oldest.
//! 4. *After a move* an earlier event no longer affects that identity.
//! 5. *E-mail addresses* join as user ids do if one of the site's servers states them, unless a device
//!    in the event is another user's: an address that a user id has from a server stays with it, and
//!    the people stay two; one that others stated leaves the person they stated it of. Stated by any
//!    other sender, an address at most joins anonymous profiles made by claims alone with each other:
//!    naming a user's address in a browser neither reads nor changes that user's profile, and takes
//!    nothing into a user's profile.
//! 6. *Alias.* The older id as a weak identity joins the user id. Two user ids become one profile if
//!    one of the site's servers states so; the profile then has the id of the latest alias. On any
//!    other sender's statement, they stay two.
//! 7. *Reset.* An anonymous id never seen before, of a client that used another with the same device
//!    within the last [`RESET_WITHIN_MS`], begins a new visitor: the event's weak identities leave the
//!    person as if another, still unknown, person had signed in. The browser is no longer bound. After
//!    that time a new id means that the browser emptied the script's storage, and the person stays the
//!    same: browsers do so after a day at the earliest.
//! 8. *Taking.* Any event may take from profiles made by claims alone, as rules 2, 3 and 7 state. From
//!    a profile of a higher rank a server takes; a browser takes its own cookie, unless that is bound
//!    and the event only claims another user; and a proven event, or the reset of a bound browser,
//!    takes the identities of the profile that the browser was bound to. A claim takes nothing else: it
//!    joins the existing profile, in the share that claims have.
//!
//! # The part that a page may know
//!
//! A profile is **shared** once an event of lower rank than a server's reached it by an identity that
//! any client can write, without the cookie that the profile has: by then it may hold the data of two
//! people. Of a shared profile a page gets the proven parts, of another all that is public.
//!
//! Without rules 4, 7 and 8, a device that two users share and addresses that no server stated, the
//! profiles are the connected components of the graph of all events, so neither order nor repetition
//! matters.
//!
//! If a profile has no more room, a further identity is bound to no profile until it has; one of a
//! higher rank replaces one of a lower rank.

use std::collections::BTreeSet;

use super::{DeviceIdentity, IdentityKind, LAST_SEEN_LAG_MS, ProfileId, ProfileUpdate};
use tagway_core::event::SenderRank;

/// The longest time since a client used the id that a reset replaces, in milliseconds: a day, the
/// shortest time after which browsers drop what scripts have stored (Safari, of pages reached with a
/// click id; seven days otherwise).
const RESET_WITHIN_MS: i64 = 86_400_000;

/// The binding of an identity to a profile. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdentityBinding {
    pub(super) profile: ProfileId,
    /// True if the profile has a user id.
    pub(super) is_known: bool,
    /// The highest rank of a statement about the profile.
    pub(super) person: SenderRank,
    /// The rank with which the identity was linked to it.
    pub(super) rank: SenderRank,
    /// The time since when, if the identity has moved; 0 otherwise.
    pub(super) since: i64,
    /// The time at which its person last identified themselves with it, or began anew; 0 if never.
    pub(super) claimed: i64,
    /// The time at which it was last seen.
    pub(super) seen: i64,
}

/// The bindings of an update's identities, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct UpdateBindings {
    pub(super) user: Option<IdentityBinding>,
    pub(super) previous: Option<IdentityBinding>,
    pub(super) email: Option<IdentityBinding>,
    pub(super) devices: Vec<Option<IdentityBinding>>,
}

/// The profile that an update belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpdateOwner {
    Profile(ProfileId),
    /// A profile that is yet to be created.
    New,
    /// No profile: the update states too little to be kept.
    Nobody,
}

/// The decision about an update.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StitchDecision {
    pub(super) holder: UpdateOwner,
    /// The effective rank of the update.
    pub(super) rank: SenderRank,
    /// True if the owner's profile is shared from now on.
    pub(super) is_shared: bool,
    /// True if the owner was anonymous and a rank above claimed names its user.
    pub(super) is_vouched: bool,
    /// The profiles that are merged into the owner's.
    pub(super) absorbed: BTreeSet<ProfileId>,
    /// The time of the owner's claim to the identities; 0 without a claim.
    pub(super) claim: i64,
    /// True if the e-mail address is the owner's.
    pub(super) has_email: bool,
    /// The bindings of the devices that are the owner's; `None` for the others.
    pub(super) devices: Vec<Option<BindingUpdate>>,
}

/// The new binding of a device that is the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BindingUpdate {
    pub(super) since: i64,
    pub(super) claimed: i64,
    pub(super) rank: SenderRank,
}

/// The newest anonymous id that a client used with a profile, and the time it was seen.
pub(super) struct LatestAnonymousId {
    pub(super) value: String,
    pub(super) seen: i64,
}

/// The reason for which the owner takes identities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StitchReason {
    /// The event has a user id.
    Identified,
    /// A device's binding leads to the owner.
    Device,
    /// The client was reset.
    Reset,
}

/// Returns the time of an update, in milliseconds since 1970. 0 stands for never.
pub(super) fn time(update: &ProfileUpdate) -> i64 {
    update.at.as_millisecond().max(1)
}

/// Decides about an update. `mate` returns the newest anonymous id of a client with a profile.
pub(super) fn decide_stitch<E>(
    update: &ProfileUpdate,
    bound: &UpdateBindings,
    mate: impl FnMut(ProfileId, &str) -> Result<Option<LatestAnonymousId>, E>,
) -> Result<StitchDecision, E> {
    let at = time(update);
    let is_open = |b: &IdentityBinding| b.since <= at || b.rank < update.rank;
    let devices: Vec<Option<IdentityBinding>> =
        bound.devices.iter().map(|b| b.filter(is_open)).collect();
    let is_server = update.rank == SenderRank::Server;
    let is_believed = |b: &IdentityBinding| {
        is_server || (update.user.is_none() && !b.is_known && b.person == SenderRank::Claimed)
    };
    let email = bound.email.filter(is_believed);
    let mut case = StitchContext {
        update,
        bindings: bound,
        email,
        at,
        browser: browser(update, &devices),
        rank: update.rank,
        reason: StitchReason::Identified,
    };
    let anonymous = || devices.iter().copied().chain([email]).flatten().filter(|b| !b.is_known);
    let profile = |binding: IdentityBinding| UpdateOwner::Profile(binding.profile);
    if update.user.is_some() {
        case.rank = case.rank_of_user();
        let takeable = anonymous().filter(|b| case.can_rebind(b, false));
        let lowest = || takeable.map(|b| b.profile).min().map(UpdateOwner::Profile);
        let holder = bound.user.or(bound.previous).map(profile).or_else(lowest);
        return Ok(case.decide(holder.unwrap_or(UpdateOwner::New), at));
    }
    let reset = reset(update, &devices, at, mate)?;
    // Of equal claims the surest device's wins.
    let claimed = devices.iter().flatten().filter(|b| b.is_known || b.claimed > 0);
    let place =
        |b: &IdentityBinding| (if is_server { b.rank } else { SenderRank::Claimed }, b.claimed);
    let winner = claimed.copied().reduce(|best, b| if place(&b) > place(&best) { b } else { best });
    let winner = case.browser.filter(IdentityBinding::is_bound).or(winner);
    let is_other_users = reset.is_none() && winner.is_some_and(|winner| winner.is_known);
    if let Some(known) = email.filter(|email| email.is_known && !is_other_users) {
        if reset.is_some() {
            case.reason = StitchReason::Reset;
        }
        case.rank = case.rank_of(Some(known));
        return Ok(case.decide(profile(known), at));
    }
    case.email = email.filter(|_| is_server || !is_other_users);
    case.reason = if reset.is_some() { StitchReason::Reset } else { StitchReason::Device };
    Ok(match (reset, winner) {
        (Some(ClientReset::Now), _) => case.decide(UpdateOwner::New, at),
        (Some(ClientReset::Before), _) => settle_before(update),
        (None, Some(winner)) => {
            case.rank = case.rank_of(Some(winner));
            case.decide(profile(winner), winner.claimed)
        }
        (None, None) => {
            let first = anonymous().min_by_key(|b| (std::cmp::Reverse(b.person), b.profile));
            case.rank = case.rank_of(first);
            let holder = first.map(profile);
            let holder = holder.unwrap_or(if is_worth_profile(update) {
                UpdateOwner::New
            } else {
                UpdateOwner::Nobody
            });
            case.decide(holder, 0)
        }
    })
}

/// Returns the binding of the event's browser.
fn browser(update: &ProfileUpdate, devices: &[Option<IdentityBinding>]) -> Option<IdentityBinding> {
    let mut all = update.devices.iter().zip(devices);
    all.find_map(|(device, b)| b.filter(|_| device.identity.kind == IdentityKind::Visitor))
}

impl IdentityBinding {
    /// Returns true for the link of a browser that is bound to its user.
    const fn is_bound(&self) -> bool {
        self.is_known && !matches!(self.rank, SenderRank::Claimed)
    }
}

/// An update with the known bindings of its identities.
struct StitchContext<'c> {
    update: &'c ProfileUpdate,
    bindings: &'c UpdateBindings,
    /// The binding of the address, if the event is believed about it.
    email: Option<IdentityBinding>,
    at: i64,
    browser: Option<IdentityBinding>,
    /// The effective rank of the event.
    rank: SenderRank,
    reason: StitchReason,
}

impl StitchContext<'_> {
    /// Returns the effective rank of an event with a user id.
    fn rank_of_user(&self) -> SenderRank {
        let is_browsers = match (self.browser, self.bindings.user) {
            (Some(browser), Some(user)) => browser.is_bound() && browser.profile == user.profile,
            _ => false,
        };
        if is_browsers { self.rank.max(SenderRank::Proven) } else { self.rank }
    }

    /// Returns the effective rank of an event without a user id that belongs to this holder.
    fn rank_of(&self, holder: Option<IdentityBinding>) -> SenderRank {
        let Some(holder) = holder.filter(|holder| holder.is_known) else { return self.rank };
        let is_holders = |b: &IdentityBinding| b.profile == holder.profile;
        let browser = self.browser.filter(|b| is_holders(b) && b.is_bound());
        let proven = browser.map_or(SenderRank::Claimed, |_| SenderRank::Proven);
        if self.rank != SenderRank::Server {
            return proven;
        }
        // A proven browser only claims the bindings of other devices.
        let all = self.bindings.devices.iter().chain([&self.email]).flatten();
        let is_servers = |b: &IdentityBinding| is_holders(b) && b.rank == SenderRank::Server;
        if all.copied().any(|b| is_servers(&b)) { SenderRank::Server } else { proven }
    }

    /// Returns true if the event may take an identity from its profile.
    fn can_rebind(&self, b: &IdentityBinding, is_browser: bool) -> bool {
        if b.person == SenderRank::Claimed || self.rank == SenderRank::Server {
            return true;
        }
        let is_reset = self.reason == StitchReason::Reset;
        if is_browser {
            return is_reset || self.rank == SenderRank::Proven || b.rank == SenderRank::Claimed;
        }
        let is_bound = |own: IdentityBinding| own.is_bound() && own.profile == b.profile;
        (is_reset || self.rank == SenderRank::Proven) && self.browser.is_some_and(is_bound)
    }

    /// Returns true if the whole profile is merged into the owner's.
    fn merges_profile(&self, b: &IdentityBinding) -> bool {
        !b.is_known
            && self.can_rebind(b, false)
            && match self.reason {
                StitchReason::Identified => true,
                StitchReason::Device => b.claimed == 0,
                StitchReason::Reset => false,
            }
    }

    fn decide(&self, holder: UpdateOwner, claim: i64) -> StitchDecision {
        let (at, bound) = (self.at, self.bindings);
        let is_holders =
            |binding: &IdentityBinding| holder == UpdateOwner::Profile(binding.profile);
        let mut absorbed = BTreeSet::new();
        // A server's statement merges known profiles as a whole, and anonymous ones always merge so.
        let whole = bound.previous.filter(|_| self.update.user.is_some());
        let whole = whole.into_iter().chain(self.email.filter(|b| self.merges_profile(b)));
        absorbed.extend(whole.map(|b| b.profile));
        let rank = self.rank;
        let mut devices = Vec::with_capacity(bound.devices.len());
        for (binding, device) in bound.devices.iter().zip(&self.update.devices) {
            let is_browser = device.identity.kind == IdentityKind::Visitor;
            devices.push(match binding {
                None => Some(BindingUpdate { since: 0, claimed: claim, rank }),
                // Times that were only claimed do not bind events of a higher rank.
                Some(b) if b.since > at && rank <= b.rank => None,
                Some(b)
                    if is_holders(b) || self.merges_profile(b) || absorbed.contains(&b.profile) =>
                {
                    absorbed.insert(b.profile);
                    Some(if rank > b.rank && claim > 0 {
                        BindingUpdate { since: b.since.min(at), claimed: claim, rank }
                    } else {
                        // Nor does a claim advance a proven time.
                        let claim = if rank < b.rank { 0 } else { claim };
                        let claimed = b.claimed.max(claim);
                        BindingUpdate { since: b.since, claimed, rank: b.rank.max(rank) }
                    })
                }
                Some(b)
                    if (claim >= b.claimed || rank > b.rank) && self.can_rebind(b, is_browser) =>
                {
                    Some(BindingUpdate { since: claim, claimed: claim, rank })
                }
                Some(_) => None,
            });
        }
        if let UpdateOwner::Profile(holder) = holder {
            absorbed.remove(&holder);
        }
        let has_email = bound.email.is_none_or(|b| {
            is_holders(&b) || absorbed.contains(&b.profile) || self.email_rank() > b.rank
        });
        let is_shared = self.is_shared(holder, &absorbed);
        let is_vouched = self.is_vouched(holder);
        StitchDecision {
            holder,
            rank: self.rank,
            is_shared,
            is_vouched,
            absorbed,
            claim,
            has_email,
            devices,
        }
    }

    /// Returns the rank with which the address is linked. Only a server proves one.
    fn email_rank(&self) -> SenderRank {
        email_rank(self.update, self.rank)
    }

    /// Returns true if the event reached the owner, or a profile that is merged into the owner's, by an
    /// identity that any client can write.
    fn is_shared(&self, holder: UpdateOwner, absorbed: &BTreeSet<ProfileId>) -> bool {
        if self.update.rank == SenderRank::Server && self.rank > SenderRank::Claimed {
            return false;
        }
        let is_browsers = |profile: ProfileId| self.browser.is_some_and(|b| b.profile == profile);
        let is_named = self.bindings.user.or(self.bindings.previous).is_some();
        let is_reached = match holder {
            UpdateOwner::Profile(holder) => !is_named && !is_browsers(holder),
            UpdateOwner::New | UpdateOwner::Nobody => false,
        };
        is_reached || absorbed.iter().any(|profile| !is_browsers(*profile))
    }

    fn is_vouched(&self, holder: UpdateOwner) -> bool {
        let is_named = self.update.user.is_some() && self.rank > SenderRank::Claimed;
        is_named && self.bindings.user.is_none() && matches!(holder, UpdateOwner::Profile(_))
    }
}

/// Returns the rank with which an address is linked by an event of this rank.
pub(super) fn email_rank(update: &ProfileUpdate, rank: SenderRank) -> SenderRank {
    if update.rank == SenderRank::Server { rank } else { SenderRank::Claimed }
}

/// Returns the decision about an event from before a reset that arrives after it: it binds nothing.
fn settle_before(update: &ProfileUpdate) -> StitchDecision {
    StitchDecision {
        holder: UpdateOwner::Nobody,
        rank: SenderRank::Claimed,
        is_shared: false,
        is_vouched: false,
        absorbed: BTreeSet::new(),
        claim: 0,
        has_email: false,
        devices: vec![None; update.devices.len()],
    }
}

enum ClientReset {
    /// The client is reset with this event.
    Now,
    /// The client was reset after this event.
    Before,
}

/// Returns the reset of one of the event's clients, if there is one.
fn reset<E>(
    update: &ProfileUpdate,
    devices: &[Option<IdentityBinding>],
    at: i64,
    mut mate: impl FnMut(ProfileId, &str) -> Result<Option<LatestAnonymousId>, E>,
) -> Result<Option<ClientReset>, E> {
    let is_recent = |seen: i64| at.abs_diff(seen) <= RESET_WITHIN_MS.unsigned_abs();
    let recent: BTreeSet<ProfileId> =
        devices.iter().flatten().filter(|b| is_recent(b.seen)).map(|b| b.profile).collect();
    for (device, binding) in update.devices.iter().zip(devices) {
        let (None, Some(client)) = (binding, &device.client) else { continue };
        for profile in &recent {
            let Some(LatestAnonymousId { value, seen }) = mate(*profile, client)? else { continue };
            let is_mate = |d: &DeviceIdentity| {
                d.identity.kind == IdentityKind::Anonymous && d.identity.value == value
            };
            // A client whose page sends the old id as well was not reset.
            if is_recent(seen) && !update.devices.iter().any(is_mate) {
                return Ok(Some(if at >= seen { ClientReset::Now } else { ClientReset::Before }));
            }
        }
    }
    Ok(None)
}

/// Returns true if an event of an unknown visitor is worth a profile: it counts, has traits, or shows
/// which identities are of one device.
fn is_worth_profile(update: &ProfileUpdate) -> bool {
    let devices = update.devices.iter().map(|device| &device.identity);
    let mut values = devices.chain(&update.email).map(|identity| identity.value.as_str());
    let Some(first) = values.next() else { return false };
    update.activity.is_some() || !update.traits.is_empty() || values.any(|value| value != first)
}

impl BindingUpdate {
    /// Returns true if the binding has news, for a device that was and is the same profile's.
    pub(super) fn has_new_facts(&self, known: &IdentityBinding, at: i64) -> bool {
        self.claimed - known.claimed >= LAST_SEEN_LAG_MS
            || at - known.seen >= LAST_SEEN_LAG_MS
            || self.rank > known.rank
    }

    /// Returns the time since when the stored binding of such a device holds.
    pub(super) fn known_since(&self, known: &IdentityBinding, at: i64) -> i64 {
        // A claim that another device made does not advance with time.
        if self.claimed == at { known.claimed.min(known.seen) } else { known.seen }
    }
}

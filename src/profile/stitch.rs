//! How identities join: the rules, and nothing else. Whoever keeps profiles looks up what it knows of
//! an event's identities, asks [`decide_stitch`], and does as told.
//!
//! # The rules
//!
//! An identity belongs to one profile of its site. **Strong** identities name a person: user ids and
//! e-mail addresses. **Weak** ones name a device: anonymous ids, cookies, ids of vendors. A profile
//! that has a user id is **known**, another anonymous. All times are the events' own, so that what
//! arrives late changes nothing that was later.
//!
//! The gateway's own cookie is the one weak identity that nobody can write: it shows the **browser**.
//! Every other identity is a claim, until a sender of a higher rank (`event/rank.rs`) says it. A link
//! of an identity to its profile has the rank with which it was made, and a profile the highest
//! rank of what was said of it: one of rank claimed is what claims alone made.
//!
//! 0. *Rank.* A message of a server or with a login proof has its own rank. A browser is **bound** if such
//!    a message named its cookie and the user id: what it says later of the same user, or of nobody, is
//!    proven; what it says of another user is claimed, and leaves the browser bound. A server's
//!    message without a user id reaches a known profile by the links of the devices or of the address in
//!    it, and is worth no more than the best of them.
//! 1. *User ids.* An event with a user id is its profile's. Two user ids never come together through
//!    anything they share.
//! 2. *Signing in.* The weak identities of that event belong to the user from then on. An anonymous
//!    profile that one of them named goes into the user's as a whole. One that was another user's
//!    device alone changes hands, if that user was not seen on it later (its **claim**): the other
//!    keeps what else they have, and their past.
//! 3. *Without a user id* the weak identities of an event are of one device, and belong to the user
//!    the browser is bound to, else to who claimed one of them last; if nobody did, their anonymous
//!    profiles become one, of which the one of the highest rank stays, and of these the oldest.
//! 4. *After a change of hands* an event from before says nothing of that identity any more.
//! 5. *E-mail addresses* join as user ids do if one of the site's servers says so, unless a device in
//!    the event is another user's: an address that a user id has by a server's word stays with it, and
//!    the people stay two; one that others said leaves whom they said it of. If anybody else says so, an
//!    address joins anonymous profiles that claims alone made with each other at most: whoever
//!    names somebody's address in a browser neither gets nor changes what is known of a user, and takes
//!    nothing into a user's profile.
//! 6. *Alias.* The older id as a weak identity joins the user id. Two user ids become one profile if
//!    one of the site's servers says so; the profile goes by the id of the latest alias then. If
//!    anybody else says so, they stay two.
//! 7. *Reset.* An anonymous id never seen before, of a client that used another with the same device
//!    within the last [`RESET_WITHIN_MS`], begins a new visitor: the event's weak identities leave the
//!    person as if somebody else had signed in, somebody nobody knows yet. The browser is no longer
//!    bound. After that time a new id is taken for a script's storage that the browser emptied, and the
//!    person stays the same: browsers do so after a day at the earliest.
//! 8. *Taking.* What claims alone made, anybody takes, as rules 2, 3 and 7 say. From a profile of
//!    a higher rank a server takes; a browser takes its own cookie, unless that is bound and the event
//!    only claims another user; and a proven event, or the reset of a bound browser, takes what
//!    is of the profile that the browser was bound to. A claim takes nothing else: it joins
//!    what is there already, in the share that claims have.
//!
//! # What a page may know
//!
//! A profile is **shared** once an event of lower rank than a server's reached it by an identity
//! that anybody can write, without the cookie that the profile has: by then it may hold what two people
//! did. Of a shared profile a page learns what was proven, of another all that is public.
//!
//! Without rules 4, 7 and 8, a device that two users share and addresses that no server said, the
//! profiles are the connected parts of the graph of all events, so neither order nor repetition
//! matters.
//!
//! Where a profile has no more room, an identity names nobody until it does; one of a higher rank
//! has the room of one of a lower rank.

use std::collections::BTreeSet;

use super::{DeviceIdentity, IdentityKind, ProfileId, ProfileUpdate, SEEN_EVERY_MS};
use crate::event::SenderRank;

/// How long ago a client may have used the id that a reset replaces, in milliseconds: a day, the
/// shortest time after which browsers drop what scripts have stored (Safari, of pages reached with a
/// click id; seven days otherwise).
const RESET_WITHIN_MS: i64 = 86_400_000;

/// To whom an identity belongs. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdentityBinding {
    pub(super) profile: ProfileId,
    /// Whether the profile has a user id.
    pub(super) is_known: bool,
    /// The highest rank of what was said of the profile.
    pub(super) person: SenderRank,
    /// The rank with which the identity was linked to it.
    pub(super) rank: SenderRank,
    /// Since when, if it has changed hands; else 0.
    pub(super) since: i64,
    /// When its person last identified themselves with it, or began anew; 0 if never.
    pub(super) claimed: i64,
    /// When it was last seen.
    pub(super) seen: i64,
}

/// What is known of an update's identities, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct UpdateBindings {
    pub(super) user: Option<IdentityBinding>,
    pub(super) previous: Option<IdentityBinding>,
    pub(super) email: Option<IdentityBinding>,
    pub(super) devices: Vec<Option<IdentityBinding>>,
}

/// Whose an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpdateOwner {
    Profile(ProfileId),
    /// One that is yet to be made.
    New,
    /// It says too little to be kept.
    Nobody,
}

/// What an update does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StitchDecision {
    pub(super) holder: UpdateOwner,
    /// The effective rank of the update.
    pub(super) rank: SenderRank,
    /// True if the holder's profile is shared from now on.
    pub(super) is_shared: bool,
    /// True if the holder was anonymous and a rank above claimed names its user.
    pub(super) is_vouched: bool,
    /// The profiles that go into the holder's.
    pub(super) absorbed: BTreeSet<ProfileId>,
    /// When the holder claims what it gets; 0 if it does not.
    pub(super) claim: i64,
    /// Whether the e-mail address is the holder's.
    pub(super) has_email: bool,
    /// Of each device whether it is the holder's, and since when.
    pub(super) devices: Vec<Option<BindingUpdate>>,
}

/// A device that is the holder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BindingUpdate {
    pub(super) since: i64,
    pub(super) claimed: i64,
    pub(super) rank: SenderRank,
}

/// The newest anonymous id that a client used with a profile, and when.
pub(super) type LatestAnonymousId = (String, i64);

/// On what grounds the holder takes identities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StitchReason {
    /// The event says who it is.
    Identified,
    /// A device says so.
    Device,
    /// The client began anew.
    Reset,
}

/// The time of an update. 0 stands for never.
pub(super) fn time(update: &ProfileUpdate) -> i64 {
    update.at.as_millisecond().max(1)
}

/// Judges an update. `mate` is asked for the newest anonymous id of a client with a profile.
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
        bound,
        email,
        at,
        browser: browser(update, &devices),
        rank: update.rank,
        ground: StitchReason::Identified,
    };
    let anonymous = || devices.iter().copied().chain([email]).flatten().filter(|b| !b.is_known);
    let profile = |binding: IdentityBinding| UpdateOwner::Profile(binding.profile);
    if update.user.is_some() {
        case.rank = case.rank_of_user();
        let takeable = anonymous().filter(|b| case.may_take(b, false));
        let lowest = || takeable.map(|b| b.profile).min().map(UpdateOwner::Profile);
        let holder = bound.user.or(bound.previous).map(profile).or_else(lowest);
        return Ok(case.settle(holder.unwrap_or(UpdateOwner::New), at));
    }
    let reset = reset(update, &devices, at, mate)?;
    // Of equal claims the surest device's.
    let claimed = devices.iter().flatten().filter(|b| b.is_known || b.claimed > 0);
    let place =
        |b: &IdentityBinding| (if is_server { b.rank } else { SenderRank::Claimed }, b.claimed);
    let winner = claimed.copied().reduce(|best, b| if place(&b) > place(&best) { b } else { best });
    let winner = case.browser.filter(IdentityBinding::is_bound).or(winner);
    let is_other_users = reset.is_none() && winner.is_some_and(|winner| winner.is_known);
    if let Some(known) = email.filter(|email| email.is_known && !is_other_users) {
        if reset.is_some() {
            case.ground = StitchReason::Reset;
        }
        case.rank = case.rank_of(Some(known));
        return Ok(case.settle(profile(known), at));
    }
    case.email = email.filter(|_| is_server || !is_other_users);
    case.ground = if reset.is_some() { StitchReason::Reset } else { StitchReason::Device };
    Ok(match (reset, winner) {
        (Some(ClientReset::Now), _) => case.settle(UpdateOwner::New, at),
        (Some(ClientReset::Before), _) => settle_before(update),
        (None, Some(winner)) => {
            case.rank = case.rank_of(Some(winner));
            case.settle(profile(winner), winner.claimed)
        }
        (None, None) => {
            let first = anonymous().min_by_key(|b| (std::cmp::Reverse(b.person), b.profile));
            case.rank = case.rank_of(first);
            let holder = first.map(profile);
            let holder = holder.unwrap_or(if says_enough(update) {
                UpdateOwner::New
            } else {
                UpdateOwner::Nobody
            });
            case.settle(holder, 0)
        }
    })
}

/// To whom the browser of the event belongs.
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

/// An update and what is known about it.
struct StitchContext<'c> {
    update: &'c ProfileUpdate,
    bound: &'c UpdateBindings,
    /// To whom the address belongs, if the event is believed about it.
    email: Option<IdentityBinding>,
    at: i64,
    browser: Option<IdentityBinding>,
    /// The effective rank of the event.
    rank: SenderRank,
    ground: StitchReason,
}

impl StitchContext<'_> {
    /// Returns the effective rank of an event with a user id.
    fn rank_of_user(&self) -> SenderRank {
        let is_browsers = match (self.browser, self.bound.user) {
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
        // Which other devices are whose, a proven browser only claims.
        let all = self.bound.devices.iter().chain([&self.email]).flatten();
        let is_servers = |b: &IdentityBinding| is_holders(b) && b.rank == SenderRank::Server;
        if all.copied().any(|b| is_servers(&b)) { SenderRank::Server } else { proven }
    }

    /// Returns true if the event may take an identity from its profile.
    fn may_take(&self, b: &IdentityBinding, is_browser: bool) -> bool {
        if b.person == SenderRank::Claimed || self.rank == SenderRank::Server {
            return true;
        }
        let is_reset = self.ground == StitchReason::Reset;
        if is_browser {
            return is_reset || self.rank == SenderRank::Proven || b.rank == SenderRank::Claimed;
        }
        let is_bound = |own: IdentityBinding| own.is_bound() && own.profile == b.profile;
        (is_reset || self.rank == SenderRank::Proven) && self.browser.is_some_and(is_bound)
    }

    /// Returns true if the whole profile goes into the holder's.
    fn joins(&self, b: &IdentityBinding) -> bool {
        !b.is_known
            && self.may_take(b, false)
            && match self.ground {
                StitchReason::Identified => true,
                StitchReason::Device => b.claimed == 0,
                StitchReason::Reset => false,
            }
    }

    fn settle(&self, holder: UpdateOwner, claim: i64) -> StitchDecision {
        let (at, bound) = (self.at, self.bound);
        let is_holders =
            |binding: &IdentityBinding| holder == UpdateOwner::Profile(binding.profile);
        let mut absorbed = BTreeSet::new();
        // Whole profiles come in by a server's word, and anonymous ones.
        let whole = bound.previous.filter(|_| self.update.user.is_some());
        let whole = whole.into_iter().chain(self.email.filter(|b| self.joins(b)));
        absorbed.extend(whole.map(|b| b.profile));
        let rank = self.rank;
        let mut devices = Vec::with_capacity(bound.devices.len());
        for (binding, device) in bound.devices.iter().zip(&self.update.devices) {
            let is_browser = device.identity.kind == IdentityKind::Visitor;
            devices.push(match binding {
                None => Some(BindingUpdate { since: 0, claimed: claim, rank }),
                // Times that were only claimed bind nobody of a higher rank.
                Some(b) if b.since > at && rank <= b.rank => None,
                Some(b) if is_holders(b) || self.joins(b) || absorbed.contains(&b.profile) => {
                    absorbed.insert(b.profile);
                    Some(if rank > b.rank && claim > 0 {
                        BindingUpdate { since: b.since.min(at), claimed: claim, rank }
                    } else {
                        // Nor does a claim move on what was proven.
                        let claim = if rank < b.rank { 0 } else { claim };
                        let claimed = b.claimed.max(claim);
                        BindingUpdate { since: b.since, claimed, rank: b.rank.max(rank) }
                    })
                }
                Some(b)
                    if (claim >= b.claimed || rank > b.rank) && self.may_take(b, is_browser) =>
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

    /// The rank with which the address is linked. Nobody but a server proves one.
    fn email_rank(&self) -> SenderRank {
        email_rank(self.update, self.rank)
    }

    /// Returns true if the event reached the holder, or a profile that goes into the holder's, by an
    /// identity that anybody can write.
    fn is_shared(&self, holder: UpdateOwner, absorbed: &BTreeSet<ProfileId>) -> bool {
        if self.update.rank == SenderRank::Server && self.rank > SenderRank::Claimed {
            return false;
        }
        let is_browsers = |profile: ProfileId| self.browser.is_some_and(|b| b.profile == profile);
        let is_named = self.bound.user.or(self.bound.previous).is_some();
        let is_reached = match holder {
            UpdateOwner::Profile(holder) => !is_named && !is_browsers(holder),
            UpdateOwner::New | UpdateOwner::Nobody => false,
        };
        is_reached || absorbed.iter().any(|profile| !is_browsers(*profile))
    }

    fn is_vouched(&self, holder: UpdateOwner) -> bool {
        let is_named = self.update.user.is_some() && self.rank > SenderRank::Claimed;
        is_named && self.bound.user.is_none() && matches!(holder, UpdateOwner::Profile(_))
    }
}

/// The rank with which an address is linked by an event of this rank.
pub(super) fn email_rank(update: &ProfileUpdate, rank: SenderRank) -> SenderRank {
    if update.rank == SenderRank::Server { rank } else { SenderRank::Claimed }
}

/// An event of the visitor before a reset that arrives after it: the new id's alone, if anything.
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
    /// The client begins anew with this event.
    Now,
    /// It has begun anew since.
    Before,
}

/// Whether a client of the event has begun anew.
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
            let Some((value, seen)) = mate(*profile, client)? else { continue };
            let is_mate = |d: &DeviceIdentity| {
                d.identity.kind == IdentityKind::Anonymous && d.identity.value == value
            };
            // A client whose page names it twice has not begun anew.
            if is_recent(seen) && !update.devices.iter().any(is_mate) {
                return Ok(Some(if at >= seen { ClientReset::Now } else { ClientReset::Before }));
            }
        }
    }
    Ok(None)
}

/// Whether an event of nobody known is worth a profile: it counts, says something of the person, or which
/// identities are of one device.
fn says_enough(update: &ProfileUpdate) -> bool {
    let devices = update.devices.iter().map(|device| &device.identity);
    let mut values = devices.chain(&update.email).map(|identity| identity.value.as_str());
    let Some(first) = values.next() else { return false };
    update.activity.is_some() || !update.traits.is_empty() || values.any(|value| value != first)
}

impl BindingUpdate {
    /// Whether it says anything that is not written down already, of a device that was and is the
    /// same profile's.
    pub(super) fn is_news(&self, known: &IdentityBinding, at: i64) -> bool {
        self.claimed - known.claimed >= SEEN_EVERY_MS
            || at - known.seen >= SEEN_EVERY_MS
            || self.rank > known.rank
    }

    /// Since when what is written down of such a device stands.
    pub(super) fn noted(&self, known: &IdentityBinding, at: i64) -> i64 {
        // A claim that another device made does not move on with time.
        if self.claimed == at { known.claimed.min(known.seen) } else { known.seen }
    }
}

//! The keys and entries of the cache of profiles, and the memory that each costs.

use std::sync::Arc;

use moka::Equivalent;

use super::super::read_through::member_bytes;
use super::super::{Identity, ProfileId};
use crate::journal::SiteId;
use tagway_core::event::{ComputedAttributes, ProfileView};

/// The key of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ProfileCacheKey<N = Identity> {
    Name(SiteId, N),
    Profile(ProfileId),
    Computed(SiteId, ProfileId),
}

/// A key with a borrowed name, for lookups without an allocation. It hashes as the owned key.
pub(super) type ProfileCacheKeyRef<'n> = ProfileCacheKey<&'n Identity>;

impl ProfileCacheKey {
    /// Returns the name, if this is the key of one.
    pub(super) fn name(&self) -> Option<&Identity> {
        if let Self::Name(_, identity) = self { Some(identity) } else { None }
    }

    /// Returns the profile, if this is the key of its computed attributes.
    pub(super) fn computed(&self) -> Option<ProfileId> {
        if let Self::Computed(_, profile) = self { Some(*profile) } else { None }
    }
}

impl Equivalent<ProfileCacheKey> for ProfileCacheKeyRef<'_> {
    fn equivalent(&self, key: &ProfileCacheKey) -> bool {
        match (self, key) {
            (Self::Name(site, name), ProfileCacheKey::Name(of, known)) => {
                site == of && *name == known
            }
            (Self::Profile(asked), ProfileCacheKey::Profile(known)) => asked == known,
            (Self::Computed(site, asked), ProfileCacheKey::Computed(of, known)) => {
                site == of && asked == known
            }
            _ => false,
        }
    }
}

#[derive(Clone)]
pub(super) enum ProfileCacheEntry {
    /// The name belongs to no profile, which is worth caching as well.
    Unknown,
    Names(ProfileId),
    Known(Arc<ProfileView>),
    /// The attributes as of this event of the journal.
    Computed(u64, Arc<ComputedAttributes>),
}

impl ProfileCacheEntry {
    /// Returns the bytes of memory that the entry costs.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Unknown | Self::Names(_) => 0,
            Self::Computed(_, computed) => {
                let ComputedAttributes {
                    touches, device, place, consent, group_id, activity, ..
                } = &**computed;
                let objects = [touches, device, place, consent].into_iter().flatten();
                let group = group_id.as_ref().map_or(0, String::len);
                // A tally has 32 bytes.
                let activity = activity.keys().map(|name| 96 + name.len()).sum::<usize>();
                let objects = objects.map(|(key, value)| member_bytes(key, value));
                group + activity + objects.sum::<usize>()
            }
            Self::Known(view) => {
                let user = view.user_id.as_ref().map_or(0, String::len);
                let traits = view.traits.iter().map(|(key, value)| member_bytes(key, value));
                user + traits.sum::<usize>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use super::super::super::IdentityKind;
    use super::*;

    #[test]
    fn borrowed_key_hashes_as_its_owned_key() {
        let hash = BuildHasherDefault::<DefaultHasher>::default();
        let (site, profile) = (SiteId(3), ProfileId(7));
        let other: ProfileCacheKey = ProfileCacheKey::Profile(ProfileId(8));
        let name = Identity { kind: IdentityKind::Device("app"), value: "d".to_owned() };
        for (asked, key) in [
            (ProfileCacheKeyRef::Name(site, &name), ProfileCacheKey::Name(site, name.clone())),
            (ProfileCacheKeyRef::Profile(profile), ProfileCacheKey::Profile(profile)),
            (ProfileCacheKeyRef::Computed(site, profile), ProfileCacheKey::Computed(site, profile)),
        ] {
            assert_eq!(hash.hash_one(&asked), hash.hash_one(&key));
            assert!(asked.equivalent(&key));
            assert!(!asked.equivalent(&other));
        }
    }
}

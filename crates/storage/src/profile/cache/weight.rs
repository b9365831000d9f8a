//! The keys and entries of the cache, and the memory that each entry costs.

use std::sync::Arc;

use moka::Equivalent;

use super::super::{Identity, ProfileId};
use crate::journal::SiteId;
use tagway_core::event::{ComputedAttributes, ProfileView};

/// Bytes an entry costs besides its texts: the cache's own bookkeeping, the key, the allocations.
pub(in super::super) const ENTRY_BYTES: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ProfileCacheKey {
    Name(SiteId, Identity),
    Profile(ProfileId),
    Computed(ProfileId),
}

/// A borrowed key for lookups without an allocation. It hashes as the key does, since its variants and
/// their members are the same, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ProfileCacheKeyRef<'a> {
    Name(SiteId, &'a Identity),
    Profile(ProfileId),
    Computed(ProfileId),
}

impl Equivalent<ProfileCacheKey> for ProfileCacheKeyRef<'_> {
    fn equivalent(&self, key: &ProfileCacheKey) -> bool {
        match (self, key) {
            (Self::Name(site, name), ProfileCacheKey::Name(of, known)) => {
                site == of && *name == known
            }
            (Self::Profile(asked), ProfileCacheKey::Profile(known))
            | (Self::Computed(asked), ProfileCacheKey::Computed(known)) => asked == known,
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

pub(super) fn weight(key: &ProfileCacheKey, entry: &ProfileCacheEntry) -> u32 {
    let name = match key {
        ProfileCacheKey::Name(_, identity) => identity.value.len(),
        ProfileCacheKey::Profile(_) | ProfileCacheKey::Computed(_) => 0,
    };
    let known = match entry {
        ProfileCacheEntry::Unknown | ProfileCacheEntry::Names(_) => 0,
        ProfileCacheEntry::Computed(_, computed) => {
            let ComputedAttributes { touches, device, place, consent, group_id, activity, .. } =
                &**computed;
            let objects = [touches, device, place, consent].into_iter().flatten();
            let group = group_id.as_ref().map_or(0, String::len);
            // A tally has 32 bytes.
            let activity = activity.keys().map(|name| 96 + name.len()).sum::<usize>();
            group + activity + objects.map(|(key, value)| entry_bytes(key, value)).sum::<usize>()
        }
        ProfileCacheEntry::Known(view) => {
            let user = view.user_id.as_ref().map_or(0, String::len);
            user + view.traits.iter().map(|(key, value)| entry_bytes(key, value)).sum::<usize>()
        }
    };
    u32::try_from(ENTRY_BYTES + name + known).unwrap_or(u32::MAX)
}

/// Returns the size of a tree, roughly: 64 bytes of structure an entry, 24 a value, and the texts.
pub(in super::super) fn entry_bytes(key: &str, value: &serde_json::Value) -> usize {
    64 + key.len() + value_bytes(value)
}

fn value_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    24 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| entry_bytes(key, value)).sum(),
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
        let name = Identity { kind: IdentityKind::Device("app"), value: "d".to_owned() };
        for (asked, key) in [
            (ProfileCacheKeyRef::Name(site, &name), ProfileCacheKey::Name(site, name.clone())),
            (ProfileCacheKeyRef::Profile(profile), ProfileCacheKey::Profile(profile)),
            (ProfileCacheKeyRef::Computed(profile), ProfileCacheKey::Computed(profile)),
        ] {
            assert_eq!(hash.hash_one(asked), hash.hash_one(&key));
            assert!(asked.equivalent(&key));
            assert!(!asked.equivalent(&ProfileCacheKey::Profile(ProfileId(8))));
        }
    }
}

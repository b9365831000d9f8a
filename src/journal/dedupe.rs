//! Remembering message ids, so that an event sent twice is one event.
//!
//! Two sets of keys: the one that is filled, and the one before it. When the first is half the
//! allowance or a window old it takes the place of the second. So a key is remembered for at least
//! the window, unless more than half the allowance arrives within one, and memory is bounded.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The senders among whom a message id is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageScope<'a> {
    /// The site's servers.
    Servers,
    /// One browser, by the id in the gateway's cookie.
    Browser(&'a str),
    /// Senders without that cookie.
    Strangers,
}

/// What makes two events the same event: a digest of the site, the scope and the message id.
/// Cryptographic, so that no sender can choose an id that hides an event of another scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey(u128);

impl MessageKey {
    /// The key of a message id that one of the site's servers sent.
    pub fn new(site: &str, message_id: &str) -> Self {
        Self::in_scope(site, MessageScope::Servers, message_id)
    }

    /// The key of a site's message id in a scope.
    pub fn in_scope(site: &str, scope: MessageScope<'_>, message_id: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(site);
        // No site's name and no visitor's id holds these bytes, so no two triples run together.
        match scope {
            MessageScope::Servers => digest.update([0]),
            MessageScope::Strangers => digest.update([1]),
            MessageScope::Browser(visitor) => {
                digest.update([2]);
                digest.update(visitor);
                digest.update([0]);
            }
        }
        digest.update(message_id);
        let bytes: [u8; 32] = digest.finalize().into();
        let (half, _) = bytes.split_at(16);
        Self(half.iter().fold(0, |key, byte| (key << 8) | u128::from(*byte)))
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// The remembered keys.
pub(super) struct Window {
    current: HashSet<u128>,
    previous: HashSet<u128>,
    since: Timestamp,
    length: Duration,
    half: usize,
}

impl Window {
    /// Remembers keys for `length`, at most `entries` of them.
    pub(super) fn new(length: Duration, entries: usize, now: Timestamp) -> Self {
        // Room for all at once, so that no append waits for a growing table. The pages are not
        // touched, and so cost nothing, until they hold keys.
        let half = entries / 2;
        let current = HashSet::with_capacity(half);
        Self { current, previous: HashSet::new(), since: now, length, half }
    }

    /// Remembers the key. `false` if it was remembered already.
    pub(super) fn insert(&mut self, key: MessageKey, now: Timestamp) -> bool {
        if self.half == 0 {
            return true;
        }
        let age = now.duration_since(self.since);
        let length = signed(self.length);
        if self.current.len() >= self.half || age >= length {
            self.previous = std::mem::replace(&mut self.current, HashSet::with_capacity(self.half));
            self.since = now;
            if age >= length.saturating_mul(2) {
                // Nothing came for a whole window: what was current is as old as previous.
                self.previous = HashSet::new();
            }
        }
        !self.previous.contains(&key.0) && self.current.insert(key.0)
    }

    /// Forgets the key of an append that failed.
    pub(super) fn remove(&mut self, key: MessageKey) {
        if !self.current.remove(&key.0) {
            self.previous.remove(&key.0);
        }
    }
}

fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> MessageKey {
        MessageKey::new("shop", &n.to_string())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn keys_differ_by_site_and_by_id() {
        assert_ne!(MessageKey::new("a", "bc"), MessageKey::new("ab", "c"));
        assert_ne!(MessageKey::new("a", "1"), MessageKey::new("a", "2"));
        let scopes = [
            MessageScope::Servers,
            MessageScope::Strangers,
            MessageScope::Browser("v1"),
            MessageScope::Browser("v2"),
        ];
        let keys = scopes.map(|scope| MessageKey::in_scope("a", scope, "1"));
        let distinct: HashSet<u128> = keys.iter().map(|key| key.0).collect();
        assert_eq!(distinct.len(), scopes.len());
        let key = MessageKey::new("a", "1");
        assert_eq!(MessageKey::from_bytes(key.to_bytes()), key);
    }

    #[test]
    fn a_key_is_new_once_within_the_window() {
        let mut window = Window::new(Duration::from_secs(100), 1000, at(0));
        assert!(window.insert(key(1), at(0)));
        assert!(!window.insert(key(1), at(99)));
        assert!(window.insert(key(2), at(100)), "the sets have turned");
        assert!(!window.insert(key(1), at(199)), "remembered for at least the window");
        assert!(window.insert(key(3), at(200)), "the sets have turned again");
        assert!(window.insert(key(1), at(200)), "forgotten after two windows at most");
    }

    #[test]
    fn memory_is_bounded_by_the_allowance() {
        let mut window = Window::new(Duration::from_secs(100), 10, at(0));
        for n in 0..1000 {
            assert!(window.insert(key(n), at(1)));
            assert!(window.current.len() + window.previous.len() <= 10);
        }
        assert!(!window.insert(key(999), at(1)));
        assert!(window.insert(key(1), at(1)));
    }

    #[test]
    fn a_failed_append_is_forgotten_and_nothing_disables_it() {
        let mut window = Window::new(Duration::from_secs(100), 10, at(0));
        assert!(window.insert(key(1), at(0)));
        window.remove(key(1));
        assert!(window.insert(key(1), at(0)));
        let mut off = Window::new(Duration::from_secs(100), 0, at(0));
        assert!(off.insert(key(1), at(0)) && off.insert(key(1), at(0)));
    }
}

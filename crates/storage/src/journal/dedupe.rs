//! Deduplication by message id, so that an event sent twice is recorded once.
//!
//! Two sets of keys: the one being filled, and the one before it. When the first reaches half the
//! allowance or the age of a window it takes the place of the second. So a key is remembered for at
//! least the window, unless more than half the allowance arrives within one, and memory is bounded.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use tagway_core::event::SenderRank;

/// The senders among whom a message id is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageScope<'a> {
    /// The site's servers, all together.
    Servers,
    /// One browser, by the id in the gateway's cookie.
    Browser(&'a str),
    /// One sender without that cookie.
    Stranger {
        /// The text that tells this sender from others.
        name: &'a str,
        /// The id in the cookie that the response sets: the sender may retry with that cookie.
        cookie: Option<&'a str>,
    },
}

/// The identity of a message: a digest of the site, the scope and the message id. Cryptographic, so
/// that no sender can choose an id that hides an event of another scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageKey {
    own: u128,
    /// The key of the same id in the scope of the site's servers: a browser that repeats a server's
    /// message id sends a duplicate, but not the other way round. `None` for the servers themselves.
    servers: Option<u128>,
    /// The key of the same id in the scope of the cookie that the response sets.
    with_cookie: Option<u128>,
}

impl MessageKey {
    /// Returns the key of a message id that one of the site's servers sent.
    pub fn new(site: &str, message_id: &str) -> Self {
        Self::in_scope(site, MessageScope::Servers, message_id)
    }

    /// Returns the key of a site's message id in a scope.
    pub fn in_scope(site: &str, scope: MessageScope<'_>, message_id: &str) -> Self {
        // Neither a site's name nor a cookie's id contains these bytes, so no two inputs give the same text.
        let servers = digest(&[site.as_bytes(), &[0], message_id.as_bytes()]);
        let of_browser =
            |id: &str| digest(&[site.as_bytes(), &[2], id.as_bytes(), &[0], message_id.as_bytes()]);
        match scope {
            MessageScope::Servers => Self { own: servers, servers: None, with_cookie: None },
            MessageScope::Browser(id) => {
                Self { own: of_browser(id), servers: Some(servers), with_cookie: None }
            }
            MessageScope::Stranger { name, cookie } => {
                let name: [u8; 32] = Sha256::digest(name).into();
                Self {
                    own: digest(&[site.as_bytes(), &[1], &name, message_id.as_bytes()]),
                    servers: Some(servers),
                    with_cookie: cookie.map(of_browser),
                }
            }
        }
    }

    /// Returns the part of the key that is stored.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.own.to_be_bytes()
    }
}

fn digest(parts: &[&[u8]]) -> u128 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    let bytes: [u8; 32] = digest.finalize().into();
    let (half, _) = bytes.split_at(16);
    half.iter().fold(0, |key, byte| (key << 8) | u128::from(*byte))
}

/// The remembered keys of servers, and those of all others: neither set evicts keys of the other.
pub(super) struct DedupeWindows {
    servers: DedupeWindow,
    others: DedupeWindow,
}

impl DedupeWindows {
    /// Creates windows of `length` that remember at most `entries` of servers and as many of others.
    pub(super) fn new(length: Duration, entries: usize, now: Timestamp) -> Self {
        let window = || DedupeWindow::new(length, entries, now);
        Self { servers: window(), others: window() }
    }

    /// Remembers the key. Returns false if it was remembered already.
    pub(super) fn insert(&mut self, key: MessageKey, now: Timestamp) -> bool {
        let Some(servers) = key.servers else { return self.servers.insert(key.own, now) };
        if let Some(with_cookie) = key.with_cookie {
            self.others.insert(with_cookie, now);
        }
        !self.servers.contains(servers) && self.others.insert(key.own, now)
    }

    /// Remembers a stored key. Called at the start.
    pub(super) fn restore(&mut self, stored: [u8; 16], rank: SenderRank, now: Timestamp) {
        let window = match rank {
            SenderRank::Server => &mut self.servers,
            SenderRank::Proven | SenderRank::Claimed => &mut self.others,
        };
        window.insert(u128::from_be_bytes(stored), now);
    }

    /// Removes the key of an append that failed.
    pub(super) fn remove(&mut self, key: MessageKey) {
        let window = if key.servers.is_none() { &mut self.servers } else { &mut self.others };
        window.remove(key.own);
        if let Some(with_cookie) = key.with_cookie {
            self.others.remove(with_cookie);
        }
    }
}

/// The remembered keys of one window and the one before it.
struct DedupeWindow {
    current: HashSet<u128>,
    previous: HashSet<u128>,
    since: Timestamp,
    length: Duration,
    half: usize,
}

impl DedupeWindow {
    /// Creates a window of `length` that remembers at most `entries` keys.
    fn new(length: Duration, entries: usize, now: Timestamp) -> Self {
        // Capacity for all at once, so that no append waits for a growing table. The pages are not
        // touched, and so cost nothing, until they contain keys.
        let half = entries / 2;
        let current = HashSet::with_capacity(half);
        Self { current, previous: HashSet::new(), since: now, length, half }
    }

    /// Remembers the key. Returns false if it was remembered already.
    fn insert(&mut self, key: u128, now: Timestamp) -> bool {
        if self.half == 0 {
            return true;
        }
        let age = now.duration_since(self.since);
        let length = signed(self.length);
        if self.current.len() >= self.half || age >= length {
            self.previous = std::mem::replace(&mut self.current, HashSet::with_capacity(self.half));
            self.since = now;
            if age >= length.saturating_mul(2) {
                // No key came for a whole window: the current set is as old as the previous one.
                self.previous = HashSet::new();
            }
        }
        !self.previous.contains(&key) && self.current.insert(key)
    }

    /// Returns true if the key is remembered.
    fn contains(&self, key: u128) -> bool {
        self.current.contains(&key) || self.previous.contains(&key)
    }

    /// Removes the key of an append that failed.
    fn remove(&mut self, key: u128) {
        if !self.current.remove(&key) {
            self.previous.remove(&key);
        }
    }
}

fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> u128 {
        n.into()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn keys_differ_by_site_and_by_id() {
        assert_ne!(MessageKey::new("a", "bc"), MessageKey::new("ab", "c"));
        assert_ne!(MessageKey::new("a", "1"), MessageKey::new("a", "2"));
        let stranger = |name| MessageScope::Stranger { name, cookie: None };
        let scopes = [
            MessageScope::Servers,
            stranger("v1"),
            stranger("v2"),
            MessageScope::Browser("v1"),
            MessageScope::Browser("v2"),
        ];
        let keys = scopes.map(|scope| MessageKey::in_scope("a", scope, "1"));
        let distinct: HashSet<u128> = keys.iter().map(|key| key.own).collect();
        assert_eq!(distinct.len(), scopes.len());
    }

    /// Returns for each message whether it is new, in their order.
    fn are_new<const N: usize>(messages: [(MessageScope<'_>, &str); N]) -> [bool; N] {
        let mut windows = DedupeWindows::new(Duration::from_secs(100), 1000, at(0));
        messages.map(|(scope, id)| windows.insert(MessageKey::in_scope("shop", scope, id), at(0)))
    }

    const SERVERS: MessageScope<'_> = MessageScope::Servers;
    const BROWSER: MessageScope<'_> = MessageScope::Browser("v1");
    const STRANGER: MessageScope<'_> = MessageScope::Stranger { name: "s", cookie: None };
    /// The first request of the browser, without its cookie.
    const FIRST: MessageScope<'_> = MessageScope::Stranger { name: "s", cookie: Some("v1") };

    #[test]
    fn stranger_message_id_blocks_no_server_and_no_browser() {
        let all = [(STRANGER, "1"), (BROWSER, "1"), (SERVERS, "1")];
        assert_eq!(are_new(all), [true; 3]);
        let other = MessageScope::Stranger { name: "t", cookie: Some("v2") };
        let all = [(FIRST, "1"), (other, "1"), (MessageScope::Browser("v3"), "1")];
        assert_eq!(are_new(all), [true; 3]);
    }

    #[test]
    fn browser_message_after_a_servers_is_duplicate_but_not_the_reverse() {
        let all = [(SERVERS, "1"), (BROWSER, "1"), (STRANGER, "1"), (SERVERS, "1")];
        assert_eq!(are_new(all), [true, false, false, false]);
    }

    #[test]
    fn browser_retry_with_its_new_cookie_is_duplicate() {
        assert_eq!(are_new([(FIRST, "1"), (BROWSER, "1")]), [true, false]);
        // Two responses were lost; the second set another cookie.
        let again = MessageScope::Stranger { name: "s", cookie: Some("v2") };
        let with_it = MessageScope::Browser("v2");
        assert_eq!(are_new([(FIRST, "1"), (again, "1"), (with_it, "1")]), [true, false, false]);
    }

    #[test]
    fn stranger_keys_evict_no_server_keys() {
        let mut windows = DedupeWindows::new(Duration::from_secs(100), 10, at(0));
        let server = MessageKey::new("shop", "order-1");
        assert!(windows.insert(server, at(0)));
        for n in 0..100 {
            let scope = MessageScope::Stranger { name: "s", cookie: None };
            assert!(windows.insert(MessageKey::in_scope("shop", scope, &n.to_string()), at(1)));
        }
        assert!(!windows.insert(server, at(2)));
    }

    #[test]
    fn failed_append_removes_all_its_keys() {
        let mut windows = DedupeWindows::new(Duration::from_secs(100), 10, at(0));
        for scope in [SERVERS, BROWSER, FIRST] {
            let key = MessageKey::in_scope("shop", scope, "1");
            assert!(windows.insert(key, at(0)), "{scope:?}");
            windows.remove(key);
        }
        assert!(windows.servers.current.is_empty() && windows.others.current.is_empty());
    }

    #[test]
    fn a_key_is_new_once_within_the_window() {
        let mut window = DedupeWindow::new(Duration::from_secs(100), 1000, at(0));
        assert!(window.insert(key(1), at(0)));
        assert!(!window.insert(key(1), at(99)));
        assert!(window.insert(key(2), at(100)), "the sets have turned");
        assert!(!window.insert(key(1), at(199)), "remembered for at least the window");
        assert!(window.insert(key(3), at(200)), "the sets have turned again");
        assert!(window.insert(key(1), at(200)), "forgotten after two windows at most");
    }

    #[test]
    fn memory_is_bounded_by_the_allowance() {
        let mut window = DedupeWindow::new(Duration::from_secs(100), 10, at(0));
        for n in 0..1000 {
            assert!(window.insert(key(n), at(1)));
            assert!(window.current.len() + window.previous.len() <= 10);
        }
        assert!(!window.insert(key(999), at(1)));
        assert!(window.insert(key(1), at(1)));
    }

    #[test]
    fn failed_append_key_is_removed_and_zero_entries_disable_the_window() {
        let mut window = DedupeWindow::new(Duration::from_secs(100), 10, at(0));
        assert!(window.insert(key(1), at(0)));
        window.remove(key(1));
        assert!(window.insert(key(1), at(0)));
        let mut off = DedupeWindow::new(Duration::from_secs(100), 0, at(0));
        assert!(off.insert(key(1), at(0)) && off.insert(key(1), at(0)));
    }
}

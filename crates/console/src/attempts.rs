//! Limits of login attempts, for each account and each network.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// The failed attempts in one period. A person mistypes two or three times.
const ATTEMPTS: u32 = 5;

/// The time after which attempts are counted from zero.
const PERIOD: SignedDuration = SignedDuration::from_mins(1);

/// The most accounts and networks that are counted at once. Beyond, every attempt is refused until a period ends:
/// so many names or networks a minute are an attack.
const COUNTED: usize = 10_000;

/// The prefix of an IPv6 network in bits: a subscriber has at least this one.
const IPV6_BITS: u32 = 64;

/// The counts of attempts.
#[derive(Debug, Default)]
pub(super) struct LoginAttempts(Mutex<HashMap<AttemptKey, AttemptCount>>);

/// A name, known or not, or a network. Names are hashed: people type passwords into the field of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum AttemptKey {
    Name([u8; 32]),
    Network(IpAddr),
}

#[derive(Debug)]
struct AttemptCount {
    since: Timestamp,
    count: u32,
}

impl LoginAttempts {
    /// Counts an attempt, of a name or of a link. Returns false if the name or the network has used up its attempts.
    pub(super) fn begin(&self, name: Option<&str>, address: IpAddr, now: Timestamp) -> bool {
        let mut counts = self.0.lock();
        let is_over = |count: &AttemptCount| now.duration_since(count.since).abs() >= PERIOD;
        let keys = keys(name, address);
        // Before anything is counted: a network without attempts left must not use up the room of others.
        let is_used_up = |key: &AttemptKey| {
            counts.get(key).is_some_and(|it| !is_over(it) && it.count >= ATTEMPTS)
        };
        if keys.iter().any(is_used_up) {
            return false;
        }
        let missing = keys.iter().filter(|key| !counts.contains_key(key)).count();
        if counts.len() + missing > COUNTED {
            counts.retain(|_, count| !is_over(count));
            if counts.len() + missing > COUNTED {
                return false;
            }
        }
        for key in &keys {
            let count = counts.entry(key.clone()).or_insert(AttemptCount { since: now, count: 0 });
            if is_over(count) {
                *count = AttemptCount { since: now, count: 0 };
            }
        }
        let count_of = |key| counts.get(key).map_or(0, |count| count.count);
        if keys.iter().any(|key| count_of(key) >= ATTEMPTS) {
            return false;
        }
        for key in &keys {
            if let Some(count) = counts.get_mut(key) {
                count.count += 1;
            }
        }
        true
    }

    /// Takes back an attempt that succeeded.
    pub(super) fn succeed(&self, name: Option<&str>, address: IpAddr) {
        let mut counts = self.0.lock();
        for key in keys(name, address) {
            if let Some(count) = counts.get_mut(&key) {
                count.count = count.count.saturating_sub(1);
            }
        }
    }
}

fn keys(name: Option<&str>, address: IpAddr) -> Vec<AttemptKey> {
    let name = name.map(|name| Sha256::digest(name.trim().to_lowercase()).into());
    let network = AttemptKey::Network(network(address));
    name.map(AttemptKey::Name).into_iter().chain([network]).collect()
}

/// The network of an address: the address of IPv4, the first 64 bits of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_BITS);
            IpAddr::V6((address.to_bits() & mask).into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn network_without_attempts_uses_up_no_room_of_others() {
        let (attempts, now) = (LoginAttempts::default(), Timestamp::UNIX_EPOCH);
        for number in 0..2 * COUNTED {
            attempts.begin(Some(&number.to_string()), address("192.0.2.1"), now);
        }
        assert!(attempts.0.lock().len() <= 6);
        assert!(attempts.begin(Some("ana"), address("192.0.2.2"), now));
    }

    #[test]
    fn attempts_are_limited_by_name_and_by_network() {
        let (attempts, now) = (LoginAttempts::default(), Timestamp::UNIX_EPOCH);
        for network in 1..=5 {
            let from = address(&format!("192.0.2.{network}"));
            assert!(attempts.begin(Some("Ana"), from, now));
        }
        assert!(!attempts.begin(Some("ana "), address("192.0.2.6"), now), "the name is used up");
        for name in ["b", "c", "d", "e", "f"] {
            assert!(attempts.begin(Some(name), address("2001:db8::1"), now));
        }
        assert!(
            !attempts.begin(Some("g"), address("2001:db8::ffff"), now),
            "the network is used up"
        );
        assert!(attempts.begin(Some("g"), address("2001:db8:0:1::1"), now));
        assert!(!attempts.begin(None, address("2001:db8::1"), now));
        for network in 1..=9 {
            let from = address(&format!("198.51.100.{network}"));
            assert!(attempts.begin(None, from, now), "links have no name in common");
        }
        let later = now + PERIOD;
        assert!(attempts.begin(Some("ana"), address("2001:db8::1"), later));
    }

    #[test]
    fn successful_attempts_do_not_count() {
        let (attempts, now) = (LoginAttempts::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..20 {
            assert!(attempts.begin(Some("ana"), address("192.0.2.1"), now));
            attempts.succeed(Some("ana"), address("192.0.2.1"));
        }
    }

    #[test]
    fn number_of_counted_names_is_bounded() {
        let (attempts, now) = (LoginAttempts::default(), Timestamp::UNIX_EPOCH);
        let from = |n: usize| IpAddr::V4(u32::try_from(n).unwrap().into());
        let accepted = (0..COUNTED).filter(|n| attempts.begin(Some(&n.to_string()), from(*n), now));
        assert_eq!(accepted.count(), COUNTED / 2);
        assert_eq!(attempts.0.lock().len(), COUNTED);
        assert!(attempts.begin(Some("new"), from(0), now + PERIOD), "old counts make room");
    }
}

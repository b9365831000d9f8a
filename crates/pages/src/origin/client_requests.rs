//! The active requests of each client at an origin.
//!
//! A client that sends or reads slowly occupies a connection to the origin, or a stream of one, for as long as it
//! wants. The limit leaves the rest to other clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// The active requests of all clients, and the limit per client.
pub(super) struct ClientRequestSlots {
    /// The limit per client; 0 is unlimited.
    max_per_client: usize,
    by_client: Mutex<HashMap<ProxiedClientPrefix, usize>>,
}

/// /32 of IPv4; /64 of IPv6, which is what one household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ProxiedClientPrefix {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// One request's slot; released when dropped.
pub(super) struct ClientRequestSlot {
    requests: Arc<ClientRequestSlots>,
    client: ProxiedClientPrefix,
}

impl ClientRequestSlots {
    /// Creates the counters, with no requests.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { max_per_client: most, by_client: Mutex::default() })
    }

    /// Takes a slot for a request of this client. `None` if it has as many as it may.
    pub(super) fn acquire_slot(self: &Arc<Self>, address: IpAddr) -> Option<ClientRequestSlot> {
        let client = ProxiedClientPrefix::of(address);
        let mut by_client = self.lock();
        let count = by_client.entry(client).or_default();
        if self.max_per_client > 0 && *count >= self.max_per_client {
            return None;
        }
        *count += 1;
        Some(ClientRequestSlot { requests: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProxiedClientPrefix, usize>> {
        self.by_client.lock()
    }
}

impl ProxiedClientPrefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl Drop for ClientRequestSlot {
    fn drop(&mut self) {
        let mut by_client = self.requests.lock();
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_requests_are_refused_beyond_the_bound_and_only_that_clients() {
        let requests = ClientRequestSlots::new(2);
        let enter = |address: &str| requests.acquire_slot(address.parse().unwrap());
        let (one, two) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(one.is_some() && two.is_some() && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some() && enter("192.0.2.1").is_some());
        assert!(enter("::ffff:192.0.2.1").is_some());
        drop(one);
        assert!(enter("2001:db8::3").is_some());
        drop(two);
        assert!(requests.lock().is_empty(), "clients without requests are forgotten");
    }
}

//! The counts of connections and requests, and their limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::settings::EdgeLimits;
use tagway_core::metrics::{Metrics, ReasonLabels};

/// The connections and requests of all clients.
pub(super) struct EdgeSlots {
    metrics: Arc<Metrics>,
    connections: AtomicUsize,
    by_client: Mutex<HashMap<ClientPrefix, usize>>,
    requests: AtomicUsize,
}

/// /32 of IPv4; /64 of IPv6, which is what one household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ClientPrefix {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl ClientPrefix {
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

/// One connection's slot; released when dropped.
pub(super) struct ConnectionSlot {
    slots: Arc<EdgeSlots>,
    client: Option<ClientPrefix>,
}

/// One request's slot; released when dropped.
pub(super) struct RequestSlot(Arc<EdgeSlots>);

impl EdgeSlots {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            connections: AtomicUsize::new(0),
            by_client: Mutex::default(),
            requests: AtomicUsize::new(0),
        })
    }

    /// Takes a slot for a connection, if one is free.
    pub(super) fn connection(self: &Arc<Self>, limits: &EdgeLimits) -> Option<ConnectionSlot> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.inc();
        let slot = ConnectionSlot { slots: self.clone(), client: None };
        (before < limits.connections).then_some(slot)
    }

    /// Counts a connection that is served.
    pub(super) fn accept(&self) {
        self.metrics.connections_accepted.inc();
    }

    /// Takes a slot for a request, if one is free.
    pub(super) fn request(self: &Arc<Self>, limits: &EdgeLimits) -> Option<RequestSlot> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        self.metrics.requests_in_flight.inc();
        let slot = RequestSlot(self.clone());
        (before < limits.requests_in_flight).then_some(slot)
    }

    /// Counts a connection that is refused or cut, by its reason.
    pub(super) fn refuse(&self, reason: &'static str) {
        self.metrics.connections_refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl ConnectionSlot {
    /// Counts the connection as this client's, and no longer as another's. Returns false if the client has as many
    /// as it may.
    pub(super) fn assign_client(&mut self, client: IpAddr, limits: &EdgeLimits) -> bool {
        self.release_client();
        let client = ClientPrefix::of(client);
        let mut by_client = self.slots.by_client.lock();
        let held = by_client.entry(client).or_insert(0);
        if *held >= limits.connections_per_client {
            return false;
        }
        *held += 1;
        self.client = Some(client);
        true
    }

    fn release_client(&mut self) {
        let Some(client) = self.client.take() else { return };
        let mut by_client = self.slots.by_client.lock();
        if let Some(held) = by_client.get_mut(&client) {
            *held -= 1;
            if *held == 0 {
                by_client.remove(&client);
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.connections.fetch_sub(1, Ordering::Relaxed);
        self.slots.metrics.connections.dec();
        self.release_client();
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.requests_in_flight.dec();
    }
}

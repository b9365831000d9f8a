//! Memory and threads for the bodies that are not small. Limits of one body do not bound many at once: a few
//! kilobytes each can require megabytes.
//!
//! Small bodies are decoded at once, on the thread where they arrived: as many at a time as there are threads. They
//! take no share, so that others' decompression bombs never delay them. All others take a share for the memory that
//! they may need, not for their text, and are decoded on a few threads; both are shared fairly between clients.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::time::Instant;

use super::fair::{FairShareGrant, FairSharePool};
use super::rejection::RequestRejection;
use super::settings::GatewayLimits;
use tagway_storage::journal::SiteId;
use tagway_vendors::beacon::BeaconLimits;

/// The longest decompressed body that counts as small.
pub(super) const SMALL_BODY_BYTES: usize = 64 * 1024;

/// The most events of a small body: more take longer than a millisecond.
pub(super) const SMALL_BODY_EVENTS: usize = 100;

/// The most bytes of all messages made of a small body.
const SMALL_BODY_MESSAGE_BYTES: usize = 4 * SMALL_BODY_BYTES;

/// The memory of a request per byte of its body, decompressed: the body as sent, its text, the messages made of it
/// and the records made of those.
const MEMORY_FACTOR: usize = 8;

/// The additional memory per event: the request's observations go into every record.
const EVENT_BYTES: usize = 3 * 1024;

/// The part of `limits.arriving_bytes` that one client may take: one in this number.
const ARRIVING_PARTS: usize = 4;

/// The client or the servers that a share is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BudgetOwner {
    site: SiteId,
    /// The client's address; `None` for the site's servers that send their token in the head.
    client: Option<IpAddr>,
}

/// The free parts of `limits.inflating_bytes`, `limits.arriving_bytes` and `limits.decoders`.
pub(super) struct BodyBudget {
    bytes: Arc<FairSharePool>,
    arriving: Arc<FairSharePool>,
    threads: Arc<FairSharePool>,
}

/// The budget on which one body counts.
#[derive(Clone, Copy)]
pub(super) struct BudgetAccount<'b> {
    pub(super) budget: &'b BodyBudget,
    pub(super) owner: BudgetOwner,
}

/// One body's share of it; released when dropped.
pub(super) struct BudgetShare {
    bytes: FairShareGrant,
    threads: Arc<FairSharePool>,
    owner: BudgetOwner,
    /// The time until which its work may wait for a thread.
    deadline: Instant,
}

impl BudgetOwner {
    /// Returns the owner for a client: /32 of IPv4; /64 of IPv6, which is what one household has.
    pub(super) fn client(site: SiteId, client: IpAddr) -> Self {
        let client = match client.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        Self { site, client: Some(client) }
    }

    /// Returns true if the owner is a site's servers.
    pub(super) const fn is_servers(self) -> bool {
        self.client.is_none()
    }

    /// Returns the owner for a site's servers.
    pub(super) const fn servers(site: SiteId) -> Self {
        Self { site, client: None }
    }
}

impl BodyBudget {
    pub(super) fn new(limits: &GatewayLimits) -> Self {
        let threads = available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if limits.decoders == 0 { threads } else { limits.decoders };
        Self {
            bytes: FairSharePool::new(limits.inflating_bytes, limits.inflating_client_bytes),
            arriving: FairSharePool::new(
                limits.arriving_bytes,
                limits.arriving_bytes / ARRIVING_PARTS,
            ),
            threads: FairSharePool::new(threads, threads.div_ceil(2)),
        }
    }

    /// Takes a grant for a body that is arriving. It never waits: slow senders would occupy the queue.
    pub(super) fn arrive(
        &self,
        payer: BudgetOwner,
        bytes: usize,
    ) -> Result<FairShareGrant, RequestRejection> {
        self.arriving.try_take(payer, bytes).ok_or(RequestRejection::Overloaded)
    }

    /// Takes a share for a body of this length, and waits for it until the deadline.
    pub(super) async fn take(
        &self,
        payer: BudgetOwner,
        body_bytes: usize,
        limits: &GatewayLimits,
    ) -> Result<BudgetShare, RequestRejection> {
        let deadline = Instant::now() + limits.body_time;
        let bytes = self.bytes.take(payer, memory(body_bytes, limits), deadline).await?;
        Ok(BudgetShare { bytes, threads: self.threads.clone(), owner: payer, deadline })
    }
}

/// Returns the most memory that a request with a body of this length takes.
fn memory(body_bytes: usize, limits: &GatewayLimits) -> usize {
    let events = limits.events_within(body_bytes);
    body_bytes
        .saturating_mul(MEMORY_FACTOR)
        .saturating_add(events.saturating_mul(EVENT_BYTES))
        .saturating_add(limits.made_bytes)
}

/// The bytes of a record besides its message: the request's observations.
const OBSERVED_BYTES: usize = 2 * 1024;

impl GatewayLimits {
    /// Returns the limits of a request's body.
    pub(super) fn body_limits(&self) -> BeaconLimits {
        BeaconLimits {
            unpacked_bytes: self.inflated_bytes,
            messages_bytes: self.inflated_bytes,
            events: self.batch_events,
            least_event_bytes: self.least_event_bytes,
            event_bytes: self.event_bytes,
            made_bytes: self.made_bytes,
            json_depth: self.json_depth,
        }
    }

    /// Returns the limits of a body that is decoded at once.
    pub(super) fn small_body_limits(&self) -> BeaconLimits {
        let limits = self.body_limits();
        BeaconLimits {
            events: limits.events.min(SMALL_BODY_EVENTS),
            messages_bytes: limits.messages_bytes.min(SMALL_BODY_MESSAGE_BYTES),
            ..limits
        }
    }

    /// Returns the most messages that a body of this length may have.
    pub(super) fn events_within(&self, body_bytes: usize) -> usize {
        self.body_limits().events_within(body_bytes)
    }

    /// Returns the most bytes of the records made of this many bytes.
    pub(super) fn records_of(&self, came: usize, records: usize) -> usize {
        let observed = records.saturating_mul(OBSERVED_BYTES);
        self.body_limits().made_of(came).saturating_add(observed).min(self.inflated_bytes)
    }

    /// Returns the most memory that a request with the longest body takes.
    pub(super) fn largest_share(&self) -> usize {
        memory(self.inflated_bytes.max(self.body_bytes), self)
    }
}

impl BudgetShare {
    /// Releases what a body of this length does not need.
    pub(super) fn shrink(&mut self, body_bytes: usize, limits: &GatewayLimits) {
        self.bytes.shrink(memory(body_bytes, limits));
    }

    /// Runs work on a blocking thread, where its CPU time delays no other request, when it is this client's turn.
    /// The work continues when its client goes away, and keeps its share until it is done.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(Self) -> Result<T, RequestRejection> + Send + 'static,
    ) -> Result<T, RequestRejection> {
        let thread = self.threads.take(self.owner, 1, self.deadline).await?;
        let job = move || {
            let result = work(self);
            drop(thread);
            result
        };
        tokio::task::spawn_blocking(job).await.unwrap_or(Err(RequestRejection::Closing))
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::gateway::tests::limits;

    #[test]
    fn budget_owners_are_addresses_and_ipv6_networks() {
        let payer = |address: &str| BudgetOwner::client(SiteId(1), address.parse().unwrap());
        assert_eq!(payer("2001:db8::1"), payer("2001:db8::ffff"));
        assert_ne!(payer("2001:db8::1"), payer("2001:db8:0:1::1"));
        assert_eq!(payer("::ffff:192.0.2.1"), payer("192.0.2.1"));
        assert_ne!(payer("192.0.2.1"), payer("192.0.2.2"));
        assert_ne!(payer("192.0.2.1"), BudgetOwner::servers(SiteId(1)));
    }

    #[test]
    fn share_counts_the_memory_that_a_body_may_need() {
        let limits = limits();
        assert_eq!(memory(0, &limits), 10 * 3072 + limits.made_bytes);
        assert_eq!(memory(30, &limits), 30 * 8 + 10 * 3072 + limits.made_bytes);
        let more = memory(1000, &limits) - memory(100, &limits);
        assert_eq!(more, 900 * 8, "the batch has no more events");
    }

    #[tokio::test]
    async fn work_of_one_client_leaves_threads_to_others() {
        let limits = GatewayLimits { decoders: 2, ..limits() };
        let budget = BodyBudget::new(&limits);
        let first = BudgetOwner::client(SiteId(1), [192, 0, 2, 1].into());
        let other = BudgetOwner::client(SiteId(1), [192, 0, 2, 2].into());
        let (release, blocked) = std::sync::mpsc::sync_channel::<()>(1);
        let share = budget.take(first, 1, &limits).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(share.run(move |_share| Ok(blocked.recv().is_ok())));
        let share = budget.take(first, 1, &limits).await.unwrap();
        tasks.spawn(share.run(|_share| Ok(true)));
        let share = budget.take(other, 1, &limits).await.unwrap();
        share.run(|_share| Ok(())).await.unwrap();
        assert!(tasks.try_join_next().is_none(), "its client has a thread already");
        release.send(()).unwrap();
        assert!(tasks.join_all().await.into_iter().all(|done| done.unwrap()));
    }
}

//! A pool of units that clients share fairly. No client takes more than its part, and waiting clients are served in
//! turns, one grant each: a client with a thousand requests at once delays others by one grant.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::budget::BudgetOwner;
use super::rejection::RequestRejection;

/// A pool of units: bytes, or threads.
pub(super) struct FairSharePool {
    total: usize,
    /// The most units of one client. A client without units may have one grant of any size.
    max_per_owner: usize,
    state: Mutex<FairShareState>,
}

#[derive(Default)]
struct FairShareState {
    left: usize,
    units_by_owner: HashMap<BudgetOwner, usize>,
    waiting: HashMap<BudgetOwner, VecDeque<FairShareWaiter>>,
    /// The waiting clients; the first is served first, unless it has its full part.
    queue: VecDeque<BudgetOwner>,
}

struct FairShareWaiter {
    units: usize,
    sender: oneshot::Sender<FairShareGrant>,
}

/// Units of one client; released when dropped.
pub(super) struct FairShareGrant {
    pool: Arc<FairSharePool>,
    owner: BudgetOwner,
    units: usize,
}

impl FairSharePool {
    pub(super) fn new(total: usize, of_one: usize) -> Arc<Self> {
        let state = Mutex::new(FairShareState { left: total, ..FairShareState::default() });
        Arc::new(Self { total, max_per_owner: of_one, state })
    }

    /// Takes this many units, capped at the pool's total, and waits for them until the deadline. Cancel safe.
    pub(super) async fn take(
        self: &Arc<Self>,
        payer: BudgetOwner,
        units: usize,
        deadline: Instant,
    ) -> Result<FairShareGrant, RequestRejection> {
        let units = units.clamp(1, self.total.max(1));
        let (sender, receiver) = oneshot::channel();
        let waiting = FairShareWaiter { units, sender };
        self.change(|state| {
            let queue = state.waiting.entry(payer).or_default();
            if queue.is_empty() {
                state.queue.push_back(payer);
            }
            queue.push_back(waiting);
        });
        match timeout_at(deadline, receiver).await {
            Ok(Ok(grant)) => Ok(grant),
            Ok(Err(_gone)) => Err(RequestRejection::Closing),
            Err(_late) => Err(RequestRejection::Overloaded),
        }
    }

    /// Takes this many units if they are free, without waiting.
    pub(super) fn try_take(
        self: &Arc<Self>,
        payer: BudgetOwner,
        units: usize,
    ) -> Option<FairShareGrant> {
        let mut state = self.state.lock();
        let held = state.units_by_owner.get(&payer).copied().unwrap_or_default();
        if units > state.left || held > 0 && held.saturating_add(units) > self.max_per_owner {
            return None;
        }
        state.left -= units;
        state.units_by_owner.insert(payer, held.saturating_add(units));
        Some(FairShareGrant { pool: self.clone(), owner: payer, units })
    }

    /// Changes the state, and serves the clients that can then be served.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut FairShareState)) {
        let granted = {
            let mut state = self.state.lock();
            change(&mut state);
            state.serve(self.max_per_owner)
        };
        // Outside of the lock: a grant whose waiter is gone releases itself.
        for (payer, FairShareWaiter { units, sender }) in granted {
            drop(sender.send(FairShareGrant { pool: self.clone(), owner: payer, units }));
        }
    }
}

impl FairShareState {
    fn serve(&mut self, of_one: usize) -> Vec<(BudgetOwner, FairShareWaiter)> {
        let mut granted = Vec::new();
        let mut place = 0;
        while let Some(&payer) = self.queue.get(place) {
            let Some(queue) = self.waiting.get_mut(&payer) else {
                self.queue.remove(place);
                continue;
            };
            while queue.front().is_some_and(|waiting| waiting.sender.is_closed()) {
                queue.pop_front();
            }
            let Some(units) = queue.front().map(|waiting| waiting.units) else {
                self.waiting.remove(&payer);
                self.queue.remove(place);
                continue;
            };
            let held = self.units_by_owner.get(&payer).copied().unwrap_or_default();
            if held > 0 && held.saturating_add(units) > of_one {
                place += 1;
                continue;
            }
            // No overtaking: many small grants would keep a large one waiting for ever.
            if units > self.left {
                break;
            }
            self.left -= units;
            self.units_by_owner.insert(payer, held.saturating_add(units));
            granted.extend(queue.pop_front().map(|waiting| (payer, waiting)));
            self.queue.remove(place);
            if queue.is_empty() {
                self.waiting.remove(&payer);
            } else {
                self.queue.push_back(payer);
            }
            place = 0;
        }
        granted
    }

    fn give_back(&mut self, payer: BudgetOwner, units: usize) {
        self.left = self.left.saturating_add(units);
        if let Some(held) = self.units_by_owner.get_mut(&payer) {
            *held = held.saturating_sub(units);
            if *held == 0 {
                self.units_by_owner.remove(&payer);
            }
        }
    }
}

impl FairShareGrant {
    /// Releases the units above this number.
    pub(super) fn shrink(&mut self, units: usize) {
        let above = self.units.saturating_sub(units);
        if above > 0 {
            self.units -= above;
            self.pool.change(|state| state.give_back(self.owner, above));
        }
    }
}

impl Drop for FairShareGrant {
    fn drop(&mut self) {
        self.pool.change(|state| state.give_back(self.owner, self.units));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use tagway_storage::journal::SiteId;

    fn client(number: u8) -> BudgetOwner {
        BudgetOwner::client(SiteId(1), [192, 0, 2, number].into())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn units_are_released() {
        let pool = FairSharePool::new(100, 100);
        let mut first = pool.take(client(1), 500, soon()).await.unwrap();
        let refused = pool.take(client(2), 1, soon()).await;
        assert!(matches!(refused, Err(RequestRejection::Overloaded)));
        first.shrink(60);
        let second = pool.take(client(1), 40, soon()).await.unwrap();
        assert!(matches!(pool.take(client(2), 1, soon()).await, Err(RequestRejection::Overloaded)));
        drop((first, second));
        drop(pool.take(client(2), 100, soon()).await.unwrap());
        let state = pool.state.lock();
        assert_eq!((state.left, state.units_by_owner.len(), state.queue.len()), (100, 0, 0));
        assert!(state.waiting.is_empty(), "nothing is left of those who gave up");
    }

    #[tokio::test(start_paused = true)]
    async fn client_takes_no_more_than_its_part_even_if_units_are_free() {
        let pool = FairSharePool::new(100, 25);
        let whole = pool.take(client(1), 80, soon()).await.unwrap();
        assert!(pool.take(client(1), 1, soon()).await.is_err(), "it holds more than its part");
        drop(whole);
        let part = pool.take(client(1), 20, soon()).await.unwrap();
        assert!(pool.take(client(1), 6, soon()).await.is_err());
        let others = pool.take(client(2), 80, soon()).await.unwrap();
        drop((part, others));
    }

    #[test]
    fn try_take_refuses_units_that_are_not_free() {
        let pool = FairSharePool::new(100, 25);
        let first = pool.try_take(client(1), 20).unwrap();
        assert!(pool.try_take(client(1), 6).is_none(), "more than its part");
        let second = pool.try_take(client(2), 80).unwrap();
        assert!(pool.try_take(client(3), 1).is_none());
        drop((first, second));
        assert!(pool.try_take(client(3), 25).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_clients_are_served_in_turns() {
        let pool = FairSharePool::new(10, 10);
        let held = pool.take(client(1), 10, soon()).await.unwrap();
        let mut flood: Vec<_> =
            (0..100).map(|_| Box::pin(pool.take(client(1), 10, soon()))).collect();
        for waiting in &mut flood {
            assert!(waiting.now_or_never().is_none());
        }
        let mut other = Box::pin(pool.take(client(2), 10, soon()));
        assert!((&mut other).now_or_never().is_none());
        drop(held);
        let first = flood.remove(0).await.unwrap();
        drop(first);
        assert!(other.now_or_never().is_some(), "after one of the hundred");
    }

    #[tokio::test(start_paused = true)]
    async fn large_grant_is_not_overtaken_for_ever() {
        let pool = FairSharePool::new(10, 10);
        let held = pool.take(client(1), 6, soon()).await.unwrap();
        let mut large = Box::pin(pool.take(client(2), 10, soon()));
        assert!((&mut large).now_or_never().is_none());
        let mut small = Box::pin(pool.take(client(3), 1, soon()));
        assert!((&mut small).now_or_never().is_none());
        drop(held);
        drop(large.await.unwrap());
        small.await.unwrap();
    }
}

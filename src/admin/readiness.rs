//! The gateway's readiness for traffic, with the reasons against it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The gateway's readiness for traffic. Set by the code that starts and stops it.
#[derive(Debug)]
pub struct ReadinessState {
    started: AtomicBool,
    draining: AtomicBool,
    writable: watch::Receiver<bool>,
    has_room: watch::Receiver<bool>,
}

impl ReadinessState {
    /// Creates the state of a starting gateway, which is not ready. `writable` and `has_room` are the journal's.
    pub fn new(writable: watch::Receiver<bool>, has_room: watch::Receiver<bool>) -> Self {
        let (started, draining) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { started, draining, writable, has_room }
    }

    /// Marks the gateway as started: it accepts traffic from now on.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Marks the gateway as stopping.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The reasons that the gateway should get no traffic now; empty when it should.
    pub fn reasons(&self) -> Vec<&'static str> {
        let facts = [
            (!self.started.load(Ordering::Acquire), "starting"),
            (self.draining.load(Ordering::Acquire), "draining"),
            (!*self.writable.borrow(), "journal not writable"),
            (!*self.has_room.borrow(), "journal full"),
        ];
        facts.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
    }
}

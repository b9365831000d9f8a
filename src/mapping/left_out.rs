//! The values that met a bound, counted until somebody asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use minijinja::{Error, ErrorKind};

/// What a value met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its evaluation took too many steps, or would have made too much on its way.
    Steps,
    /// It is too large.
    Bytes,
    /// The rules have put as much into the event as they may.
    Mapping,
}

impl Bound {
    /// The setting's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "template_steps",
            Self::Bytes => "template_bytes",
            Self::Mapping => "mapping_bytes",
        }
    }

    /// The bound that an evaluation met, if that is why it failed.
    fn of(error: &Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::OutOfFuel => Some(Self::Steps),
            ErrorKind::WriteFailure => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// How many values met each bound.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    steps: AtomicU64,
    bytes: AtomicU64,
    mapping: AtomicU64,
    was_told: AtomicBool,
}

impl LeftOut {
    /// The value of an evaluation, and a count if a bound is why it has none.
    pub(super) fn note<T>(&self, evaluated: Result<T, Error>) -> Option<T> {
        if let Some(bound) = evaluated.as_ref().err().and_then(Bound::of) {
            self.add(bound, 1);
        }
        evaluated.ok()
    }

    pub(super) fn add(&self, bound: Bound, count: u64) {
        if count > 0 {
            self.of(bound).fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What was counted since the last time, and whether it is the first.
    pub(super) fn take(&self) -> Option<(Vec<(Bound, u64)>, bool)> {
        let bounds = [Bound::Steps, Bound::Bytes, Bound::Mapping];
        if bounds.iter().all(|bound| self.of(*bound).load(Ordering::Relaxed) == 0) {
            return None;
        }
        let counts = bounds.map(|bound| (bound, self.of(bound).swap(0, Ordering::Relaxed)));
        let counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        Some((counts, !self.was_told.swap(true, Ordering::Relaxed)))
    }

    fn of(&self, bound: Bound) -> &AtomicU64 {
        match bound {
            Bound::Steps => &self.steps,
            Bound::Bytes => &self.bytes,
            Bound::Mapping => &self.mapping,
        }
    }
}

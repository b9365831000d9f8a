//! The values that a mapping could not make, counted until they are taken: those that met a bound, and
//! those whose evaluation failed, by rule.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use minijinja::{Error, ErrorKind};

/// The bound that a value met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingBound {
    /// Its evaluation took too many steps, or its intermediate values were too large.
    Steps,
    /// The value is too large.
    Bytes,
    /// The rules have put the most allowed bytes into the event.
    Mapping,
}

impl MappingBound {
    /// Returns the name of the bound.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "template_steps",
            Self::Bytes => "template_bytes",
            Self::Mapping => "mapping_bytes",
        }
    }

    /// Returns the bound that an evaluation met, if that is why it failed.
    fn of(error: &Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::OutOfFuel => Some(Self::Steps),
            ErrorKind::WriteFailure => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// The number of values that met each bound.
#[derive(Debug, Default)]
pub(super) struct OmissionCounters {
    steps: AtomicU64,
    bytes: AtomicU64,
    mapping: AtomicU64,
    was_reported: AtomicBool,
    /// The failed evaluations of each rule.
    failed: Box<[AtomicU64]>,
    was_failure_reported: AtomicBool,
}

/// An evaluation that failed or gave no value, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingValue {
    /// The place in the mapping: `rules[0].set "properties.x"`.
    pub place: String,
    /// The problem. It may quote the event.
    pub problem: String,
}

/// The diagnostics of one event's mapping.
pub(super) struct MappingDiagnostics<'n> {
    pub(super) left_out: &'n OmissionCounters,
    /// The index of the rule that is applied.
    pub(super) rule: usize,
    /// The details, if they are requested.
    pub(super) missing: Option<&'n mut Vec<MissingValue>>,
}

impl MappingDiagnostics<'_> {
    /// Returns the value of an evaluation for this key of the rule; a failure is counted.
    pub(super) fn value<T>(
        &mut self,
        key: impl FnOnce() -> String,
        evaluated: Result<Option<T>, Error>,
    ) -> Option<T> {
        let problem = match evaluated {
            Ok(Some(value)) => return Some(value),
            Ok(None) => None,
            Err(error) => {
                match MappingBound::of(&error) {
                    Some(bound) => self.left_out.add(bound, 1),
                    None => self.left_out.add_failure(self.rule),
                }
                Some(error)
            }
        };
        if let Some(missing) = &mut self.missing {
            let nothing = || "has no value for this event".to_owned();
            missing.push(MissingValue {
                place: format!("{}.{}", rule_name(self.rule), key()),
                problem: problem.map_or_else(nothing, |error| error.to_string()),
            });
        }
        None
    }
}

/// Returns the name of a rule: its place in the list.
pub(super) fn rule_name(rule: usize) -> String {
    format!("rules[{rule}]")
}

impl OmissionCounters {
    /// Builds zero counts for a mapping with this number of rules.
    pub(super) fn new(rules: usize) -> Self {
        Self { failed: (0..rules).map(|_| AtomicU64::new(0)).collect(), ..Self::default() }
    }

    fn add_failure(&self, rule: usize) {
        if let Some(count) = self.failed.get(rule) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the failures of each rule since the last call; true if they are the first.
    pub(super) fn take_failures(&self) -> Option<(Vec<(usize, u64)>, bool)> {
        if self.failed.iter().all(|count| count.load(Ordering::Relaxed) == 0) {
            return None;
        }
        let counts = self.failed.iter().map(|count| count.swap(0, Ordering::Relaxed)).enumerate();
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        Some((counts, !self.was_failure_reported.swap(true, Ordering::Relaxed)))
    }

    pub(super) fn add(&self, bound: MappingBound, count: u64) {
        if count > 0 {
            self.of(bound).fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns the counts since the last call; true if they are the first.
    pub(super) fn take(&self) -> Option<(Vec<(MappingBound, u64)>, bool)> {
        let bounds = [MappingBound::Steps, MappingBound::Bytes, MappingBound::Mapping];
        if bounds.iter().all(|bound| self.of(*bound).load(Ordering::Relaxed) == 0) {
            return None;
        }
        let counts = bounds.map(|bound| (bound, self.of(bound).swap(0, Ordering::Relaxed)));
        let counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        Some((counts, !self.was_reported.swap(true, Ordering::Relaxed)))
    }

    fn of(&self, bound: MappingBound) -> &AtomicU64 {
        match bound {
            MappingBound::Steps => &self.steps,
            MappingBound::Bytes => &self.bytes,
            MappingBound::Mapping => &self.mapping,
        }
    }
}

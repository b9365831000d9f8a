//! The delivery of one batch: assigns records to calls, in order.
//!
//! Events of one visitor form a lane. A record is sent when all earlier records of its lane have
//! been taken, so that a visitor's calls happen in the visitor's order; different lanes share calls.
//! Each turn makes the calls of one path, the one for which most lanes are ready: a batch of plain
//! events is one call, an identify among them adds one or two.

use std::collections::{HashMap, VecDeque};

use super::plan::{MixpanelEndpoint, MixpanelRecord, MixpanelRecordPlan};
use super::replies::MixpanelCallOutcome;
use crate::{Outcome, OutcomeReason};
use tagway_core::event::EnrichedEvent;

/// Bytes of one request's body before compression. Mixpanel's page says 10 MB, its schema 2 MiB.
pub(super) const MAX_BODY_BYTES: usize = 2_000_000;

/// One event of the batch.
struct MixpanelPendingEvent<'p> {
    /// `None` for an event that cannot be sent.
    plan: Option<&'p MixpanelRecordPlan>,
    lane: usize,
    /// The index of its next record.
    next: usize,
    outcome: Option<Outcome>,
}

impl<'p> MixpanelPendingEvent<'p> {
    fn step(&self) -> Option<&'p MixpanelRecord> {
        if self.outcome.is_some() { None } else { self.plan?.steps.get(self.next) }
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}

/// A record to send, with its event's index in the batch and its own in the plan.
#[derive(Clone, Copy, Debug)]
struct MixpanelPendingRecord<'p> {
    event_index: usize,
    at: usize,
    step: &'p MixpanelRecord,
}

/// The records of one call.
pub(super) struct MixpanelRecordChunk<'p> {
    members: Vec<MixpanelPendingRecord<'p>>,
}

impl<'p> MixpanelRecordChunk<'p> {
    /// Returns the records as a JSON list.
    pub(super) fn body(&self) -> Vec<u8> {
        let bytes = self.members.iter().map(|member| member.step.record.len() + 1).sum::<usize>();
        let mut body = Vec::with_capacity(bytes + 1);
        for (index, member) in self.members.iter().enumerate() {
            body.push(if index == 0 { b'[' } else { b',' });
            body.extend_from_slice(&member.step.record);
        }
        body.push(b']');
        body
    }

    /// Returns the records' `$insert_id`s.
    pub(super) fn insert_ids(&self) -> Vec<Option<&'p str>> {
        self.members.iter().map(|member| member.step.insert_id.as_deref()).collect()
    }
}

/// The state of a batch during its delivery.
pub(super) struct MixpanelBatchRun<'p> {
    pending_events: Vec<MixpanelPendingEvent<'p>>,
    /// The events of each visitor that have no outcome yet, in order.
    lanes: Vec<VecDeque<usize>>,
    /// Paths that take nothing now, with the outcome of events that need them.
    closed: Vec<(MixpanelEndpoint, Outcome)>,
    /// Records to be sent by the path of the current turn.
    queue: VecDeque<MixpanelPendingRecord<'p>>,
}

impl<'p> MixpanelBatchRun<'p> {
    /// Starts a batch with its plans; an event without a plan cannot be sent.
    pub(super) fn new(
        batch: &[EnrichedEvent],
        plans: &[Result<&'p MixpanelRecordPlan, Outcome>],
    ) -> Self {
        let mut lane_of: HashMap<&str, usize> = HashMap::new();
        let mut lanes: Vec<VecDeque<usize>> = Vec::new();
        let mut tickets = Vec::with_capacity(batch.len());
        for (index, (event, plan)) in batch.iter().zip(plans).enumerate() {
            let lane = *lane_of.entry(event.event.order_key()).or_insert_with(|| {
                lanes.push(VecDeque::new());
                lanes.len() - 1
            });
            if let Some(lane) = lanes.get_mut(lane) {
                lane.push_back(index);
            }
            let outcome = plan.as_ref().err().cloned();
            let plan = plan.as_ref().ok().copied();
            let next = plan.map_or(0, MixpanelRecordPlan::done);
            tickets.push(MixpanelPendingEvent { plan, lane, next, outcome });
        }
        let mut round =
            Self { pending_events: tickets, lanes, closed: Vec::new(), queue: VecDeque::new() };
        round.leave_out_links(batch);
        round
    }

    /// Skips the link event of an identify if another event of the same user and device follows: that
    /// links them as well.
    fn leave_out_links(&mut self, batch: &[EnrichedEvent]) {
        for lane in &self.lanes {
            let mut later: Vec<Option<&str>> = Vec::new();
            for index in lane.iter().rev() {
                let (Some(ticket), Some(event)) =
                    (self.pending_events.get_mut(*index), batch.get(*index))
                else {
                    continue;
                };
                let user = event.event.user_id.as_deref();
                let is_link = ticket.step().is_some_and(|step| step.is_link);
                if is_link && later.contains(&user) {
                    ticket.next += 1;
                    if ticket.step().is_none() {
                        ticket.end(Outcome::Delivered);
                    }
                } else if ticket.plan.is_some_and(MixpanelRecordPlan::has_event)
                    && event.event.anonymous_id.is_some()
                    && !later.contains(&user)
                {
                    later.push(user);
                }
            }
        }
    }

    /// Returns the path of the next turn: the one that most lanes wait for. `None` if all is sent.
    pub(super) fn next_endpoint(&mut self) -> Option<MixpanelEndpoint> {
        self.queue.clear();
        let mut ready = MixpanelEndpoint::ALL.map(|path| (path, 0_usize));
        for lane in 0..self.lanes.len() {
            let Some(path) = self.head(lane) else { continue };
            if let Some((_, outcome)) = self.closed.iter().find(|(closed, _)| *closed == path) {
                let outcome = outcome.clone();
                self.stop(lane, &outcome);
                continue;
            }
            for (_, count) in ready.iter_mut().filter(|(other, _)| *other == path) {
                *count += 1;
            }
        }
        let (path, count) = ready.into_iter().rev().max_by_key(|(_, count)| *count)?;
        if count == 0 {
            return None;
        }
        for lane in &self.lanes {
            'lane: for ticket in lane {
                let Some(MixpanelPendingEvent { plan: Some(plan), next, outcome: None, .. }) =
                    self.pending_events.get(*ticket)
                else {
                    continue;
                };
                for (at, step) in plan.steps.iter().enumerate().skip(*next) {
                    if step.path != path {
                        break 'lane;
                    }
                    self.queue.push_back(MixpanelPendingRecord { event_index: *ticket, at, step });
                }
            }
        }
        Some(path)
    }

    /// Returns the records of this turn's next call.
    pub(super) fn next_chunk(&mut self, path: MixpanelEndpoint) -> Option<MixpanelRecordChunk<'p>> {
        if self.closed.iter().any(|(closed, _)| *closed == path) {
            return None;
        }
        let (mut members, mut bytes) = (Vec::new(), 2);
        while let Some(member) = self.queue.front().copied() {
            let size = member.step.record.len() + 1;
            let is_full = members.len() >= path.max_records() || bytes + size > MAX_BODY_BYTES;
            if is_full && !members.is_empty() {
                break;
            }
            self.queue.pop_front();
            // An event that ended meanwhile sends no further records.
            if self
                .pending_events
                .get(member.event_index)
                .is_some_and(|ticket| ticket.outcome.is_none())
            {
                bytes += size;
                members.push(member);
            }
        }
        (!members.is_empty()).then_some(MixpanelRecordChunk { members })
    }

    /// Records the result of a call.
    pub(super) fn settle(
        &mut self,
        path: MixpanelEndpoint,
        chunk: &MixpanelRecordChunk<'p>,
        answer: MixpanelCallOutcome,
    ) {
        match answer {
            MixpanelCallOutcome::Taken(failed) => {
                for (index, reason) in failed {
                    let ticket = chunk.members.get(index).map(|member| member.event_index);
                    if let Some(ticket) =
                        ticket.and_then(|ticket| self.pending_events.get_mut(ticket))
                    {
                        ticket.end(Outcome::Dead(reason));
                    }
                }
                for member in &chunk.members {
                    self.advance(*member);
                }
            }
            MixpanelCallOutcome::Refused(reason) => self.refuse(chunk, &reason),
            MixpanelCallOutcome::Closed(outcome) => self.closed.push((path, outcome)),
        }
    }

    /// Returns the outcome of each event, in the order of the batch.
    pub(super) fn into_outcomes(self) -> Vec<Outcome> {
        let unmentioned =
            || Outcome::Retry { reason: OutcomeReason::new("no_outcome"), after: None };
        self.pending_events
            .into_iter()
            .map(|ticket| ticket.outcome.unwrap_or_else(unmentioned))
            .collect()
    }

    /// Removes ended events from a lane; returns the path that the lane waits for.
    fn head(&mut self, lane: usize) -> Option<MixpanelEndpoint> {
        let lane = self.lanes.get_mut(lane)?;
        while let Some(ticket) = lane.front() {
            let ticket = self.pending_events.get_mut(*ticket)?;
            match ticket.step() {
                Some(step) => return Some(step.path),
                // All its records were taken earlier.
                None => ticket.end(Outcome::Delivered),
            }
            lane.pop_front();
        }
        None
    }

    fn advance(&mut self, member: MixpanelPendingRecord<'p>) {
        let Some(ticket) = self.pending_events.get_mut(member.event_index) else { return };
        let Some(plan) = ticket.plan else { return };
        ticket.next = member.at + 1;
        plan.set_done(ticket.next);
        if ticket.next >= plan.steps.len() {
            ticket.end(Outcome::Delivered);
        }
    }

    /// Handles a call that was refused as a whole. If its records are of a single event, that event is dead.
    /// If of several, the bad one is unknown yet, and their visitors' later events wait for a retry.
    fn refuse(&mut self, chunk: &MixpanelRecordChunk<'p>, reason: &OutcomeReason) {
        let first = chunk.members.first().map(|member| member.event_index);
        let is_one = chunk.members.iter().all(|member| Some(member.event_index) == first);
        let outcome = if is_one { Outcome::Dead } else { Outcome::Refused };
        let mut lanes = Vec::new();
        for member in &chunk.members {
            if let Some(ticket) = self.pending_events.get_mut(member.event_index) {
                ticket.end(outcome(reason.clone()));
                lanes.push(ticket.lane);
            }
        }
        if !is_one {
            let behind =
                Outcome::Retry { reason: OutcomeReason::new("behind_another"), after: None };
            for lane in lanes {
                self.stop(lane, &behind);
            }
        }
    }

    /// Ends the remaining events of a lane with this outcome.
    fn stop(&mut self, lane: usize, outcome: &Outcome) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        for ticket in lane.drain(..) {
            if let Some(ticket) = self.pending_events.get_mut(ticket) {
                ticket.end(outcome.clone());
            }
        }
    }
}

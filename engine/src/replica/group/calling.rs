//! Calls of the state machine, as the replica sees them: it begins one when it has run, and goes by
//! the outcomes when the call has ended.
//!
//! A call may go on elsewhere while the replica runs: on a thread of the pool, or on one that its
//! worker has left since the call took too long. The replica then takes part in its group as ever,
//! but for what its state machine has to do, which waits. If the call takes too long, the replica
//! is *stuck*: it does not lead, and answers those who wait that it does not know.

use crate::admission::Permit;
use crate::error::RequestError;
use crate::replica::call::{Call, EndedCall, Outcome, Tasks};
use crate::replica::event::GroupEvent;
use crate::replica::group::Group;
use crate::replica::group::requests::Requests;
use crate::replica::request::Responder;
use crate::replica::run_context::{RunContext, RunScratch};
use crate::request::administration::encode_local;
use crate::state_machine::CapturedState;
use bytes::Bytes;
use logboat_raft::{Entry, Input, LogReadTarget, Message, Payload, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// A replica without its state machine takes in entries up to this part of the memory for them.
const MOST_PART: usize = 64;

/// What a replica keeps while it runs without its state machine.
#[derive(Default)]
pub(super) struct Absence {
    /// Those who wait for the answers of the call.
    readers: VecDeque<Responder>,
    /// What the state machine is to do next.
    waiting: Tasks,
    /// Entries to apply next that were read back from the log, until there is room for them.
    log_read: Option<GroupEvent>,
    /// The memory of the entries that were taken in meanwhile.
    permits: Vec<Permit>,
    bytes: usize,
    /// Whether the call takes too long.
    is_stuck: bool,
    /// When the state machine, which is there, is to go on with what waits.
    retries_at: Option<Time>,
}

/// A state machine that has wanted to be asked again later, and has got on with nothing since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retrying {
    since: Time,
    /// Whether that takes too long.
    is_stuck: bool,
}

impl Group {
    /// The call of the state machine that has to follow this run, if any. When it has ended,
    /// [`Self::end_call`] must follow.
    pub(crate) fn begin_call(&mut self, run: &mut RunContext<'_>) -> Option<Call> {
        self.retry(run);
        let tasks = &mut run.scratch.tasks;
        if tasks.is_empty() {
            return None;
        }
        if self.halted {
            let readers = tasks.clear();
            answer_all(run, readers, &RequestError::Stopped);
            return None;
        }
        if let Some(absence) = &mut self.absence {
            absence.waiting.append(tasks);
            return None;
        }
        let machine = self.machine.take()?;
        Some(Call::new(machine, tasks, std::mem::take(&mut run.scratch.outcomes)))
    }

    /// The call goes on while the replica runs. Its end comes as [`GroupEvent::Called`].
    pub(crate) fn detach(&mut self, scratch: &mut RunScratch) {
        let readers = scratch.tasks.take_readers();
        self.absence = Some(Box::new(Absence { readers, ..Absence::default() }));
    }

    /// Goes by the outcomes of a call. Another call may have to follow.
    pub(crate) fn end_call(&mut self, run: &mut RunContext<'_>, ended: EndedCall) {
        let Absence { mut readers, mut waiting, log_read, permits, .. } = match self.absence.take()
        {
            Some(absence) => *absence,
            None => {
                let readers = run.scratch.tasks.take_readers();
                Absence { readers, ..Absence::default() }
            }
        };
        // What was noted in this run comes after what has waited.
        waiting.append(&mut run.scratch.tasks);
        run.scratch.tasks = waiting;
        drop(permits);
        let EndedCall { machine, mut outcomes, mut tasks, retry } = ended;
        let is_applied = |outcome: &&Outcome| {
            matches!(outcome, Outcome::Applied { .. } | Outcome::Configured { .. })
        };
        let applied = outcomes.iter().filter(is_applied).count();
        self.shared.metrics.applied.inc_by(applied as u64);
        if applied > 0 || retry.is_none() {
            self.retrying = None;
        }
        for outcome in outcomes.drain(..) {
            self.take_outcome(run, outcome, &mut readers);
        }
        run.scratch.outcomes = outcomes;
        match retry.filter(|_| !self.halted) {
            Some(after) => self.pause(run, after, Tasks::of_call(tasks, readers)),
            None => {
                answer_all(run, readers.drain(..), &RequestError::Stopped);
                tasks.clear();
                run.scratch.tasks.reuse(tasks, readers);
            }
        }
        if self.retired {
            return run.turn.discard(self.id, self.slot, machine);
        }
        self.machine = Some(machine);
        self.may_lead_again(run);
        if let Some(event) = log_read.and_then(|event| self.hold(run, event)) {
            self.handle(run, &mut Requests::default(), event);
        }
        self.snapshot_for_peers(run);
        self.hand_out_queries(run);
        self.publish();
        self.invariants();
    }

    /// Tells the core whether the replica may lead, now that no call takes too long. While a
    /// snapshot is taken over, nothing reaches the core: then the end of that call does it.
    pub(super) fn may_lead_again(&mut self, run: &mut RunContext<'_>) {
        let may_lead = !self.is_stuck();
        if self.raft.may_lead() != may_lead {
            self.step(run, Input::MayLead(may_lead));
        }
    }

    fn take_outcome(
        &mut self,
        run: &mut RunContext<'_>,
        outcome: Outcome,
        readers: &mut VecDeque<Responder>,
    ) {
        if self.halted {
            return;
        }
        match outcome {
            Outcome::Applied { id, answer } => self.applied(run, id, answer),
            Outcome::Configured { id, configuration } => {
                self.applied(run, id, None);
                if let Some(state) = &mut self.on_disk {
                    state.configured(&configuration);
                }
                self.configuration = configuration;
            }
            Outcome::Answered(answer) => self.answered(run, answer, readers),
            // All that was applied before the query has been taken note of by now.
            Outcome::AnsweredLocal(answer) => {
                self.answered(run, encode_local(self.applied, &answer), readers);
            }
            Outcome::Captured(writer) => self.captured(run, writer),
            // As with a query: all that was applied before has been taken note of by now.
            Outcome::CapturedFor(capture, writer) => {
                capture.answer(Ok(CapturedState { last: self.applied, writer: Some(writer) }));
            }
            Outcome::Synced(last) => self.synced(run, last),
            Outcome::Restored(reader) => {
                self.read_by(run, reader);
                self.restored(run);
            }
            Outcome::Failed(reason) => self.fail(run, &reason),
        }
    }

    fn answered(&self, run: &mut RunContext<'_>, answer: Bytes, readers: &mut VecDeque<Responder>) {
        self.shared.metrics.reads.inc();
        if let Some(reader) = readers.pop_front() {
            reader.answer(run.turn, Ok(answer));
        }
    }

    /// The state machine wants to go on after a while. What was left of its tasks comes first then.
    fn pause(&mut self, run: &mut RunContext<'_>, after: Duration, mut left: Tasks) {
        left.append(&mut run.scratch.tasks);
        let now = run.turn.now;
        self.retrying.get_or_insert(Retrying { since: now, is_stuck: false });
        let retries_at = Some(run.turn.now + after);
        self.absence = Some(Box::new(Absence { waiting: left, retries_at, ..Absence::default() }));
    }

    /// Goes on with what waits, if it is time.
    fn retry(&mut self, run: &mut RunContext<'_>) {
        let now = run.turn.now;
        if self.retries_at().is_some_and(|retries_at| retries_at <= now)
            && let Some(absence) = self.absence.take()
        {
            let Absence { mut waiting, log_read, .. } = *absence;
            waiting.append(&mut run.scratch.tasks);
            run.scratch.tasks = waiting;
            if let Some(event) = log_read.and_then(|event| self.hold(run, event)) {
                self.handle(run, &mut Requests::default(), event);
            }
        }
    }

    /// When the state machine is to go on, if it has to wait.
    pub(super) fn retries_at(&self) -> Option<Time> {
        self.absence.as_ref().and_then(|absence| absence.retries_at)
    }

    /// A call takes too long. If the replica leads, another had better do: it steps down before it
    /// answers anything. What it has proposed may be committed, or be lost.
    pub(super) fn stuck(&mut self, run: &mut RunContext<'_>) {
        // The call may have ended just now.
        let is_away = |absence: &&mut Box<Absence>| absence.retries_at.is_none();
        let Some(absence) = self.absence.as_mut().filter(is_away) else {
            return;
        };
        absence.is_stuck = true;
        self.step_aside(run);
    }

    /// Does the same if the state machine has put off its commands for too long.
    pub(super) fn lose_patience(&mut self, run: &mut RunContext<'_>) {
        let is_over = self.patience_ends_at().is_some_and(|end| end <= run.turn.now);
        if let Some(retrying) = self.retrying.as_mut().filter(|_| is_over) {
            retrying.is_stuck = true;
            tracing::warn!(
                group = self.id.0,
                "its state machine has put off its commands for long"
            );
            self.step_aside(run);
        }
    }

    /// Does the same if the entries that the state machine is to apply next can't be read for too
    /// long. They are tried again all the while.
    pub(super) fn log_read_late(&mut self, run: &mut RunContext<'_>) {
        if !self.halted {
            self.is_log_read_late = true;
            tracing::warn!(group = self.id.0, "what it is to apply could not be read for long");
            self.step_aside(run);
        }
    }

    /// The entries that the state machine is to apply next were read.
    pub(super) fn has_read_log(&mut self, run: &mut RunContext<'_>) {
        if std::mem::take(&mut self.is_log_read_late) {
            self.may_lead_again(run);
        }
    }

    /// Until when the state machine may put off its commands.
    pub(super) fn patience_ends_at(&self) -> Option<Time> {
        let retrying = self.retrying.filter(|retrying| !retrying.is_stuck && !self.halted);
        retrying.map(|retrying| retrying.since + self.shared.request_timeout)
    }

    fn step_aside(&mut self, run: &mut RunContext<'_>) {
        let mut readers = VecDeque::new();
        if let Some(absence) = &mut self.absence {
            readers.append(&mut absence.readers);
            readers.append(&mut absence.waiting.take_queries());
        }
        readers.extend(self.take_readers());
        self.may_lead_again(run);
        self.proposals.abandon(run.turn);
        answer_all(run, readers, &RequestError::NotLeader { leader: None });
    }

    /// Whether a call goes on without which the replica runs.
    pub(crate) fn is_called_elsewhere(&self) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.retries_at.is_none())
    }

    /// Whether a call takes too long, a query of the reader, or a read of the log.
    pub(super) fn is_stuck(&self) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.is_stuck)
            || self.retrying.is_some_and(|retrying| retrying.is_stuck)
            || self.is_log_read_late
            || self.has_stuck_query()
    }

    /// The replica has stopped: whoever waits for an answer gets none.
    pub(super) fn abandon_queries(&mut self, run: &mut RunContext<'_>) {
        let readers = self.take_readers();
        answer_all(run, readers, &RequestError::Stopped);
        self.read_by(run, None);
        if let Some(absence) = &mut self.absence {
            let mut readers = std::mem::take(&mut absence.readers);
            readers.append(&mut absence.waiting.clear());
            absence.permits.clear();
            answer_all(run, readers, &RequestError::Stopped);
        }
    }

    /// Whether there is memory for what a message brings. While the state machine does other
    /// things, entries pile up. What is not taken in is sent again.
    pub(super) fn has_room(&mut self, message: &Message) -> bool {
        let Some(absence) = &mut self.absence else {
            return true;
        };
        let Payload::AppendEntries { entries, .. } = &message.payload else {
            return true;
        };
        if entries.is_empty() {
            return true;
        }
        let data = entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        let bytes = data + entries.len() * size_of::<Entry>();
        let unapplied = &self.shared.unapplied;
        if absence.bytes > unapplied.max_bytes() / MOST_PART {
            return false;
        }
        let Ok(permit) = unapplied.admit(bytes) else {
            return false;
        };
        absence.permits.push(permit);
        absence.bytes += bytes;
        true
    }

    /// Takes entries to apply that were read back from the log, while the state machine is away.
    /// Returns every other event.
    pub(super) fn hold_log_read(&mut self, event: GroupEvent) -> Option<GroupEvent> {
        match (&mut self.absence, event) {
            (Some(absence), event @ GroupEvent::LogRead { target: LogReadTarget::Apply, .. }) => {
                absence.log_read = Some(event);
                None
            }
            (_, event) => Some(event),
        }
    }
}

pub(super) fn answer_all(
    run: &mut RunContext<'_>,
    responders: impl IntoIterator<Item = Responder>,
    error: &RequestError,
) {
    for responder in responders {
        responder.answer(run.turn, Err(error.clone()));
    }
}

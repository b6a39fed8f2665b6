//! Requests at a replica: how they get to the core, and how the core's answers get back.

use crate::admission::ticket::Ticket;
use crate::background::guard::contain;
use crate::error::RequestError;
use crate::replica::group::Group;
use crate::replica::pending::Read;
use crate::replica::request::{BatchReply, Request, Responder, one_answer};
use crate::replica::run_context::RunContext;
use crate::request::encoding::decode_list;
use crate::request::kind::Answer;
use crate::state_machine::CommandAdmission;
use bytes::Bytes;
use logboat_raft::{Commands, Input, LogId, ReadMode, ReadToken, Refusal, RoleKind};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The requests of one run. All proposals become one step of the core, and so do all reads of a
/// mode.
#[derive(Default)]
pub(super) struct Requests {
    /// In step with [`RunScratch::proposing`](crate::replica::run_context::RunScratch).
    commands: Commands,
    reads: SmallVec<[(ReadMode, Vec<Read>); 1]>,
}

/// What decides which commands a replica proposes.
#[derive(Clone, Copy, Default)]
pub(super) struct ProposalRules<'a> {
    /// That of the state machine, while the replica leads.
    machine: Option<&'a Arc<dyn CommandAdmission>>,
    /// Whether only what frees space is proposed.
    disk_is_full: bool,
}

impl ProposalRules<'_> {
    /// What is proposed of a command that is let in, with its ticket, or the answer to one that is
    /// refused.
    fn admit(&self, body: Bytes) -> Result<(Bytes, Option<Ticket>), Answer> {
        let frees = || self.machine.is_some_and(|it| contain(|| it.frees(&body)).unwrap_or(false));
        if self.disk_is_full && !frees() {
            return Err(Err(RequestError::LogFull));
        }
        let Some(machine) = self.machine else { return Ok((body, None)) };
        let admitted = contain(|| {
            let amount = machine.admit(&body)?;
            let ticket = Ticket::of(machine, amount);
            Ok((machine.stamp(body), ticket))
        });
        match admitted {
            Ok(Ok(admitted)) => Ok(admitted),
            Ok(Err(answer)) => Err(Ok(answer)),
            // The panic has been printed. Nothing was done for the command.
            Err(_) => Err(Err(RequestError::Stopped)),
        }
    }
}

impl Requests {
    /// Adds a command, unless the state machine's admission answers it.
    pub(super) fn propose(
        &mut self,
        run: &mut RunContext<'_>,
        rules: ProposalRules<'_>,
        request: Request,
    ) {
        let Request { body, mut responder } = request;
        let body = match rules.admit(body) {
            Err(answer) => return responder.answer(run.turn, answer),
            Ok((body, ticket)) => {
                responder.hold(ticket);
                body
            }
        };
        self.commands.push(body);
        run.scratch.proposing.push(responder);
    }

    /// Adds the commands of a list, which get one reply together.
    pub(super) fn propose_all(
        &mut self,
        run: &mut RunContext<'_>,
        rules: ProposalRules<'_>,
        request: Request,
    ) {
        let Request { body, responder } = request;
        let Some(list) = decode_list(body) else {
            return responder.answer(run.turn, Err(RequestError::Stopped));
        };
        if list.is_empty() {
            return responder.answer(run.turn, one_answer(&[]));
        }
        let reply = BatchReply::new(list.len(), responder);
        for (number, body) in list.into_iter().enumerate() {
            let reply = Arc::clone(&reply);
            let responder = Responder::Batched { reply, number, ticket: None };
            self.propose(run, rules, Request { body, responder });
        }
    }

    pub(super) fn read(&mut self, request: Request, mode: ReadMode) {
        let read = Read { query: request.body, responder: request.responder };
        match self.reads.iter_mut().find(|(other, _)| *other == mode) {
            Some((_, reads)) => reads.push(read),
            None => self.reads.push((mode, vec![read])),
        }
    }
}

impl Group {
    /// What decides which commands are proposed. It counts on the leader alone.
    pub(super) fn rules(&self) -> ProposalRules<'_> {
        if self.raft.role() != RoleKind::Leader || self.halted {
            return ProposalRules::default();
        }
        let disk_is_full = self.shared.disk_is_full.load(Ordering::Relaxed);
        ProposalRules { machine: self.command_admission.as_ref(), disk_is_full }
    }

    /// Hands the requests of this run to the core.
    pub(super) fn take_in_requests(&mut self, run: &mut RunContext<'_>, requests: Requests) {
        if !requests.commands.is_empty() {
            self.propose(run, requests.commands);
        }
        for (mode, reads) in requests.reads {
            self.read(run, reads, mode);
        }
    }

    fn propose(&mut self, run: &mut RunContext<'_>, commands: Commands) {
        if self.halted {
            return refuse_proposing(run, &RequestError::Stopped);
        }
        if self.restoring.is_some() {
            return refuse_proposing(run, &RequestError::NotLeader { leader: self.view.leader() });
        }
        self.shared.metrics.proposals.inc_by(commands.len() as u64);
        self.step(run, Input::Propose { commands });
    }

    fn read(&mut self, run: &mut RunContext<'_>, reads: Vec<Read>, mode: ReadMode) {
        let token = run.turn.next_read_token();
        self.reads.add(token, reads);
        if self.halted {
            return self.reads.abandon(run.turn);
        }
        if self.restoring.is_some() {
            let leader = self.view.leader();
            return self.refuse_reads(run, token, Refusal::NotLeader { leader });
        }
        self.step(run, Input::Read { token, mode });
    }

    pub(super) fn proposed(&mut self, run: &mut RunContext<'_>, first: LogId) {
        let deadline = run.turn.now + self.shared.request_timeout;
        let mut proposing = std::mem::take(&mut run.scratch.proposing);
        for (offset, responder) in proposing.drain(..).enumerate() {
            let id = LogId::new(first.term, first.index.plus(offset as u64));
            self.proposals.add(run.turn, id, deadline, responder);
        }
        run.scratch.proposing = proposing;
    }

    /// Hands queries to the state machine, unless a call of it takes too long.
    pub(super) fn serve_reads(&mut self, run: &mut RunContext<'_>, token: ReadToken) {
        if self.is_stuck() {
            return self.refuse_reads(run, token, Refusal::NotLeader { leader: None });
        }
        for Read { query, responder } in self.reads.take(token) {
            run.scratch.tasks.query(query, responder);
        }
    }

    pub(super) fn refuse_reads(
        &mut self,
        run: &mut RunContext<'_>,
        token: ReadToken,
        reason: Refusal,
    ) {
        for read in self.reads.take(token) {
            read.responder.answer(run.turn, Err(reason.into()));
        }
    }
}

/// Refuses the proposals of the step that is running.
pub(super) fn refuse_proposing(run: &mut RunContext<'_>, error: &RequestError) {
    let mut proposing = std::mem::take(&mut run.scratch.proposing);
    for responder in proposing.drain(..) {
        responder.answer(run.turn, Err(error.clone()));
    }
    run.scratch.proposing = proposing;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use crate::replica::run_context::RunScratch;
    use crate::turn::Turn;
    use crate::turn::storage::NoStorage;

    #[test]
    fn a_list_that_makes_no_sense_is_refused_and_proposes_nothing() {
        let admission = Admission::new(1 << 20);
        let (mut turn, mut scratch) =
            (Turn::new(Arc::new(NoStorage), ReadToken(0)), RunScratch::default());
        let mut run = RunContext { turn: &mut turn, scratch: &mut scratch };
        let mut requests = Requests::default();
        // Two commands, the first of nine bytes, of which there is none.
        let garbled = Bytes::from_static(b"\x02\0\0\0\x09\0\0\0");
        let permit = admission.admit(garbled.len()).unwrap();
        let (request, mut answer) = Request::local(garbled, permit);
        requests.propose_all(&mut run, ProposalRules::default(), request);
        assert_eq!(answer.try_recv(), Ok(Err(RequestError::Stopped)));
        assert!(requests.commands.is_empty() && run.scratch.proposing.is_empty());
    }
}

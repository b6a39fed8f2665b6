//! Requests at a replica: how they get to the core, and how the core's answers get back.

use crate::admission::ticket::Ticket;
use crate::background::guard::contain;
use crate::error::RequestError;
use crate::replica::group::Group;
use crate::replica::pending::Read;
use crate::replica::request::{BatchReply, Request, Responder, one_answer};
use crate::replica::run_context::{RunContext, RunScratch};
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

/// What decides which commands a leader proposes.
struct ProposalRules<'a> {
    /// That of the state machine.
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
    pub(super) fn propose(&mut self, run: &mut RunContext<'_>, request: Request) {
        self.commands.push(request.body);
        run.scratch.proposing.push(request.responder);
    }

    /// Adds the commands of a list, which get one reply together.
    pub(super) fn propose_all(&mut self, run: &mut RunContext<'_>, request: Request) {
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
            self.propose(run, Request { body, responder });
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
    /// Hands the requests of this run to the core.
    pub(super) fn take_in_requests(&mut self, run: &mut RunContext<'_>, requests: Requests) {
        if !requests.commands.is_empty() {
            self.propose(run, requests.commands);
        }
        for (mode, reads) in requests.reads {
            self.read(run, reads, mode);
        }
    }

    fn propose(&mut self, run: &mut RunContext<'_>, mut commands: Commands) {
        if self.halted {
            return refuse_proposing(run, &RequestError::Stopped);
        }
        if self.restoring.is_some() {
            return refuse_proposing(run, &RequestError::NotLeader { leader: self.view.leader() });
        }
        // Now, and not when the commands came: the replica may have begun to lead in this run. The
        // core refuses the commands of those that do not lead.
        if self.raft.role() == RoleKind::Leader {
            self.admit(run, &mut commands);
            if commands.is_empty() {
                return;
            }
        }
        self.shared.metrics.proposals.inc_by(commands.len() as u64);
        self.step(run, Input::Propose { commands });
    }

    /// Has the commands of this run stamped by the leader, and answers those that are refused.
    fn admit(&self, run: &mut RunContext<'_>, commands: &mut Commands) {
        let disk_is_full = self.shared.disk_is_full.load(Ordering::Relaxed);
        let rules = ProposalRules { machine: self.command_admission.as_ref(), disk_is_full };
        let RunContext { turn, scratch: RunScratch { proposing, .. } } = run;
        // Mostly there are none. Then this does not allocate.
        let (mut refused, mut answers) = (Vec::new(), Vec::new());
        for (place, (command, responder)) in commands.iter_mut().zip(&mut *proposing).enumerate() {
            match rules.admit(std::mem::take(command)) {
                Ok((admitted, ticket)) => {
                    *command = admitted;
                    responder.hold(ticket);
                }
                Err(answer) => {
                    refused.push(place);
                    answers.push(answer);
                }
            }
        }
        if refused.is_empty() {
            return;
        }
        let is_refused = |place| refused.binary_search(&place).is_ok();
        let mut places = 0..;
        commands.retain(|_| places.next().is_some_and(|place| !is_refused(place)));
        let mut places = 0..;
        let responders = proposing.extract_if(.., |_| places.next().is_some_and(is_refused));
        for (responder, answer) in responders.zip(answers) {
            responder.answer(turn, answer);
        }
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
            self.query(run, query, responder);
        }
        self.hand_out_queries(run);
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
    use crate::peers::Peers;
    use crate::replica::event::GroupEvent;
    use crate::replica::group::Shared;
    use crate::request::encoding::encode_list;
    use crate::state_machine::{SnapshotWriter, StateMachine};
    use crate::turn::Turn;
    use crate::turn::slot::Slot;
    use crate::turn::storage::NoStorage;
    use logboat_raft::{
        Config, Configuration, EntryKind, Epoch, GroupId, LogWrite, Message, NodeId, Payload, Raft,
        ReplicaId, Restored, Term, Time, WriteSeq,
    };
    use std::io;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    #[test]
    fn a_list_that_makes_no_sense_is_refused_and_proposes_nothing() {
        let admission = Admission::new(1 << 20);
        let (mut turn, mut scratch) =
            (Turn::new(Arc::<NoStorage>::default(), ReadToken(0)), RunScratch::default());
        let mut run = RunContext { turn: &mut turn, scratch: &mut scratch };
        let mut requests = Requests::default();
        // Two commands, the first of nine bytes, of which there is none.
        let garbled = Bytes::from_static(b"\x02\0\0\0\x09\0\0\0");
        let permit = admission.admit(garbled.len()).unwrap();
        let (request, mut answer) = Request::local(garbled, permit);
        requests.propose_all(&mut run, request);
        assert_eq!(answer.try_recv(), Ok(Err(RequestError::Stopped)));
        assert!(requests.commands.is_empty() && run.scratch.proposing.is_empty());
    }

    /// Refuses commands that begin with `!`, and marks the others.
    struct Marking;

    impl CommandAdmission for Marking {
        fn admit(&self, command: &Bytes) -> Result<u64, Bytes> {
            match command.starts_with(b"!") {
                true => Err(Bytes::from_static(b"refused")),
                false => Ok(0),
            }
        }

        fn stamp(&self, command: Bytes) -> Bytes {
            [&command[..], b" stamped"].concat().into()
        }

        fn release(&self, _: u64) {}
    }

    impl StateMachine for Marking {
        fn apply(&mut self, command: Bytes) -> Bytes {
            command
        }

        fn query(&self, query: Bytes) -> Bytes {
            query
        }

        fn snapshot(&self) -> SnapshotWriter {
            Box::new(|_| Ok(()))
        }

        fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
            Ok(())
        }

        fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
            Some(Arc::new(Self))
        }
    }

    /// A replica of node 1, the preferred of three that support each other.
    fn preferred_replica(turn: &mut Turn, disk_is_full: &Arc<AtomicBool>) -> Group {
        let nodes = [1, 2, 3].map(NodeId);
        let founding = Arc::new(Configuration::founding(&nodes, Some(NodeId(1))));
        let config = Config {
            group: GroupId(1),
            node: NodeId(1),
            replica: ReplicaId::FOUNDER,
            founding: Arc::clone(&founding),
            seed: 1,
            tuning: Arc::default(),
        };
        for peer in [2, 3].map(NodeId) {
            let known = turn.support.of_mut(peer);
            (known.support_for, known.support_from) = (Some(Epoch(1)), Some(Epoch(1)));
        }
        let shared = Shared {
            request_timeout: Duration::from_secs(5),
            snapshot_log_bytes: 1 << 30,
            disk_is_full: Arc::clone(disk_is_full),
            unapplied: Admission::new(1 << 20),
            metrics: Arc::default(),
            events: Arc::default(),
            peers: Arc::new(Peers::new(nodes)),
            mending: Arc::default(),
        };
        let raft = Raft::new(config, Restored::default(), Time(0));
        let (shared, view) = (Arc::new(shared), Arc::default());
        Group::new(GroupId(1), Slot::default(), raft, founding, Box::new(Marking), shared, view)
    }

    /// It may win its election between the arrival of commands and their proposal, in the same run.
    #[test]
    fn what_comes_to_a_candidate_that_wins_is_admitted_by_the_leader() {
        let disk_is_full = Arc::new(AtomicBool::new(false));
        let (mut turn, mut scratch) =
            (Turn::new(Arc::<NoStorage>::default(), ReadToken(0)), RunScratch::default());
        let mut group = preferred_replica(&mut turn, &disk_is_full);
        let mut run = RunContext { turn: &mut turn, scratch: &mut scratch };
        let vote = |payload| GroupEvent::Message {
            from: NodeId(2),
            message: Message::of_founder(Term(1), payload),
        };
        group.take_in(&mut run, WriteSeq(0), [GroupEvent::Tick].into_iter());
        let granted = vote(Payload::PreVoteReply { granted: true });
        group.take_in(&mut run, WriteSeq(0), [granted].into_iter());
        assert_eq!(group.raft.role(), RoleKind::Candidate);
        let own_vote = run.turn.writes.last().unwrap().1.seq;
        run.turn.writes.clear();

        let admission = Admission::new(1 << 20);
        let request = |body: Bytes| Request::local(body, admission.admit(1).unwrap());
        let (first, _) = request(Bytes::from_static(b"one"));
        let list = encode_list(&["!", "two", "!"]).into();
        let (list, mut answers) = request(list);
        let granted = vote(Payload::VoteReply { granted: true });
        let events = [GroupEvent::Propose(first), GroupEvent::ProposeAll(list), granted];
        group.take_in(&mut run, own_vote, events.into_iter());
        assert_eq!(group.raft.role(), RoleKind::Leader);
        assert_eq!(commands(run.turn), ["one stamped", "two stamped"]);
        assert!(answers.try_recv().is_err(), "one of the list has no outcome yet");

        disk_is_full.store(true, Ordering::Relaxed);
        let (another, mut answer) = request(Bytes::from_static(b"three"));
        group.take_in(&mut run, own_vote, [GroupEvent::Propose(another)].into_iter());
        assert_eq!(answer.try_recv(), Ok(Err(RequestError::LogFull)));
        assert!(run.scratch.proposing.is_empty() && run.turn.writes.is_empty());
    }

    /// The commands that were written to the log.
    fn commands(turn: &mut Turn) -> Vec<Bytes> {
        let appended = turn.writes.drain(..).filter_map(|(_, persist)| match persist.log {
            LogWrite::Append(entries) => Some(entries),
            _ => None,
        });
        let commands = appended.flatten().filter(|entry| entry.kind == EntryKind::Command);
        commands.map(|entry| entry.data).collect()
    }
}

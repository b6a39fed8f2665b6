//! One replica without its mailbox: the core, the state machine, and the requests that wait.
//!
//! A run ([`Group::take_in`]) does no I/O, and does not call the state machine.
//! [`Group::begin_call`] and [`Group::end_call`] do, with the call itself between them, for which
//! the worker is not needed. The end of a call may adopt a snapshot in
//! [`Storage`](crate::turn::storage::Storage). For simulators and tests `Group::run` does all of
//! that at once.

mod administration;
mod applying;
mod calling;
pub(crate) mod founding;
mod handovers;
mod held;
mod leaderless;
mod on_disk;
mod queries;
mod requests;
mod snapshots;

use crate::admission::Admission;
use crate::error::RequestError;
use crate::events::{EventPublisher, NodeEvent};
use crate::membership::Membership;
use crate::mending::Mending;
use crate::metrics::EngineMetrics;
use crate::peers::Peers;
use crate::replica::event::{GroupEvent, SnapshotOffer, offered_snapshot};
use crate::replica::founders_check::FoundersCheck;
use crate::replica::group::administration::Administration;
use crate::replica::group::calling::{Absence, Retrying};
use crate::replica::group::handovers::Handovers;
use crate::replica::group::held::Restoring;
use crate::replica::group::leaderless::Leaderless;
use crate::replica::group::on_disk::StateOnDisk;
use crate::replica::group::queries::Queries;
use crate::replica::group::requests::{Requests, refuse_proposing};
use crate::replica::pending::{Proposals, Reads};
use crate::replica::run_context::RunContext;
use crate::replica::wake_conditions::WakeConditions;
use crate::state_machine::{CommandAdmission, StateMachine};
use crate::turn::gone::{Buried, GoneReplica};
use crate::turn::jobs::LogReadJob;
use crate::turn::slot::Slot;
use crate::view::GroupView;
use logboat_raft::{
    Configuration, GroupId, Input, LogId, Message, NodeId, Output, Payload, Persist, Raft,
    ReplicaId, Resignation, RoleKind, Support, Term, Time, WriteSeq,
};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What the replicas of a node share.
pub struct Shared {
    /// How long a proposal may stay without an outcome.
    pub request_timeout: Duration,
    /// How many bytes of commands make a new snapshot due.
    pub snapshot_log_bytes: u64,
    /// Whether the node's disk is full, so that only what frees space may be written.
    pub disk_is_full: Arc<AtomicBool>,
    /// The memory for entries that replicas take in while they are without their state machines.
    pub unapplied: Arc<Admission>,
    /// Counters of the node.
    pub metrics: Arc<EngineMetrics>,
    /// Who hears what happens.
    pub events: Arc<EventPublisher>,
    /// Who can be a member of a group.
    pub peers: Arc<Peers>,
    /// What has failed, and was mended.
    pub mending: Arc<Mending>,
}

/// One replica of one group.
pub struct Group {
    id: GroupId,
    slot: Slot,
    raft: Raft,
    /// What stands before the founding of the group, if it is to be founded yet.
    founders_check: Option<Box<FoundersCheck>>,
    /// The state machine. `None` while a call goes on, and once the replica has ended.
    machine: Option<Box<dyn StateMachine>>,
    /// What the replica keeps while it runs without its state machine.
    absence: Option<Box<Absence>>,
    /// What waits until the state machine has taken over a leader's snapshot.
    restoring: Option<Box<Restoring>>,
    command_admission: Option<Arc<dyn CommandAdmission>>,
    shared: Arc<Shared>,
    view: Arc<GroupView>,
    proposals: Proposals,
    reads: Reads,
    durable: WriteSeq,
    /// The last entry that was handed to the state machine.
    handed: LogId,
    /// The last entry that it has applied.
    applied: LogId,
    /// The configuration in force at that entry.
    configuration: Arc<Configuration>,
    /// Bytes of commands handed to it since the last snapshot.
    applied_bytes: u64,
    /// How many of them make the next snapshot due, for all that is known: as many as the last one
    /// takes, once that was looked up.
    due_bytes: u64,
    snapshot_running: bool,
    /// What a leader has offered is being checked. The replica does not say to that leader that it
    /// lacks it: the leader would send it again.
    checked: Option<Box<SnapshotOffer>>,
    halted: bool,
    /// The replica has no more use for its state machine.
    retired: bool,
    /// What this replica, which failed, tells the followers that fortified it, and when it does so
    /// again.
    resignation: Option<Box<(Resignation, Time)>>,
    /// When the preferred replica may be asked to lead instead of this one.
    handovers: Handovers,
    /// Whether it hears a leader.
    leaderless: Leaderless,
    /// What it was asked for that concerns the group as a whole, while that is under way.
    administration: Option<Box<Administration>>,
    /// What the replica keeps if its state machine keeps the state on disk.
    on_disk: Option<Box<StateOnDisk>>,
    /// The queries of a state machine that has a reader.
    queries: Option<Box<Queries>>,
    /// Since when the state machine wants to be asked again later.
    retrying: Option<Retrying>,
    /// Whether the entries that it is to apply next can't be read for long.
    is_log_read_late: bool,
}

impl Group {
    /// A replica whose state machine stands at the snapshot from which `raft` starts, where
    /// `configuration` is in force.
    #[must_use]
    pub fn new(
        id: GroupId,
        slot: Slot,
        raft: Raft,
        configuration: Arc<Configuration>,
        machine: Box<dyn StateMachine>,
        shared: Arc<Shared>,
        view: Arc<GroupView>,
    ) -> Self {
        let applied = raft.snapshot();
        view.progress(raft.commit(), applied.index, 0);
        view.role_changed(raft.role(), raft.term(), raft.leader());
        view.configured(Arc::clone(raft.configuration()));
        Self {
            id,
            slot,
            raft,
            founders_check: None,
            command_admission: machine.command_admission(),
            due_bytes: shared.snapshot_log_bytes,
            absence: None,
            restoring: None,
            shared,
            view,
            proposals: Proposals::default(),
            reads: Reads::default(),
            durable: WriteSeq::default(),
            handed: applied,
            applied,
            configuration,
            applied_bytes: 0,
            snapshot_running: false,
            checked: None,
            halted: false,
            retired: false,
            resignation: None,
            handovers: Handovers::default(),
            leaderless: Leaderless::default(),
            administration: None,
            on_disk: None,
            queries: None,
            retrying: None,
            is_log_read_late: false,
            machine: Some(machine),
        }
    }

    /// The state machine keeps its state on disk, which holds all entries up to `last`.
    pub fn state_holds(&mut self, last: LogId) {
        self.on_disk = Some(Box::new(StateOnDisk::new(last, Arc::clone(&self.configuration))));
    }

    /// The group.
    pub(crate) const fn id(&self) -> GroupId {
        self.id
    }

    /// Takes in what happened since the last run, calls the state machine, and goes by what it
    /// says. `durable` is the newest durable write.
    #[cfg(feature = "internals")]
    pub fn run(
        &mut self,
        run: &mut RunContext<'_>,
        durable: WriteSeq,
        events: impl Iterator<Item = GroupEvent>,
    ) {
        self.take_in(run, durable, events);
        while let Some(call) = self.begin_call(run) {
            self.end_call(run, call.run());
        }
    }

    /// Takes in what happened since the last run; `durable` is the newest durable write. Requests
    /// come last: proposals go to the core as one batch, and so do reads. What the state machine is
    /// to do is noted in the [scratch lists](crate::replica::run_context::RunScratch).
    pub(crate) fn take_in(
        &mut self,
        run: &mut RunContext<'_>,
        durable: WriteSeq,
        events: impl Iterator<Item = GroupEvent>,
    ) {
        if durable > self.durable && self.restoring.is_none() {
            self.durable = durable;
            self.step(run, Input::Persisted { seq: durable });
        }
        let mut requests = Requests::default();
        for event in events {
            // Mostly the state machine is there, and moving an event to and fro has its price.
            if self.absence.is_none() && self.restoring.is_none() {
                self.handle(run, &mut requests, event);
            } else if let Some(event) = self.hold(run, event) {
                self.handle(run, &mut requests, event);
            }
        }
        self.take_in_requests(run, requests);
        self.watch_leader(run);
        self.publish();
        self.invariants();
    }

    fn handle(&mut self, run: &mut RunContext<'_>, requests: &mut Requests, event: GroupEvent) {
        match event {
            GroupEvent::Propose(request) => requests.propose(run, request),
            GroupEvent::ProposeAll(request) => requests.propose_all(run, request),
            GroupEvent::Read(request, mode) => requests.read(request, mode),
            GroupEvent::Tick => self.tick(run),
            GroupEvent::Founded if self.founders_check.is_some() => self.check_founders(run),
            GroupEvent::Founded => self.step(run, Input::Founded),
            GroupEvent::Founders { from, founders } => {
                self.founders_named(run, from, founders.as_ref());
            }
            GroupEvent::SupportChanged => self.step(run, Input::SupportChanged),
            GroupEvent::Confirmed => self.step(run, Input::Confirmed),
            GroupEvent::Message { from, message } => self.receive(run, from, message),
            GroupEvent::LogRead { target, first, entries } => {
                self.log_read(run, target, first, entries);
            }
            GroupEvent::Disconnected(node) => self.step(run, Input::Unreachable { node }),
            GroupEvent::SnapshotWritten(meta) => self.snapshot_written(run, meta),
            GroupEvent::SnapshotSent { to, meta } => self.snapshot_sent(run, to, meta),
            GroupEvent::SnapshotChecked { offer, is_over } => self.offer_checked(offer, is_over),
            GroupEvent::Compact => self.snapshot(run),
            GroupEvent::Called(ended) => self.end_call(run, *ended),
            GroupEvent::Stuck => self.stuck(run),
            GroupEvent::LogReadLate => self.log_read_late(run),
            GroupEvent::Queried { number, answer } => self.queried(run, number, answer),
            GroupEvent::QueryStuck(number) => self.query_stuck(run, number),
            #[cfg(feature = "internals")]
            GroupEvent::Campaign => self.step(run, Input::Campaign),
            GroupEvent::Change(request) => self.change_members(run, request),
            GroupEvent::AskedTransfer(request) => self.transfer(run, request),
            GroupEvent::ReadLocal(request) => self.read_local(run, request),
            GroupEvent::Transfer(to) => self.step(run, Input::Transfer { to }),
            GroupEvent::TransferIfCaughtUp(to) => self.hand_over(run, to),
            GroupEvent::Stop(stopped) => {
                self.stop(run);
                stopped();
            }
            GroupEvent::Remove(_, buried) => {
                self.go(run, self.raft.id().next(), Some(buried));
            }
            GroupEvent::Fail(reason) => self.fail(run, &reason),
            GroupEvent::Halt => self.halt(run),
        }
    }

    /// Panics in debug builds when the replica and its core contradict each other.
    fn invariants(&self) {
        let is_reachable = !self.halted && self.restoring.is_none();
        debug_assert!(!is_reachable || self.raft.may_lead() != self.is_stuck(), "who may lead");
    }

    /// Shows others how far the replica is.
    fn publish(&self) {
        let committed = self.raft.commit().0 - self.view.commit().0;
        self.shared.metrics.committed.inc_by(committed);
        let applied = self.applied.index;
        self.view.progress(self.raft.commit(), applied, self.applied_bytes);
    }

    /// What must wake this replica.
    #[must_use]
    pub fn wake_conditions(&self, support: &Support) -> WakeConditions {
        if self.halted {
            let resignation = self.resignation.as_ref();
            let awaited = resignation.filter(|resigning| resigning.0.is_awaited(support));
            let deadline = awaited.map(|resigning| resigning.1);
            let speaks = resignation.is_some_and(|resigning| !resigning.0.is_over());
            return WakeConditions { deadline, speaks, ..WakeConditions::default() };
        }
        let administration = self.administration.as_ref().and_then(|it| it.deadline());
        let deadline = self.proposals.next_deadline().into_iter().chain(administration);
        let deadline = deadline.chain(self.retries_at()).chain(self.patience_ends_at()).min();
        if self.restoring.is_some() {
            let leader = self.raft.leader();
            return WakeConditions { deadline, leader, ..WakeConditions::default() };
        }
        let own = match &self.founders_check {
            Some(check) => check.deadline().filter(|_| support.founded),
            None => self.raft.next_deadline(support),
        };
        let deadlines = [own, deadline, self.leaderless.deadline()];
        WakeConditions {
            durability: self.raft.role() != RoleKind::Follower
                || self.raft.commit() > self.handed.index,
            deadline: deadlines.into_iter().flatten().min(),
            awaited_round: self.raft.awaited_round(),
            leader: self.raft.leader(),
            speaks: self.raft.has_unanswered_words(),
        }
    }

    /// Whether the state machine has yet to take over a leader's snapshot, which the log follows.
    #[cfg(feature = "internals")]
    #[must_use]
    pub const fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// The replica's core, for those who check it.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    fn tick(&mut self, run: &mut RunContext<'_>) {
        self.proposals.expire(run.turn);
        self.lose_patience(run);
        self.expire_administration(run);
        self.resign_again(run);
        self.check_founders(run);
        self.step(run, Input::Tick);
    }

    fn receive(&mut self, run: &mut RunContext<'_>, from: NodeId, message: Message) {
        if let Some(resigning) = &mut self.resignation {
            resigning.0.receive(from, &message);
        }
        let offered = offered_snapshot(&message);
        if let Some(offer) = SnapshotOffer::of(from, &message) {
            self.offer_checked(offer, true);
        }
        if !self.has_room(&message) {
            return;
        }
        let is_call = matches!(message.payload, Payload::TimeoutNow);
        if is_call {
            self.handovers.called();
        }
        self.step(run, Input::Receive { from, message });
        if is_call && self.raft.role() != RoleKind::Candidate {
            // It leads by now, or it does not campaign.
            self.handovers.take_call();
        }
        let is_of_use = |last| self.restoring.as_ref().is_some_and(|it| it.meta.last == last);
        if let Some(last) = offered.filter(|last| !is_of_use(*last)) {
            run.turn.storage.discard_snapshot(self.id, last);
        }
    }

    fn step(&mut self, run: &mut RunContext<'_>, input: Input) {
        if self.halted || self.restoring.is_some() {
            return;
        }
        let mut outputs = std::mem::take(&mut run.scratch.outputs);
        let (now, support) = (run.turn.now, &run.turn.support);
        match self.founders_check {
            None => self.raft.step(now, support, input, &mut outputs),
            Some(_) => self.raft.step(now, &Support::unfounded(), input, &mut outputs),
        }
        self.carry_out(run, outputs);
    }

    /// Does what the core wants, in its order.
    fn carry_out(&mut self, run: &mut RunContext<'_>, mut outputs: Vec<Output>) {
        let mut outputs_left = outputs.drain(..);
        while let Some(output) = outputs_left.next() {
            if self.halted {
                return;
            }
            match output {
                Output::Persist(persist) => self.persist(run, persist),
                Output::Send { to, message } | Output::SendAfter { to, message, .. }
                    if self.checked.as_ref().is_some_and(|it| it.is_denied_by(to, &message)) => {}
                Output::Send { to, message } => run.turn.send(to, self.id, &message),
                Output::SendAfter { after, to, message } => {
                    self.send_after(run, after, to, &message);
                }
                Output::Apply { entries } => self.apply(run, entries),
                Output::Proposed { first } => self.proposed(run, first),
                Output::Refused { reason } => refuse_proposing(run, &reason.into()),
                Output::ReadReady { token } => self.serve_reads(run, token),
                Output::ReadRefused { token, reason } => self.refuse_reads(run, token, reason),
                Output::ReadLog { target, first, last, max_bytes } => {
                    run.turn.log_reads.push(LogReadJob {
                        group: self.id,
                        slot: self.slot,
                        target,
                        first,
                        last,
                        max_bytes,
                    })
                }
                Output::SendSnapshot { to } => self.send_snapshot(run, to),
                Output::RestoreSnapshot { meta } => {
                    self.restore(run, meta, outputs_left.by_ref().collect());
                }
                Output::Configured { configuration, is_committed } => {
                    self.configured(run, configuration, is_committed);
                }
                Output::ChangeProposed { id } => self.change_proposed(id),
                Output::ChangeRefused { error } => self.change_refused(run, error),
                Output::Gone { floor } => self.go(run, floor, None),
                Output::Violated { from, violation } => {
                    run.turn.violations.push((self.id, from, violation));
                }
                Output::OtherVoters { from, leads } => self.other_voters(run, from, leads),
                Output::RoleChanged { role, term, leader } => {
                    self.role_changed(role, term, leader);
                    self.transfer_ended(run);
                }
            }
        }
        drop(outputs_left);
        run.scratch.outputs = outputs;
    }

    fn persist(&mut self, run: &mut RunContext<'_>, persist: Persist) {
        run.turn.persist(self.slot, self.id, persist);
    }

    fn send_after(&self, run: &mut RunContext<'_>, after: WriteSeq, to: NodeId, message: &Message) {
        if after <= self.durable {
            run.turn.send(to, self.id, message);
        } else {
            run.turn.send_when_durable(to, self.id, message);
        }
    }

    fn role_changed(&mut self, role: RoleKind, term: Term, leader: Option<NodeId>) {
        let is_same = leader.is_none() || self.view.term() == term;
        let is_news = leader != self.view.leader() || !is_same;
        let was_leading = self.view.role() == RoleKind::Leader;
        let leads = role == RoleKind::Leader;
        if leads && !was_leading {
            self.shared.metrics.elections_won.inc();
            let was_called = self.handovers.take_call();
            self.shared.metrics.handovers_taken.inc_by(u64::from(was_called));
            self.shared.metrics.leaders.inc();
        } else if was_leading && !leads {
            self.shared.metrics.leaders.dec();
        }
        if role == RoleKind::Candidate {
            self.shared.metrics.campaigns.inc();
        }
        if !leads && leader.is_some() {
            self.handovers.succeeded();
        }
        self.view.role_changed(role, term, leader);
        // Last: whoever hears of it looks at the view.
        if is_news {
            let group = self.id;
            self.shared.events.publish(|| NodeEvent::LeaderChanged { group, leader, term });
        }
    }

    /// Says who belongs to the group from now on.
    fn configured(
        &mut self,
        run: &mut RunContext<'_>,
        configuration: Arc<Configuration>,
        is_committed: bool,
    ) {
        let (group, id) = (self.id, configuration.id());
        tracing::info!(group = group.0, is_committed, "members since entry {id}: {configuration}");
        self.view.configured(Arc::clone(&configuration));
        let mut mended = None;
        if is_committed {
            self.change_committed(run, &configuration);
            mended = self.shared.mending.configured(group, &configuration, self.view.leader());
        }
        let members = || Membership::new(configuration);
        self.shared.events.publish(|| NodeEvent::MembersChanged {
            group,
            members: members(),
            is_committed,
        });
        if let Some(mended) = mended {
            let (from, reason) = (mended.from, &mended.reason);
            tracing::info!(group = group.0, "mended from node {from}, after this: {reason}");
            self.shared.events.publish(|| NodeEvent::Mended(mended));
        }
    }

    /// The members of the group by the newest entry that is here.
    #[must_use]
    pub fn members(&self) -> &Configuration {
        self.raft.configuration()
    }

    /// Hands leadership to the preferred replica, if that can take it at once.
    fn hand_over(&mut self, run: &mut RunContext<'_>, to: NodeId) {
        let (now, timeout) = (run.turn.now, self.raft.election_timeout());
        if self.raft.is_caught_up(to) && self.handovers.begin(now, timeout) {
            self.step(run, Input::Transfer { to });
        }
    }

    /// Stops the replica with an error.
    pub(crate) fn fail(&mut self, run: &mut RunContext<'_>, reason: &str) {
        if self.halted {
            return;
        }
        self.view.failed(reason);
        // The core may have taken in the commands of this step.
        refuse_proposing(run, &RequestError::TimedOut);
        tracing::error!(group = self.id.0, "this replica stops: {reason}");
        self.shared.metrics.failed_replicas.inc();
        let (group, reason) = (self.id, || reason.to_owned());
        self.shared.mending.failed(group, reason());
        self.shared.events.publish(|| NodeEvent::Failed { group, reason: reason() });
        self.halt(run);
        self.resign(run);
    }

    /// The group is without this replica for good: it takes no further step, and its worker buries
    /// it, once, which `buried` is told of.
    pub(super) fn go(
        &mut self,
        run: &mut RunContext<'_>,
        floor: ReplicaId,
        buried: Option<Buried>,
    ) {
        let (group, replica) = (self.id, self.raft.id());
        if self.view.is_gone() {
            return run.turn.awaited_burials.extend(buried.map(|buried| (group, buried)));
        }
        tracing::info!(group = group.0, "replica {replica} of this node is no more");
        self.view.gone();
        self.shared.events.publish(|| NodeEvent::Removed { group });
        if !self.halted {
            refuse_proposing(run, &RequestError::TimedOut);
            self.halt(run);
        }
        self.resignation = None;
        let (resignation, repeat) = (self.raft.resignation(), self.raft.election_timeout());
        let slot = self.slot;
        run.turn.gone.push(GoneReplica { group, slot, floor, resignation, repeat, buried });
    }

    /// Stops the replica since a caller says so. Its followers are told, even if it leads no more:
    /// they may not have heard of that, and the node goes on.
    fn stop(&mut self, run: &mut RunContext<'_>) {
        if self.halted {
            return;
        }
        self.halt(run);
        self.resign(run);
        self.retired = true;
        if let Some(machine) = self.machine.take() {
            run.turn.discard(self.id, self.slot, machine);
        }
    }

    /// Ends a replica that has failed or was stopped: another is to take its place. Until that runs
    /// it goes on to resign. Returns its state machine, unless a call still has it.
    pub(crate) fn retire(&mut self) -> Option<Box<dyn StateMachine>> {
        self.retired = true;
        self.machine.take()
    }

    /// The node goes on, so its peers go on supporting it: followers that fortified this replica
    /// would wait for ever. They are told again and again, until they answer. A replica that has
    /// not founded its group has nothing to resign from.
    fn resign(&mut self, run: &mut RunContext<'_>) {
        if self.founders_check.take().is_some() {
            return;
        }
        let resignation = self.raft.resignation();
        self.resignation = Some(Box::new((resignation, run.turn.now)));
        self.resign_again(run);
    }

    fn resign_again(&mut self, run: &mut RunContext<'_>) {
        let Some(resigning) = &mut self.resignation else { return };
        let (resignation, repeat_at) = &mut **resigning;
        if *repeat_at <= run.turn.now {
            *repeat_at = run.turn.now + self.raft.election_timeout();
            run.turn.resign(self.id, resignation);
        }
    }

    /// Takes no further part in the group.
    fn halt(&mut self, run: &mut RunContext<'_>) {
        self.halted = true;
        for last in self.restoring.take().iter().flat_map(|restoring| restoring.received()) {
            run.turn.storage.discard_snapshot(self.id, last);
        }
        self.role_changed(RoleKind::Follower, self.raft.term(), None);
        self.proposals.abandon(run.turn);
        self.reads.abandon(run.turn);
        self.abandon_administration(run);
        self.abandon_queries(run);
        refuse_proposing(run, &RequestError::Stopped);
    }
}

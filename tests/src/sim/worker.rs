//! The workers of a simulated node. Each has an inbox, which it empties when the seed says so. The
//! node's liveness, the log and the connections go on meanwhile.

use super::cells::{ReplicaCell, Standing, based_on, is_late};
use super::disk::HostStorage;
use super::host::{CrashPoint, Hardware};
use super::machine::take_query_id;
use super::members::trouble;
use super::options::Fault;
use super::probe::cut_power;
use super::process::{Process, group_place};
use super::scene::{Event, Scene};
use super::vigil::keeps_bond;
use super::wal::Submission;
use logboat::internals::{
    Departed, GroupEvent, RunContext, RunScratch, Slot, SlotIndex, Turn, WaitLists,
};
use logboat_raft::{
    Confirmation, Epoch, GroupId, LogWrite, NodeId, Persist, ReadToken, Time, Violation, WriteSeq,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many replicas learn of a change of support in one turn, so that the others are late.
const CONCERNED_A_TURN: usize = 3;

/// A worker. Slots are numbered over all workers of a node.
pub(super) struct Worker {
    pub(super) turn: Turn,
    scratch: RunScratch,
    inbox: VecDeque<WorkerEvent>,
    /// Places of the cells that run in the next turn.
    woken: Vec<usize>,
    pub(super) wait_lists: WaitLists,
    /// What the replicas that are gone have to say.
    pub(super) departed: Departed,
    /// The groups whose replicas were buried in this turn.
    pub(super) buried: Vec<GroupId>,
    /// Since when each peer supports this node.
    supporters: BTreeMap<NodeId, Time>,
    turn_scheduled: bool,
    /// It takes nothing in before this moment.
    busy_until: u64,
    /// Whether a leader's snapshot was adopted in this turn.
    has_adopted: bool,
}

/// What can happen to a worker.
pub(super) enum WorkerEvent {
    /// A deadline has come.
    Tick,
    /// The node supports a peer at an epoch from now on, or no longer.
    SupportForChanged(NodeId, Option<Epoch>),
    /// A peer supports the node at an epoch, or may no longer do so.
    SupportFromChanged(NodeId, Option<Epoch>),
    /// A peer has answered a round of this worker.
    Confirmed(NodeId, Confirmation),
    /// There is time to hand leaderships to the replicas that are preferred.
    Rebalance,
    /// Something for the replica in this place.
    Local(usize, GroupEvent),
    /// All that a replica wrote up to this sequence is durable.
    Durable(Slot, WriteSeq),
    /// The connection to a node broke.
    Disconnected(NodeId),
    /// The node may promise from now on.
    Founded,
}

impl Worker {
    pub(super) fn new(node: NodeId, storage: Arc<HostStorage>, token: ReadToken) -> Self {
        Self {
            turn: Turn::new(storage, token),
            scratch: RunScratch::default(),
            inbox: VecDeque::new(),
            woken: Vec::new(),
            wait_lists: WaitLists::new(node),
            departed: Departed::default(),
            buried: Vec::new(),
            supporters: BTreeMap::new(),
            turn_scheduled: false,
            busy_until: 0,
            has_adopted: false,
        }
    }

    /// Whether it knows all that has happened.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.inbox.is_empty() && !self.wait_lists.has_concerned()
    }

    /// Whether it has yet to learn of a deadline.
    fn awaits_tick(&self) -> bool {
        self.inbox.iter().any(|event| matches!(event, WorkerEvent::Tick))
    }

    /// When it wants to be told of a deadline, unless it was told already.
    pub(super) fn next_deadline(&self, scene: &Scene) -> Option<Time> {
        let round = self.wait_lists.round_deadline(scene.plan.tick);
        let departed = self.departed.next_deadline(&self.turn.support);
        let deadlines = [self.wait_lists.next_deadline(), round, departed];
        let deadline = deadlines.into_iter().flatten().min();
        deadline.filter(|_| !self.awaits_tick())
    }

    fn has_work(&self) -> bool {
        let Turn { writes, promises, .. } = &self.turn;
        let is_idle = self.woken.is_empty() && writes.is_empty() && promises.is_empty();
        !self.is_up_to_date() || !is_idle
    }
}

impl Process {
    /// A worker takes in what has happened, runs the replicas that this concerns, and flushes what
    /// they produced.
    pub(super) fn turn(&mut self, hardware: &mut Hardware, number: usize, scene: &mut Scene) {
        let worker = &mut self.workers[number];
        worker.turn_scheduled = false;
        let events = std::mem::take(&mut worker.inbox);
        worker.turn.now = hardware.time(scene.now);
        for (peer, lease) in &self.leases {
            worker.turn.support.of_mut(*peer).lease = *lease;
        }
        for event in events {
            self.take_in(hardware, number, event, scene);
        }
        self.wake_concerned(number);
        for place in std::mem::take(&mut self.workers[number].woken) {
            let cell = &mut self.cells[place];
            cell.woken = false;
            let events = std::mem::take(&mut cell.inbox);
            let led = (Arc::clone(cell.group.raft().configuration()), cell.leads_in());
            // Mostly all at once, as an actor does; at times one by one, which shows the checks
            // more.
            let apart = !events.is_empty() && scene.random.per_mille(250);
            if apart || events.len() == 1 {
                for event in events {
                    self.run_one(hardware, place, event, scene);
                }
            } else {
                self.run(hardware, place, events.into_iter(), scene);
            }
            let worker = &mut self.workers[number];
            let support = &worker.turn.support;
            self.cells[place].check_reads(hardware.id(), led, support, &scene.checks);
            if hardware.snapshots.is_cut() {
                return;
            }
            if std::mem::take(&mut worker.has_adopted) {
                cut_power(hardware, scene);
                if hardware.crashes(CrashPoint::SnapshotAdopted) {
                    return;
                }
            }
        }
        self.ask_for_confirmation(number, scene);
        self.bury(hardware, number, scene);
        self.flush(hardware, number, scene);
        self.collect_answers(scene);
        self.schedule_turns(hardware, scene);
    }

    fn take_in(&mut self, hardware: &Hardware, number: usize, event: WorkerEvent, scene: &Scene) {
        let Worker { turn, wait_lists, departed, supporters, .. } = &mut self.workers[number];
        if matches!(event, WorkerEvent::Tick) {
            departed.say_again(turn);
        }
        let (support, now) = (&mut turn.support, turn.now);
        match event {
            WorkerEvent::Tick => {
                while let Some(slot) = self.workers[number].wait_lists.pop_due(now) {
                    self.hand(slot.0 as usize, GroupEvent::Tick);
                }
            }
            WorkerEvent::SupportForChanged(peer, epoch) => {
                wait_lists.support_for_changed(support, peer, epoch);
            }
            WorkerEvent::SupportFromChanged(peer, epoch) => {
                wait_lists.support_from_changed(support, peer, epoch);
                supporters.remove(&peer);
                if epoch.is_some() {
                    supporters.insert(peer, now);
                }
            }
            WorkerEvent::Confirmed(from, answer) => {
                for slot in wait_lists.confirmed(support, from, answer) {
                    self.hand(slot.0 as usize, GroupEvent::Confirmed);
                }
            }
            WorkerEvent::Rebalance => {
                let settling = scene.plan.tuning.election_timeout * 2;
                let settled = supporters.iter().filter(|(_, since)| now.since(**since) >= settling);
                let settled: Vec<NodeId> = settled.map(|(peer, _)| *peer).collect();
                settled.into_iter().for_each(|peer| self.yield_to(number, peer));
            }
            WorkerEvent::Local(place, event) => self.hand(place, event),
            WorkerEvent::Founded => {
                support.founded = true;
                for place in 0..self.cells.len() {
                    if self.cells[place].worker == number {
                        self.hand(place, GroupEvent::Founded);
                    }
                }
            }
            WorkerEvent::Durable(slot, seq) => {
                let place = slot.index.0 as usize;
                let cell = &mut self.cells[place];
                cell.durable = cell.durable.max(seq);
                if cell.wake_conditions.durability {
                    self.wake(place);
                }
            }
            WorkerEvent::Disconnected(node) => {
                for slot in wait_lists.followers_of(hardware.id()).to_vec() {
                    if self.cells[slot.0 as usize].wake_conditions.deadline.is_some() {
                        self.hand(slot.0 as usize, GroupEvent::Disconnected(node));
                    }
                }
            }
        }
    }

    /// A few more replicas learn what concerns them.
    fn wake_concerned(&mut self, number: usize) {
        for _ in 0..CONCERNED_A_TURN {
            let Some(slot) = self.workers[number].wait_lists.pop_concerned() else { break };
            self.hand(slot.0 as usize, GroupEvent::SupportChanged);
        }
    }

    /// Has the replicas that lead here, and should not, hand over to `peer`.
    fn yield_to(&mut self, number: usize, peer: NodeId) {
        for place in 0..self.cells.len() {
            let cell = &self.cells[place];
            let yields = cell.worker == number && cell.preferred() == Some(peer);
            if yields && cell.group.raft().is_caught_up(peer) {
                self.hand(place, GroupEvent::TransferIfCaughtUp(peer));
            }
        }
    }

    /// Hands something to a replica, in a turn of its worker.
    fn hand(&mut self, place: usize, event: GroupEvent) {
        self.cells[place].inbox.push(event);
        self.wake(place);
    }

    fn wake(&mut self, place: usize) {
        let cell = &mut self.cells[place];
        if !std::mem::replace(&mut cell.woken, true) {
            self.workers[cell.worker].woken.push(place);
        }
    }

    /// Has a replica take in one event, and nothing else that could be the reason for what follows.
    fn run_one(&mut self, hardware: &Hardware, place: usize, event: GroupEvent, scene: &mut Scene) {
        let bond = self.standing_bond(place).filter(|bond| keeps_bond(&event, *bond));
        let raft = self.cells[place].group.raft();
        let before = is_late(&event, raft.term()).then(|| Standing::of(raft));
        let (based_on, members) = (based_on(&event), raft.configuration().id());
        self.run(hardware, place, std::iter::once(event), scene);
        if self.cells[place].failed {
            return;
        }
        let lost = bond.is_some() && self.standing_bond(place) != bond;
        assert!(!lost, "{bond:?} ended without a reason");
        if let Some(from) = based_on.filter(|from| *from != members) {
            let after = self.cells[place].group.raft().configuration().id();
            assert_eq!(after, members, "a change was made that was thought of for {from}");
        }
        if let Some(before) = before {
            let after = Standing::of(self.cells[place].group.raft());
            assert_eq!(after, before, "a message of an earlier term changed something");
        }
    }

    fn run(
        &mut self,
        hardware: &Hardware,
        place: usize,
        events: impl Iterator<Item = GroupEvent>,
        scene: &mut Scene,
    ) {
        let cell = &mut self.cells[place];
        let Worker { turn, scratch, wait_lists, has_adopted, .. } = &mut self.workers[cell.worker];
        let number = group_place(cell.id);
        let written = turn.writes.len();
        let asked = turn.queries.len();
        let failures = self.shared.metrics.failed_replicas.get();
        cell.group.run(&mut RunContext { turn, scratch }, cell.durable, events);
        let asked = turn.queries[asked..].iter().map(|it| take_query_id(&mut it.query.clone()));
        cell.journal.lock().answered.extend(asked);
        cell.wake_conditions = cell.group.wake_conditions(&turn.support);
        let voters = cell.group.members().voters();
        wait_lists.update(SlotIndex(place as u32), cell.wake_conditions, voters);
        for (group, last) in self.storage.take_adopted() {
            scene.checks.snapshot_durable(hardware.place, group_place(group), last);
            *has_adopted = true;
        }
        let (kept, synced) = cell.own_disk.take_positions();
        for last in kept.into_iter().chain(synced.iter().copied()) {
            scene.checks.snapshot_received(hardware.place, number, last);
        }
        for last in synced {
            scene.checks.snapshot_durable(hardware.place, number, last);
        }
        // A state on disk may have been made durable in the run that has committed what it holds:
        // the log is cut only when that is known to be committed.
        let writes = turn.writes[written..].iter().map(|(_, persist)| persist);
        let is_reset = writes.clone().any(|it| matches!(it.log, LogWrite::Reset(_)));
        let is_late = |it: &&Persist| matches!(it.log, LogWrite::Compact(_)) && !is_reset;
        for persist in writes.clone().filter(|it| !is_late(it)) {
            scene.checks.writing(hardware.place, number, persist);
        }
        if self.shared.metrics.failed_replicas.get() > failures {
            cell.failed = true;
            failed(hardware, cell, scene);
        }
        if !cell.failed {
            // The log follows when the state machine has taken over a snapshot, now or later.
            let log_is_behind = self.writer.has_failed() || cell.group.is_restoring();
            scene.checks.after_run(hardware.place, number, cell.group.raft(), log_is_behind);
            if scene.plan.elastic {
                scene.members_may_have_changed(number);
            }
        }
        for persist in writes.filter(is_late) {
            scene.checks.writing(hardware.place, number, persist);
        }
        trouble(hardware, cell, scene);
        let mut journal = cell.journal.lock();
        for (place, operation, crc) in journal.applied.drain(..) {
            scene.checks.applied(number, place, operation, crc);
        }
        for event in journal.keys.drain(..) {
            scene.checks.keys_happened(number, event);
        }
    }

    fn flush(&mut self, hardware: &mut Hardware, number: usize, scene: &mut Scene) {
        let Worker { turn, buried, .. } = &mut self.workers[number];
        let buried = std::mem::take(buried);
        for (peer, outgoing) in turn.sends.take() {
            scene.send(hardware.place, peer, outgoing);
        }
        if !turn.writes.is_empty() && hardware.crashes(CrashPoint::Sent) {
            return;
        }
        // But for one of them, who lies.
        let is_lie = |violation: &Violation| match violation {
            Violation::ImplausibleTerm { term, .. } => scene.lie == Some(*term),
            _ => false,
        };
        turn.violations.retain(|(_, _, violation)| !is_lie(violation));
        let violation = turn.violations.first();
        assert_eq!(violation, None, "replicas keep to the protocol");
        let promises = turn.promises.take();
        let writes = std::mem::take(&mut turn.writes);
        let seqs = std::mem::take(&mut turn.seqs);
        let log_reads = std::mem::take(&mut turn.log_reads);
        let snapshots = std::mem::take(&mut turn.snapshots);
        let queries = std::mem::take(&mut turn.queries);
        if !writes.is_empty() || !promises.is_empty() {
            for (group, persist) in &writes {
                scene.checks.submitted(hardware.place, group_place(*group), persist);
            }
            let grants = Vec::new();
            self.writer.submit(Submission {
                grants,
                writes,
                seqs,
                promises,
                buried,
                ..Submission::default()
            });
            self.write(hardware, scene);
        }
        for job in log_reads {
            let takes = scene.random.between(1, scene.plan.sync_us);
            scene.after(takes, hardware.target(), Event::ReadLog(job));
        }
        for job in snapshots {
            self.snapshot_job(hardware, job, scene);
        }
        for job in queries {
            let takes = scene.random.between(1, scene.plan.sync_us);
            let is_slow = scene.stormy && scene.random.per_mille(10);
            scene.after(takes, hardware.target(), Event::Query { job, is_slow });
        }
    }

    /// Puts something into the inbox of a worker.
    pub(super) fn tell(&mut self, number: usize, event: WorkerEvent) {
        self.workers[number].inbox.push_back(event);
    }

    /// Puts something into the inboxes of all workers.
    pub(super) fn tell_all(&mut self, event: impl Fn() -> WorkerEvent) {
        (0..self.workers.len()).for_each(|number| self.tell(number, event()));
    }

    pub(super) fn post(&mut self, place: usize, event: GroupEvent) {
        self.tell(self.cells[place].worker, WorkerEvent::Local(place, event));
    }

    pub(super) fn post_to_group(&mut self, group: GroupId, event: GroupEvent) {
        if let Some(place) = self.by_group.get(&group) {
            self.post(*place, event);
        }
    }

    /// Tells workers of the deadlines that have come, and of leaderships that are others' by right.
    pub(super) fn tick_workers(&mut self, hardware: &Hardware, now: Time, scene: &Scene) {
        let own = hardware.id();
        for number in 0..self.workers.len() {
            if self.workers[number].next_deadline(scene).is_some_and(|deadline| deadline <= now) {
                self.tell(number, WorkerEvent::Tick);
            }
            let is_misplaced = |cell: &ReplicaCell| {
                cell.worker == number && cell.preferred() != Some(own) && cell.leads_in().is_some()
            };
            if self.cells.iter().any(is_misplaced) {
                self.tell(number, WorkerEvent::Rebalance);
            }
        }
    }

    /// Has a worker stand still until this moment, as in a long call of a state machine.
    pub(super) fn occupy(&mut self, number: usize, until: u64) {
        self.workers[number].busy_until = until;
    }

    /// Ends all long calls.
    pub(super) fn free_workers(&mut self, hardware: &Hardware, scene: &mut Scene) {
        for worker in &mut self.workers {
            (worker.busy_until, worker.turn_scheduled) = (0, false);
        }
        self.schedule_turns(hardware, scene);
    }

    /// Lets each worker that has something to do take its turn soon, together with what comes
    /// meanwhile. At times that takes longer, since its thread has to wait.
    pub(super) fn schedule_turns(&mut self, hardware: &Hardware, scene: &mut Scene) {
        for (number, worker) in self.workers.iter_mut().enumerate() {
            if worker.has_work() && !std::mem::replace(&mut worker.turn_scheduled, true) {
                let is_late = scene.random.per_mille(30);
                let most = if is_late { scene.plan.worker_lag_us } else { 50 };
                let soon = scene.random.between(1, most);
                let at = (scene.now + soon).max(worker.busy_until);
                scene.after(at - scene.now, hardware.target(), Event::Turn(number));
            }
        }
    }

    /// A worker that nothing holds up may be so fast that it takes its turn at once.
    pub(super) fn hurry(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        for number in 0..self.workers.len() {
            if self.workers[number].busy_until <= scene.now && scene.random.per_mille(100) {
                self.turn(hardware, number, scene);
            }
        }
    }
}

/// A replica has stopped, which it must not do without a reason. Its node is started again later.
fn failed(hardware: &Hardware, cell: &ReplicaCell, scene: &mut Scene) {
    if hardware.snapshots.is_cut() {
        return;
    }
    let broken = cell.journal.lock().breaks.is_some();
    let reason = cell.failure();
    let is_damaged = scene.elastic.damaged.contains_key(&(hardware.place, cell.id));
    assert!(
        hardware.damaged || broken || is_damaged,
        "a replica of group {} stopped: {reason:?}",
        cell.id
    );
    scene.checks.failed(hardware.place, group_place(cell.id), cell.group.raft());
    if broken {
        scene.count(Fault::ReplicaFailure);
        let later = scene.random.between(1_000, 10_000_000);
        scene.after(later, hardware.target(), Event::Crash);
    }
}

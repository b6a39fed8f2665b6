//! What a simulated process does as the manager of its node's liveness: it acts on messages and
//! time at once, and tells the workers, which may be late.

use super::cells::ReplicaCell;
use super::host::{FOUNDED_MS, HOUR_MS, Hardware};
use super::options::Fault;
use super::process::Process;
use super::scene::Scene;
use super::wal::Submission;
use super::worker::{Worker, WorkerEvent};
use logboat::internals::{Effect, Grants, GroupEvent, Liveness, Sends, Surroundings, carry_out};
use logboat_raft::{
    BootCount, ClockReading, Confirmation, Epoch, Fortification, Grant, Lease, NodeId, Payload,
    ReplicaAddress, SupportMessage, SupportSettings, Time,
};
use logboat_storage::BootRecord;
use logboat_transport::Outgoing;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the simulated clocks lose when they are read.
const CLOCK_ERROR: Duration = Duration::from_micros(50);

/// The liveness of a node that starts.
pub(super) fn start_liveness(
    hardware: &Hardware,
    grants: &BTreeMap<NodeId, Grant>,
    stranger: Option<NodeId>,
    scene: &Scene,
) -> Liveness {
    let members = (1..=scene.plan.nodes as u64).map(NodeId);
    let members = members.filter(|node| Some(*node) != stranger);
    let now = hardware.time(scene.now);
    let BootRecord { count, founded, .. } = hardware.boot;
    let timing = scene.plan.timing_of(hardware.place);
    Liveness::new(hardware.id(), members, count, founded, grants, timing, now)
        .with_wall_clock(hardware.wall_clock(scene), now)
}

impl Process {
    /// Looks at the clock.
    pub(super) fn tick(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        let now = hardware.time(scene.now);
        let mut effects = Vec::new();
        let log_end = self.storage.wal.lock().log().durable_end();
        self.liveness.tick(now, log_end, &mut effects);
        self.carry_out(hardware, effects, scene);
        self.tick_workers(hardware, now, scene);
        self.schedule_turns(hardware, scene);
        self.nobody_sleeps_in();
        let deadlines = self.workers.iter().filter_map(|worker| worker.next_deadline(scene));
        let soonest = deadlines.fold(self.liveness.next_deadline(), Time::min);
        hardware.tick_later(soonest, scene);
    }

    /// Each replica that has a deadline is listed with one: otherwise nothing would wake it.
    fn nobody_sleeps_in(&self) {
        // Others are woken yet.
        let is_checked =
            |cell: &&ReplicaCell| !cell.woken && self.workers[cell.worker].is_up_to_date();
        for cell in self.cells.iter().filter(is_checked) {
            let support = &self.workers[cell.worker].turn.support;
            let deadline = cell.group.wake_conditions(support).deadline;
            assert!(
                deadline.is_none() || cell.wake_conditions.deadline.is_some(),
                "a replica of group {} sleeps though it has something to wait for",
                cell.id
            );
        }
    }

    /// What a replica is bound to, if its node supports that.
    pub(super) fn standing_bond(&self, place: usize) -> Option<Fortification> {
        let cell = &self.cells[place];
        let bond = cell.group.raft().fortified()?;
        let given = self.workers[cell.worker].turn.support.of(bond.leader).support_for;
        (given == Some(bond.epoch)).then_some(bond)
    }

    /// Takes a peer's word on liveness.
    pub(super) fn heard(
        &mut self,
        hardware: &mut Hardware,
        from: NodeId,
        message: SupportMessage,
        scene: &mut Scene,
    ) {
        scene.checks.supports((from, hardware.id()), &message);
        if let SupportMessage::Confirmed { boot, worker, round, epoch } = message {
            // A peer may answer for a worker that this node has not.
            if boot == self.liveness.boot() && (worker as usize) < self.workers.len() {
                let answer = Confirmation { round, epoch };
                self.tell(worker as usize, WorkerEvent::Confirmed(from, answer));
            }
            return;
        }
        let is_request = matches!(message, SupportMessage::Request { .. });
        if is_request && self.unsupported.get(&from).is_some_and(|until| *until > scene.now) {
            return;
        }
        let now = hardware.time(scene.now);
        let mut effects = Vec::new();
        self.liveness.receive(from, message, now, &mut effects);
        self.carry_out(hardware, effects, scene);
    }

    /// Takes a peer's process for one that has ended, and hears none of its requests for a while.
    pub(super) fn withdraw(
        &mut self,
        hardware: &mut Hardware,
        peer: NodeId,
        lasts: u64,
        scene: &mut Scene,
    ) {
        self.unsupported.insert(peer, scene.now + lasts);
        let mut effects = Vec::new();
        let now = hardware.time(scene.now);
        self.liveness.peer_ended(peer, now, &mut effects);
        self.carry_out(hardware, effects, scene);
    }

    /// Takes a peer out of those that the node knows, with all that was promised to it.
    pub(super) fn forget_peer(&mut self, hardware: &mut Hardware, peer: NodeId, scene: &mut Scene) {
        self.stranger = Some(peer);
        let mut effects = Vec::new();
        self.liveness.remove_peer(peer, &mut effects);
        self.carry_out(hardware, effects, scene);
        self.leases.remove(&peer);
    }

    /// A node that starts may find that a peer has ended, since its address refuses connections, or
    /// so it seems. What was promised to that peer before may stand.
    pub(super) fn miss_a_peer(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        let is_fault = scene.stormy && scene.options.faults.contains(&Fault::Withdraw);
        if !is_fault || !scene.random.per_mille(300) {
            return;
        }
        let peer = NodeId(scene.random.between(1, scene.plan.nodes as u64));
        if peer != hardware.id() {
            scene.count(Fault::Withdraw);
            let timeout = scene.plan.election_us();
            self.withdraw(hardware, peer, scene.random.between(1_000, timeout), scene);
        }
    }

    /// Support may end at any moment: at times it does when a vote is asked for that the bond of a
    /// replica forbids, and that the replica has not looked at.
    pub(super) fn withdraw_for_a_vote(
        &mut self,
        hardware: &mut Hardware,
        place: usize,
        scene: &mut Scene,
    ) {
        let is_fault = scene.stormy && scene.options.faults.contains(&Fault::Withdraw);
        if !is_fault || !scene.random.per_mille(300) {
            return;
        }
        if let Some(bond) = self.standing_bond(place) {
            scene.count(Fault::Withdraw);
            let timeout = scene.plan.election_us();
            let lasts = scene.random.between(1_000, timeout);
            self.withdraw(hardware, bond.leader, lasts, scene);
        }
    }

    /// Asks each peer on which reads of a worker wait, for all of them.
    pub(super) fn ask_for_confirmation(&mut self, number: usize, scene: &Scene) {
        let Worker { turn, wait_lists, .. } = &mut self.workers[number];
        let (now, patience) = (turn.now, scene.plan.tick);
        let Some(round) = wait_lists.open_round(&mut turn.support, now, patience) else {
            return;
        };
        let (boot, worker) = (self.liveness.boot(), number as u32);
        for peer in self.liveness.peers().filter(|peer| wait_lists.asks(*peer)) {
            let question = SupportMessage::Confirm { boot, worker, round };
            turn.sends.to(peer).push_support(&question);
        }
    }

    fn carry_out(&mut self, hardware: &mut Hardware, effects: Vec<Effect>, scene: &mut Scene) {
        let mut carrier = Carrier { process: self, hardware, scene };
        for (to, message) in carry_out(effects, &mut carrier) {
            self.note_promise(hardware, to, &message, scene);
            scene.send(hardware.place, to, word(&message));
        }
        self.schedule_turns(hardware, scene);
    }

    /// This node promises a peer to support it for a time, if `message` says so.
    fn note_promise(
        &mut self,
        hardware: &Hardware,
        peer: NodeId,
        message: &SupportMessage,
        scene: &Scene,
    ) {
        if let SupportMessage::Granted { epoch, lease, .. } = *message
            && !lease.is_zero()
        {
            let until = hardware.time(scene.now) + lease;
            self.supports_until.insert(peer, (epoch, until));
        }
    }

    /// Sets the clock that stores of keys go by.
    pub(super) fn show_time(&self, hardware: &Hardware, scene: &Scene) {
        let now = hardware.time(scene.now);
        hardware.unix_clock.set_apart(self.liveness.clock(now).unix_ms, now.0 / 1_000);
    }

    /// Checks that no clock is ahead on which this node has settled. One wall clock is wrong, and
    /// does not count beside another; that clocks jump and run apart makes much less than an hour.
    pub(super) fn check_clock(&self, hardware: &Hardware, scene: &Scene) {
        let ClockReading { unix_ms, is_settled } = self.liveness.clock(hardware.time(scene.now));
        let right = FOUNDED_MS + scene.now / 1_000;
        assert!(
            !is_settled || scene.plan.nodes == 1 || unix_ms < right + HOUR_MS / 2,
            "{} has settled on a clock that is {} ms ahead",
            hardware.id(),
            unix_ms - right
        );
    }

    /// Checks the lease that this node counts on, against the clock of the `supporter` that gave
    /// it: even if that clock runs faster from now on, by as much as is allowed for, the support
    /// lasts longer than the lease.
    pub(super) fn check_lease(
        &self,
        hardware: &Hardware,
        (supporter, its): (&Self, &Hardware),
        scene: &Scene,
    ) {
        let Some(Lease { epoch, until }) = self.leases.get(&its.id()).copied() else { return };
        let left = until.since(hardware.time(scene.now));
        if left.is_zero() {
            return;
        }
        let promised = supporter.supports_until.get(&hardware.id());
        let promised = promised.filter(|promised| promised.0 == epoch).map(|promised| promised.1);
        let lasts = promised.map_or(Duration::ZERO, |end| end.since(its.time(scene.now)));
        let pace = 1.0 / (1.0 - scene.plan.timing_of(its.place).max_clock_drift);
        assert!(
            left.mul_f64(pace) <= lasts + CLOCK_ERROR,
            "{} counts on {} for {left:?}, which may withdraw in {lasts:?}",
            hardware.id(),
            its.id()
        );
    }
}

/// Carries the effects of a node's liveness to its log and its workers.
struct Carrier<'a> {
    process: &'a mut Process,
    hardware: &'a mut Hardware,
    scene: &'a mut Scene,
}

impl Surroundings for Carrier<'_> {
    fn submit(&mut self, grants: Grants, sends: Sends) {
        let Self { process, hardware, scene } = self;
        for (to, message) in &sends {
            process.note_promise(hardware, *to, message, scene);
        }
        let promises = sends.iter().map(|(to, message)| (*to, word(message))).collect();
        // What peers have said is written with the next heartbeat.
        let is_heartbeat = grants.iter().any(|(node, _)| *node == hardware.id());
        let liveness = &process.liveness;
        let told = liveness.peers().filter(|_| is_heartbeat && !hardware.stands_in());
        let peers_ends = told.map(|peer| (peer, liveness.log_end(peer))).collect();
        let submission = Submission { grants, promises, peers_ends, ..Submission::default() };
        process.writer.submit(submission);
        process.write(hardware, scene);
    }

    /// A worker may hear of it, and act on it, before the liveness goes on.
    fn support_for_changed(&mut self, peer: NodeId, epoch: Option<Epoch>) {
        let Self { process, hardware, scene } = self;
        if epoch.is_none() {
            process.supports_until.remove(&peer);
        }
        process.tell_all(|| WorkerEvent::SupportForChanged(peer, epoch));
        process.hurry(hardware, scene);
    }

    fn support_from_changed(&mut self, peer: NodeId, epoch: Option<Epoch>) {
        let Self { process, hardware, scene } = self;
        process.tell_all(|| WorkerEvent::SupportFromChanged(peer, epoch));
        process.hurry(hardware, scene);
    }

    fn lease(&mut self, peer: NodeId, lease: Lease) {
        self.process.leases.insert(peer, lease);
    }

    fn settings_differ(&mut self, peer: NodeId, settings: SupportSettings) {
        let plan = &self.scene.plan;
        let timing = plan.timing_of(peer.0 as usize - 1);
        assert_eq!(settings.timeout, timing.support_timeout, "of node {peer}");
        assert!(plan.settings_differ(), "node {peer} has no other settings");
    }

    fn implausible(&mut self, peer: NodeId, boot: BootCount) {
        panic!("node {peer} has not started {boot} times");
    }
}

/// Whether a bond that stands must outlast this event: nobody who led in its term has given up by
/// it, and it shows no leader of that term or a later one.
pub(super) fn keeps_bond(event: &GroupEvent, bond: Fortification) -> bool {
    let GroupEvent::Message { from, message } = event else {
        return false;
    };
    let sender = ReplicaAddress::new(*from, message.from);
    let (is_later, is_leader) = (message.term > bond.term, sender == bond.address());
    match message.payload {
        Payload::PreVoteReply { .. }
        | Payload::VoteReply { .. }
        | Payload::Appended { .. }
        | Payload::Rejected { .. }
        | Payload::Fortified { .. }
        | Payload::ReadIndex { .. }
        | Payload::ReadIndexReply { .. }
        | Payload::Resigned { .. }
        | Payload::Gone { .. }
        | Payload::Left => true,
        Payload::PreVote { .. } | Payload::Vote { transfer: false, .. } => !(is_leader && is_later),
        Payload::Vote { transfer: true, .. } => !is_later,
        Payload::Resign { term, .. } => !is_leader || term < bond.term,
        Payload::AppendEntries { .. }
        | Payload::Fortify { .. }
        | Payload::Snapshot { .. }
        | Payload::TimeoutNow => message.term < bond.term,
    }
}

fn word(message: &SupportMessage) -> Outgoing {
    let mut outgoing = Outgoing::new();
    outgoing.push_support(message);
    outgoing
}

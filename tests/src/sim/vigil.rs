//! What a simulated process does as the keeper of its node's liveness, and with what its replicas
//! wait for: deadlines, changes of support, rounds of confirmations.

use super::host::Hardware;
use super::process::Process;
use super::scene::Scene;
use super::wal::Submission;
use logboat::internals::{Effect, GroupEvent, Liveness};
use logboat_raft::{
    Confirmation, Fortification, Grant, Lease, NodeId, Payload, SupportMessage, Time,
};
use logboat_storage::BootRecord;
use logboat_transport::Outgoing;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many replicas learn of a change of support in one turn, so that the others are late.
const CONCERNED_A_TURN: usize = 3;

/// What the simulated clocks lose when they are read.
const CLOCK_ERROR: Duration = Duration::from_micros(50);

/// The liveness of a node that starts.
pub(super) fn start_liveness(
    hardware: &Hardware,
    grants: &BTreeMap<NodeId, Grant>,
    scene: &Scene,
) -> Liveness {
    let members = (1..=scene.plan.nodes as u64).map(NodeId);
    let now = hardware.time(scene.now);
    let BootRecord { count, founded, .. } = hardware.boot;
    let timing = scene.plan.timing_of(hardware.place);
    Liveness::new(hardware.id(), members, count, founded, grants, timing, now)
}

impl Process {
    /// Looks at the clock.
    pub(super) fn tick(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        let now = hardware.time(scene.now);
        let mut effects = Vec::new();
        let log_end = self.storage.wal.lock().log().durable_end();
        self.liveness.tick(now, log_end, &mut effects);
        self.carry_out(hardware, effects, scene);
        while let Some(slot) = self.wait_lists.pop_due(now) {
            self.post(slot.0 as usize, GroupEvent::Tick);
        }
        for (peer, since) in self.supporters.clone() {
            if now.since(since) >= scene.plan.tuning.election_timeout * 2 {
                self.yield_to(peer);
            }
        }
        self.schedule_turn(hardware, scene);
        self.nobody_sleeps_in();
        let deadlines = [self.wait_lists.next_deadline(), self.round_deadline(scene)];
        let soonest = deadlines.into_iter().flatten().min();
        let soonest = soonest.unwrap_or(self.liveness.next_deadline());
        hardware.tick_later(soonest.min(self.liveness.next_deadline()), scene);
    }

    /// Each replica that has a deadline is listed with one: otherwise nothing would wake it.
    fn nobody_sleeps_in(&self) {
        if self.wait_lists.has_concerned() {
            return; // Those are woken yet.
        }
        for cell in self.cells.iter().filter(|cell| !cell.woken) {
            let deadline = cell.group.wake_conditions(&self.turn.support).deadline;
            assert!(
                deadline.is_none() || cell.wake_conditions.deadline.is_some(),
                "a replica of group {} sleeps though it has something to wait for",
                cell.id
            );
        }
    }

    /// What a replica is bound to, if its node supports that.
    pub(super) fn standing_bond(&self, place: usize) -> Option<Fortification> {
        let bond = self.cells[place].group.raft().fortified()?;
        let given = self.turn.support.of(bond.leader).support_for;
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
        if let SupportMessage::Confirmed { boot, worker: _, round, epoch } = message {
            if boot == self.liveness.boot() {
                let (support, peers) = (&mut self.turn.support, scene.plan.nodes - 1);
                for slot in
                    self.wait_lists.confirmed(support, from, Confirmation { round, epoch }, peers)
                {
                    self.post(slot.0 as usize, GroupEvent::Confirmed);
                }
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

    /// A few more replicas learn what concerns them.
    pub(super) fn wake_concerned(&mut self) {
        for _ in 0..CONCERNED_A_TURN {
            let Some(slot) = self.wait_lists.pop_concerned() else { break };
            self.post(slot.0 as usize, GroupEvent::SupportChanged);
        }
    }

    /// Asks all peers for the reads that wait for a round.
    pub(super) fn ask_for_confirmation(&mut self, scene: &Scene) {
        let patience = patience(scene);
        let (support, now) = (&mut self.turn.support, self.turn.now);
        let Some(round) = self.wait_lists.open_round(support, now, patience) else {
            return;
        };
        let (boot, worker) = (self.liveness.boot(), 0);
        for peer in self.liveness.peers() {
            let question = SupportMessage::Confirm { boot, worker, round };
            self.turn.sends.to(peer).push_support(&question);
        }
    }

    fn round_deadline(&self, scene: &Scene) -> Option<Time> {
        self.wait_lists.round_deadline(patience(scene))
    }

    /// Has the replicas that lead here, and should not, hand over to `peer`.
    fn yield_to(&mut self, peer: NodeId) {
        for place in 0..self.cells.len() {
            let cell = &self.cells[place];
            if cell.preferred == peer && cell.group.raft().is_caught_up(peer) {
                self.post(place, GroupEvent::TransferIfCaughtUp(peer));
            }
        }
    }

    fn carry_out(&mut self, hardware: &mut Hardware, effects: Vec<Effect>, scene: &mut Scene) {
        let mut submission = Submission::default();
        for effect in effects {
            match effect {
                Effect::Persist(node, grant) => submission.grants.push((node, grant)),
                Effect::Send(to, message) => {
                    self.note_promise(hardware, to, &message, scene);
                    scene.send(hardware.place, to, word(&message));
                }
                Effect::SendWhenDurable(to, message) => {
                    self.note_promise(hardware, to, &message, scene);
                    submission.promises.push((to, word(&message)));
                }
                Effect::SupportForChanged(peer, epoch) => {
                    if epoch.is_none() {
                        self.supports_until.remove(&peer);
                    }
                    self.submit(hardware, &mut submission, scene);
                    self.wait_lists.support_for_changed(&mut self.turn.support, peer, epoch);
                }
                Effect::SupportFromChanged(peer, epoch) => {
                    self.wait_lists.support_from_changed(&mut self.turn.support, peer, epoch);
                    self.supporters.remove(&peer);
                    if epoch.is_some() {
                        self.supporters.insert(peer, hardware.time(scene.now));
                    }
                }
                Effect::Lease(peer, lease) => {
                    self.turn.support.of_mut(peer).lease = lease;
                }
                Effect::SettingsDiffer(peer, settings) => {
                    let plan = &scene.plan;
                    let timing = plan.timing_of(peer.0 as usize - 1);
                    assert_eq!(settings.timeout, timing.support_timeout, "of node {peer}");
                    assert!(plan.settings_differ(), "node {peer} has no other settings");
                }
                Effect::Implausible(peer, boot) => {
                    panic!("node {peer} has not started {boot} times");
                }
            }
        }
        self.submit(hardware, &mut submission, scene);
        self.schedule_turn(hardware, scene);
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

    /// Checks the lease that this node counts on, against the clock of the `supporter` that gave
    /// it: even if that clock runs faster from now on, by as much as is allowed for, the support
    /// lasts longer than the lease.
    pub(super) fn check_lease(
        &self,
        hardware: &Hardware,
        (supporter, its): (&Self, &Hardware),
        scene: &Scene,
    ) {
        let Lease { epoch, until } = self.turn.support.of(its.id()).lease;
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

    fn submit(&mut self, hardware: &mut Hardware, submission: &mut Submission, scene: &mut Scene) {
        if !submission.grants.is_empty() || !submission.promises.is_empty() {
            self.writer.submit(std::mem::take(submission));
            self.write(hardware, scene);
        }
    }
}

/// Whether a bond that stands must outlast this event: nobody who led in its term has given up by
/// it, and it shows no leader of that term or a later one.
pub(super) fn keeps_bond(event: &GroupEvent, bond: Fortification) -> bool {
    let GroupEvent::Message { from, message } = event else {
        return false;
    };
    let (is_later, is_leader) = (message.term > bond.term, *from == bond.leader);
    match message.payload {
        Payload::PreVoteReply { .. }
        | Payload::VoteReply { .. }
        | Payload::Appended { .. }
        | Payload::Rejected { .. }
        | Payload::Fortified { .. }
        | Payload::ReadIndex { .. }
        | Payload::ReadIndexReply { .. } => true,
        Payload::PreVote { .. } | Payload::Vote { transfer: false, .. } => !(is_leader && is_later),
        Payload::Vote { transfer: true, .. } => !is_later,
        Payload::Resign { .. } => !is_leader || message.term < bond.term,
        Payload::AppendEntries { .. }
        | Payload::Fortify { .. }
        | Payload::Snapshot { .. }
        | Payload::TimeoutNow => message.term < bond.term,
    }
}

fn patience(scene: &Scene) -> Duration {
    scene.plan.tick
}

fn word(message: &SupportMessage) -> Outgoing {
    let mut outgoing = Outgoing::new();
    outgoing.push_support(message);
    outgoing
}

//! A worker of a simulated node: the engine's own wait lists, and its turns in virtual time.

use super::cost::{BURST, CONCERNED_A_TURN};
use super::replica::{Input, Message, Produced, Replica, ReplicaId, View};
use super::voters::Voters;
use crate::random::SplitMix64;
use logboat::Tuning;
use logboat::internals::{SlotIndex, WaitLists, WakeConditions};
use logboat_raft::{Epoch, NodeId, Support, Time};

/// All groups, wherever their replicas are.
pub(super) struct Groups {
    pub(super) voters: Vec<Voters>,
    /// By [`ReplicaId`], as are the slots.
    pub(super) replicas: Vec<Replica>,
    pub(super) slots: Vec<SlotIndex>,
}

/// What a worker has to take in.
pub(super) enum Event {
    /// A deadline has come.
    Tick,
    /// The node supports the peer at this epoch, or no longer.
    SupportFor(NodeId, Option<Epoch>),
    /// The peer supports the node at this epoch, or no longer.
    SupportFrom(NodeId, Option<Epoch>),
    /// Messages from replicas elsewhere.
    Messages(Vec<Message>),
    /// What a replica wrote is durable, which it waited for.
    Synced(ReplicaId),
}

/// One of the workers of a node.
pub(super) struct Worker {
    pub(super) support: Support,
    pub(super) wait_lists: WaitLists,
    /// The replica in each slot of the wait lists.
    replicas: Vec<ReplicaId>,
    pub(super) inbox: Vec<Event>,
    /// Whether a turn is going on, or about to.
    pub(super) busy: bool,
    /// When the clock is to wake it.
    pub(super) alarm: Option<Time>,
}

impl Worker {
    /// A worker of node `own`, without replicas.
    pub(super) fn new(own: NodeId) -> Self {
        Self {
            support: Support::default(),
            wait_lists: WaitLists::new(own),
            replicas: Vec::new(),
            inbox: Vec::new(),
            busy: false,
            alarm: None,
        }
    }

    /// Gives a replica the next slot.
    pub(super) fn add(&mut self, id: ReplicaId, groups: &Groups) -> SlotIndex {
        let slot = SlotIndex(u32::try_from(self.replicas.len()).expect("fewer than 2^32 replicas"));
        self.replicas.push(id);
        self.wait_lists.add();
        self.list(slot, groups);
        slot
    }

    /// Takes in what there is and runs the replicas that it concerns, each once. Returns what they
    /// produced in each burst, with the number of runs.
    pub(super) fn turn(
        &mut self,
        now: Time,
        groups: &mut Groups,
        tuning: &Tuning,
        random: &mut SplitMix64,
    ) -> Vec<(usize, Produced)> {
        let mut inputs = self.take_in(now, groups);
        inputs.sort_by_key(|(slot, _)| *slot);
        let runs: Vec<_> = inputs.chunk_by(|a, b| a.0 == b.0).collect();
        let mut bursts = Vec::new();
        for burst in runs.chunks(BURST) {
            let mut produced = Produced::default();
            for run in burst {
                let slot = run[0].0;
                let id = self.replicas[slot.0 as usize];
                let voters = groups.voters[id.group()];
                let support = &self.support;
                let mut view = View { now, id, voters, support, tuning, random: &mut *random };
                for (_, input) in *run {
                    groups.replicas[id.index()].step(&mut view, *input, &mut produced);
                }
                self.list(slot, groups);
            }
            bursts.push((burst.len(), produced));
        }
        bursts
    }

    /// The replicas here.
    pub(super) fn replicas(&self) -> &[ReplicaId] {
        &self.replicas
    }

    /// Whether there is something to do without another event.
    pub(super) fn has_more(&self) -> bool {
        !self.inbox.is_empty() || self.wait_lists.has_concerned()
    }

    fn take_in(&mut self, now: Time, groups: &Groups) -> Vec<(SlotIndex, Input)> {
        let mut inputs = Vec::new();
        for event in std::mem::take(&mut self.inbox) {
            match event {
                Event::Tick => {
                    let due = std::iter::from_fn(|| self.wait_lists.pop_due(now));
                    inputs.extend(due.map(|slot| (slot, Input::Tick)));
                }
                Event::SupportFor(peer, epoch) => {
                    self.wait_lists.support_for_changed(&mut self.support, peer, epoch)
                }
                Event::SupportFrom(peer, epoch) => {
                    self.wait_lists.support_from_changed(&mut self.support, peer, epoch);
                }
                Event::Messages(messages) => inputs.extend(
                    messages
                        .into_iter()
                        .map(|message| (groups.slots[message.to.index()], Input::Receive(message))),
                ),
                Event::Synced(id) => inputs.push((groups.slots[id.index()], Input::Synced)),
            }
        }
        let concerned = std::iter::from_fn(|| self.wait_lists.pop_concerned());
        inputs.extend(concerned.take(CONCERNED_A_TURN).map(|slot| (slot, Input::SupportChanged)));
        inputs
    }

    /// Lists a replica by what it waits for now.
    fn list(&mut self, slot: SlotIndex, groups: &Groups) {
        let id = self.replicas[slot.0 as usize];
        let (voters, replica) = (groups.voters[id.group()], &groups.replicas[id.index()]);
        let wake_conditions = WakeConditions {
            durability: false, // The log knows who waits for it.
            deadline: replica.deadline(voters, &self.support),
            awaited_round: None,
            leader: replica.leader(id.place()).map(|place| voters.node(place)),
            speaks: false,
        };
        self.wait_lists.update(slot, wake_conditions, []);
    }
}

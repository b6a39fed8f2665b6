//! What nodes do for each other, whatever groups they have: support, rounds of confirmation, and
//! writing to the disk.

use crate::ids::{BootCount, Epoch, NodeId, Round};
use crate::mistake::Mistake;
use crate::model::Liveness;
use crate::network::Message;
use crate::state::{Grant, Node, Role, State};

impl<const N: usize> Liveness<N> {
    /// A request for support reaches `supporter`, which `requester` has made in `boot`. A request
    /// of an earlier boot than the one supported is ignored.
    pub(crate) fn support(
        &self,
        state: &mut State<N>,
        supporter: NodeId,
        requester: NodeId,
        boot: BootCount,
    ) {
        let grant = &mut state.nodes[supporter].memory.grants[requester];
        if boot < grant.boot || grant.live && boot == grant.boot {
            return;
        }
        grant.end();
        if !(self.has(Mistake::EpochUsedAgain) && grant.ended > Epoch(0)) {
            grant.epoch = Epoch(grant.epoch.0 + 1);
        }
        grant.boot = boot;
        grant.live = true;
    }

    /// A node crashes and starts again in its next boot, with what is on its disk.
    pub(crate) fn restart(&self, state: &mut State<N>, node: NodeId) {
        let node = &mut state.nodes[node];
        let mut stored = *node.durable();
        if self.has(Mistake::SupportForgotten) {
            for grant in stored.grants.iter_mut() {
                grant.end();
                *grant = Grant { ended: grant.ended, ..Grant::default() };
            }
        }
        if self.has(Mistake::BondForgotten) {
            stored.bond = None;
        }
        if self.has(Mistake::VoteForgotten) {
            stored.vote = None;
        }
        let presents = stored.bond.is_some() && self.presents();
        *node = Node {
            boot: BootCount(node.boot.0 + 1),
            role: if presents { Role::Restored } else { Role::Follower },
            memory: stored,
            ..Node::default()
        };
    }

    /// A node asks its peers whether they support it; a read of its replica, if it leads and may
    /// read, waits for the answers.
    pub(crate) fn start_round(&self, state: &mut State<N>, node: NodeId) {
        let asking = &mut state.nodes[node];
        asking.round = Round(asking.round.0 + 1);
        let (boot, round) = (asking.boot, asking.round);
        if self.may_read(state, node) {
            Self::begin_read(state, node, round);
        }
        state.network.send(Message::Confirm { from: node, boot, round });
    }

    /// A node is asked by another whether it supports it. It knows nothing of what that is for.
    pub(crate) fn confirm(
        state: &mut State<N>,
        node: NodeId,
        asking: NodeId,
        boot: BootCount,
        round: Round,
    ) {
        let supporter = &state.nodes[node];
        let grant = supporter.memory.grants[asking];
        let durable = supporter.durable().grants[asking];
        if grant.live && grant.boot == boot && grant.epoch <= durable.epoch {
            let epoch = grant.epoch;
            state.network.send(Message::Confirmed { from: node, to: asking, boot, round, epoch });
        }
    }

    /// Sends a message when all that its sender has done up to now is durable. For a request for a
    /// pre-vote, the term is enough.
    pub(crate) fn promise(&self, state: &mut State<N>, node: NodeId, message: Message) {
        let sender = &mut state.nodes[node];
        let rests_on_nothing = match message {
            Message::PreVote { .. } => {
                sender.durable().term == sender.memory.term || self.has(Mistake::PreVoteBeforeSync)
            }
            Message::Vote { .. } => self.has(Mistake::VoteBeforeSync),
            Message::Fortified { .. } => self.has(Mistake::FortifiedBeforeSync),
            Message::Appended { .. } => self.has(Mistake::AppendedBeforeSync),
            _ => false,
        };
        let way = if rests_on_nothing { &mut state.network } else { &mut sender.outbox };
        way.send(message);
    }

    /// What waited for a node's disk leaves.
    pub(crate) fn deliver(state: &mut State<N>, id: NodeId) {
        for message in state.nodes[id].outbox.drain() {
            state.network.send(message);
        }
    }

    /// All that a node has done up to now becomes durable.
    pub(crate) fn sync(&self, state: &mut State<N>, id: NodeId) {
        Self::deliver(state, id);
        let node = &mut state.nodes[id];
        let old = node.disk.take();
        if let Some(mut old) = old.filter(|_| self.has(Mistake::WithdrawalNotWritten)) {
            let grants = std::mem::replace(&mut old, node.memory).grants;
            for (new, grant) in old.grants.iter_mut().zip(grants.iter()) {
                new.live |= grant.live && grant.epoch == new.epoch;
            }
            node.disk = (old != node.memory).then_some(old);
        }
    }

    /// What follows a step from `last`: what has changed is written, and becomes durable at once
    /// or later.
    pub(crate) fn settle(&self, last: &State<N>, state: &mut State<N>) {
        let may_crash = self.restarts_left(state);
        for id in State::<N>::ids() {
            let (before, node) = (&last.nodes[id], &mut state.nodes[id]);
            if node.boot != before.boot {
                continue;
            }
            let changed = node.memory != before.memory;
            if changed && node.disk.is_none() {
                node.disk = Some(*before.durable());
            }
            let ahead = node.disk.is_some();
            let elected = node.role.leads() && !before.role.leads();
            let late = self.syncs_late() || elected || !changed;
            if !(ahead && late && may_crash) {
                self.sync(state, id);
            }
        }
    }
}

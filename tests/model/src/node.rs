//! What nodes do for each other, whatever groups they have: support, and rounds of confirmation.

use crate::model::{Liveness, Mistake};
use crate::network::Message;
use crate::state::{Grant, Role, State};
use logboat_raft::{BootCount, Epoch, NodeId};

impl Liveness {
    /// A request for support reaches `supporter`, which `requester` has made in `run`. A request of
    /// an earlier run than the one supported is ignored.
    pub(crate) fn support(
        &self,
        state: &mut State,
        supporter: NodeId,
        requester: NodeId,
        run: BootCount,
    ) {
        let grant = &mut state.nodes[supporter].grants[requester];
        if run < grant.run || grant.live && run == grant.run {
            return;
        }
        grant.end();
        if !(self.has(Mistake::EpochUsedAgain) && grant.ended > Epoch(0)) {
            grant.epoch = Epoch(grant.epoch.0 + 1);
        }
        grant.run = run;
        grant.live = true;
    }

    /// A node crashes and starts again: it keeps what is durable, under its next run.
    pub(crate) fn restart(&self, state: &mut State, node: NodeId) {
        let node = &mut state.nodes[node];
        node.run = BootCount(node.run.0 + 1);
        node.round = 0;
        node.replica.role = Role::Follower;
        if self.has(Mistake::SupportForgotten) {
            for grant in node.grants.iter_mut() {
                grant.end();
                *grant = Grant { ended: grant.ended, ..Grant::default() };
            }
        }
        if self.has(Mistake::BondForgotten) {
            node.replica.bond = None;
        }
        if self.has(Mistake::VoteForgotten) {
            node.replica.vote = None;
        }
    }

    /// A node asks its peers whether they support it; a read of its replica, if it leads and may
    /// read, waits for the answers.
    pub(crate) fn start_round(&self, state: &mut State, node: NodeId) {
        let asking = &mut state.nodes[node];
        asking.round += 1;
        let (run, round) = (asking.run, asking.round);
        if self.may_read(state, node) {
            Self::begin_read(state, node, round);
        }
        state.network.send(Message::Confirm { from: node, run, round });
    }

    /// A node is asked by another whether it supports it. It knows nothing of what that is for.
    pub(crate) fn confirm(
        state: &mut State,
        node: NodeId,
        asking: NodeId,
        run: BootCount,
        round: u64,
    ) {
        let grant = state.nodes[node].grants[asking];
        if grant.live && grant.run == run {
            let epoch = grant.epoch;
            state.network.send(Message::Confirmed { from: node, to: asking, run, round, epoch });
        }
    }
}

//! What a follower does: it binds itself to its leader, and is let go again.

use crate::ids::{NodeId, Term};
use crate::mistake::Mistake;
use crate::model::Liveness;
use crate::network::Message;
use crate::state::{Bond, Log, Role, State};

impl<const N: usize> Liveness<N> {
    /// A message arrives at `node`.
    pub(crate) fn receive(&self, state: &mut State<N>, node: NodeId, message: Message) {
        match message {
            Message::PreVote { term, from } => self.hear_candidate(state, node, from, term),
            Message::RequestVote { .. } => self.vote(state, node, message),
            Message::Append { term, from, log } => self.append(state, node, from, term, log),
            Message::Fortify { term, from } => self.hear(state, node, from, term),
            Message::TimeoutNow { term, .. } => self.succeed(state, node, term),
            Message::Resign { .. } => self.let_go(state, node, message),
            Message::Confirm { from, boot, round } => {
                Self::confirm(state, node, from, boot, round);
            }
            Message::Vote { .. }
            | Message::Appended { .. }
            | Message::Fortified { .. }
            | Message::Confirmed { .. } => {}
        }
    }

    /// A replica hears a leader: it enters its term, and binds itself to it if its node supports
    /// the leader's. It has voted by that. Otherwise it is bound to nobody.
    fn hear(&self, state: &mut State<N>, follower: NodeId, leader: NodeId, term: Term) {
        let node = &mut state.nodes[follower];
        if term < node.memory.term {
            return;
        }
        if term > node.memory.term {
            self.enter(&mut node.memory, term);
        }
        node.role = Role::Follower;
        let grant = node.memory.grants[leader];
        if !grant.live {
            node.memory.bond = None;
            return;
        }
        let epoch = grant.epoch;
        node.memory.bond = Some(Bond { leader, epoch, term });
        if !self.has(Mistake::BindWithoutVote) {
            node.memory.vote.get_or_insert(leader);
        }
        self.promise(state, follower, Message::Fortified { term, from: follower, epoch });
    }

    fn append(&self, state: &mut State<N>, follower: NodeId, leader: NodeId, term: Term, log: Log) {
        if term >= state.nodes[follower].memory.term {
            self.hear(state, follower, leader, term);
            state.nodes[follower].memory.log = log;
            self.promise(state, follower, Message::Appended { term, from: follower });
        }
    }

    /// A restarted replica tells its leader of its bond, if the bond is of the replica's current
    /// term.
    pub(crate) fn present(&self, state: &mut State<N>, follower: NodeId) {
        let term = state.nodes[follower].memory.term;
        if let Some(bond) = state.bound(follower)
            && (bond.term == term || self.has(Mistake::PresentInLaterTerm))
        {
            let epoch = bond.epoch;
            self.promise(state, follower, Message::Fortified { term, from: follower, epoch });
        }
    }

    /// A request for a pre-vote says that its sender leads in no earlier term any more, and so
    /// ends bonds of such terms.
    fn hear_candidate(&self, state: &mut State<N>, node: NodeId, from: NodeId, term: Term) {
        let replica = &mut state.nodes[node].memory;
        replica.bond = replica.bond.filter(|bond| {
            let earlier = bond.term < term || self.has(Mistake::PreVoteEndsLaterBond);
            !(bond.leader == from && earlier)
        });
    }

    /// A resignation says that its sender leads no more in that term and all before it, and so ends
    /// bonds of such terms. Who hears it enters the next term, so that nothing which the sender
    /// sent before binds it again.
    fn let_go(&self, state: &mut State<N>, follower: NodeId, message: Message) {
        let Message::Resign { term, from, epoch, .. } = message else {
            return;
        };
        let node = &mut state.nodes[follower];
        node.memory.bond = node.memory.bond.filter(|bond| {
            let made = bond.term <= term || self.has(Mistake::ResignEndsLaterBond);
            !((bond.leader, bond.epoch) == (from, epoch) && made)
        });
        if node.memory.term <= term {
            self.enter(&mut node.memory, term.next());
            node.role = Role::Follower;
        }
    }
}

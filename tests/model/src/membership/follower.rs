//! What a follower does: it takes the leader's log, binds itself to it, and is let go again.

use super::log::{Log, Member};
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Bond, Replica, Role, State};
use crate::ids::{NodeId, Term};

impl<const N: usize> Membership<N> {
    /// A message arrives at `node`.
    pub(super) fn receive(&self, state: &mut State<N>, node: NodeId, message: Message) {
        match message {
            Message::RequestVote { .. } => self.vote(state, node, message),
            Message::Append { term, from, log } => self.follow(state, node, from, term, log),
            Message::TimeoutNow { term, .. } => {
                if let Some(replica) = &mut state.nodes[node].replica {
                    replica.enter(term);
                    self.ask_for_votes(state, node, true);
                }
            }
            Message::Resign { term, from } => self.let_go(state, node, from, term),
            Message::Vote { .. }
            | Message::Appended { .. }
            | Message::Fortified { .. }
            | Message::Resigned { .. } => {}
        }
    }

    /// A replica hears a leader. It takes its log, and binds itself to it if its node supports the
    /// leader's, learner or not. It has voted by that.
    fn follow(&self, state: &mut State<N>, node: NodeId, leader: Member, term: Term, log: Log) {
        let lax =
            self.has(Mistake::FormerAcknowledgementCounts) || self.has(Mistake::FormerBondCounts);
        let Some(Member { id, .. }) = log.member(node) else {
            return;
        };
        if !self.admit(state, node, id, lax) {
            return;
        }
        let supported = state.nodes[node].supports.has(leader.node);
        let Some(replica) = state.nodes[node].replica.as_mut().filter(|it| it.term <= term) else {
            return;
        };
        replica.enter(term);
        replica.role = Role::Follower;
        replica.bond = supported.then_some(Bond { leader, term });
        if supported {
            replica.vote.get_or_insert(leader);
        }
        self.take(replica, log);
        let from = Member { node, id: replica.id };
        state.sent.send(Message::Appended { term, from, index: log.len() });
        if supported {
            state.sent.send(Message::Fortified { term, from });
        }
    }

    /// A replica takes a leader's log. What contradicts it goes, and the configurations with it.
    fn take(&self, replica: &mut Replica, log: Log) {
        if replica.log.starts_with(&log) {
            return;
        }
        if self.has(Mistake::ConfigurationNotReverted) {
            let old = replica.log;
            let truncated = !log.starts_with(&old.prefix(old.last_change().index));
            let changed = log.last_change().index > replica.log.last_change().index;
            replica.reverted = match replica.reverted.or(truncated.then_some(old)) {
                Some(_) if changed => None,
                kept => kept,
            };
        }
        replica.log = log;
    }

    /// A resignation says that its sender leads no more in that term and all before it, and so ends
    /// bonds to that replica of such terms. Who hears it enters the next term, so that nothing
    /// which the sender sent before binds it again, and then answers.
    fn let_go(&self, state: &mut State<N>, node: NodeId, from: Member, term: Term) {
        let Some(replica) = &mut state.nodes[node].replica else {
            return;
        };
        replica.bond = replica.bond.filter(|bond| {
            let same = bond.leader == from
                || self.has(Mistake::ResignOfFormerEndsBond) && bond.leader.node == from.node;
            !(same && bond.term <= term)
        });
        if replica.term <= term && !self.has(Mistake::ResignedInTerm) {
            replica.enter(term.next());
        }
        let own = Member { node, id: replica.id };
        state.sent.send(Message::Resigned { term, from: own, to: from });
    }
}

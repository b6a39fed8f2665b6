//! Bonds: what a leader counts on, and for which reasons a follower may give it up.
//!
//! A leader serves reads because followers that fortify it vote for nobody else (see
//! `logboat_raft::Fortification`). So while it counts on a follower, that follower's bond has to be
//! on the follower's disk, unless the support that it rests on has ended there before. And whatever
//! a leader counts, a bond goes from the disk for few reasons, all of which the simulation sees.

use super::Checks;
use logboat_raft::{
    Epoch, Fortification, Grant, HardState, Message, NodeId, Payload, PeerStatus, Term,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is known of the bonds of a group.
#[derive(Debug, Default)]
pub(super) struct Bonds {
    /// The terms whose leaders had another replica campaign, as far as that replica heard of it.
    handed_over: BTreeSet<Term>,
    /// What a replica (by node) was told by one that may have led: of the bonds with it, those end
    /// that were made before this term.
    released: HashMap<(NodeId, NodeId), Term>,
    /// The term in which the bond on a replica's disk was made, or an earlier one.
    made: HashMap<NodeId, Term>,
    /// The replicas that have failed for good and said so, each with its term.
    resigned: HashMap<NodeId, Term>,
    /// When the bond of a follower with a leader last ended, by nodes, in microseconds.
    ended: HashMap<(NodeId, NodeId), u64>,
}

/// A follower that a leader counts on, as the leader sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) follower: NodeId,
    pub(super) epoch: Epoch,
}

impl Counted {
    /// The follower that this is the leader's view of, if it counts.
    pub(super) fn of(peer: &PeerStatus) -> Option<Self> {
        peer.fortified.map(|epoch| Self { follower: peer.node, epoch })
    }
}

impl Bonds {
    /// A message arrived, which may say that its sender leads no longer.
    pub(super) fn heard(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let term = message.term;
        let before = match message.payload {
            Payload::PreVote { .. } | Payload::Vote { .. } => term,
            Payload::Resign { term, .. } => {
                let known = self.resigned.entry(from).or_default();
                *known = term.max(*known);
                term.next()
            }
            Payload::TimeoutNow => {
                self.handed_over.insert(term);
                return;
            }
            _ => return,
        };
        let known = self.released.entry((to, from)).or_default();
        *known = before.max(*known);
    }

    /// A bond that stood has ended at this moment.
    pub(super) fn ended(&mut self, follower: NodeId, leader: NodeId, now_us: u64) {
        self.ended.insert((follower, leader), now_us);
    }

    /// When a bond of the follower with the leader last ended, in microseconds.
    pub(super) fn last_ended(&self, follower: NodeId, leader: NodeId) -> Option<u64> {
        self.ended.get(&(follower, leader)).copied()
    }

    /// Whether the leader of `term` has had another replica campaign, and that one knows.
    pub(super) fn handed_over(&self, term: Term) -> bool {
        self.handed_over.contains(&term)
    }

    /// Whether the leader of `term` serves reads for all that anybody has heard.
    pub(super) fn serves(&self, leader: NodeId, term: Term) -> bool {
        let resigned = self.resigned.get(&leader).is_some_and(|in_term| *in_term >= term);
        !self.handed_over.contains(&term) && !resigned
    }

    /// The hard state on the disk of `node` changed, at a moment when the node's support for its
    /// peers was `grant`, on the disk as well. `leaders` are all leaders that were ever elected.
    pub(super) fn written(
        &mut self,
        node: NodeId,
        (before, after): (HardState, HardState),
        grant: impl Fn(NodeId) -> Grant,
        leaders: &BTreeMap<Term, usize>,
        now_us: u64,
    ) {
        let made = self.made.get(&node).copied().unwrap_or_default();
        if after.fortified.is_some() && after.fortified != before.fortified {
            self.made.insert(node, after.term);
        }
        let Some(bond) = before.fortified.filter(|bond| Some(*bond) != after.fortified) else {
            return;
        };
        let Fortification { leader, epoch, .. } = bond;
        let is_same =
            after.fortified.is_some_and(|bond| (bond.leader, bond.epoch) == (leader, epoch));
        let support = grant(leader);
        if is_same || !support.live || support.epoch != epoch {
            return;
        }
        self.ended(node, leader, now_us);
        let newest = leaders.range(..=after.term).next_back();
        let later_leader = newest.is_some_and(|(term, _)| *term > made);
        let told = self.released.get(&(node, leader)).is_some_and(|before| *before > made);
        let handed_over = self
            .handed_over
            .range(made..)
            .any(|term| leaders.get(term).is_some_and(|place| NodeId(*place as u64 + 1) == leader));
        assert!(
            later_leader || told || handed_over,
            "{node} gives up {bond:?} of {made} for {after:?}, though its support stands on disk \
             and its leader has not given up"
        );
    }
}

impl Checks {
    /// If the message tells a leader of a bond, the support that the bond rests on is durable.
    pub(super) fn is_supported(&self, way: (NodeId, NodeId), message: &Message) {
        if let Payload::Fortified { epoch: Some(told), .. } = message.payload {
            let durable = self.grants.get(&way).copied().unwrap_or_default().epoch;
            assert!(told <= durable, "a bond at {told} was announced, and {durable} is durable");
        }
    }
}

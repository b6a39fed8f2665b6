//! The liveness of nodes, in a simple exact form. Each node has a durable grant for each of the
//! others; what a peer knows of it may be older. The rounds by which a node has its leaders
//! confirmed travel apart from the messages of replicas, in order, and may be late.

use super::{Cluster, Packet};
use logboat_raft::{BootCount, Confirmation, Epoch, Input, Lease, NodeId, Round, Support};
use std::collections::VecDeque;
use std::time::Duration;

/// The question of a round: the boot that asks, and the number of the round.
type Question = (BootCount, Round);

/// Rounds under way from one node to another.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    questions: VecDeque<Question>,
    /// With each question, what the supporter granted when it answered.
    answers: VecDeque<(Question, Option<Epoch>)>,
}

impl Cluster {
    /// A node starts. It honours what it has granted. Its peers support the new boot at a later
    /// epoch, as soon as they hear of it.
    pub(super) fn start_liveness(&mut self, node: NodeId) {
        let host = self.host(node);
        host.boot.0 += 1;
        host.support = Support::default();
        for (&peer, grant) in &host.grants {
            host.support.of_mut(peer).support_for = grant.live.then_some(grant.epoch);
        }
    }

    /// The node and its peers hear of each other after its start.
    pub(super) fn introduce(&mut self, node: NodeId) {
        for peer in self.nodes() {
            if self.are_linked(node, peer) {
                self.support(peer, node);
                if self.hosts[&node].grants.get(&peer).is_some_and(|grant| grant.live) {
                    self.support(node, peer);
                }
            }
        }
    }

    /// The supporter supports the peer, at the next epoch if it did not or the peer's run is
    /// another, and the peer learns of it.
    pub(crate) fn support(&mut self, supporter: NodeId, peer: NodeId) {
        let boot = self.hosts[&peer].boot;
        let host = self.host(supporter);
        let grant = host.grants.entry(peer).or_default();
        let stands = grant.live && grant.boot == boot;
        if !stands {
            grant.epoch.0 += 1;
            grant.boot = boot;
            grant.live = true;
            let epoch = grant.epoch;
            host.support.of_mut(peer).support_for = Some(epoch);
            self.event(|| format!("{supporter} supports {peer} at {epoch}"));
            self.step(supporter, Input::SupportChanged);
        }
        let granted = self.valid_grant(supporter, peer, boot);
        self.set_received(peer, supporter, granted);
    }

    /// The supporter supports the peer no longer. The peer does not know yet.
    pub(crate) fn withdraw(&mut self, supporter: NodeId, peer: NodeId) {
        let host = self.host(supporter);
        let Some(grant) = host.grants.get_mut(&peer).filter(|grant| grant.live) else {
            return;
        };
        grant.live = false;
        host.support.of_mut(peer).support_for = None;
        self.step(supporter, Input::SupportChanged);
    }

    /// A node has not heard for so long that the supporter supports it that it counts on it no
    /// more.
    pub(crate) fn lapse(&mut self, node: NodeId, supporter: NodeId) {
        self.set_received(node, supporter, None);
    }

    /// A node may rely on the clocks that it has the supporter's support for so long.
    pub(crate) fn lease(&mut self, node: NodeId, supporter: NodeId, length: Duration) {
        let until = self.now + length;
        let known = self.host(node).support.of_mut(supporter);
        known.lease = Lease { epoch: known.support_from.unwrap_or_default(), until };
    }

    /// A replica fails for good while its node lives, and says so to those that may be bound to it.
    pub(crate) fn fail(&mut self, node: NodeId) {
        let host = self.host(node);
        let Some(raft) = &host.raft else {
            return;
        };
        let resignation = raft.resignation();
        let resignations: Vec<_> = resignation.messages(&host.support).collect();
        host.crash(0);
        for (to, message) in resignations {
            self.enqueue(node, to, Packet::Message(message));
        }
    }

    /// What comes of links that stay cut and nodes that stay down: the support over them lapses,
    /// and then it is withdrawn.
    pub(crate) fn expire(&mut self) {
        let pairs = self.pairs(|cluster, one, other| !cluster.are_linked(one, other));
        for &(node, supporter) in &pairs {
            self.lapse(node, supporter);
        }
        for &(supporter, peer) in &pairs {
            if self.raft(supporter).is_some() {
                self.withdraw(supporter, peer);
            }
        }
    }

    /// All that reach each other support each other.
    pub(crate) fn renew(&mut self) {
        for (supporter, peer) in self.pairs(Self::are_linked) {
            self.support(supporter, peer);
        }
    }

    /// A node opens a round and asks these.
    pub(crate) fn open_round(&mut self, node: NodeId, supporters: &[NodeId]) {
        let host = self.host(node);
        let question = (host.boot, host.support.next_round);
        host.support.next_round = host.support.next_round.next();
        for &supporter in supporters {
            self.rounds.entry((node, supporter)).or_default().questions.push_back(question);
        }
    }

    /// The supporter answers the oldest question of a node: at which epoch it supports that one
    /// now.
    pub(crate) fn answer_round(&mut self, supporter: NodeId, node: NodeId) {
        if self.raft(supporter).is_none() {
            return;
        }
        let rounds = self.rounds.entry((node, supporter)).or_default();
        let Some(question) = rounds.questions.pop_front() else {
            return;
        };
        let epoch = self.valid_grant(supporter, node, question.0);
        let rounds = self.rounds.entry((node, supporter)).or_default();
        rounds.answers.push_back((question, epoch));
    }

    /// The oldest answer of the supporter reaches the node. A node takes no answers
    /// to questions from before its restart.
    pub(crate) fn hear_round(&mut self, node: NodeId, supporter: NodeId) {
        let rounds = self.rounds.entry((node, supporter)).or_default();
        let Some(((boot, round), epoch)) = rounds.answers.pop_front() else {
            return;
        };
        let host = self.host(node);
        let known = host.support.of_mut(supporter);
        if boot == host.boot && round >= known.confirmed.round {
            known.confirmed = Confirmation { round, epoch };
            self.step(node, Input::Confirmed);
        }
    }

    /// A node opens a round, which these answer at once.
    pub(crate) fn confirm(&mut self, node: NodeId, supporters: &[NodeId]) {
        self.open_round(node, supporters);
        for &supporter in supporters {
            while self.rounds[&(node, supporter)].questions.front().is_some() {
                self.answer_round(supporter, node);
                self.hear_round(node, supporter);
            }
        }
    }

    /// All that are up and reach this node and are reached by it.
    pub(crate) fn linked(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes().into_iter().filter(|&peer| self.are_linked(node, peer)).collect()
    }

    /// Whether two nodes are up, and the links between them work both ways.
    pub(crate) fn are_linked(&self, one: NodeId, other: NodeId) -> bool {
        one != other
            && self.raft(one).is_some()
            && self.raft(other).is_some()
            && !self.cut.contains(&(one, other))
            && !self.cut.contains(&(other, one))
    }

    fn pairs(&self, of: impl Fn(&Self, NodeId, NodeId) -> bool) -> Vec<(NodeId, NodeId)> {
        let nodes = self.nodes();
        let pairs = nodes.iter().flat_map(|&one| nodes.iter().map(move |&other| (one, other)));
        pairs.filter(|&(one, other)| one != other && of(self, one, other)).collect()
    }

    /// The epoch at which the supporter supports this run of the peer.
    fn valid_grant(&self, supporter: NodeId, peer: NodeId, boot: BootCount) -> Option<Epoch> {
        let grant = self.hosts[&supporter].grants.get(&peer)?;
        (grant.live && grant.boot == boot).then_some(grant.epoch)
    }

    fn set_received(&mut self, node: NodeId, supporter: NodeId, epoch: Option<Epoch>) {
        let known = self.host(node).support.of_mut(supporter);
        if known.support_from != epoch {
            known.support_from = epoch;
            self.step(node, Input::SupportChanged);
        }
    }
}

//! The replica as a whole. A step takes an input, has the role handle it, and settles what follows.

use crate::replica::Replica;
use crate::role::{Leader, Role};
use crate::status::{PeerStatus, Status};
use crate::step::Step;
use crate::{
    ChangeError, Config, Configuration, Fortification, Index, Input, LogId, Member, NodeId, Output,
    ReplicaId, Resignation, Restored, RoleKind, Round, Support, Term, Time,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// One replica of one group.
///
/// The caller owns everything outside: it delivers messages, writes the log, applies entries, and
/// tells the time. It hands in an [`Input`] and carries out the [`Output`]s, in their order.
///
/// # Examples
/// A cluster of three, whose disks are durable at once and whose nodes support each other:
///
/// ```
/// use logboat_raft::{
///     Config, Configuration, Epoch, GroupId, Input, NodeId, Output, Raft, ReplicaId, Restored,
///     Support, Time, Tuning,
/// };
/// use std::{collections::VecDeque, sync::Arc};
///
/// let nodes = [1, 2, 3].map(NodeId);
/// let start = |node: NodeId| {
///     let founding = Configuration::founding(&nodes, Some(nodes[0])).into();
///     let (group, seed, tuning) = (GroupId(7), node.0, Arc::new(Tuning::default()));
///     let replica = ReplicaId::FOUNDER;
///     let config = Config { group, node, replica, founding, seed, tuning };
///     Raft::new(config, Restored::default(), Time(0))
/// };
/// let mut cluster = nodes.map(start);
/// let mut support = Support::default();
/// for node in nodes {
///     let peer = support.of_mut(node);
///     (peer.support_for, peer.support_from) = (Some(Epoch(1)), Some(Epoch(1)));
/// }
///
/// // The preferred voter campaigns at once. Then everybody sees to what follows.
/// let mut inputs = VecDeque::from([(nodes[0], Input::Tick)]);
/// let mut applied = Vec::new();
/// let mut proposed = false;
/// while let Some((node, input)) = inputs.pop_front() {
///     let (mut outputs, raft) = (Vec::new(), &mut cluster[node.0 as usize - 1]);
///     raft.step(Time(0), &support, input, &mut outputs);
///     for output in outputs {
///         match output {
///             Output::Persist(write) => {
///                 inputs.push_back((node, Input::Persisted { seq: write.seq }));
///             }
///             Output::Send { to, message } | Output::SendAfter { to, message, .. } => {
///                 inputs.push_back((to, Input::Receive { from: node, message }));
///             }
///             Output::Apply { entries } => {
///                 applied.extend(entries.into_iter().map(|entry| entry.data));
///             }
///             _ => {}
///         }
///     }
///     if inputs.is_empty() && !proposed {
///         proposed = true;
///         let commands = [b"hello"[..].into()].into();
///         inputs.push_back((nodes[0], Input::Propose { commands }));
///     }
/// }
/// assert_eq!(cluster[1].leader(), Some(nodes[0]));
/// assert!(applied.iter().any(|command| command == "hello"));
/// ```
#[derive(Debug)]
pub struct Raft {
    /// What does not depend on the role.
    replica: Replica,
    /// The role.
    role: Role,
}

/// What watchers of a replica are told of: role, term and leader.
type Standing = (RoleKind, Term, Option<NodeId>);

impl Raft {
    /// A replica as found on disk. It begins as a follower of the leader that it fortifies. If it
    /// fortifies none, the preferred voter campaigns at the first [`Input::Tick`], and a group's
    /// only voter elects itself. What is known to be committed is handed out from the first step
    /// on, whatever its input is.
    ///
    /// # Panics
    /// When `restored` describes no log.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Time) -> Self {
        let mut replica = Replica::new(config, restored, now);
        let role = Role::new(&mut replica);
        Self { replica, role }
    }

    /// Takes an input and appends what follows from it to `out`. `support` is what the node knows
    /// of its peers at `now`. What this node grants a peer in it must be durable, or be written to
    /// the same log before what this step writes.
    ///
    /// # Panics
    /// When the caller breaks the protocol in a way that would endanger the data: it reports a
    /// write durable that was never handed out, or a snapshot that covers what was not applied. A
    /// peer that breaks the protocol causes an [`Output::Violated`] instead.
    pub fn step(&mut self, now: Time, support: &Support, input: Input, out: &mut Vec<Output>) {
        self.replica.now = self.replica.now.max(now);
        let before = self.standing();
        let Self { replica, role } = self;
        let mut step = Step { replica, support, out };
        if step.admits(&input) {
            role.on_input(&mut step, input);
        }
        settle(role, &mut step, before);
        step.part(before.0 == RoleKind::Leader);
        if cfg!(debug_assertions) {
            self.invariants();
        }
    }

    /// Everything that an operator may want to see of the replica.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = self.role.as_leader().map_or(&[][..], |leader| &leader.peers);
        Status {
            replica: self.id(),
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            fortified: self.replica.fortified(),
            snapshot: self.snapshot(),
            last: self.last(),
            durable: self.replica.log.durable(),
            commit: self.commit(),
            applied: self.applied(),
            configuration: Arc::clone(self.configuration()),
            peers: peers.iter().map(PeerStatus::of).collect(),
        }
    }

    /// When an [`Input::Tick`] will have something to do. A replica at rest has nothing to wait
    /// for: an idle leader, and a follower that fortifies its leader.
    #[must_use]
    pub fn next_deadline(&self, support: &Support) -> Option<Time> {
        if !support.founded || self.replica.is_gone() {
            return None;
        }
        let role = self.role.next_deadline(&self.replica, support);
        let timeout = self.replica.config.tuning.retransmit_timeout;
        let reads = self.replica.follower_reads.deadline(timeout);
        role.into_iter().chain(reads).chain(self.replica.parting.deadline(support)).min()
    }

    /// Whether the replica has to repeat something to peers until they answer. It can't while their
    /// nodes do not support this one, so [`Input::SupportChanged`] has to tell it when they do.
    #[must_use]
    pub const fn has_unanswered_words(&self) -> bool {
        self.replica.parting.has_words()
    }

    /// The newest round of confirmations that reads here wait for: [`Input::Confirmed`] is to come
    /// when peers have answered it.
    #[must_use]
    pub fn awaited_round(&self) -> Option<Round> {
        self.role.as_leader()?.awaited_round()
    }

    /// Whether this replica leads and `peer` has all of its log, so that leadership can be handed
    /// over without a pause.
    #[must_use]
    pub fn is_caught_up(&self, peer: NodeId) -> bool {
        self.role.as_leader().is_some_and(|leader| leader.is_caught_up(&self.replica, peer))
    }

    /// Whether this replica leads and a peer is being sent a snapshot, or needs one.
    #[must_use]
    pub fn sends_snapshot(&self) -> bool {
        self.role.as_leader().is_some_and(Leader::sends_snapshot)
    }

    /// Whether a learner could be promoted now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_learner(&self, support: &Support, node: NodeId) -> Result<(), ChangeError> {
        match self.role.as_leader() {
            Some(leader) => Ok(leader.check_learner(&self.replica, support, node)?),
            None => Err(ChangeError::NotLeader { leader: self.leader() }),
        }
    }

    /// What a replica that has failed or is gone, and takes no further step, says to its peers,
    /// while its node lives and they support it: followers that fortify it would wait for ever. The
    /// caller sends the messages at once, and repeats them once an election timeout until they are
    /// answered.
    ///
    /// It names terms that are durable. So whatever the replica becomes when it is started again,
    /// even in the same run of its node, it leads in no term that it has resigned from.
    #[must_use]
    pub fn resignation(&self) -> Resignation {
        let (led, entered) = (self.replica.parting.led(), self.replica.durable_term());
        let term = led.min(entered);
        let others = self.replica.others().map(Member::address);
        Resignation::new(self.id(), term, entered, others.filter(|_| term > Term(0)))
    }

    /// Which replica of the group on its node this is.
    #[must_use]
    pub const fn id(&self) -> ReplicaId {
        self.replica.id()
    }

    /// Whether this replica may lead, by the newest [`Input::MayLead`].
    #[must_use]
    pub const fn may_lead(&self) -> bool {
        self.replica.may_lead
    }

    /// The configuration in force: the newest in the log, committed or not.
    #[must_use]
    pub fn configuration(&self) -> &Arc<Configuration> {
        self.replica.configuration()
    }

    /// The nodes of the other members, learners too.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.replica.peers()
    }

    /// How long a leader may be silent.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        self.replica.election_timeout()
    }

    /// The current role.
    #[must_use]
    pub const fn role(&self) -> RoleKind {
        self.role.kind()
    }

    /// The current term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.replica.term
    }

    /// The leader of the current term, if known.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.role.leader(&self.replica)
    }

    /// The leader that this replica fortified last. That stands while this node supports that one's
    /// at the same epoch.
    #[must_use]
    pub const fn fortified(&self) -> Option<Fortification> {
        self.replica.fortified()
    }

    /// The last entry known to be committed.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.replica.commit
    }

    /// The last entry handed out by [`Output::Apply`] or covered by a restored snapshot.
    #[must_use]
    pub const fn applied(&self) -> Index {
        self.replica.applied
    }

    /// The last entry of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.replica.log.last_id()
    }

    /// The last entry that the newest snapshot covers, where the log begins.
    #[must_use]
    pub const fn snapshot(&self) -> LogId {
        self.replica.log.snapshot()
    }

    /// Checks that the replica does not contradict itself. Debug builds do so after every step; a
    /// simulation can do so in a release build too.
    ///
    /// # Panics
    /// When it does, which is a bug of the core.
    pub fn invariants(&self) {
        self.replica.invariants();
        self.role.invariants(&self.replica);
    }

    fn standing(&self) -> Standing {
        standing(&self.role, &self.replica)
    }
}

/// The end of every step. Takes a change of members further, applies the entries and answers the
/// reads that are ready, writes a changed term, vote or fortification, and reports a change of the
/// configuration or the role.
fn settle(role: &mut Role, step: &mut Step<'_>, before: Standing) {
    role.steer(step);
    step.apply();
    let after = standing(role, step.replica);
    role.serve_reads(step, after != before);
    step.persist_hard_state();
    step.report_configuration();
    if after != before {
        let (role, term, leader) = after;
        step.out.push(Output::RoleChanged { role, term, leader });
    }
}

const fn standing(role: &Role, replica: &Replica) -> Standing {
    (role.kind(), replica.term, role.leader(replica))
}

#[cfg(test)]
mod tests;

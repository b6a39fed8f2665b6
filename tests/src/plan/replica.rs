//! A replica in 32 bytes, reduced to what an election needs. `replica/step.rs` has the rules of the
//! core (`raft/src/role`) for a group of three that nobody writes to, so that its logs are equal.

mod step;

use super::voters::{Place, Places, Voters};
use crate::random::SplitMix64;
use logboat::Tuning;
use logboat_raft::{Epoch, NodeId, Support, Time};

/// Which replica of all: its group's number and its place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplicaId(u32);

impl ReplicaId {
    pub(super) fn new(group: usize, place: Place) -> Self {
        let number = group * Place::ALL.len() + place.index();
        Self(u32::try_from(number).expect("fewer than 2^32 replicas"))
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn group(self) -> usize {
        self.index() / Place::ALL.len()
    }

    pub(super) const fn place(self) -> Place {
        Place::ALL[self.index() % Place::ALL.len()]
    }
}

/// A message from one replica of a group to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) to: ReplicaId,
    from: Place,
    term: u32,
    payload: Payload,
}

/// As `logboat_raft::Payload`, without what logs that are equal need not say.
#[derive(Clone, Copy, Debug)]
enum Payload {
    PreVote,
    PreVoteReply { granted: bool },
    Vote,
    VoteReply { granted: bool },
    Append,
    Appended,
    Fortify,
    Fortified { bound: bool },
}

/// What a replica takes in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    Tick,
    SupportChanged,
    /// All that it wrote is durable.
    Synced,
    Receive(Message),
}

/// What a step goes by besides the replica itself.
pub(super) struct View<'a> {
    pub(super) now: Time,
    pub(super) id: ReplicaId,
    pub(super) voters: Voters,
    pub(super) support: &'a Support,
    pub(super) tuning: &'a Tuning,
    pub(super) random: &'a mut SplitMix64,
}

/// What replicas of a node want done.
#[derive(Default)]
pub(super) struct Produced {
    /// To be sent at once.
    pub(super) sends: Vec<(NodeId, Message)>,
    /// To be sent when all that was written up to now is durable.
    pub(super) promises: Vec<(NodeId, Message)>,
    /// Who wrote.
    pub(super) wrote: Vec<ReplicaId>,
    /// Who began to lead, and in which term.
    pub(super) elected: Vec<(ReplicaId, u32)>,
    /// Who lead and have committed the first entry of their term.
    pub(super) leading: Vec<ReplicaId>,
    /// How many pre-votes were held, and how many votes.
    pub(super) pre_campaigns: u64,
    pub(super) campaigns: u64,
}

/// A replica. It was never restarted, so that whoever it follows was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica {
    deadline: Time,
    term: u32,
    bond_epoch: u32,
    /// To whose node it is bound, while its own supports that one at `bond_epoch`.
    bond: Option<Place>,
    vote: Option<Place>,
    role: Role,
    failures: u8,
    /// How many of its writes are not durable.
    unsynced: u8,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Follower { leader: Option<Place> },
    PreCandidate(Answers),
    Candidate(Answers),
    Leader(Followers),
}

#[derive(Clone, Copy, Debug)]
struct Answers {
    granted: Places,
    refused: Places,
}

/// What a leader knows of the others: which of them hold its first entry, know that it is
/// committed, and have fortified the leader.
#[derive(Clone, Copy, Debug, Default)]
struct Followers {
    hold: Places,
    told: Places,
    bound: Places,
    committed: bool,
}

/// There are millions of them.
const _: () = assert!(size_of::<Replica>() <= 32);

/// Later than any deadline.
const NEVER: Time = Time(u64::MAX);

impl Replica {
    /// A replica of an idle group that the first voter leads since long ago.
    ///
    /// # Panics
    /// When its node does not support the leader's.
    pub(super) fn at_rest(id: ReplicaId, voters: Voters, support: &Support) -> Self {
        let leads = id.place() == Place::PREFERRED;
        let others = Places::all().without(Place::PREFERRED);
        let given = || support.of(voters.node(Place::PREFERRED)).support_for;
        Self {
            deadline: if leads { NEVER } else { Time(0) },
            term: 1,
            bond_epoch: if leads { 0 } else { short(given().expect("all nodes live")) },
            bond: (!leads).then_some(Place::PREFERRED),
            vote: Some(Place::PREFERRED),
            role: if leads {
                Role::Leader(Followers {
                    hold: others,
                    told: others,
                    bound: others,
                    committed: true,
                })
            } else {
                Role::Follower { leader: Some(Place::PREFERRED) }
            },
            failures: 0,
            unsynced: 0,
        }
    }

    /// One more write is durable. Whether the replica is to learn of it at once.
    pub(super) const fn synced(&mut self) -> bool {
        self.unsynced -= 1;
        self.unsynced == 0 && matches!(self.role, Role::Leader(Followers { committed: false, .. }))
    }

    /// When a tick will have something to do.
    pub(super) fn deadline(&self, voters: Voters, support: &Support) -> Option<Time> {
        let rests = match self.role {
            Role::Follower { leader } => {
                leader.is_some() && self.bound_to(voters, support) == leader
            }
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => false,
        };
        Some(self.deadline).filter(|deadline| !rests && *deadline != NEVER)
    }

    /// The leader that it knows, itself perhaps.
    pub(super) const fn leader(&self, own: Place) -> Option<Place> {
        match self.role {
            Role::Follower { leader } => leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(own),
        }
    }

    /// Whether it leads, and has committed the first entry of its term.
    pub(super) const fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(Followers { committed: true, .. }))
    }

    fn bound_to(&self, voters: Voters, support: &Support) -> Option<Place> {
        let given = |place: &Place| support.of(voters.node(*place)).support_for;
        self.bond.filter(|place| given(place).is_some_and(|it| short(it) == self.bond_epoch))
    }

    /// What of it others may rest on.
    const fn promises(&self) -> (u32, Option<Place>, Option<Place>, u32) {
        (self.term, self.vote, self.bond, self.bond_epoch)
    }
}

/// Epochs are counted by withdrawals, of which a node sees few.
fn short(epoch: Epoch) -> u32 {
    u32::try_from(epoch.0).expect("fewer than 2^32 withdrawals")
}

impl View<'_> {
    fn message(&self, to: Place, term: u32, payload: Payload) -> (NodeId, Message) {
        let Self { id, voters, .. } = self;
        let to_replica = ReplicaId::new(id.group(), to);
        (voters.node(to), Message { to: to_replica, from: id.place(), term, payload })
    }

    fn supports(&self, peer: Place) -> bool {
        self.support.of(self.voters.node(peer)).support_for.is_some()
    }

    fn supports_own(&self, peer: Place) -> bool {
        self.support.of(self.voters.node(peer)).support_from.is_some()
    }
}

impl Answers {
    fn new(own: Place) -> Self {
        Self { granted: Places::default().with(own), refused: Places::default() }
    }

    /// With the answer of a voter, whose first one stands.
    fn with(mut self, from: Place, granted: bool) -> Self {
        if !self.granted.contains(from) && !self.refused.contains(from) {
            let answers = if granted { &mut self.granted } else { &mut self.refused };
            *answers = answers.with(from);
        }
        self
    }
}

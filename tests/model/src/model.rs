//! The model as the checker sees it: its bounds, its mistakes, and what can happen in a state.

use crate::network::{Message, reaches};
use crate::state::{NODES, Role, State, peers};
use crate::{properties, reduction};
use logboat_raft::{BootCount, NodeId, Term};
use stateright::{Model, Property};

/// Node liveness and fortified leaders, for three nodes and one group.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// How far it goes.
    pub bounds: Bounds,
    /// Whether it leaves out the steps and messages that make no difference.
    pub reduced: bool,
    /// What is wrong with the protocol, if anything.
    pub mistake: Option<Mistake>,
}

/// How far the model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The highest term that anybody campaigns in.
    pub terms: u64,
    /// How often support is given, counted over all pairs of nodes.
    pub grants: u64,
    /// How often nodes restart, counted over all nodes.
    pub restarts: u64,
    /// How many rounds of confirmation the present runs of all nodes have started.
    pub rounds: u64,
}

/// A deliberate mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A restarted replica has forgotten its vote.
    VoteForgotten,
    /// A vote goes to a candidate whose log is behind.
    VoteForShorterLog,
    /// A restarted node has forgotten the support that it gave.
    SupportForgotten,
    /// A restarted replica has forgotten its bond.
    BondForgotten,
    /// Support that has ended is given again at the same epoch.
    EpochUsedAgain,
    /// A bound replica votes like any other.
    VoteWhileBound,
    /// A bound replica campaigns like any other.
    CampaignWhileBound,
    /// A replica that enters a later term gives up its bond.
    BondEndsWithTerm,
    /// Support at whatever epoch confirms a read.
    AnyEpochConfirms,
    /// A leader that has asked another to campaign goes on beginning reads.
    ReadAfterAbdication,
    /// An answer to the node's earlier run confirms a read.
    EarlierRunConfirms,
    /// An answer to an earlier round confirms a read.
    EarlierRoundConfirms,
    /// A candidate that was asked to campaign says so in its next campaign too.
    TransferOutlivesTerm,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A request for support arrives.
    Support {
        /// Where it arrives.
        supporter: NodeId,
        /// Who has made it.
        requester: NodeId,
        /// The run in which it was made.
        run: BootCount,
    },
    /// A node ends its support.
    Withdraw {
        /// The node that gave it.
        supporter: NodeId,
        /// The node that had it.
        requester: NodeId,
    },
    /// A node crashes and starts again.
    Restart(NodeId),
    /// A node starts a round of confirmation.
    StartRound(NodeId),
    /// A replica campaigns.
    Campaign(NodeId),
    /// A replica learns of a later term.
    EnterTerm(NodeId, Term),
    /// A leader asks whoever hears it to campaign.
    Abdicate(NodeId),
    /// A message arrives.
    Receive(NodeId, Message),
    /// A request for a vote arrives, and the vote decides the election.
    Elect(NodeId, Message),
}

impl Liveness {
    pub(crate) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whether rounds that no read waits for can matter.
    fn any_round_matters(&self) -> bool {
        !self.reduced
            || self.has(Mistake::EarlierRunConfirms)
            || self.has(Mistake::EarlierRoundConfirms)
    }

    fn node_actions(&self, state: &State, node: NodeId, actions: &mut Vec<Action>) {
        let restarts: u64 = state.nodes.iter().map(|node| node.run.0).sum();
        if restarts < self.bounds.restarts {
            actions.push(Action::Restart(node));
        }
        let rounds: u64 = state.nodes.iter().map(|node| node.round).sum();
        if rounds < self.bounds.rounds && (self.any_round_matters() || self.may_read(state, node)) {
            actions.push(Action::StartRound(node));
        }
        let grants: u64 =
            state.nodes.iter().flat_map(|node| node.grants.iter()).map(|grant| grant.epoch.0).sum();
        for peer in peers(node) {
            let grant = state.nodes[node].grants[peer];
            if grant.live && (!self.reduced || reduction::end_matters(state, node, peer)) {
                actions.push(Action::Withdraw { supporter: node, requester: peer });
            }
            if grants < self.bounds.grants
                && (!self.reduced || reduction::support_matters(state, peer))
            {
                let runs = (grant.run.0..=state.nodes[peer].run.0).map(BootCount);
                actions.extend(runs.map(|run| Action::Support {
                    supporter: node,
                    requester: peer,
                    run,
                }));
            }
        }
    }

    fn replica_actions(&self, state: &State, node: NodeId, actions: &mut Vec<Action>) {
        let replica = state.nodes[node].replica;
        let newest = state.nodes.iter().map(|node| node.replica.term).max().unwrap_or_default();
        let later = (replica.term.0 + 1..=newest.0).map(Term);
        actions.extend(later.map(|term| Action::EnterTerm(node, term)));
        if replica.term.0 < self.bounds.terms {
            actions.push(match replica.role {
                Role::Follower | Role::Candidate => Action::Campaign(node),
                Role::Leader { .. } => Action::Abdicate(node),
            });
        }
        for message in state.network.iter().filter(|&message| reaches(state, message, node)) {
            actions.push(Action::Receive(node, message));
            if matches!(message, Message::RequestVote { .. }) {
                actions.push(Action::Elect(node, message));
            }
        }
    }
}

impl Model for Liveness {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for node in NODES {
            self.node_actions(state, node, actions);
            self.replica_actions(state, node, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Support { supporter, requester, run } => {
                self.support(&mut state, supporter, requester, run);
            }
            Action::Withdraw { supporter, requester } => {
                state.nodes[supporter].grants[requester].end();
            }
            Action::Restart(node) => self.restart(&mut state, node),
            Action::StartRound(node) => self.start_round(&mut state, node),
            Action::Campaign(node) => self.campaign(&mut state, node),
            Action::EnterTerm(node, term) => self.enter_term(&mut state.nodes[node].replica, term),
            Action::Abdicate(node) => Self::abdicate(&mut state, node),
            Action::Receive(node, message) => self.receive(&mut state, node, message),
            Action::Elect(node, message) => {
                if !self.elect(&mut state, node, message) || !reduction::well_named(last, &state) {
                    return None;
                }
            }
        }
        if self.reduced {
            reduction::forget(&mut state, self.any_round_matters());
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

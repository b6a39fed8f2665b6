//! The model as the checker sees it: its bounds, and what can happen in a state.

use crate::ids::{BootCount, NodeId, Term};
use crate::mistake::Mistake;
use crate::network::Message;
use crate::properties;
use crate::state::{Role, State};
use stateright::{Model, Property};

/// Node liveness and fortified leaders, for `N` nodes and one group.
#[derive(Clone, Copy, Debug)]
pub struct Liveness<const N: usize> {
    /// How far it goes.
    pub bounds: Bounds,
    /// Where it begins.
    pub start: Start,
    /// When what a node does becomes durable.
    pub syncs: Syncs,
    /// Whether it leaves out the steps and messages that make no difference.
    pub reduced: bool,
    /// What is wrong with the protocol, if anything.
    pub mistake: Option<Mistake>,
}

/// How far the model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The highest term that anybody campaigns in.
    pub terms: u8,
    /// How often support is given, counted over all pairs of nodes, but for what was given at the
    /// start.
    pub grants: u8,
    /// How often nodes restart, counted over all nodes.
    pub restarts: u8,
    /// How many rounds of confirmation the present boots of all nodes have started.
    pub rounds: u8,
}

/// Where the model begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing has happened.
    Empty,
    /// Node 1 leads the first term, has the support of all, and fortified itself with its entry.
    Led,
}

/// When what a node does becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// With the step that does it, but for the entry of a new leader, whose appends may leave
    /// before. A node that crashes before anything that rests on a change has left is a node to
    /// which the change never happened.
    AtOnce,
    /// Any time later, or never if the node crashes.
    Later,
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
        /// The boot in which it was made.
        boot: BootCount,
    },
    /// A node ends its support.
    Withdraw {
        /// The node that gave it.
        supporter: NodeId,
        /// The node that had it.
        requester: NodeId,
    },
    /// All that a node has done becomes durable.
    Sync(NodeId),
    /// A node crashes and starts again.
    Restart(NodeId),
    /// A node starts a round of confirmation, for a read if its replica may begin one.
    StartRound(NodeId),
    /// A leader begins a read, by mistake without a new round.
    JoinRound(NodeId),
    /// A replica asks who would vote for it.
    PreCampaign(NodeId),
    /// A replica campaigns.
    Campaign(NodeId),
    /// A replica learns of a later term.
    EnterTerm(NodeId, Term),
    /// A leader asks whoever hears it to campaign.
    Abdicate(NodeId),
    /// A leader or candidate becomes a follower.
    StepDown(NodeId),
    /// A replica gives up, and lets those go that are bound to it.
    Resign(NodeId),
    /// A replica that restarted tells its leader of its bond.
    Present(NodeId),
    /// A message arrives.
    Receive(NodeId, Message),
    /// A request for a vote arrives, and the vote decides the election.
    Elect(NodeId, Message),
    /// A candidate learns that it is elected.
    Lead(NodeId),
}

impl<const N: usize> Liveness<N> {
    pub(crate) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whether what a node does becomes durable later than it is done.
    pub(crate) const fn syncs_late(&self) -> bool {
        matches!(self.syncs, Syncs::Later)
    }

    /// Whether a node may restart once more.
    pub(crate) fn restarts_left(&self, state: &State<N>) -> bool {
        state.nodes.iter().map(|node| node.boot.0).sum::<u8>() < self.bounds.restarts
    }

    /// Whether it matters that followers tell their leaders of their bonds after a restart. They
    /// have told them before.
    pub(crate) fn presents(&self) -> bool {
        !self.reduced || self.has(Mistake::PresentInLaterTerm)
    }

    fn node_actions(&self, state: &State<N>, node: NodeId, actions: &mut Vec<Action>) {
        if self.restarts_left(state) {
            actions.push(Action::Restart(node));
            if state.nodes[node].disk.is_some() {
                actions.push(Action::Sync(node));
            }
        }
        let rounds: u8 = state.nodes.iter().map(|node| node.round.0).sum();
        if rounds < self.bounds.rounds && self.round_matters(state, node) {
            actions.push(Action::StartRound(node));
        }
        if self.has(Mistake::OpenRoundConfirms)
            && self.may_read(state, node)
            && state.nodes[node].round.0 > 0
        {
            actions.push(Action::JoinRound(node));
        }
        let given: usize = state
            .nodes
            .iter()
            .flat_map(|node| node.memory.grants.iter())
            .map(|grant| usize::from(grant.epoch.0))
            .sum();
        let at_start = if self.start == Start::Led { N - 1 } else { 0 };
        let left = given < usize::from(self.bounds.grants) + at_start;
        for peer in State::<N>::peers(node) {
            let grant = state.nodes[node].memory.grants[peer];
            if grant.live && self.end_matters(state, node, peer) {
                actions.push(Action::Withdraw { supporter: node, requester: peer });
            }
            if left && self.support_matters(state, peer) {
                let boots = (grant.boot.0..=state.nodes[peer].boot.0).map(BootCount);
                actions.extend(boots.map(|boot| Action::Support {
                    supporter: node,
                    requester: peer,
                    boot,
                }));
            }
        }
    }

    fn replica_actions(&self, state: &State<N>, node: NodeId, actions: &mut Vec<Action>) {
        let term = state.nodes[node].memory.term;
        let role = state.nodes[node].role;
        let newest = state.nodes.iter().map(|node| node.memory.term.0).max().unwrap_or_default();
        let newest = if self.reduced { newest } else { self.bounds.terms };
        actions.extend((term.0 + 1..=newest).map(|term| Action::EnterTerm(node, Term(term))));
        if role.leads() {
            actions.push(Action::StepDown(node));
        }
        if term.0 < self.bounds.terms {
            actions.push(if role.leads() {
                Action::Abdicate(node)
            } else {
                Action::Campaign(node)
            });
            if !self.asks_early() && (!role.leads() || self.has(Mistake::PreVoteKeepsRole)) {
                actions.push(Action::PreCampaign(node));
            }
            if self.resignation_matters() {
                actions.push(Action::Resign(node));
            }
        }
        if role == Role::Restored {
            actions.push(Action::Present(node));
        }
        if role == Role::Candidate && self.syncs_late() {
            actions.push(Action::Lead(node));
        }
        for message in state.network.iter().filter(|&it| self.reaches(state, it, node)) {
            actions.push(Action::Receive(node, message));
            if matches!(message, Message::RequestVote { .. }) && !self.syncs_late() {
                actions.push(Action::Elect(node, message));
            }
        }
    }

    /// Whether `message` may reach `node` and do something there. Answers are not received: what
    /// rests on them looks for them in the network.
    fn reaches(&self, state: &State<N>, message: Message, node: NodeId) -> bool {
        let own = state.nodes[node].memory.term;
        match message {
            Message::TimeoutNow { from, .. } if self.has(Mistake::EarlierTimeoutNow) => {
                from != node && own.0 < self.bounds.terms
            }
            Message::RequestVote { term, from, .. }
            | Message::Append { term, from, .. }
            | Message::Fortify { term, from }
            | Message::TimeoutNow { term, from } => from != node && term >= own,
            Message::PreVote { from, .. } | Message::Confirm { from, .. } => from != node,
            Message::Resign { to, .. } => to == node,
            Message::Vote { .. }
            | Message::Appended { .. }
            | Message::Fortified { .. }
            | Message::Confirmed { .. } => false,
        }
    }

    /// Does what happens. Returns false if it can't.
    fn act(&self, state: &mut State<N>, action: Action) -> bool {
        match action {
            Action::Support { supporter, requester, boot } => {
                self.support(state, supporter, requester, boot);
            }
            Action::Withdraw { supporter, requester } => {
                state.nodes[supporter].memory.grants[requester].end();
            }
            Action::Sync(node) => self.sync(state, node),
            Action::Restart(node) => self.restart(state, node),
            Action::StartRound(node) => self.start_round(state, node),
            Action::JoinRound(node) => {
                let round = state.nodes[node].round;
                Self::begin_read(state, node, round);
            }
            Action::PreCampaign(node) => self.pre_campaign(state, node),
            Action::Campaign(node) => self.campaign(state, node),
            Action::EnterTerm(node, term) => {
                self.enter(&mut state.nodes[node].memory, term);
                state.nodes[node].role = Role::Follower;
            }
            Action::Abdicate(node) => Self::abdicate(state, node),
            Action::StepDown(node) => state.nodes[node].role = Role::Follower,
            Action::Resign(node) => self.resign(state, node),
            Action::Present(node) => self.present(state, node),
            Action::Receive(node, message) => self.receive(state, node, message),
            Action::Elect(node, message) => return self.elect(state, node, message),
            Action::Lead(node) => return self.lead(state, node),
        }
        true
    }

    /// Node 1 leads the first term, and all follow.
    fn led(&self) -> State<N> {
        let mut state = State::default();
        let leader = NodeId(1);
        let step = |state: &mut State<N>, action| {
            self.act(state, action);
            State::<N>::ids().for_each(|node| self.sync(state, node));
        };
        step(&mut state, Action::Campaign(leader));
        let (term, last) = (Term(1), Term(0));
        let request = Message::RequestVote { term, from: leader, last, transfer: false };
        for peer in State::<N>::peers(leader) {
            step(&mut state, Action::Receive(peer, request));
        }
        step(&mut state, Action::Lead(leader));
        let log = state.nodes[leader].memory.log;
        for peer in State::<N>::peers(leader) {
            let boot = BootCount(0);
            step(&mut state, Action::Support { supporter: peer, requester: leader, boot });
            step(&mut state, Action::Receive(peer, Message::Append { term, from: leader, log }));
        }
        state
    }
}

impl<const N: usize> Model for Liveness<N> {
    type State = State<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<N>> {
        let mut state = match self.start {
            Start::Empty => State::default(),
            Start::Led => self.led(),
        };
        self.reduce(&mut state);
        vec![state]
    }

    fn actions(&self, state: &State<N>, actions: &mut Vec<Action>) {
        for node in State::<N>::ids() {
            self.node_actions(state, node, actions);
            self.replica_actions(state, node, actions);
        }
    }

    fn next_state(&self, last: &State<N>, action: Action) -> Option<State<N>> {
        let mut state = last.clone();
        if !self.act(&mut state, action) {
            return None;
        }
        self.settle(last, &mut state);
        self.reduce(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

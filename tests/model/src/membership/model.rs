//! The model as the checker sees it: its bounds, and what can happen in a state.

use super::configuration::{Configuration, Nodes};
use super::log::{Log, LogId, Member};
use super::message::Message;
use super::mistake::Mistake;
use super::properties;
use super::state::{Replica, State};
use crate::ids::{NodeId, Term};
use stateright::{Model, Property};

/// Changes of members, for `N` nodes and one group.
#[derive(Clone, Copy, Debug)]
pub struct Membership<const N: usize> {
    /// The configurations that the group has had up to the start, the founding one first. All are
    /// committed. Founders that are members still have them in their logs. Those that are none any
    /// more have not heard of it. Nobody else has a replica yet.
    pub past: &'static [Configuration],
    /// How voters change.
    pub steps: Steps,
    /// Whether each node supports each other one at the start. Without support there are no bonds
    /// and no reads.
    pub support: bool,
    /// How far it goes.
    pub bounds: Bounds,
    /// Whether it forgets the messages that make no difference.
    pub reduced: bool,
    /// What is wrong with the rules, if anything.
    pub mistake: Option<Mistake>,
}

/// How far the model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The highest term that anybody campaigns in.
    pub terms: u8,
    /// How many entries of a log change the configuration.
    pub changes: u8,
    /// How often support ends, counted over all pairs of nodes.
    pub withdrawals: u8,
}

/// How voters change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// Any number of them at once, by way of a joint configuration. So does Logboat.
    Joint,
    /// One at a time, and at once (Raft thesis, section 4.1).
    Single,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A replica campaigns.
    Campaign(NodeId),
    /// A message arrives.
    Receive(NodeId, Message),
    /// A request for a vote arrives, and the vote decides the election.
    Elect(NodeId, Message),
    /// A leader changes the configuration.
    Change(NodeId, Configuration),
    /// A replica learns that it is gone.
    Destroy(NodeId),
    /// A node ends its support.
    Withdraw {
        /// The node that gave it.
        supporter: NodeId,
        /// The node that had it.
        leader: NodeId,
    },
    /// A leader asks whoever hears it to campaign.
    Abdicate(NodeId),
    /// A replica gives up, and lets those go that are bound to it.
    Resign(NodeId),
}

impl<const N: usize> Membership<N> {
    pub(super) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// All nodes.
    pub(super) fn everybody() -> Nodes {
        Nodes::filter(State::<N>::ids(), |_| true)
    }

    fn begin(&self) -> State<N> {
        let mut state = State::default();
        let log = self.past.iter().fold(Log::default(), |log, &it| log.with(Term(0), it));
        state.history.commit(Term(0), log);
        for node in State::<N>::ids() {
            let place = &mut state.nodes[node];
            if self.support {
                place.supports = Self::everybody().without(Nodes::default().with(node));
            }
            let founder = Member { node, id: LogId::FOUNDER };
            let knows = (1..=log.len()).map(|index| log.prefix(index));
            if let Some(log) = knows.take_while(|log| log.member(node) == Some(founder)).last() {
                place.least = founder.id;
                place.replica = Some(Replica { id: founder.id, log, ..Replica::default() });
            }
        }
        state
    }

    fn node_actions(&self, state: &State<N>, id: NodeId, actions: &mut Vec<Action>) {
        let node = &state.nodes[id];
        let kept: u32 = state.nodes.iter().map(|node| node.supports.len()).sum();
        let all = if self.support { N * (N - 1) } else { 0 };
        let ended = all - usize::try_from(kept).expect("there are few nodes");
        if let Some(bond) = node.bound()
            && ended < usize::from(self.bounds.withdrawals)
        {
            actions.push(Action::Withdraw { supporter: id, leader: bond.leader.node });
        }
        let Some(replica) = &node.replica else {
            return;
        };
        let terms_left = replica.term.0 < self.bounds.terms;
        if terms_left && self.may_campaign(state, id) {
            actions.push(Action::Campaign(id));
        }
        if replica.leads() && !state.has_abdicated(id) {
            if self.support && terms_left {
                actions.push(Action::Abdicate(id));
            }
            let changes = replica.log.changes().count();
            let most = self.past.len() + usize::from(self.bounds.changes);
            if changes < most && self.may_change(state, id) {
                let all = Self::everybody();
                let next = replica.log.configuration().successors(all, self.steps);
                actions.extend(
                    next.into_iter().map(|configuration| Action::Change(id, configuration)),
                );
            }
        }
        if self.support && terms_left && self.resignation_matters(state, id) {
            actions.push(Action::Resign(id));
        }
        if self.is_gone(state, id) {
            actions.push(Action::Destroy(id));
        }
    }

    fn arrivals(&self, state: &State<N>, id: NodeId, actions: &mut Vec<Action>) {
        for message in state.sent.iter().filter(|message| self.reaches(state, message, id)) {
            actions.push(Action::Receive(id, message));
            if let Message::RequestVote { .. } = message {
                actions.push(Action::Elect(id, message));
            }
        }
    }

    /// Does what happens. Returns false if it can't.
    pub(super) fn act(&self, state: &mut State<N>, action: Action) -> bool {
        match action {
            Action::Campaign(node) => {
                if state.nodes[node].bound().is_some() {
                    return false;
                }
                self.ask_for_votes(state, node, false);
            }
            Action::Receive(node, message) => self.receive(state, node, message),
            Action::Elect(node, message) => return self.elect(state, node, message),
            Action::Change(node, configuration) => Self::append(state, node, configuration),
            Action::Destroy(node) => self.destroy(state, node),
            Action::Withdraw { supporter, leader } => {
                let supports = &mut state.nodes[supporter].supports;
                *supports = supports.without(Nodes::default().with(leader));
            }
            Action::Abdicate(node) => Self::abdicate(state, node),
            Action::Resign(node) => Self::resign(state, node),
        }
        true
    }

    /// What follows a step: leaders notice what is committed.
    pub(super) fn settle(&self, state: &mut State<N>) {
        for node in State::<N>::ids() {
            if state.nodes[node].replica.is_some_and(|it| it.leads()) {
                self.commit(state, node);
            }
        }
        if self.reduced {
            self.reduce(state);
        }
    }
}

impl<const N: usize> Model for Membership<N> {
    type State = State<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<N>> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State<N>, actions: &mut Vec<Action>) {
        for node in State::<N>::ids() {
            self.node_actions(state, node, actions);
            self.arrivals(state, node, actions);
        }
    }

    fn next_state(&self, last: &State<N>, action: Action) -> Option<State<N>> {
        let mut state = last.clone();
        if !self.act(&mut state, action) {
            return None;
        }
        self.settle(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

//! Reductions: what the model leaves out, since it makes no difference to what can go wrong. Each
//! omission has its reason here. A test goes through small bounds without any of them and finds the
//! same.
//!
//! One omission is always made where syncs don't matter: **candidates that don't know yet that they
//! won**. A candidate is elected along with the vote that makes its majority, or never. Until it
//! knows, its replica does nothing. What others do in the meantime they can do afterwards as well,
//! with more messages to choose from.

use crate::ids::{BootCount, NodeId, Round, Term};
use crate::mistake::Mistake;
use crate::model::Liveness;
use crate::network::Message;
use crate::state::{Node, Role, State};

impl<const N: usize> Liveness<N> {
    /// Whether giving support to `node` can matter. Nobody binds itself to a node that has never
    /// led, so the support can as well be given later.
    pub(crate) fn support_matters(&self, state: &State<N>, node: NodeId) -> bool {
        !self.reduced || state.network.elected().any(|(_, leader, _)| leader == node)
    }

    /// Whether it can matter that `supporter` ends its support for `node`. Support that binds
    /// nobody can as well end right after the next bond that rests on it, which only adds an
    /// answer.
    pub(crate) fn end_matters(&self, state: &State<N>, supporter: NodeId, node: NodeId) -> bool {
        !self.reduced || state.bound(supporter).is_some_and(|bond| bond.leader == node)
    }

    /// Whether requests for pre-votes are sent as early as can be rather than at any time. They
    /// change nothing at their sender, and what was sent may arrive any later.
    pub(crate) fn asks_early(&self) -> bool {
        self.reduced && !self.syncs_late() && !self.has(Mistake::PreVoteKeepsRole)
    }

    /// Whether a resignation can do more than a request for a pre-vote of the next term. It ends
    /// the same bonds, and its receivers may enter that term on their own.
    pub(crate) fn resignation_matters(&self) -> bool {
        !self.reduced
            || self.has(Mistake::ResignEndsLaterBond)
            || self.has(Mistake::ResignKeepsRole)
    }

    /// Whether it can matter that `node` begins a round: only reads wait for one.
    pub(crate) fn round_matters(&self, state: &State<N>, node: NodeId) -> bool {
        !self.reduced
            || self.may_read(state, node)
            || self.any_round_matters() && state.nodes[node].role.leads()
    }

    /// Whether rounds that no read waits for can matter.
    fn any_round_matters(&self) -> bool {
        !self.reduced
            || self.has(Mistake::EarlierBootConfirms)
            || self.has(Mistake::EarlierRoundConfirms)
            || self.has(Mistake::OpenRoundConfirms)
    }

    /// Sends what may as well be sent now, and takes out what nobody will take notice of any more.
    pub(crate) fn reduce(&self, state: &mut State<N>) {
        if !self.reduced {
            return;
        }
        if self.asks_early() {
            for node in State::<N>::ids() {
                let asking = &state.nodes[node];
                if matches!(asking.role, Role::Follower) && asking.disk.is_none() {
                    let term = asking.memory.term.next();
                    state.network.send(Message::PreVote { term, from: node });
                }
            }
        }
        self.forget_bonds(state);
        self.forget_messages(state);
    }

    /// Support that has ended does not come back, nor does a bond that rests on it.
    fn forget_bonds(&self, state: &mut State<N>) {
        if self.mistake.is_some_and(Mistake::revives_support) {
            return;
        }
        for node in state.nodes.iter_mut() {
            for stored in [&mut node.memory].into_iter().chain(&mut node.disk) {
                stored.bond = stored.bound();
            }
            node.disk = node.disk.filter(|disk| *disk != node.memory || !node.outbox.is_empty());
        }
    }

    fn forget_messages(&self, state: &mut State<N>) {
        let State { nodes, network } = state;
        let newest = network.newest_elected();
        let lowest = nodes.iter().flat_map(Node::versions).map(|stored| stored.term).min();
        let elected: Vec<_> = network.elected().map(|(term, leader, _)| (term, leader)).collect();
        let asked: Vec<_> = State::<N>::ids()
            .map(|node| {
                network.iter().filter_map(move |message| match message {
                    Message::PreVote { term, from } if from == node => Some(term),
                    _ => None,
                })
            })
            .map(|terms| terms.max().unwrap_or_default())
            .collect();
        let confirmed: Vec<_> = network
            .iter()
            .filter_map(|message| match message {
                Message::Confirmed { from, to, epoch, .. } => Some((from, to, epoch)),
                _ => None,
            })
            .collect();
        // Whether a bond to `leader` of a term before `term` is or may be at another replica.
        let may_bind = |leader: NodeId, term: Term| {
            let last = elected.iter().filter(|it| it.1 == leader && it.0 < term).max();
            last.is_some_and(|&(last, _)| {
                State::<N>::peers(leader).flat_map(|peer| nodes[peer].versions()).any(|stored| {
                    stored.term <= last
                        || stored.bond.is_some_and(|it| it.leader == leader && it.term < term)
                })
            })
        };
        let strict = self.mistake.is_none();
        let ends = self.mistake.is_some_and(Mistake::is_of_ends);
        network.retain(|message| match *message {
            // The latest of them ends whatever an earlier one does.
            Message::PreVote { term, from } => {
                ends || term == asked[usize::from(from.0) - 1] && may_bind(from, term)
            }
            // A request counts for those who have not yet voted in its term. That it ends bonds is
            // said by an earlier request for a pre-vote as well.
            Message::RequestVote { term, from, transfer, .. } => {
                ends || transfer && self.has(Mistake::TransferOutlivesTerm)
                    || State::<N>::peers(from)
                        .flat_map(|peer| nodes[peer].versions())
                        .any(|it| it.term < term || it.term == term && it.vote.is_none())
            }
            // A vote counts while its candidate stands, and beside a bond that was there before it.
            Message::Vote { term, from, to } => {
                nodes[to].memory.term == term && nodes[to].role == Role::Candidate
                    || nodes[from].versions().any(|it| it.bond.is_some_and(|it| it.term < term))
            }
            // What a leader sends counts for those who have entered no later term.
            Message::Fortify { term, .. } => Some(term) >= lowest,
            Message::TimeoutNow { term, .. } => {
                Some(term) >= lowest || self.has(Mistake::EarlierTimeoutNow)
            }
            // What a leader has been told counts while it leads, and while it may be confirmed.
            Message::Fortified { term, from, epoch } => {
                let leader = State::<N>::ids()
                    .find(|&node| nodes[node].role.leads() && nodes[node].memory.term == term);
                leader.map_or(term > newest, |leader| {
                    let counts = nodes[from].versions().any(|stored| {
                        let grant = stored.grants[leader];
                        grant.live && grant.epoch == epoch && grant.boot == nodes[leader].boot
                    });
                    !strict || counts || confirmed.contains(&(from, leader, epoch))
                })
            }
            // A round counts while a read waits for it.
            Message::Confirm { from: node, boot, round }
            | Message::Confirmed { to: node, boot, round, .. } => {
                self.any_round_matters() || awaits(&nodes[node], boot, round)
            }
            Message::Resign { .. } => true,
            // The history that the properties speak of.
            Message::Append { .. } | Message::Appended { .. } => true,
        });
    }
}

fn awaits<const N: usize>(node: &Node<N>, of: BootCount, at: Round) -> bool {
    node.boot == of && node.role.read().is_some_and(|read| read.round == at)
}

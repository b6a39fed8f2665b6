//! What elections rest on: who asked for votes and who gave some, as the messages say that arrived.
//!
//! A vote counts if the configuration in force at the end of the candidate's log names the very
//! replica that gave it. A majority of each half has to have given one. The same goes for the
//! pre-votes before a campaign.

use logboat_raft::{Configuration, HardState, Message, NodeId, Payload, ReplicaAddress, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What was heard of the elections of a group.
#[derive(Debug, Default)]
pub(super) struct Elections {
    /// Who asked for votes in which term.
    asked: BTreeSet<(Term, ReplicaAddress)>,
    /// Who would vote in a term for a candidate that asks.
    pre_votes: Ballots,
    /// Who voted in a term for a candidate.
    votes: Ballots,
}

/// By term and candidate, those who are for it.
type Ballots = BTreeMap<(Term, ReplicaAddress), BTreeSet<ReplicaAddress>>;

impl Elections {
    /// A message arrived.
    pub(super) fn heard(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let term = message.term;
        let sender = ReplicaAddress::new(from, message.from);
        let ballots = match message.payload {
            Payload::Vote { .. } => {
                self.asked.insert((term, sender));
                return;
            }
            Payload::PreVoteReply { granted: true } => &mut self.pre_votes,
            Payload::VoteReply { granted: true } => &mut self.votes,
            _ => return,
        };
        let candidate = ReplicaAddress::new(to, message.to);
        ballots.entry((term, candidate)).or_default().insert(sender);
    }

    /// The replica on `node` writes another term or vote than `before`, with this configuration in
    /// force. `leads` says whether a node led in the new term, and `handed_over` whether the leader
    /// of the term before had another replica campaign.
    ///
    /// # Panics
    /// When it campaigns without a majority that would vote for it, or when nobody can have got the
    /// vote that it says it has given.
    pub(super) fn written(
        &self,
        node: NodeId,
        (before, after): (HardState, HardState),
        configuration: Option<&Configuration>,
        leads: impl Fn(NodeId) -> bool,
        handed_over: impl Fn(Term) -> bool,
    ) {
        let HardState { term, vote: Some(vote), replica, .. } = after else { return };
        if (before.term, before.vote) == (term, after.vote) {
            return;
        }
        let own = ReplicaAddress::new(node, replica);
        if vote == own {
            let is_won = configuration.is_none_or(|it| is_won(&self.pre_votes, term, own, it));
            assert!(
                is_won || handed_over(term.prev()),
                "{own:?} campaigns in {term} without pre-votes of a majority of {configuration:?}"
            );
        } else {
            assert!(
                self.asked.contains(&(term, vote)) || leads(vote.node),
                "{own:?} has a vote for {vote:?} in {term}, who never asked for it"
            );
        }
    }

    /// A replica leads in a term, to which it was elected with this configuration in force.
    ///
    /// # Panics
    /// When it was not elected by a majority.
    pub(super) fn elected(&self, term: Term, own: ReplicaAddress, configuration: &Configuration) {
        assert!(
            is_won(&self.votes, term, own, configuration),
            "{own:?} leads in {term} without votes of a majority of {configuration:?}"
        );
    }
}

/// Whether those who are for a candidate, and the candidate itself, are a majority.
fn is_won(
    ballots: &Ballots,
    term: Term,
    candidate: ReplicaAddress,
    configuration: &Configuration,
) -> bool {
    let given = ballots.get(&(term, candidate));
    configuration.is_quorum(|node| {
        let member = configuration.member(node).map(|member| member.address());
        member.is_some_and(|it| it == candidate || given.is_some_and(|given| given.contains(&it)))
    })
}

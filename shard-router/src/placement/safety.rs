//! Which steps do no harm. Every step passes this, whichever rule asks for it.

use super::facts::{Condition, GroupFacts, Replica};
use super::need::Judged;
use super::seats::Seats;
use super::standing::Standing;
use super::step::Act;
use logboat::{MemberRole, NodeId};

/// Why a step may not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepRefusal {
    /// Nothing is known of the group.
    #[error("the group is unknown")]
    UnknownGroup,
    /// The step was thought for another configuration of the group.
    #[error("the members of the group have changed since")]
    Stale,
    /// Another change of the group is under way.
    #[error("another change of the group is under way")]
    Changing,
    /// The node takes no replicas: it is lost, silent, full, joining, or being emptied.
    #[error("node {0} takes no replicas")]
    TakesNone(NodeId),
    /// The node has a replica of the group already.
    #[error("node {0} has a replica of the group")]
    Member(NodeId),
    /// The replica is no learner that has caught up and lives.
    #[error("the replica on node {0} is not ready to vote")]
    NotReady(NodeId),
    /// The node has no voter of the group.
    #[error("node {0} has no voter of the group")]
    NotVoter(NodeId),
    /// The node has no learner of the group.
    #[error("node {0} has no learner of the group")]
    NotLearner(NodeId),
    /// The leader would be demoted. It has to hand over first.
    #[error("node {0} leads the group: it has to hand over first")]
    Leads(NodeId),
    /// The voters after the change, or those before it, have no live majority.
    #[error("no majority of the voters would be alive")]
    NoQuorum,
    /// The group would have fewer live voters than before, and than it should have.
    #[error("the group would have {after} live voters, and has {before}")]
    FewerVoters {
        /// Those before the change.
        before: usize,
        /// Those after it.
        after: usize,
    },
    /// A live voter would go while a dead one is there.
    #[error("node {0} is alive, and a dead voter is there")]
    DeadFirst(NodeId),
    /// The replica that would lead is no live voter that has caught up, or its node is being
    /// emptied.
    #[error("the replica on node {0} cannot lead")]
    CannotLead(NodeId),
}

/// Checks that an act may be carried out on a group.
pub(super) fn check(seats: &Seats, facts: &GroupFacts, act: &Act) -> Result<(), StepRefusal> {
    let judged = Judged::new(seats, facts);
    match act {
        Act::AddLearner(node) if facts.replica(*node).is_some() => Err(StepRefusal::Member(*node)),
        Act::AddLearner(node) if seats.standing(*node) != Standing::Takes => {
            Err(StepRefusal::TakesNone(*node))
        }
        Act::AddLearner(_) => Ok(()),
        Act::Voters { promote, demote } => check_voters(&judged, promote, demote),
        Act::Remove(node) => {
            let learner = facts.replica(*node).filter(|it| it.role == MemberRole::Learner);
            learner.map(drop).ok_or(StepRefusal::NotLearner(*node))
        }
        Act::Transfer { to, .. } => {
            let voter = facts.replica(*to).filter(|it| judged.may_lead(it));
            voter.map(drop).ok_or(StepRefusal::CannotLead(*to))
        }
    }
}

fn check_voters(
    judged: &Judged<'_>,
    promote: &[NodeId],
    demote: &[NodeId],
) -> Result<(), StepRefusal> {
    let facts = judged.facts;
    let is_ready = |node: &&NodeId| {
        let learner = facts.replica(**node).filter(|it| it.role == MemberRole::Learner);
        learner.is_some_and(|it| it.condition == Condition::CaughtUp && judged.is_live(it))
    };
    if let Some(node) = promote.iter().find(|node| !is_ready(node)) {
        return Err(StepRefusal::NotReady(*node));
    }
    let votes = |node: &&NodeId| judged.voters().any(|it| it.node == **node);
    if let Some(node) = demote.iter().find(|node| !votes(node)) {
        return Err(StepRefusal::NotVoter(*node));
    }
    if let Some(node) = demote.iter().find(|node| facts.leader == Some(**node)) {
        return Err(StepRefusal::Leads(*node));
    }
    let staying = judged.voters().filter(|it| !demote.contains(&it.node));
    let live =
        |voters: &mut dyn Iterator<Item = &Replica>| voters.filter(|it| judged.is_live(it)).count();
    let before = live(&mut judged.voters());
    let after = promote.len() + live(&mut staying.clone());
    let all_before = judged.voters().count();
    let all_after = promote.len() + staying.clone().count();
    if before <= all_before / 2 || after <= all_after / 2 {
        return Err(StepRefusal::NoQuorum);
    }
    if after < before.min(judged.wanted()) {
        return Err(StepRefusal::FewerVoters { before, after });
    }
    let mut demoted = judged.voters().filter(|it| demote.contains(&it.node));
    match demoted.find(|it| judged.is_live(it)) {
        Some(live) if staying.clone().any(|it| judged.is_dead(it)) => {
            Err(StepRefusal::DeadFirst(live.node))
        }
        _ => Ok(()),
    }
}

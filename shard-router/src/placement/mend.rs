//! The step that helps a group with what it needs.

use super::facts::{Condition, GroupFacts, Replica};
use super::need::{Judged, Need};
use super::round::Planner;
use super::safety;
use super::seats::{ONE, Seats, whole};
use super::standing::Standing;
use super::step::{Act, Why};
use logboat::NodeId;
use smallvec::{SmallVec, smallvec};
use std::cmp::Reverse;

/// What came of looking for a step.
pub(super) enum Outcome {
    /// There is one.
    Step(Act, Why),
    /// There will be one when fewer copies are under way.
    Paced,
    /// There is none now.
    Waits,
}

/// How much worse the place of a learner may be than that of a voter before its copy is given up,
/// in thousandths of a replica.
const PATIENCE: i64 = 2 * ONE;

/// Looks for a step for a group with this need.
pub(super) fn plan(planner: &Planner<'_>, need: Need, facts: &GroupFacts) -> Outcome {
    let judged = Judged::new(&planner.seats, facts);
    let step = match need {
        Need::Promotion => promote(&judged),
        Need::Demotion => demote(&judged),
        Need::Transfer => return hand_over_amiss(planner, &judged),
        Need::Removal => {
            let learner = judged.learners().find(|it| !judged.stays(it));
            learner.map(|it| (Act::Remove(it.node), reason(&judged, it)))
        }
        Need::Settlement => settle(&judged),
        Need::CriticalCopy | Need::Copy | Need::Move => return copy(planner, &judged),
        Need::Spread => return spread(planner, &judged),
        Need::Copying | Need::NoRoom | Need::Changing | Need::Leaderless | Need::Nothing => None,
    };
    step.map_or(Outcome::Waits, |(act, why)| Outcome::Step(act, why))
}

/// Promotes the learners that are ready, and demotes the voters whose place they take.
fn promote(judged: &Judged<'_>) -> Option<(Act, Why)> {
    if let Some(from) = judged.leads_amiss()
        && let Some(act) = hand_over(judged, from)
    {
        return Some((act, Why::Emptied(from)));
    }
    let missing = judged.wanted() - judged.staying_voters();
    let ready = judged.learners().filter(|it| judged.is_ready(it));
    let promoted: SmallVec<[NodeId; 2]> = ready.map(|it| it.node).take(missing).collect();
    let surplus = (promoted.len() + judged.voters().count()).saturating_sub(judged.wanted());
    let goes = |it: &&Replica| !judged.stays(it);
    Some(voters(judged, promoted, goes, surplus, Why::Ready))
}

/// Demotes voters without any in their place.
fn demote(judged: &Judged<'_>) -> Option<(Act, Why)> {
    let wanted = judged.wanted();
    let has = judged.voters().count();
    let (act, why) = if judged.voters().any(|it| judged.goes_first(it)) {
        voters(judged, SmallVec::new(), |it| judged.goes_first(it), has, Why::Ready)
    } else if judged.staying_voters() >= wanted && judged.voters().any(|it| !judged.stays(it)) {
        voters(judged, SmallVec::new(), |it| !judged.stays(it), has, Why::Ready)
    } else {
        let why = Why::Surplus { has, wanted };
        if let Some(leader) = judged.facts.leader
            && going(judged, |_| true).first().is_some_and(|it| it.node == leader)
        {
            return hand_over(judged, leader).map(|act| (act, why));
        }
        voters(judged, SmallVec::new(), |_| true, has.saturating_sub(wanted), why)
    };
    match &act {
        // The leader alone could be demoted, if anybody.
        Act::Voters { demote, .. } if demote.is_empty() => {
            let leader = judged.facts.leader?;
            let goes = judged.voters().any(|it| it.node == leader && !judged.stays(it));
            let why = if goes { Why::Emptied(leader) } else { Why::Surplus { has, wanted } };
            let act = hand_over(judged, leader)?;
            let is_surplus = judged.staying_voters() > wanted && frees(judged, leader, &act);
            (goes || is_surplus).then_some((act, why))
        }
        _ => Some((act, why)),
    }
}

/// The change that promotes some learners, and that demotes as many of the voters that `may_go` as
/// is safe, at most `most`, dead ones first.
fn voters(
    judged: &Judged<'_>,
    promote: SmallVec<[NodeId; 2]>,
    may_go: impl Fn(&&Replica) -> bool,
    most: usize,
    why: Why,
) -> (Act, Why) {
    let (mut why, mut demote) = (why, SmallVec::new());
    for replica in going(judged, may_go) {
        if demote.len() >= most && replica.condition != Condition::Damaged {
            continue;
        }
        demote.push(replica.node);
        let act = Act::Voters { promote: promote.clone(), demote: demote.clone() };
        if safety::check(judged.seats, judged.facts, &act).is_err() {
            demote.pop();
        } else if why == Why::Ready && !judged.stays(replica) {
            why = reason(judged, replica);
        }
    }
    (Act::Voters { promote, demote }, why)
}

/// The voters that may go, in the order in which they do: dead ones, silent ones, those that have
/// to go, those that share a zone, those on full nodes.
fn going<'a>(judged: &Judged<'a>, may_go: impl Fn(&&Replica) -> bool) -> Vec<&'a Replica> {
    let mut going: Vec<_> = judged.voters().filter(may_go).collect();
    let pairs_without = |it: &Replica| {
        let others = judged.voters().filter(|other| other.node != it.node);
        judged.seats.pairs(others.map(|other| other.node))
    };
    going.sort_by_cached_key(|it| {
        let load = judged.seats.seat(it.node).load;
        let is_sound = (!judged.is_dead(it), judged.is_live(it), judged.stays(it));
        let leads = judged.facts.leader == Some(it.node);
        (is_sound, pairs_without(it), Reverse(load), leads, it.node)
    });
    going
}

/// Why a replica has to go.
fn reason(judged: &Judged<'_>, replica: &Replica) -> Why {
    if replica.condition == Condition::Damaged {
        return Why::Damaged(replica.node);
    }
    match judged.seats.standing(replica.node) {
        Standing::Dead | Standing::Returned => Why::Lost(replica.node),
        Standing::Emptied | Standing::EmptiedSilent => Why::Emptied(replica.node),
        _ => Why::NotNeeded(replica.node),
    }
}

/// Hands over from a leader whose node is being emptied, unless too many transfers have begun.
fn hand_over_amiss(planner: &Planner<'_>, judged: &Judged<'_>) -> Outcome {
    let Some(from) = judged.leads_amiss() else { return Outcome::Waits };
    if planner.seats.seat(from).handing_over >= planner.cluster.settings.transfers {
        return Outcome::Paced;
    }
    hand_over(judged, from).map_or(Outcome::Waits, |act| Outcome::Step(act, Why::Emptied(from)))
}

/// Whether a leader may be demoted when it has handed over. If not, others would hand back to it.
fn frees(judged: &Judged<'_>, leader: NodeId, transfer: &Act) -> bool {
    let Act::Transfer { to, .. } = transfer else { return false };
    let after = GroupFacts { leader: Some(*to), ..judged.facts.clone() };
    let demoted = Act::Voters { promote: SmallVec::new(), demote: smallvec![leader] };
    safety::check(judged.seats, &after, &demoted).is_ok()
}

/// Hands over to the voter whose node leads the fewest groups.
fn hand_over(judged: &Judged<'_>, from: NodeId) -> Option<Act> {
    let may_lead = |it: &&Replica| it.node != from && judged.may_lead(it);
    let leads = |it: &&Replica| (judged.seats.seat(it.node).leads, it.node);
    let to = judged.voters().filter(may_lead).min_by_key(leads)?.node;
    Some(Act::Transfer { from, to })
}

/// Has a learner take a voter's place, or removes it.
fn settle(judged: &Judged<'_>) -> Option<(Act, Why)> {
    if let Some(demoted) = judged.learners().find(|it| !judged.is_new(it)) {
        return Some((Act::Remove(demoted.node), Why::NotNeeded(demoted.node)));
    }
    if judged.voters().any(|it| !judged.is_live(it)) {
        return None; // Which voter has to go will be known soon.
    }
    let readiness = |it: &&Replica| (!judged.is_ready(it), it.node);
    let learner = judged.learners().min_by_key(readiness)?;
    let new = judged.seats.seat(learner.node).load;
    let pairs = judged.seats.pairs(judged.voters().map(|it| it.node));
    let places = judged.voters().map(|voter| {
        let after = pairs_after(judged, voter.node, learner.node);
        // The group counts for less on its voters than on its learners.
        let load = judged.seats.seat(voter.node).load + judged.discount();
        (after, Reverse(load), voter.node)
    });
    let (after, Reverse(load), voter) = places.min()?;
    let is_better = after < pairs || after == pairs && load >= new + ONE;
    if is_better && judged.is_ready(learner) {
        let why = if after < pairs {
            Why::SharedZone(voter)
        } else {
            Why::Replicas { node: voter, has: whole(load), other: whole(new) }
        };
        let leads = judged.facts.leader == Some(voter);
        if leads && let Some(act) = hand_over(judged, voter) {
            return Some((act, why));
        }
        // An only voter hands over to the learner when that votes.
        let demote = if leads { SmallVec::new() } else { smallvec![voter] };
        let promote = smallvec![learner.node];
        return Some((Act::Voters { promote, demote }, why));
    }
    let is_waited_for = !judged.is_ready(learner)
        && judged.is_live(learner)
        && (is_better || after == pairs && load + PATIENCE >= new);
    let removal = (Act::Remove(learner.node), Why::NotNeeded(learner.node));
    (!is_waited_for).then_some(removal)
}

/// How many pairs of voters are in one zone when one takes the place of another.
pub(super) fn pairs_after(judged: &Judged<'_>, goes: NodeId, comes: NodeId) -> usize {
    let staying = judged.voters().map(|it| it.node).filter(move |node| *node != goes);
    judged.seats.pairs(staying.chain([comes]))
}

/// Adds a learner where one is missing.
fn copy(planner: &Planner<'_>, judged: &Judged<'_>) -> Outcome {
    if !planner.may_send(judged.facts) {
        return Outcome::Paced;
    }
    let Some(node) = best_place(planner, judged) else { return Outcome::Paced };
    let replaced = judged.voters().filter(|it| !judged.stays(it));
    let has = judged.staying_voters() + judged.staying_learners();
    let missing = Why::Missing { has, wanted: judged.wanted() };
    let dead_first = |it: &&Replica| (!judged.is_dead(it), it.node);
    let why = replaced.min_by_key(dead_first).map_or(missing, |it| reason(judged, it));
    Outcome::Step(Act::AddLearner(node), why)
}

/// The node for another replica: of those that may receive a copy, and share a zone with as few
/// replicas that stay as possible, the one with the fewest replicas.
fn best_place(planner: &Planner<'_>, judged: &Judged<'_>) -> Option<NodeId> {
    let staying: SmallVec<[u32; 8]> = judged
        .voters()
        .chain(judged.learners())
        .filter(|it| judged.stays(it))
        .map(|it| judged.seats.seat(it.node).zone)
        .collect();
    let places = planner.seats.takers().filter(|(node, _)| judged.facts.replica(*node).is_none());
    let shares = |zone: u32| staying.iter().filter(|other| **other == zone).count();
    // A node that may receive nothing now is waited for, rather than zones be shared.
    let (_, _, is_busy, _, node) = places
        .map(|(node, seat)| {
            let is_busy = !planner.may_receive(seat, judged.facts.bytes);
            let has_declined = judged.facts.declined.contains(&node);
            (shares(seat.zone), has_declined, is_busy, seat.load, node)
        })
        .min()?;
    (!is_busy).then_some(node)
}

/// Adds a learner in another zone.
fn spread(planner: &Planner<'_>, judged: &Judged<'_>) -> Outcome {
    if !planner.may_send(judged.facts) {
        return Outcome::Paced;
    }
    let pairs = judged.seats.pairs(judged.voters().map(|it| it.node));
    let places = planner.seats.takers().filter(|(node, seat)| {
        planner.may_receive(seat, judged.facts.bytes) && judged.facts.replica(*node).is_none()
    });
    let better = places.filter_map(|(node, seat)| {
        let moves = judged.voters().map(|it| (pairs_after(judged, it.node, node), it.node));
        let (after, goes) = moves.min()?;
        (after < pairs).then_some((after, seat.load, node, goes))
    });
    match better.min() {
        Some((_, _, node, goes)) => Outcome::Step(Act::AddLearner(node), Why::SharedZone(goes)),
        None => Outcome::Waits,
    }
}

/// Whether a group could spare this seat's replica without a zone being shared more.
pub(super) fn keeps_zones(seats: &Seats, facts: &GroupFacts, goes: NodeId, comes: NodeId) -> bool {
    let judged = Judged::new(seats, facts);
    let pairs = seats.pairs(judged.voters().map(|it| it.node));
    pairs_after(&judged, goes, comes) <= pairs
}

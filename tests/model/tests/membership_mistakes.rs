//! The checker notices when a rule of membership is broken.

mod common;

use common::groups::{ADDED_AGAIN, FOUR, REPLACED, THREE, THREE_AND_LEARNER, TWO, TWO_AND_LEARNER};
use logboat_model::membership::properties::{
    AGREED, BOND_ENDS, BOND_STANDS, COMPLETE, ELECTABLE, NOT_OVERTAKEN, ONE_LEADER,
};
use logboat_model::membership::{
    Bounds, Configuration, Membership, Mistake, Steps, representative,
};

/// Two terms and so many changes, without support.
const fn changes(changes: u8) -> Bounds {
    Bounds { terms: 2, changes, withdrawals: 0 }
}

/// The model with a mistake. The group has these voters and learners, and there is no support.
const fn broken<const N: usize>(
    mistake: Mistake,
    past: &'static [Configuration],
    bounds: Bounds,
) -> Membership<N> {
    let (steps, mistake) = (Steps::Joint, Some(mistake));
    Membership { past, steps, support: false, bounds, reduced: true, mistake }
}

/// The same, and each node supports each other one.
const fn supported<const N: usize>(model: Membership<N>) -> Membership<N> {
    Membership { support: true, ..model }
}

fn breaks<const N: usize, const P: usize>(model: Membership<N>, properties: [&'static str; P]) {
    common::breaks(model, representative, properties);
}

#[test]
fn a_single_step_is_taken_before_an_entry_of_the_own_term_is_committed() {
    let bounds = Bounds { terms: 3, ..changes(1) };
    let model = broken::<4>(Mistake::ChangeBeforeOwnTermCommit, FOUR, bounds);
    breaks(Membership { steps: Steps::Single, ..model }, [COMPLETE, AGREED]);
}

#[test]
fn a_change_is_made_while_the_one_before_is_uncommitted() {
    let model = broken::<3>(Mistake::ChangeWhileUncommitted, THREE, changes(2));
    breaks(model, [ONE_LEADER, COMPLETE]);
}

#[test]
fn the_outgoing_half_is_not_asked_for_votes() {
    breaks(broken::<3>(Mistake::HalfElects, THREE, changes(2)), [ONE_LEADER]);
}

#[test]
fn the_outgoing_half_is_not_waited_for_in_commits() {
    breaks(broken::<3>(Mistake::HalfCommits, THREE, changes(2)), [COMPLETE, AGREED]);
}

#[test]
fn the_outgoing_half_does_not_count_in_rounds() {
    breaks(broken::<3>(Mistake::HalfConfirms, THREE, changes(2)), [NOT_OVERTAKEN]);
}

#[test]
fn rounds_are_counted_over_an_earlier_configuration() {
    let bounds = Bounds { withdrawals: 1, ..changes(2) };
    let model = broken::<3>(Mistake::EarlierConfigurationConfirms, THREE, bounds);
    breaks(supported(model), [NOT_OVERTAKEN]);
}

#[test]
fn the_vote_of_a_removed_replica_counts() {
    breaks(broken::<3>(Mistake::RemovedVoteCounts, THREE, changes(2)), [ONE_LEADER]);
}

#[test]
fn the_vote_of_a_learner_counts() {
    breaks(broken::<3>(Mistake::LearnerVoteCounts, THREE, changes(2)), [ONE_LEADER]);
}

#[test]
fn the_acknowledgement_of_a_learner_counts() {
    let model = broken::<3>(Mistake::LearnerAcknowledgementCounts, THREE, changes(2));
    breaks(model, [COMPLETE, AGREED]);
}

#[test]
fn a_leader_counts_itself_where_it_does_not_vote() {
    breaks(broken::<3>(Mistake::OutsiderCountsItself, THREE, changes(2)), [COMPLETE, AGREED]);
}

#[test]
fn the_vote_of_a_former_replica_counts() {
    breaks(broken::<3>(Mistake::FormerVoteCounts, TWO_AND_LEARNER, changes(4)), [ONE_LEADER]);
}

#[test]
fn the_acknowledgement_of_a_former_replica_counts() {
    let model = broken::<3>(Mistake::FormerAcknowledgementCounts, REPLACED, changes(1));
    breaks(model, [COMPLETE]);
}

#[test]
fn the_bond_of_a_former_replica_counts() {
    let bounds = Bounds { withdrawals: 1, ..changes(0) };
    let model = broken::<3>(Mistake::FormerBondCounts, REPLACED, bounds);
    breaks(supported(model), [NOT_OVERTAKEN]);
}

#[test]
fn a_tombstone_regresses() {
    breaks(broken::<3>(Mistake::TombstoneRegresses, THREE, changes(4)), [ONE_LEADER]);
}

#[test]
fn a_configuration_that_is_not_committed_destroys_a_replica() {
    breaks(broken::<4>(Mistake::GoneByUncommitted, THREE_AND_LEARNER, changes(2)), [ELECTABLE]);
}

#[test]
fn an_earlier_configuration_destroys_a_replica() {
    breaks(broken::<3>(Mistake::GoneByEarlier, TWO, changes(3)), [ELECTABLE]);
}

#[test]
fn a_truncated_configuration_stays_in_force() {
    breaks(broken::<3>(Mistake::ConfigurationNotReverted, THREE, changes(2)), [ELECTABLE]);
}

#[test]
fn a_candidate_goes_by_the_configuration_before() {
    let model = broken::<3>(Mistake::ActiveOnCommit, THREE, changes(2));
    breaks(model, [COMPLETE, ELECTABLE]);
}

#[test]
fn a_late_resignation_ends_the_bond_to_a_later_replica() {
    let bounds = Bounds { withdrawals: 1, ..changes(3) };
    let model = broken::<3>(Mistake::ResignOfFormerEndsBond, TWO_AND_LEARNER, bounds);
    breaks(supported(model), [BOND_STANDS]);
}

#[test]
fn a_leader_goes_without_a_resignation() {
    let bounds = Bounds { withdrawals: 1, ..changes(3) };
    let model = broken::<3>(Mistake::GoneWithoutResign, TWO_AND_LEARNER, bounds);
    breaks(supported(model), [BOND_ENDS]);
}

#[test]
fn a_resignation_is_answered_in_its_term() {
    let bounds = Bounds { withdrawals: 1, ..changes(3) };
    let model = broken::<3>(Mistake::ResignedInTerm, TWO_AND_LEARNER, bounds);
    breaks(supported(model), [BOND_ENDS]);
}

#[test]
fn a_former_replica_answers_a_resignation() {
    let model = broken::<3>(Mistake::FormerResignedCounts, ADDED_AGAIN, changes(3));
    breaks(supported(model), [BOND_ENDS]);
}

#[test]
fn outgoing_voters_never_campaign() {
    breaks(broken::<3>(Mistake::OutgoingNeverCampaigns, THREE, changes(2)), [ELECTABLE]);
}

#[test]
fn learners_never_campaign() {
    breaks(broken::<3>(Mistake::LearnerNeverCampaigns, THREE, changes(2)), [ELECTABLE]);
}

#[test]
fn learners_refuse_to_vote() {
    breaks(broken::<3>(Mistake::LearnerRefusesVote, THREE, changes(2)), [ELECTABLE]);
}

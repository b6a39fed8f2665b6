//! The checker notices when the protocol has a mistake.

use logboat_model::properties::{
    BOND_KEPT, COMPLETE, NO_EPOCH_TWICE, NO_WRITE_MISSED, NOT_OVERTAKEN, ONE_LEADER,
};
use logboat_model::{Bounds, Liveness, Mistake};
use stateright::{Checker, HasDiscoveries, Model};

/// Enough for most mistakes.
const BOUNDS: Bounds = Bounds { terms: 2, grants: 1, restarts: 0, rounds: 1 };

/// Asserts that each of `properties` fails in some state.
fn breaks<const N: usize>(mistake: Mistake, bounds: Bounds, properties: [&'static str; N]) {
    let checker = Liveness { bounds, reduced: true, mistake: Some(mistake) }
        .checker()
        .finish_when(HasDiscoveries::AllOf(properties.into()))
        .spawn_dfs()
        .join();
    for property in properties {
        let path = checker.assert_any_discovery(property);
        println!("{mistake:?}: not so that {property}");
        path.into_actions().iter().for_each(|action| println!("    {action:?}"));
    }
}

#[test]
fn a_vote_is_forgotten_by_a_restart() {
    breaks(Mistake::VoteForgotten, Bounds { restarts: 1, ..BOUNDS }, [ONE_LEADER]);
}

#[test]
fn a_candidate_whose_log_is_behind_gets_votes() {
    breaks(Mistake::VoteForShorterLog, BOUNDS, [COMPLETE]);
}

#[test]
fn support_is_forgotten_by_a_restart() {
    let bounds = Bounds { restarts: 1, ..BOUNDS };
    let broken = [NO_WRITE_MISSED, NOT_OVERTAKEN, NO_EPOCH_TWICE];
    breaks(Mistake::SupportForgotten, bounds, broken);
}

#[test]
fn a_bond_is_forgotten_by_a_restart() {
    breaks(Mistake::BondForgotten, Bounds { restarts: 1, ..BOUNDS }, [NO_WRITE_MISSED]);
}

#[test]
fn an_epoch_is_used_again() {
    let bounds = Bounds { grants: 2, ..BOUNDS };
    breaks(Mistake::EpochUsedAgain, bounds, [NO_WRITE_MISSED, NO_EPOCH_TWICE]);
}

#[test]
fn a_bound_replica_votes() {
    breaks(Mistake::VoteWhileBound, BOUNDS, [NO_WRITE_MISSED, BOND_KEPT]);
}

#[test]
fn a_bound_replica_campaigns() {
    breaks(Mistake::CampaignWhileBound, BOUNDS, [NO_WRITE_MISSED, BOND_KEPT]);
}

#[test]
fn a_bond_ends_with_the_term() {
    breaks(Mistake::BondEndsWithTerm, BOUNDS, [NO_WRITE_MISSED]);
}

#[test]
fn another_epoch_confirms_a_read() {
    breaks(Mistake::AnyEpochConfirms, Bounds { grants: 2, ..BOUNDS }, [NO_WRITE_MISSED]);
}

#[test]
fn a_leader_reads_after_asking_another_to_lead() {
    breaks(Mistake::ReadAfterAbdication, BOUNDS, [NO_WRITE_MISSED]);
}

#[test]
fn an_answer_to_an_earlier_run_confirms_a_read() {
    breaks(Mistake::EarlierRunConfirms, Bounds { restarts: 1, ..BOUNDS }, [NO_WRITE_MISSED]);
}

#[test]
fn an_answer_to_an_earlier_round_confirms_a_read() {
    breaks(Mistake::EarlierRoundConfirms, Bounds { rounds: 2, ..BOUNDS }, [NO_WRITE_MISSED]);
}

#[test]
fn the_leave_to_campaign_outlives_its_term() {
    breaks(Mistake::TransferOutlivesTerm, Bounds { terms: 3, ..BOUNDS }, [NO_WRITE_MISSED]);
}

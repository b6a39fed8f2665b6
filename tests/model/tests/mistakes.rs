//! The checker notices when the protocol has a mistake.

mod common;

use logboat_model::properties::{
    BOND_STANDS, COMPLETE, NO_EPOCH_TWICE, NO_WRITE_MISSED, NOT_OVERTAKEN, ONE_LEADER,
};
use logboat_model::{Bounds, Liveness, Mistake, Start, Syncs, representative};

/// Enough for most mistakes.
const BOUNDS: Bounds = Bounds { terms: 2, grants: 1, restarts: 0, rounds: 1 };

/// The model of three nodes with a mistake.
const fn three(mistake: Mistake, bounds: Bounds) -> Liveness<3> {
    let (start, syncs) = (Start::Empty, Syncs::AtOnce);
    Liveness { bounds, start, syncs, reduced: true, mistake: Some(mistake) }
}

/// The same, from a first leader on, whom all support.
const fn led(mistake: Mistake, bounds: Bounds) -> Liveness<3> {
    Liveness { start: Start::Led, ..three(mistake, bounds) }
}

fn breaks<const N: usize, const P: usize>(model: Liveness<N>, properties: [&'static str; P]) {
    common::breaks(model, representative, properties);
}

#[test]
fn a_vote_is_forgotten_by_a_restart() {
    breaks(three(Mistake::VoteForgotten, Bounds { restarts: 1, ..BOUNDS }), [ONE_LEADER]);
}

#[test]
fn a_candidate_whose_log_is_behind_gets_votes() {
    breaks(three(Mistake::VoteForShorterLog, BOUNDS), [COMPLETE]);
}

#[test]
fn support_is_forgotten_by_a_restart() {
    let bounds = Bounds { restarts: 1, ..BOUNDS };
    let broken = [NO_WRITE_MISSED, NOT_OVERTAKEN, NO_EPOCH_TWICE];
    breaks(three(Mistake::SupportForgotten, bounds), broken);
}

#[test]
fn a_bond_is_forgotten_by_a_restart() {
    let bounds = Bounds { restarts: 1, ..BOUNDS };
    breaks(three(Mistake::BondForgotten, bounds), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn an_epoch_is_used_again() {
    let bounds = Bounds { grants: 2, ..BOUNDS };
    breaks(three(Mistake::EpochUsedAgain, bounds), [NO_WRITE_MISSED, NO_EPOCH_TWICE]);
}

#[test]
fn the_end_of_support_is_not_written() {
    let bounds = Bounds { restarts: 1, ..BOUNDS };
    breaks(three(Mistake::WithdrawalNotWritten, bounds), [NO_WRITE_MISSED, NO_EPOCH_TWICE]);
}

#[test]
fn a_vote_leaves_before_it_is_durable() {
    let model =
        three(Mistake::VoteBeforeSync, Bounds { terms: 1, grants: 0, restarts: 1, rounds: 0 });
    breaks(Liveness { syncs: Syncs::Later, ..model }, [ONE_LEADER]);
}

#[test]
fn a_bond_is_told_before_it_is_durable() {
    let bounds = Bounds { grants: 0, restarts: 1, rounds: 0, ..BOUNDS };
    let model = led(Mistake::FortifiedBeforeSync, bounds);
    breaks(Liveness { syncs: Syncs::Later, ..model }, [BOND_STANDS]);
}

#[test]
fn an_entry_is_acknowledged_before_it_is_durable() {
    let model =
        three(Mistake::AppendedBeforeSync, Bounds { restarts: 1, grants: 0, rounds: 0, ..BOUNDS });
    breaks(Liveness { syncs: Syncs::Later, ..model }, [COMPLETE]);
}

#[test]
fn a_pre_vote_leaves_before_its_term_is_durable() {
    let bounds = Bounds { terms: 3, restarts: 1, rounds: 0, ..BOUNDS };
    let model = three(Mistake::PreVoteBeforeSync, bounds);
    breaks(Liveness { syncs: Syncs::Later, ..model }, [BOND_STANDS]);
}

#[test]
fn a_bound_replica_votes() {
    breaks(three(Mistake::VoteWhileBound, BOUNDS), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn a_bound_replica_campaigns() {
    breaks(three(Mistake::CampaignWhileBound, BOUNDS), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn a_bond_ends_with_the_term() {
    breaks(three(Mistake::BondEndsWithTerm, BOUNDS), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn a_pre_vote_ends_a_later_bond() {
    let bounds = Bounds { terms: 3, ..BOUNDS };
    breaks(three(Mistake::PreVoteEndsLaterBond, bounds), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn a_request_ends_a_later_bond() {
    breaks(three(Mistake::RequestEndsLaterBond, BOUNDS), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn a_resignation_ends_a_later_bond() {
    let bounds = Bounds { terms: 3, grants: 0, rounds: 0, ..BOUNDS };
    breaks(led(Mistake::ResignEndsLaterBond, bounds), [BOND_STANDS]);
}

#[test]
fn who_resigned_leads_on() {
    breaks(three(Mistake::ResignKeepsRole, BOUNDS), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn who_asks_for_pre_votes_leads_on() {
    breaks(three(Mistake::PreVoteKeepsRole, BOUNDS), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn another_epoch_confirms_a_read() {
    breaks(three(Mistake::AnyEpochConfirms, Bounds { grants: 2, ..BOUNDS }), [NO_WRITE_MISSED]);
}

#[test]
fn a_leader_reads_after_asking_another_to_lead() {
    breaks(three(Mistake::ReadAfterAbdication, BOUNDS), [NO_WRITE_MISSED]);
}

#[test]
fn an_answer_to_an_earlier_boot_confirms_a_read() {
    let bounds = Bounds { terms: 3, grants: 0, restarts: 1, ..BOUNDS };
    breaks(led(Mistake::EarlierBootConfirms, bounds), [NO_WRITE_MISSED]);
}

#[test]
fn an_answer_to_an_earlier_round_confirms_a_read() {
    let bounds = Bounds { rounds: 2, ..BOUNDS };
    breaks(three(Mistake::EarlierRoundConfirms, bounds), [NO_WRITE_MISSED]);
}

#[test]
fn a_round_that_is_open_confirms_a_read() {
    breaks(three(Mistake::OpenRoundConfirms, BOUNDS), [NO_WRITE_MISSED]);
}

#[test]
fn a_transfer_outlives_its_term() {
    let bounds = Bounds { terms: 3, grants: 0, ..BOUNDS };
    breaks(led(Mistake::TransferOutlivesTerm, bounds), [NO_WRITE_MISSED]);
}

#[test]
fn a_transfer_of_an_earlier_term_is_obeyed() {
    let bounds = Bounds { terms: 3, grants: 0, ..BOUNDS };
    breaks(led(Mistake::EarlierTimeoutNow, bounds), [NO_WRITE_MISSED]);
}

#[test]
fn a_bond_is_made_without_a_vote() {
    let bounds = Bounds { terms: 3, grants: 0, ..BOUNDS };
    breaks(led(Mistake::BindWithoutVote, bounds), [NO_WRITE_MISSED, BOND_STANDS]);
}

#[test]
fn a_bond_is_presented_in_a_later_term() {
    let bounds = Bounds { terms: 3, grants: 0, restarts: 1, ..BOUNDS };
    breaks(led(Mistake::PresentInLaterTerm, bounds), [NO_WRITE_MISSED, BOND_STANDS]);
}

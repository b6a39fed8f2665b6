//! The rules of membership as they are meant hold in every state within bounds.

mod common;

use common::groups::{ADDED_AGAIN, FOUR, JOINT, REPLACED, THREE, TWO};
use common::{Seen, bound};
use logboat_model::membership::{
    Bounds, Configuration, Membership, Mistake, Steps, representative,
};
use stateright::{Expectation, Model};
use std::collections::BTreeSet;

/// These bounds, unless the environment says otherwise.
fn bounds(terms: u8, changes: u8, withdrawals: u8) -> Bounds {
    Bounds {
        terms: bound("LOGBOAT_MODEL_TERMS", terms),
        changes: bound("LOGBOAT_MODEL_CHANGES", changes),
        withdrawals: bound("LOGBOAT_MODEL_WITHDRAWALS", withdrawals),
    }
}

/// The rules as they are meant, without support.
const fn meant<const N: usize>(past: &'static [Configuration], bounds: Bounds) -> Membership<N> {
    let steps = Steps::Joint;
    Membership { past, steps, support: false, bounds, reduced: true, mistake: None }
}

fn explore<const N: usize>(model: Membership<N>) -> Seen {
    println!("{N} nodes:");
    common::explore(model, representative)
}

#[test]
fn two_voters_of_three_nodes_change() {
    explore(meant::<3>(TWO, bounds(2, 4, 0)));
}

#[test]
fn three_voters_of_three_nodes_change() {
    explore(meant::<3>(THREE, bounds(2, 3, 0)));
}

#[test]
fn three_voters_of_four_nodes_change() {
    explore(meant::<4>(THREE, bounds(2, 2, 0)));
}

#[test]
fn bound_voters_change() {
    explore(Membership { support: true, ..meant::<3>(THREE, bounds(2, 2, 1)) });
}

#[test]
fn a_replica_is_replaced() {
    explore(meant::<3>(REPLACED, bounds(2, 1, 0)));
}

#[test]
fn a_replica_is_replaced_among_bound_ones() {
    explore(Membership { support: true, ..meant::<3>(REPLACED, bounds(2, 1, 1)) });
}

#[test]
fn a_leader_goes_beside_a_replica_that_is_replaced() {
    explore(Membership { support: true, ..meant::<3>(ADDED_AGAIN, bounds(2, 3, 0)) });
}

#[test]
fn five_nodes_leave_a_joint_configuration() {
    explore(meant::<5>(JOINT, bounds(1, 1, 0)));
}

#[test]
fn nothing_holds_in_vain() {
    let few = Bounds { terms: 2, changes: 2, withdrawals: 0 };
    let models = [
        meant::<3>(REPLACED, Bounds { changes: 0, ..few }),
        meant::<3>(THREE, few),
        Membership { support: true, ..meant::<3>(TWO, few) },
    ];
    let mut unseen: BTreeSet<_> = models[0]
        .properties()
        .into_iter()
        .filter(|property| matches!(property.expectation, Expectation::Sometimes))
        .map(|property| property.name)
        .collect();
    for model in models {
        let seen = explore(model).wanted;
        unseen.retain(|name| !seen.contains(name));
    }
    assert!(unseen.is_empty(), "unseen: {unseen:?}");
}

#[test]
fn what_is_forgotten_makes_no_difference() {
    let few = Bounds { terms: 2, changes: 1, withdrawals: 0 };
    for model in [
        meant::<3>(THREE, few),
        Membership { support: true, ..meant::<3>(TWO, few) },
        meant::<3>(REPLACED, Bounds { changes: 0, ..few }),
    ] {
        let less = explore(model);
        let more = explore(Membership { reduced: false, ..model });
        assert_eq!(less.wanted, more.wanted);
        assert!(less.states < more.states);
    }
}

/// Single steps need the rule about the leader's own term. See the mistake without it.
#[test]
fn voters_may_change_one_at_a_time() {
    let bounds = bounds(2, 1, 0);
    explore(Membership { steps: Steps::Single, ..meant::<4>(FOUR, bounds) });
}

/// The documentation says why these do no harm.
#[test]
fn precautions_are_no_more_than_that() {
    for mistake in [Mistake::ChangeBeforeOwnTermCommit, Mistake::VoteNamesNode] {
        let mistake = Some(mistake);
        explore(Membership { mistake, ..meant::<3>(THREE, bounds(2, 2, 0)) });
        explore(Membership { mistake, ..meant::<3>(REPLACED, bounds(2, 1, 0)) });
    }
}

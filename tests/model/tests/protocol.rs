//! The protocol as it is meant holds in every state within bounds.

mod common;

use common::{Seen, bound};
use logboat_model::{Bounds, Liveness, Start, Syncs, representative};
use stateright::{Expectation, Model};

/// These bounds, unless the environment says otherwise.
fn bounds(terms: u8, grants: u8, restarts: u8, rounds: u8) -> Bounds {
    Bounds {
        terms: bound("LOGBOAT_MODEL_TERMS", terms),
        grants: bound("LOGBOAT_MODEL_GRANTS", grants),
        restarts: bound("LOGBOAT_MODEL_RESTARTS", restarts),
        rounds: bound("LOGBOAT_MODEL_ROUNDS", rounds),
    }
}

/// The protocol as it is meant, from `start` on.
const fn meant<const N: usize>(start: Start, bounds: Bounds) -> Liveness<N> {
    Liveness { bounds, start, syncs: Syncs::AtOnce, reduced: true, mistake: None }
}

fn explore<const N: usize>(model: Liveness<N>) -> Seen {
    println!("{N} nodes:");
    common::explore(model, representative)
}

/// Asserts that all was seen that should be in some state.
fn assert_seen<const N: usize>(model: &Liveness<N>, seen: &Seen) {
    for property in model.properties() {
        let wanted = matches!(property.expectation, Expectation::Sometimes);
        assert!(!wanted || seen.wanted.contains(property.name), "unseen: {}", property.name);
    }
}

#[test]
fn three_nodes_hold_every_property_and_none_in_vain() {
    let model = meant::<3>(Start::Empty, bounds(2, 2, 0, 1));
    let seen = explore(model);
    // With less there is no second epoch, or no second leader.
    if model.bounds.grants > 1 && model.bounds.terms > 1 {
        assert_seen(&model, &seen);
    }
}

#[test]
fn three_nodes_with_a_leader_hold_every_property() {
    explore(meant::<3>(Start::Led, bounds(2, 1, 1, 1)));
}

#[test]
fn five_nodes_with_a_leader_hold_every_property() {
    explore(meant::<5>(Start::Led, bounds(2, 0, 0, 1)));
}

#[test]
fn syncs_that_come_late_make_no_difference() {
    let model = meant::<3>(Start::Led, bounds(2, 0, 1, 1));
    let at_once = explore(model);
    let later = explore(Liveness { syncs: Syncs::Later, ..model });
    assert_eq!(at_once.wanted, later.wanted);
    assert!(at_once.states < later.states);
}

#[test]
fn what_is_left_out_makes_no_difference() {
    let model = meant::<3>(Start::Led, bounds(2, 0, 0, 1));
    let less = explore(model);
    let more = explore(Liveness { reduced: false, ..model });
    assert_eq!(less.wanted, more.wanted);
    assert!(less.states < more.states);
}

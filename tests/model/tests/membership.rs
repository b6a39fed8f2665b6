//! The rules of membership as they are meant hold in every state within bounds.

use logboat_model::membership::{
    Bounds, Configuration, Membership, Mistake, Nodes, Steps, representative,
};
use stateright::{Checker, Expectation, Model};
use std::collections::BTreeSet;
use std::env;
use std::time::Instant;

/// Two voters on the first two nodes.
const TWO: &[Configuration] = &[Configuration::of(&[1, 2], &[])];
/// Three voters on the first three nodes.
const THREE: &[Configuration] = &[Configuration::of(&[1, 2, 3], &[])];
/// Four voters on the first four nodes.
const FOUR: &[Configuration] = &[Configuration::of(&[1, 2, 3, 4], &[])];
/// The third voter was removed and added again, which nobody has told it yet.
const REPLACED: &[Configuration] = &[
    Configuration::of(&[1, 2], &[3]),
    Configuration::of(&[1, 2], &[]),
    Configuration::of(&[1, 2], &[3]),
    Configuration::of(&[1, 2], &[3]).joint(Nodes::of(&[1, 2, 3])),
    Configuration::of(&[1, 2, 3], &[]),
];

/// The learner was removed and added again, which nobody has told it yet.
const ADDED_AGAIN: &[Configuration] = &[
    Configuration::of(&[1, 2], &[3]),
    Configuration::of(&[1, 2], &[]),
    Configuration::of(&[1, 2], &[3]),
];
/// Two of three voters are being replaced.
const JOINT: &[Configuration] = &[
    Configuration::of(&[1, 2, 3], &[4, 5]),
    Configuration::of(&[1, 2, 3], &[4, 5]).joint(Nodes::of(&[1, 4, 5])),
];

/// These bounds, unless the environment says otherwise.
fn bounds(terms: u8, changes: u8, withdrawals: u8) -> Bounds {
    let chosen = |name, default| match env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")),
        Err(_) => default,
    };
    Bounds {
        terms: chosen("LOGBOAT_MODEL_TERMS", terms),
        changes: chosen("LOGBOAT_MODEL_CHANGES", changes),
        withdrawals: chosen("LOGBOAT_MODEL_WITHDRAWALS", withdrawals),
    }
}

/// The rules as they are meant, without support.
const fn meant<const N: usize>(past: &'static [Configuration], bounds: Bounds) -> Membership<N> {
    let steps = Steps::Joint;
    Membership { past, steps, support: false, bounds, reduced: true, mistake: None }
}

/// What was seen of what should be, and in how many states.
struct Seen {
    wanted: BTreeSet<&'static str>,
    states: usize,
}

/// Goes through all states, and asserts that nothing is seen that should not be.
fn explore<const N: usize>(model: Membership<N>) -> Seen {
    let begin = Instant::now();
    let checker = model.checker().symmetry_fn(representative).spawn_dfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{N} nodes, {model:?}: {states} states, {depth} deep, {:?}", begin.elapsed());
    let wanted: BTreeSet<_> = checker.discoveries().into_keys().collect();
    for property in model.properties() {
        if let (Expectation::Always, true) = (property.expectation, wanted.contains(property.name))
        {
            let path = checker.assert_any_discovery(property.name);
            path.into_actions().iter().for_each(|action| println!("    {action:?}"));
            panic!("not so that {}", property.name);
        }
    }
    Seen { wanted, states }
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

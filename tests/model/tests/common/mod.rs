//! What the tests of both models do: they have the checker go through all states.

#![allow(dead_code, reason = "each test uses a part of this")]

pub(crate) mod groups;

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// Which of the states that are one by symmetry stands for them.
type Representative<M> = fn(&<M as Model>::State) -> <M as Model>::State;

/// What was seen of what should be, and in how many states.
pub(crate) struct Seen {
    pub(crate) wanted: BTreeSet<&'static str>,
    pub(crate) states: usize,
}

/// Goes through all states, and asserts that nothing is seen that should not be.
pub(crate) fn explore<M>(model: M, representative: Representative<M>) -> Seen
where
    M: Model + Copy + Debug + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let begin = Instant::now();
    let checker = model.checker().symmetry_fn(representative).spawn_dfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{model:?}: {states} states, {depth} deep, {:?}", begin.elapsed());
    let wanted: BTreeSet<_> = checker.discoveries().into_keys().collect();
    for property in model.properties() {
        let is_forbidden = matches!(property.expectation, Expectation::Always);
        if is_forbidden && wanted.contains(property.name) {
            print_actions(checker.assert_any_discovery(property.name).into_actions());
            panic!("not so that {}", property.name);
        }
    }
    Seen { wanted, states }
}

/// Asserts that each of `properties` fails in some state, and prints how.
pub(crate) fn breaks<M, const P: usize>(
    model: M,
    representative: Representative<M>,
    properties: [&'static str; P],
) where
    M: Model + Copy + Debug + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model
        .checker()
        .symmetry_fn(representative)
        .finish_when(HasDiscoveries::AllOf(properties.into()))
        .spawn_dfs()
        .join();
    println!("{model:?}: {} states", checker.unique_state_count());
    for property in properties {
        println!("not so that {property}:");
        print_actions(checker.assert_any_discovery(property).into_actions());
    }
}

fn print_actions<A: Debug>(actions: Vec<A>) {
    actions.iter().for_each(|action| println!("    {action:?}"));
}

/// The bound that the environment gives by this name, or else this one.
pub(crate) fn bound(name: &str, default: u8) -> u8 {
    match env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")),
        Err(_) => default,
    }
}

//! The protocol as it is meant holds in every state within bounds.

use logboat_model::{Bounds, Liveness};
use stateright::{Checker, Model};
use std::collections::BTreeSet;
use std::env;
use std::time::Instant;

/// The bounds of an ordinary run, unless the environment says otherwise.
fn bounds() -> Bounds {
    let chosen = |name, default| match env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")),
        Err(_) => default,
    };
    Bounds {
        terms: chosen("LOGBOAT_MODEL_TERMS", 2),
        grants: chosen("LOGBOAT_MODEL_GRANTS", 2),
        restarts: chosen("LOGBOAT_MODEL_RESTARTS", 1),
        rounds: chosen("LOGBOAT_MODEL_ROUNDS", 1),
    }
}

#[test]
fn every_property_holds_and_nothing_holds_in_vain() {
    let bounds = bounds();
    let start = Instant::now();
    let checker = Liveness { bounds, reduced: true, mistake: None }.checker().spawn_dfs().join();
    checker.assert_properties();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{bounds:?}: {states} states, {depth} deep, {:?}", start.elapsed());
}

#[test]
fn what_is_left_out_makes_no_difference() {
    let bounds = Bounds { terms: 2, grants: 1, restarts: 0, rounds: 1 };
    let found = |reduced| {
        let checker = Liveness { bounds, reduced, mistake: None }.checker().spawn_dfs().join();
        let properties: BTreeSet<_> = checker.discoveries().into_keys().collect();
        (properties, checker.unique_state_count())
    };
    let (less, few) = found(true);
    let (more, many) = found(false);
    assert_eq!(less, more);
    assert!(few < many, "{few} states with nothing left out, {many} otherwise");
}

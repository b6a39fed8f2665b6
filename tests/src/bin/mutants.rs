//! Runs the simulator on deliberate bugs, and fails if one is not found.
//!
//! ```text
//! RUSTFLAGS="--cfg logboat_mutants" cargo run --profile mutants -p logboat-tests --bin mutants
//! ```

#[cfg(logboat_mutants)]
use logboat_tests::sim::{Fault, Options, simulate};
use std::process::ExitCode;

/// So many seeds must do.
#[cfg(logboat_mutants)]
const SEEDS: u64 = 3_000;

#[cfg(logboat_mutants)]
fn main() -> ExitCode {
    use logboat_raft::mutants::{Mutant, choose};

    let wanted: Vec<String> = std::env::args().skip(1).collect();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    println!("| deliberate bug | seeds needed | what noticed it |\n| --- | --- | --- |");
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        choose(*mutant);
        let fails = |seed| Some((seed, simulate(&options(seed)).failure?));
        match (0..SEEDS).find_map(fails) {
            Some((seed, failure)) => {
                let first = failure.lines().next().unwrap_or_default();
                let first = first.trim_start_matches("assertion `left == right` failed: ");
                let first: String = first.chars().take(100).collect();
                println!("| {name} | {} | {first} |", seed + 1);
            }
            None => {
                missed += 1;
                println!("| {name} | **not found** | |");
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Most seeds are small clusters, in which clients meet more often, under the plainest faults, under
/// those that leave a leader behind who can still ask some of the others, or under those that let
/// support end early.
#[cfg(logboat_mutants)]
fn options(seed: u64) -> Options {
    let options = Options::new(seed);
    let faults = match seed % 4 {
        0 => return options,
        1 => vec![Fault::Pause, Fault::Crash, Fault::Partition],
        2 => vec![Fault::Transfer, Fault::SlowLink, Fault::Withdraw],
        _ => vec![Fault::Withdraw, Fault::Bridge],
    };
    Options { nodes: Some(3), groups: Some(1), faults, ..options }
}

#[cfg(not(logboat_mutants))]
fn main() -> ExitCode {
    eprintln!(
        "this build has no deliberate bugs; RUSTFLAGS=\"--cfg logboat_mutants\" gives it some"
    );
    ExitCode::FAILURE
}

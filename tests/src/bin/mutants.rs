//! Runs the simulator on deliberate bugs, and fails if one is not found.
//!
//! ```text
//! RUSTFLAGS="--cfg logboat_mutants" cargo run -p logboat-tests --bin mutants --target-dir target/mutants
//! ```

use std::process::ExitCode;

#[cfg(logboat_mutants)]
fn main() -> ExitCode {
    use logboat_raft::mutants::{Mutant, choose};
    use logboat_tests::sim::{Options, simulate};

    /// So many seeds must do.
    const SEEDS: u64 = 200;

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
        let found =
            (0..SEEDS).find_map(|seed| Some((seed, simulate(&Options::new(seed)).failure?)));
        match found {
            Some((seed, failure)) => {
                let first = failure.lines().next().unwrap_or_default();
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

#[cfg(not(logboat_mutants))]
fn main() -> ExitCode {
    eprintln!(
        "this build holds no deliberate bugs: build it with RUSTFLAGS=\"--cfg logboat_mutants\""
    );
    ExitCode::FAILURE
}

//! Says what a cluster larger than any machine at hand would do, at rest and when nodes die.

use clap::Parser;
use logboat_tests::plan::{Plan, draw, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Simulates the node liveness and the elections of a large cluster: messages at rest, and how soon
/// all groups have leaders again after nodes died at once.
#[derive(Debug, Parser)]
struct Arguments {
    /// Nodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(3..))]
    nodes: u16,
    /// Groups, each with three replicas on random nodes.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    groups: u32,
    /// What all chance is drawn from; the same seed gives the same numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes die at once; separated by commas, one failover each.
    #[arg(long, default_value = "1,5,10", value_delimiter = ',')]
    deaths: Vec<u16>,
    /// Draws the failovers into this file, as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Prints the numbers as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match execute(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: &Arguments) -> Result<(), String> {
    let Arguments { nodes, groups, seed, deaths, plot, json } = arguments;
    if let Some(too_many) = deaths.iter().find(|deaths| *deaths >= nodes) {
        return Err(format!("of {nodes} nodes {too_many} can't die and leave one"));
    }
    let report = run(&Plan {
        nodes: usize::from(*nodes),
        groups: *groups as usize,
        seed: *seed,
        deaths: deaths.iter().copied().map(usize::from).collect(),
    });
    if let Some(path) = plot {
        std::fs::write(path, draw(&report))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if *json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        print!("{report}");
    }
    Ok(())
}

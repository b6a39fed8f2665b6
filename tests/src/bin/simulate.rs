//! Simulates clusters, one a seed, and says which seeds break a promise.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use logboat_tests::sim::{Fault, FaultCounts, Options, Outcome, simulate};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

/// Simulates clusters under faults, each from one seed, and checks what Logboat promises.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seeds, as `first..end` or a single one.
    #[arg(long, default_value = "0..1000", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Nodes, from 3 to 7; by default drawn from the seed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..=7))]
    nodes: Option<u64>,
    /// Groups, from 1 to 100; by default drawn from the seed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    groups: Option<u64>,
    /// Events under faults, before the cluster must recover.
    #[arg(long, default_value_t = 20_000)]
    steps: u64,
    /// Kinds of faults, separated by commas; `all` or `none`.
    #[arg(long, default_value = "all", value_parser = parse_faults)]
    faults: Faults,
    /// Runs small clusters under few kinds of faults, too, in which a promise breaks sooner.
    #[arg(long, conflicts_with_all = ["nodes", "groups", "faults"])]
    mixed: bool,
    /// Runs small clusters with the server's stores of keys, which expire.
    #[arg(long, conflicts_with_all = ["mixed", "nodes", "groups", "faults"])]
    keys: bool,
    /// Has nodes join and leave, and the router's placement move replicas.
    #[arg(long, conflicts_with_all = ["nodes", "groups", "faults", "mixed", "keys"])]
    elastic: bool,
    /// Prints the trace.
    #[arg(long)]
    trace: bool,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What fails is reported below, with the command that replays it.
    std::panic::set_hook(Box::new(|_| {}));
    let mut total = Total::default();
    let bar = progress_bar(&arguments);
    let begin = Instant::now();
    for seed in arguments.seeds.clone() {
        let options = options(&arguments, seed);
        let outcome = simulate(&options);
        for line in outcome.trace.iter().flatten() {
            println!("{line}");
        }
        if arguments.trace || arguments.seeds.end - arguments.seeds.start == 1 {
            println!("seed {seed}: trace {:016x}", outcome.hash);
        }
        total.add(&outcome);
        bar.inc(1);
        if let Some(failure) = &outcome.failure {
            bar.suspend(|| println!("seed {seed} FAILED: {failure}\n{}", replay(&options)));
            if !arguments.keep_going {
                break;
            }
        }
    }
    bar.finish_and_clear();
    total.print(begin.elapsed().as_secs_f64());
    if total.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Default)]
struct Total {
    seeds: u64,
    failed: u64,
    micros: u64,
    steps: u64,
    checks: u64,
    operations: usize,
    hash: u64,
    faults: FaultCounts,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(outcome.failure.is_some());
        self.micros += outcome.micros;
        self.steps += outcome.steps;
        self.checks += outcome.checks;
        self.operations += outcome.operations;
        self.hash = self.hash.rotate_left(7) ^ outcome.hash;
        for (fault, count) in &outcome.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }

    fn print(&self, seconds: f64) {
        let simulated = self.micros as f64 / 1e6;
        println!(
            "{} seeds, {} failed, traces {:016x}\n{:.2} simulated hours in {seconds:.1} s: \
             {:.0} times real time\n{} events, {} checked runs of replicas, {} operations",
            self.seeds,
            self.failed,
            self.hash,
            simulated / 3_600.0,
            simulated / seconds,
            self.steps,
            self.checks,
            self.operations,
        );
        for (fault, count) in &self.faults {
            println!("{count:>10} {fault}");
        }
    }
}

fn options(arguments: &Arguments, seed: u64) -> Options {
    let (steps, trace) = (arguments.steps, arguments.trace);
    if arguments.keys {
        return Options { steps, trace, ..Options::keys(seed) };
    }
    if arguments.mixed {
        return Options { steps, trace, ..Options::mixed(seed) };
    }
    if arguments.elastic {
        return Options { steps, trace, ..Options::elastic(seed) };
    }
    Options {
        seed,
        nodes: arguments.nodes.map(|nodes| nodes as usize),
        groups: arguments.groups.map(|groups| groups as usize),
        steps,
        faults: arguments.faults.0.clone(),
        trace,
        keys: false,
        elastic: false,
    }
}

/// How to simulate something again.
const SIMULATE: &str = "replay: cargo run --release -p logboat-tests --bin simulate --";

/// The command that does the same again.
fn replay(options: &Options) -> String {
    if options.elastic {
        let Options { seed, steps, .. } = options;
        return format!("{SIMULATE} --elastic --seeds {seed} --steps {steps} --trace");
    }
    let number = |name, number: Option<usize>| {
        number.map_or_else(String::new, |number| format!(" --{name} {number}"))
    };
    if options.keys {
        let Options { seed, steps, .. } = options;
        return format!("{SIMULATE} --keys --seeds {seed} --steps {steps} --trace");
    }
    let names: Vec<_> = options.faults.iter().map(|fault| fault.name()).collect();
    let faults = match names.len() {
        0 => "none".to_owned(),
        count if count == Fault::anywhere().len() => "all".to_owned(),
        _ => names.join(","),
    };
    format!(
        "{SIMULATE} --seeds {}{}{} --steps {} --faults {faults} --trace",
        options.seed,
        number("nodes", options.nodes),
        number("groups", options.groups),
        options.steps,
    )
}

fn progress_bar(arguments: &Arguments) -> ProgressBar {
    let template = "{elapsed_precise} {wide_bar} {pos}/{len} seeds, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(arguments.seeds.end - arguments.seeds.start).with_style(style)
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    match text.split_once("..") {
        Some((first, end)) => Ok(number(first)?..number(end)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn parse_faults(text: &str) -> Result<Faults, String> {
    match text {
        "all" => Ok(Faults(Fault::anywhere())),
        "none" => Ok(Faults(Vec::new())),
        names => names.split(',').map(str::parse).collect::<Result<_, _>>().map(Faults),
    }
}

//! `chaos`: a cluster of real processes under concurrent clients and faults, and a verdict on what
//! the clients saw.
//!
//! The faults and their times come from a seed. How the processes and threads meet does not, so a
//! seed repeats the plan of a run and not the run.

mod arena;
mod bridge;
mod clients;
mod dice;
mod link;
mod links;
mod members;
mod request;

use arena::{Arena, Fault};
use clap::Parser;
use clients::{Clients, Recorded};
use dice::Dice;
use indicatif::{ProgressBar, ProgressStyle};
use links::LinkKind;
use logboat_tests::history::{self, Operation, Outcome};
use logboat_tests::lin::{self, Verdict};
use logboat_tests::process::{PROGRAM_NAME, Program};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Starts `logboat serve` processes, drives them with Redis clients, injects faults, and checks
/// what the clients were told.
#[derive(Debug, Parser)]
struct Options {
    /// How long clients and faults go on.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// How many groups the key space is cut into.
    #[arg(long, default_value_t = 100)]
    groups: usize,
    /// Concurrent clients.
    #[arg(long, default_value_t = 20)]
    clients: usize,
    /// How many operations a client sends together, before it reads an answer.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pipeline: u16,
    /// What befalls the nodes. By default everything that this machine allows.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Have nodes and clients speak TLS, with certificates of this run.
    #[arg(long)]
    tls: bool,
    /// What the links between nodes are made of.
    #[arg(long, value_enum, default_value = "auto")]
    links: LinkKind,
    /// Where the operations are written, as JSON lines.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Repeats the plan of another run.
    #[arg(long)]
    seed: Option<u64>,
}

/// How often the end of a wait is looked for.
const STEP: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    // The nodes are this executable too, called by the server's name.
    if std::env::args_os().next().is_some_and(|name| name == PROGRAM_NAME) {
        return match Program::let_tie() {
            Ok(()) => logboat_server::cli::run(),
            Err(error) => {
                eprintln!("chaos: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let interrupted = interrupted()?;
    let mut dice = options.seed.map_or_else(Dice::thrown, Dice::new);
    println!("seed {}", dice.seed());
    let mut arena =
        Arena::start(options.nodes, options.groups, &options.faults, options.links, options.tls)?;
    let pipeline = usize::from(options.pipeline);
    let clients = Clients::start(&arena.clients()?, options.clients, pipeline, &mut dice);
    let tormented = torment(options, &mut arena, &clients, &mut dice, &interrupted);
    let Recorded { mut operations, disorder } = clients.stop();
    let tormented = tormented.and_then(|injected| {
        operations.extend(clients::last_reads(&arena.clients()?, &operations)?);
        Ok(injected)
    });
    // What the clients saw is worth the most when something went wrong.
    if let Some(path) = &options.history {
        let left_out = history::write(BufWriter::new(File::create(path)?), &operations)?;
        if left_out > 0 {
            println!("left out of the file: {left_out} keys with an incr of unknown outcome");
        }
    }
    let injected = tormented?;
    print_counts(&injected, &operations);
    let verdict = lin::check(&operations);
    println!("{verdict}");
    for disorder in &disorder {
        println!("out of order: {disorder}");
    }
    Ok(matches!(verdict, Verdict::Linearizable) && disorder.is_empty())
}

/// Injects faults until the time is over, then heals everything. Counts the faults by their kinds.
fn torment(
    options: &Options,
    arena: &mut Arena,
    clients: &Clients,
    dice: &mut Dice,
    interrupted: &AtomicBool,
) -> Result<BTreeMap<Fault, u64>, Box<dyn Error>> {
    let bar = ProgressBar::new(options.seconds * 1_000)
        .with_style(ProgressStyle::with_template("{msg} {wide_bar} {elapsed}")?);
    let started = Instant::now();
    let length = Duration::from_secs(options.seconds);
    let rest = |time: Duration, what: &str| {
        let end = (started.elapsed() + time).min(length);
        while started.elapsed() < end && !interrupted.load(Ordering::Relaxed) {
            bar.set_position(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
            bar.set_message(format!("{} operations, {what}", clients.operations()));
            thread::sleep(STEP);
        }
    };
    let mut injected = BTreeMap::new();
    while started.elapsed() < length && !interrupted.load(Ordering::Relaxed) {
        rest(dice.time_ms(100..1_500), "all is well");
        let mut names = Vec::new();
        // Every third time two faults at once.
        for _ in 0..=dice.below(3) / 2 {
            if let Some(fault) = arena.inflict(dice)? {
                *injected.entry(fault).or_default() += 1;
                names.push(fault.to_string());
            }
        }
        rest(dice.time_ms(100..3_000), &names.join(" and "));
        arena.heal()?;
    }
    bar.finish_and_clear();
    if interrupted.load(Ordering::Relaxed) {
        return Err("interrupted".into());
    }
    Ok(injected)
}

/// Turns true when the user asks for an end, so that the nodes and disks are cleared away.
fn interrupted() -> Result<Arc<AtomicBool>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let interrupted = Arc::<AtomicBool>::default();
    let told = Arc::clone(&interrupted);
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            told.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}

fn print_counts(injected: &BTreeMap<Fault, u64>, operations: &[Operation]) {
    for (fault, count) in injected {
        println!("{:<22} {count:>10}", format!("fault: {fault}"));
    }
    let (mut done, mut refused, mut unknown) = (0, 0, 0);
    for operation in operations {
        *match operation.outcome {
            Outcome::Done { .. } => &mut done,
            Outcome::Refused => &mut refused,
            Outcome::Unknown => &mut unknown,
        } += 1;
    }
    println!("{:<22} {done:>10}", "operations answered");
    println!("{:<22} {refused:>10}", "operations refused");
    println!("{:<22} {unknown:>10}", "outcomes unknown");
}

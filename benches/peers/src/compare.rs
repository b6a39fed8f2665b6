//! `logboat-peers compare`: Logboat beside its peers, in turn, in one process.
//!
//! Machines are noisy, and no two are alike. So the result is the ratio of two figures taken one
//! right after the other. Each contest runs Logboat, the peer, Logboat, the peer, … The ratio of a
//! row is the median over its rounds.
//!
//! Every peer is used as its own documentation says, with the settings that its own benchmarks and
//! its largest user choose. The module of each peer names them, with the reasons. Where a choice
//! was open, it was made by measurement in the peer's favour.

use crate::contest::{Contest, Row};
use crate::contests::{cluster, core, wal};
use crate::plot;
use crate::testbed::Testbed;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use logboat_bench::Failure;
use logboat_bench::svg::figure;
use std::path::PathBuf;
use std::time::Duration;

/// Logboat and its peers on this machine, in turn, with real syncs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Only this part.
    part: Option<Part>,
    /// How often each side of a contest runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// How long a run is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How much the logs that are recovered hold.
    #[arg(long, default_value_t = 1.0)]
    gib: f64,
    /// Where the data lives, on a real disk; a temporary directory if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print an array of rows.
    #[arg(long)]
    json: bool,
    /// Draw the ratios.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The write-ahead log.
    Wal,
    /// The consensus core.
    Core,
    /// Whole clusters.
    Cluster,
}

/// Makes a contest ready.
type Setup = fn(&Testbed) -> Result<Contest<'_>, Failure>;

const CONTESTS: &[(Part, Setup)] = &[
    (Part::Wal, wal::blocking),
    (Part::Wal, wal::blocking_as_it_comes),
    (Part::Wal, wal::batches),
    (Part::Wal, wal::batches_as_it_comes),
    (Part::Wal, wal::device_bytes),
    (Part::Wal, wal::index),
    (Part::Wal, wal::recovery),
    (Part::Wal, wal::read_back_interleaved),
    (Part::Wal, wal::read_back_as_it_comes),
    (Part::Wal, wal::read_back_consecutive),
    (Part::Core, core::one_by_one),
    (Part::Core, core::batches),
    (Part::Cluster, cluster::openraft),
    (Part::Cluster, cluster::raft_node),
    (Part::Cluster, cluster::raft_node_busy_groups),
];

/// Runs the contests and prints what came out.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let time = Duration::from_secs(options.seconds);
    let testbed = Testbed::new(options.dir.as_deref(), time, options.gib)?;
    let wanted = |(part, setup): &(Part, Setup)| {
        options.part.is_none_or(|only| only == *part).then_some(*setup)
    };
    let setups: Vec<Setup> = CONTESTS.iter().filter_map(wanted).collect();
    let progress = ProgressBar::new(setups.len() as u64 * options.rounds * 2);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {msg}")?);
    let mut rows = Vec::new();
    for setup in setups {
        progress.set_message("preparing");
        rows.extend(setup(&testbed)?.run(options.rounds, &progress)?);
    }
    progress.finish_and_clear();
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print_table(&rows);
    }
    if let Some(file) = &options.plot {
        std::fs::write(file, plot::draw(&rows))?;
    }
    Ok(())
}

fn print_table(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
    println!("{:<width$}  {:<20} {:>14} {:>14}  {:>8}", "what", "unit", "logboat", "peer", "ratio");
    for row in rows {
        let (what, unit) = (row.what, row.unit);
        let (logboat, peer) = (figure(row.logboat), figure(row.peer_value));
        println!(
            "{what:<width$}  {unit:<20} {logboat:>14} {peer:>14}  {:>8.2}  {}",
            row.ratio, row.peer
        );
    }
}

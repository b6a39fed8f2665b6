//! `logboat-peers`: Logboat beside its peers on this machine.
//!
//! This package is a workspace of its own. So the peers and their dependencies stay out of the
//! product's lock file.
//!
//! - [`compare`] is the command: which contests run, and how their rows are printed.
//! - [`contest`] runs two sides in turn; [`plot`] draws the rows; [`testbed`] has the directory.
//! - [`contests`] has the contests of the log, the core and whole clusters.
//! - [`sides`] has the peers; [`work`] has what both sides of a contest do.

mod compare;
mod contest;
mod contests;
mod plot;
mod sides;
mod testbed;
mod work;

use clap::{Parser, Subcommand};
use logboat_bench::allocator::CountingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[derive(Debug, Parser)]
#[command(name = "logboat-peers", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Log, core and cluster beside their peers.
    Compare(compare::Options),
}

fn main() -> ExitCode {
    let Command::Compare(options) = Cli::parse().command;
    match compare::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("logboat-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

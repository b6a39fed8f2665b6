//! `logboat-bench expiry`: what deadlines take in memory, and what others wait for when a million
//! keys expire in the same second.

mod memory;
mod wave;

use crate::report::print;
use crate::servers::until_stopped;
use clap::Args;
use logboat_bench::Failure;

/// Fills the server's stores of keys in this process, without deadlines and with them. Then three
/// `logboat serve` processes have many keys expire in the same second, under clients that write
/// others. A run with 0 keys leaves its part out.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many keys to fill the stores with.
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    /// Over how many days their deadlines are spread.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// How many keys expire in the same second, in the processes.
    #[arg(long, default_value_t = 1_000_000)]
    expiring: u64,
    /// How many groups there are, each with a store.
    #[arg(long, default_value_t = 64)]
    groups: usize,
    /// Where the processes keep their keys: memory or disk.
    #[arg(long, default_value = "memory")]
    store: String,
    /// How many clients write meanwhile.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long each of them waits between two writes.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    interval_ms: u64,
    /// How long to measure before the keys expire.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The size of a value in bytes.
    #[arg(long, default_value_t = 16)]
    payload: usize,
    /// Print one JSON object a part.
    #[arg(long)]
    json: bool,
}

/// Runs the bench and prints a report a part.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if options.keys > 0 {
        print(&memory::measure(options)?, options.json)?;
    }
    if options.expiring > 0 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        print(&runtime.block_on(until_stopped(wave::measure(options)))?, options.json)?;
    }
    Ok(())
}

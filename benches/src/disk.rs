//! `logboat-bench disk`: how many sequential writes the disk takes when each is synced. No log can
//! do more.

use crate::report::Place;
use clap::Args;
use logboat_bench::Failure;
use logboat_bench::process::thread_cpu_time;
use logboat_server::latency::{Latencies, per_second};
use rustix::fs::{Advice, OFlags, fadvise};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

/// The file that is written again and again from its beginning, as a recycled segment is.
const FILE_BYTES: usize = 64 << 20;

/// The alignment of writes past the page cache.
const BLOCK_BYTES: usize = 4096;

/// Writes of one thread into a file that has its blocks already, each followed by `fdatasync`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The size of a write in bytes: a multiple of 4,096, at most 64 MiB.
    #[arg(long, default_value_t = 4_096, value_parser = size)]
    bytes: usize,
    /// Write through the page cache, which is empty of the file at first, instead of past it.
    #[arg(long)]
    cached: bool,
    /// How long to measure.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[command(flatten)]
    place: Place,
}

fn size(argument: &str) -> Result<usize, String> {
    let bytes = argument.parse().map_err(|error| format!("{error}"))?;
    if (BLOCK_BYTES..=FILE_BYTES).contains(&bytes) && bytes.is_multiple_of(BLOCK_BYTES) {
        return Ok(bytes);
    }
    Err(format!("not a multiple of {BLOCK_BYTES} up to {FILE_BYTES}"))
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    write_bytes: usize,
    syncs_per_s: f64,
    bytes_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    cpu_us_per_sync: f64,
}

/// Measures, and prints the figures.
///
/// # Errors
/// When the disk refuses a write.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let directory = match options.place.data_dir() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let path = directory.path().join("written");
    let mut file = File::create_new(&path)?;
    file.write_all(&vec![0; FILE_BYTES])?;
    file.sync_all()?;
    if !options.cached {
        let direct = OFlags::DIRECT.bits().cast_signed();
        file = File::options().write(true).custom_flags(direct).open(&path)?;
    }
    let buffer = vec![1; options.bytes + BLOCK_BYTES];
    let data = &buffer[buffer.as_ptr().align_offset(BLOCK_BYTES)..][..options.bytes];
    let limit = Duration::from_secs(options.seconds);
    let mut latencies = Latencies::default();
    let (begin, cpu) = (Instant::now(), thread_cpu_time());
    let mut offsets = (0..=FILE_BYTES - data.len()).step_by(data.len()).cycle();
    let mut syncs = 0_u64;
    while begin.elapsed() < limit {
        let offset = offsets.next().unwrap_or_default() as u64;
        if offset == 0 {
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        let start = Instant::now();
        file.write_all_at(data, offset)?;
        file.sync_data()?;
        latencies.record(start.elapsed());
        syncs += 1;
    }
    let (elapsed, cpu) = (begin.elapsed(), thread_cpu_time() - cpu);
    let report = Report {
        write_bytes: data.len(),
        syncs_per_s: per_second(syncs, elapsed),
        bytes_per_s: per_second(syncs * data.len() as u64, elapsed),
        p50_us: latencies.quantile_us(0.5),
        p99_us: latencies.quantile_us(0.99),
        cpu_us_per_sync: cpu.as_secs_f64() * 1e6 / syncs.max(1) as f64,
    };
    options.place.print(&report)
}

//! `logboat-bench disk`: what the disk takes of sequential writes that are synced one by one, which
//! bounds what any log can do.

use crate::Failure;
use crate::process::thread_cpu_time;
use crate::report::Place;
use clap::Args;
use logboat_server::latency::{Latencies, per_second};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The file that is written again and again from its beginning, as a recycled segment is.
const FILE_BYTES: usize = 64 << 20;

/// Writes of one thread into a file that has its blocks already, each followed by `fdatasync`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The size of a write in bytes, at most 64 MiB.
    #[arg(long, default_value_t = 4_096,
        value_parser = clap::value_parser!(u64).range(1..=FILE_BYTES as u64))]
    bytes: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[command(flatten)]
    place: Place,
}

/// What came out.
#[derive(Serialize)]
struct Report {
    write_bytes: usize,
    syncs_per_s: f64,
    bytes_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    cpu_us_per_sync: f64,
}

/// Measures, and prints what came out.
///
/// # Errors
/// When the disk refuses a write.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let directory = match options.place.data_dir() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let path = directory.path().join("written");
    let mut file = File::options().create_new(true).write(true).open(path)?;
    file.write_all(&vec![0; FILE_BYTES])?;
    file.sync_all()?;
    let data = vec![1; usize::try_from(options.bytes)?];
    let limit = Duration::from_secs(options.seconds);
    let mut latencies = Latencies::default();
    let (begin, cpu) = (Instant::now(), thread_cpu_time());
    let mut offsets = (0..=FILE_BYTES - data.len()).step_by(data.len()).cycle();
    let mut syncs = 0_u64;
    while begin.elapsed() < limit {
        let start = Instant::now();
        file.write_all_at(&data, offsets.next().unwrap_or_default() as u64)?;
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

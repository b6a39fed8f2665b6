//! The contests of the logs: Logboat's and raft-engine.

use crate::contest::{Better, Contest, Figure};
use crate::sides::logboat_wal::LogboatWal;
use crate::sides::raft_engine::AsItComes;
use crate::testbed::Testbed;
use crate::work::shared_log::{GROUPS, Growth, Load, SharedLog, Writer, drive};
use logboat_bench::Failure;
use logboat_bench::allocator::live_bytes;
use logboat_server::latency::per_second;
use raft_engine::Engine;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

const PEER: &str = "raft-engine 0.4, tuned";
const AS_IT_COMES: &str = "raft-engine 0.4, as it comes";
const PAYLOAD_BYTES: usize = 128;

/// 64 threads that wait for each of their entries.
pub(crate) fn blocking(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    blocking_against::<Engine>(testbed, PEER)
}

/// The same against raft-engine as it comes.
pub(crate) fn blocking_as_it_comes(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    blocking_against::<AsItComes>(testbed, AS_IT_COMES)
}

fn blocking_against<'a, P: SharedLog>(
    testbed: &'a Testbed,
    peer: &'static str,
) -> Result<Contest<'a>, Failure> {
    const LOAD: Load = Load { writers: 64, batch: 1, in_flight: 1 };
    fn run<L: SharedLog>(testbed: &Testbed) -> Result<Vec<f64>, Failure> {
        Ok(vec![drive::<L>(testbed, PAYLOAD_BYTES, LOAD, true)?.entries_per_s()])
    }
    Ok(Contest {
        peer,
        figures: &[Figure {
            what: "log: 64 blocking writers, 128 B, each synced",
            unit: "entries/s",
            better: Better::More,
        }],
        logboat: Box::new(|| run::<LogboatWal>(testbed)),
        other: Box::new(|| run::<P>(testbed)),
    })
}

/// Batches of 64 groups, each log in the way that suits it best.
pub(crate) fn batches(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    batches_against::<Engine>(testbed, PEER)
}

/// The same against raft-engine as it comes.
pub(crate) fn batches_as_it_comes(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    batches_against::<AsItComes>(testbed, AS_IT_COMES)
}

fn batches_against<'a, P: SharedLog>(
    testbed: &'a Testbed,
    peer: &'static str,
) -> Result<Contest<'a>, Failure> {
    fn run<L: SharedLog>(testbed: &Testbed) -> Result<Vec<f64>, Failure> {
        let usage = drive::<L>(testbed, PAYLOAD_BYTES, L::BEST, true)?;
        Ok(vec![usage.entries_per_s(), usage.cpu_us_per_entry()])
    }
    Ok(Contest {
        peer,
        figures: &[
            Figure {
                what: "log: batches of 64 groups, 128 B, synced",
                unit: "entries/s",
                better: Better::More,
            },
            Figure {
                what: "log: CPU a durable entry, same work",
                unit: "µs",
                better: Better::Less,
            },
        ],
        logboat: Box::new(|| run::<LogboatWal>(testbed)),
        other: Box::new(|| run::<P>(testbed)),
    })
}

/// The same work again, into new files where a log has a choice. Otherwise a page could be part of
/// a large folio that earlier writes brought into the cache, and the kernel counts the whole folio.
pub(crate) fn device_bytes(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    fn run<L: SharedLog>(testbed: &Testbed) -> Result<Vec<f64>, Failure> {
        let usage = drive::<L>(testbed, PAYLOAD_BYTES, L::BEST, false)?;
        Ok(vec![usage.device_bytes_per_payload_byte()])
    }
    Ok(Contest {
        peer: PEER,
        figures: &[Figure {
            what: "log: device bytes a payload byte, same work",
            unit: "bytes",
            better: Better::Less,
        }],
        logboat: Box::new(|| run::<LogboatWal>(testbed)),
        other: Box::new(|| run::<Engine>(testbed)),
    })
}

/// The memory that is allocated for entries which were written one a group and batch, the worst
/// case of an index of runs.
pub(crate) fn index(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    /// Between two powers of two, so that a growing buffer is neither just full nor just doubled.
    const ENTRIES: u64 = 700;
    fn run<L: SharedLog>(testbed: &Testbed) -> Result<Vec<f64>, Failure> {
        let dir = testbed.scratch()?;
        let log = L::open(dir.path(), false)?;
        let before = live_bytes();
        let mut growth = Growth::new(PAYLOAD_BYTES, false);
        let mut writer = log.writer();
        for _ in 0..ENTRIES {
            writer.begin(growth.batch(GROUPS as usize, 1))?;
            writer.finish()?;
        }
        drop((writer, growth));
        let bytes = u64::try_from(live_bytes() - before).unwrap_or_default();
        log.close()?;
        Ok(vec![logboat_server::latency::ratio(bytes, GROUPS * ENTRIES)])
    }
    Ok(Contest {
        peer: PEER,
        figures: &[Figure {
            what: "log: index memory an entry (allocated)",
            unit: "bytes",
            better: Better::Less,
        }],
        logboat: Box::new(|| run::<LogboatWal>(testbed)),
        other: Box::new(|| run::<Engine>(testbed)),
    })
}

/// Opening a log whose files are in the page cache, and then reading until the checksums of all
/// entries are verified. Logboat verifies all of them as it opens. raft-engine verifies the headers
/// of its batches as it opens, and an entry when it is read.
pub(crate) fn recovery(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    const ENTRY_BYTES: usize = 1024;
    fn prepare<L: SharedLog>(testbed: &Testbed) -> Result<TempDir, Failure> {
        let entries = testbed.recovered_bytes / ENTRY_BYTES as u64;
        let Filled { log, dir } = Filled::<L>::new(testbed, ENTRY_BYTES, entries, 64, 1)?;
        log.close()?;
        Ok(dir)
    }
    fn run<L: SharedLog>(
        dir: &TempDir,
        verify: impl Fn(&L) -> Result<(), Failure>,
    ) -> Result<Vec<f64>, Failure> {
        page_in(dir.path())?;
        let start = Instant::now();
        let log = L::open(dir.path(), false)?;
        let opened = start.elapsed();
        verify(&log)?;
        let verified = start.elapsed();
        log.close()?;
        Ok(vec![opened.as_secs_f64(), verified.as_secs_f64()])
    }
    let (logboat, other) = (prepare::<LogboatWal>(testbed)?, prepare::<Engine>(testbed)?);
    Ok(Contest {
        peer: PEER,
        figures: &[
            Figure {
                what: "log: recovery of 1,000 groups, 1 KiB entries",
                unit: "s",
                better: Better::Less,
            },
            Figure {
                what: "log: the same, then all entries read and verified",
                unit: "s",
                better: Better::Less,
            },
        ],
        logboat: Box::new(move || run::<LogboatWal>(&logboat, |_| Ok(()))),
        other: Box::new(move || run::<Engine>(&other, read_all)),
    })
}

/// Reads all entries of all groups, and so verifies them.
fn read_all(engine: &Engine) -> Result<(), Failure> {
    const AT_ONCE: u64 = 256;
    for group in engine.raft_groups() {
        let last = engine.last_index(group).unwrap_or_default();
        for first in (1..=last).step_by(AT_ONCE as usize) {
            engine.read(group, first, AT_ONCE.min(last + 1 - first))?;
        }
    }
    Ok(())
}

/// Reading groups whose entries were written one a batch, among those of 63 others.
pub(crate) fn read_back_interleaved(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    read_interleaved::<Engine>(testbed, PEER)
}

/// The same against raft-engine as it comes.
pub(crate) fn read_back_as_it_comes(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    read_interleaved::<AsItComes>(testbed, AS_IT_COMES)
}

fn read_interleaved<'a, P: SharedLog + 'a>(
    testbed: &'a Testbed,
    peer: &'static str,
) -> Result<Contest<'a>, Failure> {
    read_back::<P>(
        testbed,
        peer,
        64,
        1,
        &[Figure {
            what: "log: read back, batches of 64 groups",
            unit: "entries/s",
            better: Better::More,
        }],
    )
}

/// Reading groups whose entries were written 64 at a time.
pub(crate) fn read_back_consecutive(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    read_back::<Engine>(
        testbed,
        PEER,
        1,
        64,
        &[Figure {
            what: "log: read back, batches of 64 of one group",
            unit: "entries/s",
            better: Better::More,
        }],
    )
}

fn read_back<'a, P: SharedLog + 'a>(
    testbed: &'a Testbed,
    peer: &'static str,
    groups: usize,
    entries: u64,
    figures: &'static [Figure],
) -> Result<Contest<'a>, Failure> {
    const ENTRIES: u64 = 128;
    const AT_ONCE: u64 = 64;
    fn run<L: SharedLog>(testbed: &Testbed, filled: &Filled<L>) -> Result<Vec<f64>, Failure> {
        let places = (1..=GROUPS).flat_map(|group| [(group, 1), (group, 1 + AT_ONCE)]);
        let (start, mut read) = (Instant::now(), 0);
        for (group, first) in places.cycle() {
            let found = filled.log.read(group, first, AT_ONCE)? as u64;
            if found != AT_ONCE {
                return Err(format!("group {group} lacks entries: {found} from {first} on").into());
            }
            read += found;
            if start.elapsed() >= testbed.time {
                break;
            }
        }
        Ok(vec![per_second(read, start.elapsed())])
    }
    let count = GROUPS * ENTRIES;
    let logboat = Filled::<LogboatWal>::new(testbed, PAYLOAD_BYTES, count, groups, entries)?;
    let other = Filled::<P>::new(testbed, PAYLOAD_BYTES, count, groups, entries)?;
    Ok(Contest {
        peer,
        figures,
        logboat: Box::new(move || run(testbed, &logboat)),
        other: Box::new(move || run(testbed, &other)),
    })
}

/// A log with entries, and the directory that it lives in.
struct Filled<L> {
    log: L,
    dir: TempDir,
}

impl<L: SharedLog> Filled<L> {
    /// Writes at least `count` entries, the same number in each group, in batches of `groups`
    /// groups with `entries` entries each.
    fn new(
        testbed: &Testbed,
        payload_bytes: usize,
        count: u64,
        groups: usize,
        entries: u64,
    ) -> Result<Self, Failure> {
        let dir = testbed.scratch()?;
        let log = L::open(dir.path(), false)?;
        let mut growth = Growth::new(payload_bytes, false);
        let mut writer = log.writer();
        let mut under_way = 0;
        for _ in 0..count.div_ceil(groups as u64 * entries) {
            writer.begin(growth.batch(groups, entries))?;
            under_way += 1;
            if under_way > L::BEST.in_flight {
                writer.finish()?;
                under_way -= 1;
            }
        }
        for _ in 0..under_way {
            writer.finish()?;
        }
        drop(writer);
        Ok(Self { log, dir })
    }
}

/// Reads all files, so that they are in the page cache.
fn page_in(dir: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            page_in(&path)?;
        } else {
            std::io::copy(&mut std::fs::File::open(path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

//! The log of TiKV, raft-engine, in the contests: as it comes, and tuned for them.
//!
//! Tuned, its settings are the defaults, except for two:
//! - Compression is off, as in its example `append_compact_purge`: the commands don't compress, so
//!   trying costs time and saves nothing.
//! - Where writing is measured, `prefill_for_recycle` is on. So it writes into files that have been
//!   written before, and these sync without a journal commit of the file system. The default comes
//!   to that only after it has written 10 GiB.
//!
//! It groups the writes of threads by itself: the first in line writes and syncs for all who wait.
//! Files are purged when they hold 10 GiB, which no run comes near.

use crate::work::shared_log::{Append, Data, Load, SharedLog, Writer};
use logboat_bench::Failure;
use raft::eraftpb::Entry;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::path::Path;

/// The size of a file by default.
const DEFAULT_FILE_BYTES: u64 = 128 << 20;

/// How raft-engine finds the index of an entry of raft-rs.
pub(crate) struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// Opens an engine in a directory that exists. It fills `prefilled` bytes of files ahead, and half
/// as many again, if any.
pub(crate) fn open(dir: &Path, prefilled: Option<ReadableSize>) -> Result<Engine, Failure> {
    let config = Config {
        dir: dir.join("raft-engine").to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        prefill_for_recycle: prefilled.is_some(),
        prefill_limit: prefilled,
        ..Config::default()
    };
    let engine = Engine::open(config)?;
    if prefilled.is_some() {
        leave_first_file(&engine)?;
    }
    Ok(engine)
}

/// Fills the first file of a new log, which is not a prefilled one, with a group that is dropped.
fn leave_first_file(engine: &Engine) -> Result<(), Failure> {
    const GROUP: u64 = u64::MAX;
    let mut data = Data::new(32 << 10);
    let mut batch = LogBatch::default();
    for index in 1..=DEFAULT_FILE_BYTES / (32 << 10) + 1 {
        let entry = Entry { index, term: 1, data: data.next(), ..Entry::default() };
        batch.add_entries::<Entries>(GROUP, &[entry])?;
        engine.write(&mut batch, false)?;
    }
    batch.add_command(GROUP, Command::Clean);
    engine.write(&mut batch, true)?;
    Ok(())
}

/// The engine with all settings as they come: it compresses batches, and writes into new files.
pub(crate) struct AsItComes(Engine);

impl SharedLog for AsItComes {
    const BEST: Load = Engine::BEST;

    type Writer<'a> = EngineWriter<'a>;

    fn open(dir: &Path, _prefilled: bool) -> Result<Self, Failure> {
        let dir = dir.join("raft-engine").to_string_lossy().into_owned();
        Ok(Self(Engine::open(Config { dir, ..Config::default() })?))
    }

    fn writer(&self) -> EngineWriter<'_> {
        self.0.writer()
    }

    fn read(&self, group: u64, first: u64, count: u64) -> Result<usize, Failure> {
        self.0.read(group, first, count)
    }

    fn close(self) -> Result<(), Failure> {
        self.0.close()
    }
}

impl SharedLog for Engine {
    /// It blocks, so what one batch waits for is gained by other threads; more than 15 would have
    /// less than 64 groups each. With four threads it was much slower, with eight no quicker.
    const BEST: Load = Load { writers: 15, batch: 64, in_flight: 1 };

    type Writer<'a> = EngineWriter<'a>;

    fn open(dir: &Path, prefilled: bool) -> Result<Self, Failure> {
        // Enough for five seconds of its best.
        open(dir, prefilled.then(|| ReadableSize::gb(1)))
    }

    fn writer(&self) -> EngineWriter<'_> {
        EngineWriter { engine: self, batch: LogBatch::default() }
    }

    fn read(&self, group: u64, first: u64, count: u64) -> Result<usize, Failure> {
        let mut entries = Vec::new();
        self.fetch_entries_to::<Entries>(group, first, first + count, None, &mut entries)?;
        Ok(entries.len())
    }

    fn close(self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A thread's writes; the batch keeps its buffer from one to the next.
pub(crate) struct EngineWriter<'a> {
    engine: &'a Engine,
    batch: LogBatch,
}

impl Writer for EngineWriter<'_> {
    fn begin(&mut self, batch: Vec<Append>) -> Result<(), Failure> {
        for append in batch {
            let entry = |(index, data)| Entry { index, term: 1, data, ..Entry::default() };
            let entries: Vec<Entry> = (append.first..).zip(append.data).map(entry).collect();
            self.batch.add_entries::<Entries>(append.group, &entries)?;
            if let Some(last) = append.compact {
                self.batch.add_command(append.group, Command::Compact { index: last + 1 });
            }
        }
        self.engine.write(&mut self.batch, true)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

//! Logboat's log in the contests.

use crate::work::shared_log::{Append, Load, SharedLog, Writer};
use logboat_bench::Failure;
use logboat_raft::{
    Configuration, Entry, EntryKind, GroupId, Index, LogId, LogWrite, NodeId, Persist, SnapshotMeta,
    Term, WriteSeq,
};
use logboat_storage::{Batch, Poisoned, Refusals, Wal, WalOptions};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

pub(crate) struct LogboatWal(Wal);

impl SharedLog for LogboatWal {
    /// As a node's workers do it: they hand batches over and go on. A thousand entries are under
    /// way, about as many as in the peer's threads.
    const BEST: Load = Load { writers: 2, batch: 64, in_flight: 8 };

    type Writer<'a> = LogboatWriter;

    /// Segments are always written before they are used.
    fn open(dir: &Path, _prefilled: bool) -> Result<Self, Failure> {
        Ok(Self(Wal::open(&dir.join("wal"), WalOptions::default(), |_| {})?.0))
    }

    fn writer(&self) -> LogboatWriter {
        let (done, durable) = channel();
        LogboatWriter { wal: self.0.clone(), done, durable }
    }

    fn read(&self, group: u64, first: u64, count: u64) -> Result<usize, Failure> {
        let last = Index(first + count - 1);
        Ok(self.0.read(GroupId(group), Index(first), last, usize::MAX)?.len())
    }

    fn close(self) -> Result<(), Failure> {
        self.0.close();
        Ok(())
    }
}

pub(crate) struct LogboatWriter {
    wal: Wal,
    done: Sender<Result<(), Poisoned>>,
    durable: Receiver<Result<(), Poisoned>>,
}

impl Writer for LogboatWriter {
    fn begin(&mut self, batch: Vec<Append>) -> Result<(), Failure> {
        let writes = batch.into_iter().flat_map(persist).collect();
        let done = self.done.clone();
        let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
            // A writer that has failed does not wait for its other batches.
            let _ = done.send(result.map(drop));
        });
        self.wal.submit(Batch { grants: Vec::new(), writes, completion });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.durable.recv()??)
    }
}

fn persist(append: Append) -> impl Iterator<Item = (GroupId, Persist)> {
    let group = GroupId(append.group);
    let entry = |(index, data)| {
        Entry::new(group, LogId::new(Term(1), Index(index)), EntryKind::Command, data)
    };
    let entries = (append.first..).zip(append.data).map(entry).collect();
    let compact = append.compact.map(|last| {
        let last = LogId::new(Term(1), Index(last));
        let configuration = Configuration::founding(&[NodeId(1)], None).into();
        LogWrite::Compact(SnapshotMeta { last, configuration })
    });
    let changes = [Some(LogWrite::Append(entries)), compact].into_iter().flatten();
    // The log does not look at marks, which number the writes of a replica.
    changes.map(move |log| (group, Persist { seq: WriteSeq(append.first), hard_state: None, log }))
}

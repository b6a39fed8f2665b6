//! A panic on a thread of the log: the log says so, and nobody waits for ever.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use bytes::Bytes;
use common::{append_entries, small};
use logboat_raft::{GroupId, Index};
use logboat_storage::simulation::{Disk, SegmentFile, SimDisk, SimSegment};
use logboat_storage::{Batch, Poisoned, Refusals, Unreadable, Wal};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

/// Where a disk panics, once it is completed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Write,
    Sync,
    Nowhere,
}

/// A disk whose driver has a bug.
#[derive(Clone)]
struct Faulty {
    disk: SimDisk,
    at: At,
    armed: Arc<AtomicBool>,
}

struct FaultySegment {
    segment: Arc<SimSegment>,
    disk: Faulty,
}

impl Faulty {
    fn new(at: At) -> Self {
        Self { disk: SimDisk::default(), at, armed: Arc::default() }
    }

    fn pass(&self, at: At) {
        let panics = self.at == at && self.armed.load(Ordering::Relaxed);
        assert!(!panics, "as the test wants");
    }
}

impl Disk for Faulty {
    type File = FaultySegment;

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.disk.create(name, bytes)
    }

    fn open(&self, name: &str, frozen: Option<u64>) -> io::Result<FaultySegment> {
        let segment = Arc::new(self.disk.open(name, frozen)?);
        Ok(FaultySegment { segment, disk: self.clone() })
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Unreadable> {
        self.disk.read(name, range)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn salt(&self) -> u64 {
        self.disk.salt()
    }
}

impl SegmentFile for FaultySegment {
    fn bytes(&self) -> u64 {
        self.segment.bytes()
    }

    fn frozen(&self) -> u64 {
        self.segment.frozen()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.pass(At::Write);
        self.segment.write_at(offset, data)
    }

    fn freeze(&self, end: u64) {
        self.segment.freeze(end);
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.pass(At::Sync);
        self.segment.sync()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.segment.drop_cache()
    }

    fn read_ahead(&self) {
        self.segment.read_ahead();
    }

    fn view(self: &Arc<Self>, range: Range<u64>) -> Bytes {
        self.segment.view(range)
    }
}

/// Writes until the log is poisoned, and checks that it refuses what comes then.
fn write_until_poisoned(wal: &Wal<Faulty>) -> Poisoned {
    for index in 1.. {
        let (outcome, completed) = channel();
        let writes = vec![append_entries(GroupId(1), Index(index), 1, 1_000)];
        let completion =
            Box::new(move |result: Result<&Refusals, _>| drop(outcome.send(result.map(drop))));
        wal.submit(Batch { grants: Vec::new(), writes, completion });
        // What the thread had in hand when it panicked is dropped with it.
        if completed.recv() != Ok(Ok(())) {
            break;
        }
    }
    let (outcome, completed) = channel();
    let completion =
        Box::new(move |result: Result<&Refusals, _>| drop(outcome.send(result.map(drop))));
    wal.submit(Batch { grants: Vec::new(), writes: Vec::new(), completion });
    let refusal = completed.recv().unwrap().unwrap_err();
    assert_eq!(wal.poisoned(), Some(refusal.clone()));
    refusal
}

#[test]
fn a_panic_of_the_writer_poisons_the_log() {
    for at in [At::Write, At::Sync] {
        let disk = Faulty::new(at);
        let (wal, _) = Wal::open_on(disk.clone(), small(16 << 10, 64 << 10), |_| {}).unwrap();
        disk.armed.store(true, Ordering::Relaxed);
        let reason = write_until_poisoned(&wal).to_string();
        assert!(reason.contains("panicked"), "{at:?}: {reason}");
        wal.close();
    }
}

#[test]
fn a_panic_of_the_thread_that_makes_segments_poisons_the_log() {
    let disk = Faulty::new(At::Nowhere);
    let pressure = |_: &[GroupId]| panic!("as the test wants");
    let (wal, _) = Wal::open_on(disk, small(16 << 10, 64 << 10), pressure).unwrap();
    let reason = write_until_poisoned(&wal).to_string();
    assert!(reason.contains("segments panicked"), "{reason}");
    wal.close();
}

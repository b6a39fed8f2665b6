//! The write-ahead log alone: batches written and synced, and entries read back.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logboat_raft::{Entry, EntryKind, GroupId, Index, LogId, LogWrite, Persist, Term, WriteSeq};
use logboat_storage::{Batch, Poisoned, Refusals, Wal, WalOptions};
use std::hint::black_box;
use std::sync::mpsc::channel;

const PAYLOAD_BYTES: usize = 128;

fn entries(group: GroupId, first: u64, count: u64) -> Vec<Entry> {
    let payload = Bytes::from_static(&[0; PAYLOAD_BYTES]);
    let entry = |index| {
        let id = LogId::new(Term(1), Index(index));
        Entry::new(group, id, EntryKind::Command, payload.clone())
    };
    (first..first + count).map(entry).collect()
}

fn write(wal: &Wal, writes: Vec<(GroupId, Persist)>) {
    let (done, durable) = channel();
    let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
        done.send(result.map(drop)).expect("the bench waits");
    });
    wal.submit(Batch { grants: Vec::new(), writes, completion });
    durable.recv().expect("the log answers").expect("the disk works");
}

fn append(group: GroupId, seq: u64, first: u64, count: u64) -> (GroupId, Persist) {
    let log = LogWrite::Append(entries(group, first, count).into());
    (group, Persist { seq: WriteSeq(seq), hard_state: None, log })
}

fn synced_batches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), |_| {}).expect("a new log");
    let mut bench = criterion.benchmark_group("wal: synced batches, one entry a group");
    let mut round = 0;
    for groups in [1, 64, 1_000] {
        bench.throughput(Throughput::Elements(groups));
        bench.bench_with_input(BenchmarkId::new("groups", groups), &groups, |bencher, _| {
            bencher.iter(|| {
                round += 1;
                // Groups of their own a round, since each begins with the first entry.
                let ids = (0..groups).map(|group| GroupId(round << 16 | group));
                write(&wal, ids.map(|group| append(group, 1, 1, 1)).collect());
            });
        });
    }
    bench.finish();
    wal.close();
}

fn read_back(criterion: &mut Criterion) {
    const BATCH: u64 = 64;
    const ENTRIES: u64 = 64 * 1_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), |_| {}).expect("a new log");
    let group = GroupId(1);
    for (seq, first) in (1..).zip((1..ENTRIES).step_by(64)) {
        write(&wal, vec![append(group, seq, first, BATCH)]);
    }
    let mut bench = criterion.benchmark_group("wal: read back entries written 64 at a time");
    bench.throughput(Throughput::Elements(BATCH));
    let mut first = 1;
    bench.bench_function("64", |bencher| {
        bencher.iter(|| {
            let last = Index(first + BATCH - 1);
            let entries = wal.read(group, Index(first), last, usize::MAX).expect("they are there");
            assert_eq!(entries.len() as u64, BATCH);
            black_box(entries);
            first = (first + BATCH) % ENTRIES;
        });
    });
    bench.finish();
    wal.close();
}

criterion_group!(benches, synced_batches, read_back);
criterion_main!(benches);

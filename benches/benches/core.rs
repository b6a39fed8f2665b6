//! The consensus core alone: three replicas of each group on one thread. Their disk is durable at
//! once, and their network loses nothing.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logboat_bench::three_nodes::ThreeNodes;
use logboat_raft::{GroupId, Tuning};
use std::sync::Arc;

const GROUPS: u64 = 1_000;
const PAYLOAD_BYTES: usize = 128;

fn commit(criterion: &mut Criterion) {
    let tuning = Arc::new(Tuning::default());
    let mut groups: Vec<_> =
        (1..=GROUPS).map(|group| ThreeNodes::new(GroupId(group), &tuning)).collect();
    let mut bench = criterion.benchmark_group("core: commit on three replicas of 1,000 groups");
    for batch in [1, 64] {
        bench.throughput(Throughput::Elements(batch));
        bench.bench_with_input(BenchmarkId::new("entries at once", batch), &batch, |bencher, _| {
            let payload = Bytes::from_static(&[0; PAYLOAD_BYTES]);
            let mut next = 0;
            bencher.iter(|| {
                let group = &mut groups[next % GROUPS as usize];
                next += 1;
                let before = group.committed();
                group.propose((0..batch).map(|_| payload.clone()).collect());
                assert_eq!(group.committed(), before + batch);
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);

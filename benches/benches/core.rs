//! The consensus core alone: three replicas of each group on one thread, with a disk that is always
//! done and a network that loses nothing.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logboat_raft::{
    Config, GroupId, Input, Mark, Message, NodeId, Output, Raft, Restored, RoleKind, Time, Tuning,
};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

const GROUPS: u64 = 1_000;
const PAYLOAD_BYTES: usize = 128;

/// The three replicas of a group, and what they have for each other.
struct Trio {
    replicas: [Raft; 3],
    messages: VecDeque<(NodeId, NodeId, Message)>,
    outputs: Vec<Output>,
    committed: u64,
}

impl Trio {
    fn new(group: GroupId, tuning: &Arc<Tuning>) -> Self {
        let voters = [1, 2, 3].map(NodeId);
        let replica = |node: NodeId| {
            let config = Config {
                group,
                node,
                voters: voters.into(),
                seed: group.0 ^ node.0,
                tuning: Arc::clone(tuning),
            };
            Raft::new(config, Restored::default(), Time::default())
        };
        let mut trio = Self {
            replicas: voters.map(replica),
            messages: VecDeque::new(),
            outputs: Vec::new(),
            committed: 0,
        };
        trio.step(0, Input::Campaign);
        trio.deliver();
        assert_eq!(trio.replicas[0].role(), RoleKind::Leader);
        trio
    }

    /// Proposes on the leader and delivers messages until there are none.
    fn propose(&mut self, commands: Vec<Bytes>) {
        self.step(0, Input::Propose { commands: commands.into() });
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.messages.pop_front() {
            self.step(place(to), Input::Receive { from, message });
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replicas[at].step(Time::default(), input, &mut outputs);
        let mut durable = None;
        for output in outputs.drain(..) {
            match output {
                Output::Persist(persist) => durable = Some(persist.mark),
                Output::Send { to, message } | Output::SendAfter { after: _, to, message } => {
                    self.messages.push_back((NodeId(at as u64 + 1), to, message));
                }
                Output::Apply { entries } => {
                    self.committed += if at == 0 { entries.len() as u64 } else { 0 };
                    black_box(entries);
                }
                Output::Proposed { .. }
                | Output::Refused { .. }
                | Output::ReadReady { .. }
                | Output::ReadRefused { .. }
                | Output::Load { .. }
                | Output::SendSnapshot { .. }
                | Output::RestoreSnapshot { .. }
                | Output::RoleChanged { .. } => {}
            }
        }
        self.outputs = outputs;
        if let Some(mark) = durable {
            self.persisted(at, mark);
        }
    }

    fn persisted(&mut self, at: usize, mark: Mark) {
        self.step(at, Input::Persisted { mark });
    }
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("three nodes")
}

fn commit(criterion: &mut Criterion) {
    let tuning = Arc::new(Tuning::default());
    let mut groups: Vec<_> = (1..=GROUPS).map(|group| Trio::new(GroupId(group), &tuning)).collect();
    let mut bench = criterion.benchmark_group("core: commit on three replicas of 1,000 groups");
    for batch in [1, 64] {
        bench.throughput(Throughput::Elements(batch));
        bench.bench_with_input(BenchmarkId::new("entries at once", batch), &batch, |bencher, _| {
            let payload = Bytes::from_static(&[0; PAYLOAD_BYTES]);
            let mut next = 0;
            bencher.iter(|| {
                let group = &mut groups[next % GROUPS as usize];
                next += 1;
                let before = group.committed;
                group.propose((0..batch).map(|_| payload.clone()).collect());
                assert_eq!(group.committed, before + batch);
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);

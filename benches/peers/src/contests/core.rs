//! The contests of the consensus cores, Logboat's and raft-rs: three replicas of 1,000 groups on
//! one thread, with everything in memory.

use crate::contest::{Better, Contest, Figure};
use crate::sides::raft_rs;
use crate::testbed::Testbed;
use bytes::Bytes;
use logboat_bench::Failure;
use logboat_bench::process::cpu_time;
use logboat_bench::three_nodes::ThreeNodes;
use logboat_raft::{GroupId, Tuning};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEER: &str = "raft-rs 0.7";
const GROUPS: u64 = 1_000;
const COMMAND: &[u8] = &[b'x'; 128];

/// Each proposal is one entry.
pub(crate) fn one_by_one(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    contest(
        testbed,
        1,
        &[Figure {
            what: "core: commit one entry at a time",
            unit: "entries/CPU s",
            better: Better::More,
        }],
    )
}

/// Each proposal is 64 entries.
pub(crate) fn batches(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    contest(
        testbed,
        64,
        &[Figure {
            what: "core: commit 64 entries at a time",
            unit: "entries/CPU s",
            better: Better::More,
        }],
    )
}

fn contest<'a>(
    testbed: &'a Testbed,
    batch: usize,
    figures: &'static [Figure],
) -> Result<Contest<'a>, Failure> {
    let tuning = Arc::new(Tuning::default());
    let mut logboat: Vec<_> =
        (1..=GROUPS).map(|group| ThreeNodes::new(GroupId(group), &tuning)).collect();
    let logger = raft_rs::logger();
    let replicas = (1..=GROUPS).map(|_| raft_rs::ThreeNodes::new(&logger));
    let mut other = replicas.collect::<Result<Vec<_>, Failure>>()?;
    let commands = move || (0..batch).map(|_| Bytes::from_static(COMMAND));
    Ok(Contest {
        peer: PEER,
        figures,
        logboat: Box::new(move || {
            per_cpu_second(testbed.time, batch, &mut logboat, |nodes| {
                nodes.propose(commands().collect());
                Ok(nodes.committed())
            })
        }),
        other: Box::new(move || {
            per_cpu_second(testbed.time, batch, &mut other, |nodes| {
                nodes.propose(commands())?;
                Ok(nodes.committed())
            })
        }),
    })
}

/// Proposes on one group after the other. `propose` returns how much its group has committed.
fn per_cpu_second<T>(
    time: Duration,
    batch: usize,
    groups: &mut [T],
    mut propose: impl FnMut(&mut T) -> Result<u64, Failure>,
) -> Result<Vec<f64>, Failure> {
    let before = groups.iter_mut().map(&mut propose).sum::<Result<u64, _>>()?;
    let (mut proposed, mut after) = (0, before);
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < time {
        after = groups.iter_mut().map(&mut propose).sum::<Result<u64, _>>()?;
        proposed += groups.len() * batch;
    }
    let cpu = cpu_time().saturating_sub(cpu);
    if after - before != proposed as u64 {
        return Err(format!("of {proposed} entries {} were committed", after - before).into());
    }
    Ok(vec![logboat_server::latency::per_second(proposed as u64, cpu)])
}

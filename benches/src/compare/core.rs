//! The contests of the consensus cores: Logboat's and raft-rs, three replicas of 1,000 groups on one
//! thread, with everything in memory.

use super::Ground;
use super::contest::{Better, Contest, Figure};
use super::raft_rs;
use crate::Failure;
use crate::process::cpu_time;
use bytes::Bytes;
use logboat_bench::trio::Trio;
use logboat_raft::{GroupId, Tuning};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEER: &str = "raft-rs 0.7";
const GROUPS: u64 = 1_000;
const COMMAND: &[u8] = &[b'x'; 128];

/// Each proposal is one entry.
pub(super) fn one_by_one(ground: &Ground) -> Result<Contest<'_>, Failure> {
    contest(
        ground,
        1,
        &[Figure {
            what: "core: commit one entry at a time",
            unit: "entries/CPU s",
            better: Better::More,
        }],
    )
}

/// Each proposal is 64 entries.
pub(super) fn batches(ground: &Ground) -> Result<Contest<'_>, Failure> {
    contest(
        ground,
        64,
        &[Figure {
            what: "core: commit 64 entries at a time",
            unit: "entries/CPU s",
            better: Better::More,
        }],
    )
}

fn contest<'a>(
    ground: &'a Ground,
    batch: usize,
    figures: &'static [Figure],
) -> Result<Contest<'a>, Failure> {
    let tuning = Arc::new(Tuning::default());
    let mut logboat: Vec<_> =
        (1..=GROUPS).map(|group| Trio::new(GroupId(group), &tuning)).collect();
    let logger = raft_rs::logger();
    let trios = (1..=GROUPS).map(|_| raft_rs::Trio::new(&logger));
    let mut other = trios.collect::<Result<Vec<_>, Failure>>()?;
    let commands = move || (0..batch).map(|_| Bytes::from_static(COMMAND));
    Ok(Contest {
        peer: PEER,
        figures,
        logboat: Box::new(move || {
            per_cpu_second(ground.time, batch, &mut logboat, |trio| {
                trio.propose(commands().collect());
                Ok(trio.committed())
            })
        }),
        other: Box::new(move || {
            per_cpu_second(ground.time, batch, &mut other, |trio| {
                trio.propose(commands())?;
                Ok(trio.committed())
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

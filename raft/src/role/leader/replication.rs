//! Replication to one follower, by the state of its [`Progress`]: probes, pipelining under flow
//! control, snapshots.

use crate::progress::{Mode, Progress};
use crate::step::Step;
use crate::{Entries, LogReadTarget, Output, Payload};

/// Tells a follower who leads, asks it to fortify this leader, and tells what is committed of what
/// the follower is known to hold: it takes that without comparing logs.
pub(super) fn send_fortify(peer: &mut Progress, step: &mut Step<'_>) {
    let commit = step.replica.commit.min(peer.matched);
    peer.commit_sent(commit, step.now());
    peer.fortify_sent(step.now());
    step.send(peer.address(), Payload::Fortify { commit, founders: step.founders() });
}

/// Lets a follower that has everything hear its leader. The answer to it ends the exchange, while
/// that to a [`Payload::Fortify`] might be taken for another word that nobody asked for.
pub(super) fn send_heartbeat(peer: &mut Progress, step: &mut Step<'_>) {
    let (prev, commit) = (step.replica.log.last_id(), step.replica.commit);
    let (entries, founders) = (Entries::new(), step.founders());
    step.send(peer.address(), Payload::AppendEntries { prev, entries, commit, founders });
    peer.commit_sent(commit, step.now());
}

/// Sends a follower all that its state allows.
pub(super) fn replicate(peer: &mut Progress, step: &mut Step<'_>) {
    match peer.mode {
        Mode::Probe { waiting: false } => probe(peer, step),
        Mode::Replicate => stream(peer, step),
        Mode::Probe { waiting: true } | Mode::Snapshot { .. } => {}
    }
}

/// Asks where the logs meet. A probe carries along what is in memory, but nothing is read from the
/// disk for a follower that may refuse it.
fn probe(peer: &mut Progress, step: &mut Step<'_>) {
    let replica = &*step.replica;
    let Some(prev) = replica.log.id_at(peer.next.prev()) else {
        return send_snapshot(peer, step);
    };
    let max_bytes = replica.config.tuning.max_append_bytes;
    let entries = if peer.next >= replica.log.memory_start() {
        replica.log.read(peer.next, max_bytes, usize::MAX)
    } else {
        Entries::new()
    };
    let commit = replica.commit;
    let founders = step.founders();
    step.send(peer.address(), Payload::AppendEntries { prev, entries, commit, founders });
    peer.probed(step.now());
    peer.commit_sent(commit, step.now());
}

/// Fills the follower's window, from memory or by a request to the disk.
fn stream(peer: &mut Progress, step: &mut Step<'_>) {
    let max_bytes = step.replica.config.tuning.max_append_bytes;
    while peer.next <= step.replica.log.last() {
        let replica = &*step.replica;
        if peer.next <= replica.log.snapshot().index {
            return send_snapshot(peer, step);
        }
        let Some(room) = peer.room(&replica.config.tuning) else {
            return;
        };
        let memory_start = replica.log.memory_start();
        if peer.next < memory_start {
            let target = LogReadTarget::Peer(peer.node);
            let last = memory_start.prev();
            return step.read_log(target, peer.next, last, max_bytes.min(room));
        }
        let entries = replica.log.read(peer.next, max_bytes, room);
        if entries.is_empty() {
            return;
        }
        send_append(peer, step, entries);
    }
}

/// Sends entries from `next` on, ahead of the answers to what was sent before.
pub(super) fn send_append(peer: &mut Progress, step: &mut Step<'_>, entries: Entries) {
    let prev = step.replica.log.id_at(peer.next.prev());
    let prev = prev.expect("the entry before one of the log's is known, if only by the snapshot");
    let bytes = entries.iter().map(|entry| entry.data.len()).sum();
    let (commit, now) = (step.replica.commit, step.now());
    peer.append_sent(prev.index.plus(entries.len() as u64), bytes, now);
    peer.commit_sent(commit, now);
    let founders = step.founders();
    step.send(peer.address(), Payload::AppendEntries { prev, entries, commit, founders });
}

/// Has the newest snapshot streamed to a follower.
pub(super) fn send_snapshot(peer: &mut Progress, step: &mut Step<'_>) {
    peer.snapshot_begun(step.replica.log.snapshot(), step.now());
    step.out.push(Output::SendSnapshot { to: peer.node });
}

/// Acts on a follower's silence: starts over after what it is known to hold. A follower that is
/// being sent a snapshot is asked whether it has it, in case that its acknowledgement was lost.
pub(super) fn retry(peer: &mut Progress, step: &mut Step<'_>) {
    match peer.mode {
        Mode::Snapshot { last, .. } => {
            peer.snapshot_probed(step.now());
            let (commit, entries) = (step.replica.commit, Entries::new());
            let founders = step.founders();
            step.send(
                peer.address(),
                Payload::AppendEntries { prev: last, entries, commit, founders },
            );
        }
        Mode::Probe { .. } | Mode::Replicate => peer.lost(),
    }
}

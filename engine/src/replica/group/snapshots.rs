//! Snapshots of a replica: when one is due, how it is sent, and how a leader's is adopted.

use crate::background::guard::contain;
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use crate::turn::jobs::SnapshotJob;
use logboat_raft::{Input, LogId, NodeId};

impl Group {
    /// Starts a snapshot of the present state, unless one is being written.
    pub(super) fn snapshot(&mut self, run: &mut RunContext<'_>) {
        if self.halted || self.snapshot_running || self.applied.index <= self.raft.snapshot().index
        {
            return;
        }
        let Ok(writer) = contain(|| self.machine.snapshot()) else {
            return self.fail(run, "its state machine panicked at a snapshot");
        };
        self.snapshot_running = true;
        self.applied_bytes = 0;
        run.turn.snapshots.push(SnapshotJob::Write {
            group: self.id,
            slot: self.slot,
            last: self.applied,
            writer,
        });
    }

    pub(super) fn snapshot_written(&mut self, run: &mut RunContext<'_>, last: Option<LogId>) {
        self.snapshot_running = false;
        // A leader's snapshot may have overtaken ours.
        if let Some(last) = last.filter(|last| last.index > self.raft.snapshot().index) {
            self.step(run, Input::Compact { last });
        }
    }

    /// The bytes have left, so the core's offer follows on the same connection.
    pub(super) fn snapshot_sent(
        &mut self,
        run: &mut RunContext<'_>,
        to: NodeId,
        last: Option<LogId>,
    ) {
        let input = match last {
            Some(last) => Input::SnapshotSent { to, last },
            None => Input::SnapshotFailed { to },
        };
        self.step(run, input);
    }

    pub(super) fn restore(&mut self, run: &mut RunContext<'_>, last: LogId) {
        // The state machine takes the snapshot before it replaces the one that this node has: a
        // replica whose state machine refuses it can start again from there.
        let storage = &*run.turn.storage;
        let adopt = || {
            let mut reader = storage.open_received(self.id, last)?;
            self.machine.restore(&mut *reader)?;
            storage.adopt_snapshot(self.id, last)
        };
        let failed = match contain(adopt) {
            Ok(restored) => restored.err().map(|error| error.to_string()),
            Err(panic) => Some(format!("its state machine panicked: {panic}")),
        };
        if let Some(reason) = failed {
            return self.fail(run, &format!("the leader's snapshot at {last}: {reason}"));
        }
        self.proposals.covered(run.turn, last.index);
        self.applied = last;
        self.applied_bytes = 0;
    }
}

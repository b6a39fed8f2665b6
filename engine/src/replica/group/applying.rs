//! Applying committed entries, those among them that had to be read back from the log.

use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use bytes::Bytes;
use logboat_raft::{Entries, Entry, Index, Input, LogId, LogReadTarget};
use logboat_storage::ReadError;

/// For so many times the commands that make a snapshot due, the log is kept for peers that are
/// being sent one.
const MOST_FOR_PEERS: u64 = 16;

impl Group {
    /// Hands entries to the state machine.
    pub(super) fn apply(&mut self, run: &mut RunContext<'_>, entries: Entries) {
        self.applied_bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        if let Some(last) = entries.last() {
            self.handed = last.id();
        }
        match &self.on_disk {
            None => run.scratch.tasks.apply(entries),
            Some(state) => state.hand(&mut run.scratch.tasks, entries),
        }
        if self.applied_bytes >= self.due_bytes && self.is_snapshot_due(run) {
            self.snapshot(run);
        }
    }

    /// Whether a snapshot is worth its bytes: a state that is larger than the commands since would
    /// be written over and over. A peer that is being sent one needs what follows in the log, too.
    /// It gets it, unless the log has grown a lot meanwhile. Whatever this says, the log may press
    /// for a snapshot.
    fn is_snapshot_due(&mut self, run: &RunContext<'_>) -> bool {
        let held_for_peers = self.shared.snapshot_log_bytes.saturating_mul(MOST_FOR_PEERS);
        let is_held = self.raft.sends_snapshot() && self.applied_bytes < held_for_peers;
        if self.snapshot_running || is_held {
            return false;
        }
        // Asked once a snapshot, since all groups would wait for each other at each run.
        let last = run.turn.storage.current_snapshot(self.id);
        self.due_bytes = self.due_bytes.max(last.map_or(0, |last| last.bytes));
        self.applied_bytes >= self.due_bytes
    }

    /// The state machine has applied an entry.
    pub(super) fn applied(&mut self, run: &mut RunContext<'_>, id: LogId, answer: Option<Bytes>) {
        let responder = self.proposals.applied(run.turn, id);
        if let (Some(responder), Some(answer)) = (responder, answer) {
            responder.answer(run.turn, Ok(answer));
        }
        self.applied = id;
    }

    pub(super) fn log_read(
        &mut self,
        run: &mut RunContext<'_>,
        target: LogReadTarget,
        first: Index,
        entries: Result<Vec<Entry>, ReadError>,
    ) {
        if self.halted {
            return;
        }
        if target == LogReadTarget::Apply {
            self.has_read_log(run);
        }
        // A snapshot may have taken the place of what was to be applied meanwhile.
        let awaited = target == LogReadTarget::Apply && first == self.handed.index.next();
        match entries {
            Ok(entries) if entries.is_empty() && awaited => {
                self.fail(run, &format!("its log lacks the committed entry {first}"));
            }
            Ok(entries) => self.step(run, Input::LogRead { target, entries: entries.into() }),
            Err(error) => self.fail(run, &error.to_string()),
        }
    }
}

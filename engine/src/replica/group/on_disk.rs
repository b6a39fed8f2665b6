//! What a replica keeps whose state machine keeps the state on disk.
//!
//! The state may hold more than the log has applied by what a restart knows: those entries are
//! passed, and not applied again. The log is cut where the state machine calls its state durable.
//! A peer that needs a snapshot gets one that is written for it.

use crate::replica::call::Tasks;
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use crate::turn::jobs::SnapshotJob;
use logboat_raft::{Configuration, Entries, Input, LogId, NodeId, SnapshotMeta};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the replica knows of a state on disk.
pub(super) struct StateOnDisk {
    /// The last entry that it held at the start of the replica, or when it was replaced.
    held: LogId,
    /// The configuration in force where the log was cut last, and those that entries have set
    /// since, as far as they were applied.
    configurations: VecDeque<Arc<Configuration>>,
    /// The peers that wait for a snapshot.
    pub(super) awaited: Vec<NodeId>,
}

impl StateOnDisk {
    pub(super) fn new(held: LogId, configuration: Arc<Configuration>) -> Self {
        Self { held, configurations: VecDeque::from([configuration]), awaited: Vec::new() }
    }

    /// Has entries applied, but for those that the state holds already.
    pub(super) fn hand(&self, tasks: &mut Tasks, mut entries: Entries) {
        let held = entries.iter().take_while(|entry| entry.index <= self.held.index).count();
        if held == entries.len() {
            return tasks.pass(entries);
        }
        if held > 0 {
            tasks.pass(entries.drain(..held).collect());
        }
        tasks.apply(entries);
    }

    /// Whether the state holds entries behind this one, which were not passed yet.
    pub(super) fn is_ahead_of(&self, handed: LogId) -> bool {
        self.held.index > handed.index
    }

    /// An entry with a configuration was applied.
    pub(super) fn configured(&mut self, configuration: &Arc<Configuration>) {
        self.configurations.push_back(Arc::clone(configuration));
    }

    /// The state was replaced by one that stands there.
    pub(super) fn replaced(&mut self, last: LogId, configuration: Arc<Configuration>) {
        self.held = last;
        self.configurations = VecDeque::from([configuration]);
    }

    /// The configuration in force at an entry that was applied, if it is known. Those before it are
    /// forgotten.
    fn configuration_at(&mut self, last: LogId) -> Option<Arc<Configuration>> {
        let is_later = |it: &Arc<Configuration>| it.id().index > last.index;
        let later = self.configurations.iter().position(is_later);
        let before = later.unwrap_or(self.configurations.len()).checked_sub(1)?;
        self.configurations.drain(..before);
        let found = self.configurations.front().filter(|it| !it.members().is_empty());
        found.cloned()
    }
}

impl Group {
    /// The state on disk is durable up to this entry: the log may be cut there.
    pub(super) fn synced(&mut self, run: &mut RunContext<'_>, last: LogId) {
        self.snapshot_running = false;
        let is_new = self.raft.snapshot().index < last.index && last.index <= self.applied.index;
        let state = self.on_disk.as_mut().filter(|_| is_new);
        if let Some(configuration) = state.and_then(|state| state.configuration_at(last)) {
            self.step(run, Input::Compact { meta: SnapshotMeta { last, configuration } });
        }
    }

    /// Begins a snapshot that peers wait for, if it could not be begun before.
    pub(super) fn snapshot_for_peers(&mut self, run: &mut RunContext<'_>) {
        if self.on_disk.as_ref().is_some_and(|state| !state.awaited.is_empty()) {
            self.snapshot(run);
        }
    }

    /// Has a snapshot sent. Of a state on disk there is none, unless another peer wanted one
    /// lately: then it is written first.
    pub(super) fn send_snapshot(&mut self, run: &mut RunContext<'_>, to: NodeId) {
        let begin = self.raft.snapshot().index;
        if let Some(state) = &mut self.on_disk {
            let current = run.turn.storage.current_snapshot(self.id);
            if current.is_none_or(|current| current.last.index < begin) {
                state.awaited.push(to);
                return self.snapshot(run);
            }
        }
        run.turn.snapshots.push(SnapshotJob::Send { group: self.id, slot: self.slot, to });
    }

    /// A snapshot was written, or could not be: those who wait for it get it, or are told.
    pub(super) fn send_awaited(&mut self, run: &mut RunContext<'_>, is_written: bool) {
        let awaited = self.on_disk.as_mut().map(|state| std::mem::take(&mut state.awaited));
        for to in awaited.unwrap_or_default() {
            if is_written {
                self.send_snapshot(run, to);
            } else {
                self.step(run, Input::SnapshotFailed { to });
            }
        }
    }
}

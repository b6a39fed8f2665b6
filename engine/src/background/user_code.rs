//! The threads of a node for user code, besides its workers.

use crate::background::disk_machines::DiskMachines;
use crate::background::pace::Paces;
use crate::background::pool::{Job, Late, Pool, PoolKind, Progress};
use crate::background::restores::Restores;
use crate::background::stuck_calls::StuckCalls;
use crate::status::UserCode as Code;
use crate::turn::jobs::QueryJob;
use crate::worker::inbox::Workers;
use std::sync::Arc;

/// How often the watchdog looks until a call has taken too long.
pub(crate) const LOOKS: u32 = 4;

/// How many queries are answered at a time, for each state machine that is called at a time: most
/// of those that take long wait for a disk.
const READERS: usize = 4;

/// How many state machines take over snapshots at a time: they leave processors to the others.
const RESTORERS: usize = 2;

/// How many times as long as a state machine a writer of a snapshot gets, from write to write.
const WRITERS_PATIENCE: u32 = 10;

/// The pools for user code, and what is known of calls that take too long.
#[derive(Clone)]
pub(crate) struct UserCode {
    /// Where state machines are called that are not called on their workers.
    pub(crate) machines: Arc<Pool>,
    /// Where state machines take over snapshots of their leaders.
    pub(crate) restorers: Arc<Pool>,
    /// Where readers are asked.
    readers: Arc<Pool>,
    /// Where snapshots are written.
    pub(crate) writers: Arc<Pool>,
    /// What runs on the threads of others before a replica does.
    pub(crate) restores: Arc<Restores>,
    pub(crate) disk_machines: Arc<DiskMachines>,
    pub(crate) stuck: Arc<StuckCalls>,
    /// Of snapshots, which state machines take over.
    pub(crate) paces: Paces,
}

impl UserCode {
    /// Pools without threads yet. State machines get so many `threads` at the most, readers some
    /// more, and snapshots are written one after the other.
    pub(crate) fn new(
        threads: usize,
        workers: &Workers,
        stuck: Arc<StuckCalls>,
        disk_machines: Arc<DiskMachines>,
        paces: Paces,
    ) -> Self {
        let machines =
            PoolKind { name: "logboat-apply", threads, code: Code::StateMachine, patience: LOOKS };
        let restorers = PoolKind { name: "logboat-restore", threads: RESTORERS, ..machines };
        let readers = PoolKind {
            name: "logboat-reader",
            threads: threads * READERS,
            code: Code::StateReader,
            patience: LOOKS,
        };
        let writers = PoolKind {
            name: "logboat-writer",
            threads: 1,
            code: Code::SnapshotWriter,
            patience: LOOKS * WRITERS_PATIENCE,
        };
        let [machines, restorers, readers, writers] = [machines, restorers, readers, writers]
            .map(|kind| Pool::new(kind, workers.clone(), Arc::clone(&stuck)));
        let restores = Restores::new(Arc::clone(&stuck));
        Self { machines, restorers, readers, writers, restores, disk_machines, stuck, paces }
    }

    /// Has readers answer queries.
    pub(crate) fn ask(&self, queries: impl Iterator<Item = QueryJob>) {
        self.readers.submit(queries.map(|query| {
            let (group, slot, late) = (query.group, query.slot, Late::Query(query.number));
            let work = Box::new(move |_: &Progress| Some(query.run()));
            Job { group, slot, late, work }
        }));
    }

    /// Looks for jobs that take too long. Called at even intervals.
    pub(crate) fn look(&self) {
        self.machines.look();
        self.restorers.look();
        self.readers.look();
        self.writers.look();
        self.restores.look();
    }

    /// Ends the threads that no job holds up.
    pub(crate) fn close(&self) {
        self.machines.close();
        self.restorers.close();
        self.readers.close();
        self.writers.close();
    }
}

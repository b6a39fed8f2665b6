//! A simulated node: the engine's own liveness, the workers, and a log that syncs.

use super::cost::WORKERS;
use super::replica::{Message, ReplicaId};
use super::worker::Worker;
use logboat::internals::{Liveness, LivenessTiming};
use logboat_raft::{BootCount, Grant, NodeId, SupportMessage, Time};
use std::collections::BTreeMap;

/// A node.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) lives: bool,
    pub(super) liveness: Liveness,
    pub(super) workers: Vec<Worker>,
    pub(super) log: Log,
    /// When the last message to each node arrives there: one connection carries them in order.
    pub(super) arrivals: Vec<Time>,
}

impl Node {
    /// A new node in a cluster of so many.
    pub(super) fn new(id: NodeId, nodes: usize, timing: LivenessTiming, now: Time) -> Self {
        let members = (1..=nodes as u64).map(NodeId);
        Self {
            id,
            lives: true,
            liveness: Liveness::new(id, members, BootCount(1), true, &BTreeMap::new(), timing, now),
            workers: (0..WORKERS).map(|_| Worker::new(id)).collect(),
            log: Log::default(),
            arrivals: vec![now; nodes],
        }
    }
}

/// What is written together, and what waits for it to be durable.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) grants: Vec<(NodeId, Grant)>,
    pub(super) support_messages: Vec<(NodeId, SupportMessage)>,
    pub(super) promises: Vec<(NodeId, Message)>,
    /// The replicas that wrote, once for each write.
    pub(super) wrote: Vec<ReplicaId>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let Self { grants, support_messages, promises, wrote } = self;
        grants.is_empty() && support_messages.is_empty() && promises.is_empty() && wrote.is_empty()
    }
}

/// The log of a node: one sync at a time, for all that has waited for it.
#[derive(Default)]
pub(super) struct Log {
    waiting: Batch,
    syncing: Option<Batch>,
}

impl Log {
    /// Where to add what is to be written next.
    pub(super) const fn next(&mut self) -> &mut Batch {
        &mut self.waiting
    }

    /// Begins a sync, if there is something to write and none is going on. Whether it did.
    pub(super) fn begin(&mut self) -> bool {
        if self.syncing.is_some() || self.waiting.is_empty() {
            return false;
        }
        self.syncing = Some(std::mem::take(&mut self.waiting));
        true
    }

    /// Ends the sync, and returns what it made durable.
    ///
    /// # Panics
    /// When there was none.
    pub(super) fn end(&mut self) -> Batch {
        self.syncing.take().expect("a sync that ends has begun")
    }
}

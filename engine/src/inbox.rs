//! The way into a worker from other threads: callers, the log, the connections, the clock.

use crate::group::GroupEvent;
use crate::heartbeat::Gathering;
use crate::state_machine::StateMachine;
use crate::turn::Slot;
use crate::view::GroupView;
use crate::worker::{Drain, Worker};
use actix::Addr;
use logboat_raft::{Config, GroupId, Mark, Message, NodeId, Persist, Restored};
use logboat_storage::Poisoned;
use logboat_transport::RequestId;
use parking_lot::{Mutex, MutexGuard};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

/// What can happen to a worker.
pub(crate) enum Event {
    /// An interval passed.
    Tick(Arc<Gathering>),
    /// Messages of one peer to replicas of this worker.
    Messages { from: NodeId, messages: Vec<(GroupId, Message)> },
    /// Something for one replica, from this process.
    Local(Slot, GroupEvent),
    /// Something for one replica, if it is here.
    Group(GroupId, GroupEvent),
    /// A request of another node.
    Remote { from: NodeId, id: RequestId, group: GroupId, event: GroupEvent },
    /// The oldest batch that was not durable is.
    Durable(Vec<(Slot, Mark)>),
    /// The connection to a node broke.
    Disconnected(NodeId),
    /// The log wants these groups, if they are here, to make a snapshot.
    Compact(Vec<GroupId>),
    /// Nothing will become durable any more.
    Poisoned(Poisoned),
    /// A replica to start.
    Start(Box<StartGroup>),
    /// The node is about to stop: hand leaderships to these nodes.
    Transfer(Vec<NodeId>),
    /// The node stops. Told when everything is handed over.
    Stop(Sender<()>),
}

/// The queues of a node's workers. A group belongs to the same worker for as long as the node runs.
#[derive(Clone)]
pub(crate) struct Workers(Arc<[Arc<WorkerInbox>]>);

impl Workers {
    /// Queues for `count` workers, which are yet to be connected, each with room for so many bytes of
    /// peers' messages.
    pub(crate) fn new(count: usize, max_message_bytes: usize) -> Self {
        Self((0..count).map(|_| Arc::new(WorkerInbox::new(max_message_bytes))).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<WorkerInbox>> {
        self.0.iter()
    }

    /// Which worker runs the replica of `group`.
    pub(crate) fn number_of(&self, group: GroupId) -> usize {
        let count = self.0.len() as u64;
        usize::try_from(group.0 % count).expect("less than the number of workers")
    }

    /// The worker that runs the replica of `group`.
    pub(crate) fn of(&self, group: GroupId) -> &Arc<WorkerInbox> {
        &self.0[self.number_of(group)]
    }
}

/// A replica to start.
pub(crate) struct StartGroup {
    pub(crate) config: Config,
    pub(crate) restored: Restored,
    /// What the log must be told first, when the snapshot on disk is ahead of it.
    pub(crate) reset: Option<Persist>,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) view: Arc<GroupView>,
    /// Whether this replica campaigns as soon as it can.
    pub(crate) preferred: bool,
    pub(crate) done: Sender<Slot>,
}

/// A worker's queue. It takes whatever happens, since completions must never block, but for what
/// peers send, of which there may be any amount; requests are bounded before.
pub(crate) struct WorkerInbox {
    max_message_bytes: usize,
    queue: Mutex<Queue>,
    address: OnceLock<Addr<Worker>>,
}

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    /// What the peers' messages among them take, about.
    message_bytes: usize,
}

impl WorkerInbox {
    fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes, queue: Mutex::default(), address: OnceLock::new() }
    }

    /// Adds `event` and wakes the worker if it isn't awake already.
    pub(crate) fn post(&self, event: Event) {
        self.push(self.queue.lock(), event);
    }

    /// Adds messages of a peer that take about so many bytes. Whether there was room for them.
    pub(crate) fn post_messages(
        &self,
        from: NodeId,
        messages: Vec<(GroupId, Message)>,
        bytes: usize,
    ) -> bool {
        let mut queue = self.queue.lock();
        if queue.message_bytes + bytes > self.max_message_bytes && queue.message_bytes > 0 {
            return false;
        }
        queue.message_bytes += bytes;
        self.push(queue, Event::Messages { from, messages });
        true
    }

    /// Takes everything, in exchange for the memory of `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<Event>) {
        let mut queue = self.queue.lock();
        std::mem::swap(&mut queue.events, empty);
        queue.message_bytes = 0;
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, event: Event) {
        let was_empty = queue.events.is_empty();
        queue.events.push(event);
        drop(queue);
        if was_empty && let Some(address) = self.address.get() {
            address.do_send(Drain);
        }
    }

    /// Connects the worker that serves this queue, once.
    pub(crate) fn connect(&self, address: Addr<Worker>) {
        let address = self.address.get_or_init(|| address);
        // Events that came before found nobody to wake.
        address.do_send(Drain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_beyond_the_bound_are_dropped_and_nothing_else_is() {
        let inbox = WorkerInbox::new(100);
        let post = |bytes| inbox.post_messages(NodeId(2), Vec::new(), bytes);
        assert!(post(1_000), "one of any size, when no other waits");
        assert!(!post(1));
        inbox.post(Event::Disconnected(NodeId(2)));
        let mut events = Vec::new();
        inbox.take(&mut events);
        assert_eq!(events.len(), 2);
        assert!(post(60) && post(40) && !post(1));
    }
}

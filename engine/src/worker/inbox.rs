//! The inbox of a worker: the way in from other threads, which are callers, the log, the
//! connections and the ticker.

use crate::liveness::manager::SupportListener;
use crate::worker::event::Event;
use crate::worker::queue::{Queue, Server};
use actix::{Message, Recipient};
use logboat_raft::{Confirmation, Epoch, GroupId, NodeId};
use std::sync::Arc;

/// "Your inbox is no longer empty."
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// A worker's queue. It takes whatever happens, since completions must never block, but for what
/// peers send, of which there may be any amount; requests are bounded before.
pub(crate) type WorkerInbox = Queue<Event, Recipient<Drain>>;

/// Takes everything out of `inbox` and reads the clock, in this order: whatever was taken came
/// before the time that is returned. The other way round, a thread that stood still in between
/// would judge a request by a time before it came. A lease may have been valid then that is over.
pub(crate) fn take_by<T, S: Server, C>(
    inbox: &Queue<T, S>,
    taken: &mut Vec<T>,
    clock: impl FnOnce() -> C,
) -> C {
    inbox.take(taken);
    clock()
}

impl Server for Recipient<Drain> {
    fn wake(&self) {
        self.do_send(Drain);
    }
}

/// The inboxes of a node's workers. A group belongs to the same worker for as long as the node
/// runs.
#[derive(Clone)]
pub(crate) struct Workers(Arc<[Arc<WorkerInbox>]>);

impl Workers {
    /// Inboxes for `count` workers, which are yet to be connected, each with room for so many bytes
    /// of peers' messages.
    pub(crate) fn new(count: usize, max_message_bytes: usize) -> Self {
        Self((0..count).map(|_| Arc::new(Queue::new(max_message_bytes))).collect())
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

    /// The worker of this number.
    pub(crate) fn number(&self, number: usize) -> &Arc<WorkerInbox> {
        &self.0[number]
    }

    /// The worker that runs the replica of `group`.
    pub(crate) fn of(&self, group: GroupId) -> &Arc<WorkerInbox> {
        self.number(self.number_of(group))
    }
}

impl SupportListener for Workers {
    fn support_for_changed(&self, peer: NodeId, epoch: Option<Epoch>) {
        self.iter().for_each(|worker| worker.post(Event::SupportForChanged(peer, epoch)));
    }

    fn support_from_changed(&self, peer: NodeId, epoch: Option<Epoch>) {
        self.iter().for_each(|worker| worker.post(Event::SupportFromChanged(peer, epoch)));
    }

    fn confirmed(&self, worker: u32, from: NodeId, answer: Confirmation) {
        // A peer may answer for a worker that this node has no more.
        if let Some(worker) = self.0.get(worker as usize) {
            worker.post(Event::Confirmed { from, answer });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Server for Nobody {
        fn wake(&self) {}
    }

    #[test]
    fn what_comes_while_the_clock_is_read_is_not_judged_by_that_time() {
        let queue = Queue::<_, Nobody>::new(0);
        queue.post("before");
        let mut taken = Vec::new();
        let time = take_by(&queue, &mut taken, || {
            queue.post("after");
            7
        });
        assert_eq!((taken.as_slice(), time), (["before"].as_slice(), 7));
        queue.take(&mut taken);
        assert!(taken.contains(&"after"));
    }
}

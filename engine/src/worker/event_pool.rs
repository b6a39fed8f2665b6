//! The event pool: the memory that the mailboxes of a worker's replicas share. Posting an event
//! allocates nothing, and an empty mailbox takes no more than its two ends.

use crate::replica::event::GroupEvent;

/// How many events an empty pool keeps room for.
const KEPT_EVENTS: usize = 1 << 14;

/// The events that wait for all replicas of a worker.
#[derive(Default)]
pub(super) struct EventPool(Vec<QueuedEvent>);

/// An event, and where the next one of the same list is.
struct QueuedEvent {
    event: Option<GroupEvent>,
    next: Option<u32>,
}

/// The events that wait for one replica, as a list: the places of its first and its last event in
/// the pool.
#[derive(Default)]
pub(super) struct EventList(Option<(u32, u32)>);

impl EventPool {
    /// Adds an event at the end of `list`.
    pub(super) fn push(&mut self, list: &mut EventList, event: GroupEvent) {
        let at = u32::try_from(self.0.len()).expect("fewer than 2^32 events a turn");
        self.0.push(QueuedEvent { event: Some(event), next: None });
        let first = match list.0 {
            None => at,
            Some((first, last)) => {
                self.0[last as usize].next = Some(at);
                first
            }
        };
        list.0 = Some((first, at));
    }

    /// Takes the events of `list` out, in the order in which they came.
    pub(super) fn take(&mut self, list: EventList) -> impl Iterator<Item = GroupEvent> {
        let mut next = list.0.map(|(first, _)| first);
        std::iter::from_fn(move || {
            let queued = &mut self.0[next? as usize];
            next = queued.next;
            queued.event.take()
        })
    }

    /// Frees the memory of events that were taken out. No other events may be in the pool.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(KEPT_EVENTS);
    }
}

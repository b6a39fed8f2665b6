//! The event pool: the memory that the mailboxes of a worker's replicas share. Posting an event
//! allocates nothing, and an empty mailbox takes no more than its two ends.
//!
//! Messages, which most events are, stay in the list in which they came until their replica takes
//! them: moving them costs more than keeping two numbers.

use crate::replica::event::GroupEvent;
use logboat_raft::{GroupId, Message, NodeId, Payload};
use std::mem;

/// How many events an empty pool keeps room for.
const KEPT_EVENTS: usize = 1 << 14;

/// The events that wait for all replicas of a worker.
#[derive(Default)]
pub(super) struct EventPool {
    queued: Vec<QueuedEvent>,
    events: Vec<Option<GroupEvent>>,
    messages: Vec<(NodeId, Vec<(GroupId, Message)>)>,
}

/// An event, and where the next one of the same list is.
struct QueuedEvent {
    place: Place,
    next: Option<u32>,
}

/// Where an event is.
#[derive(Clone, Copy)]
enum Place {
    Event(u32),
    Message { list: u32, at: u32 },
}

/// The events that wait for one replica, as a list: the places of its first and its last event in
/// the pool.
#[derive(Default)]
pub(super) struct EventList(Option<(u32, u32)>);

impl EventPool {
    /// Adds an event at the end of `list`.
    pub(super) fn push(&mut self, list: &mut EventList, event: GroupEvent) {
        let place = Place::Event(number(self.events.len()));
        self.events.push(Some(event));
        self.link(list, place);
    }

    /// Adds a message at the end of `list`: the one that is `at` this place of the messages that
    /// are [kept](Self::keep) next.
    pub(super) fn push_message(&mut self, list: &mut EventList, at: usize) {
        let place = Place::Message { list: number(self.messages.len()), at: number(at) };
        self.link(list, place);
    }

    /// Keeps the messages of a peer until they are taken out.
    pub(super) fn keep(&mut self, from: NodeId, messages: Vec<(GroupId, Message)>) {
        self.messages.push((from, messages));
    }

    /// Takes the events of `list` out, in the order in which they came.
    pub(super) fn take(&mut self, list: EventList) -> impl Iterator<Item = GroupEvent> {
        let mut next = list.0.map(|(first, _)| first);
        std::iter::from_fn(move || {
            let queued = &self.queued[next? as usize];
            next = queued.next;
            match queued.place {
                Place::Event(at) => self.events[at as usize].take(),
                Place::Message { list, at } => {
                    let (from, messages) = &mut self.messages[list as usize];
                    let (_, message) = &mut messages[at as usize];
                    // Nobody looks at what is left.
                    let payload = mem::replace(&mut message.payload, Payload::Left);
                    let message = Message { payload, ..*message };
                    Some(GroupEvent::Message { from: *from, message })
                }
            }
        })
    }

    /// Frees the memory of events that were taken out. No other events may be in the pool.
    pub(super) fn clear(&mut self) {
        self.queued.clear();
        self.queued.shrink_to(KEPT_EVENTS);
        self.events.clear();
        self.events.shrink_to(KEPT_EVENTS);
        self.messages.clear();
        self.messages.shrink_to(KEPT_EVENTS);
    }

    fn link(&mut self, list: &mut EventList, place: Place) {
        let at = number(self.queued.len());
        self.queued.push(QueuedEvent { place, next: None });
        let first = match list.0 {
            None => at,
            Some((first, last)) => {
                self.queued[last as usize].next = Some(at);
                first
            }
        };
        list.0 = Some((first, at));
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32 events a turn")
}

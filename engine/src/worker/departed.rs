//! The replicas of a worker that are gone. Their followers may go on following them while the node
//! lives, so they are told until they answer. That is kept in memory only: a restart of the node
//! ends all bonds.

use crate::turn::Turn;
use crate::turn::gone::GoneReplica;
use logboat_raft::{GroupId, Message, NodeId, Payload, Resignation, Support, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// The most replicas for which this is done. Of the others, the followers learn by a restart of one
/// of the nodes, or when they hear of another leader.
const MOST_DEPARTED: usize = 1_024;

/// The replicas that are gone, and whose followers have not all answered.
#[derive(Default)]
pub struct Departed(VecDeque<Departing>);

struct Departing {
    group: GroupId,
    resignation: Resignation,
    repeat: Duration,
    repeat_at: Time,
}

impl Departed {
    /// A replica is gone: tells its followers.
    pub fn add(&mut self, turn: &mut Turn, gone: &GoneReplica) {
        let GoneReplica { group, ref resignation, repeat, .. } = *gone;
        if resignation.is_over() {
            return;
        }
        turn.resign(group, resignation);
        if self.0.len() == MOST_DEPARTED {
            self.0.pop_front();
        }
        let (resignation, repeat_at) = (resignation.clone(), turn.now + repeat);
        self.0.push_back(Departing { group, resignation, repeat, repeat_at });
    }

    /// Tells those again who have not answered in time.
    pub fn say_again(&mut self, turn: &mut Turn) {
        for departing in &mut self.0 {
            if departing.repeat_at <= turn.now {
                departing.repeat_at = turn.now + departing.repeat;
                turn.resign(departing.group, &departing.resignation);
            }
        }
    }

    /// Takes an answer, if a message is one.
    pub fn receive(&mut self, from: NodeId, group: GroupId, message: &Message) {
        // This is asked of every message, and few are answers.
        if self.0.is_empty() || !matches!(message.payload, Payload::Resigned { .. }) {
            return;
        }
        for departing in self.0.iter_mut().filter(|departing| departing.group == group) {
            departing.resignation.receive(from, message);
        }
        self.0.retain(|departing| !departing.resignation.is_over());
    }

    /// When there is something to say again.
    #[must_use]
    pub fn next_deadline(&self, support: &Support) -> Option<Time> {
        let awaited = self.0.iter().filter(|it| it.resignation.is_awaited(support));
        awaited.map(|departing| departing.repeat_at).min()
    }
}

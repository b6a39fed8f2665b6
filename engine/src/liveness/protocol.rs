//! The liveness of nodes: who supports whom, whatever the number of groups.
//!
//! Each node asks each of its peers for support, once an interval, when its own disk has taken a
//! write. The peer grants it at an *epoch*, durably, for as long as the requests keep coming; after
//! a timeout without one it withdraws it, durably, and never gives it at that epoch again. What
//! follows for the groups is in the core (`logboat_raft::Support`). No promise here rests on a
//! clock: how long a peer waits before it withdraws only matters for how soon others are elected,
//! and for lease reads.
//!
//! Epochs belong to a pair of nodes and are counted by the one that gives support, so trouble
//! between two nodes is of no concern to any third. A node that restarts asks in a later *boot
//! count* and is supported at a later epoch, since it no longer leads what it led.
//!
//! [`Liveness`] does no I/O and reads no clock: it is told of time, messages, and appends the
//! [`Effect`]s to be carried out, in their order.

use logboat_raft::{BootCount, Epoch, Grant, NodeId, RequestSeq, SupportMessage, Time};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many requests are remembered while they wait for their answers.
const REMEMBERED_REQUESTS: usize = 64;

/// How often a node asks its peers for support, and how long that lasts.
#[derive(Clone, Copy, Debug)]
pub struct LivenessTiming {
    /// Time between two requests.
    pub heartbeat_interval: Duration,
    /// After so long without a request, support is withdrawn.
    pub support_timeout: Duration,
    /// How much of the timeout a lease leaves out, in case that clocks run differently fast.
    pub drift: Duration,
}

impl LivenessTiming {
    /// How long a node counts on support after it asked for it: a little less than it lasts, so
    /// that a leader whose disk stands still has stepped down when its peers elect another, and
    /// holds nobody up.
    fn counted_on(&self) -> Duration {
        self.support_timeout.saturating_sub(self.heartbeat_interval / 2)
    }
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write to the log what was promised to a node (or this node's own boot count).
    Persist(NodeId, Grant),
    /// Send at once.
    Send(NodeId, SupportMessage),
    /// Send when all that was written up to now is durable.
    SendWhenDurable(NodeId, SupportMessage),
    /// Tell the replicas that this node supports the peer at this epoch from now on, or no longer.
    Given(NodeId, Option<Epoch>),
    /// Tell the replicas that the peer supports this node at this epoch, or may no longer do so.
    Received(NodeId, Option<Epoch>),
    /// The peer's support at this epoch certainly lasts until then, by this node's clock.
    Lease(NodeId, Epoch, Time),
}

/// The liveness of one node, and of its peers as it sees them.
#[derive(Debug)]
pub struct Liveness {
    own: NodeId,
    boot: BootCount,
    timing: LivenessTiming,
    peers: Vec<Peer>,
    /// When the next requests are due.
    next_requests: Time,
    /// The number of the newest requests.
    seq: RequestSeq,
    /// When the newest requests were made, each with its number, oldest first.
    requests: VecDeque<(RequestSeq, Time)>,
}

#[derive(Debug)]
struct Peer {
    node: NodeId,
    /// What this node promised it.
    grant: Grant,
    /// The newest epoch that is durable.
    durable: Epoch,
    /// When the promise is withdrawn, unless a request comes.
    deadline: Time,
    /// The epoch at which it supports this node, and when the newest request that it answered so
    /// was made.
    received: Option<(Epoch, Time)>,
}

impl Liveness {
    /// A node that starts with what is on its disk. It counts one boot more, and goes on supporting
    /// whom it supported, for as long as if they had just asked.
    #[must_use]
    pub fn new(
        own: NodeId,
        members: impl IntoIterator<Item = NodeId>,
        grants: &BTreeMap<NodeId, Grant>,
        timing: LivenessTiming,
        now: Time,
    ) -> Self {
        let recorded = |node| grants.get(&node).copied().unwrap_or_default();
        let peer = |node| Peer {
            node,
            grant: recorded(node),
            durable: recorded(node).epoch,
            deadline: now + timing.support_timeout,
            received: None,
        };
        Self {
            own,
            boot: BootCount(recorded(own).boot.0 + 1),
            timing,
            peers: members.into_iter().filter(|node| *node != own).map(peer).collect(),
            next_requests: now,
            seq: RequestSeq(0),
            requests: VecDeque::new(),
        }
    }

    /// How often this node has started.
    #[must_use]
    pub const fn boot(&self) -> BootCount {
        self.boot
    }

    /// The other nodes.
    #[cfg(feature = "internals")]
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().map(|peer| peer.node)
    }

    /// The epochs at which this node supports its peers.
    pub fn given(&self) -> impl Iterator<Item = (NodeId, Epoch)> {
        let live = self.peers.iter().filter(|peer| peer.grant.live);
        live.map(|peer| (peer.node, peer.grant.epoch))
    }

    /// Whether `node` has answered this one lately, so that both reach each other.
    #[must_use]
    pub fn reaches(&self, node: NodeId) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.received.is_some())
    }

    /// When [`Self::tick`] will have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let withdrawals = self.peers.iter().filter(|peer| peer.grant.live).map(|it| it.deadline);
        let lapses = self.peers.iter().filter_map(|peer| peer.received);
        let lapses = lapses.map(|(_, asked)| asked + self.timing.counted_on());
        withdrawals.chain(lapses).fold(self.next_requests, Time::min)
    }

    /// Asks for support when that is due, withdraws it from who was silent for too long, and counts
    /// no longer on who did not answer for as long.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.next_requests <= now {
            self.next_requests = now + self.timing.heartbeat_interval;
            self.request(now, effects);
        }
        let counted_on = self.timing.counted_on();
        for peer in &mut self.peers {
            if peer.deadline <= now {
                peer.withdraw(effects);
            }
            if peer.received.is_some_and(|(_, asked)| asked + counted_on <= now) {
                peer.received = None;
                effects.push(Effect::Received(peer.node, None));
            }
        }
    }

    /// Takes what a peer says.
    pub fn receive(
        &mut self,
        from: NodeId,
        message: SupportMessage,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let Some(at) = self.peers.iter().position(|peer| peer.node == from) else {
            return;
        };
        match message {
            SupportMessage::Request { boot, seq, heard } => {
                self.requested(at, (boot, seq, heard), now, effects);
            }
            SupportMessage::Granted { boot, seq, epoch, prolonged } if boot == self.boot => {
                self.granted(at, seq, (epoch, prolonged), effects);
            }
            SupportMessage::Confirm { boot, worker, round } => {
                let Peer { node, grant, durable, .. } = self.peers[at];
                let stands = grant.live && grant.boot == boot && grant.epoch <= durable;
                let epoch = stands.then_some(grant.epoch);
                let answer = SupportMessage::Confirmed { boot, worker, round, epoch };
                effects.push(Effect::Send(node, answer));
            }
            // An answer to an earlier boot; answers to the questions of workers go there.
            SupportMessage::Granted { .. } | SupportMessage::Confirmed { .. } => {}
        }
    }

    /// Supports `node` no longer. That may happen at any time: nothing but leases rests on how long
    /// support lasts.
    #[cfg(feature = "internals")]
    pub fn withdraw(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) {
            peer.withdraw(effects);
        }
    }

    /// The promise to `node` at `epoch` is durable.
    pub fn persisted(&mut self, node: NodeId, epoch: Epoch) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) {
            peer.durable = peer.durable.max(epoch);
        }
    }

    /// The requests leave when the disk has taken this node's word that it lives.
    fn request(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.seq = self.seq.next();
        self.requests.push_back((self.seq, now));
        if self.requests.len() > REMEMBERED_REQUESTS {
            self.requests.pop_front();
        }
        let (boot, seq) = (self.boot, self.seq);
        effects.push(Effect::Persist(self.own, Grant { epoch: Epoch(0), boot, live: true }));
        for peer in &self.peers {
            let heard = peer.received.is_some();
            let request = SupportMessage::Request { boot, seq, heard };
            effects.push(Effect::SendWhenDurable(peer.node, request));
        }
    }

    /// Goes on supporting a peer, or begins to at a new epoch: after a withdrawal, and in the
    /// peer's next boot. Support that the peer does not hear of is not prolonged: on a link that
    /// works in this direction only, the peer could not lead, and nobody would take its place.
    fn requested(
        &mut self,
        at: usize,
        (boot, seq, heard): (BootCount, RequestSeq, bool),
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let peer = &mut self.peers[at];
        if boot < peer.grant.boot {
            return; // It was on its way for so long that the peer has restarted since.
        }
        let anew = !peer.grant.live || boot > peer.grant.boot;
        let prolonged = anew || heard;
        if prolonged {
            peer.deadline = now + self.timing.support_timeout;
        }
        if anew {
            let epoch = Epoch(peer.grant.epoch.0 + 1);
            peer.grant = Grant { epoch, boot, live: true };
            effects.push(Effect::Persist(peer.node, peer.grant));
            effects.push(Effect::Given(peer.node, Some(epoch)));
        }
        let epoch = peer.grant.epoch;
        let answer = SupportMessage::Granted { boot, seq, epoch, prolonged };
        effects.push(if epoch <= peer.durable {
            Effect::Send(peer.node, answer)
        } else {
            Effect::SendWhenDurable(peer.node, answer)
        });
    }

    fn granted(
        &mut self,
        at: usize,
        seq: RequestSeq,
        (epoch, prolonged): (Epoch, bool),
        effects: &mut Vec<Effect>,
    ) {
        let Some(&(_, asked)) = self.requests.iter().find(|request| request.0 == seq) else {
            return;
        };
        let peer = &mut self.peers[at];
        if peer.received.is_some_and(|known| known >= (epoch, asked)) {
            return;
        }
        let news = peer.received.is_none_or(|(known, _)| known != epoch);
        peer.received = Some((epoch, asked));
        if prolonged {
            let until = asked + self.timing.support_timeout.saturating_sub(self.timing.drift);
            effects.push(Effect::Lease(peer.node, epoch, until));
        }
        if news {
            effects.push(Effect::Received(peer.node, Some(epoch)));
        }
    }
}

impl Peer {
    /// Ends the promise, if it stands.
    fn withdraw(&mut self, effects: &mut Vec<Effect>) {
        if self.grant.live {
            self.grant.live = false;
            effects.push(Effect::Persist(self.node, self.grant));
            effects.push(Effect::Given(self.node, None));
        }
    }
}

//! Store liveness: which nodes support which, whatever the number of groups.
//!
//! Each node asks each of its peers for support, once a heartbeat interval, when its own disk has
//! taken a write. The peer grants support at an *epoch*, durably. The support stands for as long as
//! requests keep coming. After a timeout without one the peer withdraws it, durably, and never
//! supports the node at that epoch again. What follows for the groups is in the core
//! ([`logboat_raft::Support`]): a follower fortifies its leader with the support of its node.
//!
//! No promise here rests on a clock. How long a peer waits before it withdraws only decides how
//! soon others are elected, and how long leases last.
//!
//! # Where it comes from
//!
//! The rules are those of CockroachDB's store liveness and leader fortification, carried further.
//! From there come the epochs, support by nodes rather than by replicas, its withdrawal before
//! anybody else is elected, and followers that fortify a leader at an epoch. This differs:
//!
//! - There, the node that asks names the epoch, and keeps on its disk which it has used. Here, the
//!   supporter counts the epochs of each pair of nodes. So trouble between two nodes changes no
//!   epoch of a third, and a node persists nothing but its boot count for itself. A node that
//!   restarts asks with a later boot count and gets a later epoch, since it no longer leads what it
//!   led.
//! - There, support is promised until a moment of the clock, and a leader counts on it up to then.
//!   Here, support stands until its withdrawal is durable, and leaders ask whether it stands: one
//!   round of confirmations serves the reads of all groups. Only leases count time.
//! - A request for support leaves when the disk has taken a write, so a node whose disk stands
//!   still loses its support. Support that the node does not hear of is not prolonged, so a link
//!   that works in one direction only does not keep a leader that nobody hears.
//!
//! [`Liveness`] does no I/O and reads no clock. It is told of time and messages, and appends the
//! [`Effect`]s to be carried out, in their order.

#[cfg(test)]
mod tests;
mod unix_clock;

use self::unix_clock::UnixClock;
use logboat_raft::{
    BootCount, ClockReading, Epoch, Grant, Lease, LogPosition, NodeId, RequestSeq, SupportMessage,
    SupportSettings, Time,
};
use logboat_transport::MAX_BOOT_STEP;
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
    /// Whether the node promises its support for a time, which leaders' leases rest on. Then it
    /// can't withdraw support as soon as a peer's process has ended.
    pub leases: bool,
    /// Which part of a lease is left out, in case that clocks run differently fast.
    pub max_clock_drift: f64,
}

impl LivenessTiming {
    /// How long a node counts on support after it asked for it: a little less than it lasts, so
    /// that a leader whose disk stands still has stepped down when its peers elect another, and
    /// holds nobody up. A peer may have a shorter timeout, if it has told.
    fn counted_on(&self, peer: Option<SupportSettings>) -> Duration {
        let timeout = peer.map_or(self.support_timeout, |peer| peer.timeout);
        timeout.min(self.support_timeout).saturating_sub(self.heartbeat_interval / 2)
    }

    /// What peers are told.
    const fn settings(&self) -> SupportSettings {
        SupportSettings { timeout: self.support_timeout, leases: self.leases }
    }

    /// For how long support is promised when it is given or prolonged.
    const fn promise(&self) -> Duration {
        if self.leases { self.support_timeout } else { Duration::ZERO }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write to the log what was promised to a node, or that this node's own disk takes writes.
    Persist(NodeId, Grant),
    /// Send at once.
    Send(NodeId, SupportMessage),
    /// Send when all that was written up to now is durable.
    SendWhenDurable(NodeId, SupportMessage),
    /// Tell the replicas that this node supports the peer at this epoch from now on, or no longer.
    SupportForChanged(NodeId, Option<Epoch>),
    /// Tell the replicas that the peer supports this node at this epoch, or may no longer do so.
    SupportFromChanged(NodeId, Option<Epoch>),
    /// The peer's support certainly lasts for so long, by this node's clock.
    Lease(NodeId, Lease),
    /// Tell whoever runs the node that the peer has other settings than it.
    SettingsDiffer(NodeId, SupportSettings),
    /// Tell whoever runs the node that the peer claims to have started so often, which it can't
    /// have since it was last heard, and that this was not believed.
    Implausible(NodeId, BootCount),
}

/// The liveness of one node, and of its peers as it sees them.
#[derive(Debug)]
pub struct Liveness {
    own: NodeId,
    boot: BootCount,
    /// Whether this node may promise anything; before, it takes no part.
    founded: bool,
    timing: LivenessTiming,
    peers: Vec<Peer>,
    /// Nodes that are no peers now, and what was promised to them. They get no more than that. A
    /// promise that stood when this node started goes on standing for as long as a peer's would:
    /// leaders that a peer was at the last start count on it.
    former: BTreeMap<NodeId, Peer>,
    /// When the next requests are due.
    next_requests: Time,
    /// The number of the newest requests.
    seq: RequestSeq,
    /// The newest requests, oldest first.
    requests: VecDeque<SentRequest>,
    /// Whether this node is about to stop.
    leaving: bool,
    /// The time since 1970.
    clock: UnixClock,
}

/// Requests that left for all peers at once.
#[derive(Clone, Copy, Debug)]
struct SentRequest {
    seq: RequestSeq,
    /// When they were made.
    asked: Time,
}

/// A request as it arrives: see [`SupportMessage::Request`].
struct Request {
    boot: BootCount,
    seq: RequestSeq,
    heard: bool,
    settings: SupportSettings,
    log_end: LogPosition,
    leaving: bool,
}

/// An answer as it arrives: see [`SupportMessage::Granted`].
struct Granted {
    seq: RequestSeq,
    epoch: Epoch,
    lease: Duration,
    clock: ClockReading,
}

/// The support of a peer for this node; a later epoch, or a later request, is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SupportFrom {
    epoch: Epoch,
    /// When the newest request that the peer answered with this epoch was made.
    asked: Time,
}

#[derive(Debug)]
struct Peer {
    node: NodeId,
    /// What this node promised it.
    grant: Grant,
    /// What the log says, or soon will, of how far the peer's log was durable.
    noted: LogPosition,
    /// What of that is durable: the newest epoch, and the lease that may be promised at it.
    durable: (Epoch, Duration),
    /// When the promise is withdrawn, unless a request comes.
    deadline: Time,
    /// Until when the promise is not withdrawn whatever happens to the peer: it may have a lease.
    promised_until: Time,
    /// Its support for this node, while that is counted on.
    support_from: Option<SupportFrom>,
    /// Answers to requests made up to this moment count no more: the process that gave them has
    /// ended.
    ended: Option<Time>,
    /// It is about to stop.
    leaving: bool,
    /// Its settings, once it has told them.
    settings: Option<SupportSettings>,
}

impl Liveness {
    /// A node that starts with what is on its disk. It goes on supporting whom it supported, peers
    /// or not, for as long as if they had just asked.
    #[must_use]
    pub fn new(
        own: NodeId,
        members: impl IntoIterator<Item = NodeId>,
        boot: BootCount,
        founded: bool,
        grants: &BTreeMap<NodeId, Grant>,
        timing: LivenessTiming,
        now: Time,
    ) -> Self {
        let known = grants.iter().filter(|(node, _)| **node != own);
        let mut former: BTreeMap<_, _> =
            known.map(|(node, grant)| (*node, Peer::new(*node, *grant, timing, now))).collect();
        let others = members.into_iter().filter(|node| *node != own);
        let stranger = |node| Peer::new(node, Grant::default(), timing, now);
        let peer = |node| former.remove(&node).unwrap_or_else(|| stranger(node));
        Self {
            own,
            boot,
            founded,
            timing,
            peers: others.map(peer).collect(),
            former,
            next_requests: now,
            seq: RequestSeq(0),
            requests: VecDeque::new(),
            leaving: false,
            clock: UnixClock::new(0, now, now + timing.support_timeout),
        }
    }

    /// The same node with a wall clock that shows so many milliseconds since 1970 now.
    #[must_use]
    pub fn with_wall_clock(mut self, unix_ms: u64, now: Time) -> Self {
        self.clock = UnixClock::new(unix_ms, now, now + self.timing.support_timeout);
        self
    }

    /// What the time since 1970 was at the origin of [`Time`], in milliseconds, as far as the node
    /// knows by now.
    #[must_use]
    pub fn unix_origin_ms(&self) -> i64 {
        self.clock.origin()
    }

    /// What the node's clock shows.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn clock(&self, now: Time) -> ClockReading {
        self.clock.reading(now)
    }

    /// How often this node has started.
    #[must_use]
    pub const fn boot(&self) -> BootCount {
        self.boot
    }

    /// Knows a node as a peer from now on, and asks it for support.
    /// What this node still promises it from before its start goes on.
    pub fn add_peer(&mut self, node: NodeId, now: Time) {
        if node == self.own || self.peers.iter().any(|peer| peer.node == node) {
            return;
        }
        let stranger = || Peer::new(node, Grant::default(), self.timing, now);
        self.peers.push(self.former.remove(&node).unwrap_or_else(stranger));
        self.next_requests = now;
    }

    /// Knows a node as a peer no longer, and withdraws the support for it. No group may have
    /// members on both nodes: a lease that was promised ends, too.
    pub fn remove_peer(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        let Some(at) = self.peers.iter().position(|peer| peer.node == node) else {
            return;
        };
        let mut peer = self.peers.remove(at);
        peer.withdraw(effects);
        peer.count_on_no_longer(effects);
        self.clock.forget(node);
        (peer.ended, peer.leaving, peer.settings) = (None, false, None);
        self.former.insert(node, peer);
    }

    /// The other nodes, as far as they are peers.
    #[cfg(feature = "internals")]
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().map(|peer| peer.node)
    }

    /// The epochs at which this node supports others, peers or not.
    pub fn support_for(&self) -> impl Iterator<Item = (NodeId, Epoch)> {
        let live = self.peers.iter().chain(self.former.values()).filter(|peer| peer.grant.live);
        live.map(|peer| (peer.node, peer.grant.epoch))
    }

    /// Whether `node` has answered this one lately, so that both reach each other.
    #[must_use]
    pub fn reaches(&self, node: NodeId) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.support_from.is_some())
    }

    /// How far the log of `node` was durable, as far as that node has said.
    #[must_use]
    pub fn log_end(&self, node: NodeId) -> LogPosition {
        let peer = self.peers.iter().find(|peer| peer.node == node);
        peer.map_or_else(LogPosition::default, |peer| peer.grant.log_end)
    }

    /// Whether this node may promise anything.
    #[must_use]
    pub const fn is_founded(&self) -> bool {
        self.founded
    }

    /// This node may promise from now on.
    pub fn found(&mut self, now: Time) {
        self.founded = true;
        self.next_requests = now;
    }

    /// Whether a majority of the nodes, this one among them, have answered it lately.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let answering = self.peers.iter().filter(|peer| peer.support_from.is_some()).count();
        answering >= self.peers.len().div_ceil(2)
    }

    /// When [`Self::tick`] will have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if !self.founded {
            return Time(u64::MAX);
        }
        let live = self.peers.iter().chain(self.former.values()).filter(|peer| peer.grant.live);
        let lapses = self.peers.iter().filter_map(|peer| peer.lapse(&self.timing));
        live.map(Peer::withdrawal).chain(lapses).fold(self.next_requests, Time::min)
    }

    /// The peers that have told other settings than this node has.
    pub fn differing_settings(&self) -> impl Iterator<Item = (NodeId, SupportSettings)> {
        let own = self.timing.settings();
        let told = self.peers.iter().filter_map(|peer| Some((peer.node, peer.settings?)));
        told.filter(move |(_, settings)| *settings != own)
    }

    /// This node is about to stop, and says so from now on. Its peers count on its support no
    /// longer, and so hand it no leaderships.
    pub fn leave(&mut self, now: Time, log_end: LogPosition, effects: &mut Vec<Effect>) {
        self.leaving = true;
        if self.founded {
            self.request(now, log_end, effects);
        }
    }

    /// Asks for support when that is due. Withdraws it from peers that were silent for too long,
    /// and counts no longer on peers that did not answer for as long.
    pub fn tick(&mut self, now: Time, log_end: LogPosition, effects: &mut Vec<Effect>) {
        if !self.founded {
            return;
        }
        if self.next_requests <= now {
            self.next_requests = now + self.timing.heartbeat_interval;
            self.request(now, log_end, effects);
        }
        if self.has_quorum() {
            self.clock.settle(now);
        }
        for peer in self.peers.iter_mut().chain(self.former.values_mut()) {
            if peer.withdrawal() <= now {
                peer.withdraw(effects);
            }
            if peer.lapse(&self.timing).is_some_and(|lapse| lapse <= now) {
                peer.count_on_no_longer(effects);
            }
        }
    }

    /// The process of `node` has ended, or so it seems: withdraws the support for it at once, but
    /// for a lease that was promised, and counts on its support no longer.
    ///
    /// Nothing but leases rests on how long support lasts. So no harm is done if the process lives:
    /// its next request gets support anew.
    pub fn peer_ended(&mut self, node: NodeId, now: Time, effects: &mut Vec<Effect>) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) else {
            return;
        };
        peer.deadline = now;
        if peer.withdrawal() <= now {
            peer.withdraw(effects);
        }
        peer.ended = Some(now);
        peer.count_on_no_longer(effects);
    }

    /// Takes what a peer says.
    pub fn receive(
        &mut self,
        from: NodeId,
        message: SupportMessage,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let peer = self.peers.iter().position(|peer| peer.node == from);
        let Some(at) = peer.filter(|_| self.founded) else {
            return;
        };
        match message {
            SupportMessage::Request { boot, seq, heard, settings, log_end, leaving } => {
                let request = Request { boot, seq, heard, settings, log_end, leaving };
                self.requested(at, request, now, effects);
            }
            SupportMessage::Granted { boot, seq, epoch, lease, clock } if boot == self.boot => {
                self.granted(at, Granted { seq, epoch, lease, clock }, now, effects);
            }
            SupportMessage::Confirm { boot, worker, round } => {
                let Peer { node, grant, durable, .. } = self.peers[at];
                let stands = grant.live && grant.boot == boot && grant.epoch <= durable.0;
                let epoch = stands.then_some(grant.epoch);
                let answer = SupportMessage::Confirmed { boot, worker, round, epoch };
                effects.push(Effect::Send(node, answer));
            }
            // An answer to an earlier boot; answers to the questions of workers go there.
            SupportMessage::Granted { .. } | SupportMessage::Confirmed { .. } => {}
        }
    }

    /// The promise to `node` is durable. Promises become so in the order in which they were made.
    pub fn persisted(&mut self, node: NodeId, grant: Grant) {
        let mut known = self.peers.iter_mut().chain(self.former.values_mut());
        if let Some(peer) = known.find(|peer| peer.node == node) {
            peer.durable = peer.durable.max((grant.epoch, grant.lease));
        }
    }

    /// The requests leave when the disk has taken a write of this node, its boot count, so that a
    /// node whose disk stands still loses its support.
    ///
    /// What the peers have said of their logs is written along with that.
    fn request(&mut self, now: Time, log_end: LogPosition, effects: &mut Vec<Effect>) {
        self.seq = self.seq.next();
        self.requests.push_back(SentRequest { seq: self.seq, asked: now });
        if self.requests.len() > REMEMBERED_REQUESTS {
            self.requests.pop_front();
        }
        let (boot, seq, settings) = (self.boot, self.seq, self.timing.settings());
        let leaving = self.leaving;
        let own = Grant { boot, live: true, log_end, ..Grant::default() };
        effects.push(Effect::Persist(self.own, own));
        for peer in &mut self.peers {
            if peer.grant.log_end > peer.noted {
                peer.persist(effects);
            }
            let heard = peer.support_from.is_some();
            let request = SupportMessage::Request { boot, seq, heard, settings, log_end, leaving };
            effects.push(Effect::SendWhenDurable(peer.node, request));
        }
    }

    /// Goes on supporting a peer, or begins to at a new epoch: after a withdrawal, and in the
    /// peer's next boot. Support that the peer does not hear of is not prolonged: on a link that
    /// works in this direction only, the peer could not lead, and nobody would take its place.
    fn requested(&mut self, at: usize, request: Request, now: Time, effects: &mut Vec<Effect>) {
        let Request { boot, seq, heard, settings, log_end, leaving } = request;
        let own = self.timing.settings();
        let peer = &mut self.peers[at];
        if boot < peer.grant.boot {
            return; // It was on its way for so long that the peer has restarted since.
        }
        if boot.0 - peer.grant.boot.0 > MAX_BOOT_STEP {
            // Believed, it would keep the peer out for good: its true count is lower.
            return effects.push(Effect::Implausible(peer.node, boot));
        }
        peer.grant.log_end = peer.grant.log_end.advance(log_end);
        if peer.settings.replace(settings) != Some(settings) && settings != own {
            effects.push(Effect::SettingsDiffer(peer.node, settings));
        }
        peer.leaving = leaving;
        if leaving {
            peer.count_on_no_longer(effects);
        }
        let anew = !peer.grant.live || boot > peer.grant.boot;
        let prolonged = anew || heard;
        let promise = if prolonged { self.timing.promise() } else { Duration::ZERO };
        if anew {
            let epoch = Epoch(peer.grant.epoch.0 + 1);
            peer.grant = Grant { epoch, boot, live: true, lease: promise, ..peer.grant };
            peer.persist(effects);
            effects.push(Effect::SupportForChanged(peer.node, Some(epoch)));
        } else if peer.grant.lease < promise {
            // Given by other settings, before a restart: from the next request on.
            peer.grant.lease = promise;
            peer.persist(effects);
        }
        let epoch = peer.grant.epoch;
        let is_durable = epoch <= peer.durable.0;
        let lease = if is_durable { promise.min(peer.durable.1) } else { promise };
        if prolonged {
            peer.deadline = now + self.timing.support_timeout;
            peer.promised_until = peer.promised_until.max(now + lease);
        }
        let clock = self.clock.reading(now);
        let answer = SupportMessage::Granted { boot, seq, epoch, lease, clock };
        effects.push(if is_durable {
            Effect::Send(peer.node, answer)
        } else {
            Effect::SendWhenDurable(peer.node, answer)
        });
    }

    /// Counts on a peer's support, since the request that it answers was made. A lease is what the
    /// peer promised, whatever the timeout here.
    fn granted(&mut self, at: usize, granted: Granted, now: Time, effects: &mut Vec<Effect>) {
        let Granted { seq, epoch, lease, clock } = granted;
        let Some(&SentRequest { asked, .. }) = self.requests.iter().find(|sent| sent.seq == seq)
        else {
            return;
        };
        let peer = &mut self.peers[at];
        self.clock.hear(peer.node, clock, now);
        let support = SupportFrom { epoch, asked };
        let is_late = peer.ended.is_some_and(|ended| asked <= ended);
        if is_late || peer.leaving || peer.support_from.is_some_and(|known| known >= support) {
            return;
        }
        let news = peer.support_from.is_none_or(|known| known.epoch != epoch);
        peer.support_from = Some(support);
        if lease > Duration::ZERO {
            let certain = 1.0 - self.timing.max_clock_drift.clamp(0.0, 1.0);
            let lasts = lease.min(self.timing.support_timeout).mul_f64(certain);
            effects.push(Effect::Lease(peer.node, Lease { epoch, until: asked + lasts }));
        }
        if news {
            effects.push(Effect::SupportFromChanged(peer.node, Some(epoch)));
        }
        if self.has_quorum() {
            self.clock.settle(now);
        }
    }
}

impl Peer {
    /// A peer with what was promised to it, which is durable. The promise stands for as long as if
    /// the peer had just asked.
    fn new(node: NodeId, grant: Grant, timing: LivenessTiming, now: Time) -> Self {
        Self {
            node,
            grant,
            durable: (grant.epoch, grant.lease),
            noted: grant.log_end,
            deadline: now + timing.support_timeout,
            promised_until: now + grant.lease,
            support_from: None,
            ended: None,
            leaving: false,
            settings: None,
        }
    }

    /// When the promise is withdrawn, unless a request comes.
    fn withdrawal(&self) -> Time {
        self.deadline.max(self.promised_until)
    }

    /// When its support is counted on no longer, unless it answers.
    fn lapse(&self, timing: &LivenessTiming) -> Option<Time> {
        Some(self.support_from?.asked + timing.counted_on(self.settings))
    }

    fn count_on_no_longer(&mut self, effects: &mut Vec<Effect>) {
        if self.support_from.take().is_some() {
            effects.push(Effect::SupportFromChanged(self.node, None));
        }
    }

    /// Has what is promised to the peer written, and how far its log is known to be durable.
    fn persist(&mut self, effects: &mut Vec<Effect>) {
        self.noted = self.grant.log_end;
        effects.push(Effect::Persist(self.node, self.grant));
    }

    /// Ends the promise, if it stands.
    fn withdraw(&mut self, effects: &mut Vec<Effect>) {
        if self.grant.live {
            self.grant.live = false;
            self.persist(effects);
            effects.push(Effect::SupportForChanged(self.node, None));
        }
    }
}

//! The liveness manager of a node: drives the store liveness protocol. It tells [`Liveness`] of
//! time and messages, and carries out what that wants.

use crate::liveness::effects::{Grants, Sends, Surroundings, carry_out};
use crate::liveness::node_time::NodeTime;
use crate::liveness::protocol::{Effect, Liveness};
use logboat_raft::{
    BootCount, Confirmation, Epoch, Grant, Lease, LogPosition, NodeId, SupportMessage,
    SupportSettings, Time,
};
use logboat_storage::{Batch, Poisoned, Refusals, Wal};
use logboat_transport::{Outgoing, Transport};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// The one place of a node that decides whom it supports. Whoever answers a peer asks here, so that
/// nothing is confirmed after it was withdrawn; the workers learn of a withdrawal after it was
/// handed to the log, so that no vote is durable before it.
pub(crate) struct LivenessManager {
    state: Mutex<State>,
    boot: BootCount,
    time: NodeTime,
    wal: Wal,
    listener: Box<dyn SupportListener>,
    /// Set as soon as the transport stands, whose inbox holds this manager in turn.
    transport: OnceLock<Weak<dyn Transport>>,
}

/// Who hears what a node knows of the support between it and its peers: its workers.
pub(crate) trait SupportListener: Send + Sync {
    /// This node supports `peer` at this epoch from now on, or no longer.
    fn support_for_changed(&self, peer: NodeId, epoch: Option<Epoch>);

    /// `peer` supports this node at this epoch, or may no longer do so.
    fn support_from_changed(&self, peer: NodeId, epoch: Option<Epoch>);

    /// `peer` has answered a round of a worker.
    fn confirmed(&self, worker: u32, peer: NodeId, answer: Confirmation);
}

struct State {
    liveness: Liveness,
    leases: Vec<(NodeId, Lease)>,
    /// When a write of the node's liveness last became durable.
    durable_at: Time,
    /// Kept for its memory.
    effects: Vec<Effect>,
}

impl LivenessManager {
    pub(crate) fn new(
        liveness: Liveness,
        time: NodeTime,
        wal: Wal,
        listener: Box<dyn SupportListener>,
    ) -> Arc<Self> {
        let boot = liveness.boot();
        let state =
            State { liveness, leases: Vec::new(), durable_at: Time(0), effects: Vec::new() };
        let transport = OnceLock::new();
        Arc::new(Self { state: Mutex::new(state), boot, time, wal, listener, transport })
    }

    /// Connects the node's transport, once.
    pub(crate) fn connect(&self, transport: &Arc<dyn Transport>) {
        self.transport.get_or_init(|| Arc::downgrade(transport));
    }

    /// Whether this node may promise anything.
    pub(crate) fn is_founded(&self) -> bool {
        self.state.lock().liveness.is_founded()
    }

    /// This node may promise from now on: its directory says durably that it is founded.
    pub(crate) fn found(&self) {
        let now = self.now();
        self.state.lock().liveness.found(now);
    }

    /// How far the log of `peer` was durable, as far as the peer has said.
    pub(crate) fn log_end(&self, peer: NodeId) -> LogPosition {
        self.state.lock().liveness.log_end(peer)
    }

    /// How often this node has started.
    pub(crate) const fn boot(&self) -> BootCount {
        self.boot
    }

    /// How long the node has been running.
    pub(crate) fn now(&self) -> Time {
        self.time.now()
    }

    /// The time since 1970.
    pub(crate) const fn time(&self) -> &NodeTime {
        &self.time
    }

    /// The epochs at which this node supports others, peers or not.
    pub(crate) fn support_for(&self) -> Vec<(NodeId, Epoch)> {
        self.state.lock().liveness.support_for().collect()
    }

    /// Whether `node` has answered this one lately.
    pub(crate) fn reaches(&self, node: NodeId) -> bool {
        self.state.lock().liveness.reaches(node)
    }

    /// The peers that have told other settings than this node has.
    pub(crate) fn differing_settings(&self) -> Vec<(NodeId, SupportSettings)> {
        self.state.lock().liveness.differing_settings().collect()
    }

    /// Until when the peers' support lasts, each at an epoch.
    pub(crate) fn leases(&self) -> Vec<(NodeId, Lease)> {
        self.state.lock().leases.clone()
    }

    /// When [`Self::tick`] will have something to do.
    pub(crate) fn next_deadline(&self) -> Time {
        self.state.lock().liveness.next_deadline()
    }

    /// Does what time asks for.
    pub(crate) fn tick(self: &Arc<Self>) {
        let now = self.now();
        let log_end = self.wal.durable_end();
        self.step(|liveness, effects| liveness.tick(now, log_end, effects));
    }

    /// Whether a majority of the nodes, this one among them, have answered it lately.
    pub(crate) fn has_quorum(&self) -> bool {
        self.state.lock().liveness.has_quorum()
    }

    /// How long ago the disk took a write of this node's liveness.
    pub(crate) fn disk_silence(&self) -> Duration {
        let durable_at = self.state.lock().durable_at;
        self.now().since(durable_at)
    }

    /// This node is about to stop: tells its peers.
    pub(crate) fn leave(self: &Arc<Self>) {
        let (now, log_end) = (self.now(), self.wal.durable_end());
        self.step(|liveness, effects| liveness.leave(now, log_end, effects));
    }

    /// This node has another peer.
    pub(crate) fn add_peer(self: &Arc<Self>, peer: NodeId) {
        let now = self.now();
        self.step(|liveness, _| liveness.add_peer(peer, now));
    }

    /// This node has a peer less.
    pub(crate) fn remove_peer(self: &Arc<Self>, peer: NodeId) {
        self.step(|liveness, effects| liveness.remove_peer(peer, effects));
        self.state.lock().leases.retain(|(of, _)| *of != peer);
    }

    /// The process of a peer has ended, or so it seems.
    pub(crate) fn peer_ended(self: &Arc<Self>, peer: NodeId) {
        let now = self.now();
        self.step(|liveness, effects| liveness.peer_ended(peer, now, effects));
    }

    /// Takes a peer's message. Answers to a worker's round of confirmations go to that worker.
    pub(crate) fn receive(self: &Arc<Self>, from: NodeId, message: SupportMessage) {
        if let SupportMessage::Confirmed { boot, worker, round, epoch } = message {
            if boot == self.boot {
                self.listener.confirmed(worker, from, Confirmation { round, epoch });
            }
            return;
        }
        let now = self.now();
        self.step(|liveness, effects| liveness.receive(from, message, now, effects));
    }

    /// The grants are durable: notes it, and sends what waited for that.
    fn durable(&self, grants: &[(NodeId, Grant)], sends: &[(NodeId, SupportMessage)]) {
        let mut state = self.state.lock();
        for (node, grant) in grants {
            state.liveness.persisted(*node, *grant);
        }
        state.durable_at = self.now();
        drop(state);
        self.send_all(sends);
    }

    /// Runs the liveness and carries out what it wants, in its order, before anybody else can run
    /// it.
    fn step(self: &Arc<Self>, run: impl FnOnce(&mut Liveness, &mut Vec<Effect>)) {
        let mut state = self.state.lock();
        let State { liveness, leases, effects, .. } = &mut *state;
        run(liveness, effects);
        self.time.set_origin(liveness.unix_origin_ms());
        let sends = carry_out(effects.drain(..), &mut Carrier { manager: self, leases });
        drop(state);
        self.send_all(&sends);
    }

    /// A message that can't be queued is lost like one on the way: there is another soon.
    fn send_all(&self, sends: &[(NodeId, SupportMessage)]) {
        let Some(transport) = self.transport.get().and_then(Weak::upgrade) else {
            return;
        };
        for (to, message) in sends {
            let mut outgoing = Outgoing::new();
            outgoing.push_support(message);
            let _ = transport.send(*to, outgoing);
        }
    }
}

/// Carries effects to the log and the workers of a node.
struct Carrier<'a> {
    manager: &'a Arc<LivenessManager>,
    leases: &'a mut Vec<(NodeId, Lease)>,
}

impl Surroundings for Carrier<'_> {
    fn submit(&mut self, grants: Grants, promises: Sends) {
        let (manager, written) = (Arc::clone(self.manager), grants.clone());
        let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
            // Without a log the node promises nothing any more; the workers hear of it themselves.
            if result.is_ok() {
                manager.durable(&written, &promises);
            }
        });
        self.manager.wal.submit(Batch { grants, writes: Vec::new(), completion });
    }

    fn support_for_changed(&mut self, peer: NodeId, epoch: Option<Epoch>) {
        self.manager.listener.support_for_changed(peer, epoch);
    }

    fn support_from_changed(&mut self, peer: NodeId, epoch: Option<Epoch>) {
        self.manager.listener.support_from_changed(peer, epoch);
    }

    fn lease(&mut self, peer: NodeId, lease: Lease) {
        self.leases.retain(|(of, _)| *of != peer);
        self.leases.push((peer, lease));
    }

    fn settings_differ(&mut self, peer: NodeId, settings: SupportSettings) {
        let SupportSettings { timeout, leases } = settings;
        tracing::warn!(
            peer = %peer,
            "node {peer} has other settings than this node: an election timeout of {timeout:?}, \
             leases {}",
            if leases { "on" } else { "off" }
        );
    }

    /// Ends the connection of the peer.
    fn implausible(&mut self, peer: NodeId, boot: BootCount) {
        if let Some(transport) = self.manager.transport.get().and_then(Weak::upgrade) {
            let reason = format!("node {peer} can't have started {boot} times");
            transport.disconnect(peer, &reason);
        }
    }
}

//! A network inside one process, for tests. It has the queues, the format and the rules of the TCP
//! transport, but no sockets.

use crate::api::{Inbox, PeerStatus, SnapshotSource, Transport};
use crate::error::{SendError, StartError};
use crate::judge::{self, Rejection};
use crate::metrics::TransportMetrics;
use crate::net_thread::{NetThread, Stop};
use crate::outbox::Outbox;
use crate::pump::{Link, pump};
use crate::transfer::Transfer;
use crate::wire::{Frame, Outgoing, Portions, SnapshotTaken};
use logboat_raft::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Longest frame, and most bytes queued for a peer, unless told otherwise.
const DEFAULT_LIMIT_BYTES: u32 = 64 << 20;

/// Nodes of one process that reach each other. Clones are the same network.
///
/// ```
/// use logboat_raft::{BootCount, BootNonce, Introduction, NodeId, Remembered, Start};
/// use logboat_transport::{Inbox, MemoryNetwork, Outgoing, Parcel, RequestId};
/// use std::io;
/// use std::sync::Arc;
/// use std::sync::mpsc::{Sender, channel};
///
/// /// The start of both nodes.
/// const FIRST: Start = Start { count: BootCount(1), nonce: BootNonce(7) };
///
/// /// Notes what happens.
/// struct Notes(Sender<String>);
///
/// impl Inbox for Notes {
///     fn receive(&self, from: NodeId, parcels: Vec<Parcel>) {
///         let _ = self.0.send(format!("{} from node {from}", parcels.len()));
///     }
///
///     fn introduction(&self, _peer: NodeId) -> Introduction {
///         Introduction { newest: FIRST, ..Introduction::default() }
///     }
///
///     fn remembered(&self, _peer: NodeId) -> Option<Remembered> {
///         Some(Remembered { let_in: Some(FIRST), ..Remembered::default() })
///     }
///
///     fn remember(&self, _peer: NodeId, _remembered: Remembered) -> io::Result<()> {
///         Ok(())
///     }
///
///     fn let_in_by(&self, _peer: NodeId) -> io::Result<()> {
///         Ok(())
///     }
///
///     fn connected(&self, peer: NodeId) {
///         let _ = self.0.send(format!("connected to node {peer}"));
///     }
///
///     fn disconnected(&self, _peer: NodeId) {}
/// }
///
/// let network = MemoryNetwork::new()?;
/// let ((to_one, one), (to_two, two)) = (channel(), channel());
/// let transport = network.join(NodeId(1), Arc::new(Notes(to_one)));
/// let _peer = network.join(NodeId(2), Arc::new(Notes(to_two)));
/// assert_eq!(one.recv()?, "connected to node 2");
///
/// let mut outgoing = Outgoing::new();
/// outgoing.push_reply(RequestId(1), b"an answer");
/// transport.send(NodeId(2), outgoing)?;
/// assert!(two.iter().any(|note| note == "1 from node 1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MemoryNetwork(Arc<Network>);

struct Network {
    thread: NetThread,
    max_queued_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<NodeId, Arc<Member>>,
    /// The routes that are cut, each from the first node to the second.
    cuts: BTreeSet<(NodeId, NodeId)>,
}

/// One membership of a node: from when it joined until it leaves or joins again.
struct Member {
    node: NodeId,
    inbox: Arc<dyn Inbox>,
    /// The routes to the others, one for each node ever seen. `None` once this node has left.
    routes: Mutex<Option<BTreeMap<NodeId, Route>>>,
}

/// The route from one node to another, whether it is open or not.
struct Route {
    outbox: Arc<Outbox>,
    /// Where it leads. `None` while the route is cut, or the other node is not there.
    target: watch::Sender<Option<Arc<Member>>>,
    /// The other node has dialled this one: dialing it is worth a try.
    dial_now: Arc<Notify>,
}

impl Member {
    /// Has this node dial `peer`.
    fn dial_back(&self, peer: NodeId) {
        if let Some(route) = self.routes.lock().as_ref().and_then(|routes| routes.get(&peer)) {
            route.dial_now.notify_one();
        }
    }
}

impl MemoryNetwork {
    /// An empty network.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn new() -> Result<Self, StartError> {
        Self::bounded(DEFAULT_LIMIT_BYTES as usize)
    }

    /// An empty network whose nodes queue at most so many bytes for each peer.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn bounded(max_queued_bytes: usize) -> Result<Self, StartError> {
        let main = |mut stop: Stop| async move { stop.wait().await };
        let failed = || tracing::error!("the network thread panicked");
        let thread = NetThread::start("logboat-memory-net", main, failed);
        let thread = thread.map_err(StartError::Thread)?;
        Ok(Self(Arc::new(Network { thread, max_queued_bytes, state: Mutex::default() })))
    }

    /// Adds a node, or replaces one, as if its process had been restarted. Nodes that joined
    /// before and later are its peers, which it meets by the rules of the TCP transport's handshake
    /// as far as they concern its directory.
    #[must_use]
    pub fn join(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> Arc<dyn Transport> {
        self.leave(node);
        let routes = Mutex::new(Some(BTreeMap::new()));
        let member = Arc::new(Member { node, inbox, routes });
        let mut state = self.0.state.lock();
        state.members.insert(node, Arc::clone(&member));
        let others: Vec<_> = state.members.keys().copied().filter(|it| *it != node).collect();
        for other in others {
            self.0.refresh(&state, node, other);
            self.0.refresh(&state, other, node);
        }
        drop(state);
        Arc::new(MemoryTransport { member, _network: Arc::clone(&self.0) })
    }

    /// Takes a node away. Its transport is closed; its peers lose their connection to it.
    pub fn leave(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        let Some(member) = state.members.remove(&node) else {
            return;
        };
        for route in member.routes.lock().take().unwrap_or_default().values() {
            route.outbox.close();
        }
        for other in state.members.keys() {
            self.0.refresh(&state, *other, node);
        }
    }

    /// Cuts the route from one node to another. The route back stays open.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        let mut state = self.0.state.lock();
        if state.cuts.insert((from, to)) {
            self.0.refresh(&state, from, to);
        }
    }

    /// Mends what [`cut`](Self::cut) cut.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        let mut state = self.0.state.lock();
        if state.cuts.remove(&(from, to)) {
            self.0.refresh(&state, from, to);
        }
    }
}

impl Network {
    /// Points the route from one node to another where it should lead.
    fn refresh(&self, state: &State, from: NodeId, to: NodeId) {
        let Some(member) = state.members.get(&from) else {
            return;
        };
        let target = match state.members.get(&to) {
            Some(peer) if !state.cuts.contains(&(from, to)) => Some(Arc::clone(peer)),
            _ => None,
        };
        if let Some(routes) = member.routes.lock().as_mut() {
            let route = routes.entry(to).or_insert_with(|| self.open_route(member, to));
            route.target.send_replace(target);
        }
    }

    /// Makes a route that leads nowhere yet, and starts its task.
    fn open_route(&self, from: &Arc<Member>, to: NodeId) -> Route {
        let metrics = TransportMetrics::default().of_peer(to);
        let outbox = Outbox::new(DEFAULT_LIMIT_BYTES, self.max_queued_bytes, metrics);
        let outbox = Arc::new(outbox);
        let (target, watched) = watch::channel(None);
        let dial_now = Arc::new(Notify::new());
        let task = RouteTask {
            from: from.node,
            to,
            inbox: Arc::clone(&from.inbox),
            outbox: Arc::clone(&outbox),
            target: watched,
            dial_now: Arc::clone(&dial_now),
            stop: self.thread.stop_signal(),
        };
        self.thread.handle().spawn(task.run());
        Route { outbox, target, dial_now }
    }
}

/// A member's interface to the network.
struct MemoryTransport {
    member: Arc<Member>,
    /// The network lives as long as one of its transports.
    _network: Arc<Network>,
}

impl MemoryTransport {
    fn outbox(&self, to: NodeId) -> Result<Arc<Outbox>, SendError> {
        let routes = self.member.routes.lock();
        let routes = routes.as_ref().ok_or(SendError::Closed)?;
        let route = routes.get(&to).ok_or(SendError::UnknownPeer(to))?;
        Ok(Arc::clone(&route.outbox))
    }
}

impl Transport for MemoryTransport {
    fn send(&self, to: NodeId, outgoing: Outgoing) -> Result<(), SendError> {
        self.outbox(to)?.push(outgoing)
    }

    fn send_snapshot(&self, to: NodeId, snapshot: SnapshotSource) {
        let transfer = Transfer::new(snapshot);
        match self.outbox(to) {
            Ok(outbox) => outbox.push_transfer(transfer),
            Err(error) => transfer.finish(Err(error)),
        }
    }

    fn snapshot_taken(&self, peer: NodeId, taken: &SnapshotTaken) {
        if let Ok(outbox) = self.outbox(peer) {
            outbox.snapshot_taken(taken);
        }
    }

    /// The route lasts as long as both nodes: only the status tells of the reason.
    fn disconnect(&self, peer: NodeId, reason: &str) {
        if let Ok(outbox) = self.outbox(peer) {
            outbox.note_error(format!("disconnected for breaking the protocol: {reason}"));
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let routes = self.member.routes.lock();
        routes.iter().flatten().map(|(node, route)| route.outbox.status(*node, "memory")).collect()
    }
}

/// Carries frames from one node to another, until the first has left and closed its outbox.
struct RouteTask {
    from: NodeId,
    to: NodeId,
    inbox: Arc<dyn Inbox>,
    outbox: Arc<Outbox>,
    target: watch::Receiver<Option<Arc<Member>>>,
    dial_now: Arc<Notify>,
    stop: Stop,
}

impl RouteTask {
    async fn run(mut self) {
        loop {
            let target = self.target.borrow_and_update().clone();
            let again = match target {
                Some(target) if self.dial(&target) => {
                    self.outbox.open() && self.connection(Arc::clone(&target.inbox)).await
                }
                // Whoever was turned away waits until something has changed.
                Some(_) => tokio::select! {
                    changed = self.target.changed() => changed.is_ok(),
                    () = self.dial_now.notified() => true,
                },
                None => self.target.changed().await.is_ok(),
            };
            if !again {
                return;
            }
        }
    }

    /// What the handshake does over TCP: each side finds out whether the other is the one that it
    /// remembers. Returns whether the two are connected.
    fn dial(&self, target: &Member) -> bool {
        match self.introduce(target) {
            Ok(is_let_in) => is_let_in,
            Err(rejection) => {
                self.outbox.note_error(rejection.to_string());
                false
            }
        }
    }

    fn introduce(&self, target: &Member) -> Result<bool, Rejection> {
        let remembered = self.inbox.remembered(self.to);
        let own = self.inbox.introduction(self.to);
        let recorded = judge::admit(&*target.inbox, self.to, self.from, own)?;
        target.dial_back(self.from);
        let told = target.inbox.introduction(self.from);
        judge::record(&*self.inbox, self.from, self.to, remembered, told)?;
        if recorded {
            judge::note_welcome(&*self.inbox, self.to)?;
            judge::confirm(&*target.inbox, self.from, own.newest)?;
        }
        Ok(recorded)
    }

    /// Carries until the route leads elsewhere or the network ends. Returns whether to go on.
    async fn connection(&self, target: Arc<dyn Inbox>) -> bool {
        self.inbox.connected(self.to);
        let mut link = MemoryLink { from: self.from, inbox: target, target: self.target.clone() };
        let Err(error) = pump(&self.outbox, &mut link, self.stop.clone()).await else {
            return false;
        };
        self.outbox.lose(format!("connection lost: {error}"));
        link.inbox.incoming_closed(self.from);
        self.inbox.disconnected(self.to);
        true
    }
}

/// An open route.
struct MemoryLink {
    from: NodeId,
    inbox: Arc<dyn Inbox>,
    target: watch::Receiver<Option<Arc<Member>>>,
}

impl Link for MemoryLink {
    async fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        if self.target.has_changed().unwrap_or(true) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut portions = Portions::new(|parcels| self.inbox.receive(self.from, parcels));
        for frame in frames {
            portions.decode(frame.to_bytes()).map_err(io::Error::other)?;
        }
        portions.flush();
        // Nothing here ever waits, so others would not get their turn while the queue is filled.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn closed(&mut self) -> io::Error {
        // An error means that the sending node is gone, which ends the route as well.
        let _ = self.target.changed().await;
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.thread.stop();
    }
}

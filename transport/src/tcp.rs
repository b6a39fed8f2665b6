//! The transport over TCP: its state, its thread and its interface.

mod dial;
mod entrance;
mod handshake;
mod handshake_error;
mod listen;
mod peers;
mod shared;
pub(crate) mod visit;

use crate::api::{Inbox, PeerStatus, SnapshotSource, Transport};
use crate::config::TransportConfig;
use crate::error::{SendError, StartError};
use crate::metrics::TransportMetrics;
use crate::net_thread::{NetThread, Stop};
use crate::tcp::dial::keep_connected;
use crate::tcp::listen::listen;
use crate::tcp::peers::Peer;
use crate::tcp::shared::Shared;
use crate::transfer::Transfer;
use crate::wire::{FRAME_TARGET_BYTES, Outgoing, SnapshotTaken};
use logboat_raft::NodeId;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The transport over TCP. Dropping it shuts it down.
///
/// ```
/// use logboat_raft::{ClusterId, Introduction, NodeId, Remembered};
/// use logboat_transport::{Inbox, TcpTransport, Transport, TransportConfig};
/// # use logboat_transport::Parcel;
/// # use std::sync::Arc;
/// #
/// # struct Deaf;
/// #
/// # impl Inbox for Deaf {
/// #     fn receive(&self, _: NodeId, _: Vec<Parcel>) {}
/// #     fn introduction(&self, _: NodeId) -> Introduction {
/// #         Introduction::default()
/// #     }
/// #     fn remembered(&self, _: NodeId) -> Option<Remembered> {
/// #         None
/// #     }
/// #     fn remember(&self, _: NodeId, _: Remembered) -> std::io::Result<()> {
/// #         Ok(())
/// #     }
/// #     fn let_in_by(&self, _: NodeId) -> std::io::Result<()> {
/// #         Ok(())
/// #     }
/// #     fn connected(&self, _: NodeId) {}
/// #     fn disconnected(&self, _: NodeId) {}
/// # }
/// # let inbox = Arc::new(Deaf);
///
/// let listen = "127.0.0.1:0".parse()?;
/// let peers = [(NodeId(2), "127.0.0.1:1".to_owned())].into();
/// let config = TransportConfig::new(NodeId(1), ClusterId(7), listen, peers);
/// let transport = TcpTransport::start(config, inbox)?;
/// assert_ne!(transport.local_addr().port(), 0);
/// assert!(!transport.peers()[0].connected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpTransport {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    thread: NetThread,
}

impl TcpTransport {
    /// Listens for peers and begins to dial them, on a thread of its own.
    ///
    /// # Errors
    /// When the address is taken, the limits make no sense, or the system gives no thread.
    pub fn start(config: TransportConfig, inbox: Arc<dyn Inbox>) -> Result<Self, StartError> {
        if (config.max_frame_bytes as usize) < FRAME_TARGET_BYTES {
            return Err(StartError::FrameLimit {
                bytes: config.max_frame_bytes,
                least_bytes: FRAME_TARGET_BYTES,
            });
        }
        let (listener, local_addr) = bind(config.listen)
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let shared = Arc::new(Shared::new(config, inbox));
        let running = Arc::clone(&shared);
        // Others that are there when the thread begins were added since, with their dialers.
        let first_peers = shared.peers.all();
        let failing = Arc::clone(&shared);
        let failed = move || failing.inbox.failed("the network thread panicked");
        let main = move |stop| run(running, first_peers, listener, stop);
        let thread = NetThread::start("logboat-net", main, failed).map_err(StartError::Thread)?;
        Ok(Self { shared, local_addr, thread })
    }

    /// The address on which it listens, with the port that the system chose.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &TransportMetrics {
        &self.shared.metrics
    }

    /// Shuts the transport down. Whatever is sent from now on is refused. What is queued is
    /// written, for at most the configured time. Then all connections are closed, and snapshots
    /// that are under way end. Waits for its thread, unless called on that thread.
    pub fn shutdown(&self) {
        for peer in self.shared.peers.all() {
            peer.outbox.close();
        }
        self.thread.stop();
    }
}

impl Transport for TcpTransport {
    fn send(&self, to: NodeId, outgoing: Outgoing) -> Result<(), SendError> {
        match self.shared.peers.get(to) {
            Some(peer) => peer.outbox.push(outgoing),
            None => Err(SendError::UnknownPeer(to)),
        }
    }

    fn send_snapshot(&self, to: NodeId, snapshot: SnapshotSource) {
        let transfer = Transfer::new(snapshot);
        match self.shared.peers.get(to) {
            Some(peer) => peer.outbox.push_transfer(transfer),
            None => transfer.finish(Err(SendError::UnknownPeer(to))),
        }
    }

    fn snapshot_taken(&self, peer: NodeId, taken: &SnapshotTaken) {
        if let Some(peer) = self.shared.peers.get(peer) {
            peer.outbox.snapshot_taken(taken);
        }
    }

    fn disconnect(&self, peer: NodeId, reason: &str) {
        if let Some(peer) = self.shared.peers.get(peer) {
            self.shared.disconnect(&peer, reason);
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let peers = self.shared.peers.all();
        peers.iter().map(|peer| peer.outbox.status(peer.node, &peer.address())).collect()
    }

    fn add_peer(&self, node: NodeId, address: &str) {
        let Shared { peers, config, metrics, .. } = &*self.shared;
        if let Some(peer) = peers.put(node, address, config, metrics) {
            let stop = self.thread.stop_signal();
            let dialing = keep_dialing(Arc::clone(&self.shared), peer, stop);
            let mut dialers = self.shared.dialers.lock();
            // Those of peers that were removed have ended.
            while dialers.try_join_next().is_some() {}
            dialers.spawn_on(dialing, self.thread.handle());
        }
    }

    fn remove_peer(&self, node: NodeId) {
        if let Some(peer) = self.shared.peers.take(node) {
            peer.outbox.close();
            peer.removed.notify_one();
        }
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

/// Keeps the connection to a peer until the node stops, or until the node is a peer no longer.
async fn keep_dialing(shared: Arc<Shared>, peer: Arc<Peer>, stop: Stop) {
    tokio::select! {
        () = redial(&shared, &peer, stop) => return,
        () = peer.removed.notified() => {}
    }
    tracing::info!(peer = %peer.node, "the node is a peer no longer");
    peer.outbox.discard();
    if let Some(reader) = peer.incoming.lock().take() {
        reader.abort();
    }
    shared.inbox.disconnected(peer.node);
    shared.inbox.incoming_closed(peer.node);
}

/// Has a peer dialed again if the task that does so panicked.
async fn redial(shared: &Arc<Shared>, peer: &Arc<Peer>, stop: Stop) {
    loop {
        // Dropped, it ends the task.
        let mut dialer = JoinSet::new();
        dialer.spawn(keep_connected(Arc::clone(shared), Arc::clone(peer), stop.clone()));
        let Some(Err(error)) = dialer.join_next().await else {
            return;
        };
        tracing::error!(peer = %peer.node, "the connection's task ended: {error}");
        peer.outbox.lose(error.to_string());
        shared.inbox.disconnected(peer.node);
        sleep(shared.config.backoff_max).await;
    }
}

/// The life of the transport's thread: until the last connection has flushed.
async fn run(shared: Arc<Shared>, first_peers: Vec<Arc<Peer>>, listener: TcpListener, stop: Stop) {
    let following = shared.config.tls.clone().map(|port| tokio::spawn(port.tls.follow()));
    for peer in first_peers {
        shared.dialers.lock().spawn(keep_dialing(Arc::clone(&shared), peer, stop.clone()));
    }
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listen(Arc::clone(&shared), listener, stop).await,
        Err(error) => tracing::error!("cannot listen for peers: {error}"),
    }
    let dialers = std::mem::take(&mut *shared.dialers.lock());
    dialers.join_all().await;
    if let Some(following) = following {
        following.abort();
    }
    for peer in shared.peers.all() {
        peer.outbox.discard();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Parcel;
    use logboat_raft::{ClusterId, Introduction, Remembered};
    use std::io::Read;
    use std::net::TcpStream;
    use std::time::Duration;

    /// Hears nothing.
    struct Deaf;

    impl Inbox for Deaf {
        fn receive(&self, _: NodeId, _: Vec<Parcel>) {}

        fn introduction(&self, _: NodeId) -> Introduction {
            Introduction::default()
        }

        fn remembered(&self, _: NodeId) -> Option<Remembered> {
            None
        }

        fn remember(&self, _: NodeId, _: Remembered) -> io::Result<()> {
            Ok(())
        }

        fn let_in_by(&self, _: NodeId) -> io::Result<()> {
            Ok(())
        }

        fn connected(&self, _: NodeId) {}

        fn disconnected(&self, _: NodeId) {}
    }

    #[test]
    fn a_peer_that_is_added_before_the_thread_runs_is_dialled_once() {
        for _ in 0..50 {
            let peers = [(NodeId(2), "127.0.0.1:1".to_owned())].into();
            let listen = "127.0.0.1:0".parse().unwrap();
            let mut config = TransportConfig::new(NodeId(1), ClusterId(7), listen, peers);
            config.handshake_timeout = Duration::from_millis(5);
            let transport = TcpTransport::start(config, Arc::new(Deaf)).unwrap();
            transport.add_peer(NodeId(3), "127.0.0.1:1");
            // When a stranger is turned away, the thread has begun to listen.
            let mut stranger = TcpStream::connect(transport.local_addr()).unwrap();
            assert!(matches!(stranger.read(&mut [0]), Ok(0) | Err(_)));
            assert_eq!(transport.shared.dialers.lock().len(), 2);
        }
    }
}

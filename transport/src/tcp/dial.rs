//! The outgoing side: keeps a connection to one peer and writes on it.

use crate::config::TransportConfig;
use crate::net_thread::Stop;
use crate::pump::{Link, pump};
use crate::tcp::entrance::{certified_node, get_in, get_in_plainly};
use crate::tcp::handshake::{self, DialError};
use crate::tcp::handshake_error::HandshakeError;
use crate::tcp::peers::Peer;
use crate::tcp::shared::Shared;
use crate::wire::Frame;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use logboat_security::Stream;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};

/// Dials the peer until the node stops: at once when a connection is lost that stood for a while,
/// and after a growing wait (backoff) when dialing fails. Whether a process has ended shows when it
/// is dialed. All peers should see it at about the same time: who campaigns is refused by those who
/// do not know yet that their leader is lost.
pub(crate) async fn keep_connected(shared: Arc<Shared>, peer: Arc<Peer>, mut stop: Stop) {
    let mut waits = backoff(&shared.config);
    let mut warned = BTreeSet::new();
    let mut last = None;
    loop {
        let dialed = tokio::select! {
            dialed = dial(&shared, &peer, last) => dialed,
            () = stop.wait() => return,
        };
        match dialed {
            Ok(stream) => {
                warned.clear();
                waits = backoff(&shared.config);
                last = stream.socket().peer_addr().ok();
                let connected = Instant::now();
                if !write(&shared, &peer, stream, stop.clone()).await {
                    return;
                }
                if connected.elapsed() >= shared.config.backoff_max {
                    continue;
                }
            }
            Err(error) => {
                if matches!(error, DialError::Ended(_)) {
                    shared.inbox.peer_ended(peer.node);
                }
                note_failure(&shared, &peer, &error, &mut warned);
            }
        }
        tokio::select! {
            () = sleep(waits.next().unwrap_or(shared.config.backoff_max)) => {}
            () = peer.dial_now.notified() => {}
            () = stop.wait() => return,
        }
    }
}

/// Counts a dial that failed, and logs the first one of each kind.
fn note_failure(
    shared: &Shared,
    peer: &Peer,
    error: &DialError,
    logged: &mut BTreeSet<Cow<'static, str>>,
) {
    if error.is_passing() {
        return;
    }
    peer.outbox.note_error(error.to_string());
    let cause = error.refused();
    if let Some(cause) = cause {
        shared.metrics.refused_by_peer(cause);
    }
    // A peer that is down is nothing unusual. A peer that refuses this node is.
    let kind = cause.map_or_else(|| Cow::Owned(error.to_string()), Cow::Borrowed);
    if !logged.insert(kind) {
        return;
    }
    let (node, address) = (peer.node, peer.address());
    match error.mismatch() {
        Some(mismatch) if mismatch.culprit() == shared.config.node => tracing::error!(
            peer = %node, address,
            "{error}. What this node promised since is not here: put its newest data directory \
             back, or keep the node off"
        ),
        _ if cause.is_some() => {
            tracing::warn!(peer = %node, address, "cannot connect: {error}");
        }
        _ => tracing::info!(peer = %node, address, "cannot connect: {error}"),
    }
}

/// Connects to the peer, which was last connected at the address `last`.
async fn dial(shared: &Shared, peer: &Peer, last: Option<SocketAddr>) -> Result<Stream, DialError> {
    let config = &shared.config;
    let introduced = async {
        let mut stream = match get_in(connect_prepared(config, peer, last).await?, config).await? {
            Some(stream) => stream,
            None => {
                tracing::info!(peer = %peer.node, "the peer speaks no TLS yet");
                get_in_plainly(connect_prepared(config, peer, last).await?, config).await?
            }
        };
        if certified_node(&stream).is_some_and(|node| node != peer.node) {
            return Err(HandshakeError::OtherNode.into());
        }
        let inbox = &*shared.inbox;
        handshake::introduce(&mut stream, &shared.config, inbox, peer.node).await?;
        Ok(stream)
    };
    timeout(shared.config.handshake_timeout, introduced)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut.into()))
}

async fn connect_prepared(
    config: &TransportConfig,
    peer: &Peer,
    last: Option<SocketAddr>,
) -> Result<TcpStream, DialError> {
    let socket = connect(peer, last, config.handshake_timeout).await?;
    prepare(&socket, config.idle_timeout).map_err(HandshakeError::Io)?;
    Ok(socket)
}

/// Looks up where the peer is, and connects to it.
async fn connect(
    peer: &Peer,
    last: Option<SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let addresses = lookup_host(peer.address()).await.map_err(HandshakeError::Io)?;
    let addresses: Vec<_> = addresses.collect();
    *peer.resolved.lock() = addresses.iter().map(|address| address.ip().to_canonical()).collect();
    connect_to_any(&addresses, last, limit).await
}

/// Tries the addresses in turn. None that answers, and one that refuses where the peer was last,
/// mean that its process has ended: an address where nothing listens refuses at once, while one
/// that is cut off is silent. Of the whole dial's `limit` each gets its share, so that a silent one
/// leaves time for the others, and for what follows.
async fn connect_to_any(
    addresses: &[SocketAddr],
    last: Option<SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
    let share = if addresses.len() > 1 { limit / shares } else { limit };
    let mut failure = DialError::from(HandshakeError::Io(io::ErrorKind::NotFound.into()));
    for &address in addresses {
        let connected = timeout(share, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(_) if matches!(failure, DialError::Ended(_)) => {}
            Err(error) => {
                let refuses = error.kind() == io::ErrorKind::ConnectionRefused;
                let has_ended = refuses && Some(address) == last;
                failure = if has_ended {
                    DialError::Ended(error)
                } else {
                    HandshakeError::Io(error).into()
                };
            }
        }
    }
    Err(failure)
}

fn prepare(stream: &TcpStream, idle_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    bound_send_buffer(stream, idle_timeout)
}

/// Has the system end the connection when the peer acknowledges nothing for so long. Heartbeats are
/// too small to fill the send buffer, so writes to a dead peer would succeed for minutes. The
/// system also takes no more than it can soon send. So on a slow network a message waits for little
/// of a snapshot.
#[cfg(target_os = "linux")]
fn bound_send_buffer(stream: &TcpStream, idle_timeout: Duration) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(idle_timeout))?;
    socket.set_tcp_notsent_lowat(256 << 10)
}

#[cfg(not(target_os = "linux"))]
fn bound_send_buffer(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Writes on the connection until it is lost or the node stops. Returns whether to dial again.
async fn write(shared: &Shared, peer: &Peer, stream: Stream, stop: Stop) -> bool {
    if !peer.outbox.open() {
        return false;
    }
    tracing::info!(peer = %peer.node, address = peer.address(), "connected");
    shared.inbox.connected(peer.node);
    let mut link = TcpLink { stream, stall_timeout: shared.config.idle_timeout };
    let overdue = async {
        let mut stop = stop.clone();
        stop.wait().await;
        sleep(shared.config.flush_timeout).await;
    };
    let ended = tokio::select! {
        ended = pump(&peer.outbox, &mut link, stop.clone()) => ended,
        () = overdue => Ok(()),
    };
    let Err(error) = ended else {
        // If this fails, the peer still reads what was written: dropping the stream ends it the
        // same way.
        let _ = link.stream.shutdown().await;
        return false;
    };
    tracing::info!(peer = %peer.node, address = peer.address(), "connection lost: {error}");
    peer.outbox.lose(format!("connection lost: {error}"));
    shared.inbox.disconnected(peer.node);
    true
}

struct TcpLink {
    stream: Stream,
    /// How long a write may wait for room.
    stall_timeout: Duration,
}

impl Link for TcpLink {
    async fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        let pieces = frames.iter().flat_map(|frame| [&frame.head, &frame.data]);
        let mut slices: Vec<_> =
            pieces.filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = timeout(self.stall_timeout, self.stream.write_vectored(rest)).await??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        if self.stream.is_encrypted() {
            // What is encrypted may not have left.
            timeout(self.stall_timeout, self.stream.flush()).await??;
        }
        Ok(())
    }

    async fn closed(&mut self) -> io::Error {
        match self.stream.read(&mut [0]).await {
            Ok(0) => io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the peer"),
            Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "the peer speaks out of turn"),
            Err(error) => error,
        }
    }
}

/// Waits that double up to a limit. Each wait is drawn from the upper half of its limit, so that
/// nodes which lost each other at the same time do not dial at the same time.
fn backoff(config: &TransportConfig) -> ExponentialBackoff {
    // The jitter adds up to as much again.
    ExponentialBuilder::new()
        .with_min_delay(config.backoff_min / 2)
        .with_max_delay(config.backoff_max.max(config.backoff_min) / 2)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};

    /// A listener with a full queue takes no part in connecting, like a host that is gone.
    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next_one() {
        let any = || SocketAddr::from(([127, 0, 0, 1], 0));
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&any().into()).unwrap();
        silent.listen(0).unwrap();
        let gone = silent.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(gone)).await {
            queued.push(stream.unwrap());
        }
        let live = std::net::TcpListener::bind(any()).unwrap();
        let addresses = [gone, live.local_addr().unwrap()];
        let limit = Duration::from_secs(20);
        let dialed = timeout(limit, connect_to_any(&addresses, None, Duration::from_secs(1))).await;
        assert_eq!(dialed.unwrap().unwrap().peer_addr().unwrap(), addresses[1]);
        let alone = connect_to_any(&addresses[..1], None, Duration::from_millis(100)).await;
        assert!(matches!(alone, Err(DialError::Handshake(_))), "{alone:?}");
    }
}

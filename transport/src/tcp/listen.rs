//! The incoming side: admits the peers that dial and reads what they send.

use crate::error::DecodeError;
use crate::judge::{self, Rejection};
use crate::net_thread::Stop;
use crate::tcp::entrance::{certified_node, let_in};
use crate::tcp::handshake::{self, AdmitError, Admitted};
use crate::tcp::handshake_error::HandshakeError;
use crate::tcp::peers::Peer;
use crate::tcp::shared::Shared;
use crate::tcp::visit;
use crate::wire::{HEADER_BYTES, Parcel, Portions, frame_bytes};
use bytes::{Bytes, BytesMut};
use logboat_raft::Start;
use logboat_security::{Slot, Slots, Stream};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Room for one read. A frame, with all that borrows from it, keeps at least this much memory.
const READ_BYTES: usize = 64 << 10;

/// Which part of the places for everybody a single source address may take.
const ADDRESS_PART: usize = 4;

/// How many it may take at any rate.
const LEAST_PLACES: usize = 8;

/// How long to wait when the system has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Admits connections until the node stops.
pub(crate) async fn listen(shared: Arc<Shared>, listener: TcpListener, mut stop: Stop) {
    let slots = Places::new(&shared);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.wait() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.metrics.refused("accept");
                if shared.warned.lock().insert((None, "accept")) {
                    tracing::warn!("cannot accept a connection: {error}");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match slots.take(address.ip(), shared.peers.are_at(address.ip())) {
            Some(slot) => {
                tokio::spawn(admit(Arc::clone(&shared), stream, address, slot));
            }
            None => shared.metrics.refused("capacity"),
        }
    }
}

/// The connections that may introduce themselves at a time.
struct Places {
    /// For connections from the address of a configured peer, so that strangers, however many,
    /// can't keep the peers out.
    of_peers: Arc<Semaphore>,
    /// For everybody.
    of_all: Arc<Semaphore>,
    /// What an address may take of those for everybody.
    of_address: Arc<Slots>,
}

/// A connection's place among those that introduce themselves.
struct Place {
    _permit: OwnedSemaphorePermit,
    _slot: Option<Slot>,
}

impl Places {
    fn new(shared: &Shared) -> Self {
        let config = &shared.config;
        Self {
            of_peers: Arc::clone(&shared.peers.places),
            of_all: Arc::new(Semaphore::new(config.max_handshakes)),
            of_address: Slots::new(LEAST_PLACES.max(config.max_handshakes / ADDRESS_PART)),
        }
    }

    fn take(&self, address: IpAddr, from_peer: bool) -> Option<Place> {
        let own = from_peer.then(|| Arc::clone(&self.of_peers).try_acquire_owned().ok()).flatten();
        if let Some(permit) = own {
            return Some(Place { _permit: permit, _slot: None });
        }
        let slot = self.of_address.take(address)?;
        let permit = Arc::clone(&self.of_all).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, _slot: Some(slot) })
    }
}

/// Runs the handshake with a dialer that holds one of the slots. The connection of a peer replaces
/// an older one, which can only be left over.
async fn admit(shared: Arc<Shared>, socket: TcpStream, address: SocketAddr, place: Place) {
    let introduced = async {
        let mut stream = let_in(socket, &shared.config).await?;
        let certified = certified_node(&stream);
        let (config, inbox) = (&shared.config, &*shared.inbox);
        let admitted =
            handshake::admit(&mut stream, certified, config, &shared.peers, inbox).await?;
        Ok((admitted, stream))
    };
    let introduced = timeout(shared.config.handshake_timeout, introduced).await;
    let introduced = introduced.unwrap_or(Err(AdmitError::from(HandshakeError::TimedOut)));
    let (node, start, stream) = match introduced {
        Ok((Admitted::Peer(node, start), stream)) => (node, start, stream),
        // It keeps its place, so that there are never many of them.
        Ok((Admitted::Visitor, stream)) => return visit::serve(&*shared.inbox, stream).await,
        Err(error) => {
            let unrecorded = error.unrecorded().and_then(|node| shared.peers.get(node));
            return match unrecorded {
                // Whoever it is, who answers at the peer's address can be recorded.
                Some(peer) => peer.call_back(shared.config.backoff_max),
                None => shared.note_refusal(address, &error),
            };
        }
    };
    drop(place);
    let Some(peer) = shared.peers.get(node) else {
        return;
    };
    let mut incoming = peer.incoming.lock();
    // All tasks share one thread, so the aborted one is not running now and never will again. No
    // frame of the old connection is delivered after one of the new connection.
    if let Some(old) = incoming.take() {
        old.abort();
        shared.inbox.incoming_closed(node);
    }
    let reader = tokio::spawn(read(Arc::clone(&shared), Arc::clone(&peer), start, stream));
    *incoming = Some(reader.abort_handle());
    drop(incoming);
    shared.warned.lock().retain(|(from, _)| *from != Some(node));
    peer.dial_now.notify_one();
}

/// Reads until the connection ends and logs why it did.
async fn read(shared: Arc<Shared>, peer: Arc<Peer>, start: Start, stream: Stream) {
    let ended = read_frames(&shared, &peer, start, stream).await;
    shared.inbox.incoming_closed(peer.node);
    let Err(error) = ended else {
        tracing::info!(peer = %peer.node, "the peer closed its connection");
        return;
    };
    match error {
        ReadError::Frame(_) => {
            peer.outbox.metrics().bad_frames.inc();
            tracing::warn!(peer = %peer.node, "closed the peer's connection: {error}");
        }
        ReadError::Unconfirmed(_) => {
            peer.outbox.note_error(error.to_string());
            tracing::warn!(peer = %peer.node, "closed the peer's connection: {error}");
        }
        ReadError::Idle | ReadError::Io(_) => {
            tracing::info!(peer = %peer.node, "lost the peer's connection: {error}");
        }
    }
}

/// Why an incoming connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Frame(#[from] DecodeError),
    #[error("silent for too long")]
    Idle,
    #[error(transparent)]
    Unconfirmed(#[from] Rejection),
    #[error(transparent)]
    Io(#[from] io::Error),
}

async fn read_frames(
    shared: &Shared,
    peer: &Peer,
    start: Start,
    mut stream: Stream,
) -> Result<(), ReadError> {
    let mut unconfirmed = Some(start);
    let metrics = peer.outbox.metrics();
    let mut buffer = BytesMut::new();
    let mut portions = Portions::new(|parcels: Vec<Parcel>| {
        metrics.messages_received.inc_by(parcels.len() as u64);
        shared.inbox.receive(peer.node, parcels);
    });
    loop {
        let wanted = missing_bytes(&buffer, shared.config.max_frame_bytes)?;
        if buffer.capacity() - buffer.len() < wanted.max(READ_BYTES / 4) {
            buffer.reserve(wanted.max(READ_BYTES));
        }
        let read = timeout(shared.config.idle_timeout, stream.read_buf(&mut buffer));
        let count = read.await.map_err(|_| ReadError::Idle)??;
        if count == 0 && buffer.is_empty() {
            return Ok(());
        } else if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        metrics.bytes_received.inc_by(count as u64);
        while let Some(frame) = split_frame(&mut buffer, shared.config.max_frame_bytes)? {
            if let Some(start) = unconfirmed.take() {
                judge::confirm(&*shared.inbox, peer.node, start)?;
            }
            portions.decode(frame)?;
            metrics.frames_received.inc();
        }
        portions.flush();
    }
}

/// How many bytes the frame at the front of `buffer` still lacks.
fn missing_bytes(buffer: &BytesMut, max_frame_bytes: u32) -> Result<usize, DecodeError> {
    let total = match buffer.first_chunk::<HEADER_BYTES>() {
        Some(header) => frame_bytes(header, max_frame_bytes)?,
        None => HEADER_BYTES,
    };
    Ok(total.saturating_sub(buffer.len()))
}

/// Takes the frame off the front of `buffer` if it is there as a whole.
fn split_frame(buffer: &mut BytesMut, max_frame_bytes: u32) -> Result<Option<Bytes>, DecodeError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let total = frame_bytes(header, max_frame_bytes)?;
    Ok((buffer.len() >= total).then(|| buffer.split_to(total).freeze()))
}

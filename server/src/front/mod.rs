//! The listener of the Redis front: it accepts connections, each of which is a task of its own.

mod accept_failures;
mod config;
mod connection;
mod guard;
mod halves;
mod patience;
mod waits;

use self::accept_failures::AcceptFailures;
pub use self::config::FrontConfig;
use self::connection::Connection;
pub use self::guard::FrontGuard;
use self::guard::{Entrance, Place};
use crate::backend::Backend;
use crate::kv::DataMemory;
use crate::server_state::{FactsHook, ServerState};
use crate::session::{Registration, Socket};
use crate::settings::Settings;
use crate::stats::Rates;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time;

/// How many connections may wait to be accepted, if the system allows so many. When a node stops,
/// all of its clients come to the others at once. Who finds no place tries again after a second.
const BACKLOG: u32 = 4_096;

/// How long to wait after a failed accept; it fails again at once while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to finish their commands when the front stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Why the front did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for clients on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A listener for Redis clients.
#[derive(Debug)]
pub struct RespServer {
    listener: TcpListener,
    config: FrontConfig,
    entrance: Arc<Entrance>,
    state: Arc<ServerState>,
}

/// A connection that there is room for, and that has not yet shown anything.
#[derive(Debug)]
struct Newcomer {
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
    registration: Registration,
}

impl RespServer {
    /// Listens on `address`, for everybody. `settings` are those to start with; `facts` contributes
    /// to INFO.
    ///
    /// # Errors
    /// Fails if the system can't listen on the address.
    pub async fn bind(
        address: SocketAddr,
        config: FrontConfig,
        settings: Settings,
        facts: FactsHook,
    ) -> Result<Self, BindError> {
        Self::bind_guarded(address, config, settings, facts, FrontGuard::default()).await
    }

    /// As [`bind`](Self::bind), for those that pass the guard.
    ///
    /// # Errors
    /// Fails if the system can't listen on the address.
    pub async fn bind_guarded(
        address: SocketAddr,
        config: FrontConfig,
        settings: Settings,
        facts: FactsHook,
        guard: FrontGuard,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = listen(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let max_data_bytes = if config.data_on_disk { 0 } else { settings.max_memory_bytes };
        let data = DataMemory::new(max_data_bytes, config.nodes);
        let mut state = ServerState::new(bound, config.max_buffered_bytes, data, settings, facts);
        state.passwords.clone_from(&guard.passwords);
        state.debug_command = config.debug_command;
        let entrance = Arc::new(Entrance::new(guard));
        Ok(Self { listener, config, entrance, state: Arc::new(state) })
    }

    /// The address that it listens on, with the port that the system chose if none was given.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.state.address
    }

    /// What its connections share, for metrics.
    #[must_use]
    pub fn state(&self) -> Arc<ServerState> {
        Arc::clone(&self.state)
    }

    /// Serves clients until `shutdown` resolves. Then connections finish their current command and
    /// send their replies. Those that take longer than a second are cut off.
    pub async fn serve<B: Backend>(self, backend: B, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let mut failures = AcceptFailures::default();
        let mut shutdown = std::pin::pin!(shutdown);
        let stats = &self.state.stats;
        let mut sampling = time::interval(Rates::INTERVAL);
        sampling.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(newcomer) = self.admit(stream, peer) {
                            let client = Arc::clone(&newcomer.registration.client);
                            let conversation = self.converse(newcomer, backend.clone());
                            client.set_task(connections.spawn(conversation));
                        }
                    }
                    Err(error) => {
                        if let Some(before) = failures.failed(Instant::now()) {
                            tracing::warn!(%error, before, "cannot accept a client");
                        }
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
                _ = sampling.tick() => stats.rates.sample(stats.commands.totals()),
            }
        }
        drop(self.listener);
        self.state.control.send_modify(|control| control.stopping = true);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if time::timeout(STOP_GRACE, all_ended).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Makes room for a connection, or refuses it with Redis's words if there are too many.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Newcomer> {
        let stats = &self.state.stats;
        let settings = self.state.settings();
        if self.state.clients.count() >= settings.max_clients as usize {
            stats.rejected.increment();
            // A new socket has room for one line; if not, the client just sees it closed.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            return None;
        }
        let Some(place) = self.entrance.place(peer.ip()) else {
            stats.strangers.increment();
            tracing::warn!(%peer, "a client was turned away: its address has too many strangers");
            return None;
        };
        stats.connections.increment();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
        }
        if let Some(silence) = settings.tcp_keepalive()
            && let Err(error) = keep_alive(&stream, silence)
        {
            tracing::debug!(%error, %peer, "cannot set the keepalive of the connection");
        }
        let registration = self.state.clients.register(Socket {
            address: peer,
            local_address: stream.local_addr().unwrap_or(self.state.address),
            descriptor: stream.as_raw_fd(),
        });
        Some(Newcomer { socket: stream, peer, place, registration })
    }

    /// Lets a newcomer in and serves it.
    fn converse<B: Backend>(
        &self,
        newcomer: Newcomer,
        backend: B,
    ) -> impl Future<Output = ()> + use<B> {
        let (entrance, state) = (Arc::clone(&self.entrance), Arc::clone(&self.state));
        let (config, mut control) = (self.config, self.state.control.subscribe());
        async move {
            let Newcomer { socket, peer, place, registration } = newcomer;
            let stream = tokio::select! {
                stream = entrance.let_in(socket, peer, &state) => stream,
                _ = control.wait_for(|control| control.stopping) => None,
            };
            let Some(stream) = stream else { return };
            let place = place.filter(|_| entrance.asks_for_password());
            let connection = Connection::new(stream, place, registration, backend, state, config);
            connection.run(control).await;
        }
    }
}

/// Listens on an address, with room for many connections.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that starts again takes over its port while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Sets the TCP keepalive. The operating system probes a client that has been silent for so long.
/// Three probes without an answer, each a third of the time after the one before, end the
/// connection.
fn keep_alive(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let between = (silence / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(silence).with_interval(between).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// A panic in one connection is a bug, but the other clients must not notice it.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a client's connection failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_state::Facts;

    /// After how much silence the operating system probes a client that was let in with `settings`.
    async fn keepalive_of(settings: Settings) -> Option<Duration> {
        let address = ([127, 0, 0, 1], 0).into();
        let facts = Box::new(Facts::default);
        let server = RespServer::bind(address, FrontConfig::default(), settings, facts);
        let server = server.await.unwrap();
        let _client = TcpStream::connect(server.local_address()).await.unwrap();
        let (stream, peer) = server.listener.accept().await.unwrap();
        let newcomer = server.admit(stream, peer).unwrap();
        let socket = SockRef::from(&newcomer.socket);
        socket.keepalive().unwrap().then(|| socket.tcp_keepalive_time().unwrap())
    }

    #[tokio::test]
    async fn clients_that_come_all_at_once_find_a_place() {
        const CLIENTS: usize = 600;
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let allowed = allowed.ok().and_then(|text| text.trim().parse().ok());
        if allowed.is_some_and(|allowed: usize| allowed < CLIENTS) {
            return println!("not tested: the system allows too few");
        }
        let address = ([127, 0, 0, 1], 0).into();
        let (settings, facts) = (Settings::default(), Box::new(Facts::default));
        let server = RespServer::bind(address, FrontConfig::default(), settings, facts);
        let server = server.await.unwrap();
        let address = server.local_address();
        let patience = Duration::from_secs(20);
        // Nobody accepts yet.
        let connect = |_| std::net::TcpStream::connect_timeout(&address, patience);
        let connected: Result<Vec<_>, _> = (0..CLIENTS).map(connect).collect();
        assert_eq!(connected.map(|clients| clients.len()).ok(), Some(CLIENTS));
    }

    #[tokio::test]
    async fn clients_that_vanish_are_noticed() {
        let keepalive = keepalive_of(Settings::default()).await;
        assert_eq!(keepalive, Some(Duration::from_secs(300)));
        let off = Settings { tcp_keepalive_secs: 0, ..Settings::default() };
        assert_eq!(keepalive_of(off).await, None);
    }
}

//! The listener of the Redis front: it accepts connections, each of which is a task of its own.

mod config;
mod connection;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

pub use self::config::FrontConfig;
use self::connection::Connection;
use crate::backend::Backend;
use crate::server_state::{FactsHook, ServerState};

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
    state: Arc<ServerState>,
}

impl RespServer {
    /// Listens on `address`. `facts` contributes to INFO.
    ///
    /// # Errors
    /// Fails if the address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        config: FrontConfig,
        facts: FactsHook,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let state = Arc::new(ServerState::new(bound, config.max_clients, facts));
        Ok(Self { listener, config, state })
    }

    /// The address it listens on, with the port that was chosen if none was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.state.address
    }

    /// What its connections share, for metrics.
    #[must_use]
    pub fn state(&self) -> Arc<ServerState> {
        Arc::clone(&self.state)
    }

    /// Serves clients until `shutdown` resolves. Then connections finish the command they are at
    /// and send what they have; after a second the rest is cut off.
    pub async fn serve<B: Backend>(self, backend: B, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(connection) = self.admit(stream, peer, &backend) {
                            connections.spawn(connection.run(stopped.clone()));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a client");
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
            }
        }
        drop(self.listener);
        // Fails only if there is no connection to tell.
        let _ = stop.send(true);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if time::timeout(STOP_GRACE, all_ended).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Makes a connection of a stream, or refuses it with Redis's words if there are too many.
    fn admit<B: Backend>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        backend: &B,
    ) -> Option<Connection<B>> {
        let stats = &self.state.stats;
        if self.state.clients.count() >= self.config.max_clients {
            stats.rejected.increment();
            // A new socket has room for one line; if not, the client just sees it closed.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            return None;
        }
        stats.connections.increment();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
        }
        let local = stream.local_addr().unwrap_or(self.state.address);
        let registration = self.state.clients.register(peer, local);
        let state = Arc::clone(&self.state);
        Some(Connection::new(stream, registration, backend.clone(), state, self.config))
    }
}

/// A panic in one connection is a bug, but not one that the other clients shall notice.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a client's connection failed");
    }
}
